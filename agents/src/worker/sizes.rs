//! How much pods have written to emptyDir volumes with a size limit. On disk nothing stops a
//! container from going beyond it, so the agent looks now and then, and evicts the pod. A volume
//! in memory is limited by its file system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::ids::PodUid;
use kgit_protocol::pod::VolumeSource;

use crate::decide::outcome::Note;
use crate::runtime::Runtime;
use crate::volumes::Places;
use crate::worker::{Input, Shared};

/// The kubelet looks this often.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// What one block of `stat` holds, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// A volume that may not grow beyond its limit.
#[derive(Debug)]
pub(super) struct Limited {
    pod: PodUid,
    volume: String,
    folder: PathBuf,
    limit_bytes: u64,
}

/// The limited volumes of pods that are to run.
pub(super) fn limited(places: &Places, pods: &BTreeMap<PodUid, PodAssignment>) -> Vec<Limited> {
    let mut all = Vec::new();
    for pod in pods.values().filter(|pod| matches!(pod.order, Order::Run)) {
        for volume in &pod.spec.volumes {
            if let VolumeSource::EmptyDir { memory: false, size_limit_bytes: Some(limit) } =
                volume.source
            {
                all.push(Limited {
                    pod: pod.uid.clone(),
                    volume: volume.name.clone(),
                    folder: places.empty_dir(&pod.uid, &volume.name),
                    limit_bytes: limit,
                });
            }
        }
    }
    all
}

/// Looks at each volume, and has the pods evicted that take too much.
pub(super) async fn check<R: Runtime>(shared: Arc<Shared<R>>, all: Vec<Limited>) {
    let exceeded = |limited: &Limited| used_beyond(&limited.folder, limited.limit_bytes);
    let looked = tokio::task::spawn_blocking(move || {
        all.into_iter().filter(exceeded).collect::<Vec<Limited>>()
    });
    // It can't be cancelled, and it does not panic.
    for limited in looked.await.unwrap_or_default() {
        let (volume, limit) = (limited.volume, quantity(limited.limit_bytes));
        let message = format!("Usage of EmptyDir volume {volume:?} exceeds the limit {limit:?}.");
        // The loop ends before its tasks only when the agent stops.
        let _ = shared.inputs.send(Input::Note(limited.pod, Note::Evicted { message })).await;
    }
}

/// Whether a folder takes more of the disk than `limit`. Files come and go meanwhile: what can't
/// be looked at takes nothing.
fn used_beyond(folder: &Path, limit: u64) -> bool {
    let mut left = vec![folder.to_owned()];
    let mut used = 0;
    while let Some(path) = left.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            used += found.blocks() * BLOCK_BYTES;
            if used > limit {
                return true;
            }
            if found.is_dir() {
                left.push(entry.path());
            }
        }
    }
    false
}

/// As a manifest would say it.
fn quantity(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let fitting = units.iter().find(|(bits, _)| bytes > 0 && bytes.is_multiple_of(1 << bits));
    fitting.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_takes_is_counted_through_folders_but_not_through_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), vec![1; 200 << 10]).unwrap();
        assert!(used_beyond(dir.path(), 100 << 10));
        assert!(!used_beyond(dir.path(), 400 << 10));
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), other.path().join("link")).unwrap();
        assert!(!used_beyond(other.path(), 100 << 10));
        assert!(!used_beyond(&dir.path().join("none"), 0));
    }

    #[test]
    fn a_limit_reads_as_in_a_manifest() {
        assert_eq!([quantity(1 << 20), quantity(3 << 30), quantity(1000)], ["1Mi", "3Gi", "1000"]);
    }
}

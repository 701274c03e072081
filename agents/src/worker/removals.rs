//! Provisioned volumes that the master orders removed: which of them may go, and when to try.
//!
//! The orders are looked at anew before each try, since they may have been taken back. Removing
//! itself is `volumes`'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::assignment::{AssignmentSet, PodAssignment};
use kgit_protocol::ids::PodUid;
use kgit_protocol::pod::VolumeSource;
use tokio::time::Instant;

use crate::runtime::Runtime;
use crate::worker::{Input, Shared};

/// A volume that a container still holds is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Removals {
    /// Gone, and told to the master, which takes them from its orders then.
    gone: BTreeSet<String>,
    /// When the last try began; `None` while nothing is to be tried again.
    tried: Option<Instant>,
    under_way: bool,
}

impl Removals {
    /// What is to be tried now; [`Removals::over`] ends the try.
    pub(super) fn due(
        &mut self,
        set: &AssignmentSet,
        kept: &BTreeMap<PodUid, PodAssignment>,
        now: Instant,
    ) -> Vec<String> {
        self.gone.retain(|name| set.remove_volumes.contains(name));
        if self.under_way || self.tried.is_some_and(|at| now < at + TRY_AGAIN) {
            return Vec::new();
        }
        let due: Vec<String> =
            removable(set, kept).filter(|name| !self.gone.contains(*name)).cloned().collect();
        self.under_way = !due.is_empty();
        self.tried = self.under_way.then_some(now);
        due
    }

    pub(super) fn over(&mut self, gone: &[String]) {
        self.under_way = false;
        self.gone.extend(gone.iter().cloned());
    }
}

/// The volumes that are ordered removed and that no pod of this node is to have.
fn removable<'a>(
    set: &'a AssignmentSet,
    kept: &BTreeMap<PodUid, PodAssignment>,
) -> impl Iterator<Item = &'a String> {
    let all = set.pods.values().chain(kept.values());
    let mounted: BTreeSet<String> = all
        .flat_map(|pod| &pod.spec.volumes)
        .filter_map(|volume| match &volume.source {
            VolumeSource::Docker { volume, .. } => Some(volume.clone()),
            VolumeSource::EmptyDir { .. }
            | VolumeSource::HostPath { .. }
            | VolumeSource::Files { .. } => None,
        })
        .collect();
    set.remove_volumes.iter().filter(move |name| !mounted.contains(*name))
}

/// Tries once; those that are gone now are told to the loop.
pub(super) async fn carry_out<R: Runtime>(shared: Arc<Shared<R>>, names: Vec<String>) {
    let gone = shared.places.remove_ordered(&shared.runtime, &names).await;
    // The loop ends before its tasks only when the agent stops.
    let _ = shared.inputs.send(Input::VolumesRemoved(gone)).await;
}

#[cfg(test)]
mod tests {
    use kgit_protocol::assignment::Stamp;
    use kgit_protocol::ids::{Digest, Epoch, Generation};
    use serde_json::json;

    use super::*;

    fn set(remove: &[&str], mounted: &[&str]) -> AssignmentSet {
        let digest = Digest::new("");
        AssignmentSet {
            stamp: Stamp { epoch: Epoch(1), generation: Generation(1), digest },
            pods: mounted.iter().map(|name| (PodUid::new(*name), pod(name))).collect(),
            remove_volumes: remove.iter().map(|name| (*name).to_owned()).collect(),
            keep_others: false,
        }
    }

    fn pod(volume: &str) -> PodAssignment {
        let source = json!({"Docker": {"volume": volume, "driver": "local", "options": {}}});
        serde_json::from_value(json!({
            "uid": volume, "namespace": "default", "name": volume, "order": "Run", "digest": "",
            "spec": {
                "hostname": "h", "address": null, "restart_policy": "Always",
                "termination_grace_seconds": 30,
                "dns": { "nameservers": [], "searches": [], "options": [] },
                "containers": [],
                "volumes": [{ "name": "v", "source": source }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_volume_is_tried_again_until_it_is_gone_or_no_longer_ordered_away() {
        let (mut removals, kept, start) = (Removals::default(), BTreeMap::new(), Instant::now());
        let ordered = set(&["a", "b"], &[]);
        assert_eq!(removals.due(&ordered, &kept, start), ["a", "b"]);
        // One try at a time, however long it takes.
        assert!(removals.due(&ordered, &kept, start + TRY_AGAIN).is_empty());
        removals.over(&["a".to_owned()]);
        assert!(removals.due(&ordered, &kept, start).is_empty());
        assert_eq!(removals.due(&ordered, &kept, start + TRY_AGAIN), ["b"]);
        removals.over(&[]);
        let later = start + 2 * TRY_AGAIN;
        assert!(removals.due(&set(&["a"], &[]), &kept, later).is_empty());
    }

    #[test]
    fn a_volume_that_a_pod_of_this_node_has_is_not_removed() {
        let mut removals = Removals::default();
        let kept = BTreeMap::from([(PodUid::new("k"), pod("kept"))]);
        let ordered = set(&["free", "kept", "used"], &["used"]);
        assert_eq!(removals.due(&ordered, &kept, Instant::now()), ["free"]);
    }
}

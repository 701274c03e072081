//! Fetching images: once for all pods that want one at the same time, with the pod's and the
//! node's own logins, and from what is here when the registry is out of reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use kgit_protocol::ids::PodUid;
use kgit_protocol::pod::{PullPolicy, RegistryLogin};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::decide::outcome::{Note, PullTold};
use crate::runtime::{Runtime, RuntimeError};
use crate::worker::{Input, Shared};

/// A pull serves everybody who asks within this time: replicas start together.
const SERVES: Duration = Duration::from_secs(10);
/// A registry that was out of reach is not asked again within this time for an image that is
/// here anyway: each try may take as long as a name takes to fail.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// A pull that takes longer than this is given up and tried again.
const PULL_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Results kept; older ones serve nobody any more.
const MAX_KEPT: usize = 256;

/// Images remembered for freeing the disk: more than fit on one, a few hundred KiB in the journal.
const MAX_KNOWN: usize = 4096;

type Slot = Arc<Mutex<Option<(Instant, Result<PullTold, String>)>>>;

/// Pulls under way and just over, by image.
#[derive(Debug, Default)]
pub struct Puller {
    slots: Mutex<BTreeMap<String, Slot>>,
    /// Every image that was ever asked for and may still be here: what the disk may be freed of.
    fetched: std::sync::Mutex<BTreeSet<String>>,
    /// Held while names that were taken away are given back: one removal is told more than once.
    restoring: Mutex<()>,
    /// Docker's own configuration file, which holds the node's logins.
    pub docker_config: Option<PathBuf>,
}

impl Puller {
    pub fn new(docker_config: Option<PathBuf>) -> Self {
        Self { docker_config, ..Self::default() }
    }

    /// Images that were asked for before the agent started.
    pub(super) fn know(&self, images: BTreeSet<String>) {
        self.known().extend(images);
    }

    /// The images that pods of this node were ever started from, but for those that are gone.
    pub(super) fn fetched(&self) -> BTreeSet<String> {
        self.known().clone()
    }

    /// These are gone from the engine.
    pub(super) fn forget<'a>(&self, images: impl IntoIterator<Item = &'a String>) {
        let mut known = self.known();
        for image in images {
            known.remove(image);
        }
    }

    fn asked_for(&self, image: &str) {
        let mut known = self.known();
        if known.len() < MAX_KNOWN {
            known.insert(image.to_owned());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn slot(&self, image: &str) -> Slot {
        self.asked_for(image);
        let mut slots = self.slots.lock().await;
        if slots.len() > MAX_KEPT {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(image.to_owned()).or_default())
    }
}

/// Fetches an image; the error is worded for people.
pub(super) async fn fetch<R: Runtime>(
    shared: &Shared<R>,
    image: &str,
    policy: Option<PullPolicy>,
    logins: &[RegistryLogin],
) -> Result<PullTold, String> {
    let slot = shared.puller.slot(image).await;
    let mut held = slot.lock().await;
    if let Some((at, result)) = held.as_ref()
        && at.elapsed() < serves(result)
        && (result.is_err() || matches!(shared.runtime.image(image).await, Ok(Some(_))))
    {
        return result.clone();
    }
    let mut all = logins.to_vec();
    if let Some(path) = &shared.puller.docker_config {
        all.extend(node_logins(path));
    }
    let result = fetch_now(shared, image, policy, &all).await;
    *held = Some((Instant::now(), result.clone()));
    result
}

/// A running container, and the image it was ordered with.
#[derive(Debug)]
pub(super) struct InUse {
    pub pod: PodUid,
    pub container: String,
    pub id: String,
    pub image: String,
}

/// Gives back the names of images that running containers were ordered with, where somebody took
/// them away, and notes it for each container.
pub(super) async fn restore<R: Runtime>(shared: Arc<Shared<R>>, all: Vec<InUse>) {
    let _one = shared.puller.restoring.lock().await;
    let mut lost: BTreeMap<String, Result<(), String>> = BTreeMap::new();
    let mut looked_at = BTreeSet::new();
    for used in &all {
        if !looked_at.insert(&used.image) {
            continue;
        }
        // An engine that does not answer says nothing about the image.
        if let Ok(None) = shared.runtime.image(&used.image).await {
            let restored = shared.runtime.restore_image(&used.id, &used.image).await;
            lost.insert(used.image.clone(), restored.map_err(|error| error.to_string()));
        }
    }
    for used in all {
        let Some(put_back) = lost.get(&used.image).cloned() else { continue };
        let InUse { pod, container, image, .. } = used;
        let note = Note::ImageLost { container, image, put_back };
        // The loop ends before its tasks only when the agent stops.
        let _ = shared.inputs.send(Input::Note(pod, note)).await;
    }
}

fn serves(result: &Result<PullTold, String>) -> Duration {
    match result {
        Ok(PullTold::UsedLocal(_)) => OUT_OF_REACH,
        Ok(PullTold::Fetched(_)) | Err(_) => SERVES,
    }
}

async fn fetch_now<R: Runtime>(
    shared: &Shared<R>,
    image: &str,
    policy: Option<PullPolicy>,
    logins: &[RegistryLogin],
) -> Result<PullTold, String> {
    let here = shared.runtime.image(image).await.map_err(|error| error.to_string())?;
    if policy != Some(PullPolicy::Always) && here.is_some() {
        let here = format!("Container image {image:?} already present on machine");
        return Ok(PullTold::Fetched(here));
    }
    let pulled = tokio::time::timeout(PULL_LIMIT, shared.runtime.pull(image, logins)).await;
    let error = match pulled {
        Ok(Ok(())) => {
            return Ok(PullTold::Fetched(format!("Successfully pulled image {image:?}")));
        }
        Ok(Err(error)) => error,
        Err(_) => RuntimeError::RegistryUnreachable("no end in sight".to_owned()),
    };
    // A local build has no digest: no registry ever had it.
    let local_build = here.as_ref().is_some_and(|image| image.digests.is_empty());
    let out_of_reach = matches!(error, RuntimeError::RegistryUnreachable(_));
    if here.is_some() && (out_of_reach || local_build) {
        let text = format!("using the local image {image:?}, since it can't be pulled: {error}");
        return Ok(PullTold::UsedLocal(text));
    }
    Err(format!("Failed to pull image {image:?}: {error}"))
}

/// The logins that `docker login` left on this node. What can't be read is no login.
fn node_logins(path: &Path) -> Vec<RegistryLogin> {
    let Ok(bytes) = std::fs::read(path) else { return Vec::new() };
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return Vec::new();
    };
    let Some(auths) = config.get("auths").and_then(|auths| auths.as_object()) else {
        return Vec::new();
    };
    auths.iter().filter_map(|(registry, auth)| login(registry, auth)).collect()
}

fn login(registry: &str, auth: &serde_json::Value) -> Option<RegistryLogin> {
    let coded = auth.get("auth")?.as_str()?;
    let plain = base64::engine::general_purpose::STANDARD.decode(coded).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (username, password) = plain.split_once(':')?;
    Some(RegistryLogin {
        registry: registry.to_owned(),
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_image_is_known_to_be_fetched_until_it_is_gone_however_many_came_after() {
        let puller = Puller::new(None);
        puller.know(BTreeSet::from(["before:1".to_owned()]));
        for number in 0..2 * MAX_KEPT {
            puller.slot(&format!("later:{number}")).await;
        }
        let fetched = puller.fetched();
        assert!(fetched.contains("before:1") && fetched.contains("later:0"));
        puller.forget(&["before:1".to_owned()]);
        assert_eq!(puller.fetched().len(), 2 * MAX_KEPT);
    }

    #[test]
    fn the_nodes_own_logins_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"r.example":{"auth":"bWU6cHc="},"x":{}}}"#).unwrap();
        let logins = node_logins(&path);
        assert_eq!(logins.len(), 1);
        assert_eq!((logins[0].username.as_str(), logins[0].password.as_str()), ("me", "pw"));
        assert!(node_logins(&dir.path().join("none")).is_empty());
    }
}

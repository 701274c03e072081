//! One set of equal pods: as many as wanted, the right ones first when there are too many.

use std::cmp::Reverse;
use std::sync::Arc;

use kgit_protocol::observation::PodPhase;
use kgit_protocol::time::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::Reason;
use crate::domain::record::{Pod, ReplicaSet, ReplicaStatus};
use crate::domain::selector::Labels;
use crate::domain::world::{Effect, Record, World};
use crate::plan::draft::Draft;
use crate::plan::pods::{self, NewPod, is_reachable};
use crate::plan::{evict, names, spec};

/// Brings a set's pods to its number. `reasons` say why it has that number.
pub fn plan_set(draft: &mut Draft<'_>, key: &ObjectKey, reasons: &[Reason]) {
    let Some(set) = set(&draft.world, key) else { return };
    let all = pods_of(&draft.world, key);
    pods::follow(draft, &set.owner, &all);
    replace_ended(draft, &all);
    evict::evict(draft, &set.owner, &all);

    let mut active = pods_of(&draft.world, key);
    // What its node refuses takes the place of one that runs: another would be refused as well.
    active.retain(|pod| pod.is_active() || (pod.deletion.is_none() && refused(pod)));
    let found = u32::try_from(active.len()).unwrap_or(u32::MAX);
    // Whoever is to go looks for no place first, and drives nobody out for one.
    if found > set.replicas {
        shrink(draft, &set, active, reasons);
    }
    place(draft, &set);
    if found < set.replicas {
        grow(draft, &set, set.replicas - found, found, &all, reasons);
    }
    note_status(draft, key);
}

fn set(world: &World, key: &ObjectKey) -> Option<Arc<ReplicaSet>> {
    world.replica_sets.get(key).map(|row| Arc::clone(&row.value))
}

pub fn pods_of(world: &World, owner: &ObjectKey) -> Vec<Arc<Pod>> {
    world.pods_of(owner).map(|row| Arc::clone(&row.value)).collect()
}

/// A pod of a set is meant to run for ever. One that ended is cleared away, and counted as
/// missing below; one that its node refuses would be refused again, so it stays and is shown.
fn replace_ended(draft: &mut Draft<'_>, all: &[Arc<Pod>]) {
    for pod in all.iter().filter(|pod| pod.is_finished() && pod.deletion.is_none()) {
        if refused(pod) {
            continue;
        }
        let reason = Reason::PodEnded { pod: pod.key.clone(), reason: end_of(pod) };
        pods::stop(draft, pod, vec![reason]);
    }
}

/// The node's own policy forbids this pod.
pub fn refused(pod: &Pod) -> bool {
    pod.observed.as_ref().and_then(|o| o.reason.as_deref()) == Some("NodePolicy")
}

pub fn end_of(pod: &Pod) -> String {
    let observed = pod.observed.as_ref();
    observed.and_then(|o| o.reason.clone()).unwrap_or_else(|| format!("{:?}", pod.phase()))
}

fn place(draft: &mut Draft<'_>, set: &ReplicaSet) {
    let configs: spec::Configs = set.configs.clone();
    for pod in pods_of(&draft.world, &set.key).iter().filter(|pod| pod.placed.is_none()) {
        pods::place_pending(draft, pod, &configs);
    }
}

fn grow(
    draft: &mut Draft<'_>,
    set: &ReplicaSet,
    count: u32,
    found: u32,
    before: &[Arc<Pod>],
    reasons: &[Reason],
) {
    let mut why = vec![Reason::Count { owner: set.key.clone(), wanted: set.replicas, found }];
    why.extend(
        before
            .iter()
            .filter(|pod| pod.is_finished())
            .map(|pod| Reason::PodEnded { pod: pod.key.clone(), reason: end_of(pod) }),
    );
    why.extend(reasons.iter().cloned());
    for _ in 0..count {
        let Some(current) = self::set(&draft.world, &set.key) else { return };
        let counter = current.counter + 1;
        let name = names::pod_name(&current.key, &current.uid, counter);
        let counted = ReplicaSet { counter, ..(*current).clone() };
        let new = NewPod {
            key: current.key.sibling(Kind::Pod, &name),
            owner: current.key.clone(),
            owner_uid: current.uid.clone(),
            counter,
            extra_labels: hash_label(&current.hash),
            template: Arc::clone(&current.template),
            revision_digest: current.revision_digest.clone(),
            index: None,
            pinned: None,
        };
        let effect = Effect::Put(set.key.clone(), Record::ReplicaSet(Arc::new(counted)));
        pods::create(draft, new, &current.configs, why.clone(), vec![effect]);
    }
}

/// The label by which a revision's pods are told apart.
pub const HASH_LABEL: &str = "pod-template-hash";

fn hash_label(hash: &str) -> Labels {
    match hash {
        "" => Labels::new(),
        hash => Labels::from([(HASH_LABEL.to_owned(), hash.to_owned())]),
    }
}

fn shrink(draft: &mut Draft<'_>, set: &ReplicaSet, active: Vec<Arc<Pod>>, reasons: &[Reason]) {
    let found = u32::try_from(active.len()).unwrap_or(u32::MAX);
    let active = first_to_go(draft, active, set.min_ready_seconds);
    let mut why = vec![Reason::Count { owner: set.key.clone(), wanted: set.replicas, found }];
    why.extend(reasons.iter().cloned());
    for pod in active.iter().take((found - set.replicas) as usize) {
        pods::stop(draft, pod, why.clone());
    }
}

/// Pods in the order in which they go where some are too many.
pub fn first_to_go(
    draft: &Draft<'_>,
    mut pods: Vec<Arc<Pod>>,
    min_ready_seconds: u32,
) -> Vec<Arc<Pod>> {
    pods.sort_by_cached_key(|pod| deletion_rank(&draft.world, pod, min_ready_seconds, draft.now));
    pods
}

/// The order in which superfluous pods go, lowest first. Source: kubernetes-rules (upstream's
/// `ActivePodsWithRanks`): unassigned; Pending < Unknown < Running; not ready; lower deletion
/// cost; more siblings on the node; ready more recently, in log buckets; more restarts; newer.
/// Beyond upstream, a ready pod that is not available yet (minReadySeconds) goes before one that
/// is: a rollout counts the first as lost already, and would else lose the second as well.
type Rank = (bool, u8, u8, i64, Reverse<usize>, u32, Reverse<u32>, Reverse<Timestamp>, ObjectKey);

fn deletion_rank(world: &World, pod: &Pod, min_ready_seconds: u32, now: Timestamp) -> Rank {
    let phase = match pod.phase() {
        // One that failed and is still there is one that its node refuses.
        PodPhase::Pending | PodPhase::Failed => 0,
        PodPhase::Unknown => 1,
        PodPhase::Running | PodPhase::Succeeded | PodPhase::Gone => 2,
    };
    let ready = match pod.is_ready() && is_reachable(world, pod) {
        true => 1 + u8::from(pod.is_available(min_ready_seconds, now)),
        false => 0,
    };
    let cost = pod.annotations.get("controller.kubernetes.io/pod-deletion-cost");
    let siblings = pod.node().map_or(0, |node| {
        world.pods_on(node).filter(|other| other.owner == pod.owner && other.is_active()).count()
    });
    let ready_for = pod.observed.as_ref().and_then(|o| o.ready_since).map(|since| now.since(since));
    (
        pod.placed.is_some(),
        phase,
        ready,
        cost.and_then(|text| text.parse().ok()).unwrap_or(0),
        Reverse(siblings),
        ready_for.map_or(0, |time| (time.as_secs() + 1).ilog2()),
        Reverse(restarts(pod)),
        Reverse(pod.created),
        pod.key.clone(),
    )
}

fn restarts(pod: &Pod) -> u32 {
    let containers = pod.observed.iter().flat_map(|observed| &observed.containers);
    containers.map(|container| container.restarts).sum()
}

/// Counts a set's pods, and records the counts if they changed.
pub fn note_status(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(set) = set(&draft.world, key) else { return };
    let status = count(&draft.world, &set, draft.now);
    if status != set.status {
        let set = ReplicaSet { status, ..(*set).clone() };
        draft.note(key, Record::ReplicaSet(Arc::new(set)));
    }
}

pub fn count(world: &World, set: &ReplicaSet, now: Timestamp) -> ReplicaStatus {
    let mut status = ReplicaStatus::default();
    for pod in world.pods_of(&set.key).filter(|pod| pod.is_active()) {
        status.replicas += 1;
        status.updated += 1;
        if pod.is_ready() && is_reachable(world, pod) {
            status.ready += 1;
            status.available += u32::from(pod.is_available(set.min_ready_seconds, now));
        }
    }
    status
}

/// The earliest moment at which a ready pod of the set becomes available.
pub fn next_available(world: &World, set: &ReplicaSet, now: Timestamp) -> Option<Timestamp> {
    world
        .pods_of(&set.key)
        .filter(|pod| pod.is_ready())
        .filter_map(|pod| pod.available_at(set.min_ready_seconds))
        .filter(|at| *at > now)
        .min()
}

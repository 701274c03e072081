//! Pods that move to a node that joined, if the repo's settings ask for it: a few at once, from
//! the fullest nodes, as long as it makes the fleet more even. Nothing moves otherwise: a pod that
//! runs well is left alone.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::observation::Capacity;
use kgit_protocol::time::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::load::{Amounts, requests};
use crate::domain::node::Node;
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::{Pod, ReplicaSet};
use crate::domain::resource::{DeploymentSpec, Spec};
use crate::domain::world::{Effect, Record, Table, World};
use crate::plan::draft::Draft;
use crate::plan::rollout::Bounds;
use crate::plan::scheduler::Constraints;
use crate::plan::scheduler::session::Session;
use crate::plan::{budget, drain, pods};

/// Thousandths of a node by which the fullest has to be fuller: less is not worth a restart.
const WORTH_IT: u64 = 200;
/// Pods that are tried out before the fleet counts as even; each costs a look at all nodes.
const MAX_TRIED: usize = 32;
/// After this long after it joined nothing moves to a node any more, even or not.
const DEADLINE: Duration = Duration::from_secs(600);

/// Goes on with filling a node that joined.
pub fn plan_filling(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(node) = draft.world.nodes.get(key).map(|row| Arc::clone(&row.value)) else { return };
    let Some(since) = node.filling else { return };
    let Some(budget) = draft.world.meta.settings.rebalance_budget else {
        return done(draft, key, &node);
    };
    if node.is_ready() != Some(true) || node.observed.capacity.pods == 0 {
        // It will tell of itself first.
        return;
    }
    let deadline = since.after(DEADLINE);
    if deadline <= draft.now {
        return done(draft, key, &node);
    }
    let moving = on_their_way(&draft.world);
    if moving < budget as usize {
        match next(&draft.world, &node, draft.now) {
            Some(pod) => {
                let what = "joined and has room".to_owned();
                let reason = Reason::Node { node: node.name.clone(), what };
                pods::disrupt(draft, &pod, reason);
                draft.queue.insert(key.clone());
            }
            None if moving == 0 => done(draft, key, &node),
            None => {}
        }
    }
    if moving > 0 {
        draft.wait(Waiting {
            object: key.clone(),
            for_what: format!("{moving} pods on their way, before others move to it"),
            kind: WaitKind::Progress,
            deadline: Some(deadline),
            consequence: "no more pods move to the node".to_owned(),
            unplaced: None,
        });
        draft.wake(key, deadline);
    }
}

fn done(draft: &mut Draft<'_>, key: &ObjectKey, node: &Node) {
    let node = Node { filling: None, ..node.clone() };
    draft.note(key, Record::Node(Arc::new(node)));
}

/// Pods that serve no more where they were and not yet where they go: what the sets are short of,
/// whatever the reason.
fn on_their_way(world: &World) -> usize {
    let missing = |set: &ReplicaSet| {
        let serving =
            world.pods_of(&set.key).filter(|pod| pod.deletion.is_none() && pod.is_ready());
        (set.replicas as usize).saturating_sub(serving.count())
    };
    world.replica_sets.values().map(|set| missing(set)).sum()
}

/// The next pod to move to `node`.
fn next(world: &World, node: &Node, now: Timestamp) -> Option<Arc<Pod>> {
    let mut sources: Vec<&Node> = world.nodes.values().map(|row| &*row.value).collect();
    sources.retain(|source| source.name != node.name && source.is_ready() == Some(true));
    sources.sort_by_key(|source| (Reverse(used(world, source, None)), &source.name));
    let there = sources.iter().flat_map(|source| movable(world, source).map(|pod| (*source, pod)));
    let even = there.filter(|(source, pod)| evens_out(world, source, node, pod));
    let mut tried = even.filter(|(_, pod)| can_be_spared(world, pod, now)).take(MAX_TRIED);
    tried.find(|(_, pod)| would_go(world, pod, node)).map(|(_, pod)| pod)
}

/// Those that a workload replaces at once, and that lose nothing by it; the least dear first.
fn movable(world: &World, node: &Node) -> impl Iterator<Item = Arc<Pod>> {
    let may_move = |pod: &Arc<Pod>| {
        pod.owner.kind == Kind::ReplicaSet
            && pod.is_ready()
            && pod.template.claims().next().is_none()
            && !drain::keeps_data(&pod.template)
            && budget::may_go(world, pod).is_ok()
    };
    let there = world.pods_on(&node.name).map(|row| Arc::clone(&row.value));
    let mut pods: Vec<Arc<Pod>> = there.filter(may_move).collect();
    pods.sort_by_key(|pod| (pod.priority, Reverse(pod.created), pod.key.clone()));
    pods.into_iter()
}

/// A Deployment has no fewer pods for it than one of its own rollouts would leave it.
fn can_be_spared(world: &World, pod: &Pod, now: Timestamp) -> bool {
    let workload = world.workload_of(pod);
    let Some(row) = world.objects.get(&workload) else { return false };
    let Spec::Deployment(spec) = &row.value.resource.spec else { return true };
    let replicas = world.replicas_of(&workload, spec.replicas);
    let bounds = Bounds::of(&DeploymentSpec { replicas, ..spec.clone() });
    let sets = world.sets_of(&workload).flat_map(|set| world.pods_of(&set.key));
    let available = sets.filter(|pod| {
        pod.is_available(spec.min_ready_seconds, now) && pods::is_reachable(world, pod)
    });
    available.count() > replicas.saturating_sub(bounds.unavailable) as usize
}

/// The node that the pod leaves stays at least as full as the one that it goes to becomes.
fn evens_out(world: &World, from: &Node, to: &Node, pod: &Pod) -> bool {
    let (before, after) = (used(world, from, None), used(world, to, Some(pod)));
    let (there, here) = (used(world, to, None), before.saturating_sub(share(from, pod)));
    before >= there + WORTH_IT && here >= after
}

/// Thousandths of the node that are used, by the scarcer of cpu and memory; with `pod` besides.
fn used(world: &World, node: &Node, pod: Option<&Pod>) -> u64 {
    let load = world.load_of(&node.name).map(|load| load.assumed).unwrap_or_default();
    scarcest(&node.observed.capacity, load) + pod.map_or(0, |pod| share(node, pod))
}

fn share(node: &Node, pod: &Pod) -> u64 {
    scarcest(&node.observed.capacity, requests(&pod.template).assumed)
}

fn scarcest(capacity: &Capacity, amounts: Amounts) -> u64 {
    let share = |used: u64, capacity: u64| (used * 1000).checked_div(capacity).unwrap_or(1000);
    let memory = share(amounts.memory_bytes / 1024, capacity.memory_bytes / 1024);
    share(amounts.cpu_millis, capacity.cpu_millis).max(memory)
}

/// Whether the scheduler would place the pod there if it were made anew: else it would only have
/// been restarted.
fn would_go(world: &World, pod: &Pod, node: &Node) -> bool {
    let mut without = world.clone();
    without.apply(&Effect::Remove(pod.key.clone(), Table::Pod), world.version);
    let anew = Pod { placed: None, ..pod.clone() };
    let session = Session::new(&without, &anew, &Constraints::default());
    session.best(&without) == Some(&node.name)
}

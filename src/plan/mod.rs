//! The planner: `tick` decides what to do now, [`forecast`] what that leads to.
//!
//! Pure. A tick looks at the objects that are dirty and at what depends on them, and at nothing
//! else, so that its cost follows what changed. What does not live here: carrying anything out
//! (the store commits, the agents act), and reading manifests.

pub mod assignments;
mod attach;
pub mod autoscaler;
mod autoscaling;
mod bare;
mod budget;
pub mod claims;
mod config;
mod cron_job;
mod daemon_rolling;
mod daemon_set;
mod depends;
mod deployment;
mod dissolve;
pub mod doubt;
mod downward;
mod draft;
pub mod drain;
pub mod events;
mod evict;
mod fence;
pub mod forecast;
pub mod health;
mod hooks;
mod job;
mod job_failure;
mod job_index;
mod lasting;
mod names;
mod objects;
pub mod observe;
mod ordinals;
mod pods;
mod preempt;
mod priority;
mod prune;
mod rebalance;
mod refresh;
mod replicas;
mod revisions;
mod rollout;
pub mod scheduler;
pub mod services;
mod set_claims;
mod spec;
mod stages;
mod standoff;
pub mod stateful_set;
pub mod text;

use std::collections::BTreeSet;

use kgit_protocol::time::Timestamp;

use crate::domain::desired::Desired;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Dirty, Plan, Reason};
use crate::domain::record::{Applied, ClaimPhase, EndedBy, Pod};
use crate::domain::resource::Spec;
use crate::domain::service::of_the_api;
use crate::domain::world::World;
use crate::plan::draft::Draft;
use crate::plan::priority::Ranks;

/// How often one object is looked at in a tick. Each look after the first needs a change made by
/// another object's step; the number only keeps a mistake from becoming a loop.
const MAX_LOOKS: u32 = 32;

/// Decides what to do now about everything that is dirty.
pub fn tick(world: &World, desired: &Desired, dirty: &Dirty, now: Timestamp) -> Plan {
    let mut draft = Draft::new(world, desired, now);
    draft.queue.extend(dirty.objects.iter().cloned());
    objects::plan_objects(&mut draft, &dirty.manifests);
    work_off(&mut draft);
    while draft.retry_the_unplaced()
        || stages::go_on(&mut draft)
        || objects::go_on_deleting(&mut draft)
    {
        work_off(&mut draft);
    }
    if stages::begin_to_tell(&mut draft) {
        work_off(&mut draft);
    }
    stages::tell(&mut draft);
    prune::tell_held(&mut draft);
    assignments::issue(&mut draft);
    draft.plan
}

/// Whether an order may remove the object: nothing needs it any more.
pub fn may_be_given_up(world: &World, applied: &Applied) -> bool {
    prune::may_be_given_up(world, applied)
}

/// The pod that has to end before a claim whose data is gone may be given up.
pub fn pod_that_uses_lost<'a>(world: &'a World, claim: &ObjectKey) -> Option<&'a Pod> {
    prune::pod_that_uses_lost(world, claim)
}

/// Carries out an explicit order to remove such objects; gives those that it concerned.
pub fn remove_retained(
    world: &World,
    desired: &Desired,
    keys: &[ObjectKey],
    by: &str,
    now: Timestamp,
) -> (Plan, Vec<ObjectKey>) {
    let mut draft = Draft::new(world, desired, now);
    let removed = prune::remove_retained(&mut draft, keys, by);
    work_off(&mut draft);
    prune::tell_held(&mut draft);
    for node in draft.world.nodes.values() {
        draft.nodes.insert(node.name.clone());
    }
    assignments::issue(&mut draft);
    (draft.plan, removed)
}

/// Carries out an explicit order that a pod end; its workload replaces it.
pub fn end_pod(
    world: &World,
    desired: &Desired,
    pod: &Pod,
    grace_seconds: Option<u32>,
    by: &str,
    now: Timestamp,
) -> Plan {
    let mut draft = Draft::new(world, desired, now);
    let ordered = vec![Reason::Ordered { by: by.to_owned() }];
    pods::stop_for(EndedBy::Order, &mut draft, pod, grace_seconds, ordered);
    work_off(&mut draft);
    assignments::issue(&mut draft);
    draft.plan
}

fn work_off(draft: &mut Draft<'_>) {
    let ranks = Ranks::of(&draft.world);
    while let Some(key) = ranks.next(&mut draft.queue) {
        let seen = draft.looks.entry(key.clone()).or_insert(0);
        *seen += 1;
        if *seen <= MAX_LOOKS {
            plan_object(draft, &key);
        }
    }
}

fn plan_object(draft: &mut Draft<'_>, key: &ObjectKey) {
    if draft.world.pruned.contains_key(key) {
        return prune::plan_pruned(draft, key);
    }
    match key.kind {
        Kind::Pod => bare::plan_pod(draft, key),
        Kind::ReplicaSet | Kind::ReplicationController => {
            deployment::plan_replica_set(draft, key);
        }
        Kind::Deployment => deployment::plan_deployment(draft, key),
        Kind::StatefulSet => stateful_set::plan_stateful_set(draft, key),
        Kind::DaemonSet => daemon_set::plan_daemon_set(draft, key),
        Kind::Job => job::plan_job(draft, key),
        Kind::CronJob => cron_job::plan_cron_job(draft, key),
        Kind::HorizontalPodAutoscaler => autoscaler::plan_autoscaler(draft, key),
        Kind::PersistentVolumeClaim => claims::plan_claim(draft, key),
        Kind::PersistentVolume => volume_changed(draft, key),
        Kind::StorageClass => retry_claims(draft),
        Kind::Node => node_changed(draft, key),
        Kind::Service => services::plan_service(draft, key),
        Kind::PodDisruptionBudget => budget::plan_budget(draft, key),
        Kind::Namespace
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::PriorityClass
        | Kind::ControllerRevision => {}
    }
}

/// A static volume that was offered may be what a pending claim waits for; one that is gone is not
/// any more.
fn volume_changed(draft: &mut Draft<'_>, key: &ObjectKey) {
    let offered = draft.world.objects.get(key).is_some_and(|row| {
        matches!(row.resource.spec, Spec::PersistentVolume(_)) && row.retained.is_none()
    });
    if offered {
        claims::offer(draft, key);
    }
    retry_claims(draft);
}

fn retry_claims(draft: &mut Draft<'_>) {
    let pending = draft.world.claims.iter().filter(|(_, row)| row.phase == ClaimPhase::Pending);
    let pending: Vec<ObjectKey> = pending.map(|(key, _)| key.clone()).collect();
    // Pods without a place say what their claim lacks.
    let pods = pending.iter().flat_map(|claim| draft.world.pods_with_claim(claim));
    let workloads: Vec<ObjectKey> = pods.map(|pod| draft.world.workload_of(pod)).collect();
    draft.queue.extend(workloads);
    draft.queue.extend(pending);
}

/// Pods without a place may have one now, and those on the node may count differently. Every
/// DaemonSet may have to be there, or not any more.
fn node_changed(draft: &mut Draft<'_>, key: &ObjectKey) {
    let daemons = draft.world.objects_of(Kind::DaemonSet).map(|row| row.resource.key.clone());
    let daemons: Vec<ObjectKey> = daemons.collect();
    draft.queue.extend(daemons);
    let waiting = draft.world.unplaced().map(|pod| draft.world.workload_of(pod));
    let waiting: Vec<ObjectKey> = waiting.collect();
    draft.queue.extend(waiting);
    let Some(node) = draft.world.nodes.get(key).map(|row| row.name.clone()) else {
        return draft.start_over(key);
    };
    let there = draft.world.pods_on(&node).map(|pod| draft.world.workload_of(pod));
    let workloads: Vec<ObjectKey> = there.collect();
    let services = services::of_node(&draft.world, &node);
    // Only pods on nodes that are heard of count as healthy.
    let budgets = draft
        .world
        .pods_on(&node)
        .flat_map(|pod| budget::about(&draft.world, &pod.key.namespace, &pod.labels));
    let budgets: BTreeSet<ObjectKey> = budgets.collect();
    draft.queue.extend(budgets);
    draft.queue.extend(workloads);
    draft.queue.extend(services);
    draft.nodes.insert(node);
    drain::plan_drain(draft, key);
    rebalance::plan_filling(draft, key);
}

impl Dirty {
    /// Everything that there is: after a start, and for a forecast of the whole.
    pub fn everything(world: &World, desired: &Desired) -> Self {
        let mut dirty = Self::default();
        dirty.manifests.extend(desired.objects.keys().cloned());
        dirty.manifests.extend(world.objects.keys().cloned());
        dirty.objects.extend(world.objects.keys().cloned());
        dirty.objects.extend(world.pruned.keys().cloned());
        dirty.objects.extend(world.nodes.keys().cloned());
        dirty.objects.insert(of_the_api());
        dirty
    }
}

/// Who is concerned by a change of a pod that was not planned, besides its workload.
pub fn woken(world: &World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<ObjectKey> {
    depends::woken(world, old, new)
}

/// A node's uid: the same name in the same cluster is the same node.
pub fn node_uid(
    cluster: &kgit_protocol::ids::ClusterId,
    name: &kgit_protocol::ids::NodeName,
) -> String {
    names::object_uid(cluster, &crate::domain::world::node_key(name), 0)
}

//! What is not done yet says what it waits for.

use std::collections::BTreeSet;

use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::record::{ClaimPhase, Pod};
use kgit::domain::resource::Spec;
use kgit::domain::workload::{StatefulSetSpec, StatefulUpdate};
use kgit::domain::world::World;
use kgit_protocol::time::Timestamp;

use crate::checks::{Checked, Turned, is_reachable, pods_of};

pub(super) fn everything_pending_is_explained(turned: &Turned<'_>, now: Timestamp) -> Checked {
    if !turned.through {
        return Ok(());
    }
    pods(turned)?;
    if !turned.read {
        return Ok(());
    }
    objects(turned, now)?;
    claims(turned)?;
    drains(turned)
}

fn waits(turned: &Turned<'_>, key: &ObjectKey) -> bool {
    turned.waits.get(key).is_some_and(|waits| !waits.is_empty())
}

fn pods(turned: &Turned<'_>) -> Checked {
    let world = turned.after;
    for pod in world.pods.values() {
        let pending = pod.placed.is_none() || pod.deletion.is_some();
        if !pending {
            continue;
        }
        let workload = world.workload_of(pod);
        let owned = world.objects.contains_key(&workload) || world.pruned.contains_key(&workload);
        if owned && !waits(turned, &workload) {
            return Err(format!("{} is pending, and {workload} waits for nothing", pod.key));
        }
    }
    Ok(())
}

fn objects(turned: &Turned<'_>, now: Timestamp) -> Checked {
    for (key, row) in &turned.after.objects {
        if is_pending(turned.after, key, &row.value.resource.spec, now) && !waits(turned, key) {
            return Err(format!("{key} is not done, and waits for nothing"));
        }
    }
    Ok(())
}

pub(super) fn is_pending(world: &World, key: &ObjectKey, spec: &Spec, now: Timestamp) -> bool {
    let done = |pods: &[&Pod], replicas: u32, min_ready: u32| {
        let active = pods.iter().filter(|pod| pod.is_active());
        let available = active.clone().filter(|pod| is_available(world, pod, min_ready, now));
        let wanted = world.replicas_of(key, replicas) as usize;
        active.count() == wanted && available.count() == wanted
    };
    match spec {
        Spec::Deployment(spec) => {
            let pods = pods_of(world, key);
            let active = pods.iter().filter(|pod| pod.is_active());
            let owners: BTreeSet<&ObjectKey> = active.map(|pod| &pod.owner).collect();
            let rolled = owners.len() <= 1 && done(&pods, spec.replicas, spec.min_ready_seconds);
            !spec.paused && !rolled
        }
        Spec::ReplicaSet(spec) => {
            !done(&pods_of(world, key), spec.replicas, spec.min_ready_seconds)
        }
        Spec::StatefulSet(spec) => {
            let pods = pods_of(world, key);
            !(done(&pods, spec.replicas, spec.min_ready_seconds) && has_rolled(world, key, spec))
        }
        Spec::DaemonSet(_) => world
            .daemon_sets
            .get(key)
            .is_none_or(|state| state.available < state.desired || state.current < state.desired),
        Spec::Job(_) => world.jobs.get(key).is_none_or(|job| job.finished.is_none()),
        Spec::Pod(_) => !world.pods_of(key).any(|pod| pod.is_ready() || pod.is_finished()),
        _ => false,
    }
}

fn is_available(world: &World, pod: &Pod, min_ready_seconds: u32, now: Timestamp) -> bool {
    pod.is_available(min_ready_seconds, now) && is_reachable(world, pod)
}

fn has_rolled(world: &World, key: &ObjectKey, spec: &StatefulSetSpec) -> bool {
    match spec.update {
        StatefulUpdate::OnDelete => true,
        StatefulUpdate::RollingUpdate { partition, .. } => {
            let state = world.stateful_sets.get(key);
            let above = partition > 0;
            above || state.is_some_and(|state| state.current_revision == state.update_revision)
        }
    }
}

/// A claim that waits for its first pod is explained by that pod, if there is one.
fn claims(turned: &Turned<'_>) -> Checked {
    let world = turned.after;
    let used = |key: &ObjectKey| {
        let mut pods = world.pods_with_claim(key);
        pods.all(|pod| waits(turned, &world.workload_of(pod)))
    };
    let mut claims = world.claims.iter().filter(|(_, row)| row.phase == ClaimPhase::Pending);
    match claims.find(|(key, _)| !waits(turned, key) && !used(key)) {
        Some((key, _)) => Err(format!("{key} is pending, and waits for nothing")),
        None => Ok(()),
    }
}

/// A drain that is not over says what holds it up.
fn drains(turned: &Turned<'_>) -> Checked {
    let world = turned.after;
    for (key, node) in world.nodes.iter().filter(|(_, node)| node.drain.is_some()) {
        let mut there = world.pods_on(&node.name).filter(|pod| pod.owner.kind != Kind::DaemonSet);
        if there.any(|pod| !pod.is_over()) && !waits(turned, key) {
            return Err(format!("{key} is drained, has pods, and waits for nothing"));
        }
    }
    Ok(())
}

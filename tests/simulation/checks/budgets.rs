//! A drain takes no more than disruption budgets allow.

use kgit::domain::autoscaling::{DisruptionBound, DisruptionBudgetSpec};
use kgit::domain::key::ObjectKey;
use kgit::domain::node::Node;
use kgit::domain::record::Pod;
use kgit::domain::resource::{IntOrPercent, Spec};
use kgit::domain::template::effect;
use kgit::domain::world::{World, node_key};
use kgit_protocol::observation::PodPhase;

use crate::checks::{Checked, Turned, is_reachable, pods_of, was_told_to_end};

pub(super) fn check(turned: &Turned<'_>) -> Checked {
    if !turned.before.nodes.values().chain(turned.after.nodes.values()).any(|it| it.drain.is_some())
    {
        return Ok(());
    }
    for (key, row) in &turned.after.objects {
        if let Spec::DisruptionBudget(spec) = &row.resource.spec {
            budget(turned, key, spec)?;
        }
    }
    Ok(())
}

fn budget(turned: &Turned<'_>, key: &ObjectKey, spec: &DisruptionBudgetSpec) -> Checked {
    let Some(selector) = &spec.selector else { return Ok(()) };
    let pods: Vec<&Pod> = turned
        .after
        .pods_selected(&key.namespace, selector)
        .into_iter()
        .map(|row| &*row.value)
        .collect();
    let told: Vec<&&Pod> = pods.iter().filter(|pod| was_told_to_end(turned, pod)).collect();
    let healthy = |pod: &Pod| pod.is_ready() && is_reachable(turned.after, pod);
    let was_healthy = |pod: &Pod| healthy(&Pod { deletion: None, ..pod.clone() });
    if told.is_empty() || !told.iter().all(|pod| drained(turned, pod)) {
        // An update or a scaling is nobody's disruption.
        return Ok(());
    }
    let left = pods.iter().filter(|pod| healthy(pod)).count();
    let least = least(turned.after, spec, &pods);
    match told.iter().find(|pod| was_healthy(pod)) {
        Some(pod) if left < least => Err(format!(
            "{} was drained, which leaves {left} of at least {least} of {key}",
            pod.key
        )),
        _ => Ok(()),
    }
}

/// It went for the drain alone: its workload wants one like it, and as many.
fn drained(turned: &Turned<'_>, pod: &Pod) -> bool {
    let world = turned.after;
    let Some(node) = pod.node().and_then(|node| world.nodes.get(&node_key(node))) else {
        return false;
    };
    let only_drained = |node: &Node| {
        node.drain.is_some()
            && node.is_ready() == Some(true)
            && !node.taints.iter().any(|taint| taint.effect == effect::NO_EXECUTE)
            && world.promised_to(&node.name).next().is_none()
    };
    let workload = world.workload_of(pod);
    let Some(row) = world.objects.get(&workload) else { return false };
    let (newest, replicas) = match &row.resource.spec {
        Spec::Deployment(spec) => {
            let newest = world.sets_of(&workload).max_by_key(|set| set.revision);
            // While it is scaled, too, pods go for that.
            let wanted = world.replicas_of(&workload, spec.replicas);
            let newest = newest.filter(|set| set.replicas == wanted);
            (newest.map(|set| &set.value.revision_digest), spec.replicas)
        }
        Spec::StatefulSet(spec) => {
            let newest = world.revisions_of(&workload).max_by_key(|revision| revision.number);
            (newest.map(|revision| &revision.value.revision_digest), spec.replicas)
        }
        _ => return false,
    };
    let replicas = world.replicas_of(&workload, replicas) as usize;
    let active = pods_of(world, &workload).iter().filter(|pod| pod.is_active()).count();
    only_drained(node)
        && newest == Some(&pod.revision_digest)
        && active < replicas
        && pod.phase() != PodPhase::Pending
}

fn least(world: &World, spec: &DisruptionBudgetSpec, pods: &[&Pod]) -> usize {
    let mut workloads: Vec<ObjectKey> = pods.iter().map(|pod| world.workload_of(pod)).collect();
    workloads.dedup();
    let wanted =
        workloads.iter().filter_map(|key| match &world.objects.get(key)?.value.resource.spec {
            Spec::Deployment(spec) => Some(world.replicas_of(key, spec.replicas)),
            Spec::StatefulSet(spec) => Some(world.replicas_of(key, spec.replicas)),
            _ => None,
        });
    let scale: u32 = wanted.sum();
    let least = match spec.bound {
        DisruptionBound::MinAvailable(IntOrPercent::Int(least)) => least,
        DisruptionBound::MinAvailable(IntOrPercent::Percent(share)) => {
            (scale * share).div_ceil(100)
        }
        DisruptionBound::MaxUnavailable(IntOrPercent::Int(most)) => scale.saturating_sub(most),
        DisruptionBound::MaxUnavailable(IntOrPercent::Percent(share)) => {
            scale - (scale * share).div_ceil(100).min(scale)
        }
    };
    least as usize
}

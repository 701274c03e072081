//! Updates of StatefulSets and DaemonSets stay within their bounds. Written once more, as the
//! bounds of Deployments are.

use kgit::domain::key::ObjectKey;
use kgit::domain::node::Node;
use kgit::domain::record::Pod;
use kgit::domain::resource::Spec;
use kgit::domain::template::PodTemplate;
use kgit::domain::workload::{DaemonSetSpec, DaemonUpdate, StatefulSetSpec, StatefulUpdate};
use kgit::domain::world::{World, node_key};

use crate::checks::{Checked, Turned, makes_way, was_told_to_end};

pub(super) fn check(turned: &Turned<'_>) -> Checked {
    for (key, row) in &turned.after.objects {
        if !rolls_as_before(turned, key) {
            continue;
        }
        match &row.resource.spec {
            Spec::StatefulSet(spec) => stateful_set(turned, key, spec)?,
            Spec::DaemonSet(spec) => daemon_set(turned, key, spec)?,
            _ => {}
        }
    }
    Ok(())
}

/// What was stopped before the bounds or the number changed, in the same turn, was stopped within
/// the old ones.
fn rolls_as_before(turned: &Turned<'_>, key: &ObjectKey) -> bool {
    let spec = |world: &World| world.objects.get(key).map(|row| row.resource.spec.clone());
    match (spec(turned.before), spec(turned.after)) {
        (Some(Spec::StatefulSet(old)), Some(Spec::StatefulSet(new))) => {
            let replicas = turned.after.replicas_of(key, new.replicas);
            old.update == new.update && turned.before.replicas_of(key, old.replicas) == replicas
        }
        (Some(Spec::DaemonSet(old)), Some(Spec::DaemonSet(new))) => old.update == new.update,
        _ => true,
    }
}

fn pods<'a>(turned: &Turned<'a>, owner: &ObjectKey) -> Vec<&'a Pod> {
    turned.after.pods_of(owner).map(|row| &*row.value).collect()
}

fn is_heard(turned: &Turned<'_>, pod: &Pod) -> bool {
    let node = pod.node().and_then(|node| turned.after.nodes.get(&node_key(node)));
    node.is_some_and(|node| node.is_ready() != Some(false))
}

fn is_available(turned: &Turned<'_>, pod: &Pod, min_ready_seconds: u32) -> bool {
    pod.is_available(min_ready_seconds, turned.now) && is_heard(turned, pod)
}

/// A pod that served was told to end, and by an update: not for its node's sake.
fn was_stopped_serving(turned: &Turned<'_>, pod: &Pod) -> bool {
    was_told_to_end(turned, pod) && pod.serves() && is_heard(turned, pod) && !makes_way(turned, pod)
}

fn stateful_set(turned: &Turned<'_>, key: &ObjectKey, spec: &StatefulSetSpec) -> Checked {
    let StatefulUpdate::RollingUpdate { max_unavailable, .. } = spec.update else { return Ok(()) };
    let replicas = turned.after.replicas_of(key, spec.replicas);
    let range = spec.first_ordinal..spec.first_ordinal + replicas;
    let pods = pods(turned, key);
    let in_range = |pod: &Pod| pod.index.is_some_and(|index| range.contains(&index));
    let mut within = pods.iter().filter(|pod| in_range(pod));
    if within.clone().any(|pod| was_told_to_end(turned, pod) && makes_way(turned, pod)) {
        return Ok(());
    }
    let Some(stopped) = within.find(|pod| was_stopped_serving(turned, pod)) else { return Ok(()) };
    let available = pods
        .iter()
        .filter(|pod| in_range(pod) && is_available(turned, pod, spec.min_ready_seconds));
    let missing = replicas.saturating_sub(u32::try_from(available.count()).unwrap_or(u32::MAX));
    let allowed = max_unavailable.of_rounding_down(replicas).max(1)
        + kept_away(&pods, stopped, spec, replicas);
    match missing <= allowed {
        true => Ok(()),
        false => Err(format!("{} was stopped, and {missing} of {key} are missing", stopped.key)),
    }
}

/// Pods without a place that may have one only when an old one is gone, which keeps others of the set
/// away and whose successor does not. There is no other way out than to miss that one, too.
fn kept_away(pods: &[&Pod], stopped: &Pod, spec: &StatefulSetSpec, replicas: u32) -> u32 {
    let keeps_away = |template: &PodTemplate| {
        let mut terms = template.placement.pod_anti_affinity.iter();
        terms.any(|term| term.selector.as_ref().is_some_and(|it| it.matches(&template.labels)))
    };
    if !keeps_away(&stopped.template) || keeps_away(&spec.template) {
        return 0;
    }
    let unplaced = pods.iter().filter(|pod| pod.placed.is_none()).count();
    // In order, others are not made, or made again, before those have a place.
    let there = pods.iter().filter(|pod| !pod.is_finished()).count();
    let behind = if spec.parallel { 0 } else { (replicas as usize).saturating_sub(there) };
    u32::try_from(unplaced + behind).unwrap_or(u32::MAX)
}

fn daemon_set(turned: &Turned<'_>, key: &ObjectKey, spec: &DaemonSetSpec) -> Checked {
    at_most_one_on_each_node(turned, key, spec)?;
    let DaemonUpdate::RollingUpdate { max_unavailable, max_surge } = spec.update else {
        return Ok(());
    };
    let pods = pods(turned, key);
    let covered = |pod: &Pod| {
        let mut there = pods.iter().filter(|other| other.node() == pod.node());
        there.any(|other| is_available(turned, other, spec.min_ready_seconds))
    };
    let mut stopped = pods.iter().filter(|pod| was_stopped_serving(turned, pod));
    let Some(stopped) = stopped.find(|pod| !covered(pod)) else { return Ok(()) };
    let chosen = |node: &&Node| {
        let selector = &spec.template.placement.node_selector;
        selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
    };
    let nodes = turned.after.nodes.values().map(|row| &*row.value);
    let nodes: Vec<&Node> = nodes.filter(chosen).collect();
    if !nodes.iter().any(|node| stopped.node() == Some(&node.name)) {
        // It is not to be there at all any more.
        return Ok(());
    }
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let least = u32::from(max_surge.of_rounding_up(count) == 0);
    let allowed = max_unavailable.of_rounding_up(count).max(least);
    let open = |node: &&&Node| {
        node.is_ready() == Some(true)
            && node.observed.capacity.pods > 0
            && node.all_taints().next().is_none()
    };
    let missing = nodes.iter().filter(open).filter(|node| {
        let mut there = pods.iter().filter(|pod| pod.node() == Some(&node.name));
        !there.any(|pod| is_available(turned, pod, spec.min_ready_seconds))
    });
    let missing = missing.count();
    match missing <= allowed as usize {
        true => Ok(()),
        false => Err(format!("{} was stopped, and {missing} nodes go without {key}", stopped.key)),
    }
}

fn at_most_one_on_each_node(turned: &Turned<'_>, key: &ObjectKey, spec: &DaemonSetSpec) -> Checked {
    let surges = matches!(
        spec.update,
        DaemonUpdate::RollingUpdate { max_surge, .. } if max_surge.of_rounding_up(1) > 0
    );
    let pods = pods(turned, key);
    for new in pods.iter().filter(|pod| !turned.before.pods.contains_key(&pod.key)) {
        let there = pods.iter().filter(|pod| pod.pinned == new.pinned && pod.deletion.is_none());
        let there = there.count();
        if there > 1 + usize::from(surges) {
            return Err(format!("{there} pods of {key} on one node"));
        }
    }
    Ok(())
}

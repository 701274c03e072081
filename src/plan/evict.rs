//! Nodes that are not heard of any more, or tainted by order: whose pods are replaced elsewhere,
//! and when.

use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::node::NodeTaint;
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::Pod;
use crate::domain::template::{DEFAULT_TOLERATION_SECONDS, Taint, UNREACHABLE, effect};
use crate::domain::world::{World, node_key};
use crate::plan::draft::Draft;
use crate::plan::{fence, pods};

/// Pods of a node that was not heard of for longer than they tolerate are told to end, so that
/// `workload` replaces them elsewhere. Those whose data is on the node stay: nobody else has it.
pub fn evict(draft: &mut Draft<'_>, workload: &ObjectKey, all: &[Arc<Pod>]) {
    for pod in all.iter().filter(|pod| !pod.is_finished()) {
        let lost = lost_node(&draft.world, pod);
        if pod.deletion.is_some() {
            end_when_safe(draft, workload, pod, lost);
            continue;
        }
        let Some((node, since)) = lost else {
            leave_tainted(draft, workload, pod);
            continue;
        };
        if fence::replace_when_safe(draft, workload, pod, &node, since) {
            continue;
        }
        if pod.template.claims().next().is_some() {
            let what = "which holds the data of pod";
            blocked(draft, workload, pod, &node, what, "the pod stays where its data is");
            continue;
        }
        let Some(tolerated) = toleration(pod, &UNREACHABLE) else {
            let what = "whose absence is tolerated for ever by pod";
            blocked(draft, workload, pod, &node, what, "the pod stays where it is");
            continue;
        };
        let deadline = since.after(tolerated);
        if deadline > draft.now {
            wait_for_node(draft, workload, &node, deadline);
            continue;
        }
        let what = "was not heard of for longer than the pod tolerates".to_owned();
        pods::stop(draft, pod, vec![Reason::Node { node, what }]);
    }
}

/// A pod with a name of its own is not replaced while its node is away: the name is taken until the
/// node says that the pod is gone, or is certain to have stopped it.
pub fn leave_or_wait(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Arc<Pod>) {
    match lost_node(&draft.world, pod) {
        lost if pod.deletion.is_some() => end_when_safe(draft, workload, pod, lost),
        None => leave_tainted(draft, workload, pod),
        Some((node, since)) if fence::replace_when_safe(draft, workload, pod, &node, since) => {}
        Some((node, _)) => {
            let consequence = "the pod's name stays taken until its node says it is gone";
            blocked(draft, workload, pod, &node, "on which is pod", consequence);
        }
    }
}

/// One that was told to end already, and whose node is cut off.
fn end_when_safe(
    draft: &mut Draft<'_>,
    workload: &ObjectKey,
    pod: &Arc<Pod>,
    lost: Option<(NodeName, Timestamp)>,
) {
    if let Some((node, since)) = lost {
        // Where it does not stop by itself, its end is waited for as ever.
        fence::replace_when_safe(draft, workload, pod, &node, since);
    }
}

fn blocked(
    draft: &mut Draft<'_>,
    workload: &ObjectKey,
    pod: &Pod,
    node: &NodeName,
    what: &str,
    consequence: &str,
) {
    let for_what = format!("node `{node}` to come back, {what} `{}`", pod.key.name);
    draft.blocked(workload, for_what, consequence);
}

fn wait_for_node(
    draft: &mut Draft<'_>,
    workload: &ObjectKey,
    node: &NodeName,
    deadline: Timestamp,
) {
    draft.wait(Waiting {
        object: workload.clone(),
        for_what: format!("node `{node}` to be heard of again"),
        kind: WaitKind::Progress,
        deadline: Some(deadline),
        consequence: "its pods are replaced on other nodes".to_owned(),
        unplaced: None,
    });
    draft.wake(workload, deadline);
}

fn lost_node(world: &World, pod: &Pod) -> Option<(NodeName, Timestamp)> {
    let node = world.nodes.get(&node_key(pod.node()?))?;
    (node.ready == Some(false)).then(|| (node.name.clone(), node.ready_since))
}

/// How long a pod stays where a taint is: the shortest time for which it tolerates it; `None`: for
/// ever. Source: upstream's `tainteviction` (`GetMinTolerationTime`).
fn toleration(pod: &Pod, taint: &Taint<'_>) -> Option<Duration> {
    let all = &pod.template.placement.tolerations;
    let mut own = all.iter().filter(|toleration| toleration.tolerates(taint)).peekable();
    if own.peek().is_none() {
        // What Kubernetes adds to every pod.
        let seconds = if *taint == UNREACHABLE { DEFAULT_TOLERATION_SECONDS } else { 0 };
        return Some(Duration::from_secs(seconds.into()));
    }
    own.filter_map(|toleration| toleration.seconds).min().map(|it| Duration::from_secs(it.into()))
}

/// What a node is said to do to pods that leave it for a taint.
pub const HAS_TAINT: &str = "has the taint";

/// Pods that do not tolerate what the node was tainted with by order, or not for so long, are told
/// to end: the node is there and can say that they are gone.
fn leave_tainted(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Pod) {
    let node = pod.node().and_then(|node| draft.world.nodes.get(&node_key(node)));
    let Some(node) = node.map(|row| Arc::clone(&row.value)) else { return };
    let against = node.taints.iter().filter(|taint| taint.effect == effect::NO_EXECUTE);
    // One that came when the node was tainted already has its own time there.
    let since = |taint: &NodeTaint| {
        pod.placed.as_ref().map_or(taint.since, |placed| taint.since.max(placed.at))
    };
    let ends = against.filter_map(|taint| {
        toleration(pod, &taint.as_taint()).map(|tolerated| (since(taint).after(tolerated), taint))
    });
    let Some((end, taint)) = ends.min_by_key(|(end, _)| *end) else { return };
    if end > draft.now {
        draft.wait(Waiting {
            object: workload.clone(),
            for_what: format!("taint {} to go from node `{}`", taint.key, node.name),
            // Nobody knows that it will.
            kind: WaitKind::Blocked,
            deadline: Some(end),
            consequence: "its pods there are replaced elsewhere".to_owned(),
            unplaced: None,
        });
        return draft.wake(workload, end);
    }
    let what = format!("{HAS_TAINT} {}={}:{}", taint.key, taint.value, taint.effect);
    pods::stop(draft, pod, vec![Reason::Node { node: node.name.clone(), what }]);
}

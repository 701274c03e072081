//! Nodes that are not heard of any more, whose engine fails, or that are tainted by order: whose pods are replaced elsewhere,
//! and when.

use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::node::NodeTaint;
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::Pod;
use crate::domain::template::{DEFAULT_TOLERATION_SECONDS, NOT_READY, Taint, UNREACHABLE, effect};
use crate::domain::world::{World, node_key};
use crate::plan::draft::Draft;
use crate::plan::{fence, pods};

/// Pods of a node that was not heard of, or not ready, for longer than they tolerate are told to end, so that
/// `workload` replaces them elsewhere. Those whose data is on the node stay: nobody else has it.
pub fn evict(draft: &mut Draft<'_>, workload: &ObjectKey, all: &[Arc<Pod>]) {
    for pod in all.iter().filter(|pod| !pod.is_over()) {
        let lost = Lost::of(&draft.world, pod);
        if pod.deletion.is_some() {
            end_when_safe(draft, workload, pod, lost);
            continue;
        }
        let Some(lost) = lost else {
            leave_tainted(draft, workload, pod);
            continue;
        };
        if lost.stops_by_itself(draft, workload, pod) {
            continue;
        }
        let Lost { node, since, taint, .. } = lost;
        if pod.template.claims().next().is_some() {
            let what = "which holds the data of pod";
            blocked(draft, workload, pod, &node, what, "the pod stays where its data is");
            continue;
        }
        let Some(tolerated) = toleration(pod, &taint) else {
            let what = "whose absence is tolerated for ever by pod";
            blocked(draft, workload, pod, &node, what, "the pod stays where it is");
            continue;
        };
        let deadline = since.after(tolerated);
        if deadline > draft.now {
            wait_for_node(draft, workload, &node, &taint, deadline);
            continue;
        }
        let state = if taint == UNREACHABLE { "heard of" } else { "ready" };
        let what = format!("was not {state} for longer than the pod tolerates");
        pods::disrupt(draft, pod, Reason::Node { node, what });
    }
}

/// A pod with a name of its own is not replaced while its node is away: the name is taken until the
/// node says that the pod is gone, or is certain to have stopped it. One that has ended stays: to be
/// made again somewhere else, it would run twice.
pub fn leave_or_wait(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Arc<Pod>) {
    if pod.is_finished() && pod.deletion.is_none() {
        return;
    }
    match Lost::of(&draft.world, pod) {
        lost if pod.deletion.is_some() => end_when_safe(draft, workload, pod, lost),
        None => leave_tainted(draft, workload, pod),
        Some(lost) if lost.stops_by_itself(draft, workload, pod) => {}
        Some(lost) => {
            let consequence = "the pod's name stays taken until its node says it is gone";
            blocked(draft, workload, pod, &lost.node, "on which is pod", consequence);
        }
    }
}

/// One that was told to end already, and whose node is cut off.
fn end_when_safe(draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Arc<Pod>, lost: Option<Lost>) {
    if let Some(lost) = lost {
        // Where it does not stop by itself, its end is waited for as ever.
        lost.stops_by_itself(draft, workload, pod);
    }
}

/// The node of a pod, while it can't run it or nobody knows whether it does.
struct Lost {
    node: NodeName,
    since: Timestamp,
    taint: Taint<'static>,
    /// Its agent is thought able to stop pods without an order: its engine answered when it was
    /// last heard of, and it knows by itself that it is cut off.
    can_stop: bool,
}

impl Lost {
    fn of(world: &World, pod: &Pod) -> Option<Self> {
        let node = world.nodes.get(&node_key(pod.node()?))?;
        let (taint, since) = node.lost()?;
        let can_stop = node.failing.is_none();
        Some(Self { node: node.name.clone(), since, taint, can_stop })
    }

    /// Whether the pod is left to its node, which ends it; it is replaced once that is certain.
    fn stops_by_itself(&self, draft: &mut Draft<'_>, workload: &ObjectKey, pod: &Arc<Pod>) -> bool {
        self.can_stop && fence::replace_when_safe(draft, workload, pod, &self.node, self.since)
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
    taint: &Taint<'_>,
    deadline: Timestamp,
) {
    let what = if *taint == UNREACHABLE { "heard of again" } else { "ready again" };
    draft.wait(Waiting {
        object: workload.clone(),
        for_what: format!("node `{node}` to be {what}"),
        kind: WaitKind::Progress,
        deadline: Some(deadline),
        consequence: "its pods are replaced on other nodes".to_owned(),
        unplaced: None,
    });
    draft.wake(workload, deadline);
}

/// How long a pod stays where a taint is: the shortest time for which it tolerates it; `None`: for
/// ever. Source: upstream's `tainteviction` (`GetMinTolerationTime`).
fn toleration(pod: &Pod, taint: &Taint<'_>) -> Option<Duration> {
    let all = &pod.template.placement.tolerations;
    let mut own = all.iter().filter(|toleration| toleration.tolerates(taint)).peekable();
    if own.peek().is_none() {
        // What Kubernetes adds to every pod.
        let added = [UNREACHABLE, NOT_READY].contains(taint);
        let seconds = if added { DEFAULT_TOLERATION_SECONDS } else { 0 };
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
        let for_what = format!("taint {} to go from node `{}`", taint.key, node.name);
        let first = draft.said_of(workload, &for_what).and_then(|known| known.deadline);
        if first.is_some_and(|first| first <= end) {
            return draft.wake(workload, end);
        }
        draft.wait(Waiting {
            object: workload.clone(),
            for_what,
            // Nobody knows that it will.
            kind: WaitKind::Blocked,
            deadline: Some(end),
            consequence: "its pods there are replaced".to_owned(),
            unplaced: None,
        });
        return draft.wake(workload, end);
    }
    let what = format!("{HAS_TAINT} {}={}:{}", taint.key, taint.value, taint.effect);
    pods::disrupt(draft, pod, Reason::Node { node: node.name.clone(), what });
}

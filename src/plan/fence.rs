//! Pods that must not run twice and may move all the same: their node stops them by itself when it
//! is cut off for long enough, and only later are they replaced elsewhere.
//!
//! The agent counts from when it *sent* its last request that was answered, the master from when
//! it last *received* one, so the master is always later. It allows for clocks that drift apart.

use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::Pod;
use crate::domain::resource::{LEAST_FENCE_SECONDS, annotation};
use crate::domain::template::PodTemplate;
use crate::plan::draft::Draft;
use crate::plan::pods;

/// By how much, in percent, the clocks of master and node may differ in speed.
const DRIFT_PERCENT: u32 = 1;
/// What it takes an agent to notice and an engine to act.
const MARGIN: Duration = Duration::from_secs(10);

/// What a template asks for; a value that can't be is refused with its manifest.
pub fn wanted(template: &PodTemplate) -> Option<u32> {
    let written = template.annotations.get(annotation::FENCE_AFTER)?;
    written.parse().ok().filter(|seconds| *seconds >= LEAST_FENCE_SECONDS)
}

/// Replaces a pod whose node was not heard of since `since`, once it is certain to have stopped
/// there; false if it does not stop by itself.
pub fn replace_when_safe(
    draft: &mut Draft<'_>,
    workload: &ObjectKey,
    pod: &Arc<Pod>,
    node: &NodeName,
    since: Timestamp,
) -> bool {
    let Some(safe) = safe_after(pod) else { return false };
    let deadline = since.after(safe);
    if deadline > draft.now {
        draft.wait(Waiting {
            object: workload.clone(),
            for_what: format!("node `{node}` to stop pod `{}` by itself", pod.key.name),
            kind: WaitKind::Progress,
            deadline: Some(deadline),
            consequence: "the pod counts as stopped, and is replaced".to_owned(),
            unplaced: None,
        });
        draft.wake(workload, deadline);
        return true;
    }
    let what = format!(
        "was cut off for longer than the {} s after which it stops the pod",
        safe.as_secs()
    );
    pods::count_as_gone(draft, workload, pod, Reason::Node { node: node.clone(), what });
    true
}

/// Whether the pod's node may stop it without an order.
pub fn stops(pod: &Pod) -> bool {
    pod.placed.as_ref().is_some_and(|placed| placed.spec.fence_after_seconds.is_some())
}

/// How long after a node was last heard of the pod is certain to be over there.
fn safe_after(pod: &Pod) -> Option<Duration> {
    let spec = &pod.placed.as_ref()?.spec;
    let fence = Duration::from_secs(spec.fence_after_seconds?.into());
    let grace = pod.deletion.map_or(spec.termination_grace_seconds, |it| it.grace_seconds);
    let grace = grace.max(spec.termination_grace_seconds);
    Some(fence + fence * DRIFT_PERCENT / 100 + Duration::from_secs(grace.into()) + MARGIN)
}

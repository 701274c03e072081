//! Nodes that are to be cleared: pod by pod, as budgets allow. The order stands in the node's row,
//! so that it outlives the master's restarts.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::{Drain, Node};
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::{EndedBy, Pod};
use crate::domain::template::{PodTemplate, VolumeTemplateSource};
use crate::domain::world::World;
use crate::plan::budget;
use crate::plan::draft::Draft;
use crate::plan::pods;

/// After this long a drain that is held up is somebody's to look at. It is as long as pods that
/// replace others may take to become ready.
const DEADLINE: Duration = Duration::from_secs(600);

/// Goes on with the drain of a node, if it is drained, and says what it waits for.
pub fn plan_drain(draft: &mut Draft<'_>, key: &ObjectKey) {
    draft.start_over(key);
    let Some(node) = draft.world.nodes.get(key).map(|row| Arc::clone(&row.value)) else { return };
    let Some(drain) = &node.drain else { return };
    let all: Vec<Arc<Pod>> = concerned(&draft.world, &node).collect();
    for pod in all.iter().filter(|pod| pod.deletion.is_none()) {
        match hindrance(draft, drain, pod) {
            None => evict(draft, &node, drain, pod),
            Some(why) => wait(draft, key, drain, why),
        }
    }
    let ending: Vec<Arc<Pod>> =
        concerned(&draft.world, &node).filter(|pod| pod.deletion.is_some()).collect();
    if !ending.is_empty() {
        wait(draft, key, drain, Hindrance::of_time(format!("{} pods to end", ending.len())));
    }
}

/// The pods that a drain is about: a DaemonSet's are on every node, drained or not, and those that
/// have ended are in nobody's way.
pub fn concerned(world: &World, node: &Node) -> impl Iterator<Item = Arc<Pod>> {
    let there = world.pods_on(&node.name).filter(|pod| pod.owner.kind != Kind::DaemonSet);
    let there = there.filter(|pod| pod.deletion.is_some() || !pod.is_over());
    there.map(|row| Arc::clone(&row.value)).collect::<Vec<_>>().into_iter()
}

/// Why a pod can't go yet.
struct Hindrance {
    for_what: String,
    kind: WaitKind,
}

impl Hindrance {
    fn of_time(for_what: String) -> Self {
        Self { for_what, kind: WaitKind::Progress }
    }

    fn of_order(for_what: String) -> Self {
        Self { for_what, kind: WaitKind::Blocked }
    }
}

fn hindrance(draft: &Draft<'_>, drain: &Drain, pod: &Pod) -> Option<Hindrance> {
    let name = format!("{}/{}", pod.key.namespace, pod.key.name);
    if pod.owner.kind == Kind::Pod && !drain.force {
        let what = format!("a drain with --force: no workload would replace pod `{name}`");
        return Some(Hindrance::of_order(what));
    }
    if keeps_data(&pod.template) && !drain.delete_empty_dirs {
        let what = format!("a drain with --delete-emptydir-data: pod `{name}` has an emptyDir");
        return Some(Hindrance::of_order(what));
    }
    let budget = budget::may_go(&draft.world, pod).err()?;
    Some(Hindrance::of_time(format!("{budget} to let pod `{name}` go")))
}

/// Data that goes with the pod.
pub fn keeps_data(template: &PodTemplate) -> bool {
    let mut volumes = template.volumes.iter();
    volumes.any(|volume| matches!(volume.source, VolumeTemplateSource::EmptyDir { .. }))
}

fn evict(draft: &mut Draft<'_>, node: &Node, drain: &Drain, pod: &Pod) {
    let what = format!("is drained by {}", drain.by);
    let reason = Reason::Node { node: node.name.clone(), what };
    pods::stop_for(EndedBy::Disruption, draft, pod, drain.grace_seconds, vec![reason]);
}

fn wait(draft: &mut Draft<'_>, key: &ObjectKey, drain: &Drain, why: Hindrance) {
    let deadline = drain.since.after(DEADLINE);
    let late = deadline <= draft.now;
    let kind = if late { WaitKind::Blocked } else { why.kind };
    draft.wait(Waiting {
        object: key.clone(),
        for_what: why.for_what,
        kind,
        deadline: (why.kind == WaitKind::Progress).then_some(deadline),
        consequence: "the pod stays where it is, and the node cordoned".to_owned(),
        unplaced: None,
    });
    if !late && why.kind == WaitKind::Progress {
        draft.wake(key, deadline);
    }
}

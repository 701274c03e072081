//! What a restored master does not know yet. Until every node has said what it runs, and what is on
//! no record has ended there, nothing is started that must not run twice.

use std::collections::BTreeSet;

use kgit_protocol::ids::PodUid;
use kgit_protocol::messages::Report;
use kgit_protocol::observation::{PodObservation, PodPhase};

use crate::domain::key::Kind;
use crate::domain::node::{Doubt, Node};
use crate::domain::record::Pod;
use crate::domain::words::counted;
use crate::domain::world::World;

const NEWCOMERS: &str =
    "nodes that joined after the backup that the master was restored from, for half a minute";

/// Why a pod has no place, though there may be room: another one like it may be running where the
/// records don't tell of it.
pub fn forbids(world: &World, pod: &Pod) -> Option<String> {
    if must_not_run_twice(pod) { waits_for(world) } else { None }
}

/// Who may still say that the records are older than what they were told.
pub fn waits_for(world: &World) -> Option<String> {
    let Some(node) = world.doubtful_nodes().next() else {
        return world.meta.listens_until.map(|_| NEWCOMERS.to_owned());
    };
    Some(format!("node `{}`, which {}", node.name, words(node.doubt.as_ref()?)))
}

/// Pods with a name of their own, and those that write to a claim.
fn must_not_run_twice(pod: &Pod) -> bool {
    matches!(pod.owner.kind, Kind::StatefulSet | Kind::Pod)
        || pod.template.claims().next().is_some()
}

/// What is not known of a node, and who can change that; goes on after the node's name.
pub fn words(doubt: &Doubt) -> String {
    match doubt {
        Doubt::Unheard { .. } => {
            "has not said yet what it runs since the master was restored; if it \
             is gone for good, remove it"
                .to_owned()
        }
        Doubt::Runs(pods) => format!(
            "runs {} not in the backup; `kgit approve restored` has that stopped",
            counted(pods.len(), "pod")
        ),
    }
}

/// What is left of a node's doubt after a report.
pub fn after(world: &World, node: &Node, report: &Report) -> Option<Doubt> {
    let doubt = node.doubt.as_ref()?;
    if !is_of_this_epoch(world, report) {
        return Some(doubt.clone());
    }
    let others: BTreeSet<PodUid> = match doubt {
        Doubt::Unheard { .. } if !report.complete => return Some(doubt.clone()),
        Doubt::Unheard { .. } => {
            let there = report.pods.iter().filter(|pod| pod.phase != PodPhase::Gone);
            there.filter(|pod| !is_on_record(world, node, pod)).map(|pod| pod.uid.clone()).collect()
        }
        Doubt::Runs(others) => {
            let still = others.iter().filter(|uid| match told(report, uid) {
                Some(pod) => pod.phase != PodPhase::Gone,
                None => !report.complete,
            });
            still.cloned().collect()
        }
    };
    (!others.is_empty()).then_some(Doubt::Runs(others))
}

/// The pods that were taken to be on a node that now says what it runs, and are not. They can't
/// come: no order for them was given since the restore.
pub fn missing<'a>(
    world: &'a World,
    node: &'a Node,
    report: &'a Report,
) -> impl Iterator<Item = &'a Pod> {
    let says = node.is_unheard() && report.complete && is_of_this_epoch(world, report);
    let there = says.then(|| world.pods_on(&node.name)).into_iter().flatten();
    let there = there.map(|row| &*row.value);
    there.filter(|pod| told(report, &pod.uid).is_none_or(|it| it.phase == PodPhase::Gone))
}

/// Made after the node had taken the first set of this epoch.
fn is_of_this_epoch(world: &World, report: &Report) -> bool {
    report.applied.as_ref().is_some_and(|stamp| stamp.epoch == world.meta.epoch)
}

fn is_on_record(world: &World, node: &Node, pod: &PodObservation) -> bool {
    world.pod_by_uid(&pod.uid).is_some_and(|pod| pod.node() == Some(&node.name))
}

fn told<'a>(report: &'a Report, uid: &PodUid) -> Option<&'a PodObservation> {
    report.pods.iter().find(|pod| pod.uid == *uid)
}

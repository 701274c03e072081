//! Where a pod goes: filters leave the nodes that can take it, scores order them, and a stable
//! hash breaks ties, so that the same input always gives the same placement.
//!
//! `filter` and `topology` say which nodes can, `score` what each is worth, `session` finds the
//! best. Making room for a pod that fits nowhere is not decided here.

mod filter;
pub mod fleet;
mod score;
pub mod session;
mod terms;
#[cfg(test)]
pub(super) mod tests;
mod topology;
mod unfit;

use std::collections::BTreeMap;

use kgit_protocol::ids::NodeName;

use crate::domain::key::ObjectKey;
use crate::domain::node::Node;
use crate::domain::record::Pod;
use crate::domain::selector::NodeTerm;
use crate::domain::template::PodTemplate;
use crate::domain::world::World;
use crate::plan::scheduler::session::Session;

/// What the scheduler asks of a node beyond what the pod's template says.
#[derive(Debug, Default)]
pub struct Constraints {
    /// Nodes that the pod's volumes are tied to; each volume must allow the node.
    pub volumes: Vec<VolumeConstraint>,
    /// What each claim can be bound to that is not bound yet, in the order in which they choose.
    pub choices: Vec<Choices>,
}

/// The static volumes that suit a claim, the best first.
#[derive(Debug)]
pub struct Choices {
    pub claim: ObjectKey,
    pub volumes: Vec<Choice>,
    /// Where none of them can be used, a volume is made.
    pub or_made: bool,
}

/// A static volume that a claim could be bound to.
#[derive(Debug)]
pub struct Choice {
    pub volume: String,
    /// `None`: it can be used from any node.
    pub on: Option<VolumeConstraint>,
}

impl Constraints {
    /// Any node will do.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.choices.is_empty()
    }
}

#[derive(Debug)]
pub enum VolumeConstraint {
    /// The data is on this node.
    On(NodeName),
    /// The volume's own node affinity.
    Matches(Vec<NodeTerm>),
}

/// The volume for each claim on a node, no volume twice; `None` if one goes without. A claim for
/// which one is to be made has none yet.
pub fn choose(choices: &[Choices], node: &Node) -> Option<BTreeMap<ObjectKey, String>> {
    let mut chosen: BTreeMap<ObjectKey, String> = BTreeMap::new();
    for of_claim in choices {
        let choice = of_claim.volumes.iter().find(|choice| {
            let reachable = choice.on.as_ref().is_none_or(|on| filter::volume_fits(on, node));
            reachable && !chosen.values().any(|taken| *taken == choice.volume)
        });
        match choice {
            Some(choice) => drop(chosen.insert(of_claim.claim.clone(), choice.volume.clone())),
            None if of_claim.or_made => {}
            None => return None,
        }
    }
    Some(chosen)
}

/// Whether a DaemonSet is to have a pod on the node: by what the node is, not by its room.
pub fn is_eligible(template: &PodTemplate, node: &Node) -> bool {
    filter::is_chosen(template, node)
}

/// Whether a DaemonSet's pod that runs on the node goes on there.
pub fn may_stay(template: &PodTemplate, node: &Node) -> bool {
    filter::may_stay(template, node)
}

/// Whether a pod must not have another one beside it, by what its own anti-affinity requires.
pub fn keeps_away(world: &World, pod: &Pod, other: &Pod) -> bool {
    let mut terms = pod.template.placement.pod_anti_affinity.iter();
    terms.any(|term| terms::term_matches(world, term, pod, other))
}

/// The node for a pod; `Err` is the one line that says why there is none. `kept` is what is known
/// from the pod before; it is used again for pods that are alike.
pub fn place(
    world: &World,
    kept: &mut Option<Session>,
    pod: &Pod,
    constraints: &Constraints,
) -> Result<NodeName, String> {
    let mut session = match kept.take() {
        Some(session) if constraints.is_empty() && session.suits(pod) => session,
        Some(session) => Session::on(session.fleet(), world, pod, constraints),
        None => Session::new(world, pod, constraints),
    };
    let answer = session.place(world);
    *kept = Some(session);
    answer
}

/// Whether a node that was written anew is to pods what it was.
pub fn is_same_place(old: &Node, new: &Node) -> bool {
    (old.labels == new.labels && old.taints == new.taints)
        && (old.is_ready(), old.unschedulable, &old.fenced)
            == (new.is_ready(), new.unschedulable, &new.fenced)
        && old.observed.capacity == new.observed.capacity
}

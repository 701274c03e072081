//! Where a pod goes: filters leave the nodes that can take it, scores order them, and a stable
//! hash breaks ties, so that the same input always gives the same placement.

mod filter;
mod score;

use std::collections::BTreeMap;

use kgit_protocol::ids::NodeName;

use crate::domain::key::ObjectKey;
use crate::domain::record::{Node, Pod};
use crate::domain::template::PodTemplate;
use crate::domain::world::World;
use crate::plan::scheduler::filter::Unfit;

/// What the scheduler asks of a node beyond what the pod's template says.
#[derive(Debug, Default)]
pub struct Constraints {
    /// Nodes that the pod's volumes are tied to; each volume must allow the node.
    pub volumes: Vec<VolumeConstraint>,
    /// For each claim that is not bound yet, the static volumes that suit it, the best first; the
    /// claims in the order in which they choose.
    pub choices: Vec<(ObjectKey, Vec<Choice>)>,
}

/// A static volume that a claim could be bound to.
#[derive(Debug)]
pub struct Choice {
    pub volume: String,
    /// `None`: it can be used from any node.
    pub on: Option<VolumeConstraint>,
}

#[derive(Debug)]
pub enum VolumeConstraint {
    /// The data is on this node.
    On(NodeName),
    /// The volume's own node affinity.
    Matches(Vec<crate::domain::selector::Selector>),
}

/// The volume for each claim on a node, no volume twice; `None` if one goes without.
pub fn choose(
    choices: &[(ObjectKey, Vec<Choice>)],
    node: &Node,
) -> Option<BTreeMap<ObjectKey, String>> {
    let mut chosen: BTreeMap<ObjectKey, String> = BTreeMap::new();
    for (claim, volumes) in choices {
        let choice = volumes.iter().find(|choice| {
            let reachable = choice.on.as_ref().is_none_or(|on| filter::volume_fits(on, node));
            reachable && !chosen.values().any(|taken| *taken == choice.volume)
        })?;
        chosen.insert(claim.clone(), choice.volume.clone());
    }
    Some(chosen)
}

/// Whether a DaemonSet is to have a pod on the node: by what the node is, not by its room.
pub fn is_eligible(template: &PodTemplate, node: &Node) -> bool {
    filter::is_chosen(template, node)
}

/// The node for a pod; `Err` is the one line that says why there is none.
pub fn place(world: &World, pod: &Pod, constraints: &Constraints) -> Result<NodeName, String> {
    let mut best: Option<(i64, u64, &Node)> = None;
    let mut unfit: BTreeMap<Unfit, usize> = BTreeMap::new();
    for node in world.nodes.values() {
        match filter::fits(world, pod, node, constraints) {
            Err(why) => *unfit.entry(why).or_default() += 1,
            Ok(load) => {
                let tie = crate::plan::names::stable_hash(&[pod.uid.as_str(), node.name.as_str()]);
                let candidate = (score::score(world, pod, node, &load), tie, &**node);
                if best.is_none_or(|(score, tie, _)| (candidate.0, candidate.1) > (score, tie)) {
                    best = Some(candidate);
                }
            }
        }
    }
    match best {
        Some((_, _, node)) => Ok(node.name.clone()),
        None => Err(refusal(world.nodes.len(), &unfit)),
    }
}

/// `0/3 nodes are available: 1 not ready, 2 with too little cpu`.
fn refusal(total: usize, unfit: &BTreeMap<Unfit, usize>) -> String {
    if total == 0 {
        return "0/0 nodes are available: no node has joined yet".to_owned();
    }
    let reasons: Vec<String> = unfit.iter().map(|(why, count)| format!("{count} {why}")).collect();
    format!("0/{total} nodes are available: {}", reasons.join(", "))
}

//! Which nodes can take a pod, by the node alone: its name, its taints, its labels, its room. What
//! depends on the pods of other nodes is in `topology`.

use crate::domain::load::{Load, Requests};
use crate::domain::node::Node;
use crate::domain::record::Pod;
use crate::domain::selector::has_all;
use crate::domain::template::{CORDONED, NOT_READY, Placement, PodTemplate, Taint, effect};
use crate::domain::world::World;
use crate::plan::scheduler::unfit::Unfit;
use crate::plan::scheduler::{Constraints, VolumeConstraint, choose};

/// Whether the node may take the pod at all, however full it is.
pub fn admits(pod: &Pod, node: &Node, constraints: &Constraints) -> Result<(), Unfit> {
    let placement = &pod.template.placement;
    if (node.unschedulable && !is_tolerated(placement, &CORDONED)) || node.fenced.is_some() {
        return Err(Unfit::Cordoned);
    }
    if placement.node_name.as_ref().is_some_and(|name| *name != node.name.as_str()) {
        return Err(Unfit::OtherNodeNamed);
    }
    if pod.pinned.as_ref().is_some_and(|name| *name != node.name) {
        return Err(Unfit::Labels);
    }
    can_take(node)?;
    if let Some(taint) = untolerated(placement, node) {
        return Err(Unfit::Taint { key: taint.key.to_owned(), value: taint.value.to_owned() });
    }
    if !selects(placement, node) {
        return Err(Unfit::Labels);
    }
    if !constraints.volumes.iter().all(|volume| volume_fits(volume, node)) {
        return Err(Unfit::VolumeElsewhere);
    }
    if choose(&constraints.choices, node).is_none() {
        return Err(Unfit::NoVolume);
    }
    Ok(())
}

/// What the node is suits the template, whatever runs there and whether or not it is heard of.
pub fn is_chosen(template: &PodTemplate, node: &Node) -> bool {
    let placement = &template.placement;
    let named = &placement.node_name;
    named.as_ref().is_none_or(|name| *name == node.name.as_str())
        && untolerated(placement, node).is_none()
        && selects(placement, node)
}

/// What is there already stays, unless the node is not meant for it at all or drives it away.
/// Source: `NodeShouldRunDaemonPod` of `daemon_controller.go`.
pub fn may_stay(template: &PodTemplate, node: &Node) -> bool {
    let placement = &template.placement;
    let named = &placement.node_name;
    let mut taints = node.taints.iter().map(|taint| taint.as_taint());
    let driven =
        taints.any(|taint| taint.effect == effect::NO_EXECUTE && !is_tolerated(placement, &taint));
    named.as_ref().is_none_or(|name| *name == node.name.as_str())
        && !driven
        && selects(placement, node)
}

/// Nothing goes where nobody listens or nothing runs, whatever the pod tolerates.
fn can_take(node: &Node) -> Result<(), Unfit> {
    let taint = match (node.lost(), node.heard) {
        (Some((taint, _)), _) => taint,
        (None, Some(true)) if node.observed.capacity.pods > 0 && !node.is_unheard() => {
            return Ok(());
        }
        // A node that has joined but not told of itself yet has no capacity to judge by. After a
        // restore, what it says it runs is taken for all that it was ordered to.
        (None, _) => NOT_READY,
    };
    Err(Unfit::Taint { key: taint.key.to_owned(), value: String::new() })
}

/// Whether nothing that the node has against pods keeps this one away, what follows from its
/// state included: what spreading means by a node's taints.
pub fn tolerates_all(placement: &Placement, node: &Node) -> bool {
    let all = node.all_taints().map(|(taint, _)| taint);
    // Upstream has such a node tainted twice.
    let lost = node.lost().map(|(taint, _)| Taint { effect: effect::NO_SCHEDULE, ..taint });
    let mut taints = all.chain(lost).filter(keeps_away);
    taints.all(|taint| is_tolerated(placement, &taint))
}

/// A taint that keeps the pod away.
pub fn untolerated<'n>(placement: &Placement, node: &'n Node) -> Option<Taint<'n>> {
    let mut taints = node.taints.iter().map(|taint| taint.as_taint()).filter(keeps_away);
    taints.find(|taint| !is_tolerated(placement, taint))
}

fn keeps_away(taint: &Taint<'_>) -> bool {
    matches!(taint.effect, effect::NO_SCHEDULE | effect::NO_EXECUTE)
}

/// How many of the node's taints speak against the pod without keeping it away.
pub fn avoided(placement: &Placement, node: &Node) -> i64 {
    let taints = node.taints.iter().map(|taint| taint.as_taint());
    let taints = taints.filter(|taint| taint.effect == effect::PREFER_NO_SCHEDULE);
    let count = taints.filter(|taint| !is_tolerated(placement, taint)).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn is_tolerated(placement: &Placement, taint: &Taint<'_>) -> bool {
    placement.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The pod's nodeSelector and its required node affinity.
pub fn selects(placement: &Placement, node: &Node) -> bool {
    let matches =
        |term: &crate::domain::selector::NodeTerm| term.matches(node.name.as_str(), &node.labels);
    has_all(&node.labels, &placement.node_selector)
        && (placement.node_affinity.is_empty() || placement.node_affinity.iter().any(matches))
}

pub fn volume_fits(volume: &VolumeConstraint, node: &Node) -> bool {
    match volume {
        VolumeConstraint::On(name) => *name == node.name,
        VolumeConstraint::Matches(terms) => {
            terms.iter().any(|term| term.matches(node.name.as_str(), &node.labels))
        }
    }
}

/// The load that the node would have with the pod, if there is room for it. Room that is being
/// made for a pod of the same or a higher priority is that pod's.
pub fn room(world: &World, pod: &Pod, wanted: &Requests, node: &Node) -> Result<Load, Vec<Unfit>> {
    let mut load = world.load_of(&node.name).cloned().unwrap_or_default();
    if world.has_promises() {
        for other in world.promised_to(&node.name) {
            if other.key != pod.key && other.priority >= pod.priority {
                load.add(&crate::domain::load::requests(&other.template));
            }
        }
    }
    let taken = |port| load.ports.iter().any(|other| other.clashes_with(port));
    if wanted.ports.iter().any(taken) {
        return Err(vec![Unfit::HostPortTaken]);
    }
    load.add(wanted);
    let (capacity, asked) = (&node.observed.capacity, load.asked);
    // What asks for nothing fits on a node that is full.
    let lacks = |wanted: u64, asked: u64, capacity: u64| wanted > 0 && asked > capacity;
    let lacking = [
        (Unfit::TooManyPods, load.pods > capacity.pods),
        (Unfit::Cpu, lacks(wanted.asked.cpu_millis, asked.cpu_millis, capacity.cpu_millis)),
        (
            Unfit::Memory,
            lacks(wanted.asked.memory_bytes, asked.memory_bytes, capacity.memory_bytes),
        ),
    ];
    if lacking.iter().any(|(_, lacks)| *lacks) {
        return Err(lacking.into_iter().filter(|(_, lacks)| *lacks).map(|(why, _)| why).collect());
    }
    Ok(load)
}

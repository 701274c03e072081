//! Which nodes can take a pod at all.

use std::fmt;

use kgit_protocol::pod::{ContainerPort, Resources};

use crate::domain::record::{Node, Pod};
use crate::domain::selector::{Labels, has_all};
use crate::domain::template::{PodTemplate, Taint};
use crate::domain::world::World;
use crate::plan::scheduler::{Constraints, VolumeConstraint, choose};

/// Why a node can't take the pod; counted in the line that says why a pod is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    OtherNodeNamed,
    NotItsNode,
    NotReady,
    Cordoned,
    Labels,
    VolumeElsewhere,
    NoVolume,
    HostPortTaken,
    TooManyPods,
    Cpu,
    Memory,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherNodeNamed => "not named by spec.nodeName",
            Self::NotItsNode => "not the one that the pod is for",
            Self::NotReady => "not ready",
            Self::Cordoned => "cordoned",
            Self::Labels => "without the labels that it selects",
            Self::VolumeElsewhere => "without the volume's data",
            Self::NoVolume => "without a volume for every claim",
            Self::HostPortTaken => "with the host port taken",
            Self::TooManyPods => "full of pods",
            Self::Cpu => "with too little cpu",
            Self::Memory => "with too little memory",
        })
    }
}

/// What the node's pods ask for together, the new one included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub pods: u32,
}

/// What a cordon is to pods.
const CORDONED: Taint<'_> =
    Taint { key: "node.kubernetes.io/unschedulable", value: "", effect: "NoSchedule" };

/// The load that the node would have with the pod, if it can take it.
pub fn fits(
    world: &World,
    pod: &Pod,
    node: &Node,
    constraints: &Constraints,
) -> Result<Load, Unfit> {
    let placement = &pod.template.placement;
    if placement.node_name.as_ref().is_some_and(|name| *name != node.name.as_str()) {
        return Err(Unfit::OtherNodeNamed);
    }
    if pod.pinned.as_ref().is_some_and(|name| *name != node.name) {
        return Err(Unfit::NotItsNode);
    }
    // A node that has joined but not told of itself yet has no capacity to judge by.
    if node.ready != Some(true) || node.observed.capacity.pods == 0 {
        return Err(Unfit::NotReady);
    }
    let tolerated = || placement.tolerations.iter().any(|it| it.tolerates(&CORDONED));
    if node.unschedulable && !tolerated() {
        return Err(Unfit::Cordoned);
    }
    if !labels_fit(&pod.template, &node.labels) {
        return Err(Unfit::Labels);
    }
    if !constraints.volumes.iter().all(|volume| volume_fits(volume, node)) {
        return Err(Unfit::VolumeElsewhere);
    }
    if choose(&constraints.choices, node).is_none() {
        return Err(Unfit::NoVolume);
    }
    room(world, pod, node)
}

/// The template names the node, or chooses it by its labels.
pub fn is_chosen(template: &PodTemplate, node: &Node) -> bool {
    let named = &template.placement.node_name;
    named.as_ref().is_none_or(|name| *name == node.name.as_str())
        && labels_fit(template, &node.labels)
}

fn labels_fit(template: &PodTemplate, labels: &Labels) -> bool {
    let placement = &template.placement;
    let selected = has_all(labels, &placement.node_selector);
    let affine = placement.node_affinity.is_empty()
        || placement.node_affinity.iter().any(|term| term.matches(labels));
    selected && affine
}

pub fn volume_fits(volume: &VolumeConstraint, node: &Node) -> bool {
    match volume {
        VolumeConstraint::On(name) => *name == node.name,
        VolumeConstraint::Matches(terms) => terms.iter().any(|term| term.matches(&node.labels)),
    }
}

fn room(world: &World, pod: &Pod, node: &Node) -> Result<Load, Unfit> {
    let wanted_ports = host_ports(&pod.template);
    let mut load = requested(&pod.template);
    for other in world.pods_on(&node.name).filter(|other| !other.is_finished()) {
        let taken = host_ports(&other.template);
        if taken.iter().any(|port| wanted_ports.iter().any(|wanted| clash(wanted, port))) {
            return Err(Unfit::HostPortTaken);
        }
        let theirs = requested(&other.template);
        load.cpu_millis += theirs.cpu_millis;
        load.memory_bytes += theirs.memory_bytes;
        load.pods += theirs.pods;
    }
    let capacity = &node.observed.capacity;
    if load.pods > capacity.pods {
        return Err(Unfit::TooManyPods);
    }
    if load.cpu_millis > capacity.cpu_millis {
        return Err(Unfit::Cpu);
    }
    if load.memory_bytes > capacity.memory_bytes {
        return Err(Unfit::Memory);
    }
    Ok(load)
}

fn host_ports(template: &PodTemplate) -> Vec<&ContainerPort> {
    let ports = template.all_containers().flat_map(|container| &container.ports);
    ports.filter(|port| port.host_port.is_some()).collect()
}

/// Whether two pods of one node can't both have what they ask for.
fn clash(one: &ContainerPort, other: &ContainerPort) -> bool {
    let is_same = (one.host_port, one.protocol) == (other.host_port, other.protocol);
    let every = |port: &ContainerPort| port.host_ip.as_deref().is_none_or(|ip| ip == "0.0.0.0");
    is_same && (every(one) || every(other) || one.host_ip == other.host_ip)
}

/// Requests of a pod: containers and sidecars together, or the largest other init container.
fn requested(template: &PodTemplate) -> Load {
    let sum = |of: fn(&Resources) -> Option<u64>| {
        let long = template.containers.iter().chain(sidecars(template));
        let long: u64 = long.filter_map(|container| of(&container.resources)).sum();
        let init = template.init_containers.iter().filter(|container| !container.sidecar);
        init.filter_map(|container| of(&container.resources)).max().unwrap_or(0).max(long)
    };
    Load {
        cpu_millis: sum(|resources| resources.cpu_request_millis),
        memory_bytes: sum(|resources| resources.memory_request_bytes),
        pods: 1,
    }
}

fn sidecars(
    template: &PodTemplate,
) -> impl Iterator<Item = &crate::domain::template::ContainerTemplate> {
    template.init_containers.iter().filter(|container| container.sidecar)
}

#[cfg(test)]
mod tests {
    use kgit_protocol::pod::Protocol;

    use super::*;

    fn port(number: u16, protocol: Protocol, ip: Option<&str>) -> ContainerPort {
        let host_ip = ip.map(str::to_owned);
        ContainerPort { name: None, port: 80, protocol, host_port: Some(number), host_ip }
    }

    #[test]
    fn ports_clash_by_number_protocol_and_address() {
        let wanted = port(80, Protocol::Tcp, Some("10.0.0.1"));
        for (other, expected) in [
            (port(80, Protocol::Tcp, Some("10.0.0.1")), true),
            (port(80, Protocol::Tcp, None), true),
            (port(80, Protocol::Tcp, Some("0.0.0.0")), true),
            (port(80, Protocol::Tcp, Some("10.0.0.2")), false),
            (port(80, Protocol::Udp, Some("10.0.0.1")), false),
            (port(81, Protocol::Tcp, None), false),
        ] {
            assert_eq!(clash(&wanted, &other), expected, "{other:?}");
            assert_eq!(clash(&other, &wanted), expected, "{other:?}");
        }
    }
}

//! What pods ask of a node, and what a node has given away: amounts and ports, not places.

use kgit_protocol::pod::{Protocol, Resources};

use crate::domain::template::{ContainerTemplate, PodTemplate};

/// What a container without a request counts as where nodes are compared, so that pods that ask
/// for nothing do not all end up on one node. Source: upstream's `scheduler/util`
/// (`DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const ASSUMED_CPU_MILLIS: u64 = 100;
const ASSUMED_MEMORY_BYTES: u64 = 200 << 20;

/// cpu and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

/// What one pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub asked: Amounts,
    /// The same, with something assumed for containers that ask for nothing.
    pub assumed: Amounts,
    pub ports: Vec<HostPort>,
}

/// A port of the host that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub port: u16,
    pub protocol: Protocol,
    /// Empty: every address of the host.
    pub address: String,
}

/// What the pods of a node ask for together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub asked: Amounts,
    pub assumed: Amounts,
    pub pods: u32,
    pub ports: Vec<HostPort>,
}

impl HostPort {
    pub fn clashes_with(&self, other: &Self) -> bool {
        let address =
            self.address == other.address || self.address.is_empty() || other.address.is_empty();
        self.port == other.port && self.protocol == other.protocol && address
    }
}

impl Load {
    pub fn add(&mut self, requests: &Requests) {
        self.asked.add(requests.asked);
        self.assumed.add(requests.assumed);
        self.pods += 1;
        self.ports.extend(requests.ports.iter().cloned());
    }

    pub fn take(&mut self, requests: &Requests) {
        self.asked.take(requests.asked);
        self.assumed.take(requests.assumed);
        self.pods -= 1;
        for port in &requests.ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

impl Amounts {
    fn add(&mut self, other: Self) {
        self.cpu_millis = self.cpu_millis.saturating_add(other.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
    }

    fn take(&mut self, other: Self) {
        self.cpu_millis = self.cpu_millis.saturating_sub(other.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
    }
}

/// Containers and sidecars together, or the largest other init container. Source: upstream's
/// `component-helpers/resource` (`PodRequests`), without its subtler order of sidecars.
pub fn requests(template: &PodTemplate) -> Requests {
    let asked = |resources: &Resources| Amounts {
        cpu_millis: resources.cpu_request_millis.unwrap_or(0),
        memory_bytes: resources.memory_request_bytes.unwrap_or(0),
    };
    let assumed = |resources: &Resources| Amounts {
        cpu_millis: resources.cpu_request_millis.unwrap_or(ASSUMED_CPU_MILLIS),
        memory_bytes: resources.memory_request_bytes.unwrap_or(ASSUMED_MEMORY_BYTES),
    };
    Requests {
        asked: together(template, asked),
        assumed: together(template, assumed),
        ports: host_ports(template).collect(),
    }
}

fn together(template: &PodTemplate, of: impl Fn(&Resources) -> Amounts) -> Amounts {
    let mut sum = Amounts::default();
    let is_long = |container: &&ContainerTemplate| container.sidecar;
    let sidecars = template.init_containers.iter().filter(is_long);
    for container in template.containers.iter().chain(sidecars) {
        sum.add(of(&container.resources));
    }
    for container in template.init_containers.iter().filter(|container| !container.sidecar) {
        let alone = of(&container.resources);
        sum.cpu_millis = sum.cpu_millis.max(alone.cpu_millis);
        sum.memory_bytes = sum.memory_bytes.max(alone.memory_bytes);
    }
    sum
}

fn host_ports(template: &PodTemplate) -> impl Iterator<Item = HostPort> + use<'_> {
    let ports = template.all_containers().flat_map(|container| &container.ports);
    ports.filter_map(|port| {
        let address = port.host_ip.clone().filter(|address| address != "0.0.0.0");
        Some(HostPort {
            port: port.host_port?,
            protocol: port.protocol,
            address: address.unwrap_or_default(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16, address: &str) -> HostPort {
        HostPort { port, protocol: Protocol::Tcp, address: address.to_owned() }
    }

    #[test]
    fn ports_clash_where_their_addresses_meet() {
        assert!(port(80, "").clashes_with(&port(80, "10.0.0.1")));
        assert!(port(80, "10.0.0.1").clashes_with(&port(80, "10.0.0.1")));
        assert!(!port(80, "10.0.0.1").clashes_with(&port(80, "10.0.0.2")));
        assert!(!port(80, "").clashes_with(&port(81, "")));
        let udp = HostPort { protocol: Protocol::Udp, ..port(80, "") };
        assert!(!port(80, "").clashes_with(&udp));
    }

    #[test]
    fn what_is_taken_back_is_what_was_given() {
        let requests = Requests { ports: vec![port(80, "")], ..Requests::default() };
        let mut load = Load::default();
        load.add(&requests);
        load.take(&requests);
        assert_eq!(load, Load::default());
    }
}

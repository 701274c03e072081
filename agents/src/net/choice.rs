//! Which endpoints a service's connections go to now: pure. The directory says what is behind a
//! service; of its own pods the node knows better, and goes by that.

use std::net::{Ipv4Addr, SocketAddrV4};

use kgit_protocol::directory::{
    Backend, Directory, Endpoint, Service, ServiceAddress, ServiceName, TrafficPolicy,
};
use kgit_protocol::pod::Protocol;

use crate::net::wire::Here;

/// One port of a service, and where its connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    pub service: ServiceName,
    pub protocol: Protocol,
    pub port: u16,
    /// `None` for a headless service: only its names lead anywhere.
    pub address: Option<Ipv4Addr>,
    pub node_port: Option<u16>,
    pub external: Vec<Ipv4Addr>,
    /// The port is open at the node's own addresses as well.
    pub on_node: bool,
    pub affinity_seconds: Option<u32>,
    /// For connections to the cluster address.
    pub inner: Targets,
    /// For connections to node ports and other addresses from outside.
    pub outer: Targets,
}

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    Endpoints(Vec<Target>),
    Master,
}

impl Targets {
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Endpoints(targets) if targets.is_empty())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub at: SocketAddrV4,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A pod of this node.
    Here,
    /// An address that a manifest lists, which the host's routes lead to.
    Listed,
}

/// An endpoint with what this node knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    pub endpoint: &'a Endpoint,
    pub address: Ipv4Addr,
    pub reach: Reach,
    ready: bool,
    serving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Here,
    Listed,
    /// A pod of another node. Rules lead to none of these: what carries traffic between nodes
    /// will.
    OtherNode,
}

/// Every port of every service with its targets, in order of names.
pub fn leads(directory: &Directory, here: &Here) -> Vec<Lead> {
    let all = directory.services.iter();
    all.flat_map(|(name, listed)| of_service(name, &listed.service, here)).collect()
}

fn of_service(name: &ServiceName, service: &Service, here: &Here) -> Vec<Lead> {
    let address = match &service.address {
        ServiceAddress::Cluster(address) => Some(*address),
        ServiceAddress::Headless => None,
        ServiceAddress::ExternalName(_) => return Vec::new(),
    };
    let ports = service.ports.iter().enumerate();
    ports
        .filter(|(_, port)| port.protocol != Protocol::Sctp)
        .map(|(index, port)| Lead {
            service: name.clone(),
            protocol: port.protocol,
            port: port.port,
            address,
            node_port: port.node_port,
            external: service.external_addresses.clone(),
            on_node: service.on_node_addresses,
            affinity_seconds: service.affinity_seconds,
            inner: targets(service, index, service.internal_traffic, here),
            outer: targets(service, index, service.external_traffic, here),
        })
        .collect()
}

fn targets(service: &Service, port: usize, policy: TrafficPolicy, here: &Here) -> Targets {
    if service.backend == Backend::Master {
        return Targets::Master;
    }
    let of_port = |found: &Found<'_>| found.endpoint.targets.get(port).copied().flatten();
    let place = |reach| match (reach, policy) {
        (Reach::Here, _) => Some(Place::Here),
        (Reach::Listed, TrafficPolicy::Cluster) => Some(Place::Listed),
        (Reach::Listed, TrafficPolicy::Local) | (Reach::OtherNode, _) => None,
    };
    let candidates: Vec<Found<'_>> = known(service, here)
        .filter(|found| of_port(found).is_some() && place(found.reach).is_some())
        .collect();
    let mut chosen: Vec<Target> = chosen(candidates, service.publish_not_ready)
        .iter()
        .filter_map(|found| {
            let at = SocketAddrV4::new(found.address, of_port(found)?);
            Some(Target { at, place: place(found.reach)? })
        })
        .collect();
    chosen.sort();
    chosen.dedup();
    Targets::Endpoints(chosen)
}

/// The endpoints that a service's names lead to.
pub fn named<'a>(service: &'a Service, here: &Here) -> Vec<Found<'a>> {
    chosen(known(service, here).collect(), service.publish_not_ready)
}

/// Those that are ready; if none is, those that still serve while they are being stopped.
fn chosen(all: Vec<Found<'_>>, publish_not_ready: bool) -> Vec<Found<'_>> {
    if publish_not_ready {
        return all;
    }
    let any_ready = all.iter().any(|found| found.ready);
    all.into_iter().filter(|found| if any_ready { found.ready } else { found.serving }).collect()
}

/// A service's endpoints, those of this node as the node knows them.
fn known<'a>(service: &'a Service, here: &Here) -> impl Iterator<Item = Found<'a>> {
    let endpoints = match &service.backend {
        Backend::Endpoints(endpoints) => endpoints.as_slice(),
        Backend::Master => &[],
    };
    endpoints.iter().filter_map(|endpoint| find(endpoint, here))
}

/// `None` for a pod of this node that is no longer there.
fn find<'a>(endpoint: &'a Endpoint, here: &Here) -> Option<Found<'a>> {
    let (ready, serving) = (endpoint.ready, endpoint.serving);
    let listed = |reach| Found { endpoint, address: endpoint.address, reach, ready, serving };
    match (&endpoint.node, &endpoint.pod) {
        (None, _) => Some(listed(Reach::Listed)),
        (Some(node), _) if *node != here.node => Some(listed(Reach::OtherNode)),
        (Some(_), None) => Some(listed(Reach::Here)),
        (Some(_), Some(uid)) => {
            let pod = here.pods.get(uid)?;
            Some(Found {
                endpoint,
                address: pod.address.unwrap_or(endpoint.address),
                reach: Reach::Here,
                ready: pod.ready && !pod.terminating,
                serving: pod.ready,
            })
        }
    }
}

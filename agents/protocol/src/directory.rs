//! The directory: every service of the cluster and what is behind it. It is derived from what the
//! master has on record, versioned, and the same for all nodes, so that a pod's readiness rewrites
//! no assignment. A node knows its own pods better than the directory does, and goes by that.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, NodeName, PodUid, hex};
use crate::pod::Protocol;

/// Everything that traffic and names need to know of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// [`content_digest`] of the rest: names this version.
    pub digest: Digest,
    /// The DNS domain, `cluster.local`.
    pub domain: String,
    /// Where cluster addresses come from. An address in it that no service has is refused.
    pub service_range: Ipv4Net,
    /// By `namespace/name`.
    pub services: BTreeMap<ServiceName, ListedService>,
}

/// A service with the digest that the master computed of it. An older agent, which drops fields it
/// does not know, must not compute it again: it would get another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedService {
    pub digest: Digest,
    pub service: Service,
}

/// `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceName(String);

impl ServiceName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Namespace and name.
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub address: ServiceAddress,
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    pub backend: Backend,
    /// Connections of one client address go to one endpoint for so long after the last.
    #[serde(default)]
    pub affinity_seconds: Option<u32>,
    /// Names and traffic lead to endpoints that are not ready as well.
    #[serde(default)]
    pub publish_not_ready: bool,
    /// More addresses at which every node takes this service's traffic: `externalIPs`.
    #[serde(default)]
    pub external_addresses: Vec<Ipv4Addr>,
    /// Every node takes the service's own ports at its own addresses: a LoadBalancer's.
    #[serde(default)]
    pub on_node_addresses: bool,
    #[serde(default)]
    pub internal_traffic: TrafficPolicy,
    #[serde(default)]
    pub external_traffic: TrafficPolicy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceAddress {
    Cluster(Ipv4Addr),
    /// `clusterIP: None`: its name resolves to the endpoints.
    Headless,
    /// Another name, told as CNAME.
    ExternalName(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub protocol: Protocol,
    pub port: u16,
    #[serde(default)]
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    Endpoints(Vec<Endpoint>),
    /// The master's own API, which every agent knows how to reach: the `kubernetes` service.
    Master,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    /// Where the address is reached from; `None` for one that a manifest lists.
    #[serde(default)]
    pub node: Option<NodeName>,
    #[serde(default)]
    pub pod: Option<PodUid>,
    /// The label before the service's name under which this endpoint alone resolves.
    #[serde(default)]
    pub hostname: Option<String>,
    /// One for each of the service's ports, in that order; `None` where the pod has no port of the
    /// name that the service asks for.
    pub targets: Vec<Option<u16>>,
    pub ready: bool,
    /// Ready but for being stopped: what is left when no endpoint is ready.
    pub serving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    /// Endpoints on the node that the traffic came to, or none.
    Local,
}

/// What is new in the directory since the version that a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryChange {
    Whole(Directory),
    Delta(DirectoryDelta),
}

/// The way from one version to another, for a node that has the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryDelta {
    pub base: Digest,
    pub next: Digest,
    #[serde(default)]
    pub changed: BTreeMap<ServiceName, ListedService>,
    #[serde(default)]
    pub removed: Vec<ServiceName>,
}

impl Service {
    /// The digest of the service's canonical JSON.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a Service has only string keys"))
    }
}

impl Directory {
    pub fn content_digest(&self) -> Digest {
        content_digest(&self.domain, self.service_range, &self.services)
    }

    /// The version that `delta` leads to. `None` if the delta is for another base or does not lead
    /// where it says; the caller then asks for the whole directory.
    pub fn apply(&self, delta: DirectoryDelta) -> Option<Self> {
        if delta.base != self.digest {
            return None;
        }
        let mut next = Self { digest: delta.next, ..self.clone() };
        for name in &delta.removed {
            next.services.remove(name);
        }
        next.services.extend(delta.changed);
        (next.content_digest() == next.digest).then_some(next)
    }
}

/// The digest of a directory's content, from each service's name and digest, in order of names.
pub fn content_digest<'a>(
    domain: &str,
    range: Ipv4Net,
    services: impl IntoIterator<Item = (&'a ServiceName, &'a ListedService)>,
) -> Digest {
    let mut hash = Sha256::new();
    hash.update(format!("{domain} {range}\n"));
    for (name, listed) in services {
        hash.update(format!("{name} {}\n", listed.digest));
    }
    Digest::new(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(ports: &[u16]) -> Directory {
        let services = ports.iter().map(|port| {
            let service = Service {
                address: ServiceAddress::Headless,
                ports: vec![ServicePort {
                    name: None,
                    protocol: Protocol::Tcp,
                    port: *port,
                    node_port: None,
                }],
                backend: Backend::Endpoints(Vec::new()),
                affinity_seconds: None,
                publish_not_ready: false,
                external_addresses: Vec::new(),
                on_node_addresses: false,
                internal_traffic: TrafficPolicy::Cluster,
                external_traffic: TrafficPolicy::Cluster,
            };
            let name = ServiceName::new("default", &format!("s{port}"));
            (name, ListedService { digest: service.digest(), service })
        });
        let mut directory = Directory {
            digest: Digest::new(""),
            domain: "cluster.local".to_owned(),
            service_range: "10.96.0.0/16".parse().unwrap(),
            services: services.collect(),
        };
        directory.digest = directory.content_digest();
        directory
    }

    fn delta(base: &Directory, next: &Directory, removed: &[u16]) -> DirectoryDelta {
        let new = next.services.iter().filter(|(name, _)| !base.services.contains_key(*name));
        DirectoryDelta {
            base: base.digest.clone(),
            next: next.digest.clone(),
            changed: new.map(|(name, listed)| (name.clone(), listed.clone())).collect(),
            removed: removed
                .iter()
                .map(|port| ServiceName::new("default", &format!("s{port}")))
                .collect(),
        }
    }

    #[test]
    fn a_delta_leads_from_its_base_and_from_nowhere_else() {
        let (first, second) = (directory(&[1, 2]), directory(&[2, 3]));
        let way = delta(&first, &second, &[1]);
        assert_eq!(first.apply(way.clone()), Some(second.clone()));
        assert_eq!(second.apply(way), None);
    }

    #[test]
    fn a_delta_that_does_not_lead_where_it_says_is_refused() {
        let (first, second) = (directory(&[1, 2]), directory(&[2, 3]));
        assert_eq!(first.apply(delta(&first, &second, &[])), None);
    }
}

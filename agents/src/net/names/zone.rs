//! The cluster's names and what they mean: pure. The names are those of Kubernetes'
//! [DNS specification](https://github.com/kubernetes/dns/blob/master/docs/specification.md).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use kgit_protocol::directory::{Directory, Service, ServiceAddress, ServiceName};
use kgit_protocol::pod::Protocol;

use crate::net::choice::{Found, named};
use crate::net::wire::Here;

/// Everything that this node knows names for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    /// Names are kept from their last label to their first, so that all below a name follow it.
    names: BTreeMap<String, Vec<Data>>,
    ranges: Vec<Ipv4Net>,
}

/// One thing that a name means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    Address(Ipv4Addr),
    /// Another name: of an ExternalName service.
    Alias(String),
    Port {
        port: u16,
        target: String,
    },
    /// The name of an address.
    Pointer(String),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Address,
    Port,
    Pointer,
    /// Only the name itself is looked at.
    Alias,
    /// Everything that is known.
    Any,
    /// Something that no name here has, such as an IPv6 address.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Data(Vec<Data>),
    /// Ask for the same kind at this name.
    Alias(String),
    /// The name is known, and has nothing of the kind.
    NoData,
    /// There is no such name, and nobody else may know it.
    NoName,
    /// Not the cluster's.
    Elsewhere,
}

impl Zone {
    pub fn new(directory: &Directory, here: &Here) -> Self {
        let domain = directory.domain.trim_end_matches('.').to_ascii_lowercase();
        let ranges = vec![directory.service_range, here.pod_range];
        let mut zone = Self { domain, names: BTreeMap::new(), ranges };
        for apex in ["", "svc.", "pod."] {
            zone.names.entry(key(&format!("{apex}{}", zone.domain))).or_default();
        }
        for (name, listed) in &directory.services {
            zone.service(name, &listed.service, here);
        }
        for data in zone.names.values_mut() {
            data.sort();
            data.dedup();
        }
        zone
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `name` without the dot at its end, in any case.
    pub fn answer(&self, name: &str, kind: Kind) -> Answer {
        let name = name.to_ascii_lowercase();
        if let Some(address) = reverse(&name) {
            return self.pointer(&name, address, kind);
        }
        if !self.is_within(&name) {
            return Answer::Elsewhere;
        }
        if let Some(address) = self.pod_address(&name) {
            let data = vec![Data::Address(address)];
            return if matches!(kind, Kind::Address | Kind::Any) {
                Answer::Data(data)
            } else {
                Answer::NoData
            };
        }
        self.known(&name, kind)
    }

    fn is_within(&self, name: &str) -> bool {
        let above = name.strip_suffix(self.domain.as_str());
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    fn known(&self, name: &str, kind: Kind) -> Answer {
        let key = key(name);
        let Some(all) = self.names.get(&key) else {
            let below = format!("{key}.");
            let mut after = self.names.range(below.clone()..);
            let has_some = after.next().is_some_and(|(next, _)| next.starts_with(&below));
            return if has_some { Answer::NoData } else { Answer::NoName };
        };
        if kind != Kind::Alias
            && let [Data::Alias(target)] = all.as_slice()
        {
            return Answer::Alias(target.clone());
        }
        let fits = |data: &&Data| match kind {
            Kind::Address => matches!(data, Data::Address(_)),
            Kind::Port => matches!(data, Data::Port { .. }),
            Kind::Pointer => matches!(data, Data::Pointer(_)),
            Kind::Alias => matches!(data, Data::Alias(_)),
            Kind::Any => true,
            Kind::Other => false,
        };
        let fitting: Vec<Data> = all.iter().filter(fits).cloned().collect();
        if fitting.is_empty() { Answer::NoData } else { Answer::Data(fitting) }
    }

    fn pointer(&self, name: &str, address: Ipv4Addr, kind: Kind) -> Answer {
        match self.known(name, kind) {
            Answer::NoName if self.ranges.iter().any(|range| range.contains(&address)) => {
                Answer::NoName
            }
            Answer::NoName => Answer::Elsewhere,
            known => known,
        }
    }

    /// `10-1-2-3.NAMESPACE.pod.DOMAIN` says itself what it means.
    fn pod_address(&self, name: &str) -> Option<Ipv4Addr> {
        let above = name.strip_suffix(self.domain.as_str())?.strip_suffix(".pod.")?;
        let (dashed, namespace) = above.split_once('.')?;
        let is_address = dashed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let address = dashed.replace('-', ".").parse().ok()?;
        (is_address && !namespace.contains('.')).then_some(address)
    }

    fn service(&mut self, name: &ServiceName, service: &Service, here: &Here) {
        let (namespace, short) = name.parts();
        let own = format!("{short}.{namespace}.svc.{}", self.domain);
        match &service.address {
            ServiceAddress::ExternalName(other) => {
                let other = other.trim_end_matches('.').to_ascii_lowercase();
                self.add(&own, Data::Alias(other));
            }
            ServiceAddress::Cluster(address) => {
                self.add(&own, Data::Address(*address));
                self.add(&reversed(*address), Data::Pointer(own.clone()));
                for port in &service.ports {
                    let target = own.clone();
                    self.port(&own, port.name.as_deref(), port.protocol, port.port, target);
                }
                // By name, each endpoint is found behind such a service as well.
                self.endpoints(&own, service, here, false);
            }
            ServiceAddress::Headless => {
                // Known even while it has no endpoint.
                self.names.entry(key(&own)).or_default();
                self.endpoints(&own, service, here, true);
            }
        }
    }

    fn endpoints(&mut self, own: &str, service: &Service, here: &Here, headless: bool) {
        for found in named(service, here) {
            let target = format!("{}.{own}", label(&found));
            self.add(&target, Data::Address(found.address));
            if found.endpoint.hostname.is_some() || headless {
                self.add(&reversed(found.address), Data::Pointer(target.clone()));
            }
            if !headless {
                continue;
            }
            self.add(own, Data::Address(found.address));
            for (port, at) in service.ports.iter().zip(&found.endpoint.targets) {
                let Some(at) = at else { continue };
                self.port(own, port.name.as_deref(), port.protocol, *at, target.clone());
            }
        }
    }

    fn port(
        &mut self,
        own: &str,
        name: Option<&str>,
        protocol: Protocol,
        port: u16,
        target: String,
    ) {
        let Some(name) = name else { return };
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        self.add(&format!("_{name}._{protocol}.{own}"), Data::Port { port, target });
    }

    fn add(&mut self, name: &str, data: Data) {
        self.names.entry(key(&name.to_ascii_lowercase())).or_default().push(data);
    }
}

/// What an endpoint is called below its service: its hostname, or its address with dashes.
fn label(found: &Found<'_>) -> String {
    let dashed = || found.address.to_string().replace('.', "-");
    found.endpoint.hostname.clone().unwrap_or_else(dashed)
}

/// Labels from the last to the first.
fn key(name: &str) -> String {
    name.rsplit('.').collect::<Vec<_>>().join(".")
}

fn reversed(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

/// The address whose name is asked for.
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let [d, c, b, a] = Ipv4Addr::octets(&name.strip_suffix(".in-addr.arpa")?.parse().ok()?);
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;

//! Who gets which port of the node's own addresses: pure. A port that a program on this host
//! listens on stays that program's, and of two services the first by name has it.

use std::collections::{BTreeMap, BTreeSet};

use kgit_protocol::directory::ServiceName;
use kgit_protocol::observation::ServiceTrouble;
use kgit_protocol::pod::Protocol;

use crate::net::choice::Lead;

/// A port of the host with its protocol.
pub type HostPort = (Protocol, u16);

/// The node's ports that lead to services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    owners: BTreeMap<HostPort, (ServiceName, u16)>,
}

impl Ports {
    /// The node's ports that lead to this port of a service.
    pub fn of(&self, lead: &Lead) -> Vec<u16> {
        let wanted = wanted(lead);
        let owner = (lead.service.clone(), lead.port);
        let has = |port: &u16| self.owners.get(&(lead.protocol, *port)) == Some(&owner);
        wanted.into_iter().filter(has).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

/// Hands out ports; what some service does not get is a trouble of it.
pub fn ports(leads: &[Lead], listening: &BTreeSet<HostPort>) -> (Ports, Vec<ServiceTrouble>) {
    let mut ports = Ports::default();
    let mut troubles = Vec::new();
    for lead in leads {
        for port in wanted(lead) {
            let key = (lead.protocol, port);
            let trouble = if listening.contains(&key) {
                Some(("PortInUse", format!("a program on this node listens on port {port}")))
            } else {
                let owner = (lead.service.clone(), lead.port);
                let holder = ports.owners.entry(key).or_insert_with(|| owner.clone());
                (*holder != owner)
                    .then(|| ("PortConflict", format!("port {port} leads to Service {}", holder.0)))
            };
            if let Some((reason, message)) = trouble {
                let (service, reason) = (lead.service.clone(), reason.to_owned());
                troubles.push(ServiceTrouble { service, reason, message });
            }
        }
    }
    troubles.sort();
    troubles.dedup();
    (ports, troubles)
}

fn wanted(lead: &Lead) -> Vec<u16> {
    let own = lead.on_node.then_some(lead.port);
    lead.node_port.into_iter().chain(own).collect()
}

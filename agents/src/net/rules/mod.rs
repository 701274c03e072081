//! The kernel's rules for a directory: pure. From leads to a [`Ruleset`], and from one ruleset to
//! the next as text for `nft`.
//!
//! A connection costs one look into a map, however many services there are. Hooks run a little
//! before the usual priorities, so that other tables see traffic as it goes to pods. What
//! deliberately does not live here: running `nft`, and rules in tables of others.

pub mod ports;
pub mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use kgit_protocol::pod::Protocol;

use crate::net::choice::{Lead, Place, Target, Targets};
use crate::net::rules::ports::Ports;
use crate::net::wire::Here;

/// A table, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    pub table: String,
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel enters it by itself: `type … hook … priority …`.
    pub hook: Option<String>,
    pub rules: Vec<String>,
}

/// A set, or a map where elements have values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub kind: SetKind,
    /// The type, and flags if there are any.
    pub definition: String,
    pub elements: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    Set,
    Map,
    /// Filled by the rules themselves.
    Remembered,
}

/// What the rules are made for.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    pub here: &'a Here,
    pub service_range: Ipv4Net,
    /// Where `net` itself takes connections for the master.
    pub master_port: u16,
    /// Whether what crosses the bridge passes the rules (br_netfilter): then answers to a pod on
    /// the same bridge come back through the NAT, and otherwise they don't.
    pub bridge_is_filtered: bool,
}

const KEY: &str = "ip daddr . meta l4proto . th dport";
const ADDRESS_AND_PORT: &str = "type ipv4_addr . inet_proto . inet_service";
const PORT: &str = "type inet_proto . inet_service";

/// The table for these leads.
pub fn ruleset(leads: &[Lead], ports: &Ports, ground: Ground<'_>) -> Ruleset {
    let mut draft = Draft::new(ground);
    draft.base();
    for lead in leads {
        draft.lead(lead, ports);
    }
    draft.rules
}

struct Draft<'a> {
    ground: Ground<'a>,
    rules: Ruleset,
}

impl<'a> Draft<'a> {
    fn new(ground: Ground<'a>) -> Self {
        let table = ground.here.table.clone();
        let rules = Ruleset { table, chains: BTreeMap::new(), sets: BTreeMap::new() };
        Self { ground, rules }
    }

    fn base(&mut self) {
        for (name, kind, definition) in [
            ("services", SetKind::Map, format!("{ADDRESS_AND_PORT} : verdict")),
            ("node-ports", SetKind::Map, format!("{PORT} : verdict")),
            ("refused", SetKind::Set, ADDRESS_AND_PORT.to_owned()),
            ("refused-ports", SetKind::Set, PORT.to_owned()),
            ("hairpins", SetKind::Set, "type ipv4_addr . ipv4_addr".to_owned()),
            ("elsewhere", SetKind::Set, "type ipv4_addr".to_owned()),
        ] {
            self.rules
                .sets
                .insert(name.to_owned(), Set { kind, definition, elements: BTreeMap::new() });
        }
        self.ways_in();
        self.way_back();
        self.refusals();
    }

    fn ways_in(&mut self) {
        // nat hooks, each a little before the usual -100.
        self.hook("prerouting", "nat", "prerouting", -110, vec!["jump services".to_owned()]);
        self.hook("output", "nat", "output", -110, vec!["jump services".to_owned()]);
        let lookups = vec![
            format!("{KEY} vmap @services"),
            "fib daddr type local meta l4proto . th dport vmap @node-ports".to_owned(),
        ];
        self.chain("services", lookups);
        // Connections to 127.0.0.1:NODEPORT need loopback addresses to be routed on the bridge.
        // Nothing else may use that: before the NAT, no packet from a pod has such a destination.
        let bridge = &self.ground.here.bridge;
        let loopback = format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop");
        // Names and the way to the master are for this host and its pods, whoever routes here.
        let (gateway, port) = (self.ground.here.gateway, self.ground.master_port);
        let strangers = format!("iifname != {{ \"lo\", \"{bridge}\" }} ip daddr {gateway}");
        let own = format!("{strangers} th dport {{ 53, {port} }} drop");
        self.hook("guard", "filter", "prerouting", -300, vec![loopback, own]);
    }

    /// Answers must come back through this host, or nobody translates them.
    fn way_back(&mut self) {
        let Here { bridge, gateway, pod_range, .. } = self.ground.here;
        let to_bridge = format!("ct status dnat oifname \"{bridge}\"");
        let mut rules = vec![
            format!("{to_bridge} ip saddr 127.0.0.0/8 masquerade"),
            format!("{to_bridge} ip saddr . ip daddr @hairpins masquerade"),
            "ct status dnat ip daddr @elsewhere masquerade".to_owned(),
        ];
        if !self.ground.bridge_is_filtered {
            let between_pods =
                format!("ip saddr {pod_range} ip saddr != {gateway} ip daddr {pod_range}");
            rules.push(format!("{to_bridge} {between_pods} masquerade"));
        }
        self.hook("postrouting", "nat", "postrouting", 90, rules);
    }

    /// What leads nowhere is refused at once, in words that `connect` understands.
    fn refusals(&mut self) {
        for name in ["input", "forward", "sent"] {
            let hook = if name == "sent" { "output" } else { name };
            self.hook(name, "filter", hook, -10, vec!["jump refusals".to_owned()]);
        }
        let rules = vec![
            format!("ip daddr {} goto refuse", self.ground.service_range),
            format!("ct state new {KEY} @refused goto refuse"),
            "ct state new fib daddr type local meta l4proto . th dport @refused-ports goto refuse"
                .to_owned(),
        ];
        self.chain("refusals", rules);
        let refuse = vec![
            "meta l4proto tcp reject with tcp reset".to_owned(),
            "reject with icmp type port-unreachable".to_owned(),
        ];
        self.chain("refuse", refuse);
    }

    fn lead(&mut self, lead: &Lead, ports: &Ports) {
        if let Some(address) = lead.address {
            let key = format!("{address} . {} . {}", protocol(lead.protocol), lead.port);
            let inner = self.targets_chain("svc", lead, &lead.inner);
            // Without a target, the refusal of the whole range takes it.
            if let Some(chain) = inner {
                self.element("services", key, Some(format!("goto {chain}")));
            }
        }
        let outer = match lead.outer == lead.inner && lead.address.is_some() {
            true => (!lead.outer.is_none()).then(|| name("svc", lead)),
            false => None,
        };
        for address in &lead.external {
            let key = format!("{address} . {} . {}", protocol(lead.protocol), lead.port);
            self.open(lead, outer.clone(), ("services", "refused"), key);
        }
        for port in ports.of(lead) {
            let key = format!("{} . {port}", protocol(lead.protocol));
            self.open(lead, outer.clone(), ("node-ports", "refused-ports"), key);
        }
    }

    /// Leads a way from outside to the service, or refuses it.
    fn open(
        &mut self,
        lead: &Lead,
        known: Option<String>,
        (map, refused): (&str, &str),
        key: String,
    ) {
        match known.or_else(|| self.targets_chain("ext", lead, &lead.outer)) {
            Some(chain) => self.element(map, key, Some(format!("goto {chain}"))),
            None => self.element(refused, key, None),
        }
    }

    /// The chain that sends a connection to one of the targets; `None` if there are none.
    fn targets_chain(&mut self, kind: &str, lead: &Lead, targets: &Targets) -> Option<String> {
        let proto = protocol(lead.protocol);
        let targets = match targets {
            Targets::Endpoints(targets) if targets.is_empty() => return None,
            Targets::Endpoints(targets) => targets,
            Targets::Master => {
                let (gateway, port) = (self.ground.here.gateway, self.ground.master_port);
                let rule = format!("meta l4proto {proto} dnat to {gateway}:{port}");
                let chain = name(kind, lead);
                self.chain(&chain, vec![rule]);
                return Some(chain);
            }
        };
        self.note_places(targets);
        let rules = match lead.affinity_seconds {
            None => vec![spread(proto, targets)],
            Some(seconds) => self.sticky(lead, targets, seconds),
        };
        let chain = name(kind, lead);
        self.chain(&chain, rules);
        Some(chain)
    }

    fn note_places(&mut self, targets: &[Target]) {
        for target in targets {
            let address: Ipv4Addr = *target.at.ip();
            match target.place {
                Place::Here => self.element("hairpins", format!("{address} . {address}"), None),
                Place::Listed => self.element("elsewhere", address.to_string(), None),
            }
        }
    }

    /// A chain and a memory of clients for each target.
    fn sticky(&mut self, lead: &Lead, targets: &[Target], seconds: u32) -> Vec<String> {
        let proto = protocol(lead.protocol);
        let mut rules = Vec::new();
        let mut spread = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let place = format!("{}/{}", target.at.ip(), target.at.port());
            let chain = format!("{}/{place}", name("end", lead));
            let clients = format!("{}/{place}", name("own", lead));
            let definition = format!("type ipv4_addr; flags dynamic,timeout; timeout {seconds}s");
            let set = Set { kind: SetKind::Remembered, definition, elements: BTreeMap::new() };
            self.rules.sets.insert(clients.clone(), set);
            let lead_there = vec![
                format!("update @{clients} {{ ip saddr }}"),
                format!("meta l4proto {proto} dnat to {}", target.at),
            ];
            self.chain(&chain, lead_there);
            rules.push(format!("ip saddr @{clients} goto {chain}"));
            spread.push(format!("{index} : goto {chain}"));
        }
        let count = targets.len();
        rules.push(format!("numgen random mod {count} vmap {{ {} }}", spread.join(", ")));
        rules
    }

    fn hook(&mut self, name: &str, kind: &str, hook: &str, priority: i32, rules: Vec<String>) {
        let hook = Some(format!("type {kind} hook {hook} priority {priority}"));
        self.rules.chains.insert(name.to_owned(), Chain { hook, rules });
    }

    fn chain(&mut self, name: &str, rules: Vec<String>) {
        self.rules.chains.insert(name.to_owned(), Chain { hook: None, rules });
    }

    fn element(&mut self, set: &str, key: String, value: Option<String>) {
        // Every name in use was made by `base`.
        if let Some(set) = self.rules.sets.get_mut(set) {
            set.elements.insert(key, value);
        }
    }
}

/// By chance among all targets, in one rule.
fn spread(proto: &str, targets: &[Target]) -> String {
    if let [only] = targets {
        return format!("meta l4proto {proto} dnat to {}", only.at);
    }
    let places = targets.iter().enumerate();
    let places: Vec<String> = places
        .map(|(index, target)| format!("{index} : {} . {}", target.at.ip(), target.at.port()))
        .collect();
    let count = targets.len();
    let map = format!("numgen random mod {count} map {{ {} }}", places.join(", "));
    format!("meta l4proto {proto} dnat ip to {map}")
}

fn name(kind: &str, lead: &Lead) -> String {
    format!("{kind}/{}/{}/{}", lead.service, protocol(lead.protocol), lead.port)
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

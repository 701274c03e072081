//! Feeds `net` what the node knows of its pods, and tells what came of it: to pods that wait to be
//! stopped, to `resolv.conf`, and to the master.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use kgit_protocol::assignment::Order;
use kgit_protocol::ids::PodUid;
use tokio::sync::watch;

use crate::decide::status::is_ready;
use crate::net::feeder::{Feeder, Status};
use crate::net::wire::{Applied, Here, LocalPod, Problem};
use crate::node::Node;
use crate::runtime::Scope;
use crate::worker::catalogue::Catalogue;
use crate::worker::outbox::Outbox;

/// What `net` must know of a node besides its pods.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The agent's data directory.
    pub dir: PathBuf,
    pub scope: Scope,
    pub pod_range: Ipv4Net,
    /// Where the master listens: `https://host:port`.
    pub master_url: String,
}

impl Ground {
    /// The first address of the range, which the bridge has.
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_range.hosts().next().unwrap_or(self.pod_range.addr())
    }

    fn here(&self, pods: BTreeMap<PodUid, LocalPod>) -> Here {
        Here {
            table: self.scope.network().replace('-', "_"),
            node: self.scope.node.clone(),
            bridge: self.scope.bridge(),
            gateway: self.gateway(),
            pod_range: self.pod_range,
            master: host_and_port(&self.master_url),
            pods,
        }
    }
}

fn host_and_port(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:443") }
}

/// The worker's side of `net`.
#[derive(Debug)]
pub(super) struct Traffic {
    ground: Ground,
    feeder: Feeder,
    status: watch::Receiver<Status>,
    /// Pods that wait for the end of new connections, and the feed that brings it.
    draining: BTreeMap<PodUid, u64>,
}

impl Traffic {
    pub fn start(ground: Ground) -> Self {
        let feeder = Feeder::start(&ground.dir);
        let status = feeder.status();
        Self { ground, feeder, status, draining: BTreeMap::new() }
    }

    /// Returns when `net` said something new.
    pub async fn news(&mut self) {
        if self.status.changed().await.is_err() {
            // The feeder ends with this value only.
            std::future::pending::<()>().await;
        }
    }

    /// Tells `net` how the node's pods are now.
    pub fn feed(&mut self, node: &Node, catalogue: &Catalogue) {
        if node.set().is_none() {
            return;
        }
        let number = self.feeder.feed(catalogue.in_force(), self.ground.here(local_pods(node)));
        let waits = |uid: &&PodUid| {
            let drain = node.facts().get(*uid).and_then(|facts| facts.drain.as_ref());
            drain.is_some_and(|drain| drain.done.is_none())
        };
        let waiting: Vec<PodUid> = node.facts().keys().filter(waits).cloned().collect();
        self.draining.retain(|uid, _| waiting.contains(uid));
        for uid in waiting {
            self.draining.entry(uid).or_insert(number);
        }
    }

    /// The pods that no new connections are led to any more.
    pub fn drained(&mut self) -> Vec<PodUid> {
        let status = self.status.borrow();
        let Some(applied) = &status.applied else { return Vec::new() };
        let done = |number: &u64| applied.number >= *number;
        self.draining
            .iter()
            .filter(|(_, number)| done(number))
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    /// Where pods ask for names; `None` where this node can't answer them.
    pub fn name_server(&self) -> Option<Ipv4Addr> {
        let status = self.status.borrow();
        let refused = status.applied.as_ref().is_some_and(|applied| applied.names.is_some());
        (!refused).then(|| self.ground.gateway())
    }

    /// What the master is to know.
    pub fn tell(&self, outbox: &Outbox, catalogue: &Catalogue) {
        let status = self.status.borrow();
        let Some(applied) = &status.applied else {
            if let Some(failure) = &status.failure {
                outbox.condition("ServicesReady", Err(failure.clone()), "", "NetNotRunning");
            }
            return;
        };
        match worst(applied, status.failure.as_deref()) {
            Some(problem) => {
                let message = Err(problem.message);
                outbox.condition("ServicesReady", message, "", &problem.reason);
            }
            None => outbox.condition("ServicesReady", Ok(()), "RulesInForce", ""),
        }
        outbox.service_troubles(applied.troubles.clone());
        let in_force = applied.directory.as_ref().is_some_and(|known| catalogue.is_in_force(known));
        if let Some(digest) = catalogue.digest().filter(|_| in_force) {
            outbox.directory(digest);
        }
    }
}

/// Services lead nowhere from this node.
pub(super) fn tell_of_none(outbox: &Outbox) {
    let message = "service traffic is switched off on this node (--no-services)".to_owned();
    outbox.condition("ServicesReady", Err(message), "", "SwitchedOff");
}

fn worst(applied: &Applied, failure: Option<&str>) -> Option<Problem> {
    let failed = failure.map(|failure| Problem::new("NetNotRunning", failure));
    [failed, applied.rules.clone(), applied.names.clone(), applied.ground.clone()]
        .into_iter()
        .flatten()
        .next()
}

/// The node's pods as far as traffic is concerned.
fn local_pods(node: &Node) -> BTreeMap<PodUid, LocalPod> {
    let ordered = node.set().into_iter().flat_map(|set| set.pods.values());
    let mut pods = BTreeMap::new();
    for pod in ordered.chain(node.kept().values()) {
        let Some(facts) = node.facts().get(&pod.uid).filter(|facts| !facts.gone) else { continue };
        let local = LocalPod {
            address: pod.spec.address,
            ready: is_ready(facts, pod),
            terminating: matches!(pod.order, Order::Stop { .. }),
        };
        pods.insert(pod.uid.clone(), local);
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_host_and_port_are_read_from_its_url() {
        assert_eq!(host_and_port("https://127.0.0.1:7443"), "127.0.0.1:7443");
        assert_eq!(host_and_port("https://kgit.example.com/"), "kgit.example.com:443");
    }
}

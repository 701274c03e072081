//! Ready pods that services lead to, and nothing in them listens: a mistake that is hard to find
//! from outside. The kernel's tables of the pod are read; nobody is dialled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::directory::{Backend, Directory};
use kgit_protocol::ids::PodUid;
use kgit_protocol::pod::Protocol;
use kgit_protocol::time::Timestamp;

use crate::decide::outcome::Note;
use crate::net::sockets::listening;
use crate::node::Node;
use crate::runtime::{PAUSE, RunState, Runtime, View};
use crate::worker::{Input, Shared};

/// How often pods are looked at.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// A pod without a readiness probe counts as ready before its program listens.
const SETTLED: Duration = Duration::from_secs(5);
/// What is silent must still be so after this: a program may be restarting within its container.
const SURE: Duration = Duration::from_secs(2);

/// A pod to look at.
#[derive(Debug)]
pub(super) struct Suspect {
    pod: PodUid,
    /// A running container of it, in whose network the ports are.
    container: String,
    ports: BTreeSet<u16>,
    known: Vec<u16>,
}

/// The pods that are ready for long enough, with the ports that services lead to.
pub(super) fn suspects(
    directory: &Directory,
    node: &Node,
    view: &View,
    now: Timestamp,
) -> Vec<Suspect> {
    let mut found = Vec::new();
    for (uid, ports) in led_to(directory) {
        let Some(facts) = node.facts().get(&uid) else { continue };
        let settled = facts.ready_since.is_some_and(|since| now.since(since) >= SETTLED);
        let container = view.containers.iter().find(|seen| {
            seen.identity.pod == uid
                && seen.identity.container != PAUSE
                && matches!(seen.state, RunState::Running { .. })
        });
        if let (true, Some(seen)) = (settled, container) {
            let (container, known) = (seen.id.clone(), facts.silent_ports.clone());
            found.push(Suspect { pod: uid, container, ports, known });
        }
    }
    found
}

/// TCP ports by pod; those of other nodes do no harm, since no facts are known of them.
fn led_to(directory: &Directory) -> BTreeMap<PodUid, BTreeSet<u16>> {
    let mut found: BTreeMap<PodUid, BTreeSet<u16>> = BTreeMap::new();
    for listed in directory.services.values() {
        let service = &listed.service;
        let Backend::Endpoints(endpoints) = &service.backend else { continue };
        for endpoint in endpoints {
            let Some(uid) = &endpoint.pod else { continue };
            let targets = service.ports.iter().zip(&endpoint.targets);
            let of_tcp = targets.filter(|(port, _)| port.protocol == Protocol::Tcp);
            found.entry(uid.clone()).or_default().extend(of_tcp.filter_map(|(_, target)| *target));
        }
    }
    found
}

/// Looks at each, twice, and notes what changed.
pub(super) async fn check<R: Runtime>(shared: Arc<Shared<R>>, all: Vec<Suspect>) {
    let mut silent = Vec::new();
    for suspect in all {
        let Ok(Some(process)) = shared.runtime.process(&suspect.container).await else { continue };
        if let Some(ports) = silent_of(process, &suspect.ports) {
            silent.push((suspect, process, ports));
        }
    }
    if silent.iter().any(|(suspect, _, ports)| *ports != suspect.known) {
        tokio::time::sleep(SURE).await;
    }
    for (suspect, process, before) in silent {
        let Some(now) = silent_of(process, &suspect.ports) else { continue };
        let ports: Vec<u16> = now.into_iter().filter(|port| before.contains(port)).collect();
        if ports != suspect.known {
            // The loop ends before its tasks only when the agent stops.
            let _ = shared.inputs.send(Input::Note(suspect.pod, Note::SilentPorts(ports))).await;
        }
    }
}

/// Those of the ports that nothing listens on in the network of a process; `None` if that can't be
/// seen.
fn silent_of(process: u32, ports: &BTreeSet<u16>) -> Option<Vec<u16>> {
    let read = |name| std::fs::read_to_string(format!("/proc/{process}/net/{name}"));
    let (four, six) = (read("tcp").ok()?, read("tcp6").unwrap_or_default());
    let heard: BTreeSet<u16> = listening(&four, Protocol::Tcp)
        .chain(listening(&six, Protocol::Tcp))
        .filter(|listener| !listener.on_loopback)
        .map(|listener| listener.port)
        .collect();
    Some(ports.difference(&heard).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_listens_on_is_heard_unless_only_on_loopback() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let asked = BTreeSet::from([port(&open), port(&closed)]);
        assert_eq!(silent_of(std::process::id(), &asked), Some(vec![port(&closed)]));
    }
}

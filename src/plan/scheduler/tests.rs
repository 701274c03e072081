//! Tables of places: nodes, pods that run, and pods that are to be placed, all in few words.
//!
//! A node is `name token…`: `cpu=4`, `mem=8Gi`, `pods=110`, `taint=key=value:Effect`, `cordoned`,
//! `lost`, and any other `key=value` is a label. A pod that runs is `node namespace/name token… ;
//! fields of its spec`, one that is to be placed the same without node and name; `cpu=`, `mem=` and
//! `port=` are of its container, `priority=` its own, and any other `key=value` is a label.

mod affinity;
mod nodes;
mod plain;
mod random;
mod resources;
mod scores;
mod spread;

use std::sync::Arc;

use kgit_protocol::assignment::{PodNetwork, Stamp};
use kgit_protocol::ids::{ClusterId, Digest, Epoch, Generation, NodeName, PodUid};
use kgit_protocol::observation::{Capacity, NodeObservation};
use kgit_protocol::pod::{PodSpec, RestartPolicy};
use kgit_protocol::time::Timestamp;

use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::{Node, NodeTaint};
use crate::domain::record::{Applied, Placed, Pod};
use crate::domain::resource::Resource;
use crate::domain::selector::Labels;
use crate::domain::world::{Effect, Record, World, node_key};
use crate::manifest::catalog::Catalog;
use crate::manifest::quantity::Quantity;
use crate::plan::scheduler::Constraints;
use crate::plan::scheduler::session::Session;

/// Which nodes can take each of some pods, the best first; else the line that says why none can.
fn places(nodes: &str, pods: &str, asked: &str) -> String {
    let world = world(nodes, pods);
    let lines = asked.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.map(|line| format!("{line} → {}\n", place(&world, line)));
    said.collect()
}

fn place(world: &World, line: &str) -> String {
    let pod = pod(None, "default/new", line);
    let session = Session::new(world, &pod, &Constraints::default());
    match session.best(world) {
        None => session.refusal(world),
        Some(best) => {
            let fit =
                world.nodes.values().filter(|node| session.unfit(world, &node.name).is_empty());
            let others = fit.filter(|node| node.name != *best).map(|node| node.name.to_string());
            let all: Vec<String> = std::iter::once(best.to_string()).chain(others).collect();
            all.join(" ")
        }
    }
}

fn world(nodes: &str, pods: &str) -> World {
    let mut world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
    for line in nodes.split(['\n', '|']).map(str::trim).filter(|line| !line.is_empty()) {
        let node = node(line);
        let record = Record::Node(Arc::new(node.clone()));
        world.apply(&Effect::Put(node_key(&node.name), record), 1);
    }
    for line in pods.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("namespace ") {
            Some(rest) => put_namespace(&mut world, rest),
            None => put_pod(&mut world, line),
        }
    }
    world
}

fn put_pod(world: &mut World, line: &str) {
    let mut words = line.splitn(3, ' ');
    let (node, name) = (words.next().unwrap(), words.next().unwrap());
    let pod = pod(Some(node), name, words.next().unwrap_or_default());
    put(world, pod);
}

fn put(world: &mut World, pod: Pod) {
    world.apply(&Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod))), 1);
}

fn put_namespace(world: &mut World, line: &str) {
    let (name, labels) = line.split_once(' ').unwrap_or((line, ""));
    let labels = labels.replace('=', ": ");
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
    );
    let key = ObjectKey::new(Kind::Namespace, "", name);
    let applied = Applied {
        resource: lowered(&text, &key),
        uid: name.to_owned(),
        created: NOW,
        changed: NOW,
        generation: 1,
        commit: Arc::default(),
        changes: Vec::new(),
        counter: 0,
        retained: None,
        owner: None,
        deletion: None,
    };
    world.apply(&Effect::Put(key, Record::Object(Arc::new(applied))), 1);
}

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn lowered(text: &str, key: &ObjectKey) -> Arc<Resource> {
    let mut catalog = Catalog::default();
    let content = FileContent::Bytes(Arc::from(text.as_bytes()));
    let file = SourceFile { path: "m.yaml".into(), content };
    catalog.apply(&TreeChange { upserted: vec![file], removed: Vec::new() });
    let desired = catalog.desired(Arc::default());
    let found = desired.objects.get(key).cloned();
    found.unwrap_or_else(|| panic!("{text}\n{:?}", catalog.diagnostics()))
}

fn node(line: &str) -> Node {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    let mut capacity =
        Capacity { cpu_millis: 4000, memory_bytes: 8 << 30, pods: 110, disk_bytes: 1 << 40 };
    let (mut labels, mut taints) = (Labels::new(), Vec::new());
    let (mut unschedulable, mut heard) = (false, Some(true));
    labels.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("cpu", amount) => capacity.cpu_millis = millis(amount),
            ("mem", amount) => capacity.memory_bytes = millis(amount) / 1000,
            ("pods", count) => capacity.pods = count.parse().unwrap(),
            ("taint", taint) => taints.push(self::taint(taint)),
            ("cordoned", _) => unschedulable = true,
            ("lost", _) => heard = Some(false),
            ("silent", _) => heard = None,
            ("nameless", _) => labels.clear(),
            (key, value) => drop(labels.insert(key.to_owned(), value.to_owned())),
        }
    }
    let network = PodNetwork { range: "10.77.0.0/24".parse().unwrap() };
    let issued = Stamp { epoch: Epoch(0), generation: Generation(0), digest: Digest::of(b"") };
    let joined = Node::new(NodeName::new(name), name.into(), NOW, network, Digest::of(b""), issued);
    let observed = NodeObservation { capacity, ..NodeObservation::default() };
    Node { labels, unschedulable, observed, heard, taints, ..joined }
}

fn taint(text: &str) -> NodeTaint {
    let (what, effect) = text.split_once(':').unwrap();
    let (key, value) = what.split_once('=').unwrap_or((what, ""));
    NodeTaint { key: key.into(), value: value.into(), effect: effect.into(), since: NOW }
}

fn millis(amount: &str) -> u64 {
    u64::try_from(Quantity::parse(amount).unwrap().millis).unwrap()
}

pub(in crate::plan) fn pod(node: Option<&str>, name: &str, line: &str) -> Pod {
    let (words, spec) = line.split_once(';').unwrap_or((line, ""));
    let (mut requests, mut ports, mut labels) = (Vec::new(), String::new(), Vec::new());
    let (mut priority, mut ending) = (0, false);
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("cpu", amount) => requests.push(format!("cpu: {amount}")),
            ("mem", amount) => requests.push(format!("memory: {amount}")),
            ("port", port) => ports = host_port(port),
            ("priority", value) => priority = value.parse().unwrap(),
            ("ending", _) => ending = true,
            (key, value) => labels.push(format!("{key}: '{value}'")),
        }
    }
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{}}}}}\n\
         spec: {{containers: [{{name: m, image: 'm:1', resources: {{requests: {{{}}}}}{ports}}}], {spec}}}\n",
        labels.join(", "),
        requests.join(", "),
    );
    let text = match namespace {
        "default" => text,
        other => {
            let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ";
            format!("{namespace}{other}}}\n---\n{text}")
        }
    };
    let key = ObjectKey::new(Kind::Pod, namespace, name);
    let template = Arc::clone(lowered(&text, &key).template().unwrap());
    let placed = node.map(|node| Placed {
        node: NodeName::new(node),
        at: NOW,
        spec: Arc::new(decided()),
        digest: Digest::of(b""),
    });
    Pod {
        uid: PodUid::new(name),
        owner: key.clone(),
        key,
        pinned: None,
        created: NOW,
        labels: template.labels.clone(),
        annotations: Labels::new(),
        revision_digest: Digest::of(b""),
        template,
        index: None,
        counted: false,
        placed,
        deletion: ending.then_some(crate::domain::record::Deletion {
            at: NOW,
            grace_seconds: 30,
            by: crate::domain::record::EndedBy::Workload,
        }),
        observed: None,
        drifts_told: 0,
        priority,
        never_preempts: false,
        nominated: None,
    }
}

/// What the agent would be told; no place depends on it.
fn decided() -> PodSpec {
    PodSpec {
        hostname: String::new(),
        address: None,
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        dns: Default::default(),
        host_aliases: Vec::new(),
        init_containers: Vec::new(),
        containers: Vec::new(),
        volumes: Vec::new(),
        restart_policy: RestartPolicy::Always,
        termination_grace_seconds: 30,
        active_deadline_seconds: None,
        security: Default::default(),
        registry_logins: Vec::new(),
        domain: None,
        fence_after_seconds: None,
    }
}

/// `80`, `80/UDP` or `10.0.0.1:80`.
fn host_port(text: &str) -> String {
    let (address, rest) = text.rsplit_once(':').unwrap_or(("", text));
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
    let address = if address.is_empty() { String::new() } else { format!(", hostIP: {address}") };
    format!(", ports: [{{containerPort: {port}, hostPort: {port}, protocol: {protocol}{address}}}]")
}

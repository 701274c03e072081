//! Nodes.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::Node;
use crate::domain::selector::Labels;
use crate::domain::template::{Taint, effect};
use crate::domain::world::World;
use crate::kube::human;
use crate::kube::json::{fields, flag, items, object, put, put_list, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Status"),
    Column::text("Roles"),
    Column::text("Age"),
    Column::text("Version"),
    Column::wide("Internal-IP"),
    Column::wide("External-IP"),
    Column::wide("OS-Image"),
    Column::wide("Kernel-Version"),
    Column::wide("Container-Runtime"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let node = seen.world.nodes.get(key)?;
    let range = node.network.range.to_string();
    let mut spec = json!({"podCIDR": range, "podCIDRs": [range]});
    // A fence holds until `uncordon`, as a cordon does.
    if node.unschedulable || node.fenced.is_some() {
        spec["unschedulable"] = json!(true);
    }
    put_list(object(&mut spec), "taints", node.all_taints().map(taint).collect());
    // Of a node that was not heard of since the master started no more is known than its record.
    let heard = seen.heard.heartbeats.get(&node.name).copied().unwrap_or(node.heard_since);
    let shown = json!({
        "metadata": Metadata::new(key, &node.uid, node.version, node.joined)
            .with_labels(&node.labels)
            .with_annotations(&annotations(seen.world, node))
            .build(),
        "spec": spec,
        "status": status(node, heard),
    });
    Some(Shown::new(key, node.version, shown))
}

fn taint((taint, since): (Taint<'_>, Timestamp)) -> Value {
    let mut shown = json!({"key": taint.key, "effect": taint.effect});
    let fields = object(&mut shown);
    put(fields, "value", Some(taint.value).filter(|value| !value.is_empty()));
    let timed = taint.effect == effect::NO_EXECUTE;
    put(fields, "timeAdded", timed.then(|| since.to_string()));
    shown
}

/// How far an order about the node is carried out: what `kgit node drain` waits for.
pub const DRAIN_ANNOTATION: &str = "kgit.dev/drain";
pub const DRAINED: &str = "drained";
const FENCE_ANNOTATION: &str = "kgit.dev/fenced-by";

fn annotations(world: &World, node: &Node) -> Labels {
    let mut annotations = Labels::new();
    if node.drain.is_some() {
        let left = world.pods_on(&node.name).filter(|pod| pod.owner.kind != Kind::DaemonSet);
        let state = match left.count() {
            0 => DRAINED.to_owned(),
            left => format!("draining: {left} pods left"),
        };
        annotations.insert(DRAIN_ANNOTATION.to_owned(), state);
    }
    if let Some(fence) = &node.fenced {
        annotations.insert(FENCE_ANNOTATION.to_owned(), fence.by.clone());
    }
    annotations
}

fn status(node: &Node, heard: Timestamp) -> Value {
    let (capacity, facts) = (&node.observed.capacity, &node.observed.facts);
    let amounts = json!({
        "cpu": human::cpu(capacity.cpu_millis),
        "memory": human::bytes(capacity.memory_bytes),
        "ephemeral-storage": human::bytes(capacity.disk_bytes),
        "pods": capacity.pods.to_string(),
    });
    let mut addresses: Vec<Value> = facts
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    json!({
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": addresses,
        "conditions": conditions(node, heard),
        "nodeInfo": {
            "architecture": facts.architecture,
            "bootID": facts.boot_id,
            "containerRuntimeVersion": format!("docker://{}", facts.engine),
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": facts.agent,
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    })
}

fn conditions(node: &Node, heard: Timestamp) -> Vec<Value> {
    let heard = heard.to_string();
    let failure = node.observed.failure();
    let observed = node.observed.conditions.iter().map(|condition| {
        let mut shown = json!({
            "type": condition.kind,
            "status": truth(condition.status),
            "reason": condition.reason,
            "message": condition.message,
            "lastHeartbeatTime": heard,
        });
        let fails = failure.is_some_and(|failure| failure.kind == condition.kind);
        let since = node.failing.filter(|_| fails).unwrap_or(node.heard_since);
        put(object(&mut shown), "lastTransitionTime", Some(since.to_string()));
        shown
    });
    let (reason, message) = match (node.heard, failure) {
        (Some(true), None) => ("AgentReady", "the agent reports and the engine answers"),
        (Some(true), Some(failure)) => (&*failure.reason, &*failure.message),
        (Some(false), _) => ("AgentNotReady", "the agent has not been heard of in time"),
        (None, _) => {
            ("NodeStatusUnknown", "nothing was heard of the agent since the master started")
        }
    };
    let ready = json!({
        "type": "Ready",
        "status": truth(node.is_ready()),
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": heard,
        "lastTransitionTime": node.ready_since().to_string(),
    });
    observed.chain([ready]).collect()
}

fn truth(status: Option<bool>) -> &'static str {
    match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}

pub fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |field: &str| match text(node, &format!("/status/nodeInfo/{field}")) {
        "" => json!("<unknown>"),
        known => json!(known),
    };
    let internal = items(node, "/status/addresses").iter();
    let internal = internal.clone().find(|address| text(address, "/type") == "InternalIP");
    vec![
        json!(text(node, "/metadata/name")),
        json!(state(node)),
        json!(roles(node)),
        json!(human::age(text(node, "/metadata/creationTimestamp"), now)),
        json!(text(node, "/status/nodeInfo/kubeletVersion")),
        json!(internal.map_or("<none>", |address| text(address, "/address"))),
        json!("<none>"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn state(node: &Value) -> String {
    let mut conditions = items(node, "/status/conditions").iter();
    let ready = conditions.find(|condition| text(condition, "/type") == "Ready");
    let mut state = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if flag(node, "/spec/unschedulable") {
        state.push_str(",SchedulingDisabled");
    }
    state
}

fn roles(node: &Value) -> String {
    let labels = fields(node, "/metadata/labels");
    let roles = labels.filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role),
        _ => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default()),
    });
    let roles: Vec<_> = roles.filter(|role| !role.is_empty()).collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

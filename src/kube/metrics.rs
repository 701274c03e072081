//! `metrics.k8s.io`: what nodes and pods use, as their agents told last. Kept in memory only, so a
//! watch tells nothing of it; `kubectl top` asks again.

use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::PodUsage;
use serde_json::{Value, json};

use crate::domain::autoscaling::STALE_AFTER;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::kube::human;
use crate::kube::json::{items, text};
use crate::kube::seen::{Seen, Shown, ShownKey};
use crate::kube::table::Column;

pub const VERSION: &str = "v1beta1";

pub const NODE_COLUMNS: &[Column] =
    &[Column::name(), Column::text("cpu"), Column::text("memory"), Column::text("Window")];
pub const POD_COLUMNS: &[Column] = NODE_COLUMNS;

/// Rows of nodes and of pods that have figures.
pub fn keys(seen: &Seen<'_>, kind: Kind, namespace: Option<&str>) -> Vec<ObjectKey> {
    if kind == Kind::Node {
        return seen
            .world
            .nodes
            .keys()
            .filter(|key| show_node(seen, key).is_some())
            .cloned()
            .collect();
    }
    let pods = seen.world.pods.keys();
    let inside = pods.filter(|key| namespace.is_none_or(|wanted| *key.namespace == *wanted));
    inside.filter(|key| show_pod(seen, key).is_some()).cloned().collect()
}

pub fn show_node(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let node = seen.world.nodes.get(key)?;
    let usage = seen.heard.usages.get(&node.name)?;
    let figures = usage.node;
    is_fresh(seen, figures.at).then_some(())?;
    let object = json!({
        "kind": "NodeMetrics",
        "apiVersion": format!("metrics.k8s.io/{VERSION}"),
        "metadata": metadata(key, &node.labels, figures.at),
        "timestamp": figures.at.to_string(),
        "window": "15s",
        "usage": amounts(figures.cpu_millis, figures.memory_bytes),
    });
    Some(shown(key, object))
}

pub fn show_pod(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let pod = seen.world.pods.get(key)?;
    let figures = figures(seen, pod)?;
    is_fresh(seen, figures.at).then_some(())?;
    let containers = figures.containers.iter().map(|container| {
        json!({
            "name": container.name,
            "usage": amounts(container.cpu_millis, container.memory_bytes),
        })
    });
    let object = json!({
        "kind": "PodMetrics",
        "apiVersion": format!("metrics.k8s.io/{VERSION}"),
        "metadata": metadata(key, &pod.labels, figures.at),
        "timestamp": figures.at.to_string(),
        "window": format!("{}s", figures.window_seconds),
        "containers": containers.collect::<Vec<_>>(),
    });
    Some(shown(key, object))
}

fn figures<'a>(seen: &Seen<'a>, pod: &Pod) -> Option<&'a PodUsage> {
    let usage = seen.heard.usages.get(pod.node()?)?;
    usage.pods.iter().find(|figures| figures.uid == pod.uid)
}

fn is_fresh(seen: &Seen<'_>, at: Timestamp) -> bool {
    seen.now.since(at) <= STALE_AFTER
}

fn metadata(key: &ObjectKey, labels: &crate::domain::selector::Labels, at: Timestamp) -> Value {
    let mut metadata = json!({
        "name": key.name,
        "labels": labels,
        "creationTimestamp": at.to_string(),
    });
    if key.kind == Kind::Pod {
        metadata["namespace"] = json!(key.namespace);
    }
    metadata
}

fn amounts(cpu_millis: u64, memory_bytes: u64) -> Value {
    json!({
        "cpu": format!("{cpu_millis}m"),
        "memory": format!("{}Ki", memory_bytes.div_ceil(1024)),
    })
}

fn shown(key: &ObjectKey, object: Value) -> Shown {
    let key = ShownKey { namespace: key.namespace.clone(), name: key.name.clone() };
    Shown { key, version: 0, object }
}

/// Of a node, or of a pod's containers together.
pub fn cells(metrics: &Value, _now: Timestamp) -> Vec<Value> {
    let (cpu, memory) = totals(metrics);
    vec![
        json!(text(metrics, "/metadata/name")),
        json!(format!("{cpu}m")),
        json!(human::mebibytes(memory)),
        json!(text(metrics, "/window")),
    ]
}

/// Millicores and bytes.
pub fn totals(metrics: &Value) -> (u64, u64) {
    let of = |usage: &Value| {
        let number = |field: &str, unit: &str| {
            let text = usage[field].as_str().unwrap_or_default();
            text.trim_end_matches(unit).parse::<u64>().unwrap_or(0)
        };
        (number("cpu", "m"), number("memory", "Ki") * 1024)
    };
    let containers = items(metrics, "/containers").iter().map(|container| of(&container["usage"]));
    let whole = metrics.get("usage").map(of);
    containers.chain(whole).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}

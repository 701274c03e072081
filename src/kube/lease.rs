//! Leases: when each node was last heard of. They are kept in memory only, as they come every few
//! seconds, so a watch tells of them when something else about the node changes.

use std::sync::Arc;

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::kube::human;
use crate::kube::json::text;
use crate::kube::metadata::{Metadata, derived_uid};
use crate::kube::seen::{Seen, Shown, ShownKey};
use crate::kube::table::Column;

/// Where Kubernetes keeps them.
pub const NAMESPACE: &str = "kube-node-lease";

pub const COLUMNS: &[Column] = &[Column::name(), Column::text("Holder"), Column::text("Age")];

/// The lease of the node under `key`.
pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let node = seen.world.nodes.get(key)?;
    let uid = derived_uid(&node.uid, 3);
    let mut metadata = Metadata::new(key, &uid, node.version, node.joined)
        .with_owner(key, Some(&node.uid))
        .build();
    metadata["namespace"] = json!(NAMESPACE);
    let mut spec = json!({
        "holderIdentity": node.name,
        "leaseDurationSeconds": seen.heard.lease_seconds,
    });
    if let Some(heard) = seen.heard.heartbeats.get(&node.name) {
        spec["renewTime"] = json!(micro_time(*heard));
    }
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    });
    let key = ShownKey { namespace: Arc::from(NAMESPACE), name: Arc::clone(&key.name) };
    Some(Shown { key, version: node.version, object })
}

/// With six digits behind the second, as clients require of a MicroTime.
fn micro_time(at: Timestamp) -> String {
    let seconds = at.to_string();
    format!("{}.{:03}000Z", seconds.trim_end_matches('Z'), at.0.rem_euclid(1000))
}

pub fn cells(lease: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(lease, "/metadata/name")),
        json!(text(lease, "/spec/holderIdentity")),
        json!(human::age(text(lease, "/metadata/creationTimestamp"), now)),
    ]
}

//! Events: what was told about objects. One row holds the events of one object.

use std::sync::Arc;

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Event;
use crate::domain::world::World;
use crate::kube::human;
use crate::kube::json::{number, object, put, text};
use crate::kube::metadata::uid_of;
use crate::kube::seen::{Seen, Shown, ShownKey};
use crate::kube::table::Column;

pub const COLUMNS: &[Column] = &[
    Column::text("Last Seen"),
    Column::text("Type"),
    Column::text("Reason"),
    Column::text("Object"),
    Column::wide("Subobject"),
    Column::wide("Source"),
    Column::text("Message"),
    Column::wide("First Seen"),
    Column::wide("Count"),
    Column::wide_name(),
];

/// The objects of a namespace that something was told about. What is told about an object
/// without a namespace is listed in `default`, as Kubernetes does.
pub fn keys(world: &World, namespace: Option<&str>) -> Vec<ObjectKey> {
    let inside = |key: &&ObjectKey| namespace.is_none_or(|wanted| namespace_of(key) == wanted);
    world.events.keys().filter(inside).cloned().collect()
}

fn namespace_of(key: &ObjectKey) -> &str {
    if key.namespace.is_empty() { "default" } else { &key.namespace }
}

/// All that was told about one object.
pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Vec<Shown> {
    let Some(log) = seen.world.events.get(key) else { return Vec::new() };
    let uid = subject_uid(seen.world, key);
    log.events.iter().map(|event| show_one(key, uid.as_deref(), log.version, event)).collect()
}

fn subject_uid(world: &World, key: &ObjectKey) -> Option<String> {
    match key.kind {
        Kind::Pod => world.pods.get(key).map(|pod| pod.uid.to_string()),
        // kubectl asks for a node's events by its name.
        Kind::Node => Some(key.name.to_string()),
        _ => uid_of(world, key).map(str::to_owned),
    }
}

fn show_one(key: &ObjectKey, uid: Option<&str>, version: u64, event: &Event) -> Shown {
    let field_path = event.field_path.as_deref().unwrap_or_default();
    let identity = Digest::of(
        format!("{key}\n{}\n{}\n{}\n{field_path}", event.warning, event.reason, event.message)
            .as_bytes(),
    );
    let name = format!("{}.{}", key.name, &identity.as_str()[..16]);
    let namespace = namespace_of(key);
    let mut involved = json!({
        "apiVersion": key.kind.api_version(),
        "kind": key.kind.as_str(),
        "name": key.name,
    });
    let fields = object(&mut involved);
    put(fields, "namespace", Some(&*key.namespace).filter(|namespace| !namespace.is_empty()));
    put(fields, "uid", uid);
    put(fields, "fieldPath", event.field_path.clone());
    let shown = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": identity.as_str()[..32],
            "resourceVersion": version.max(1).to_string(),
            "creationTimestamp": event.first.to_string(),
        },
        "involvedObject": involved,
        "reason": event.reason,
        "message": event.message,
        "type": if event.warning { "Warning" } else { "Normal" },
        "count": event.count,
        "firstTimestamp": event.first.to_string(),
        "lastTimestamp": event.last.to_string(),
        "source": {"component": event.component},
        "reportingComponent": event.component,
        "reportingInstance": "",
    });
    let key = ShownKey { namespace: Arc::from(namespace), name: Arc::from(name) };
    Shown { key, version, object: shown }
}

pub fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let last = human::age(text(event, "/lastTimestamp"), now);
    let first = human::age(text(event, "/firstTimestamp"), now);
    let count = number(event, "/count");
    let last_seen = match count {
        0 | 1 => last,
        count => format!("{last} (x{count} over {first})"),
    };
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    vec![
        json!(last_seen),
        json!(text(event, "/type")),
        json!(text(event, "/reason")),
        json!(format!("{kind}/{}", text(event, "/involvedObject/name"))),
        json!(text(event, "/involvedObject/fieldPath")),
        json!(text(event, "/source/component")),
        json!(text(event, "/message").trim()),
        json!(first),
        json!(count),
        json!(text(event, "/metadata/name")),
    ]
}

//! Namespaces: those with a manifest, those that an object names, and the four that always are.

use std::collections::BTreeSet;
use std::sync::Arc;

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::world::World;
use crate::kube::json::text;
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown, namespaces};
use crate::kube::table::Column;
use crate::kube::{human, lease};

/// They exist in every cluster.
const ALWAYS: [&str; 4] = ["default", lease::NAMESPACE, "kube-public", "kube-system"];

pub const COLUMNS: &[Column] = &[Column::name(), Column::text("Status"), Column::text("Age")];

pub fn keys(world: &World) -> Vec<ObjectKey> {
    let written = world.objects.keys().filter(|key| key.kind == Kind::Namespace);
    let mut names: BTreeSet<Arc<str>> = written.map(|key| Arc::clone(&key.name)).collect();
    names.extend(namespaces(world));
    names.extend(ALWAYS.map(Arc::from));
    names.iter().map(|name| ObjectKey::new(Kind::Namespace, "", name)).collect()
}

/// Whether requests may name it.
pub fn exists(world: &World, name: &str) -> bool {
    ALWAYS.contains(&name)
        || world.objects.contains_key(&ObjectKey::new(Kind::Namespace, "", name))
        || world.objects.keys().chain(world.pods.keys()).any(|key| *key.namespace == *name)
}

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let labels = std::collections::BTreeMap::from([(
        "kubernetes.io/metadata.name".to_owned(),
        key.name.to_string(),
    )]);
    let (version, metadata) = match seen.world.objects.get(key) {
        Some(applied) => {
            let mut all = applied.resource.labels.clone();
            all.extend(labels);
            let metadata = Metadata::of_applied(key, applied, applied.version);
            (applied.version, metadata.with_labels(&all).build())
        }
        None if exists(seen.world, &key.name) => {
            let uid = format!("namespace-{}-{}", seen.world.cluster, key.name);
            let created = created(seen.world);
            (1, Metadata::new(key, &uid, 1, created).with_labels(&labels).build())
        }
        None => return None,
    };
    let object = json!({
        "metadata": metadata,
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    });
    Some(Shown::new(key, version, object))
}

/// When the cluster began, as far as its record tells: its first node joined.
pub fn created(world: &World) -> Timestamp {
    world.nodes.values().map(|node| node.joined).min().unwrap_or_default()
}

pub fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(object, "/metadata/name")),
        json!(text(object, "/status/phase")),
        json!(human::age(text(object, "/metadata/creationTimestamp"), now)),
    ]
}

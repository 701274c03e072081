//! Objects that are shown as their manifest says, without a status of their own making.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::kube::human;
use crate::kube::json::text;
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;

pub const COLUMNS: &[Column] = &[Column::name(), Column::text("Age")];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let mut shown = applied.resource.manifest.value();
    shown["metadata"] = Metadata::of_applied(key, applied, applied.version).build();
    Some(Shown::new(key, applied.version, shown))
}

pub fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let created = text(object, "/metadata/creationTimestamp");
    vec![json!(text(object, "/metadata/name")), json!(human::age(created, now))]
}

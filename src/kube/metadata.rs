//! `metadata`: who an object is, since when, whose it is, and from which manifest.

use kgit_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::record::Applied;
use crate::domain::selector::Labels;
use crate::domain::world::World;
use crate::kube::json::put;

/// Where the manifest stands that an object comes from.
pub const SOURCE_ANNOTATION: &str = "kgit.dev/source";
/// The commit that last changed it.
pub const COMMIT_ANNOTATION: &str = "kgit.dev/commit";
/// Since when the object has been kept though its manifest is gone.
pub const RETAINED_ANNOTATION: &str = "kgit.dev/retained-since";

/// What `metadata` is made from; the optional parts are put on with `with_…`.
#[derive(Clone, Debug)]
pub struct Metadata<'a> {
    key: &'a ObjectKey,
    uid: &'a str,
    version: u64,
    created: Timestamp,
    fields: Map<String, Value>,
}

impl<'a> Metadata<'a> {
    pub fn new(key: &'a ObjectKey, uid: &'a str, version: u64, created: Timestamp) -> Self {
        Self { key, uid, version, created, fields: Map::new() }
    }

    /// Of a manifest's object: labels, annotations and generation included.
    pub fn of_applied(key: &'a ObjectKey, applied: &'a Applied, version: u64) -> Self {
        let annotations = with_origin(applied.resource.annotations.clone(), applied);
        Self::new(key, &applied.uid, version, applied.created)
            .with_labels(&applied.resource.labels)
            .with_annotations(&annotations)
            .with("generation", Some(applied.generation))
    }

    #[must_use]
    pub fn with_labels(self, labels: &Labels) -> Self {
        self.with("labels", (!labels.is_empty()).then(|| json!(labels)))
    }

    #[must_use]
    pub fn with_annotations(self, annotations: &Labels) -> Self {
        self.with("annotations", (!annotations.is_empty()).then(|| json!(annotations)))
    }

    /// The object that this one exists for and is removed with.
    #[must_use]
    pub fn with_owner(self, owner: &ObjectKey, uid: Option<&str>) -> Self {
        let reference = uid.map(|uid| {
            json!([{
                "apiVersion": owner.kind.api_version(),
                "kind": owner.kind.as_str(),
                "name": owner.name,
                "uid": uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }])
        });
        self.with("ownerReferences", reference)
    }

    /// Puts any other field.
    #[must_use]
    pub fn with<T: Into<Value>>(mut self, field: &str, value: Option<T>) -> Self {
        put(&mut self.fields, field, value);
        self
    }

    pub fn build(self) -> Value {
        let mut fields = self.fields;
        fields.insert("name".to_owned(), json!(self.key.name));
        if self.key.kind.is_namespaced() {
            fields.insert("namespace".to_owned(), json!(self.key.namespace));
        }
        fields.insert("uid".to_owned(), json!(self.uid));
        fields.insert("resourceVersion".to_owned(), json!(self.version.max(1).to_string()));
        fields.insert("creationTimestamp".to_owned(), json!(self.created.to_string()));
        Value::Object(fields)
    }
}

/// The annotations, and those that say which manifest and commit an object comes from.
pub fn with_origin(mut annotations: Labels, applied: &Applied) -> Labels {
    annotations.insert(SOURCE_ANNOTATION.to_owned(), applied.resource.place.to_string());
    annotations.insert(COMMIT_ANNOTATION.to_owned(), applied.commit.short().to_owned());
    if let Some(since) = applied.retained {
        annotations.insert(RETAINED_ANNOTATION.to_owned(), since.to_string());
    }
    annotations
}

/// The uid of something that stands and falls with another: that one's, told apart at its end.
pub fn derived_uid(owner: &str, number: u8) -> String {
    let kept = owner.char_indices().rev().nth(1).map_or(owner, |(at, _)| &owner[..at]);
    format!("{kept}{number:02}")
}

/// The uid of an object, if it is one that others can be owned by.
pub fn uid_of<'a>(world: &'a World, key: &ObjectKey) -> Option<&'a str> {
    match world.replica_sets.get(key) {
        Some(set) => Some(&*set.value.uid),
        None => world.objects.get(key).map(|applied| applied.value.uid.as_str()),
    }
}

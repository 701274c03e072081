//! ConfigMaps and Secrets. The values of a Secret are shown to those who may see them only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kgit_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::resource::Spec;
use crate::domain::template::ConfigContent;
use crate::kube::human;
use crate::kube::json::{flag, put, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{SecretValues, Seen, Shown};
use crate::kube::table::Column;

pub const CONFIG_MAP_COLUMNS: &[Column] =
    &[Column::name(), Column::number("Data"), Column::text("Age")];

pub const SECRET_COLUMNS: &[Column] =
    &[Column::name(), Column::text("Type"), Column::number("Data"), Column::text("Age")];

/// Stands in for a value; base64, so that clients that decode it can.
const MASK: &str = "KioqKio=";

pub fn show_config_map(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let Spec::ConfigMap(content) = &applied.resource.spec else { return None };
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (name, encoded) in &content.entries {
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        match String::from_utf8(bytes) {
            Ok(plain) => data.insert(name.clone(), Value::String(plain)),
            Err(_) => binary.insert(name.clone(), Value::String(encoded.clone())),
        };
    }
    let mut object = Map::new();
    let metadata = Metadata::of_applied(key, applied, applied.version).build();
    object.insert("metadata".to_owned(), metadata);
    put(&mut object, "data", (!data.is_empty()).then_some(data));
    put(&mut object, "binaryData", (!binary.is_empty()).then_some(binary));
    put(
        &mut object,
        "immutable",
        flag(&applied.resource.manifest.value(), "/immutable").then_some(true),
    );
    Some(Shown::new(key, applied.version, Value::Object(object)))
}

pub fn show_secret(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let Spec::Secret(secret) = &applied.resource.spec else { return None };
    let object = json!({
        "metadata": Metadata::of_applied(key, applied, applied.version).build(),
        "type": secret.kind,
        "data": secret_data(&secret.content, seen.secrets),
    });
    Some(Shown::new(key, applied.version, object))
}

fn secret_data(content: &ConfigContent, values: SecretValues) -> Value {
    let shown = content.entries.iter().map(|(name, value)| {
        let value = match values {
            SecretValues::Shown => value.clone(),
            SecretValues::Masked => MASK.to_owned(),
        };
        (name.clone(), Value::String(value))
    });
    Value::Object(shown.collect())
}

fn entries(object: &Value, field: &str) -> usize {
    object.get(field).and_then(Value::as_object).map_or(0, Map::len)
}

pub fn config_map_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(object, "/metadata/name")),
        json!(entries(object, "data") + entries(object, "binaryData")),
        json!(human::age(text(object, "/metadata/creationTimestamp"), now)),
    ]
}

pub fn secret_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(object, "/metadata/name")),
        json!(text(object, "/type")),
        json!(entries(object, "data")),
        json!(human::age(text(object, "/metadata/creationTimestamp"), now)),
    ]
}

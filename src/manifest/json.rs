//! An object as it was written, as JSON, and the place of each of its fields.

use serde_json::{Map, Number, Value as Json};

use crate::domain::resource::{FieldPlaces, pointer_hash};
use crate::manifest::path::escape;
use crate::manifest::tree::{Node, Value};
use crate::manifest::unused::SERVER_SIDE_METADATA;

/// Fields by the hash of their pointer.
type Places = Vec<(u64, (u32, u32))>;

/// The manifest without `status` and without what only a server writes.
pub fn manifest(root: &Node<'_>) -> (Json, FieldPlaces) {
    let mut places = Places::new();
    let mut pointer = String::new();
    let json = value(root, &mut pointer, &mut places);
    (json, places.into_iter().collect())
}

fn value(node: &Node<'_>, pointer: &mut String, places: &mut Places) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::Number((*value).into()),
        Value::Unsigned(value) => Json::Number((*value).into()),
        Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::Text(text) => Json::String(text.to_string()),
        Value::List(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let length = pointer.len();
                pointer.push('/');
                pointer.push_str(&index.to_string());
                places.push((pointer_hash(pointer), (item.span.line, item.span.column)));
                let item = value(item, pointer, places);
                pointer.truncate(length);
                item
            });
            Json::Array(items.collect())
        }
        Value::Map(entries) => {
            let mut map = Map::new();
            let length = pointer.len();
            for entry in entries {
                if is_left_out(pointer, &entry.key) {
                    continue;
                }
                pointer.push('/');
                pointer.push_str(&escape(&entry.key));
                places.push((pointer_hash(pointer), (entry.key_span.line, entry.key_span.column)));
                let inner = value(&entry.value, pointer, places);
                map.insert(entry.key.to_string(), inner);
                pointer.truncate(length);
            }
            Json::Object(map)
        }
    }
}

fn is_left_out(pointer: &str, key: &str) -> bool {
    match pointer {
        "" => key == "status",
        "/metadata" => SERVER_SIDE_METADATA.contains(&key),
        _ => false,
    }
}

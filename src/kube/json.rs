//! Reading and putting together JSON objects without ceremony.

use serde_json::{Map, Value};

/// The text at a JSON pointer; empty if there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer; 0 if there is none.
pub fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether `true` stands at a JSON pointer.
pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at a JSON pointer; none if there is no list.
pub fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The fields of the object at a JSON pointer; none if there is no object.
pub fn fields<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let object = value.pointer(pointer).and_then(Value::as_object);
    object.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Puts a field unless it is already there.
pub fn default(object: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if object.get(field).is_none_or(Value::is_null) {
        object.insert(field.to_owned(), value.into());
    }
}

/// Puts a field if there is something to put: absent fields are absent, never `null`.
pub fn put<T: Into<Value>>(object: &mut Map<String, Value>, field: &str, value: Option<T>) {
    if let Some(value) = value {
        object.insert(field.to_owned(), value.into());
    }
}

/// Puts a list unless it is empty.
pub fn put_list(object: &mut Map<String, Value>, field: &str, list: Vec<Value>) {
    if !list.is_empty() {
        object.insert(field.to_owned(), Value::Array(list));
    }
}

/// The object's fields, to be changed. A value that is not an object becomes one.
pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object above")
}

/// The object in a field, to be changed; made if it is not there.
pub fn child<'a>(parent: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    object(parent.entry(field).or_insert(Value::Null))
}

/// Drops `null`s, which some clients can't read and which mean nothing.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

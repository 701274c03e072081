//! A manifest as it was written, kept as text: as a tree it takes ten times the memory
//! (docs/performance.md), and it is looked at only when it is shown, or compared with another one.

use std::fmt;
use std::sync::Arc;

use kgit_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Canonical JSON: keys sorted, no blanks.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Manifest(Arc<RawValue>);

impl Manifest {
    pub fn of(value: &Value) -> Self {
        let text = RawValue::from_string(value.to_string()).expect("a value is written as JSON");
        Self(Arc::from(text))
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.0.get().as_bytes())
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was made of a value, or read as one")
    }

    /// What stands at a JSON pointer.
    pub fn at(&self, pointer: &str) -> Option<Value> {
        self.value().pointer_mut(pointer).map(Value::take)
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get())
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Manifest {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_comes_back_from_the_store_as_it_was() {
        let value = json!({"kind": "Pod", "spec": {"b": [1, null], "a": "\u{1f600}\""}});
        let manifest = Manifest::of(&value);
        let stored = serde_json::to_string(&manifest).unwrap();
        assert_eq!(stored, value.to_string(), "and not as a string of its own");
        let again: Manifest = serde_json::from_str(&stored).unwrap();
        assert_eq!((&again, again.digest(), again.value()), (&manifest, manifest.digest(), value));
        assert_eq!(manifest.at("/spec/b/0"), Some(json!(1)));
        assert_eq!(manifest.at("/spec/c"), None);
    }
}

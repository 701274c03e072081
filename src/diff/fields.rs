//! The fields in which two manifests differ, with the place of each.

use serde_json::{Map, Value};

use crate::diff::mask::masked;
use crate::domain::change::{FieldChange, MAX_VALUE_CHARS};
use crate::domain::diagnostic::Place;
use crate::domain::key::Kind;
use crate::domain::resource::Resource;

/// Every field that differs, in the order of the paths. Values of a Secret are masked with `key`.
pub fn field_changes(old: &Resource, new: &Resource, key: &[u8]) -> Vec<FieldChange> {
    let mut walk = Walk { new, key, found: Vec::new() };
    walk.compare(Path::default(), Some(&old.manifest.value()), Some(&new.manifest.value()));
    walk.found
}

/// One field, twice: as a JSON pointer into the new manifest, and as people write it.
#[derive(Clone, Default)]
struct Path {
    pointer: String,
    text: String,
}

impl Path {
    fn field(&self, name: &str) -> Self {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        let text = match (self.text.is_empty(), name.contains(['.', '/', '['])) {
            (true, _) => name.to_owned(),
            (false, false) => format!("{}.{name}", self.text),
            (false, true) => format!("{}[{name}]", self.text),
        };
        Self { pointer: format!("{}/{escaped}", self.pointer), text }
    }

    fn item(&self, index: usize, label: &str) -> Self {
        Self {
            pointer: format!("{}/{index}", self.pointer),
            text: format!("{}[{label}]", self.text),
        }
    }
}

struct Walk<'a> {
    new: &'a Resource,
    key: &'a [u8],
    found: Vec<FieldChange>,
}

impl Walk<'_> {
    fn compare(&mut self, path: Path, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (old, new) if old == new => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) => self.objects(&path, old, new),
            (Some(Value::Array(old)), Some(Value::Array(new))) => self.arrays(&path, old, new),
            (old, new) => self.differ(&path, old, new),
        }
    }

    fn objects(&mut self, path: &Path, old: &Map<String, Value>, new: &Map<String, Value>) {
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            self.compare(path.field(name), old.get(name), new.get(name));
        }
    }

    /// Items that carry names are matched by them, so that an insertion is one change.
    fn arrays(&mut self, path: &Path, old: &[Value], new: &[Value]) {
        let named = old.iter().chain(new).all(|item| name_of(item).is_some());
        if !named {
            for index in 0..old.len().max(new.len()) {
                let path = path.item(index, &index.to_string());
                self.compare(path, old.get(index), new.get(index));
            }
            return;
        }
        for (index, item) in new.iter().enumerate() {
            let name = name_of(item);
            let before = old.iter().find(|old| name_of(old) == name);
            self.compare(path.item(index, name.unwrap_or_default()), before, Some(item));
        }
        for item in old.iter().filter(|old| !new.iter().any(|new| name_of(new) == name_of(old))) {
            let gone = Path {
                pointer: path.pointer.clone(),
                text: format!("{}[{}]", path.text, name_of(item).unwrap_or_default()),
            };
            self.differ(&gone, Some(item), None);
        }
    }

    fn differ(&mut self, path: &Path, old: Option<&Value>, new: Option<&Value>) {
        let place = self.new.fields.nearest(&path.pointer).map_or_else(
            || self.new.place.clone(),
            |(line, column)| Place::new(self.new.place.file.clone(), line, column),
        );
        self.found.push(FieldChange {
            field: path.text.clone(),
            old: old.map(|value| self.shown(path, value)),
            new: new.map(|value| self.shown(path, value)),
            place: Some(place),
        });
    }

    fn shown(&self, path: &Path, value: &Value) -> String {
        let secret = self.new.key.kind == Kind::Secret
            && ["/data", "/stringData", "/metadata/annotations"]
                .iter()
                .any(|top| path.pointer.starts_with(top));
        match value {
            Value::Object(entries) if secret => {
                let names: Vec<&str> = entries.keys().map(String::as_str).collect();
                format!("(secret values: {})", names.join(", "))
            }
            value if secret => masked(self.key, &value.to_string()),
            Value::String(text) => cut(text),
            value => cut(&value.to_string()),
        }
    }
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_VALUE_CHARS {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MAX_VALUE_CHARS - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kgit_protocol::ids::Digest;
    use serde_json::json;

    use super::*;
    use crate::domain::key::ObjectKey;
    use crate::domain::manifest::Manifest;
    use crate::domain::resource::Spec;

    fn resource(kind: Kind, manifest: Value) -> Resource {
        Resource {
            key: ObjectKey::new(kind, "default", "web"),
            labels: Default::default(),
            annotations: Default::default(),
            spec: Spec::Namespace,
            place: Place::new("web.yaml", 1, 1),
            references: Vec::new(),
            digest: Digest::of(manifest.to_string().as_bytes()),
            manifest: Manifest::of(&manifest),
            fields: Arc::default(),
        }
    }

    fn check(kind: Kind, old: Value, new: Value) -> Vec<String> {
        let changes = field_changes(&resource(kind, old), &resource(kind, new), b"key");
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn items_are_matched_by_name() {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "x:1"}]}});
        let new = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "image": "x:2"}]}});
        assert_eq!(
            check(Kind::Pod, old, new),
            [
                r#"spec.containers[b]: (none) → {"name":"b"}  web.yaml:1:1"#,
                "spec.containers[a].image: x:1 → x:2  web.yaml:1:1",
            ]
        );
    }

    #[test]
    fn secret_values_are_masked() {
        let shown = check(
            Kind::Secret,
            json!({"data": {"password": "b25l"}}),
            json!({"data": {"password": "dHdv", "user": "bWU="}}),
        );
        assert_eq!(shown.len(), 2);
        assert!(shown.iter().all(|line| line.contains("(secret ") && !line.contains("dHdv")));
    }
}

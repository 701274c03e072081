//! What names and labels may look like. Source: `k8s.io/apimachinery/pkg/util/validation`.

use crate::domain::selector::Labels;
use crate::manifest::lower::Object;
use crate::manifest::path::Path;

const LABEL_LENGTH: usize = 63;
const SUBDOMAIN_LENGTH: usize = 253;
/// The longest name of a port.
const PORT_NAME_LENGTH: usize = 15;
/// Of all annotations of an object, keys included.
const ANNOTATIONS_LENGTH: usize = 256 * 1024;

/// The shapes that names have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// RFC 1123: lower-case letters, digits and `-`, at most 63.
    Label,
    /// RFC 1035: as `Label`, and starts with a letter.
    Service,
    /// Labels joined by dots, at most 253 in all.
    Subdomain,
    /// As `Label` and at most 15, with a letter in it.
    Port,
}

impl Shape {
    fn rule(self) -> &'static str {
        match self {
            Self::Label => "lower-case letters, digits and `-`, at most 63",
            Self::Service => "lower-case letters, digits and `-`, a letter first, at most 63",
            Self::Subdomain => "lower-case letters, digits, `-` and `.`, at most 253",
            Self::Port => "lower-case letters, digits and `-`, a letter among them, at most 15",
        }
    }

    pub fn accepts(self, name: &str) -> bool {
        match self {
            Self::Label => name.len() <= LABEL_LENGTH && is_label(name),
            Self::Service => {
                Self::Label.accepts(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
            }
            Self::Subdomain => name.len() <= SUBDOMAIN_LENGTH && name.split('.').all(is_label),
            Self::Port => {
                name.len() <= PORT_NAME_LENGTH
                    && is_label(name)
                    && !name.contains("--")
                    && name.contains(|c: char| c.is_ascii_lowercase())
            }
        }
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(inner)
}

/// Letters, digits, `-`, `_` and `.`, of which the first and the last are letters or digits.
fn is_qualified(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    text.len() <= LABEL_LENGTH
        && edge(bytes.first())
        && edge(bytes.last())
        && text.bytes().all(inner)
}

/// `name` or `prefix/name`, as keys of labels and annotations are.
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => Shape::Subdomain.accepts(prefix) && is_qualified(name),
        None => is_qualified(text),
    }
}

pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified(text)
}

/// A key of a ConfigMap or Secret: it becomes a file's name.
pub fn is_config_key(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty()
        && text.len() <= SUBDOMAIN_LENGTH
        && text.bytes().all(inner)
        && text != "."
        && !text.starts_with("..")
}

/// Since Kubernetes 1.32: any printable ASCII but `=`.
pub fn is_env_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

impl Object<'_, '_> {
    pub fn name(&mut self, path: &Path<'_>, name: &str, shape: Shape) {
        if name.is_empty() {
            return self.required(path);
        }
        if !shape.accepts(name) {
            let folded = name.to_lowercase().replace(['_', ' '], "-");
            let hint = shape.accepts(&folded).then(|| format!("`{folded}` would do"));
            let message = format!("`{name}` is not a valid name: {}", shape.rule());
            self.error_with_hint(path, message, hint);
        }
    }

    pub fn labels(&mut self, path: &Path<'_>, labels: &Labels) {
        for (key, value) in labels {
            let at = path.key(key);
            if !is_key(key) {
                self.error(&at, format!("`{key}` is not a valid label key"));
            }
            if !is_label_value(value) {
                let rule = "letters, digits, `-`, `_` and `.`, at most 63";
                self.error(&at, format!("`{value}` is not a valid label value: {rule}"));
            }
        }
    }

    pub fn annotations(&mut self, path: &Path<'_>, annotations: &Labels) {
        for key in annotations.keys().filter(|key| !is_key(&key.to_lowercase())) {
            self.error(&path.key(key), format!("`{key}` is not a valid annotation key"));
        }
        let length: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if length > ANNOTATIONS_LENGTH {
            self.error(
                path,
                format!("annotations of {length} bytes: at most {ANNOTATIONS_LENGTH}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_shapes_that_kubernetes_gives_them() {
        for (shape, good, bad) in [
            (Shape::Label, "web-1", "Web"),
            (Shape::Label, "1", "-web"),
            (Shape::Service, "web", "1web"),
            (Shape::Subdomain, "a.b-c.d", "a..b"),
            (Shape::Port, "http2", "8080"),
            (Shape::Port, "a23456789012345", "a234567890123456"),
        ] {
            assert!(shape.accepts(good), "{shape:?} {good}");
            assert!(!shape.accepts(bad), "{shape:?} {bad}");
        }
    }

    #[test]
    fn label_keys_may_have_a_prefix() {
        assert!(is_key("app.kubernetes.io/name") && is_key("App_1"));
        assert!(!is_key("a/b/c") && !is_key("/a") && !is_key("") && !is_key("Big.Host/a"));
        assert!(is_label_value("") && !is_label_value("a b") && !is_label_value("-a"));
    }
}

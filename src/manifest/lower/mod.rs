//! From the published Kubernetes types into the domain's small ones, once: defaults filled in,
//! and everything checked that Kubernetes' own validation would refuse. Sources of the rules:
//! `pkg/apis/*/v1/defaults.go` and `pkg/apis/*/validation` of Kubernetes.
//!
//! One file per part of an object. What crosses objects is checked in `catalog`, not here.

pub mod affinity;
pub mod autoscaler;
pub mod config;
pub mod container;
pub mod daemon_set;
pub mod env;
pub mod job;
pub mod meta;
pub mod names;
pub mod placement;
pub mod pod;
pub mod policy;
pub mod probe;
pub mod security;
pub mod selector;
pub mod service;
pub mod spread;
pub mod stateful_set;
pub mod storage;
pub mod volume;
pub mod workload;

use std::sync::Arc;

use crate::domain::diagnostic::Severity;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{Reference, ReferenceKind};
use crate::manifest::findings::{Findings, did_you_mean};
use crate::manifest::path::Path;
use crate::manifest::quantity::Quantity;
use crate::manifest::tree::{Node, Span, Value};

/// What the lowering of one object shares: its tree, and what was found on the way.
#[derive(Debug)]
pub struct Object<'a, 't> {
    pub root: &'a Node<'t>,
    pub findings: &'a mut Findings<'t>,
    /// Values that could not be read: nothing more is said about them.
    pub poisoned: &'a [Span],
    pub references: Vec<Reference>,
    pub namespace: Arc<str>,
    pub errors: usize,
}

impl Object<'_, '_> {
    pub fn error(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.error_with_hint(path, message, None);
    }

    pub fn error_with_hint(
        &mut self,
        path: &Path<'_>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.errors += 1;
        if !self.is_poisoned(path) {
            let span = self.span(path);
            self.findings.push(Severity::Error, span, "invalid-value", message, hint);
        }
    }

    pub fn required(&mut self, path: &Path<'_>) {
        let message = format!("`{}` is required", path.dotted());
        self.error(path, message);
    }

    pub fn warn(&mut self, path: &Path<'_>, code: &'static str, message: impl Into<String>) {
        self.warn_with_hint(path, code, message, None);
    }

    pub fn warn_with_hint(
        &mut self,
        path: &Path<'_>,
        code: &'static str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let span = self.span(path);
        self.findings.push(Severity::Warning, span, code, message, hint);
    }

    /// True if the object says something at that path.
    pub fn says(&self, path: &Path<'_>) -> bool {
        path.find(self.root).complete
    }

    /// The value if it is there and short, the key of it or of what should hold it if not.
    fn span(&self, path: &Path<'_>) -> Span {
        let found = path.find(self.root);
        let is_short = !matches!(found.node.value, Value::List(_) | Value::Map(_));
        if found.complete && is_short && found.value.line == found.place.line {
            found.value
        } else {
            found.place
        }
    }

    fn is_poisoned(&self, path: &Path<'_>) -> bool {
        !self.poisoned.is_empty()
            && path.any_on_the_way(self.root, &|node| self.poisoned.contains(&node.span))
    }

    /// Notes that this object refers to another one, in its own namespace where the kind has one.
    pub fn refer(&mut self, kind: Kind, name: &str, how: ReferenceKind, path: &Path<'_>) {
        let to = ObjectKey::new(kind, &self.namespace, name);
        self.refer_to(to, how, path);
    }

    pub fn refer_to(&mut self, to: ObjectKey, kind: ReferenceKind, path: &Path<'_>) {
        if !to.name.is_empty() {
            let place = self.findings.place(self.span(path));
            self.references.push(Reference { to, kind, field: path.to_string(), place });
        }
    }

    /// One of some words, or a default.
    pub fn choice<T: Copy>(
        &mut self,
        path: &Path<'_>,
        written: Option<&str>,
        default: T,
        known: &[(&str, T)],
    ) -> T {
        let Some(written) = written.filter(|text| !text.is_empty()) else { return default };
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == written) {
            return *value;
        }
        let words: Vec<_> = known.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("`{written}` is not one of {}", words.join(", "));
        let hint = did_you_mean(written, known.iter().map(|(word, _)| *word));
        self.error_with_hint(path, message, hint);
        default
    }

    /// A whole number not below `least`.
    pub fn count(
        &mut self,
        path: &Path<'_>,
        written: Option<i64>,
        default: u32,
        least: u32,
    ) -> u32 {
        let Some(written) = written else { return default };
        match u32::try_from(written) {
            Ok(value) if value >= least => value,
            _ => {
                self.error(path, format!("{written} is out of range: at least {least}"));
                default
            }
        }
    }

    pub fn optional_count(
        &mut self,
        path: &Path<'_>,
        written: Option<i64>,
        least: u32,
    ) -> Option<u32> {
        written.map(|written| self.count(path, Some(written), least, least))
    }

    pub fn port(&mut self, path: &Path<'_>, written: i64) -> u16 {
        match u16::try_from(written) {
            Ok(port) if port > 0 => port,
            _ => {
                self.error(path, format!("{written} is not a port: 1 to 65535"));
                1
            }
        }
    }

    /// Not negative.
    pub fn quantity(&mut self, path: &Path<'_>, written: &str) -> Option<Quantity> {
        let parsed = Quantity::parse(written);
        match parsed {
            Some(quantity) if quantity.millis >= 0 => return Some(quantity),
            Some(_) => self.error(path, format!("`{written}` is negative")),
            None => self.error_with_hint(
                path,
                format!("`{written}` is not a quantity"),
                Some("a number with a suffix: `500m`, `2`, `128Mi`, `1.5Gi`".to_owned()),
            ),
        }
        None
    }

    pub fn bytes(&mut self, path: &Path<'_>, written: &str) -> Option<u64> {
        let quantity = self.quantity(path, written)?;
        let bytes = quantity.units();
        if bytes.is_none() {
            self.error(path, format!("`{written}` is too large"));
        }
        bytes
    }

    /// Reports an empty text that must not be.
    pub fn filled(&mut self, path: &Path<'_>, text: &str) {
        if text.is_empty() {
            self.required(path);
        }
    }

    /// Reports a path that leads out of the folder it is relative to.
    pub fn inner_path(&mut self, path: &Path<'_>, text: &str) {
        if text.starts_with('/') {
            self.error(path, format!("`{text}` must be relative"));
        } else if text.split('/').any(|part| part == "..") {
            self.error(path, format!("`{text}` must not contain `..`"));
        }
    }
}

//! Whether a pod is one that another pod's (anti-)affinity is about.

use std::sync::Arc;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::selector::{Labels, Selector};
use crate::domain::template::PodTerm;
use crate::domain::world::World;

/// Whether `other` is one of the pods that a term of `pod` is about.
pub fn term_matches(world: &World, term: &PodTerm, pod: &Pod, other: &Pod) -> bool {
    let Some(selector) = &term.selector else { return false };
    selector.matches(&other.labels)
        && shared(term, pod, other)
        && in_scope(world, term, pod, &other.key.namespace)
}

/// `matchLabelKeys` and `mismatchLabelKeys`; a key that the pod itself lacks asks for nothing.
fn shared(term: &PodTerm, pod: &Pod, other: &Pod) -> bool {
    let equal = |key: &String| match pod.labels.get(key) {
        None => None,
        own => Some(own == other.labels.get(key)),
    };
    term.match_label_keys.iter().filter_map(equal).all(|equal| equal)
        && term.mismatch_label_keys.iter().filter_map(equal).all(|equal| !equal)
}

fn in_scope(world: &World, term: &PodTerm, pod: &Pod, namespace: &Arc<str>) -> bool {
    if term.namespaces.is_empty() && term.namespace_selector.is_none() {
        return pod.key.namespace == *namespace;
    }
    term.namespaces.iter().any(|name| **name == **namespace)
        || term.namespace_selector.as_ref().is_some_and(|it| selects(world, it, namespace))
}

/// The label that every namespace has, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn selects(world: &World, selector: &Selector, namespace: &Arc<str>) -> bool {
    let key = ObjectKey::new(Kind::Namespace, "", namespace);
    let written = world.objects.get(&key).map(|row| row.resource.labels.clone());
    let mut labels: Labels = written.unwrap_or_default();
    labels.insert(NAME_LABEL.to_owned(), namespace.to_string());
    selector.matches(&labels)
}

//! Which pods a pod is to be near, and which not.

use k8s_openapi::api::core::v1::{
    PodAffinity, PodAffinityTerm, PodAntiAffinity, WeightedPodAffinityTerm,
};

use crate::domain::template::{PodTerm, PreferredPods};
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::names::{Shape, is_key};
use crate::manifest::lower::selector::label_selector;
use crate::manifest::path::Path;

pub const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
pub const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn required(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&PodAffinity>,
) -> Vec<PodTerm> {
    let written =
        written.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_deref());
    terms(object, &path.key("podAffinity"), written)
}

pub fn required_anti(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&PodAntiAffinity>,
) -> Vec<PodTerm> {
    let written =
        written.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_deref());
    terms(object, &path.key("podAntiAffinity"), written)
}

/// Wishes of both kinds; those to be away from pods have negative weights.
pub fn preferred(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    near: Option<&PodAffinity>,
    away: Option<&PodAntiAffinity>,
) -> Vec<PreferredPods> {
    let near =
        near.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_deref());
    let away =
        away.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_deref());
    let mut all = weighted(object, &path.key("podAffinity"), near);
    let away = weighted(object, &path.key("podAntiAffinity"), away);
    all.extend(away.into_iter().map(|it| PreferredPods { weight: -it.weight, ..it }));
    all
}

fn weighted(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&[WeightedPodAffinityTerm]>,
) -> Vec<PreferredPods> {
    each(path, PREFERRED, written, |at, it| {
        let weight = weight(object, at, it.weight);
        let term = term(object, &at.key("podAffinityTerm"), &it.pod_affinity_term);
        Some(PreferredPods { weight, term })
    })
}

pub fn weight(object: &mut Object<'_, '_>, path: &Path<'_>, written: i32) -> i32 {
    if !(1..=100).contains(&written) {
        object.error(&path.key("weight"), format!("{written} is out of range: 1 to 100"));
    }
    written.clamp(1, 100)
}

fn terms(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&[PodAffinityTerm]>,
) -> Vec<PodTerm> {
    each(path, REQUIRED, written, |at, it| Some(term(object, at, it)))
}

fn term(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodAffinityTerm) -> PodTerm {
    let namespaces = written.namespaces.clone().unwrap_or_default();
    let parent = path.key("namespaces");
    for (index, namespace) in namespaces.iter().enumerate() {
        object.name(&parent.index(index), namespace, Shape::Label);
    }
    let selector = written.label_selector.as_ref();
    let in_namespaces = written.namespace_selector.as_ref();
    topology_key(object, path, &written.topology_key);
    PodTerm {
        selector: selector.map(|it| label_selector(object, &path.key("labelSelector"), it)),
        namespaces,
        namespace_selector: in_namespaces
            .map(|it| label_selector(object, &path.key("namespaceSelector"), it)),
        match_label_keys: keys(object, path, "matchLabelKeys", written.match_label_keys.as_deref()),
        mismatch_label_keys: keys(
            object,
            path,
            "mismatchLabelKeys",
            written.mismatch_label_keys.as_deref(),
        ),
        topology_key: written.topology_key.clone(),
    }
}

pub fn topology_key(object: &mut Object<'_, '_>, path: &Path<'_>, written: &str) {
    let path = path.key("topologyKey");
    if written.is_empty() {
        object.required(&path);
    } else if !is_key(written) {
        object.error(&path, format!("`{written}` is not a valid label key"));
    }
}

/// Keys of labels.
pub fn keys(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    key: &str,
    written: Option<&[String]>,
) -> Vec<String> {
    each(path, key, written, |at, it: &String| {
        if !is_key(it) {
            object.error(at, format!("`{it}` is not a valid label key"));
        }
        Some(it.clone())
    })
}

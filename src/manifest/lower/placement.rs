//! Where a pod may run.

use k8s_openapi::api::core::v1::{NodeSelector, PodSpec, Toleration as WrittenToleration};

use crate::domain::selector::Selector;
use crate::domain::template::{Placement, Toleration};
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::selector::node_selector_term;
use crate::manifest::path::Path;

const EFFECTS: [(&str, &str); 3] = [
    ("NoSchedule", "NoSchedule"),
    ("PreferNoSchedule", "PreferNoSchedule"),
    ("NoExecute", "NoExecute"),
];

pub fn placement(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodSpec) -> Placement {
    let node_selector = written.node_selector.clone().unwrap_or_default();
    object.labels(&path.key("nodeSelector"), &node_selector);
    let affinity = written.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let at = path.key("affinity");
    let at = at.key("nodeAffinity");
    let at = at.key("requiredDuringSchedulingIgnoredDuringExecution");
    Placement {
        node_name: written.node_name.clone().filter(|name| !name.is_empty()),
        node_selector,
        node_affinity: required.map(|it| node_selector_of(object, &at, it)).unwrap_or_default(),
        tolerations: each(path, "tolerations", written.tolerations.as_deref(), |at, it| {
            Some(toleration(object, at, it))
        }),
    }
}

/// The terms of a node selector, of which one must match.
pub fn node_selector_of(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &NodeSelector,
) -> Vec<Selector> {
    if written.node_selector_terms.is_empty() {
        object.required(&path.key("nodeSelectorTerms"));
    }
    each(path, "nodeSelectorTerms", Some(&written.node_selector_terms), |at, term| {
        Some(node_selector_term(object, at, term))
    })
}

fn toleration(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenToleration,
) -> Toleration {
    let operators = [("Equal", true), ("Exists", false)];
    let operator = written.operator.as_deref();
    let equal = object.choice(&path.key("operator"), operator, true, &operators);
    let key = written.key.clone().unwrap_or_default();
    if key.is_empty() && equal {
        object.error(&path.key("operator"), "must be `Exists` where there is no `key`");
    }
    let value = written.value.clone().unwrap_or_default();
    if !equal && !value.is_empty() {
        object.error(&path.key("value"), "`Exists` takes no value");
    }
    let effect = written.effect.as_deref();
    let effect = object.choice(&path.key("effect"), effect, "", &EFFECTS);
    // A time in the past tolerates for no time at all.
    let seconds = written.toleration_seconds.map(|seconds| seconds.max(0));
    Toleration {
        key,
        value: equal.then_some(value),
        effect: (!effect.is_empty()).then(|| effect.to_owned()),
        seconds: seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
    }
}

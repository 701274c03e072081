//! Where a pod may run.

use k8s_openapi::api::core::v1::{NodeSelector, PodSpec, Toleration as WrittenToleration};

use crate::domain::autoscaling::BUILT_IN_PRIORITIES;
use crate::domain::key::Kind;
use crate::domain::resource::ReferenceKind;
use crate::domain::selector::NodeTerm;
use crate::domain::template::{Placement, PreferredNodes, Toleration, effect};
use crate::manifest::lower::affinity::{self, PREFERRED, REQUIRED};
use crate::manifest::lower::container::each;
use crate::manifest::lower::selector::node_selector_term;
use crate::manifest::lower::{Object, spread};
use crate::manifest::path::Path;

const EFFECTS: [(&str, &str); 3] = [
    (effect::NO_SCHEDULE, effect::NO_SCHEDULE),
    (effect::PREFER_NO_SCHEDULE, effect::PREFER_NO_SCHEDULE),
    (effect::NO_EXECUTE, effect::NO_EXECUTE),
];

pub fn placement(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodSpec) -> Placement {
    let node_selector = written.node_selector.clone().unwrap_or_default();
    object.labels(&path.key("nodeSelector"), &node_selector);
    let affinity = written.affinity.clone().unwrap_or_default();
    let at = path.key("affinity");
    let nodes = affinity.node_affinity.unwrap_or_default();
    let required = nodes.required_during_scheduling_ignored_during_execution;
    let preferred = nodes.preferred_during_scheduling_ignored_during_execution;
    let nodes_at = at.key("nodeAffinity");
    let required_at = nodes_at.key(REQUIRED);
    Placement {
        node_name: written.node_name.clone().filter(|name| !name.is_empty()),
        node_selector,
        node_affinity: required
            .map(|it| node_selector_of(object, &required_at, &it))
            .unwrap_or_default(),
        tolerations: each(path, "tolerations", written.tolerations.as_deref(), |at, it| {
            Some(toleration(object, at, it))
        }),
        preferred_nodes: each(&nodes_at, PREFERRED, preferred.as_deref(), |at, it| {
            let weight = affinity::weight(object, at, it.weight);
            let term = node_selector_term(object, &at.key("preference"), &it.preference);
            Some(PreferredNodes { weight, term })
        }),
        pod_affinity: affinity::required(object, &at, affinity.pod_affinity.as_ref()),
        pod_anti_affinity: affinity::required_anti(
            object,
            &at,
            affinity.pod_anti_affinity.as_ref(),
        ),
        preferred_pods: affinity::preferred(
            object,
            &at,
            affinity.pod_affinity.as_ref(),
            affinity.pod_anti_affinity.as_ref(),
        ),
        spread: spread::constraints(object, path, written),
        priority_class: priority_class(object, path, written),
        never_preempts: never_preempts(object, path, written.preemption_policy.as_deref()),
    }
}

fn priority_class(object: &mut Object<'_, '_>, path: &Path<'_>, written: &PodSpec) -> String {
    let name = written.priority_class_name.clone().unwrap_or_default();
    let is_built_in = BUILT_IN_PRIORITIES.iter().any(|(built_in, _)| *built_in == name);
    if !is_built_in {
        let how = ReferenceKind::Needs;
        object.refer(Kind::PriorityClass, &name, how, &path.key("priorityClassName"));
    }
    name
}

/// `PreemptLowerPriority` or `Never`; `None` where nothing is said.
pub fn never_preempts(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&str>,
) -> Option<bool> {
    let policies = [("PreemptLowerPriority", Some(false)), ("Never", Some(true))];
    object.choice(&path.key("preemptionPolicy"), written, None, &policies)
}

/// The terms of a node selector, of which one must match.
pub fn node_selector_of(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &NodeSelector,
) -> Vec<NodeTerm> {
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
    if written.toleration_seconds.is_some() && !matches!(effect, "" | effect::NO_EXECUTE) {
        let message = "only what is tolerated of `NoExecute` has an end";
        object.error(&path.key("tolerationSeconds"), message);
    }
    // A time in the past tolerates for no time at all.
    let seconds = written.toleration_seconds.map(|seconds| seconds.max(0));
    Toleration {
        key,
        value: equal.then_some(value),
        effect: (!effect.is_empty()).then(|| effect.to_owned()),
        seconds: seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
    }
}

//! PodDisruptionBudgets and PriorityClasses.

use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use k8s_openapi::api::scheduling::v1::PriorityClass as WrittenClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::domain::autoscaling::{
    BUILT_IN_PRIORITIES, DisruptionBound, DisruptionBudgetSpec, HIGHEST_USER_PRIORITY,
    PriorityClassSpec,
};
use crate::domain::key::ObjectKey;
use crate::domain::resource::IntOrPercent;
use crate::manifest::lower::Object;
use crate::manifest::lower::placement::never_preempts;
use crate::manifest::lower::selector::label_selector;
use crate::manifest::lower::workload::share;
use crate::manifest::path::Path;

const EVICTIONS: [(&str, bool); 2] = [("IfHealthyBudget", false), ("AlwaysAllow", true)];

pub fn disruption_budget(
    object: &mut Object<'_, '_>,
    written: &PodDisruptionBudgetSpec,
) -> DisruptionBudgetSpec {
    let path = Path::ROOT.key("spec");
    let selector = written.selector.as_ref();
    let policy = written.unhealthy_pod_eviction_policy.as_deref();
    let policy_at = path.key("unhealthyPodEvictionPolicy");
    DisruptionBudgetSpec {
        selector: selector.map(|it| label_selector(object, &path.key("selector"), it)),
        bound: bound(object, &path, written),
        unhealthy_may_always_go: object.choice(&policy_at, policy, false, &EVICTIONS),
    }
}

fn bound(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodDisruptionBudgetSpec,
) -> DisruptionBound {
    match (&written.min_available, &written.max_unavailable) {
        (Some(_), Some(_)) => {
            let message = "says the same as `minAvailable` in another way: give one of the two";
            object.error(&path.key("maxUnavailable"), message);
            DisruptionBound::MaxUnavailable(IntOrPercent::Int(0))
        }
        (Some(least), None) => {
            DisruptionBound::MinAvailable(part(object, &path.key("minAvailable"), least))
        }
        (None, Some(most)) => {
            DisruptionBound::MaxUnavailable(part(object, &path.key("maxUnavailable"), most))
        }
        // Upstream's controller then expects no pods, and lets none of them go.
        (None, None) => DisruptionBound::MaxUnavailable(IntOrPercent::Int(0)),
    }
}

/// A number of pods, or a part of all of them. Source: `ValidatePodDisruptionBudgetSpec`.
fn part(object: &mut Object<'_, '_>, path: &Path<'_>, written: &IntOrString) -> IntOrPercent {
    let read = share(object, path, written);
    if let IntOrPercent::Percent(percent) = read
        && percent > 100
    {
        object.error(path, format!("{percent}% is more than all of them: at most `100%`"));
    }
    read
}

pub fn priority_class(
    object: &mut Object<'_, '_>,
    key: &ObjectKey,
    written: &WrittenClass,
) -> PriorityClassSpec {
    let built_in = BUILT_IN_PRIORITIES.iter().any(|(name, _)| *name == &*key.name);
    if key.name.starts_with("system-") && !built_in {
        let metadata = Path::ROOT.key("metadata");
        object.error(&metadata.key("name"), "names that begin with `system-` are taken");
    }
    if written.value > HIGHEST_USER_PRIORITY && !built_in {
        let message = format!("{} is out of range: at most {HIGHEST_USER_PRIORITY}", written.value);
        object.error(&Path::ROOT.key("value"), message);
    }
    let policy = written.preemption_policy.as_deref();
    PriorityClassSpec {
        value: written.value,
        global_default: written.global_default.unwrap_or(false),
        never_preempts: never_preempts(object, &Path::ROOT, policy).unwrap_or(false),
        description: written.description.clone().unwrap_or_default(),
    }
}

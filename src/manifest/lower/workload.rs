//! What keeps pods running: ReplicaSets, Deployments.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    DeploymentSpec as WrittenDeployment, DeploymentStrategy, ReplicaSetSpec as WrittenReplicaSet,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::domain::resource::{DeploymentSpec, IntOrPercent, ReplicaSetSpec, Strategy};
use crate::manifest::lower::Object;
use crate::manifest::lower::pod::{Restarts, template};
use crate::manifest::lower::selector::{label_selector, must_match};
use crate::manifest::path::Path;

/// What one workload may ask for: as many pods as a whole cluster of kgit is made for (docs/performance.md).
const MAX_PODS: u32 = 10_000;
/// Source: `SetDefaults_Deployment`.
const DEFAULT_REVISION_HISTORY: u32 = 10;
const DEFAULT_PROGRESS_DEADLINE_SECONDS: u32 = 600;
const DEFAULT_SURGE: IntOrPercent = IntOrPercent::Percent(25);
const DEFAULT_UNAVAILABLE: IntOrPercent = IntOrPercent::Percent(25);

pub fn replica_set(object: &mut Object<'_, '_>, written: &WrittenReplicaSet) -> ReplicaSetSpec {
    let path = Path::ROOT.key("spec");
    let empty = Default::default();
    let template_of = written.template.as_ref().unwrap_or(&empty);
    if written.template.is_none() {
        object.required(&path.key("template"));
    }
    let template = template(object, template_of, Restarts::AlwaysOnly);
    let selector = label_selector(object, &path.key("selector"), &written.selector);
    must_match(object, &path.key("selector"), &selector, &template.labels);
    ReplicaSetSpec {
        replicas: replicas(object, written.replicas),
        selector,
        min_ready_seconds: min_ready(object, written.min_ready_seconds),
        template: Arc::new(template),
    }
}

pub fn deployment(object: &mut Object<'_, '_>, written: &WrittenDeployment) -> DeploymentSpec {
    let path = Path::ROOT.key("spec");
    let template = template(object, &written.template, Restarts::AlwaysOnly);
    let selector = label_selector(object, &path.key("selector"), &written.selector);
    must_match(object, &path.key("selector"), &selector, &template.labels);
    let min_ready_seconds = min_ready(object, written.min_ready_seconds);
    let at = path.key("progressDeadlineSeconds");
    let deadline = written.progress_deadline_seconds.map(i64::from);
    let deadline = object.count(&at, deadline, DEFAULT_PROGRESS_DEADLINE_SECONDS, 0);
    if deadline <= min_ready_seconds {
        object.error(&at, format!("must be more than `minReadySeconds`, {min_ready_seconds}"));
    }
    DeploymentSpec {
        replicas: replicas(object, written.replicas),
        selector,
        template: Arc::new(template),
        strategy: strategy(object, written.strategy.as_ref()),
        min_ready_seconds,
        revision_history_limit: object.count(
            &path.key("revisionHistoryLimit"),
            written.revision_history_limit.map(i64::from),
            DEFAULT_REVISION_HISTORY,
            0,
        ),
        progress_deadline_seconds: deadline,
        paused: written.paused.unwrap_or(false),
    }
}

fn replicas(object: &mut Object<'_, '_>, written: Option<i32>) -> u32 {
    let path = Path::ROOT.key("spec");
    let replicas = object.count(&path.key("replicas"), written.map(i64::from), 1, 0);
    at_most_pods(object, &path.key("replicas"), replicas)
}

/// Refuses a number of pods that no plan could be made for.
pub fn at_most_pods(object: &mut Object<'_, '_>, path: &Path<'_>, count: u32) -> u32 {
    if count <= MAX_PODS {
        return count;
    }
    object.error(path, format!("{count} is out of range: at most {MAX_PODS} pods of one workload"));
    MAX_PODS
}

fn min_ready(object: &mut Object<'_, '_>, written: Option<i32>) -> u32 {
    let path = Path::ROOT.key("spec");
    object.count(&path.key("minReadySeconds"), written.map(i64::from), 0, 0)
}

fn strategy(object: &mut Object<'_, '_>, written: Option<&DeploymentStrategy>) -> Strategy {
    let spec = Path::ROOT.key("spec");
    let path = spec.key("strategy");
    let kind = written.and_then(|written| written.type_.as_deref());
    let kinds = [("RollingUpdate", true), ("Recreate", false)];
    let rolling = object.choice(&path.key("type"), kind, true, &kinds);
    let settings = written.and_then(|written| written.rolling_update.as_ref());
    let at = path.key("rollingUpdate");
    if !rolling {
        if settings.is_some() {
            object.error(&at, "has no meaning where the type is `Recreate`");
        }
        return Strategy::Recreate;
    }
    let surge = settings.and_then(|settings| settings.max_surge.as_ref());
    let max_surge = surge.map_or(DEFAULT_SURGE, |it| share(object, &at.key("maxSurge"), it));
    let unavailable = settings.and_then(|settings| settings.max_unavailable.as_ref());
    let unavailable_at = at.key("maxUnavailable");
    let max_unavailable =
        unavailable.map_or(DEFAULT_UNAVAILABLE, |it| share(object, &unavailable_at, it));
    if is_zero(max_surge) && is_zero(max_unavailable) {
        let message = "may not be 0 when `maxSurge` is 0 too: nothing could ever be replaced";
        object.error(&unavailable_at, message);
    }
    if matches!(max_unavailable, IntOrPercent::Percent(percent) if percent > 100) {
        object.error(&unavailable_at, "must not be more than 100 %");
    }
    Strategy::RollingUpdate { max_surge, max_unavailable }
}

fn is_zero(value: IntOrPercent) -> bool {
    matches!(value, IntOrPercent::Int(0) | IntOrPercent::Percent(0))
}

/// A number, or a percentage as text.
pub fn share(object: &mut Object<'_, '_>, path: &Path<'_>, written: &IntOrString) -> IntOrPercent {
    let read = match written {
        IntOrString::Int(number) => u32::try_from(*number).ok().map(IntOrPercent::Int),
        IntOrString::String(text) => percent(text),
    };
    read.unwrap_or_else(|| {
        let hint = Some("a number, or a percentage such as `25%`".to_owned());
        let message = match written {
            IntOrString::Int(number) => format!("{number} is negative"),
            IntOrString::String(text) => format!("`{text}` is not a percentage"),
        };
        object.error_with_hint(path, message, hint);
        IntOrPercent::Int(1)
    })
}

pub fn percent(text: &str) -> Option<IntOrPercent> {
    text.strip_suffix('%')?.parse().ok().map(IntOrPercent::Percent)
}

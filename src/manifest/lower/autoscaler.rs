//! HorizontalPodAutoscalers, of autoscaling/v2 and v1.
//!
//! Source of defaults: `pkg/apis/autoscaling/v2/defaults.go`.

use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscalerSpec as WrittenV1;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerSpec as Written, MetricSpec,
    MetricTarget as WrittenTarget,
};

use crate::domain::autoscaling::{
    AutoscalerSpec, MeasuredResource, MetricTarget, PolicyChange, PolicySelect, ResourceMetric,
    ScalingPolicy, ScalingRules,
};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::ReferenceKind;
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::workload::at_most_pods;
use crate::manifest::path::Path;

const DEFAULT_UTILIZATION: u32 = 80;
const UP_POLICIES: [ScalingPolicy; 2] = [
    ScalingPolicy { change: PolicyChange::Pods(4), period_seconds: 15 },
    ScalingPolicy { change: PolicyChange::Percent(100), period_seconds: 15 },
];
const DOWN_POLICIES: [ScalingPolicy; 1] =
    [ScalingPolicy { change: PolicyChange::Percent(100), period_seconds: 15 }];
const UP_STABILIZATION_SECONDS: u32 = 0;
const DOWN_STABILIZATION_SECONDS: u32 = 300;
/// Source: `ValidateHorizontalPodAutoscaler`.
const MAX_STABILIZATION_SECONDS: u32 = 3600;
const MAX_PERIOD_SECONDS: u32 = 1800;

pub fn autoscaler(object: &mut Object<'_, '_>, written: &Written) -> AutoscalerSpec {
    let path = Path::ROOT.key("spec");
    let target = &written.scale_target_ref;
    let target = target_of(object, &target.kind, &target.name);
    let (min_replicas, max_replicas) = bounds(object, written.min_replicas, written.max_replicas);
    let written_metrics = written.metrics.as_deref().filter(|metrics| !metrics.is_empty());
    let mut metrics = each(&path, "metrics", written_metrics, |at, it| metric(object, at, it));
    if written_metrics.is_none() {
        metrics.push(cpu(DEFAULT_UTILIZATION));
    }
    let behavior = written.behavior.as_ref();
    let at = path.key("behavior");
    let up = behavior.and_then(|it| it.scale_up.as_ref());
    let down = behavior.and_then(|it| it.scale_down.as_ref());
    AutoscalerSpec {
        target,
        min_replicas,
        max_replicas,
        metrics,
        scale_up: rules(object, &at.key("scaleUp"), up, UP_STABILIZATION_SECONDS, &UP_POLICIES),
        scale_down: rules(
            object,
            &at.key("scaleDown"),
            down,
            DOWN_STABILIZATION_SECONDS,
            &DOWN_POLICIES,
        ),
    }
}

pub fn autoscaler_v1(object: &mut Object<'_, '_>, written: &WrittenV1) -> AutoscalerSpec {
    let path = Path::ROOT.key("spec");
    let target = &written.scale_target_ref;
    let target = target_of(object, &target.kind, &target.name);
    let (min_replicas, max_replicas) = bounds(object, written.min_replicas, written.max_replicas);
    let aim = written.target_cpu_utilization_percentage.map(i64::from);
    let aim =
        object.count(&path.key("targetCPUUtilizationPercentage"), aim, DEFAULT_UTILIZATION, 1);
    let unset = None;
    AutoscalerSpec {
        target,
        min_replicas,
        max_replicas,
        metrics: vec![cpu(aim)],
        scale_up: rules(object, &path, unset, UP_STABILIZATION_SECONDS, &UP_POLICIES),
        scale_down: rules(object, &path, unset, DOWN_STABILIZATION_SECONDS, &DOWN_POLICIES),
    }
}

fn cpu(percent: u32) -> ResourceMetric {
    ResourceMetric {
        resource: MeasuredResource::Cpu,
        container: None,
        target: MetricTarget::Utilization(percent),
    }
}

fn target_of(object: &mut Object<'_, '_>, kind: &str, name: &str) -> ObjectKey {
    let path = Path::ROOT.key("spec");
    let at = path.key("scaleTargetRef");
    let kinds = [
        ("Deployment", Kind::Deployment),
        ("StatefulSet", Kind::StatefulSet),
        ("ReplicaSet", Kind::ReplicaSet),
        ("ReplicationController", Kind::ReplicationController),
    ];
    object.filled(&at.key("kind"), kind);
    object.filled(&at.key("name"), name);
    let kind = object.choice(&at.key("kind"), Some(kind), Kind::Deployment, &kinds);
    object.refer(kind, name, ReferenceKind::Scales, &at.key("name"));
    ObjectKey::new(kind, &object.namespace, name)
}

fn bounds(object: &mut Object<'_, '_>, min: Option<i32>, max: i32) -> (u32, u32) {
    let path = Path::ROOT.key("spec");
    let min = object.count(&path.key("minReplicas"), min.map(i64::from), 1, 1);
    let max = object.count(&path.key("maxReplicas"), Some(i64::from(max)), 1, 1);
    let max = at_most_pods(object, &path.key("maxReplicas"), max);
    if max < min {
        object
            .error(&path.key("maxReplicas"), format!("must not be less than `minReplicas`, {min}"));
    }
    (min, max.max(min))
}

/// `None`, and said, for figures that no container engine has.
fn metric(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &MetricSpec,
) -> Option<ResourceMetric> {
    let (at, name, container, target) = match (&written.resource, &written.container_resource) {
        (Some(of_pod), None) => (path.key("resource"), &of_pod.name, None, &of_pod.target),
        (None, Some(of_container)) => (
            path.key("containerResource"),
            &of_container.name,
            Some(of_container.container.clone()),
            &of_container.target,
        ),
        _ => {
            let hint = "kgit measures cpu and memory: `type: Resource`, or `ContainerResource`";
            let message = format!("there are no figures of type `{}`", written.type_);
            object.error_with_hint(&path.key("type"), message, Some(hint.to_owned()));
            return None;
        }
    };
    let known = [("cpu", MeasuredResource::Cpu), ("memory", MeasuredResource::Memory)];
    let resource = object.choice(&at.key("name"), Some(name), MeasuredResource::Cpu, &known);
    let target = metric_target(object, &at.key("target"), target, resource)?;
    Some(ResourceMetric { resource, container, target })
}

fn metric_target(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenTarget,
    resource: MeasuredResource,
) -> Option<MetricTarget> {
    match (written.average_utilization, &written.average_value) {
        (Some(percent), None) => {
            let at = path.key("averageUtilization");
            let percent = object.count(&at, Some(i64::from(percent)), 1, 1);
            Some(MetricTarget::Utilization(percent))
        }
        (None, Some(value)) => {
            let at = path.key("averageValue");
            let quantity = object.quantity(&at, &value.0)?;
            let amount = match resource {
                MeasuredResource::Cpu => u64::try_from(quantity.millis).ok(),
                MeasuredResource::Memory => quantity.units(),
            };
            if amount.is_none_or(|amount| amount == 0) {
                object.error(&at, "must be more than 0");
            }
            Some(MetricTarget::AverageValue(amount?))
        }
        _ => {
            object.error(path, "needs one of `averageUtilization` and `averageValue`");
            None
        }
    }
}

fn rules(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&HPAScalingRules>,
    stabilization: u32,
    policies: &[ScalingPolicy],
) -> ScalingRules {
    let default = || ScalingRules {
        stabilization_seconds: stabilization,
        select: PolicySelect::Max,
        policies: policies.to_vec(),
    };
    let Some(written) = written else { return default() };
    let selects = [
        ("Max", PolicySelect::Max),
        ("Min", PolicySelect::Min),
        ("Disabled", PolicySelect::Disabled),
    ];
    let select = written.select_policy.as_deref();
    let seconds = written.stabilization_window_seconds.map(i64::from);
    let at = path.key("stabilizationWindowSeconds");
    let stabilization_seconds = object.count(&at, seconds, stabilization, 0);
    if stabilization_seconds > MAX_STABILIZATION_SECONDS {
        object.error(&at, format!("must be at most {MAX_STABILIZATION_SECONDS}"));
    }
    let own = each(path, "policies", written.policies.as_deref(), |at, policy| {
        let period = Some(i64::from(policy.period_seconds));
        let period_seconds = object.count(&at.key("periodSeconds"), period, 1, 1);
        if period_seconds > MAX_PERIOD_SECONDS {
            object.error(&at.key("periodSeconds"), format!("must be at most {MAX_PERIOD_SECONDS}"));
        }
        let value = object.count(&at.key("value"), Some(i64::from(policy.value)), 1, 1);
        let kinds =
            [("Pods", PolicyChange::Pods(value)), ("Percent", PolicyChange::Percent(value))];
        let kind = Some(policy.type_.as_str());
        let change = object.choice(&at.key("type"), kind, PolicyChange::Pods(value), &kinds);
        Some(ScalingPolicy { change, period_seconds })
    });
    ScalingRules {
        stabilization_seconds,
        select: object.choice(&path.key("selectPolicy"), select, PolicySelect::Max, &selects),
        policies: if own.is_empty() { policies.to_vec() } else { own },
    }
}

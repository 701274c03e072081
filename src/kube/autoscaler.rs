//! HorizontalPodAutoscalers, as autoscaling/v2 has them, whichever version their manifest is of.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::autoscaling::{
    AutoscalerSpec, AutoscalerState, MeasuredResource, MetricTarget, MetricValue, PolicyChange,
    PolicySelect, ResourceMetric, ScalingRules,
};
use crate::domain::key::ObjectKey;

use crate::domain::resource::Spec;
use crate::kube::human;
use crate::kube::json::{items, number, object, put, text, without_nulls};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;

/// How many metrics the table shows. Source: upstream's `formatHPAMetrics`.
const SHOWN_METRICS: usize = 2;

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Reference"),
    Column::text("Targets"),
    Column::text("MinPods"),
    Column::text("MaxPods"),
    Column::number("Replicas"),
    Column::text("Age"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let Spec::Autoscaler(decided) = &applied.resource.spec else { return None };
    let state = seen.world.autoscalers.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let none = AutoscalerState::default();
    let state = state.map_or(&none, |state| &*state.value);
    let shown = json!({
        "metadata": Metadata::of_applied(key, applied, version).build(),
        "spec": spec(decided),
        "status": status(decided, state, applied.created),
    });
    Some(Shown::new(key, version, shown))
}

fn spec(spec: &AutoscalerSpec) -> Value {
    json!({
        "scaleTargetRef": {
            "apiVersion": spec.target.kind.api_version(),
            "kind": spec.target.kind.as_str(),
            "name": spec.target.name,
        },
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "metrics": spec.metrics.iter().map(metric).collect::<Vec<_>>(),
        "behavior": {"scaleUp": rules(&spec.scale_up), "scaleDown": rules(&spec.scale_down)},
    })
}

fn metric(metric: &ResourceMetric) -> Value {
    let target = match metric.target {
        MetricTarget::Utilization(percent) => {
            json!({"type": "Utilization", "averageUtilization": percent})
        }
        MetricTarget::AverageValue(value) => {
            json!({"type": "AverageValue", "averageValue": amount(metric.resource, value)})
        }
    };
    wrapped(metric, "target", target)
}

/// In the field that its type asks for.
fn wrapped(metric: &ResourceMetric, field: &str, value: Value) -> Value {
    let name = metric.resource.name();
    match &metric.container {
        None => json!({"type": "Resource", "resource": {"name": name, field: value}}),
        Some(container) => json!({
            "type": "ContainerResource",
            "containerResource": {"name": name, "container": container, field: value},
        }),
    }
}

fn amount(resource: MeasuredResource, value: u64) -> String {
    match resource {
        MeasuredResource::Cpu => human::cpu(value),
        MeasuredResource::Memory => human::bytes(value),
    }
}

fn rules(rules: &ScalingRules) -> Value {
    let policies = rules.policies.iter().map(|policy| {
        let (kind, value) = match policy.change {
            PolicyChange::Pods(value) => ("Pods", value),
            PolicyChange::Percent(value) => ("Percent", value),
        };
        json!({"type": kind, "value": value, "periodSeconds": policy.period_seconds})
    });
    let select = match rules.select {
        PolicySelect::Max => "Max",
        PolicySelect::Min => "Min",
        PolicySelect::Disabled => "Disabled",
    };
    json!({
        "stabilizationWindowSeconds": rules.stabilization_seconds,
        "selectPolicy": select,
        "policies": policies.collect::<Vec<_>>(),
    })
}

fn status(spec: &AutoscalerSpec, state: &AutoscalerState, created: Timestamp) -> Value {
    let found = spec.metrics.iter().zip(&state.metrics);
    let metrics = found.filter_map(|(metric, value)| Some(current(metric, (*value)?)));
    let mut status = json!({
        "currentReplicas": state.current,
        "desiredReplicas": state.desired.unwrap_or(state.current),
        "currentMetrics": metrics.collect::<Vec<_>>(),
        "conditions": conditions(state, created),
    });
    let fields = object(&mut status);
    put(fields, "observedGeneration", Some(state.observed_generation));
    put(fields, "lastScaleTime", state.last_scale.map(|at| at.to_string()));
    status
}

fn current(metric: &ResourceMetric, value: MetricValue) -> Value {
    let found = without_nulls(json!({
        "averageUtilization": value.utilization,
        "averageValue": amount(metric.resource, value.average),
    }));
    wrapped(metric, "current", found)
}

fn conditions(state: &AutoscalerState, created: Timestamp) -> Value {
    let since = state.last_scale.unwrap_or(created).to_string();
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since,
        })
    };
    let active = match &state.trouble {
        None => condition(
            "ScalingActive",
            true,
            "ValidMetricFound",
            "the HPA was able to successfully calculate a replica count",
        ),
        Some(trouble) => condition("ScalingActive", false, "FailedGetResourceMetric", trouble),
    };
    let limited = match state.limited.as_deref() {
        None => condition(
            "ScalingLimited",
            false,
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        ),
        Some("TooManyReplicas") => condition(
            "ScalingLimited",
            true,
            "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        ),
        Some("TooFewReplicas") => condition(
            "ScalingLimited",
            true,
            "TooFewReplicas",
            "the desired replica count is less than the minimum replica count",
        ),
        Some(reason) => {
            condition("ScalingLimited", true, reason, "the scaling policies allow no more for now")
        }
    };
    let able =
        condition("AbleToScale", true, "ReadyForNewScale", "recommended size matches current size");
    json!([able, active, limited])
}

pub fn cells(autoscaler: &Value, now: Timestamp) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        text(autoscaler, "/spec/scaleTargetRef/kind"),
        text(autoscaler, "/spec/scaleTargetRef/name")
    );
    vec![
        json!(text(autoscaler, "/metadata/name")),
        json!(reference),
        json!(targets(autoscaler)),
        json!(number(autoscaler, "/spec/minReplicas").to_string()),
        json!(number(autoscaler, "/spec/maxReplicas").to_string()),
        json!(number(autoscaler, "/status/currentReplicas")),
        json!(human::age(text(autoscaler, "/metadata/creationTimestamp"), now)),
    ]
}

/// `cpu: 12%/50%`.
fn targets(autoscaler: &Value) -> String {
    let wanted = items(autoscaler, "/spec/metrics");
    let mut shown: Vec<String> = wanted
        .iter()
        .take(SHOWN_METRICS)
        .map(|metric| {
            let of = |metric: &Value| {
                ["/resource", "/containerResource"]
                    .iter()
                    .find_map(|at| metric.pointer(at).cloned())
                    .unwrap_or_default()
            };
            let found = items(autoscaler, "/status/currentMetrics").iter().map(of);
            let aim = of(metric);
            let same =
                |it: &Value| it["name"] == aim["name"] && it["container"] == aim["container"];
            let current = found.into_iter().find(same).unwrap_or_default();
            format!("{}: {}", text(&aim, "/name"), against(&current["current"], &aim["target"]))
        })
        .collect();
    if wanted.len() > SHOWN_METRICS {
        shown.push(format!("{} more...", wanted.len() - SHOWN_METRICS));
    }
    shown.join(", ")
}

fn against(current: &Value, target: &Value) -> String {
    let unknown = "<unknown>".to_owned();
    match target["averageUtilization"].as_u64() {
        Some(aim) => {
            let found = current["averageUtilization"].as_u64();
            format!("{}/{aim}%", found.map_or(unknown, |found| format!("{found}%")))
        }
        None => {
            let found = current["averageValue"].as_str().map_or(unknown, str::to_owned);
            format!("{found}/{}", text(target, "/averageValue"))
        }
    }
}

//! Deployments.

use std::time::Duration;

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::record::{Applied, DeploymentState, ReplicaStatus};
use crate::domain::resource::{DeploymentSpec, Spec};
use crate::kube::json::{fields, items, number, object, put, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Ready"),
    Column::number("Up-to-date"),
    Column::number("Available"),
    Column::text("Age"),
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let Spec::Deployment(decided) = &applied.resource.spec else { return None };
    let state = seen.world.deployments.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let none = DeploymentState::default();
    let state = state.map_or(&none, |state| &*state.value);
    let mut spec = applied.resource.manifest.at("/spec").unwrap_or_default();
    defaults::deployment_spec(object(&mut spec));
    // An autoscaler's number stands where upstream would have put it.
    let replicas = seen.world.replicas_of(key, decided.replicas);
    spec["replicas"] = json!(replicas);
    let decided = &DeploymentSpec { replicas, ..decided.clone() };
    let mut metadata = Metadata::of_applied(key, applied, version).build();
    if state.revision > 0 {
        metadata["annotations"][REVISION_ANNOTATION] = json!(state.revision.to_string());
    }
    let shown = json!({
        "metadata": metadata,
        "spec": spec,
        "status": status(seen, key, applied, decided, state),
    });
    Some(Shown::new(key, version, shown))
}

fn status(
    seen: &Seen<'_>,
    key: &ObjectKey,
    applied: &Applied,
    spec: &DeploymentSpec,
    state: &DeploymentState,
) -> Value {
    let ReplicaStatus { replicas, updated, ready, available } = state.status;
    let mut status = json!({"observedGeneration": state.observed_generation});
    let counts = [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", spec.replicas.max(replicas).saturating_sub(available)),
    ];
    for (field, count) in counts {
        put(object(&mut status), field, (count > 0).then_some(count));
    }
    let newest = seen.world.sets_of(key).max_by_key(|set| set.revision);
    let newest = newest.map_or("", |set| &*set.value.key.name);
    let progressed = match state.progressed {
        Timestamp(0) => applied.created,
        at => at,
    };
    status["conditions"] = json!([
        available_condition(spec, state, progressed),
        progressing_condition(key, spec, state, newest, progressed),
    ]);
    status
}

fn available_condition(spec: &DeploymentSpec, state: &DeploymentState, at: Timestamp) -> Value {
    let enough = state.status.available >= spec.least_available();
    let known = state.availability.filter(|known| known.enough == enough);
    let at = known.map_or(at, |known| known.since);
    let (status, reason, message) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    condition("Available", status, reason, message, at)
}

fn progressing_condition(
    key: &ObjectKey,
    spec: &DeploymentSpec,
    state: &DeploymentState,
    newest: &str,
    at: Timestamp,
) -> Value {
    // It is late from the moment on at which it ought to have got ahead.
    let at = match state.deadline_exceeded {
        true => at.after(Duration::from_secs(spec.progress_deadline_seconds.into())),
        false => at,
    };
    let set = match newest {
        "" => format!("Deployment \"{}\"", key.name),
        name => format!("ReplicaSet \"{name}\""),
    };
    let (status, reason, message) = if state.deadline_exceeded {
        ("False", "ProgressDeadlineExceeded", format!("{set} has timed out progressing."))
    } else if spec.paused {
        ("Unknown", "DeploymentPaused", "Deployment is paused".to_owned())
    } else if state.rolled_out {
        ("True", "NewReplicaSetAvailable", format!("{set} has successfully progressed."))
    } else {
        ("True", "ReplicaSetUpdated", format!("{set} is progressing."))
    };
    condition("Progressing", status, reason, &message, at)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, at: Timestamp) -> Value {
    let at = at.to_string();
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": at,
        "lastTransitionTime": at,
    })
}

pub fn cells(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let ready = number(deployment, "/status/readyReplicas");
    let mut cells = vec![
        json!(text(deployment, "/metadata/name")),
        json!(format!("{ready}/{}", number(deployment, "/spec/replicas"))),
        json!(number(deployment, "/status/updatedReplicas")),
        json!(number(deployment, "/status/availableReplicas")),
        json!(human::age(text(deployment, "/metadata/creationTimestamp"), now)),
    ];
    cells.extend(template_cells(deployment));
    cells
}

/// Containers, images and selector: the wide columns of everything with a pod template.
pub fn template_cells(workload: &Value) -> [Value; 3] {
    let containers = items(workload, "/spec/template/spec/containers");
    let all = |field: &str| {
        let of_each = containers.iter().map(|container| text(container, field));
        of_each.collect::<Vec<_>>().join(",")
    };
    [json!(all("/name")), json!(all("/image")), json!(selector_text(workload))]
}

/// `a=b,tier in (x,y)`; `<none>` if it selects everything.
fn selector_text(workload: &Value) -> String {
    let controller = text(workload, "/kind") == "ReplicationController";
    let labels = match controller {
        true => fields(workload, "/spec/selector").collect::<Vec<_>>(),
        false => fields(workload, "/spec/selector/matchLabels").collect(),
    };
    let labels = labels.into_iter();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = items(workload, "/spec/selector/matchExpressions").iter().map(|expression| {
        let key = text(expression, "/key");
        let values: Vec<_> =
            items(expression, "/values").iter().filter_map(Value::as_str).collect();
        match text(expression, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    let all: Vec<_> = labels.chain(expressions).collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}

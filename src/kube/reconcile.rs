//! kgit's own nouns as resources: reconciles from the audit log, what is planned, the source.

use std::sync::Arc;

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::audit::{Body, Entry, Trigger, steps_of};
use crate::domain::desired::Commit;
use crate::domain::plan::Waiting;
use crate::domain::record::Held;
use crate::domain::words::printable;
use crate::kube::human;
use crate::kube::json::{items, number, object, text, without_nulls};
use crate::kube::seen::{Seen, Shown, ShownKey};
use crate::kube::table::Column;

pub const RECONCILE_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Trigger"),
    Column::text("Commit"),
    Column::number("Steps"),
    Column::text("Status"),
    Column::text("Age"),
];

pub const PLAN_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Status"),
    Column::number("Waiting"),
    Column::number("Held"),
    Column::text("Age"),
];

pub const SOURCE_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Type"),
    Column::text("Location"),
    Column::text("Branch"),
    Column::text("Commit"),
    Column::text("Status"),
    Column::text("Age"),
];

pub const COMPONENT_COLUMNS: &[Column] =
    &[Column::name(), Column::text("Status"), Column::text("Message"), Column::text("Error")];

/// Where the source stands, in the words of the layer that follows it.
#[derive(Clone, Debug, Default)]
pub struct SourceFacts {
    pub kind: String,
    pub location: String,
    pub branch: Option<String>,
    pub commit: Option<Arc<Commit>>,
    pub error: Option<String>,
    pub checked: Timestamp,
}

fn shown(kind: &str, name: &str, version: u64, created: Timestamp, rest: Value) -> Shown {
    let mut object = rest;
    object["apiVersion"] = json!("kgit.dev/v1");
    object["kind"] = json!(kind);
    object["metadata"] = json!({
        "name": name,
        "uid": format!("{}-{name}", kind.to_lowercase()),
        "resourceVersion": version.max(1).to_string(),
        "creationTimestamp": created.to_string(),
    });
    let key = ShownKey { namespace: Arc::from(""), name: Arc::from(name) };
    Shown { key, version, object }
}

/// One reconcile from its entries; `None` if the first is not a `Triggered`.
pub fn show_reconcile(entries: &[Entry]) -> Option<Shown> {
    let first = entries.first()?;
    let Body::Triggered { by, .. } = &first.body else { return None };
    let last = entries.last()?;
    let mut status = json!({"phase": "Running"});
    for entry in entries {
        if let Body::Finished { deviations, missing, waiting, superseded, .. } = &entry.body {
            status = json!({
                "phase": if *superseded { "Superseded" } else { "Finished" },
                "deviations": deviations,
                "missing": missing,
                "waiting": waiting,
                "finishedAt": entry.at.to_string(),
            });
        }
    }
    status["steps"] = json!(steps_of(entries).0);
    let rest = json!({"spec": {"trigger": shown_trigger(by)}, "status": status});
    Some(shown("Reconcile", &first.reconcile.to_string(), last.sequence, first.at, rest))
}

/// As recorded, but for its time, which is shown as every other.
fn shown_trigger(by: &Trigger) -> Value {
    let mut shown = json!(by);
    if let Trigger::Commit { commit } = by {
        shown["commit"]["at"] = json!(commit.at.to_string());
    }
    shown
}

fn shown_wait(wait: &Waiting) -> Value {
    without_nulls(json!({
        "object": wait.object,
        "forWhat": wait.for_what,
        "kind": wait.kind,
        "deadline": wait.deadline.map(|deadline| deadline.to_string()),
        "consequence": wait.consequence,
        "unplaced": wait.unplaced,
    }))
}

/// What is waited for now, and the deletions that are held, if there are any.
pub fn show_plans(seen: &Seen<'_>) -> Vec<Shown> {
    let waits: Vec<_> = seen.waits.values().flatten().map(shown_wait).collect();
    let since = seen.world.meta.accepted.as_ref().map(|commit| commit.at);
    let phase = if waits.is_empty() { "Quiet" } else { "Waiting" };
    let current = json!({"status": {"phase": phase, "waits": waits}});
    let mut current =
        shown("Plan", "current", seen.world.version, since.unwrap_or_default(), current);
    if since.is_none() {
        object(&mut current.object["metadata"]).remove("creationTimestamp");
    }
    let held = seen.world.meta.held.as_ref().map(|held| show_held(held, seen.world.version));
    [Some(current), held].into_iter().flatten().collect()
}

fn show_held(held: &Held, version: u64) -> Shown {
    let phase = if held.approved.is_some() { "Approved" } else { "Held" };
    let objects: Vec<_> = held.objects.iter().map(ToString::to_string).collect();
    let rest = without_nulls(json!({
        "spec": {"commit": held.commit.id, "deletions": objects},
        "status": {"phase": phase, "reason": held.reason, "approvedBy": held.approved},
    }));
    shown("Plan", &held.plan, version, held.since, rest)
}

pub fn show_source(facts: &SourceFacts, version: u64) -> Shown {
    let commit = facts.commit.as_deref();
    let rest = without_nulls(json!({
        "spec": {
            "type": facts.kind,
            "location": facts.location,
            "branch": facts.branch,
        },
        "status": {
            "phase": if facts.error.is_some() { "Failed" } else { "Followed" },
            "error": facts.error,
            "checkedAt": facts.checked.to_string(),
            "commit": commit.map(|commit| json!({
                "id": commit.id,
                "author": commit.author,
                "at": commit.at.to_string(),
                "summary": commit.summary,
            })),
        },
    }));
    let since = commit.map_or(facts.checked, |commit| commit.at);
    shown("Source", "source", version, since, rest)
}

/// What the master consists of, and what is wrong with each part.
pub fn show_components(store: Option<String>, source: Option<String>) -> Vec<Shown> {
    let parts = [("master", None), ("source", source), ("store", store)];
    let shown = parts.map(|(name, error)| {
        let status = if error.is_some() { "False" } else { "True" };
        let mut condition = json!({"type": "Healthy", "status": status, "message": "ok"});
        if let Some(error) = error {
            condition["error"] = json!(error);
            object(&mut condition).remove("message");
        }
        let key = ShownKey { namespace: Arc::from(""), name: Arc::from(name) };
        let object = json!({
            "apiVersion": "v1",
            "kind": "ComponentStatus",
            "metadata": {"name": name},
            "conditions": [condition],
        });
        Shown { key, version: 0, object }
    });
    shown.into()
}

pub fn component_cells(component: &Value) -> Vec<Value> {
    let status = match text(component, "/conditions/0/status") {
        "True" => "Healthy",
        _ => "Unhealthy",
    };
    vec![
        json!(text(component, "/metadata/name")),
        json!(status),
        json!(text(component, "/conditions/0/message")),
        json!(text(component, "/conditions/0/error")),
    ]
}

pub fn reconcile_cells(reconcile: &Value, now: Timestamp) -> Vec<Value> {
    let trigger = reconcile.pointer("/spec/trigger").cloned().unwrap_or_default();
    let commit = text(&trigger, "/commit/id");
    vec![
        json!(text(reconcile, "/metadata/name")),
        json!(text(&trigger, "/trigger")),
        json!(commit.get(..7).unwrap_or(commit)),
        json!(number(reconcile, "/status/steps")),
        json!(text(reconcile, "/status/phase")),
        json!(human::age(text(reconcile, "/metadata/creationTimestamp"), now)),
    ]
}

pub fn plan_cells(plan: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(plan, "/metadata/name")),
        json!(text(plan, "/status/phase")),
        json!(items(plan, "/status/waits").len()),
        json!(items(plan, "/spec/deletions").len()),
        json!(human::age(text(plan, "/metadata/creationTimestamp"), now)),
    ]
}

pub fn source_cells(source: &Value, now: Timestamp) -> Vec<Value> {
    let commit = text(source, "/status/commit/id");
    vec![
        json!(text(source, "/metadata/name")),
        json!(text(source, "/spec/type")),
        json!(text(source, "/spec/location")),
        json!(text(source, "/spec/branch")),
        json!(commit.get(..7).unwrap_or(commit)),
        json!(text(source, "/status/phase")),
        json!(human::age(text(source, "/metadata/creationTimestamp"), now)),
    ]
}

/// A trigger in a few words, as a terminal may show them.
pub fn trigger_text(trigger: &Trigger) -> String {
    let text = match trigger {
        Trigger::Commit { commit } => {
            format!("commit {} by {}: {}", commit.short(), commit.author, commit.summary)
        }
        Trigger::Drift { what } => format!("drift: {what}"),
        Trigger::Node { node, what } => format!("node {node}: {what}"),
        Trigger::Timer { what } => format!("timer: {what}"),
        Trigger::Approval { by, what } => format!("approval by {by}: {what}"),
        Trigger::Api { by, what } => format!("order of {by}: {what}"),
        Trigger::Observation { what } => format!("observation: {what}"),
        Trigger::Start => "the master started".to_owned(),
    };
    printable(&text)
}

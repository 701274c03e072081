//! PodDisruptionBudgets and PriorityClasses.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::autoscaling::BUILT_IN_PRIORITIES;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::world::World;
use crate::kube::human;
use crate::kube::json::{default, flag, number, object, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;

pub const BUDGET_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Min Available"),
    Column::text("Max Unavailable"),
    Column::number("Allowed Disruptions"),
    Column::text("Age"),
];

pub const CLASS_COLUMNS: &[Column] = &[
    Column::name(),
    Column::number("Value"),
    Column::text("Global-Default"),
    Column::text("Age"),
    Column::text("PreemptionPolicy"),
];

pub fn show_budget(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let row = seen.world.budgets.get(key);
    let version = applied.version.max(row.map_or(0, |row| row.version));
    let mut shown = (*applied.resource.manifest).clone();
    shown["metadata"] = Metadata::of_applied(key, applied, version).build();
    let state = row.map(|row| *row.value).unwrap_or_default();
    let allowed = state.allowed > 0;
    shown["status"] = json!({
        "expectedPods": state.expected,
        "currentHealthy": state.healthy,
        "desiredHealthy": state.desired,
        "disruptionsAllowed": state.allowed,
        "observedGeneration": state.observed_generation,
        "conditions": [{
            "type": "DisruptionAllowed",
            "status": if allowed { "True" } else { "False" },
            "reason": if allowed { "SufficientPods" } else { "InsufficientPods" },
            "message": "",
            "observedGeneration": state.observed_generation,
            "lastTransitionTime": applied.created.to_string(),
        }],
    });
    Some(Shown::new(key, version, shown))
}

pub fn budget_cells(budget: &Value, now: Timestamp) -> Vec<Value> {
    let bound = |field: &str| match budget.pointer(&format!("/spec/{field}")) {
        None => json!("N/A"),
        Some(Value::String(share)) => json!(share),
        Some(number) => json!(number.to_string()),
    };
    vec![
        json!(text(budget, "/metadata/name")),
        bound("minAvailable"),
        bound("maxUnavailable"),
        json!(number(budget, "/status/disruptionsAllowed")),
        json!(human::age(text(budget, "/metadata/creationTimestamp"), now)),
    ]
}

/// Those with a manifest, and those that are always there.
pub fn class_keys(world: &World) -> Vec<ObjectKey> {
    let written = world.objects.keys().filter(|key| key.kind == Kind::PriorityClass).cloned();
    let built_in =
        BUILT_IN_PRIORITIES.map(|(name, _)| ObjectKey::new(Kind::PriorityClass, "", name));
    let mut keys: Vec<_> = written.chain(built_in).collect();
    keys.sort();
    keys.dedup();
    keys
}

pub fn show_class(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let Some(applied) = seen.world.objects.get(key) else {
        let (name, value) = BUILT_IN_PRIORITIES.iter().find(|(name, _)| *name == &*key.name)?;
        return Some(built_in_class(seen.world, key, name, *value));
    };
    let mut shown = (*applied.resource.manifest).clone();
    shown["metadata"] = Metadata::of_applied(key, applied, applied.version).build();
    default(object(&mut shown), "preemptionPolicy", "PreemptLowerPriority");
    Some(Shown::new(key, applied.version, shown))
}

fn built_in_class(world: &World, key: &ObjectKey, name: &str, value: i32) -> Shown {
    let created = world.nodes.values().map(|node| node.joined).min().unwrap_or_default();
    let uid = format!("{name}-{}", world.cluster);
    let class = json!({
        "metadata": Metadata::new(key, &uid, 1, created).build(),
        "value": value,
        "preemptionPolicy": "PreemptLowerPriority",
        "description": "Built in. For pods that the cluster can't do without.",
    });
    Shown::new(key, 1, class)
}

pub fn class_cells(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(class, "/metadata/name")),
        json!(number(class, "/value")),
        json!(flag(class, "/globalDefault").to_string()),
        json!(human::age(text(class, "/metadata/creationTimestamp"), now)),
        json!(text(class, "/preemptionPolicy")),
    ]
}

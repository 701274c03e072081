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
    let mut shown = applied.resource.manifest.value();
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
    let mut shown = applied.resource.manifest.value();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::autoscaling::{DisruptionBound, DisruptionBudgetSpec, PriorityClassSpec};
    use crate::domain::record::BudgetState;
    use crate::domain::resource::{IntOrPercent, Spec};
    use crate::domain::world::{Effect, Record};
    use crate::kube::fixture::{NOW, applied, heartbeats, world};
    use crate::kube::own_fixture::waits;
    use crate::kube::resource_type::by_word;
    use crate::kube::seen::{Heard, SecretValues, get, keys, of_row};
    use crate::kube::table::{IncludeObject, Wide, table, text};

    /// A World with a budget that lets one pod go, and a class.
    fn with_policies() -> World {
        let mut world = world();
        let key = ObjectKey::new(Kind::PodDisruptionBudget, "default", "web");
        let share = IntOrPercent::Percent(50);
        let spec = Spec::DisruptionBudget(DisruptionBudgetSpec {
            selector: None,
            bound: DisruptionBound::MinAvailable(share),
            unhealthy_may_always_go: false,
        });
        let manifest = json!({"spec": {"minAvailable": "50%"}});
        let row = Record::Object(Arc::new(applied(key.clone(), spec, manifest)));
        world.apply(&Effect::Put(key.clone(), row), 7);
        let state =
            BudgetState { observed_generation: 1, expected: 3, healthy: 3, desired: 2, allowed: 1 };
        world.apply(&Effect::Put(key, Record::Budget(Arc::new(state))), 8);
        let key = ObjectKey::new(Kind::PriorityClass, "", "high");
        let spec = Spec::PriorityClass(PriorityClassSpec {
            value: 1000,
            global_default: true,
            never_preempts: false,
            description: String::new(),
        });
        let manifest = json!({"value": 1000, "globalDefault": true});
        let row = Record::Object(Arc::new(applied(key.clone(), spec, manifest)));
        world.apply(&Effect::Put(key, row), 9);
        world
    }

    fn seen<T>(read: impl FnOnce(&Seen<'_>) -> T) -> T {
        let (world, waits, heartbeats) = (with_policies(), waits(), heartbeats());
        let usages = imbl::OrdMap::new();
        let heard = Heard { heartbeats: &heartbeats, lease_seconds: 40, usages: &usages };
        let secrets = SecretValues::Masked;
        read(&Seen { world: &world, waits: &waits, now: NOW, secrets, heard })
    }

    fn shown(word: &str) -> String {
        let noun = by_word(word).unwrap().noun;
        let objects: Vec<_> = seen(|seen| {
            keys(seen, noun, None).iter().flat_map(|key| of_row(seen, noun, key)).collect()
        });
        text(&table(noun, &objects, json!({}), IncludeObject::None, NOW), Wide::Yes, &[])
    }

    #[test]
    fn tables_have_the_columns_that_people_know() {
        insta::assert_snapshot!(shown("pdb"), @"
        NAME   MIN AVAILABLE   MAX UNAVAILABLE   ALLOWED DISRUPTIONS   AGE
        web    50%             N/A               1                     60m
        ");
        insta::assert_snapshot!(shown("pc"), @"
        NAME                      VALUE        GLOBAL-DEFAULT   AGE   PREEMPTIONPOLICY
        first                     1000         false            60m   PreemptLowerPriority
        high                      1000         true             60m   PreemptLowerPriority
        system-cluster-critical   2000000000   false            60m   PreemptLowerPriority
        system-node-critical      2000001000   false            60m   PreemptLowerPriority
        ");
    }

    #[test]
    fn a_budget_shows_what_it_comes_to_under_the_version_of_its_last_change() {
        let pdb = by_word("pdb").unwrap();
        let shown = seen(|seen| get(seen, pdb, "default", "web")).unwrap();
        assert_eq!(shown.version, 8);
        insta::assert_snapshot!(shown.object["status"], @r#"{"conditions":[{"lastTransitionTime":"2025-12-31T23:00:00Z","message":"","observedGeneration":1,"reason":"SufficientPods","status":"True","type":"DisruptionAllowed"}],"currentHealthy":3,"desiredHealthy":2,"disruptionsAllowed":1,"expectedPods":3,"observedGeneration":1}"#);
    }
}

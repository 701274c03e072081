//! ReplicaSets: the revisions of Deployments, and those with a manifest of their own.
//! ReplicationControllers are the same in older words.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::ReplicaSet;
use crate::domain::resource::{Spec, Strategy};
use crate::domain::selector::{Labels, Operator, Selector};
use crate::domain::world::{Recorded, World};
use crate::kube::deployment::{REVISION_ANNOTATION, template_cells};
use crate::kube::human;
use crate::kube::json::{number, object, put, text, without_nulls};
use crate::kube::metadata::{Metadata, uid_of};
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::template;

pub const HASH_LABEL: &str = "pod-template-hash";
const HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::number("Desired"),
    Column::number("Current"),
    Column::number("Ready"),
    Column::text("Age"),
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let set = seen.world.replica_sets.get(key)?;
    let own = seen.world.objects.get(key);
    let version = set.version.max(own.map_or(0, |own| own.version));
    let metadata = match own {
        Some(applied) => Metadata::of_applied(key, applied, version).build(),
        None => revision_metadata(seen.world, key, set, version),
    };
    let shown = json!({
        "metadata": metadata,
        "spec": spec(seen.world, set),
        "status": status(set, number(&metadata, "/generation")),
    });
    Some(Shown::new(key, version, shown))
}

fn revision_metadata(
    world: &World,
    key: &ObjectKey,
    set: &Recorded<ReplicaSet>,
    version: u64,
) -> Value {
    Metadata::new(key, &set.uid, version, set.created)
        .with_labels(&labels(set))
        .with_annotations(&annotations(world, set))
        .with("generation", Some(1))
        .with_owner(&set.owner, uid_of(world, &set.owner))
        .build()
}

/// The template's labels, with the hash that tells the revisions' pods apart.
fn labels(set: &ReplicaSet) -> Labels {
    let mut labels = set.template.labels.clone();
    if !set.hash.is_empty() {
        labels.insert(HASH_LABEL.to_owned(), set.hash.clone());
    }
    labels
}

fn annotations(world: &World, set: &ReplicaSet) -> Labels {
    let mut annotations = Labels::new();
    annotations.insert(REVISION_ANNOTATION.to_owned(), set.revision.to_string());
    if !set.revision_history.is_empty() {
        let earlier: Vec<_> = set.revision_history.iter().map(u64::to_string).collect();
        annotations.insert(HISTORY_ANNOTATION.to_owned(), earlier.join(","));
    }
    let owner = world.objects.get(&set.owner);
    if let Some(Spec::Deployment(spec)) = owner.map(|owner| &owner.resource.spec) {
        let surge = match spec.strategy {
            Strategy::Recreate => 0,
            Strategy::RollingUpdate { max_surge, .. } => max_surge.of_rounding_up(spec.replicas),
        };
        annotations.insert(DESIRED_ANNOTATION.to_owned(), spec.replicas.to_string());
        annotations.insert(MAX_ANNOTATION.to_owned(), (spec.replicas + surge).to_string());
    }
    annotations
}

fn spec(world: &World, set: &ReplicaSet) -> Value {
    let owner = world.objects.get(&set.owner).map(|owner| &owner.resource.spec);
    let selector = match owner {
        Some(Spec::Deployment(spec)) => Some(&spec.selector),
        Some(Spec::ReplicaSet(spec)) => Some(&spec.selector),
        _ => None,
    };
    let mut selector = selector_object(selector.unwrap_or(&Selector::default()));
    if set.key.kind == Kind::ReplicationController {
        // Plain labels are all that it ever had.
        selector = selector["matchLabels"].take();
    }
    if !set.hash.is_empty() {
        selector["matchLabels"][HASH_LABEL] = json!(set.hash);
    }
    let annotations = &set.template.annotations;
    let metadata = without_nulls(json!({
        "labels": labels(set),
        "annotations": (!annotations.is_empty()).then_some(annotations),
    }));
    let mut shown = json!({
        "replicas": set.replicas,
        "selector": selector,
        "template": {
            "metadata": metadata,
            "spec": template::pod_spec(world, &set.owner, &set.template),
        },
    });
    let seconds = set.min_ready_seconds;
    put(object(&mut shown), "minReadySeconds", (seconds > 0).then_some(seconds));
    shown
}

/// A selector as manifests write it: plain labels where they say it all.
pub fn selector_object(selector: &Selector) -> Value {
    let (mut labels, mut expressions) = (Labels::new(), Vec::new());
    for requirement in &selector.requirements {
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In, [value]) => {
                labels.insert(requirement.key.clone(), value.clone());
            }
            (operator, values) => expressions.push(without_nulls(json!({
                "key": requirement.key,
                "operator": operator,
                "values": (!values.is_empty()).then_some(values),
            }))),
        }
    }
    without_nulls(json!({
        "matchLabels": (!labels.is_empty()).then_some(labels),
        "matchExpressions": (!expressions.is_empty()).then_some(expressions),
    }))
}

fn status(set: &ReplicaSet, generation: i64) -> Value {
    let counts = set.status;
    json!({
        "replicas": counts.replicas,
        "fullyLabeledReplicas": counts.replicas,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "observedGeneration": generation,
    })
}

pub fn cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![
        json!(text(set, "/metadata/name")),
        json!(number(set, "/spec/replicas")),
        json!(number(set, "/status/replicas")),
        json!(number(set, "/status/readyReplicas")),
        json!(human::age(text(set, "/metadata/creationTimestamp"), now)),
    ];
    cells.extend(template_cells(set));
    cells
}

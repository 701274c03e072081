//! StatefulSets.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::record::StatefulSetState;
use crate::domain::resource::Spec;
use crate::kube::deployment::template_cells;
use crate::kube::json::{number, object, put, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Ready"),
    Column::text("Age"),
    Column::wide("Containers"),
    Column::wide("Images"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let Spec::StatefulSet(decided) = &applied.resource.spec else { return None };
    let state = seen.world.stateful_sets.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let none = StatefulSetState::default();
    let state = state.map_or(&none, |state| &*state.value);
    let mut spec = applied.resource.manifest.at("/spec").unwrap_or_default();
    defaults::stateful_set_spec(object(&mut spec));
    spec["replicas"] = json!(seen.world.replicas_of(key, decided.replicas));
    let shown = json!({
        "metadata": Metadata::of_applied(key, applied, version).build(),
        "spec": spec,
        "status": status(state),
    });
    Some(Shown::new(key, version, shown))
}

fn status(state: &StatefulSetState) -> Value {
    let counts = state.status;
    let mut status = json!({
        "replicas": counts.replicas,
        "availableReplicas": counts.available,
        "collisionCount": state.collisions,
    });
    let fields = object(&mut status);
    let seen = state.observed_generation;
    put(fields, "observedGeneration", (seen > 0).then_some(seen));
    let counts = [
        ("readyReplicas", counts.ready),
        ("updatedReplicas", counts.updated),
        ("currentReplicas", state.current),
    ];
    for (field, count) in counts {
        put(fields, field, (count > 0).then_some(count));
    }
    let revisions =
        [("currentRevision", &state.current_revision), ("updateRevision", &state.update_revision)];
    for (field, name) in revisions {
        put(fields, field, (!name.is_empty()).then(|| name.clone()));
    }
    status
}

pub fn cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let ready = number(set, "/status/readyReplicas");
    let [containers, images, _] = template_cells(set);
    vec![
        json!(text(set, "/metadata/name")),
        json!(format!("{ready}/{}", number(set, "/spec/replicas"))),
        json!(human::age(text(set, "/metadata/creationTimestamp"), now)),
        containers,
        images,
    ]
}

//! DaemonSets.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::record::DaemonSetState;
use crate::kube::deployment::template_cells;
use crate::kube::json::{fields, number, object, put, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::number("Desired"),
    Column::number("Current"),
    Column::number("Ready"),
    Column::number("Up-to-date"),
    Column::number("Available"),
    Column::text("Node Selector"),
    Column::text("Age"),
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let state = seen.world.daemon_sets.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let none = DaemonSetState::default();
    let state = state.map_or(&none, |state| &*state.value);
    let mut spec = applied.resource.manifest.at("/spec").unwrap_or_default();
    defaults::daemon_set_spec(object(&mut spec));
    let shown = json!({
        "metadata": Metadata::of_applied(key, applied, version).build(),
        "spec": spec,
        "status": status(state),
    });
    Some(Shown::new(key, version, shown))
}

fn status(state: &DaemonSetState) -> Value {
    let mut status = json!({
        "currentNumberScheduled": state.current,
        "desiredNumberScheduled": state.desired,
        "numberMisscheduled": state.misscheduled,
        "numberReady": state.ready,
    });
    let fields = object(&mut status);
    let seen = state.observed_generation;
    put(fields, "observedGeneration", (seen > 0).then_some(seen));
    let counts = [
        ("updatedNumberScheduled", state.updated),
        ("numberAvailable", state.available),
        ("numberUnavailable", state.desired.saturating_sub(state.available)),
    ];
    for (field, count) in counts {
        put(fields, field, (count > 0).then_some(count));
    }
    status
}

pub fn cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let count = |field: &str| json!(number(set, &format!("/status/{field}")));
    let mut cells = vec![
        json!(text(set, "/metadata/name")),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        json!(node_selector(set)),
        json!(human::age(text(set, "/metadata/creationTimestamp"), now)),
    ];
    cells.extend(template_cells(set));
    cells
}

fn node_selector(set: &Value) -> String {
    let labels = fields(set, "/spec/template/spec/nodeSelector");
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let all: Vec<_> = labels.collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}

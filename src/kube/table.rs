//! `meta.k8s.io/v1 Table`: rows and columns, computed by the server, printed by any client.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::Kind;
use crate::kube::resource_type::Noun;
use crate::kube::seen::Shown;
use crate::kube::{
    autoscaler, config, cron_job, daemon_set, deployment, endpoints, event, job, lease, metrics,
    namespace, node, pod_status, policy, reconcile, replica_set, revision, service, stateful_set,
    storage,
};

/// One column. Titles are upstream's; `kubectl` upper-cases them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: &'static str,
    pub kind: ColumnKind,
    /// Shown by `-o wide` only.
    pub wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Name,
    Text,
    Number,
}

impl Column {
    pub const fn name() -> Self {
        Self { title: "Name", kind: ColumnKind::Name, wide: false }
    }
    pub const fn text(title: &'static str) -> Self {
        Self { title, kind: ColumnKind::Text, wide: false }
    }
    pub const fn number(title: &'static str) -> Self {
        Self { title, kind: ColumnKind::Number, wide: false }
    }
    pub const fn wide(title: &'static str) -> Self {
        Self { title, kind: ColumnKind::Text, wide: true }
    }
    pub const fn wide_name() -> Self {
        Self { title: "Name", kind: ColumnKind::Name, wide: true }
    }
}

/// How much of each object a row carries along: `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

pub fn columns(noun: Noun) -> &'static [Column] {
    match noun {
        Noun::Recorded(Kind::Namespace) => namespace::COLUMNS,
        Noun::Recorded(Kind::StorageClass) => storage::CLASS_COLUMNS,
        Noun::Recorded(Kind::PersistentVolume) => storage::VOLUME_COLUMNS,
        Noun::Recorded(Kind::PersistentVolumeClaim) => storage::CLAIM_COLUMNS,
        Noun::Recorded(Kind::ConfigMap) => config::CONFIG_MAP_COLUMNS,
        Noun::Recorded(Kind::Secret) => config::SECRET_COLUMNS,
        Noun::Recorded(Kind::Service) => service::COLUMNS,
        Noun::Recorded(Kind::Pod) => pod_status::COLUMNS,
        Noun::Recorded(Kind::ReplicaSet | Kind::ReplicationController) => replica_set::COLUMNS,
        Noun::Recorded(Kind::StatefulSet) => stateful_set::COLUMNS,
        Noun::Recorded(Kind::DaemonSet) => daemon_set::COLUMNS,
        Noun::Recorded(Kind::ControllerRevision) => revision::COLUMNS,
        Noun::Recorded(Kind::PriorityClass) => policy::CLASS_COLUMNS,
        Noun::Recorded(Kind::PodDisruptionBudget) => policy::BUDGET_COLUMNS,
        Noun::Recorded(Kind::Deployment) => deployment::COLUMNS,
        Noun::Recorded(Kind::Job) => job::COLUMNS,
        Noun::Recorded(Kind::CronJob) => cron_job::COLUMNS,
        Noun::Recorded(Kind::HorizontalPodAutoscaler) => autoscaler::COLUMNS,
        Noun::Recorded(Kind::Node) => node::COLUMNS,
        Noun::Endpoints => endpoints::COLUMNS,
        Noun::EndpointSlice => endpoints::SLICE_COLUMNS,
        Noun::Lease => lease::COLUMNS,
        Noun::NodeMetrics => metrics::NODE_COLUMNS,
        Noun::PodMetrics => metrics::POD_COLUMNS,
        Noun::Event => event::COLUMNS,
        Noun::ComponentStatus => reconcile::COMPONENT_COLUMNS,
        Noun::Reconcile => reconcile::RECONCILE_COLUMNS,
        Noun::Plan => reconcile::PLAN_COLUMNS,
        Noun::Source => reconcile::SOURCE_COLUMNS,
    }
}

fn cells(noun: Noun, object: &Value, now: Timestamp) -> Vec<Value> {
    match noun {
        Noun::Recorded(Kind::Namespace) => namespace::cells(object, now),
        Noun::Recorded(Kind::StorageClass) => storage::class_cells(object, now),
        Noun::Recorded(Kind::PersistentVolume) => storage::volume_cells(object, now),
        Noun::Recorded(Kind::PersistentVolumeClaim) => storage::claim_cells(object, now),
        Noun::Recorded(Kind::ConfigMap) => config::config_map_cells(object, now),
        Noun::Recorded(Kind::Secret) => config::secret_cells(object, now),
        Noun::Recorded(Kind::Service) => service::cells(object, now),
        Noun::Recorded(Kind::Pod) => pod_status::cells(object, now),
        Noun::Recorded(Kind::ReplicaSet | Kind::ReplicationController) => {
            replica_set::cells(object, now)
        }
        Noun::Recorded(Kind::StatefulSet) => stateful_set::cells(object, now),
        Noun::Recorded(Kind::DaemonSet) => daemon_set::cells(object, now),
        Noun::Recorded(Kind::ControllerRevision) => revision::cells(object, now),
        Noun::Recorded(Kind::PriorityClass) => policy::class_cells(object, now),
        Noun::Recorded(Kind::PodDisruptionBudget) => policy::budget_cells(object, now),
        Noun::Recorded(Kind::Deployment) => deployment::cells(object, now),
        Noun::Recorded(Kind::Job) => job::cells(object, now),
        Noun::Recorded(Kind::CronJob) => cron_job::cells(object, now),
        Noun::Recorded(Kind::HorizontalPodAutoscaler) => autoscaler::cells(object, now),
        Noun::Recorded(Kind::Node) => node::cells(object, now),
        Noun::Endpoints => endpoints::cells(object, now),
        Noun::EndpointSlice => endpoints::slice_cells(object, now),
        Noun::Lease => lease::cells(object, now),
        Noun::NodeMetrics | Noun::PodMetrics => metrics::cells(object, now),
        Noun::Event => event::cells(object, now),
        Noun::ComponentStatus => reconcile::component_cells(object),
        Noun::Reconcile => reconcile::reconcile_cells(object, now),
        Noun::Plan => reconcile::plan_cells(object, now),
        Noun::Source => reconcile::source_cells(object, now),
    }
}

/// A Table of the objects; `metadata` is the list's.
pub fn table(
    noun: Noun,
    objects: &[Shown],
    metadata: Value,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let mut table = table_head(noun, metadata);
    table["rows"] = objects.iter().map(|shown| row(noun, shown, include, now)).collect();
    table
}

/// A Table but for its rows.
pub fn table_head(noun: Noun, metadata: Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns(noun).iter().map(definition).collect::<Vec<_>>(),
    })
}

/// An object's line of a Table.
pub fn row(noun: Noun, shown: &Shown, include: IncludeObject, now: Timestamp) -> Value {
    let mut row = json!({"cells": cells(noun, &shown.object, now)});
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => row["object"] = partial(&shown.object),
        IncludeObject::Object => row["object"] = shown.object.clone(),
    }
    row
}

fn definition(column: &Column) -> Value {
    let (kind, format) = match column.kind {
        ColumnKind::Name => ("string", "name"),
        ColumnKind::Text => ("string", ""),
        ColumnKind::Number => ("integer", ""),
    };
    json!({
        "name": column.title,
        "type": kind,
        "format": format,
        "description": column.title,
        "priority": i32::from(column.wide),
    })
}

/// `PartialObjectMetadata` of an object.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// Whether wide columns are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wide {
    Yes,
    No,
}

/// A Table as aligned text, as `kubectl` prints it. `extra` puts columns of the caller's own in
/// front: a title and one cell for each row.
pub fn text(table: &Value, wide: Wide, extra: &[(&str, Vec<String>)]) -> String {
    aligned(&lines(table, wide, extra))
}

/// The titles and the rows of a Table, as far as they are printed.
pub fn lines(table: &Value, wide: Wide, extra: &[(&str, Vec<String>)]) -> Vec<Vec<String>> {
    let definitions = crate::kube::json::items(table, "/columnDefinitions");
    let is_shown = |index: usize| {
        wide == Wide::Yes
            || definitions.get(index).is_some_and(|column| column["priority"].as_i64() == Some(0))
    };
    let titles = definitions.iter().map(|column| plain(&column["name"]).to_uppercase());
    let own_titles = extra.iter().map(|(title, _)| (*title).to_owned());
    let shown = |cells: Vec<String>| {
        let kept = cells.into_iter().enumerate().filter(|(index, _)| is_shown(*index));
        kept.map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    let mut lines = vec![own_titles.chain(shown(titles.collect())).collect::<Vec<_>>()];
    for (number, row) in crate::kube::json::items(table, "/rows").iter().enumerate() {
        let own = extra.iter().map(|(_, cells)| cells.get(number).cloned().unwrap_or_default());
        let cells = crate::kube::json::items(row, "/cells").iter().map(plain).collect();
        lines.push(own.chain(shown(cells)).collect());
    }
    lines
}

fn plain(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Columns three spaces apart; the last one is not padded.
pub fn aligned(lines: &[Vec<String>]) -> String {
    aligned_with(&mut Vec::new(), lines)
}

/// The same for lines below others: columns are at least as wide as `widths`, which become as
/// wide as the columns.
pub fn aligned_with(widths: &mut Vec<usize>, lines: &[Vec<String>]) -> String {
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (cell, width) in line.iter().zip(widths.iter_mut()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (cell, width) in line.iter().zip(widths.iter()) {
            shown.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

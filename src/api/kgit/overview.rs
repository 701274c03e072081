//! Status and diagnostics: how everything is, from one view.

use axum::Json;
use axum::extract::State;

use crate::api::state::Api;
use crate::domain::diagnostic::Severity;
use crate::domain::key::ObjectKey;
use crate::domain::node::Node;
use crate::domain::record::Held;
use crate::domain::stage::Sync;
use crate::domain::world::World;
use crate::kube::dto::{
    self, ClusterStatus, Diagnostics, HeldDeletions, NodeLine, ObjectLine, SourceStatus,
    SyncStatus, VERSION,
};
use crate::master::view::View;
use crate::plan::doubt;
use crate::plan::health::{Health, counts_for_health, detail, health, trouble_of};

pub async fn status(State(api): State<Api>) -> Json<ClusterStatus> {
    let view = api.master.view();
    let (world, meta) = (&view.world, &view.world.meta);
    let count = |severity| view.diagnostics.iter().filter(|d| d.severity == severity).count();
    Json(ClusterStatus {
        version: VERSION,
        cluster: world.cluster.to_string(),
        master: env!("CARGO_PKG_VERSION").to_owned(),
        now: api.now(),
        source: source(&view),
        accepted: meta.accepted.as_deref().cloned(),
        suspended_by: meta.suspended.clone(),
        restored: meta.restored,
        doubts: doubts(world),
        reconciling: view.reconciling,
        store_error: view.store_error.as_deref().map(str::to_owned),
        held: meta.held.as_ref().map(held),
        sync: meta.sync.as_ref().filter(|sync| sync.open).map(sync),
        nodes: nodes(&view),
        objects: objects(world),
        waits: view.waits.values().flatten().cloned().collect(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
    })
}

fn doubts(world: &World) -> Vec<String> {
    let words = |node: &Node| {
        node.doubt.as_ref().map(|doubt| format!("node {} {}", node.name, doubt::words(doubt)))
    };
    world.doubtful_nodes().filter_map(|node| words(node)).collect()
}

fn source(view: &View) -> SourceStatus {
    let source = &view.source;
    SourceStatus {
        kind: source.kind.clone(),
        location: source.location.clone(),
        branch: source.branch.clone(),
        commit: source.commit.as_deref().cloned(),
        error: source.error.clone(),
        checked: source.checked,
    }
}

fn sync(sync: &Sync) -> SyncStatus {
    SyncStatus {
        stage: sync.waits_at.map(|(stage, _)| stage.to_string()).unwrap_or_default(),
        failed: sync.failed,
        pending: sync.pending.iter().cloned().collect(),
    }
}

fn held(held: &Held) -> HeldDeletions {
    HeldDeletions {
        plan: held.plan.clone(),
        objects: held.objects.iter().map(ToString::to_string).collect(),
        reason: held.reason.clone(),
        approved_by: held.approved.clone(),
        approvable: held.approvable,
    }
}

/// By which order no pods go there.
fn closed(node: &Node) -> Option<&'static str> {
    match (&node.fenced, &node.drain, node.unschedulable) {
        (Some(_), ..) => Some("fenced"),
        (None, Some(_), _) => Some("drained"),
        (None, None, true) => Some("cordoned"),
        (None, None, false) => None,
    }
}

fn nodes(view: &View) -> Vec<NodeLine> {
    let line = |node: &Node| NodeLine {
        name: node.name.to_string(),
        ready: node.is_ready(),
        closed: closed(node).map(str::to_owned),
        pods: view.world.pods_on(&node.name).count(),
        heard_of: view.heartbeats.get(&node.name).copied(),
    };
    view.world.nodes.values().map(|node| line(node)).collect()
}

/// Every object that has a health worth counting, or is kept without a manifest.
fn objects(world: &World) -> Vec<ObjectLine> {
    let told = world
        .objects
        .iter()
        .filter(|(key, applied)| counts_for_health(key.kind) || applied.retained.is_some());
    let lines = told.map(|(key, applied)| ObjectLine {
        object: key.clone(),
        health: shown(health(world, key)),
        detail: how(world, key),
        place: applied.resource.place.to_string(),
        retained: applied.retained,
    });
    lines.collect()
}

/// `0/1 ready, CrashLoopBackOff`.
fn how(world: &World, key: &ObjectKey) -> String {
    let detail = detail(world, key);
    match trouble_of(world, key).filter(|trouble| *trouble != detail) {
        Some(trouble) => format!("{detail}, {trouble}"),
        None => detail,
    }
}

fn shown(health: Health) -> dto::Health {
    match health {
        Health::Healthy => dto::Health::Healthy,
        Health::Suspended => dto::Health::Suspended,
        Health::Progressing => dto::Health::Progressing,
        Health::Missing => dto::Health::Missing,
        Health::Degraded => dto::Health::Degraded,
        Health::Unknown => dto::Health::Unknown,
    }
}

pub async fn diagnostics(State(api): State<Api>) -> Json<Diagnostics> {
    let diagnostics = (*api.master.view().diagnostics).clone();
    Json(Diagnostics { version: VERSION, diagnostics })
}

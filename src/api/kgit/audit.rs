//! The audit log, for reading.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use crate::api::error::ApiError;
use crate::api::records::{Records, RecordsError};
use crate::api::state::Api;
use crate::domain::audit::{Body, Entry, steps_of};
use crate::kube::dto::{Entries, ReconcileLine, Reconciles, VERSION, Verified, WitnessLine};
use crate::kube::status::Status;

/// Reconciles or entries in one answer; callers page on.
const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Reconciles before this one.
    before: Option<u64>,
    /// Entries from this one on.
    from: Option<u64>,
    limit: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)
    }
}

/// Newest first.
pub async fn reconciles(
    State(api): State<Api>,
    Query(page): Query<Page>,
) -> Result<Json<Reconciles>, ApiError> {
    let reconciles = api.read(move |records| lines(records, &page)).await?;
    Ok(Json(Reconciles { version: VERSION, reconciles }))
}

fn lines(records: &dyn Records, page: &Page) -> Result<Vec<ReconcileLine>, RecordsError> {
    let firsts = records.reconciles(page.before, page.limit())?;
    let mut lines = Vec::with_capacity(firsts.len());
    for first in firsts {
        lines.extend(line(&records.reconcile(first.reconcile)?));
    }
    Ok(lines)
}

fn line(entries: &[Entry]) -> Option<ReconcileLine> {
    let first = entries.first()?;
    let Body::Triggered { by, .. } = &first.body else { return None };
    let end = entries.iter().rev().find_map(|entry| match &entry.body {
        Body::Finished { superseded: true, .. } => Some("superseded"),
        Body::Finished { superseded: false, .. } => Some("finished"),
        _ => None,
    });
    let state = end.unwrap_or("running");
    let (steps, deviations) = steps_of(entries);
    let (reconcile, at) = (first.reconcile, first.at);
    Some(ReconcileLine {
        reconcile,
        at,
        trigger: by.clone(),
        steps,
        deviations,
        state: state.into(),
    })
}

pub async fn reconcile(
    State(api): State<Api>,
    Path(reconcile): Path<u64>,
) -> Result<Json<Entries>, ApiError> {
    let entries = api.read(move |records| records.reconcile(reconcile)).await?;
    if entries.is_empty() {
        let name = reconcile.to_string();
        return Err(Status::not_found("kgit.dev", "reconciles", &name).into());
    }
    Ok(Json(Entries { version: VERSION, entries }))
}

/// Oldest first; `kgit audit export` pages through all.
pub async fn entries(
    State(api): State<Api>,
    Query(page): Query<Page>,
) -> Result<Json<Entries>, ApiError> {
    let (from, limit) = (page.from.unwrap_or(1), page.limit());
    let entries = api.read(move |records| records.entries(from, limit)).await?;
    Ok(Json(Entries { version: VERSION, entries }))
}

pub async fn verify(State(api): State<Api>) -> Result<Json<Verified>, ApiError> {
    let found = api.read(|records| records.verify()).await?;
    let witness = |witness: crate::api::records::Witness| WitnessLine {
        node: witness.node.to_string(),
        head: witness.head,
        agrees: witness.agrees,
    };
    Ok(Json(Verified {
        version: VERSION,
        entries: found.entries,
        head: found.head,
        witnesses: found.witnesses.into_iter().map(witness).collect(),
        problems: found.problems,
    }))
}

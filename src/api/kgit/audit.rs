//! The audit log, for reading.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use crate::api::error::ApiError;
use crate::api::records::{Records, RecordsError};
use crate::api::state::Api;
use crate::domain::audit::{Body, Entry, Trigger, steps_of};
use crate::kube::dto::{Entries, ReconcileLine, Reconciles, VERSION, Verified, WitnessLine};
use crate::kube::status::Status;

/// Undertakings or entries in one answer; callers page on.
const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Undertakings before this one.
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

/// Reconciles, and what was ordered beside them, newest first.
pub async fn reconciles(
    State(api): State<Api>,
    Query(page): Query<Page>,
) -> Result<Json<Reconciles>, ApiError> {
    let reconciles = api.read(move |records| lines(records, &page)).await?;
    Ok(Json(Reconciles { version: VERSION, reconciles }))
}

fn lines(records: &dyn Records, page: &Page) -> Result<Vec<ReconcileLine>, RecordsError> {
    let firsts = records.undertakings(page.before, page.limit())?;
    let mut lines = Vec::with_capacity(firsts.len());
    for first in firsts {
        lines.extend(line(&records.reconcile(first.reconcile)?));
    }
    Ok(lines)
}

fn line(entries: &[Entry]) -> Option<ReconcileLine> {
    let first = entries.first()?;
    let (trigger, state) = begun(&first.body)?;
    let end = entries.iter().rev().find_map(|entry| match &entry.body {
        Body::Finished { superseded: true, .. } => Some("superseded"),
        Body::Finished { superseded: false, .. } => Some("finished"),
        _ => None,
    });
    let state = end.unwrap_or(state).to_owned();
    let (steps, deviations) = steps_of(entries);
    let (reconcile, at) = (first.reconcile, first.at);
    Some(ReconcileLine { reconcile, at, trigger, steps, deviations, state })
}

/// What set it off, and the state that it is in until it is known to have ended.
fn begun(body: &Body) -> Option<(Trigger, &'static str)> {
    let order = |by: &str, what: String| Trigger::Api { by: by.to_owned(), what };
    match body {
        Body::Triggered { by, .. } => Some((by.clone(), "running")),
        // What comes of it is in the reconcile that was under way.
        Body::Ordered { by, what } => Some((order(by, what.clone()), "ordered")),
        Body::Restored { by } => Some((order(by, "restore of a backup".to_owned()), "done")),
        Body::Anchor { removed_through, by, .. } => {
            let what = format!("removal of the entries up to {removed_through}");
            Some((order(by, what), "done"))
        }
        Body::Redaction { sequence, by } => {
            Some((order(by, format!("redaction of entry {sequence}")), "done"))
        }
        Body::Planned { .. }
        | Body::Outcome { .. }
        | Body::Omitted { .. }
        | Body::Finished { .. }
        | Body::Redacted => None,
    }
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

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use kgit_protocol::ids::Digest;
    use kgit_protocol::time::Timestamp;

    use super::line;
    use crate::domain::audit::{Body, Entry, Trigger};
    use crate::kube::reconcile::trigger_text;

    fn shown(bodies: Vec<Body>) -> String {
        let entry = |(body, sequence)| Entry {
            sequence,
            at: Timestamp(0),
            reconcile: 7,
            body,
            body_digest: Digest::new(""),
            digest: Digest::new(""),
        };
        let entries: Vec<Entry> = bodies.into_iter().zip(7..).map(entry).collect();
        let Some(line) = line(&entries) else { return "no line".to_owned() };
        let trigger = trigger_text(&line.trigger);
        format!("{}: {}, {} steps, {trigger}", line.reconcile, line.state, line.steps)
    }

    fn finished(superseded: bool) -> Body {
        let (missing, waiting) = (Vec::new(), Vec::new());
        Body::Finished { steps: 0, deviations: 0, missing, waiting, superseded }
    }

    #[test]
    fn a_list_has_a_line_for_whatever_somebody_or_something_set_off() {
        let started = || Body::Triggered { by: Trigger::Start, forecast: Vec::new() };
        let planned = Body::Planned { steps: Vec::new(), beyond: 2 };
        let by = || "ada".to_owned();
        assert_snapshot!(shown(vec![started()]), @"7: running, 0 steps, the master started");
        assert_snapshot!(shown(vec![started(), planned, finished(false)]), @"7: finished, 2 steps, the master started");
        assert_snapshot!(shown(vec![started(), finished(true)]), @"7: superseded, 0 steps, the master started");
        assert_snapshot!(shown(vec![Body::Ordered { by: by(), what: "cordon of node a".to_owned() }]), @"7: ordered, 0 steps, order of ada: cordon of node a");
        let ordered = |what: &str| Body::Ordered { by: by(), what: what.to_owned() };
        assert_snapshot!(shown(vec![ordered("that new commits wait")]), @"7: ordered, 0 steps, order of ada: that new commits wait");
        assert_snapshot!(shown(vec![ordered("to run in Pod/default/web: echo a\n\u{1b}[31mb")]), @r"7: ordered, 0 steps, order of ada: to run in Pod/default/web: echo a\u{a}\u{1b}[31mb");
        assert_snapshot!(shown(vec![Body::Restored { by: by() }]), @"7: done, 0 steps, order of ada: restore of a backup");
        let last_digest = Digest::new("");
        assert_snapshot!(shown(vec![Body::Anchor { removed_through: 3, last_digest, by: by() }]), @"7: done, 0 steps, order of ada: removal of the entries up to 3");
        assert_snapshot!(shown(vec![Body::Redaction { sequence: 2, by: by() }]), @"7: done, 0 steps, order of ada: redaction of entry 2");
        assert_snapshot!(shown(vec![Body::Redacted, finished(false)]), @"no line");
    }
}

//! On real files, with real kills.

mod backups;
mod chain;
mod crashes;
mod rows;

use std::path::Path;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Beside, Store};
use crate::domain::audit::{AuditedStep, Body, Trigger};
use crate::domain::desired::Commit;
use crate::domain::diagnostic::Place;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{ClaimPhase, ClaimState};
use crate::domain::token::TokenOrder;
use crate::domain::world::{Effect, Record};
use crate::store::audit::{AuditDraft, Belongs};
use crate::store::schema;
use crate::store::verify::VerifyReport;

const AT: Timestamp = Timestamp(1_767_322_800_000);

fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join(schema::FILE)).unwrap()
}

fn claim(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::PersistentVolumeClaim, "default", name)
}

fn put_claim(name: &str, volume: &str) -> Effect {
    let state = ClaimState { phase: ClaimPhase::Bound, volume: Some(volume.to_owned()) };
    Effect::Put(claim(name), Record::Claim(Arc::new(state)))
}

fn draft(reconcile: Belongs, body: Body) -> AuditDraft {
    AuditDraft { at: AT, reconcile, body }
}

fn said(name: &str) -> Said {
    Said { verb: Verb::Create, object: claim(name), node: None, detail: String::new() }
}

fn step(name: &str) -> AuditedStep {
    let commit = Commit { id: "c0ffee".repeat(6), summary: "Add it".into(), ..Commit::default() };
    let place = Place::new("apps/web.yaml", 3, 1);
    let reason = Reason::Commit { commit: Arc::new(commit), place, changes: Vec::new() };
    AuditedStep { said: said(name), reasons: vec![reason], deviation: None }
}

fn triggered() -> Body {
    Body::Triggered { by: Trigger::Start, forecast: vec![said("data")] }
}

fn planned() -> Body {
    Body::Planned { steps: vec![step("data")], beyond: 0 }
}

fn finished() -> Body {
    Body::Finished {
        steps: 1,
        deviations: 0,
        missing: Vec::new(),
        waiting: Vec::new(),
        superseded: false,
    }
}

/// One whole reconcile: three entries.
fn reconcile() -> Vec<AuditDraft> {
    vec![
        draft(Belongs::New, triggered()),
        draft(Belongs::Newest, planned()),
        draft(Belongs::Newest, finished()),
    ]
}

fn problems(report: &VerifyReport) -> Vec<String> {
    report.problems.iter().map(ToString::to_string).collect()
}

fn testify(store: &mut Store, node: &NodeName, head: &AuditHead) {
    let witnesses = vec![(node.clone(), head.clone())];
    store.commit_beside(0, &[], &Beside { witnesses, ..Beside::default() }, &[]).unwrap();
}

fn tokens(orders: &[TokenOrder]) -> Beside {
    Beside { tokens: orders.to_vec(), ..Beside::default() }
}

//! kgit's own nouns, made by hand: two reconciles, a source, what is waited for and deletions that
//! are held.

use std::sync::Arc;

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;

use crate::domain::audit::{Body, Entry, Trigger};
use crate::domain::desired::Commit;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Unplaced, WaitKind, Waiting, Waits};
use crate::domain::record::Held;
use crate::kube::fixture::NOW;
use crate::kube::reconcile::SourceFacts;

fn commit() -> Commit {
    Commit {
        id: "0a1b2c3d4e5f".to_owned(),
        author: "Ann <ann@example.org>".to_owned(),
        at: Timestamp(NOW.0 - 120_000),
        summary: "three replicas".to_owned(),
    }
}

fn entry(sequence: u64, reconcile: u64, body: Body) -> Entry {
    Entry {
        sequence,
        at: Timestamp(NOW.0 - 60_000),
        reconcile,
        body,
        body_digest: Digest::of(b"body"),
        digest: Digest::of(b"entry"),
    }
}

/// The entries of one that is over and of one under way.
pub fn reconciles() -> [Vec<Entry>; 2] {
    let start = Body::Triggered { by: Trigger::Start, forecast: Vec::new() };
    let over = Body::Finished {
        steps: 0,
        deviations: 0,
        missing: Vec::new(),
        waiting: vec!["Pod/default/lonely for a node".to_owned()],
        superseded: false,
    };
    let by_commit =
        Body::Triggered { by: Trigger::Commit { commit: commit() }, forecast: Vec::new() };
    let steps = Body::Planned { steps: Vec::new(), beyond: 3 };
    [vec![entry(1, 1, start), entry(2, 1, over)], vec![entry(3, 3, by_commit), entry(4, 3, steps)]]
}

pub fn source() -> SourceFacts {
    SourceFacts {
        kind: "git".to_owned(),
        location: "/srv/repo".to_owned(),
        branch: Some("main".to_owned()),
        commit: Some(Arc::new(commit())),
        error: None,
        checked: NOW,
    }
}

pub fn held() -> Held {
    Held {
        plan: "prune-7".to_owned(),
        objects: vec![ObjectKey::new(Kind::Deployment, "default", "web")],
        reason: "1 of 3 objects would be deleted".to_owned(),
        approvable: true,
        since: Timestamp(NOW.0 - 30_000),
        commit: Arc::new(commit()),
        approved: None,
    }
}

/// What is waited for: a volume, and a node.
pub fn waits() -> Waits {
    let blocked = |object: &ObjectKey, for_what: &str, consequence: &str| Waiting {
        object: object.clone(),
        for_what: for_what.to_owned(),
        kind: WaitKind::Blocked,
        deadline: None,
        consequence: consequence.to_owned(),
        unplaced: None,
    };
    let claim = ObjectKey::new(Kind::PersistentVolumeClaim, "default", "nothing-fits");
    let lonely = ObjectKey::new(Kind::Pod, "default", "lonely");
    let because = "0/1 nodes are available: 1 Insufficient cpu.".to_owned();
    let unplaced = Some(Unplaced { pod: lonely.clone(), because });
    Waits::from(vec![
        (claim.clone(), vec![blocked(&claim, "a volume", "pods that use it do not start")]),
        (
            lonely.clone(),
            vec![Waiting { unplaced, ..blocked(&lonely, "a node", "it stays pending") }],
        ),
    ])
}

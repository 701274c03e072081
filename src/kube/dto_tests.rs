//! Every document of `/kgit/v1`, one golden file each in `golden/`, and each read back as an older
//! release has to read a newer one's: with fields that it does not know.

use std::fmt::Debug;

use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::audit::{AuditedStep, Body, Entry, Trigger};
use crate::domain::change::FieldChange;
use crate::domain::desired::Commit;
use crate::domain::diagnostic::{Diagnostic, Place, Severity};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node_order::NodeOrder;
use crate::domain::plan::{Reason, Said, Unplaced, Verb, WaitKind, Waiting};
use crate::domain::token::Role;
use crate::kube::dto::{
    ClusterStatus, Diagnostics, DiffAnswer, DiffRequest, Done, Entries, Health, HeldDeletions,
    NodeLine, NodeRequest, ObjectLine, Order, ReconcileLine, Reconciles, SourceStatus,
    TokenCreated, TokenLine, TokenRequest, Tokens, UploadedFile, VERSION, Verified, Why, WhyStep,
    WitnessLine,
};

const NOW: Timestamp = Timestamp(1_767_323_045_000);

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, document: &T) {
    let text = serde_json::to_string_pretty(document).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
    let mut newer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(newer["version"], VERSION, "{name} carries its version");
    add_unknown_fields(&mut newer);
    let read: T = serde_json::from_value(newer).expect("unknown fields are tolerated");
    assert_eq!(&read, document, "{name} is read otherwise from a newer release");
}

fn add_unknown_fields(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(add_unknown_fields),
        Value::Object(fields) => {
            fields.values_mut().for_each(add_unknown_fields);
            fields.insert("ofALaterRelease".to_owned(), Value::Bool(true));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn commit() -> Commit {
    Commit { id: "a".repeat(40), author: text("Ann <a@b.c>"), at: NOW, summary: text("more web") }
}

fn web() -> ObjectKey {
    ObjectKey::new(Kind::Deployment, "default", "web")
}

fn head() -> AuditHead {
    AuditHead { restored: Timestamp(0), sequence: 12, digest: Digest::of(b"head") }
}

fn waiting() -> Waiting {
    let pod = ObjectKey::new(Kind::Pod, "default", "web-1");
    let because = text("0/1 nodes are available: 1 unschedulable");
    Waiting {
        object: web(),
        for_what: format!("a place for pod `web-1`: {because}"),
        kind: WaitKind::Blocked,
        deadline: Some(NOW),
        consequence: text("the pod stays pending"),
        unplaced: Some(Unplaced { pod, because }),
    }
}

fn step() -> AuditedStep {
    let place = Place::new("web.yaml", 5, 3);
    let change = FieldChange {
        field: text("spec.replicas"),
        old: Some(text("2")),
        new: Some(text("3")),
        place: Some(place.clone()),
    };
    let because = Reason::Commit { commit: commit().into(), place, changes: vec![change] };
    AuditedStep {
        said: Said {
            verb: Verb::Scale,
            object: web(),
            node: Some(NodeName::new("a")),
            detail: text("2 → 3"),
        },
        reasons: vec![because],
        deviation: Some(text("node a came back")),
    }
}

fn diagnostic() -> Diagnostic {
    Diagnostic::new(Severity::Error, Place::new("web.yaml", 1, 1), "unknown-field", "no such field")
        .with_hint(text("did you mean `name`?"))
}

#[test]
fn the_status() {
    let source = SourceStatus {
        kind: text("git"),
        location: text("/srv/repo"),
        branch: Some(text("main")),
        commit: Some(commit()),
        error: Some(text("no such branch")),
        checked: NOW,
    };
    let held = HeldDeletions {
        plan: text("0123456789ab"),
        objects: vec![web().to_string()],
        reason: text("7 of 8 objects would go, and the budget is 5"),
        approved_by: None,
        approvable: true,
    };
    let node = NodeLine {
        name: text("a"),
        ready: None,
        closed: Some(text("drained")),
        pods: 3,
        heard_of: Some(NOW),
    };
    let object = ObjectLine {
        object: web(),
        health: Health::Degraded,
        detail: text("2/3 ready"),
        place: text("web.yaml:1:1"),
        retained: Some(NOW),
    };
    golden(
        "status",
        &ClusterStatus {
            version: VERSION,
            cluster: text("0123456789abcdef"),
            master: text("0.1.0"),
            now: NOW,
            source,
            accepted: Some(commit()),
            suspended_by: Some(text("ann")),
            restored: true,
            doubts: Vec::new(),
            reconciling: Some(8),
            store_error: None,
            held: Some(held),
            sync: None,
            nodes: vec![node],
            objects: vec![object],
            waits: vec![waiting()],
            errors: 1,
            warnings: 0,
        },
    );
    golden("diagnostics", &Diagnostics { version: VERSION, diagnostics: vec![diagnostic()] });
}

#[test]
fn a_diff_and_its_answer() {
    let file = UploadedFile { path: text("web.yaml"), content: text("a2luZA==") };
    let request = DiffRequest {
        version: VERSION,
        files: vec![file],
        complete: true,
        removed: vec![text("old.yaml")],
    };
    golden("diff-request", &request);
    let answer = DiffAnswer {
        version: VERSION,
        steps: vec![step()],
        waits: vec![waiting()],
        held: Vec::new(),
        pending: Vec::new(),
        diagnostics: vec![diagnostic()],
        changes: 1,
        text: text("  1. ~ scale"),
    };
    golden("diff-answer", &answer);
}

#[test]
fn the_audit() {
    let line = ReconcileLine {
        reconcile: 8,
        at: NOW,
        trigger: Trigger::Commit { commit: commit() },
        steps: 3,
        deviations: 1,
        state: text("running"),
    };
    golden("reconciles", &Reconciles { version: VERSION, reconciles: vec![line] });
    let entry = Entry {
        sequence: 9,
        at: NOW,
        reconcile: 8,
        body: Body::Planned { steps: vec![step()], beyond: 0 },
        body_digest: Digest::of(b"body"),
        digest: Digest::of(b"entry"),
    };
    golden("entries", &Entries { version: VERSION, entries: vec![entry] });
    let witness = WitnessLine { node: text("a"), head: head(), agrees: true };
    let verified = Verified {
        version: VERSION,
        entries: 12,
        head: Some(head()),
        witnesses: vec![witness],
        problems: vec![text("entry 3 was changed")],
    };
    golden("verified", &verified);
    let set_off = WhyStep { reconcile: 8, at: NOW, trigger: Trigger::Start, step: step() };
    let why = Why {
        version: VERSION,
        object: web(),
        owners: vec![web()],
        steps: vec![set_off],
        waits: vec![waiting()],
    };
    golden("why", &why);
}

#[test]
fn tokens_and_orders() {
    let token = TokenLine {
        id: text("id"),
        name: text("ann"),
        role: Role::Admin,
        created: NOW,
        expires: Some(NOW),
        uses_left: Some(1),
        revoked: false,
    };
    golden("tokens", &Tokens { version: VERSION, tokens: vec![token] });
    let request = TokenRequest {
        version: VERSION,
        name: text("ann"),
        role: Role::Join,
        valid_seconds: Some(3600),
        uses: None,
    };
    golden("token-request", &request);
    let created =
        TokenCreated { version: VERSION, id: text("id"), token: text("kgit1.digest.id.secret") };
    golden("token-created", &created);
    let order =
        Order { version: VERSION, plan: text("0123456789ab"), objects: vec![web().to_string()] };
    golden("order", &order);
    let drain = NodeOrder::Drain { grace_seconds: Some(5), delete_empty_dirs: true, force: false };
    golden("node-request", &NodeRequest { version: VERSION, order: drain });
    let done = Done { version: VERSION, message: text("removed"), objects: vec![text("a")] };
    golden("done", &done);
}

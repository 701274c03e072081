//! The audit log: what is written, what is bounded, and what no change to it can hide.

use std::path::Path;

use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::messages::AuditHead;
use rusqlite::params;
use tempfile::TempDir;

use super::{
    AT, draft, finished, open, planned, problems, raw, reconcile, said, step, testify, triggered,
};
use crate::domain::audit::{Body, Entry, MAX_STEPS_LISTED, Trigger};
use crate::store::Store;
use crate::store::audit::Belongs;
use crate::store::limit::MAX_RECONCILE_BYTES;
use crate::store::verify::Problem;

/// A log of four reconciles, and the head that node `a` was given after the third.
fn log() -> (TempDir, Store, (NodeName, AuditHead)) {
    let (dir, mut store) = open();
    for _ in 0..3 {
        store.commit(0, &[], &reconcile()).unwrap();
    }
    let witness = (NodeName::new("a"), store.audit_head());
    store.commit(0, &[], &reconcile()).unwrap();
    (dir, store, witness)
}

#[test]
fn entries_belong_to_the_reconcile_that_their_trigger_names() {
    let (_dir, mut store, _) = log();
    assert_eq!((store.audit_head().sequence, store.newest_reconcile()), (12, Some(10)));
    let reader = store.reader();
    let found: Vec<_> = reader.entries_of(4, 10).unwrap();
    let found: Vec<_> = found.iter().map(|e| (e.sequence, e.body.kind())).collect();
    assert_eq!(found, [(4, "triggered"), (5, "planned"), (6, "finished")]);
    let found: Vec<_> = reader.entries_from(4, 2).unwrap().iter().map(|e| e.sequence).collect();
    assert_eq!(found, [4, 5]);

    store.commit(0, &[], &[draft(Belongs::New, triggered())]).unwrap();
    let reconciles = reader.reconciles(2, None).unwrap();
    assert_eq!(reconciles.iter().map(|r| r.reconcile).collect::<Vec<_>>(), [13, 10]);
    assert_eq!(reconciles[0].body, triggered());
    assert_eq!(reader.reconciles(9, Some(10)).unwrap().len(), 3);

    let ordered = Body::Ordered { by: "ada".to_owned(), what: "cordon of node a".to_owned() };
    store
        .commit(0, &[], &[draft(Belongs::New, ordered), draft(Belongs::Newest, planned())])
        .unwrap();
    let begun = |entries: Vec<Entry>| entries.iter().map(|e| e.sequence).collect::<Vec<_>>();
    assert_eq!(begun(reader.reconciles(2, None).unwrap()), [13, 10]);
    assert_eq!(begun(reader.undertakings(3, None).unwrap()), [14, 13, 10]);
    assert_eq!(begun(reader.undertakings(9, Some(10)).unwrap()), [7, 4, 1]);
    store.redact(4, AT, "ada").unwrap();
    assert_eq!(begun(reader.undertakings(9, Some(10)).unwrap()), [7, 1]);
    assert!(reader.entries_of(99, 9).unwrap().is_empty());
}

#[test]
fn a_restart_goes_on_with_the_same_chain() {
    let (dir, store, witness) = log();
    let head = store.audit_head();
    drop(store);
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!((store.audit_head(), store.newest_reconcile()), (head, Some(10)));
    store.commit(0, &[], &[draft(Belongs::Newest, finished())]).unwrap();
    let report = store.reader().verify(&[witness]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.entries, report.first), (13, 1));
    assert_eq!(report.witnessed_by, [NodeName::new("a")]);
}

/// What verification says after `sql` was run behind the store's back.
fn after(sql: &str) -> Vec<String> {
    let (dir, store, witness) = log();
    raw(dir.path()).execute_batch(sql).unwrap();
    problems(&store.reader().verify(&[witness]).unwrap())
}

#[test]
fn every_change_to_the_log_is_found() {
    let reworded = "UPDATE audit SET body = replace(body, 'data', 'nothing') WHERE sequence = 4";
    assert_eq!(after(reworded), ["the text of entry 4 was changed"]);
    let kind = "UPDATE audit SET kind = 'outcome' WHERE sequence = 4";
    assert_eq!(after(kind), ["the text of entry 4 was changed"]);
    let moved = "UPDATE audit SET at_ms = at_ms - 1 WHERE sequence = 4";
    assert_eq!(after(moved), ["entry 4 does not follow the one before it"]);
    let other = "UPDATE audit SET reconcile = 1 WHERE sequence = 5";
    assert_eq!(after(other), ["entry 5 does not follow the one before it"]);
    let digest = "UPDATE audit SET digest = 'x' WHERE sequence = 5";
    assert_eq!(
        after(digest),
        ["entry 5 does not follow the one before it", "entry 6 does not follow the one before it"]
    );
    let gap = "DELETE FROM audit WHERE sequence IN (4, 5)";
    assert_eq!(after(gap), ["entries between 3 and 6 are missing"]);
    let start = "DELETE FROM audit WHERE sequence = 1";
    assert_eq!(after(start), ["entries between 0 and 2 are missing"]);
    let silent = "UPDATE audit SET body = NULL, kind = 'redacted' WHERE sequence = 5";
    assert_eq!(after(silent), ["the text of entry 5 is gone and nobody ordered that"]);
}

#[test]
fn a_cut_off_tail_is_found_by_the_stored_head_and_by_the_agents() {
    let tail = "DELETE FROM audit WHERE sequence > 7";
    let expected = [
        "the log ends at entry 7, entries up to 12 were cut off",
        "the log ends at entry 7, but node a was given entry 9",
    ];
    assert_eq!(after(tail), expected);
    // Thorough: the stored head is taken back as well.
    let thorough = "DELETE FROM audit WHERE sequence > 7; DELETE FROM property \
        WHERE name = 'audit_head'; INSERT INTO property SELECT 'audit_head', \
        CAST('[1,{\"sequence\":7,\"digest\":\"' || digest || '\",\"reconcile\":7}]' AS BLOB) \
        FROM audit WHERE sequence = 7";
    assert_eq!(after(thorough), ["the log ends at entry 7, but node a was given entry 9"]);
}

#[test]
fn a_chain_rewritten_with_the_cluster_s_own_key_is_found_by_the_agents() {
    let (dir, mut store, witness) = log();
    testify(&mut store, &witness.0, &witness.1);
    // Whoever does this has the file and the key: everything is computed anew.
    let sql = raw(dir.path());
    sql.execute_batch("DELETE FROM audit; DELETE FROM property WHERE name = 'audit_head'").unwrap();
    drop(store);
    let mut forged = Store::open(dir.path()).unwrap();
    for _ in 0..5 {
        let harmless = [draft(Belongs::New, triggered()), draft(Belongs::Newest, finished())];
        forged.commit(0, &[], &harmless).unwrap();
    }
    let rewritten = "node a was given another entry 9: the log was rewritten";
    let report = forged.reader().verify(&[]).unwrap();
    assert_eq!(problems(&report), [rewritten]);
    // The agent goes on and is given newer heads: what it once saw is not forgotten.
    let newer = forged.audit_head();
    testify(&mut forged, &witness.0, &newer);
    assert_eq!(problems(&forged.reader().verify(&[]).unwrap()), [rewritten]);
}

#[test]
fn another_cluster_s_chain_does_not_pass_for_this_one_s() {
    let (dir, store, _) = log();
    let (other_dir, other, _) = log();
    drop((store, other));
    let sql = raw(dir.path());
    let path = other_dir.path().join("kgit.db");
    sql.execute("ATTACH ?1 AS other", [path.to_str().unwrap()]).unwrap();
    sql.execute_batch(
        "DELETE FROM audit; INSERT INTO audit SELECT * FROM other.audit; \
         INSERT OR REPLACE INTO property SELECT * FROM other.property \
         WHERE name IN ('audit_head', 'audit_key')",
    )
    .unwrap();
    drop(sql);
    let store = Store::open(dir.path()).unwrap();
    let expected = ["entry 1 does not follow the one before it"];
    assert_eq!(problems(&store.reader().verify(&[]).unwrap()), expected);
}

#[test]
fn a_witness_keeps_the_newest_head_that_the_chain_contains() {
    let (_dir, mut store, (node, third)) = log();
    let newest = store.audit_head();
    testify(&mut store, &node, &newest);
    // Reports may arrive late.
    testify(&mut store, &node, &third);
    assert_eq!(store.reader().witnesses().unwrap(), [(node, newest)]);
}

#[test]
fn removed_entries_leave_an_anchor_from_which_the_rest_verifies() {
    let (dir, mut store, witness) = log();
    store.remove_audit(9, AT, "ada").unwrap();
    let reader = store.reader();
    let report = reader.verify(&[witness]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.removed_through, report.first, report.entries), (9, 10, 4));
    // The anchor has the digest of entry 9 itself, so what node `a` saw can still be compared.
    assert_eq!(report.witnessed_by, [NodeName::new("a")]);
    assert!(matches!(
        reader.entries_of(13, 1).unwrap()[0].body,
        Body::Anchor { removed_through: 9, ref by, .. } if by == "ada"
    ));
    let early = (
        NodeName::new("b"),
        AuditHead { sequence: 2, digest: Digest::of(b"x"), ..store.audit_head() },
    );
    let report = reader.verify(&[early]).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.notes, ["node b was given entry 2, which was removed by order"]);

    // Again, this time everything; and then the chain goes on.
    store.remove_audit(13, AT, "ada").unwrap();
    store.commit(0, &[], &reconcile()).unwrap();
    let report = reader.verify(&[]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.first, report.entries), (14, 4));
    raw(dir.path()).execute("DELETE FROM audit WHERE sequence = 14", []).unwrap();
    assert!(!reader.verify(&[]).unwrap().is_sound());
    let error = store.remove_audit(99, AT, "ada").unwrap_err().to_string();
    assert!(error.starts_with("audit entry 99: there is no such entry"), "{error}");
}

#[test]
fn a_redacted_entry_is_gone_but_for_its_digests() {
    let (dir, mut store, witness) = log();
    store.redact(5, AT, "ada").unwrap();
    let reader = store.reader();
    assert_eq!(reader.entries_from(5, 1).unwrap()[0].body, Body::Redacted);
    let report = reader.verify(&[witness]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.redacted, [5]);
    assert_eq!(
        reader.entries_of(13, 1).unwrap()[0].body,
        Body::Redaction { sequence: 5, by: "ada".to_owned() }
    );
    assert!(store.redact(5, AT, "ada").is_err());
    let texts: i64 = raw(dir.path())
        .query_row("SELECT count(*) FROM audit WHERE body LIKE '%web.yaml%'", [], |r| r.get(0))
        .unwrap();
    assert_eq!(texts, 3);
}

#[test]
fn the_export_has_a_line_for_each_entry_that_reads_as_one() {
    let (_dir, store, _) = log();
    let mut out = Vec::new();
    assert_eq!(store.reader().export(&mut out).unwrap(), 12);
    let text = String::from_utf8(out).unwrap();
    let entries: Vec<crate::domain::audit::Entry> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(),
        Vec::from_iter(1..=12)
    );
    assert_eq!(entries[1].body, planned());
}

fn bytes_of(dir: &Path, reconcile: u64) -> usize {
    raw(dir)
        .query_row(
            "SELECT sum(length(body) + length(body_digest) + length(digest) + length(kind) + 32) \
             FROM audit WHERE reconcile = ?1",
            params![i64::try_from(reconcile).unwrap()],
            |row| row.get::<_, i64>(0),
        )
        .unwrap()
        .try_into()
        .unwrap()
}

#[test]
fn an_ordinary_reconcile_takes_a_few_kilobytes() {
    let (dir, mut store) = open();
    let steps: Vec<_> = (0..8).map(|n| step(&format!("web-{n}"))).collect();
    let forecast = steps.iter().map(|step| step.said.clone()).collect();
    let lines = (0..8).map(|n| format!("Pod/default/web-{n} running on a")).collect();
    let drafts = [
        draft(Belongs::New, Body::Triggered { by: Trigger::Start, forecast }),
        draft(Belongs::Newest, Body::Planned { steps, beyond: 0 }),
        draft(Belongs::Newest, Body::Outcome { lines }),
        draft(Belongs::Newest, finished()),
    ];
    store.commit(0, &[], &drafts).unwrap();
    let bytes = bytes_of(dir.path(), 1);
    assert!((2_000..8_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_reconcile_without_end_takes_a_bounded_number_of_bytes_and_says_what_it_left_out() {
    let (dir, mut store) = open();
    let long = "ü".repeat(5_000);
    let many: Vec<_> = (0..2_000).map(|n| said(&format!("{long}{n}"))).collect();
    let trigger = Body::Triggered { by: Trigger::Start, forecast: many.clone() };
    store.commit(0, &[], &[draft(Belongs::New, trigger)]).unwrap();
    for round in 0..40 {
        let steps = (0..50).map(|n| step(&format!("{long}{round}-{n}"))).collect();
        let lines = (0..50).map(|n| format!("{long}{round}-{n}")).collect();
        let drafts = [
            draft(Belongs::Newest, Body::Planned { steps, beyond: 0 }),
            draft(Belongs::Newest, Body::Outcome { lines }),
            draft(Belongs::Newest, Body::Outcome { lines: Vec::new() }),
        ];
        store.commit(0, &[], &drafts).unwrap();
    }
    let waiting = many.iter().map(|said| said.object.to_string()).collect();
    let end = Body::Finished { steps: 9, deviations: 0, missing: many, waiting, superseded: false };
    store.commit(0, &[], &[draft(Belongs::Newest, end)]).unwrap();

    let bytes = bytes_of(dir.path(), 1);
    assert!(bytes <= MAX_RECONCILE_BYTES, "{bytes} > {MAX_RECONCILE_BYTES}");
    let entries = store.reader().entries_of(1, 1_000).unwrap();
    let (mut listed, mut lines, mut omitted) = (0, 0, (0, 0));
    for entry in &entries {
        match &entry.body {
            Body::Triggered { forecast, .. } => listed += forecast.len(),
            Body::Planned { steps, .. } => listed += steps.len(),
            Body::Outcome { lines: told } => lines += told.len(),
            Body::Finished { missing, waiting, .. } => lines += missing.len() + waiting.len(),
            Body::Omitted { steps, lines, .. } => omitted = (*steps as usize, *lines as usize),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(listed + omitted.0, 2_000 + 40 * 50);
    assert_eq!(lines + omitted.1, 40 * 50 + 2_000 + 2_000);
    assert!(listed <= 2 * MAX_STEPS_LISTED);
    let [.., omitted, end] = entries.as_slice() else { panic!("{}", entries.len()) };
    assert_eq!((omitted.body.kind(), end.body.kind()), ("omitted", "finished"));
    assert!(store.reader().verify(&[]).unwrap().is_sound());
}

#[test]
fn a_log_that_is_wrong_throughout_is_told_in_a_bounded_list() {
    let (dir, mut store) = open();
    for _ in 0..60 {
        store.commit(0, &[], &reconcile()).unwrap();
    }
    raw(dir.path()).execute("UPDATE audit SET at_ms = 0", []).unwrap();
    let report = store.reader().verify(&[]).unwrap();
    assert_eq!(report.problems.len(), 101);
    assert_eq!(report.problems.last(), Some(&Problem::More));
}

//! Writing the audit log: one entry after the other, each bound to the one before.
//!
//! Reading lives in [`crate::store::reader`], checking in [`crate::store::verify`].

use kgit_protocol::ids::{ClusterId, Digest};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::domain::audit::Body;
use crate::store::chain::{self, AuditKey};
use crate::store::error::StoreError;
use crate::store::limit::{self, Tally};
use crate::store::property;
use crate::store::row::int;

/// Of every entry's body.
pub(super) const BODY_VERSION: i64 = 1;

/// An entry to be written; the chain gives it its number and digests.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditDraft {
    pub at: Timestamp,
    pub reconcile: Belongs,
    pub body: Body,
}

/// Which reconcile an entry is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// It starts one, or stands for itself; named by this entry's own sequence.
    New,
    /// The newest one, perhaps started by a draft before this one in the same call.
    Newest,
}

/// The end of the chain, as it moves within one transaction.
#[derive(Clone, Debug)]
pub(super) struct Tip {
    pub(super) head: AuditHead,
    /// The newest reconcile, 0 if there never was one.
    pub(super) reconcile: u64,
}

/// As stored: the wire's own type is free to change.
#[derive(Serialize, Deserialize)]
struct StoredTip {
    sequence: u64,
    digest: Digest,
    reconcile: u64,
    #[serde(default)]
    restored: Timestamp,
}

pub(super) fn load_tip(connection: &Connection, cluster: &ClusterId) -> Result<Tip, StoreError> {
    let stored: Option<StoredTip> = property::get_json(connection, property::AUDIT_HEAD)?;
    Ok(match stored {
        None => Tip { head: chain::origin(cluster), reconcile: 0 },
        Some(StoredTip { sequence, digest, reconcile, restored }) => {
            Tip { head: AuditHead { restored, sequence, digest }, reconcile }
        }
    })
}

/// Writes drafts at the end of the chain. `tip` is the new end once the transaction is through.
pub(super) fn append(
    tx: &Transaction<'_>,
    key: &AuditKey,
    tip: &mut Tip,
    drafts: &[AuditDraft],
) -> Result<(), StoreError> {
    if drafts.is_empty() {
        return Ok(());
    }
    for draft in drafts {
        append_draft(tx, key, tip, draft)?;
    }
    let stored = StoredTip {
        sequence: tip.head.sequence,
        digest: tip.head.digest.clone(),
        reconcile: tip.reconcile,
        restored: tip.head.restored,
    };
    property::put_json(tx, property::AUDIT_HEAD, &stored)
}

fn append_draft(
    tx: &Transaction<'_>,
    key: &AuditKey,
    tip: &mut Tip,
    draft: &AuditDraft,
) -> Result<(), StoreError> {
    let reconcile = match draft.reconcile {
        Belongs::New => tip.head.sequence + 1,
        Belongs::Newest => tip.reconcile,
    };
    if matches!(draft.body, Body::Triggered { .. }) {
        tip.reconcile = tip.reconcile.max(reconcile);
    }
    if matches!(draft.body, Body::Restored { .. }) {
        tip.head.restored = draft.at;
    }
    let mut tally = load_tally(tx, reconcile)?;
    let fitted = limit::fit(&draft.body, &mut tally)
        .map_err(|source| StoreError::Encode { what: draft.body.kind().to_owned(), source })?;
    let finished = matches!(draft.body, Body::Finished { .. });
    if finished && let Some(omitted) = tally.omitted() {
        let text = encode(&omitted)?;
        insert(tx, key, tip, &Line { at: draft.at, reconcile, kind: omitted.kind(), text: &text })?;
    }
    if let Some(value) = fitted {
        let text = encode(&value)?;
        let kind = draft.body.kind();
        insert(tx, key, tip, &Line { at: draft.at, reconcile, kind, text: &text })?;
    }
    match (finished, &draft.body) {
        (true, _) => drop_tally(tx, reconcile),
        (false, Body::Triggered { .. } | Body::Planned { .. } | Body::Outcome { .. }) => {
            save_tally(tx, reconcile, &tally)
        }
        (false, _) => Ok(()),
    }
}

struct Line<'a> {
    at: Timestamp,
    reconcile: u64,
    kind: &'a str,
    text: &'a str,
}

fn insert(
    tx: &Transaction<'_>,
    key: &AuditKey,
    tip: &mut Tip,
    line: &Line<'_>,
) -> Result<(), StoreError> {
    let sequence = tip.head.sequence + 1;
    let body_digest = key.digest(line.text.as_bytes());
    let digest = chain::link(&tip.head.digest, sequence, line.at, line.reconcile, &body_digest);
    tx.prepare_cached(
        "INSERT INTO audit \
         (sequence, at_ms, reconcile, kind, body_version, body, body_digest, digest) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            int(sequence),
            line.at.0,
            int(line.reconcile),
            line.kind,
            BODY_VERSION,
            line.text,
            body_digest.as_str(),
            digest.as_str(),
        ])
    })
    .map_err(StoreError::sql("writing an audit entry"))?;
    tip.head = AuditHead { restored: tip.head.restored, sequence, digest };
    Ok(())
}

fn encode(body: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(body)
        .map_err(|source| StoreError::Encode { what: "an audit entry".to_owned(), source })
}

/// Removes every entry up to `through`; the anchor at the end of the chain says so and keeps the
/// last removed digest, from which the remaining entries can be verified.
pub(super) fn remove(
    tx: &Transaction<'_>,
    key: &AuditKey,
    tip: &mut Tip,
    through: u64,
    at: Timestamp,
    by: &str,
) -> Result<(), StoreError> {
    let failed = "removing audit entries";
    let last_digest: Option<String> = tx
        .query_row("SELECT digest FROM audit WHERE sequence = ?1", [int(through)], |row| row.get(0))
        .optional()
        .map_err(StoreError::sql(failed))?;
    let Some(last_digest) = last_digest else {
        return Err(StoreError::Audit {
            sequence: through,
            why: "there is no such entry to remove entries through".to_owned(),
        });
    };
    tx.execute("DELETE FROM audit WHERE sequence <= ?1", [int(through)])
        .map_err(StoreError::sql(failed))?;
    let body = Body::Anchor {
        removed_through: through,
        last_digest: Digest::new(last_digest),
        by: by.to_owned(),
    };
    append(tx, key, tip, &[AuditDraft { at, reconcile: Belongs::New, body }])
}

/// Takes out an entry's text; what remains says who did it.
pub(super) fn redact(
    tx: &Transaction<'_>,
    key: &AuditKey,
    tip: &mut Tip,
    sequence: u64,
    at: Timestamp,
    by: &str,
) -> Result<(), StoreError> {
    // An anchor's text is needed to verify what follows it; it holds nothing secret.
    let changed = tx
        .execute(
            "UPDATE audit SET body = NULL, kind = 'redacted' \
             WHERE sequence = ?1 AND body IS NOT NULL \
             AND kind NOT IN ('anchor', 'redaction', 'restored')",
            [int(sequence)],
        )
        .map_err(StoreError::sql("redacting an audit entry"))?;
    if changed == 0 {
        return Err(StoreError::Audit {
            sequence,
            why: "there is no such entry with a text that may be redacted".to_owned(),
        });
    }
    let body = Body::Redaction { sequence, by: by.to_owned() };
    append(tx, key, tip, &[AuditDraft { at, reconcile: Belongs::New, body }])
}

fn load_tally(tx: &Transaction<'_>, reconcile: u64) -> Result<Tally, StoreError> {
    tx.prepare_cached(
        "SELECT bytes, steps, omitted_steps, omitted_lines, omitted_digest \
         FROM audit_tally WHERE reconcile = ?1",
    )
    .and_then(|mut statement| {
        statement
            .query_row([int(reconcile)], |row| {
                Ok(Tally {
                    bytes: row.get::<_, u32>(0)? as usize,
                    steps: row.get::<_, u32>(1)? as usize,
                    omitted_steps: row.get(2)?,
                    omitted_lines: row.get(3)?,
                    omitted_digest: row.get(4)?,
                })
            })
            .optional()
    })
    .map(Option::unwrap_or_default)
    .map_err(StoreError::sql("reading a reconcile's tally"))
}

fn save_tally(tx: &Transaction<'_>, reconcile: u64, tally: &Tally) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO audit_tally \
         (reconcile, bytes, steps, omitted_steps, omitted_lines, omitted_digest) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            int(reconcile),
            int(tally.bytes as u64),
            int(tally.steps as u64),
            tally.omitted_steps,
            tally.omitted_lines,
            tally.omitted_digest,
        ])
    })
    .map_err(StoreError::sql("writing a reconcile's tally"))?;
    Ok(())
}

fn drop_tally(tx: &Transaction<'_>, reconcile: u64) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM audit_tally WHERE reconcile = ?1")
        .and_then(|mut statement| statement.execute([int(reconcile)]))
        .map_err(StoreError::sql("closing a reconcile's tally"))?;
    Ok(())
}

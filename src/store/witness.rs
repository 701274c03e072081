//! The agents' testimony: what each says the audit chain's head was.

use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::AuditHead;
use rusqlite::{Transaction, params};

use crate::store::error::StoreError;
use crate::store::row::int;

/// Keeps a testimony, if it is newer than the last. One that contradicts the chain is never
/// replaced: it is what [`crate::store::verify`] looks for.
pub(super) fn keep(
    tx: &Transaction<'_>,
    node: &NodeName,
    head: &AuditHead,
) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO witness (node, sequence, digest) VALUES (?1, ?2, ?3) \
         ON CONFLICT (node) DO UPDATE \
         SET sequence = excluded.sequence, digest = excluded.digest \
         WHERE excluded.sequence > witness.sequence \
         AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.sequence = witness.sequence \
         AND audit.digest <> witness.digest)",
    )
    .and_then(|mut statement| {
        statement.execute(params![node.as_str(), int(head.sequence), head.digest.as_str()])
    })
    .map_err(StoreError::sql("keeping an agent's testimony"))?;
    Ok(())
}

//! The agents' testimony: what each says the audit chain's head was.

use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::AuditHead;
use rusqlite::{Transaction, params};

use crate::store::error::StoreError;
use crate::store::row::int;

/// Keeps a testimony, if it is newer than the last. One that contradicts the chain is never
/// replaced: it is what [`crate::store::verify`] looks for. One about entries that a restore lost
/// contradicts nothing.
pub(super) fn keep(
    tx: &Transaction<'_>,
    node: &NodeName,
    head: &AuditHead,
) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO witness (node, restored_ms, sequence, digest) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (node) DO UPDATE SET restored_ms = excluded.restored_ms, \
         sequence = excluded.sequence, digest = excluded.digest \
         WHERE (excluded.restored_ms, excluded.sequence) \
         > (witness.restored_ms, witness.sequence) \
         AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.sequence = witness.sequence \
         AND audit.digest <> witness.digest \
         AND NOT EXISTS (SELECT 1 FROM audit AS restore WHERE restore.kind = 'restored' \
         AND restore.at_ms > witness.restored_ms AND restore.sequence <= witness.sequence))",
    )
    .and_then(|mut statement| {
        let AuditHead { restored, sequence, digest } = head;
        statement.execute(params![node.as_str(), restored.0, int(*sequence), digest.as_str()])
    })
    .map_err(StoreError::sql("keeping an agent's testimony"))?;
    Ok(())
}

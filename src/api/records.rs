//! What the API reads that is not in a view: tokens and the audit log. The store implements it.

use std::path::Path;

use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::AuditHead;
use thiserror::Error;

use crate::domain::audit::Entry;
use crate::domain::token::Token;

/// Reads that may touch the disk; handlers call them off the async threads.
pub trait Records: Send + Sync + 'static {
    /// All tokens, revoked and expired ones included.
    fn tokens(&self) -> Result<Vec<Token>, RecordsError>;

    /// The end of the audit chain; `None` while it is empty.
    fn audit_head(&self) -> Result<Option<AuditHead>, RecordsError>;

    /// Entries with a sequence of at least `from`, ascending, at most `limit`.
    fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, RecordsError>;

    /// The `Triggered` entries of the newest reconciles before `before` (newest of all if
    /// `None`), descending, at most `limit`.
    fn reconciles(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, RecordsError>;

    /// The entries that begin a number of their own: of reconciles, of orders that set none off, of
    /// a restore. Descending, before `before`, at most `limit`.
    fn undertakings(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, RecordsError>;

    /// All entries of one reconcile, ascending.
    fn reconcile(&self, sequence: u64) -> Result<Vec<Entry>, RecordsError>;

    /// Writes a consistent copy of everything to a new file, while the master goes on.
    fn backup(&self, to: &Path) -> Result<(), RecordsError>;

    /// Walks the whole chain and compares it with what the nodes witnessed.
    fn verify(&self) -> Result<Verification, RecordsError>;
}

/// How the audit log was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    pub entries: u64,
    pub head: Option<AuditHead>,
    /// Heads that nodes were given earlier, and whether the chain still holds them.
    pub witnesses: Vec<Witness>,
    /// What is wrong, in words; empty: nothing.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub node: NodeName,
    pub head: AuditHead,
    pub agrees: bool,
}

#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct RecordsError {
    pub message: String,
}

impl RecordsError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

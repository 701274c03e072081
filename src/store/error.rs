//! What can go wrong in the store, said with what was attempted and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::token::TokenRefusal;
use crate::domain::world::Table;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the data directory {} is in use by another master (pid {pid}): stop that one, or give \
         this one a --data of its own",
        dir.display()
    )]
    Locked { dir: PathBuf, pid: String },

    #[error("{attempted} {}", path.display())]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },

    /// The transaction was rolled back: the same call may be made again.
    #[error("{attempted}")]
    Sql { attempted: &'static str, source: rusqlite::Error },

    #[error(
        "the database {} is damaged ({what}): stop the master and put back a backup with \
         `kgit restore FILE`; the damaged one is kept aside",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },

    #[error(
        "the database {} has schema version {found}, this kgit knows up to {known}: use the newer \
         kgit that wrote it",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },

    #[error("the row {key} of table {table:?} has body version {found}, this kgit knows {known}")]
    NewerRow { table: Table, key: String, found: i64, known: i64 },

    #[error("the row {key} of table {table:?} can't be read")]
    Row { table: Table, key: String, source: serde_json::Error },

    #[error("the row {key} of table {table:?} is named as no object is")]
    Key { table: Table, key: String },

    #[error("the stored value `{name}` can't be read")]
    Property { name: String },

    #[error("encoding {what}")]
    Encode { what: String, source: serde_json::Error },

    #[error("transaction {given} is not after transaction {last}")]
    Behind { given: u64, last: u64 },

    #[error("audit entry {sequence}: {why}")]
    Audit { sequence: u64, why: String },

    #[error("token {id}: {why}")]
    Token { id: String, why: TokenRefusal },

    #[error(
        "{} has {free_bytes} bytes free and the backup needs {needed_bytes}: make room, or name \
         another place",
        at.display()
    )]
    NoSpace { at: PathBuf, needed_bytes: u64, free_bytes: u64 },

    #[error("{} exists already: name another file, or move it away", path.display())]
    Exists { path: PathBuf },

    #[error("{} is not a backup that kgit made: {why}", path.display())]
    NotABackup { path: PathBuf, why: String },

    #[error(
        "a restore into {} was interrupted: run `kgit restore FILE` again",
        dir.display()
    )]
    RestoreInterrupted { dir: PathBuf },
}

impl StoreError {
    /// For `map_err` on file operations.
    pub(super) fn io(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempted, path, source }
    }

    /// For `map_err` on database operations.
    pub(super) fn sql(attempted: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sql { attempted, source }
    }
}

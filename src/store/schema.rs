//! The database file: its settings, its schema, and how older files come to the newest one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::store::error::StoreError;

pub(super) const FILE: &str = "kgit.db";

/// In the file's header, so that a stray file is not taken for a store: "kgit".
pub(super) const APPLICATION_ID: i64 = 0x6b67_6974;

/// One step per version; `user_version` counts those that were carried out.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/v1.sql"),
    include_str!("schema/v2.sql"),
    include_str!("schema/v3.sql"),
    include_str!("schema/v4.sql"),
    include_str!("schema/v5.sql"),
    include_str!("schema/v6.sql"),
];

/// The only other writer is a restore, which holds the lock; what is waited for is a reader that
/// finishes recovery of the log, a matter of milliseconds.
const BUSY: Duration = Duration::from_secs(5);

/// Statements that are kept prepared: those of eleven tables and of the audit, with room.
const STATEMENTS: usize = 64;

/// The write-ahead log is cut back to this after a checkpoint, so that one large transaction
/// does not hold on to the disk for ever.
const LOG_BYTES: i64 = 64 << 20;

pub(super) fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Opens for writing: checked, migrated, durable.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| damaged(path, error))?;
    check(&connection, path)?;
    settle(&connection).map_err(|error| damaged(path, error))?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens for reading alone.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let attempted = "opening the database to read";
    let connection =
        Connection::open_with_flags(path, flags).map_err(StoreError::sql(attempted))?;
    connection.busy_timeout(BUSY).map_err(StoreError::sql(attempted))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// `synchronous = FULL`: each commit is on the disk before anybody hears of it. With `NORMAL` a
/// power cut could take back the last transactions, and with them generations that agents act
/// on already; the master would then find itself restored and stop to ask. One flush a tick is
/// the price.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)
}

/// `quick_check` reads every page and skips only the comparison of indexes with their tables,
/// so that a start costs milliseconds, not seconds.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY).map_err(|error| damaged(path, error))?;
    let said: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| damaged(path, error))?;
    if said != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), what: said });
    }
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let attempted = "migrating the database";
    let found = user_version(connection)?;
    let known = known_version();
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for version in found..known {
        let Some(step) = usize::try_from(version).ok().and_then(|index| MIGRATIONS.get(index))
        else {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                what: format!("schema version {version}"),
            });
        };
        let tx = connection.transaction().map_err(StoreError::sql(attempted))?;
        tx.execute_batch(step).map_err(StoreError::sql(attempted))?;
        tx.pragma_update(None, "user_version", version + 1).map_err(StoreError::sql(attempted))?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(StoreError::sql(attempted))?;
        tx.commit().map_err(StoreError::sql(attempted))?;
    }
    Ok(())
}

pub(super) fn user_version(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(StoreError::sql("reading the schema version"))
}

/// Corruption gets its own error, which says what to do; the rest is told as it is.
fn damaged(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match &error {
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(failure.code, DatabaseCorrupt | NotADatabase) =>
        {
            StoreError::Damaged { path: PathBuf::from(path), what: error.to_string() }
        }
        _ => StoreError::Sql { attempted: "opening the database", source: error },
    }
}

//! Reading beside the loop: the audit log, tokens, and whole copies of the file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kgit_protocol::ids::{ClusterId, Digest, NodeName};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::domain::audit::{Body, Entry};
use crate::domain::token::Token;
use crate::store::audit::load_tip;
use crate::store::chain::AuditKey;
use crate::store::error::StoreError;
use crate::store::row::int;
use crate::store::{schema, token};

/// Connections kept open between calls. More callers at once open their own and close them.
const KEPT: usize = 4;

/// Read-only, of any thread; clones share their connections.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) dir: Arc<Path>,
    pub(super) cluster: ClusterId,
    pub(super) key: AuditKey,
    idle: Arc<Mutex<Vec<Connection>>>,
}

pub(super) const ENTRY_COLUMNS: &str =
    "sequence, at_ms, reconcile, kind, body, body_digest, digest";

impl Reader {
    pub(super) fn new(dir: &Path, cluster: ClusterId, key: AuditKey) -> Self {
        Self { dir: dir.into(), cluster, key, idle: Arc::default() }
    }

    /// The first entries of a reconcile, oldest first.
    pub fn entries_of(&self, reconcile: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read_entries("reconcile = ?1 ORDER BY sequence LIMIT ?2", reconcile, limit)
    }

    /// Entries with a sequence of at least `from`, oldest first.
    pub fn entries_from(&self, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read_entries("sequence >= ?1 ORDER BY sequence LIMIT ?2", from, limit)
    }

    /// The end of the chain.
    pub fn head(&self) -> Result<AuditHead, StoreError> {
        self.with(|connection| Ok(load_tip(connection, &self.cluster)?.head))
    }

    /// The entries that begin reconciles, newest first, those below `before` if given.
    pub fn reconciles(&self, limit: usize, before: Option<u64>) -> Result<Vec<Entry>, StoreError> {
        let which = "kind = 'triggered' AND sequence < ?1 ORDER BY sequence DESC LIMIT ?2";
        self.read_entries(which, before.unwrap_or(u64::MAX), limit)
    }

    /// The entries that begin a number of their own: of reconciles, of orders that set none off, of
    /// a restore.
    pub fn undertakings(
        &self,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        let which = "sequence = reconcile AND kind <> 'redacted' AND sequence < ?1 \
                     ORDER BY sequence DESC LIMIT ?2";
        self.read_entries(which, before.unwrap_or(u64::MAX), limit)
    }

    /// `which` takes a number and a limit.
    fn read_entries(
        &self,
        which: &'static str,
        number: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM audit WHERE {which}");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(|connection| {
            let rows: Vec<RawEntry> = connection
                .prepare_cached(&sql)
                .and_then(|mut statement| {
                    statement.query_map(params![int(number), limit], RawEntry::read)?.collect()
                })
                .map_err(StoreError::sql("reading audit entries"))?;
            rows.into_iter().map(RawEntry::parse).collect()
        })
    }

    /// Writes the whole log, oldest first, one JSON object a line; returns how many.
    pub fn export(&self, out: &mut dyn Write) -> Result<u64, StoreError> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM audit ORDER BY sequence");
        let attempted = "exporting the audit log";
        self.with(|connection| {
            let mut statement = connection.prepare(&sql).map_err(StoreError::sql(attempted))?;
            let mut rows = statement.query([]).map_err(StoreError::sql(attempted))?;
            let mut written = 0;
            while let Some(row) = rows.next().map_err(StoreError::sql(attempted))? {
                let raw = RawEntry::read(row).map_err(StoreError::sql(attempted))?;
                write_line(out, &raw.parse()?)?;
                written += 1;
            }
            Ok(written)
        })
    }

    /// What each agent says the head of the chain was.
    pub fn witnesses(&self) -> Result<Vec<(NodeName, AuditHead)>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT node, sequence, digest, restored_ms FROM witness ORDER BY node",
                )
                .and_then(|mut statement| statement.query_map([], read_witness)?.collect())
                .map_err(StoreError::sql("reading the agents' testimony"))
        })
    }

    pub fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.with(token::all)
    }

    /// The token whose secret has this hash, whatever its state: the caller judges.
    pub fn token_by_secret(&self, secret_hash: &Digest) -> Result<Option<Token>, StoreError> {
        self.with(|connection| token::by_secret(connection, secret_hash))
    }

    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => schema::open_read_only(&self.path())?,
        };
        let done = read(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        done
    }

    fn path(&self) -> PathBuf {
        self.dir.join(schema::FILE)
    }
}

/// An entry as it stands in SQL, before its text is trusted to be one.
pub(super) struct RawEntry {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) reconcile: u64,
    pub(super) kind: String,
    pub(super) body: Option<String>,
    pub(super) body_digest: Digest,
    pub(super) digest: Digest,
}

impl RawEntry {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            sequence: number(row.get(0)?),
            at: Timestamp(row.get(1)?),
            reconcile: number(row.get(2)?),
            kind: row.get(3)?,
            body: row.get(4)?,
            body_digest: Digest::new(row.get::<_, String>(5)?),
            digest: Digest::new(row.get::<_, String>(6)?),
        })
    }

    fn parse(self) -> Result<Entry, StoreError> {
        let body = match &self.body {
            None => Body::Redacted,
            Some(text) => serde_json::from_str(text).map_err(|error| StoreError::Audit {
                sequence: self.sequence,
                why: format!("its text can't be read: {error}"),
            })?,
        };
        Ok(Entry {
            sequence: self.sequence,
            at: self.at,
            reconcile: self.reconcile,
            body,
            body_digest: self.body_digest,
            digest: self.digest,
        })
    }
}

fn write_line(out: &mut dyn Write, entry: &Entry) -> Result<(), StoreError> {
    let line = serde_json::to_string(entry)
        .map_err(|source| StoreError::Encode { what: "an audit entry".to_owned(), source })?;
    writeln!(out, "{line}").map_err(StoreError::io("exporting the audit log to", Path::new("-")))
}

fn read_witness(row: &Row<'_>) -> rusqlite::Result<(NodeName, AuditHead)> {
    let head = AuditHead {
        restored: Timestamp(row.get(3)?),
        sequence: number(row.get(1)?),
        digest: Digest::new(row.get::<_, String>(2)?),
    };
    Ok((NodeName::new(row.get::<_, String>(0)?), head))
}

pub(super) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

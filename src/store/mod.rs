//! The store: everything the master must not forget, in one SQLite file of the data directory.
//!
//! The World's rows, the audit chain, tokens and the cluster's keys; backup and restore. One
//! [`Store`] writes, owned by the master's loop; any number of [`Reader`]s read beside it. What
//! does not live here: what the rows mean (`domain`), and Git's objects (`source`).
#![allow(clippy::disallowed_methods, reason = "the shell: the store is files and SQL")]

pub mod audit;
pub mod backup;
mod chain;
pub mod crash;
pub mod error;
pub mod limit;
mod lock;
mod property;
pub mod reader;
mod row;
mod schema;
#[cfg(test)]
mod tests;
mod token;
pub mod verify;
mod witness;

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kgit_protocol::ids::{ClusterId, NodeName, hex};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::domain::audit::Entry;
use crate::domain::record::Meta;
use crate::domain::token::{Token, TokenOrder};
use crate::domain::world::{Effect, Table, World};
use crate::store::audit::{AuditDraft, Tip};
use crate::store::chain::AuditKey;
use crate::store::crash::CrashPoints;
use crate::store::error::StoreError;
use crate::store::lock::Lock;
use crate::store::reader::Reader;

/// Bytes of each key: as many as SHA-256 gives.
const KEY_BYTES: usize = 32;

/// The one writer.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    reader: Reader,
    keys: Keys,
    version: u64,
    tip: Tip,
    crash: CrashPoints,
    _lock: Lock,
}

/// What a transaction records beside the World's rows and the audit.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub tokens: Vec<TokenOrder>,
    /// What agents say the audit chain's head was.
    pub witnesses: Vec<(NodeName, AuditHead)>,
}

struct Keys {
    cluster: ClusterId,
    secret: Vec<u8>,
    audit: AuditKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store of a data directory, and makes both if they aren't there.
    ///
    /// # Errors
    /// Another master holds the directory, the file is damaged or of a newer kgit, or I/O.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_locked(dir, lock::lock(dir)?)
    }

    fn open_locked(dir: &Path, lock: Lock) -> Result<Self, StoreError> {
        backup::refuse_interrupted(dir)?;
        let path = dir.join(schema::FILE);
        create_private(&path)?;
        let mut connection = schema::open(&path)?;
        let keys = first_open(&mut connection)?;
        let version = last_version(&connection)?;
        let tip = audit::load_tip(&connection, &keys.cluster)?;
        let reader = Reader::new(dir, keys.cluster.clone(), keys.audit.clone());
        let crash = CrashPoints::default();
        Ok(Self { connection, reader, keys, version, tip, crash, _lock: lock })
    }

    /// Arms a crash point; for tests of the whole process.
    pub fn set_crash_points(&mut self, crash: CrashPoints) {
        self.crash = crash;
    }

    pub fn cluster(&self) -> ClusterId {
        self.keys.cluster.clone()
    }

    /// Keys the marks that stand for Secret values: "changed" can be told, the value can't.
    pub fn secret_key(&self) -> &[u8] {
        &self.keys.secret
    }

    /// The number of the last transaction that changed the World.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn audit_head(&self) -> AuditHead {
        self.tip.head.clone()
    }

    /// The newest reconcile, whether it is finished or not.
    pub fn newest_reconcile(&self) -> Option<u64> {
        (self.tip.reconcile > 0).then_some(self.tip.reconcile)
    }

    /// What was recorded of the newest reconcile; bounded, as every reconcile is.
    pub fn newest_entries(&self) -> Result<Vec<Entry>, StoreError> {
        match self.newest_reconcile() {
            Some(reconcile) => self.reader.entries_of(reconcile, usize::MAX),
            None => Ok(Vec::new()),
        }
    }

    /// A reader of the same file; cheap, for any thread.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Everything recorded, as the World it was when the last transaction was through.
    pub fn load(&self) -> Result<World, StoreError> {
        load_world(&self.connection, &self.keys, self.version)
    }

    /// One transaction: all of it, or, on an error, none of it. The same call may then be made
    /// again. `version` must be new if there are effects.
    pub fn commit(
        &mut self,
        version: u64,
        effects: &[Effect],
        audit: &[AuditDraft],
    ) -> Result<(), StoreError> {
        self.commit_beside(version, effects, &Beside::default(), audit)
    }

    /// [`Store::commit`], with more in the same transaction: a join spends its token and records
    /// its node together.
    pub fn commit_beside(
        &mut self,
        version: u64,
        effects: &[Effect],
        beside: &Beside,
        audit: &[AuditDraft],
    ) -> Result<(), StoreError> {
        let last = self.version;
        if !effects.is_empty() && version <= last {
            return Err(StoreError::Behind { given: version, last });
        }
        self.write("committing a transaction", |writing| {
            record(writing.tx, effects, version)?;
            for order in &beside.tokens {
                token::carry_out(writing.tx, order)?;
            }
            for (node, head) in &beside.witnesses {
                witness::keep(writing.tx, node, head)?;
            }
            audit::append(writing.tx, &writing.keys.audit, &mut writing.tip, audit)
        })?;
        if !effects.is_empty() {
            self.version = version;
        }
        Ok(())
    }

    /// The token of this id, whatever its state.
    pub fn token(&self, id: &str) -> Result<Option<Token>, StoreError> {
        token::by_id(&self.connection, id)
    }

    /// Removes the audit's entries up to `through`, by an explicit order of `by`. An anchor takes
    /// their place, so that the rest still verifies.
    pub fn remove_audit(
        &mut self,
        through: u64,
        at: Timestamp,
        by: &str,
    ) -> Result<(), StoreError> {
        self.write("removing audit entries", |writing| {
            let Writing { tx, keys, tip } = writing;
            audit::remove(tx, &keys.audit, tip, through, at, by)
        })
    }

    /// Takes out the text of one entry, by an explicit order of `by`; its digests stay.
    pub fn redact(&mut self, sequence: u64, at: Timestamp, by: &str) -> Result<(), StoreError> {
        self.write("redacting an audit entry", |writing| {
            let Writing { tx, keys, tip } = writing;
            audit::redact(tx, &keys.audit, tip, sequence, at, by)
        })
    }

    /// Every write goes through here: one transaction, and one pair of crash points.
    fn write<T>(
        &mut self,
        attempted: &'static str,
        work: impl FnOnce(&mut Writing<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::sql(attempted))?;
        let mut writing = Writing { tx: &tx, keys: &self.keys, tip: self.tip.clone() };
        let done = work(&mut writing)?;
        let tip = writing.tip;
        self.crash.before_commit();
        tx.commit().map_err(StoreError::sql(attempted))?;
        self.tip = tip;
        self.crash.after_commit();
        Ok(done)
    }
}

struct Writing<'a> {
    tx: &'a Transaction<'a>,
    keys: &'a Keys,
    tip: Tip,
}

fn load_world(connection: &Connection, keys: &Keys, version: u64) -> Result<World, StoreError> {
    let mut world = World::new(keys.cluster.clone(), Arc::from(&keys.secret[..]));
    for table in Table::ALL {
        row::load(connection, table, &mut world)?;
    }
    if let Some(meta) = property::get_json::<Meta>(connection, property::META)? {
        world.apply(&Effect::Meta(Arc::new(meta)), version);
    }
    world.version = version;
    Ok(world)
}

/// The number of the newest transaction with effects.
fn last_version(connection: &Connection) -> Result<u64, StoreError> {
    Ok(property::get_json(connection, property::VERSION)?.unwrap_or(0))
}

/// Writes what a transaction changes, if that is anything.
fn record(tx: &Transaction<'_>, effects: &[Effect], version: u64) -> Result<(), StoreError> {
    if !effects.is_empty() {
        property::put_json(tx, property::VERSION, &version)?;
    }
    effects.iter().try_for_each(|effect| row::write(tx, effect, version))
}

/// The file is there before SQLite opens it, so that it is never open to others.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map(drop).map_err(StoreError::io("opening the database", path))
}

/// Reads the cluster's id and keys; makes them at the very first open.
fn first_open(connection: &mut Connection) -> Result<Keys, StoreError> {
    if property::get(connection, property::CLUSTER)?.is_none() {
        let attempted = "making the cluster's keys";
        let tx = connection.transaction().map_err(StoreError::sql(attempted))?;
        property::put(&tx, property::CLUSTER, hex(&random::<8>()?).as_bytes())?;
        property::put(&tx, property::SECRET_KEY, &random::<KEY_BYTES>()?)?;
        property::put(&tx, property::AUDIT_KEY, &random::<KEY_BYTES>()?)?;
        tx.commit().map_err(StoreError::sql(attempted))?;
    }
    read_keys(connection)
}

fn read_keys(connection: &Connection) -> Result<Keys, StoreError> {
    let value = |name: &'static str| {
        property::get(connection, name)?
            .ok_or_else(|| StoreError::Property { name: name.to_owned() })
    };
    let cluster = String::from_utf8(value(property::CLUSTER)?)
        .map_err(|_| StoreError::Property { name: property::CLUSTER.to_owned() })?;
    Ok(Keys {
        cluster: ClusterId::new(cluster),
        secret: value(property::SECRET_KEY)?,
        audit: AuditKey(value(property::AUDIT_KEY)?),
    })
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let path = PathBuf::from("/dev/urandom");
    let mut bytes = [0; N];
    File::open(&path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(StoreError::io("reading random bytes from", &path))?;
    Ok(bytes)
}

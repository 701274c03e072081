//! The World's rows as they stand in SQL: a key, a version, and a JSON body that names its own
//! version.

use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};
use serde::de::DeserializeOwned;

use crate::domain::key::ObjectKey;
use crate::domain::world::{Effect, Record, Table, World};
use crate::store::error::StoreError;
use crate::store::property;

/// Of every row's body. A change that an older reader would misread bumps it.
pub(super) const BODY_VERSION: i64 = 1;

/// Writes one effect as part of transaction `version`.
pub(super) fn write(tx: &Transaction<'_>, effect: &Effect, version: u64) -> Result<(), StoreError> {
    match effect {
        Effect::Meta(meta) => property::put_json(tx, property::META, &**meta),
        Effect::Put(key, record) => put(tx, key, record, version),
        Effect::Remove(key, table) => remove(tx, key, *table),
    }
}

fn put(
    tx: &Transaction<'_>,
    key: &ObjectKey,
    record: &Record,
    version: u64,
) -> Result<(), StoreError> {
    let table = record.table();
    let body =
        encode(record).map_err(|source| StoreError::Encode { what: key.to_string(), source })?;
    let failed = StoreError::sql("writing a row");
    tx.prepare_cached(upsert(table))
        .and_then(|mut statement| {
            statement.execute(params![key.to_string(), int(version), BODY_VERSION, body])
        })
        .map_err(failed)?;
    Ok(())
}

fn remove(tx: &Transaction<'_>, key: &ObjectKey, table: Table) -> Result<(), StoreError> {
    tx.prepare_cached(delete(table))
        .and_then(|mut statement| statement.execute([key.to_string()]))
        .map_err(StoreError::sql("removing a row"))?;
    Ok(())
}

/// Puts every row of one table into the World, each with the version it was written at.
pub(super) fn load(
    connection: &Connection,
    table: Table,
    world: &mut World,
) -> Result<(), StoreError> {
    let sql = format!("SELECT key, version, body_version, body FROM {}", name(table));
    let attempted = "reading the rows";
    let mut statement = connection.prepare(&sql).map_err(StoreError::sql(attempted))?;
    let mut rows = statement.query([]).map_err(StoreError::sql(attempted))?;
    while let Some(row) = rows.next().map_err(StoreError::sql(attempted))? {
        let (effect, version) = read(table, row)?;
        world.apply(&effect, version);
    }
    Ok(())
}

fn read(table: Table, row: &rusqlite::Row<'_>) -> Result<(Effect, u64), StoreError> {
    let columns = || -> rusqlite::Result<(String, i64, i64, String)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let (name, version, found, body) = columns().map_err(StoreError::sql("reading a row"))?;
    if found > BODY_VERSION {
        return Err(StoreError::NewerRow { table, key: name, found, known: BODY_VERSION });
    }
    let Some(key) = ObjectKey::parse(&name) else {
        return Err(StoreError::Key { table, key: name });
    };
    let record =
        decode(table, &body).map_err(|source| StoreError::Row { table, key: name, source })?;
    Ok((Effect::Put(key, record), u64::try_from(version).unwrap_or(0)))
}

fn encode(record: &Record) -> serde_json::Result<String> {
    match record {
        Record::Object(value) => serde_json::to_string(&**value),
        Record::Pruned(value) => serde_json::to_string(&**value),
        Record::Deployment(value) => serde_json::to_string(&**value),
        Record::ReplicaSet(value) => serde_json::to_string(&**value),
        Record::Job(value) => serde_json::to_string(&**value),
        Record::StatefulSet(value) => serde_json::to_string(&**value),
        Record::DaemonSet(value) => serde_json::to_string(&**value),
        Record::Revision(value) => serde_json::to_string(&**value),
        Record::CronJob(value) => serde_json::to_string(&**value),
        Record::Autoscaler(value) => serde_json::to_string(&**value),
        Record::Budget(value) => serde_json::to_string(&**value),
        Record::Service(value) => serde_json::to_string(&**value),
        Record::Claim(value) => serde_json::to_string(&**value),
        Record::Volume(value) => serde_json::to_string(&**value),
        Record::Pod(value) => serde_json::to_string(&**value),
        Record::Node(value) => serde_json::to_string(&**value),
        Record::Departed(value) => serde_json::to_string(&**value),
        Record::Events(value) => serde_json::to_string(&**value),
    }
}

fn decode(table: Table, body: &str) -> serde_json::Result<Record> {
    fn arc<T: DeserializeOwned>(body: &str) -> serde_json::Result<Arc<T>> {
        serde_json::from_str(body).map(Arc::new)
    }
    Ok(match table {
        Table::Object => Record::Object(arc(body)?),
        Table::Pruned => Record::Pruned(arc(body)?),
        Table::Deployment => Record::Deployment(arc(body)?),
        Table::ReplicaSet => Record::ReplicaSet(arc(body)?),
        Table::Job => Record::Job(arc(body)?),
        Table::StatefulSet => Record::StatefulSet(arc(body)?),
        Table::DaemonSet => Record::DaemonSet(arc(body)?),
        Table::Revision => Record::Revision(arc(body)?),
        Table::CronJob => Record::CronJob(arc(body)?),
        Table::Autoscaler => Record::Autoscaler(arc(body)?),
        Table::Budget => Record::Budget(arc(body)?),
        Table::Service => Record::Service(arc(body)?),
        Table::Claim => Record::Claim(arc(body)?),
        Table::Volume => Record::Volume(arc(body)?),
        Table::Pod => Record::Pod(arc(body)?),
        Table::Node => Record::Node(arc(body)?),
        Table::Departed => Record::Departed(arc(body)?),
        Table::Events => Record::Events(arc(body)?),
    })
}

/// SQLite's integers are signed. No counter of ours comes near the difference.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

macro_rules! statements {
    ($($table:ident => $name:literal),* $(,)?) => {
        // Spelled out, so that each is one cached statement and costs no formatting.
        fn upsert(table: Table) -> &'static str {
            match table {
                $(Table::$table => concat!(
                    "INSERT INTO ", $name, " (key, version, body_version, body) ",
                    "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET ",
                    "version = excluded.version, body_version = excluded.body_version, ",
                    "body = excluded.body",
                ),)*
            }
        }

        /// The table's name.
        pub(super) fn name(table: Table) -> &'static str {
            match table {
                $(Table::$table => $name,)*
            }
        }

        fn delete(table: Table) -> &'static str {
            match table {
                $(Table::$table => concat!("DELETE FROM ", $name, " WHERE key = ?1"),)*
            }
        }
    };
}

statements! {
    Object => "object",
    Pruned => "pruned",
    Deployment => "deployment",
    ReplicaSet => "replica_set",
    Job => "job",
    StatefulSet => "stateful_set",
    DaemonSet => "daemon_set",
    Revision => "revision",
    CronJob => "cron_job",
    Autoscaler => "autoscaler",
    Budget => "budget",
    Service => "service",
    Claim => "claim",
    Volume => "volume",
    Pod => "pod",
    Node => "node",
    Departed => "departed",
    Events => "event_log",
}

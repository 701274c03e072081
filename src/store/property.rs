//! Single values of the store, each under a name.

use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::error::StoreError;

pub(super) const CLUSTER: &str = "cluster";
/// Masks the values of Secrets.
pub(super) const SECRET_KEY: &str = "secret_key";
/// Keys the digests of audit bodies.
pub(super) const AUDIT_KEY: &str = "audit_key";
pub(super) const META: &str = "meta";
pub(super) const VERSION: &str = "version";
pub(super) const AUDIT_HEAD: &str = "audit_head";

/// JSON values say which version of their form they have.
const JSON_VERSION: u32 = 1;

pub(super) fn get(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    connection
        .prepare_cached("SELECT value FROM property WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .map_err(StoreError::sql("reading a stored value"))
}

pub(super) fn put(connection: &Connection, name: &str, value: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO property (name, value) VALUES (?1, ?2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .and_then(|mut statement| statement.execute(rusqlite::params![name, value]))
        .map_err(StoreError::sql("writing a stored value"))?;
    Ok(())
}

pub(super) fn get_json<T: DeserializeOwned>(
    connection: &Connection,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let Some(bytes) = get(connection, name)? else { return Ok(None) };
    match serde_json::from_slice::<(u32, T)>(&bytes) {
        Ok((JSON_VERSION, value)) => Ok(Some(value)),
        Ok(_) | Err(_) => Err(StoreError::Property { name: name.to_owned() }),
    }
}

pub(super) fn put_json<T: Serialize>(
    connection: &Connection,
    name: &str,
    value: &T,
) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(&(JSON_VERSION, value))
        .map_err(|source| StoreError::Encode { what: name.to_owned(), source })?;
    put(connection, name, &bytes)
}

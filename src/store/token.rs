//! Tokens as rows. Only hashes of their secrets are ever here.

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::domain::token::{Role, Token, TokenOrder, TokenRefusal};
use crate::store::error::StoreError;

const COLUMNS: &str = "id, name, role, secret_hash, created_ms, expires_ms, uses_left, revoked";

pub(super) fn carry_out(tx: &Transaction<'_>, order: &TokenOrder) -> Result<(), StoreError> {
    match order {
        TokenOrder::Create(token) => create(tx, token),
        TokenOrder::Revoke { id } => {
            change(tx, id, "UPDATE token SET revoked = 1 WHERE id = ?1", TokenRefusal::Unknown)
        }
        // The condition makes a single use single, whoever else tries at the same time.
        TokenOrder::Spend { id } => change(
            tx,
            id,
            "UPDATE token SET uses_left = uses_left - 1 \
             WHERE id = ?1 AND revoked = 0 AND (uses_left IS NULL OR uses_left > 0)",
            TokenRefusal::Spent,
        ),
    }
}

fn create(tx: &Transaction<'_>, token: &Token) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO token \
         (id, name, role, secret_hash, created_ms, expires_ms, uses_left, revoked) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            token.id,
            token.name,
            token.role.as_str(),
            token.secret_hash.as_str(),
            token.created.0,
            token.expires.map(|expires| expires.0),
            token.uses_left,
            token.revoked,
        ],
    )
    .map_err(StoreError::sql("writing a token"))?;
    Ok(())
}

fn change(tx: &Transaction<'_>, id: &str, sql: &str, why: TokenRefusal) -> Result<(), StoreError> {
    match tx.execute(sql, [id]).map_err(StoreError::sql("changing a token"))? {
        0 => Err(StoreError::Token { id: id.to_owned(), why }),
        _ => Ok(()),
    }
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Token>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM token ORDER BY created_ms, id");
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(StoreError::sql("reading the tokens"))
}

pub(super) fn by_id(connection: &Connection, id: &str) -> Result<Option<Token>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE id = ?1");
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([id], read).optional())
        .map_err(StoreError::sql("reading a token"))
}

pub(super) fn by_secret(
    connection: &Connection,
    secret_hash: &Digest,
) -> Result<Option<Token>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE secret_hash = ?1");
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([&secret_hash.as_str()], read).optional())
        .map_err(StoreError::sql("reading a token"))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Token> {
    let role: String = row.get(2)?;
    Ok(Token {
        id: row.get(0)?,
        name: row.get(1)?,
        role: role_of(&role).ok_or_else(|| {
            rusqlite::Error::FromSqlConversionFailure(
                2,
                rusqlite::types::Type::Text,
                format!("`{role}` is no role").into(),
            )
        })?,
        secret_hash: Digest::new(row.get::<_, String>(3)?),
        created: Timestamp(row.get(4)?),
        expires: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        uses_left: row.get(6)?,
        revoked: row.get(7)?,
    })
}

fn role_of(name: &str) -> Option<Role> {
    [Role::Join, Role::Read, Role::Write, Role::Admin]
        .into_iter()
        .find(|role| role.as_str() == name)
}

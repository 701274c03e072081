//! Tokens: for admins.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};

use crate::api::auth::{Caller, TokenText};
use crate::api::error::ApiError;
use crate::api::state::Api;
use crate::domain::token::{Role, Token, TokenOrder};
use crate::kube::dto::{Done, TokenCreated, TokenLine, TokenRequest, Tokens, VERSION};
use crate::kube::status::Status;
use crate::master::event::Event;

/// Longest name of a token's holder.
const MAX_NAME: usize = 100;

pub async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Tokens>, ApiError> {
    caller.must_be(Role::Admin, "list tokens")?;
    let tokens = api.read(|records| records.tokens()).await?;
    let line = |token: Token| TokenLine {
        id: token.id,
        name: token.name,
        role: token.role,
        created: token.created,
        expires: token.expires,
        uses_left: token.uses_left,
        revoked: token.revoked,
    };
    Ok(Json(Tokens { version: VERSION, tokens: tokens.into_iter().map(line).collect() }))
}

pub async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<Json<TokenCreated>, ApiError> {
    caller.must_be(Role::Admin, "create tokens")?;
    let Json(request) = body.map_err(|error| Status::bad_request(error.body_text()))?;
    if request.name.is_empty() || request.name.len() > MAX_NAME {
        let message = format!("a token needs a name of 1 to {MAX_NAME} bytes: the audit shows it");
        return Err(Status::invalid(message).into());
    }
    let text = TokenText::generate(api.authority.digest());
    let token = Token {
        id: text.id.clone(),
        name: request.name,
        role: request.role,
        secret_hash: text.secret_hash(),
        created: api.now(),
        expires: request.valid_seconds.map(|s| api.now().after(Duration::from_secs(s))),
        uses_left: request.uses,
        revoked: false,
    };
    let order = TokenOrder::Create(token);
    let by = caller.name.clone();
    api.master.ask(|reply| Event::Token { order, by, reply }).await?;
    api.tokens.forget();
    tracing::info!(by = %caller.name, id = %text.id, "created a token");
    Ok(Json(TokenCreated { version: VERSION, id: text.id.clone(), token: text.to_string() }))
}

pub async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Admin, "revoke tokens")?;
    if id == caller.token_id {
        // It may be the last of an admin, and nobody could make another.
        let message = format!("{id} is the token that asks; revoke it with another admin's token");
        return Err(Status::new(409, "Conflict", message).into());
    }
    let order = TokenOrder::Revoke { id: id.clone() };
    let by = caller.name.clone();
    api.master.ask(|reply| Event::Token { order, by, reply }).await?;
    api.tokens.forget();
    tracing::info!(by = %caller.name, %id, "revoked a token");
    Ok(Json(Done { version: VERSION, message: format!("token {id} revoked"), objects: Vec::new() }))
}

//! The agents' endpoints: `/agent/v1/…`, each as [`kgit_protocol::messages`] describes it.
//! Identity comes from the client certificate alone.

pub mod directory;
pub mod join;
pub mod pull;
pub mod report;
#[cfg(test)]
mod tests;
pub mod tunnel;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use kgit_protocol::messages::PROTOCOL_VERSION;

use crate::api::auth::{require_certificate, require_node};
use crate::api::error::AgentError;
use crate::api::state::Api;

/// A complete report of 250 pods with 4 containers each, three times over.
const MAX_REPORT_BYTES: usize = 8 << 20;
/// Everything else that an agent sends is small.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// All of it; `join` and `renew` are the only ones that go without a certificate.
pub fn routes(api: &Api) -> Router<Api> {
    let members = Router::new()
        .route("/report", post(report::report).layer(DefaultBodyLimit::max(MAX_REPORT_BYTES)))
        .route("/heartbeat", post(report::heartbeat))
        .route("/usage", post(report::usage))
        .route("/tunnel", get(tunnel::tunnel))
        .layer(middleware::from_fn_with_state(api.clone(), require_node));
    let machines = Router::new()
        .route("/pull", post(pull::pull))
        .route("/leave", post(join::leave))
        .merge(members)
        .layer(middleware::from_fn(require_certificate));
    Router::new()
        .route("/join", post(join::join))
        .route("/renew", post(join::renew))
        .merge(machines)
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
}

/// The body as the message it should be, from an agent that speaks this version.
fn message<T>(
    body: Result<axum::Json<T>, JsonRejection>,
    version: impl Fn(&T) -> u32,
) -> Result<T, AgentError> {
    let axum::Json(message) = body.map_err(|rejection| {
        AgentError::new(rejection.status(), "BadRequest", rejection.body_text())
    })?;
    match version(&message) {
        PROTOCOL_VERSION => Ok(message),
        other => Err(AgentError::new(
            StatusCode::BAD_REQUEST,
            "UnknownVersion",
            format!(
                "this master speaks version {PROTOCOL_VERSION} of the protocol and the agent \
                 version {other}; upgrade the older of the two"
            ),
        )),
    }
}

//! Which path leads where, and what a request must bring to get there.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;

use crate::api::agent;
use crate::api::auth::{limit, require_token};
use crate::api::error::ApiError;
use crate::api::kgit;
use crate::api::kube;
use crate::api::state::Api;
use crate::kube::status::Status;

/// The whole API. Without credentials there are health checks and nothing else.
pub fn router(api: &Api) -> Router {
    let healthy = || get(async || "ok");
    Router::new()
        .route("/healthz", healthy())
        .route("/livez", healthy())
        .route("/readyz", get(ready))
        .nest("/agent/v1", agent::routes(api))
        .merge(behind_token(api))
        .layer(middleware::from_fn_with_state(api.clone(), limit))
        .with_state(api.clone())
}

/// A master that can't record anything serves what it knows, and changes nothing.
async fn ready(State(api): State<Api>) -> Result<&'static str, (StatusCode, String)> {
    match &api.master.view().store_error {
        None => Ok("ok"),
        Some(error) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("the store: {error}"))),
    }
}

/// What takes a token. A path that is not there is only told to those who have one.
fn behind_token(api: &Api) -> Router<Api> {
    Router::new()
        .merge(kube::routes())
        .nest("/kgit/v1", kgit::routes())
        .fallback(async || ApiError::from(Status::no_such_path()))
        .layer(middleware::from_fn_with_state(api.clone(), require_token))
}

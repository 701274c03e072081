//! Which path leads where, and what a request must bring to get there.

use axum::Router;
use axum::middleware;
use axum::routing::get;

use crate::api::agent;
use crate::api::auth::limit;
use crate::api::error::ApiError;
use crate::api::state::Api;
use crate::kube::status::Status;

/// The whole API. Without credentials there are health checks and nothing else.
pub fn router(api: &Api) -> Router {
    let healthy = || get(async || "ok");
    Router::new()
        .route("/healthz", healthy())
        .route("/livez", healthy())
        .route("/readyz", healthy())
        .nest("/agent/v1", agent::routes(api))
        .fallback(async || ApiError(Status::unauthorized()))
        .layer(middleware::from_fn_with_state(api.clone(), limit))
        .with_state(api.clone())
}

//! kgit's own endpoints, `/kgit/v1/…`: what Kubernetes has no words for. The documents are
//! [`crate::kube::dto`]'s.

pub mod audit;
pub mod diff;
pub mod orders;
pub mod overview;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod why;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};

use crate::api::state::Api;

/// A whole repo of manifests in base64: 10,000 files of 3 KB.
const MAX_TREE_BYTES: usize = 64 << 20;
/// Orders are small.
const MAX_ORDER_BYTES: usize = 1 << 20;

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/status", get(overview::status))
        .route("/diagnostics", get(overview::diagnostics))
        .route("/diff", get(diff::revision))
        .route("/diff", post(diff::tree).layer(DefaultBodyLimit::max(MAX_TREE_BYTES)))
        .route("/audit/reconciles", get(audit::reconciles))
        .route("/audit/reconciles/{reconcile}", get(audit::reconcile))
        .route("/audit/entries", get(audit::entries))
        .route("/audit/verify", get(audit::verify))
        .route("/why/{kind}/{namespace}/{name}", get(why::why))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}", delete(tokens::revoke))
        .route("/approve", post(orders::approve))
        .route("/prune", post(orders::prune))
        .route("/suspend", post(orders::suspend))
        .route("/resume", post(orders::resume))
        .route("/nodes/{name}/reset", post(orders::reset_node))
        .route("/nodes/{name}/orders", post(orders::order_node))
        .route("/backup", get(orders::backup))
        .layer(DefaultBodyLimit::max(MAX_ORDER_BYTES))
}

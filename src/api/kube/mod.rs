//! Kubernetes REST: discovery, get, list, watch, tables, logs, and the way into pods; writes are
//! refused with a message that says where to change things.

pub mod accept;
pub mod discovery;
pub mod end_pod;
pub mod list;
pub mod logs;
pub mod node_tunnel;
pub mod openapi;
pub mod proxy;
pub mod read;
pub mod refuse;
pub mod review;
#[cfg(test)]
mod rust_client_tests;
pub mod streams;
pub mod target;
#[cfg(test)]
mod tests;
pub mod watch;
#[cfg(test)]
mod watch_tests;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, any, get, post};

use crate::api::state::Api;

/// A write is refused before its body matters; no manifest is larger.
const MAX_BODY_BYTES: usize = 3 << 20;

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/version", get(discovery::version))
        .route("/version/", get(discovery::version))
        .route("/api", get(discovery::core))
        .route("/api/", get(discovery::core))
        .route("/apis", get(discovery::groups))
        .route("/apis/", get(discovery::groups))
        .route("/api/v1/namespaces/{namespace}/pods/{name}", one_pod())
        .route(&of_pod("exec"), get(streams::exec).post(streams::exec))
        .route(&of_pod("attach"), get(streams::attach).post(streams::attach))
        .route(&of_pod("portforward"), get(streams::port_forward).post(streams::port_forward))
        .route(&of_pod("proxy"), any(proxy::of_pod))
        .route(&of_pod("proxy/"), any(proxy::of_pod))
        .route(&of_pod("proxy/{*path}"), any(proxy::of_pod))
        .route(&of_service("proxy"), any(proxy::of_service))
        .route(&of_service("proxy/"), any(proxy::of_service))
        .route(&of_service("proxy/{*path}"), any(proxy::of_service))
        .route("/openapi/v3", get(openapi::index))
        .route("/openapi/v3/{*path}", get(openapi::document))
        .route("/apis/authentication.k8s.io/v1/selfsubjectreviews", post(review::whoami))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(review::access))
        .route("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", post(review::rules))
        .route("/api/{*path}", get(read::read).fallback(refuse::refuse))
        .route("/apis/{*path}", get(read::read).fallback(refuse::refuse))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

fn one_pod() -> MethodRouter<Api> {
    get(read::read).delete(end_pod::end_pod).fallback(refuse::refuse)
}

/// The path of something that is done with a pod.
fn of_pod(verb: &str) -> String {
    format!("/api/v1/namespaces/{{namespace}}/pods/{{name}}/{verb}")
}

fn of_service(verb: &str) -> String {
    format!("/api/v1/namespaces/{{namespace}}/services/{{name}}/{verb}")
}

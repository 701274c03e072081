//! Discovery endpoints.

use axum::Json;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::api::kube::accept::wants_aggregated;
use crate::kube::discovery;

pub async fn version() -> Json<Value> {
    Json(discovery::version())
}

pub async fn core(headers: HeaderMap) -> Response {
    match wants_aggregated(&headers) {
        true => aggregated(true),
        false => Json(discovery::core_versions()).into_response(),
    }
}

pub async fn groups(headers: HeaderMap) -> Response {
    match wants_aggregated(&headers) {
        true => aggregated(false),
        false => Json(discovery::group_list()).into_response(),
    }
}

fn aggregated(core: bool) -> Response {
    // The client looks for the very parameters that it asked with.
    let mut response = Json(discovery::aggregated(core)).into_response();
    let media = axum::http::HeaderValue::from_static(discovery::AGGREGATED);
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

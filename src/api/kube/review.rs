//! Reviews: `kubectl auth whoami` and `kubectl auth can-i`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::kube::review::{self, Who};
use crate::kube::status::Status;

pub async fn whoami(Extension(caller): Extension<Caller>) -> Response {
    created(review::whoami(who(&caller)))
}

pub async fn access(
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let asked = review::read(&body)
        .map_err(|error| Status::bad_request(format!("the review can't be read: {error}")))?;
    Ok(created(review::access(who(&caller), &asked)))
}

pub async fn rules(Extension(caller): Extension<Caller>) -> Response {
    created(review::rules(who(&caller)))
}

fn who(caller: &Caller) -> Who<'_> {
    Who { name: &caller.name, role: caller.role }
}

fn created(answer: Value) -> Response {
    (StatusCode::CREATED, Json(answer)).into_response()
}

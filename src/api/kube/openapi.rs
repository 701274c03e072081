//! `GET /openapi/v3` and its documents. They are made once, when the first client asks.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use kgit_protocol::ids::Digest;
use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::kube::openapi;
use crate::kube::status::Status;

struct Document {
    text: Bytes,
    digest: Digest,
}

fn documents() -> &'static BTreeMap<String, Document> {
    static MADE: OnceLock<BTreeMap<String, Document>> = OnceLock::new();
    MADE.get_or_init(|| {
        let documents = openapi::documents().into_iter();
        let made = documents.filter_map(|path| {
            let text = openapi::document(&path)?.to_string();
            let digest = Digest::of(text.as_bytes());
            Some((path, Document { text: text.into(), digest }))
        });
        made.collect()
    })
}

/// Which documents there are; the hash lets clients keep what they have.
pub async fn index() -> Json<Value> {
    let paths: Map<String, Value> = documents()
        .iter()
        .map(|(path, document)| {
            let url = format!("/openapi/v3/{path}?hash={}", document.digest);
            (path.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    Json(json!({"paths": paths}))
}

pub async fn document(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let document = documents().get(&path).ok_or_else(Status::no_such_path)?;
    let tag = format!("\"{}\"", document.digest);
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known == Some(tag.as_str()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let headers = [(CONTENT_TYPE, "application/json".to_owned()), (ETAG, tag)];
    Ok((headers, document.text.clone()).into_response())
}

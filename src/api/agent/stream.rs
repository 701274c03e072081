//! An agent dials out with the bytes that it was asked for.

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use kgit_protocol::messages::STREAM_REFUSAL_HEADER;

use crate::api::authority::NodeIdentity;
use crate::api::error::AgentError;
use crate::api::state::Api;

/// Ends when the reader is done. The body may be endless; it is passed on as it comes.
pub async fn answer(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, AgentError> {
    let refusal = headers
        .get(STREAM_REFUSAL_HEADER)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match api.streams.answer(&identity.node, &stream, refusal, body).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(AgentError::new(StatusCode::NOT_FOUND, "NobodyWaits", error.to_string())),
    }
}

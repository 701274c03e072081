//! How a failed request is answered: as a Kubernetes `Status`, or as the agents' `Refusal`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kgit_protocol::messages::Refusal;

use crate::api::records::RecordsError;
use crate::kube::status::Status;
use crate::master::event::Refused;

/// A request of `kubectl` or `kgit` that failed.
#[derive(Debug)]
pub struct ApiError(pub Box<Status>);

/// A request of an agent that was refused.
#[derive(Debug)]
pub struct AgentError {
    pub code: StatusCode,
    pub refusal: Refusal,
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Status::new(code_of(&refused).as_u16(), refused.reason, refused.message).into()
    }
}

impl From<RecordsError> for ApiError {
    fn from(error: RecordsError) -> Self {
        tracing::error!(error = %error.message, "failed to read the store");
        Status::internal(format!("failed to read the store: {}", error.message)).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.0)).into_response()
    }
}

impl AgentError {
    pub fn new(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self { code, refusal: Refusal { reason: reason.to_owned(), message: message.into() } }
    }

    /// A request that no agent of this version sends.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }
}

impl From<Refused> for AgentError {
    fn from(refused: Refused) -> Self {
        Self::new(code_of(&refused), refused.reason, refused.message)
    }
}

impl From<RecordsError> for AgentError {
    fn from(error: RecordsError) -> Self {
        tracing::error!(error = %error.message, "failed to read the store");
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(code, "InternalError", "the master failed to read its store")
    }
}

impl IntoResponse for AgentError {
    fn into_response(self) -> Response {
        (self.code, Json(self.refusal)).into_response()
    }
}

/// The loop's reasons are words; these are the ones that have a code of their own.
fn code_of(refused: &Refused) -> StatusCode {
    match refused.reason {
        "ShuttingDown" => StatusCode::SERVICE_UNAVAILABLE,
        "NotFound" => StatusCode::NOT_FOUND,
        "Forbidden" => StatusCode::FORBIDDEN,
        "InternalError" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    }
}

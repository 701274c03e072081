//! What a change would do: of a commit, or of a tree on the caller's disk.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::forecasts::Wanted;
use crate::api::state::Api;
use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::kube::dto::{DiffAnswer, DiffRequest, UploadedFile, VERSION};
use crate::kube::status::Status;

#[derive(Debug, Default, Deserialize)]
pub struct Revision {
    #[serde(default)]
    rev: Option<String>,
}

/// `GET diff[?rev=]`: of a commit; without one, of what is followed.
pub async fn revision(
    State(api): State<Api>,
    Query(query): Query<Revision>,
) -> Result<Json<DiffAnswer>, ApiError> {
    let wanted = query.rev.map_or(Wanted::Current, Wanted::Revision);
    forecast(&api, wanted).await
}

/// `POST diff`: of a tree.
pub async fn tree(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<DiffRequest>, JsonRejection>,
) -> Result<Json<DiffAnswer>, ApiError> {
    let Json(request) = body.map_err(|error| Status::bad_request(error.body_text()))?;
    let upserted: Result<_, ApiError> = request.files.into_iter().map(source_file).collect();
    let removed = request.removed.into_iter().map(Arc::from).collect();
    let change = TreeChange { upserted: upserted?, removed };
    let wanted =
        Wanted::Tree { change, complete: request.complete, by: caller.name, at: api.now() };
    forecast(&api, wanted).await
}

fn source_file(file: UploadedFile) -> Result<SourceFile, ApiError> {
    let leaves = file.path.starts_with('/') || file.path.split('/').any(|part| part == "..");
    if leaves {
        let message = format!("`{}` is not a path within a tree", file.path);
        return Err(Status::bad_request(message).into());
    }
    let bytes = STANDARD.decode(&file.content).map_err(|_| {
        Status::bad_request(format!("the content of `{}` is not base64", file.path))
    })?;
    Ok(SourceFile { path: file.path.into(), content: FileContent::Bytes(bytes.into()) })
}

async fn forecast(api: &Api, wanted: Wanted) -> Result<Json<DiffAnswer>, ApiError> {
    let (view, forecasts) = (api.master.view(), Arc::clone(&api.forecasts));
    let forecast = tokio::task::spawn_blocking(move || forecasts.forecast(&view, wanted))
        .await
        .map_err(|_| Status::internal("the forecast stopped half-way"))?
        .map_err(|refused| Status::bad_request(refused.message))?;
    Ok(Json(DiffAnswer {
        version: VERSION,
        steps: forecast.steps,
        waits: forecast.waits,
        held: forecast.held,
        pending: forecast.pending,
        diagnostics: forecast.diagnostics,
        changes: forecast.changes,
        text: forecast.text,
    }))
}

//! What a change would do: of a commit, or of a tree on the caller's disk. The same forecast as
//! the loop's own, from the newest view.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::state::Api;
use crate::domain::audit::AuditedStep;
use crate::domain::desired::{Commit, FileContent, SourceFile, TreeChange};
use crate::graph;
use crate::kube::dto::{DiffAnswer, DiffRequest, UploadedFile, VERSION};
use crate::kube::status::Status;
use crate::manifest::catalog::Catalog;
use crate::master::view::View;
use crate::plan::forecast::forecast;
use crate::plan::text::{self, Line};

#[derive(Debug, Default, Deserialize)]
pub struct Revision {
    #[serde(default)]
    rev: Option<String>,
}

/// The tree that is forecast.
enum Wanted {
    /// The one that is followed, from where the World is now.
    Followed,
    /// A commit, as git names it.
    Revision(String),
    /// What somebody has on their own disk.
    Tree { change: TreeChange, complete: bool, by: String },
}

/// `GET diff[?rev=]`: of a commit; without one, of what is followed.
pub async fn revision(
    State(api): State<Api>,
    Query(query): Query<Revision>,
) -> Result<Json<DiffAnswer>, ApiError> {
    answer(&api, query.rev.map_or(Wanted::Followed, Wanted::Revision)).await
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
    answer(&api, Wanted::Tree { change, complete: request.complete, by: caller.name }).await
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

/// Reading and planning take a while, so they go to a thread that may be busy.
async fn answer(api: &Api, wanted: Wanted) -> Result<Json<DiffAnswer>, ApiError> {
    let api = api.clone();
    tokio::task::spawn_blocking(move || {
        let view = api.master.view();
        let (commit, catalog) = wanted.read(&api, &view)?;
        Ok(Json(forecast_of(&api, &view, commit, &catalog)))
    })
    .await
    .map_err(|_| Status::internal("the forecast stopped half-way"))?
}

impl Wanted {
    fn read(self, api: &Api, view: &View) -> Result<(Arc<Commit>, Catalog), ApiError> {
        match self {
            Self::Followed => {
                let commit = view.source.commit.clone().unwrap_or_default();
                Ok((commit, view.catalog.clone()))
            }
            Self::Revision(revision) => {
                let (commit, tree) = (api.read_at)(&revision).map_err(Status::bad_request)?;
                Ok((commit, fresh(&tree)))
            }
            Self::Tree { change, complete, by } => {
                let catalog = match complete {
                    true => fresh(&change),
                    false => {
                        let mut catalog = view.catalog.clone();
                        catalog.apply(&change);
                        catalog
                    }
                };
                let summary = "not committed yet".to_owned();
                let commit = Commit { id: String::new(), author: by, at: api.now(), summary };
                Ok((Arc::new(commit), catalog))
            }
        }
    }
}

fn fresh(tree: &TreeChange) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(tree);
    catalog
}

fn forecast_of(api: &Api, view: &View, commit: Arc<Commit>, catalog: &Catalog) -> DiffAnswer {
    let desired = catalog.desired(commit);
    let mut diagnostics = catalog.diagnostics();
    diagnostics.extend(graph::cycles(&desired));
    let found = forecast(&view.world, &desired, api.now());
    let lines = found.steps.iter().map(|step| Line { said: &step.said, reasons: &step.reasons });
    let text = text::plan(lines, &found.waits);
    let changes = found.steps.len();
    let steps = found.steps.into_iter().map(|step| AuditedStep {
        said: step.said,
        reasons: step.reasons,
        deviation: None,
    });
    DiffAnswer {
        version: VERSION,
        steps: steps.collect(),
        waits: found.waits,
        diagnostics,
        changes,
        text,
    }
}

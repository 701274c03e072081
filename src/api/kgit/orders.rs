//! Orders that people give: approve, prune, suspend, reset a node, back up.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use kgit_protocol::ids::NodeName;
use tokio_util::io::ReaderStream;

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::state::Api;
use crate::domain::key::ObjectKey;
use crate::domain::token::Role;
use crate::domain::words::counted;
use crate::kube::dto::{Done, NodeRequest, Order, VERSION};
use crate::kube::resource_type::{Noun, by_word};
use crate::kube::status::Status;
use crate::master::event::Event;

fn done(message: impl Into<String>) -> Json<Done> {
    Json(Done { version: VERSION, message: message.into(), objects: Vec::new() })
}

fn order(body: Result<Json<Order>, JsonRejection>) -> Result<Order, ApiError> {
    let Json(order) = body.map_err(|error| Status::bad_request(error.body_text()))?;
    Ok(order)
}

/// Lets deletions go ahead that the brakes hold.
pub async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Write, "approve plans")?;
    let (plan, by) = (order(body)?.plan, caller.name);
    let message = api.master.ask(|reply| Event::Approve { plan, by, reply }).await?;
    Ok(done(message))
}

/// Removes retained objects and their data.
pub async fn prune(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Write, "prune retained objects")?;
    let written = order(body)?.objects;
    let objects: Result<Vec<_>, _> = written
        .iter()
        .map(|text| {
            named(text).ok_or_else(|| {
                let form = "write Kind/namespace/name, or Kind/name";
                ApiError::from(Status::bad_request(format!("`{text}` names no object; {form}")))
            })
        })
        .collect();
    let (objects, by) = (objects?, caller.name);
    let removed = api.master.ask(|reply| Event::RemoveRetained { objects, by, reply }).await?;
    let message = format!("{} will be removed, data and all", counted(removed.len(), "object"));
    let objects = removed.iter().map(ToString::to_string).collect();
    Ok(Json(Done { version: VERSION, message, objects }))
}

/// Reads an object's name; kinds may be written as for `kubectl get`: `pvc/default/data`.
fn named(text: &str) -> Option<ObjectKey> {
    let (word, rest) = text.split_once('/')?;
    let Noun::Recorded(kind) = by_word(word)?.noun else { return None };
    ObjectKey::parse(&format!("{kind}/{rest}"))
}

pub async fn suspend(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Write, "suspend the source")?;
    let by = caller.name;
    api.master.ask(|reply| Event::Suspend { by, reply }).await?;
    Ok(done("suspended: new commits wait until `kgit resume`; what runs is kept running"))
}

pub async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Write, "resume the source")?;
    let by = caller.name;
    api.master.ask(|reply| Event::Resume { by, reply }).await?;
    Ok(done("resumed"))
}

/// Frees a node's name for another machine.
pub async fn reset_node(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Admin, "reset nodes")?;
    let (node, by) = (NodeName::new(name.as_str()), caller.name);
    api.master.ask(|reply| Event::ResetNode { node, by, reply }).await?;
    Ok(done(format!("node {name} was reset; a machine may join under this name")))
}

/// Cordon, drain, label, taint, fence or remove a node.
pub async fn order_node(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<NodeRequest>, JsonRejection>,
) -> Result<Json<Done>, ApiError> {
    caller.must_be(Role::Admin, "give orders about nodes")?;
    let Json(NodeRequest { order, .. }) =
        body.map_err(|error| Status::bad_request(error.body_text()))?;
    let (node, by) = (NodeName::new(name.as_str()), caller.name);
    let message = api.master.ask(|reply| Event::Node { node, order, by, reply }).await?;
    Ok(done(message))
}

/// A consistent copy of the store, streamed; the copy on the master's disk goes with the stream.
pub async fn backup(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    caller.must_be(Role::Admin, "back up the store")?;
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "failed to hand out a backup");
        ApiError::from(Status::internal(format!("failed to write the backup: {error}")))
    };
    let folder = tempfile::Builder::new().prefix("kgit-backup-").tempdir().map_err(failed)?;
    let to = folder.path().join("backup.kgit");
    let target = to.clone();
    api.read(move |records| records.backup(&target)).await?;
    let file = tokio::fs::File::open(&to).await.map_err(failed)?;
    tracing::info!(by = %caller.name, "handed out a backup");
    // Open, so readable to its end without a name.
    drop(folder);
    Ok(Body::from_stream(ReaderStream::new(file)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_may_be_written_as_for_get() {
        let names = ["PersistentVolumeClaim", "persistentvolumeclaims", "pvc"];
        for name in names {
            let key = named(&format!("{name}/default/data")).unwrap();
            assert_eq!(key.to_string(), "PersistentVolumeClaim/default/data");
        }
        assert_eq!(named("pv/disk").unwrap().to_string(), "PersistentVolume/disk");
        for wrong in ["pvc/data", "pvc", "nothing/default/data", "events/default/data"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }
}

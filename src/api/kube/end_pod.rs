//! `DELETE` of a pod that a workload made: it ends, and the workload replaces it. Nothing in Git
//! changes by that, so it is an order like a drain, with a place in the audit log.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::kube::read::sight;
use crate::api::kube::refuse::refuse;
use crate::api::state::Api;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::token::Role;
use crate::kube::resource_type::Noun;
use crate::kube::seen;
use crate::kube::status::Status;
use crate::master::event::Event;
use crate::master::view::View;

/// What of DeleteOptions has a meaning here; in the body or in the query.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    grace_period_seconds: Option<u32>,
    dry_run: Value,
    preconditions: Preconditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Preconditions {
    uid: Option<String>,
}

/// A turn's view comes right after its answers.
const VIEW_FOLLOWS: Duration = Duration::from_millis(500);

pub async fn end_pod(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<DeleteOptions>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, ApiError> {
    let key = ObjectKey::new(Kind::Pod, &namespace, &name);
    let view = api.master.view();
    let not_found = || Status::not_found("", "pods", &name);
    let pod = view.world.pods.get(&key).ok_or_else(not_found)?;
    if pod.owner == key {
        return Err(refuse(State(api), Extension(caller), Method::DELETE, uri).await);
    }
    caller.must_be(Role::Write, "end pods")?;
    let options = match body.is_empty() {
        true => query,
        false => serde_json::from_slice(&body).map_err(|error| {
            ApiError::from(Status::bad_request(format!("the body is no DeleteOptions: {error}")))
        })?,
    };
    if options.preconditions.uid.as_ref().is_some_and(|uid| uid != pod.uid.as_str()) {
        let message = format!("the pod has another uid: {}", pod.uid);
        return Err(Status::new(409, "Conflict", message).about("", "pods", &name).into());
    }
    let is_meant = [Value::Null, json!([])].contains(&options.dry_run);
    if is_meant {
        let (by, grace_seconds) = (caller.name.clone(), options.grace_period_seconds);
        let mut versions = api.master.versions();
        let pod = key.clone();
        api.master.ask(|reply| Event::EndPod { pod, grace_seconds, by, reply }).await?;
        let ends = |view: &View| view.world.pods.get(&key).is_none_or(|pod| pod.deletion.is_some());
        let seen = async { while !ends(&api.master.view()) && versions.changed().await.is_ok() {} };
        // What is answered is as it was a moment ago, at worst.
        let _ = tokio::time::timeout(VIEW_FOLLOWS, seen).await;
    }
    let newest = api.master.view();
    let ends = seen::of_row(&sight(&api, &caller, &newest), Noun::Recorded(Kind::Pod), &key);
    let ends = ends.into_iter().find(|shown| shown.object["metadata"]["uid"] == pod.uid.as_str());
    Ok(Json(ends.map_or_else(|| gone(&name, pod), |shown| shown.object)).into_response())
}

/// One that never had a node is forgotten at once. With the uid, by which kubectl knows when it is that pod no longer.
fn gone(name: &str, pod: &Pod) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": name, "kind": "pods", "uid": pod.uid.as_str()},
    })
}

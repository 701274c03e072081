//! `…/pods/{name}/log`: the agent dials out with the bytes, and they are passed on.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use kgit_protocol::stream::{LogRequest, StreamRequest};
use kgit_protocol::time::Timestamp;
use serde::Deserialize;

use crate::api::error::ApiError;
use crate::api::kube::read::is_true;
use crate::api::state::Api;
use crate::api::tunnels::StreamRefused;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::kube::status::Status;

/// The query of a log request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogOptions {
    pub container: String,
    pub follow: String,
    pub previous: String,
    pub timestamps: String,
    pub tail_lines: Option<u64>,
    pub since_seconds: Option<i64>,
    pub since_time: String,
    pub limit_bytes: Option<u64>,
}

pub async fn logs(
    api: &Api,
    namespace: &str,
    name: &str,
    options: LogOptions,
) -> Result<Response, ApiError> {
    let view = api.master.view();
    let key = ObjectKey::new(Kind::Pod, namespace, name);
    let pod = view.world.pods.get(&key).ok_or_else(|| Status::not_found("", "pods", name))?;
    let container = container(pod, &options.container)?;
    let Some(node) = pod.node() else {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")).into());
    };
    let since = since(&options, api.now())?;
    let request = LogRequest {
        pod: pod.uid.clone(),
        container,
        follow: is_true(&options.follow),
        previous: is_true(&options.previous),
        timestamps: is_true(&options.timestamps),
        tail_lines: options.tail_lines,
        since,
        limit_bytes: options.limit_bytes,
    };
    let stream = api.tunnels.open(node, &StreamRequest::Logs(request)).await.map_err(refused)?;
    let mut response = Body::from_stream(stream.into_bytes()).into_response();
    let text = axum::http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}

/// The container that is meant: the only one, or the one that is named.
pub(super) fn container(pod: &Pod, asked: &str) -> Result<String, ApiError> {
    let (name, template) = (&pod.key.name, &pod.template);
    if !asked.is_empty() {
        return match template.all_containers().any(|container| container.name == asked) {
            true => Ok(asked.to_owned()),
            false => {
                let message = format!("container {asked} is not valid for pod {name}");
                Err(Status::bad_request(message).into())
            }
        };
    }
    match template.containers.as_slice() {
        [only] => Ok(only.name.clone()),
        many => {
            let names: Vec<_> = many.iter().map(|container| container.name.as_str()).collect();
            let message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                names.join(" ")
            );
            Err(Status::bad_request(message).into())
        }
    }
}

fn since(options: &LogOptions, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    match (options.since_seconds, options.since_time.as_str()) {
        (Some(seconds), _) => {
            Ok(Some(Timestamp(now.0.saturating_sub(seconds.saturating_mul(1000)))))
        }
        (None, "") => Ok(None),
        (None, text) => {
            let parsed = Timestamp::parse(text);
            Ok(Some(parsed.ok_or_else(|| Status::bad_request("sinceTime is not RFC 3339"))?))
        }
    }
}

pub(super) fn refused(error: StreamRefused) -> ApiError {
    let message = error.to_string();
    ApiError::from(match error {
        StreamRefused::NoAnswer(_) => Status::timeout(message),
        StreamRefused::NoTunnel(_) => Status::unavailable(message),
        StreamRefused::TooMany => Status::new(429, "TooManyRequests", message),
        StreamRefused::Agent { code: 404, .. } => Status::new(404, "NotFound", message),
        StreamRefused::Agent { .. } => Status::bad_request(message),
    })
}

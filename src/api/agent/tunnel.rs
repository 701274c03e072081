//! An agent's connection is turned into its node's tunnel.

use axum::extract::{Extension, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::TokioIo;
use kgit_protocol::stream::TUNNEL_UPGRADE;

use crate::api::authority::NodeIdentity;
use crate::api::error::AgentError;
use crate::api::state::Api;

pub async fn tunnel(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    mut request: Request,
) -> Result<Response, AgentError> {
    let asked = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    if !asked.is_some_and(|asked| asked.eq_ignore_ascii_case(TUNNEL_UPGRADE)) {
        let message = format!("a tunnel takes an upgrade to {TUNNEL_UPGRADE}");
        return Err(AgentError::new(StatusCode::UPGRADE_REQUIRED, "UpgradeRequired", message));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(wire) => {
                let clock = || api.now();
                api.tunnels.carry(identity.node, TokioIo::new(wire), clock).await;
            }
            Err(error) => tracing::debug!(%error, "a tunnel did not come about"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(TUNNEL_UPGRADE));
    Ok(response)
}

//! What agents tell: observations, figures, and that they are there.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use kgit_protocol::messages::{Acknowledged, Heartbeat, Lease, Report};
use kgit_protocol::usage::Usage;

use crate::api::agent::message;
use crate::api::authority::NodeIdentity;
use crate::api::error::AgentError;
use crate::api::state::Api;
use crate::master::event::Event;

/// Acknowledged once it is recorded; until then the agent repeats it.
pub async fn report(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    body: Result<Json<Report>, JsonRejection>,
) -> Result<Json<Acknowledged>, AgentError> {
    let report = Box::new(message(body, |report| report.version)?);
    let node = identity.node;
    let sequence = api.master.ask(|reply| Event::Report { node, report, reply }).await?;
    Ok(Json(Acknowledged { sequence }))
}

/// Figures are not acknowledged: the next ones say more.
pub async fn usage(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    body: Result<Json<Usage>, JsonRejection>,
) -> Result<Json<()>, AgentError> {
    let usage = Arc::new(message(body, |usage| usage.version)?);
    api.master.send(Event::Usage { node: identity.node, usage }).await?;
    Ok(Json(()))
}

pub async fn heartbeat(
    State(api): State<Api>,
    Extension(identity): Extension<NodeIdentity>,
    body: Result<Json<Heartbeat>, JsonRejection>,
) -> Result<Json<Lease>, AgentError> {
    let heartbeat = message(body, |heartbeat| heartbeat.version)?;
    api.master.send(Event::Heartbeat { node: identity.node, boot: heartbeat.boot }).await?;
    let nodes = api.master.view().world.nodes.len();
    Ok(Json(Lease { seconds: (api.planning.lease_seconds)(nodes) }))
}

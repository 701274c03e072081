//! Answers the streams that the master waits for: logs.

use std::sync::Arc;

use kgit_protocol::messages::{LogRequest, StreamKind, StreamRequest};

use crate::link::Link;
use crate::runtime::{LogStream, RunState, Runtime, Seen};
use crate::worker::Shared;

/// Dials the master with what it asked for.
pub(super) async fn answer<R: Runtime, L: Link>(
    shared: Arc<Shared<R>>,
    link: Arc<L>,
    request: StreamRequest,
    seen: Vec<Seen>,
) {
    let body = match &request.kind {
        StreamKind::Logs(logs) => open_logs(&shared, logs, &seen).await,
    };
    if let Err(error) = link.answer(&request.id, body).await {
        tracing::debug!(stream = request.id, %error, "stream ended early");
    }
}

async fn open_logs<R: Runtime>(
    shared: &Shared<R>,
    request: &LogRequest,
    seen: &[Seen],
) -> Result<LogStream, String> {
    let container = pick(request, seen)
        .ok_or_else(|| format!("container {} has no logs yet", request.container))?;
    shared.runtime.logs(&container.id, request).await.map_err(|error| error.to_string())
}

/// The newest container of that name that was started, or the one before it.
fn pick<'a>(request: &LogRequest, seen: &'a [Seen]) -> Option<&'a Seen> {
    let mut all: Vec<&Seen> = seen
        .iter()
        .filter(|seen| {
            seen.identity.pod == request.pod
                && seen.identity.container == request.container
                && seen.state != RunState::Created
        })
        .collect();
    all.sort_by_key(|seen| std::cmp::Reverse(seen.identity.attempt));
    all.get(usize::from(request.previous)).copied()
}

//! What the master asks for in a stream of the tunnel, and the answer to it.
//!
//! A stream that its reader drops ends here too: its body is dropped, and what fed it with it.

mod frames;
mod talk;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Response, StatusCode};
use kgit_protocol::ids::PodUid;
use kgit_protocol::messages::Refusal;
use kgit_protocol::stream::{ConnectRequest, LogRequest, StreamRequest};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::io::ReaderStream;

use crate::runtime::{LogStream, PAUSE, RunState, Runtime, RuntimeError, Seen};
use crate::worker::Shared;
use crate::worker::streams::frames::Frames;

/// Read from a port at a time.
const CHUNK_BYTES: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A stream that can't be opened: a word for programs, a sentence for people.
struct Refused {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refused {
    fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }
}

impl From<RuntimeError> for Refused {
    fn from(error: RuntimeError) -> Self {
        Self::bad(error.to_string())
    }
}

/// Answers a stream, which goes on in the body of the answer.
pub(super) async fn serve<R: Runtime>(shared: Arc<Shared<R>>, body: Incoming) -> Response<Body> {
    let mut frames = Frames::new(body);
    let opened = match frames.request().await {
        Ok(request) => open(shared, request, frames).await,
        Err(error) => Err(Refused::bad(error.to_string())),
    };
    opened.map_or_else(refusal, Response::new)
}

async fn open<R: Runtime>(
    shared: Arc<Shared<R>>,
    request: StreamRequest,
    frames: Frames,
) -> Result<Body, Refused> {
    match request {
        StreamRequest::Logs(request) => Ok(body(logs(&shared, &request).await?.map_err(other))),
        StreamRequest::Exec(request) => {
            let id = running(&shared, &request.pod, &request.container).await?.id;
            let talk = shared.runtime.open_exec(&id, &request.command, request.ends).await?;
            Ok(body(talk::follow(shared, talk, frames)))
        }
        StreamRequest::Attach(request) => {
            let id = running(&shared, &request.pod, &request.container).await?.id;
            let talk = shared.runtime.open_attach(&id, request.ends).await?;
            Ok(body(talk::follow(shared, talk, frames)))
        }
        StreamRequest::Connect(request) => {
            let connection = connect(&shared, &request).await?;
            Ok(body(carry(connection, frames)))
        }
    }
}

fn refusal(refused: Refused) -> Response<Body> {
    let Refused { status, reason, message } = refused;
    let refusal = Refusal { reason: reason.to_owned(), message };
    let text = serde_json::to_vec(&refusal).unwrap_or_default();
    let never = |never: std::convert::Infallible| match never {};
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(never).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn body(stream: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
}

fn other(error: RuntimeError) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

async fn logs<R: Runtime>(shared: &Shared<R>, request: &LogRequest) -> Result<LogStream, Refused> {
    let pick = |seen: &[Seen]| with_logs(request, seen).cloned();
    let container = find(shared, pick).await?.ok_or_else(|| match request.previous {
        true => Refused::bad(format!(
            "previous terminated container \"{}\" not found",
            request.container
        )),
        false => Refused::bad(format!("container {} has no logs yet", request.container)),
    })?;
    Ok(shared.runtime.logs(&container.id, request).await?)
}

/// The newest container of that name that was started, or the one before it.
fn with_logs<'a>(request: &LogRequest, seen: &'a [Seen]) -> Option<&'a Seen> {
    let started = seen.iter().filter(|seen| {
        seen.identity.pod == request.pod
            && seen.identity.container == request.container
            && seen.state != RunState::Created
    });
    let mut all: Vec<&Seen> = started.collect();
    all.sort_by_key(|seen| std::cmp::Reverse(seen.identity.attempt));
    all.get(usize::from(request.previous)).copied()
}

async fn running<R: Runtime>(
    shared: &Shared<R>,
    pod: &PodUid,
    container: &str,
) -> Result<Seen, Refused> {
    let pick = |seen: &[Seen]| {
        let of_name = |seen: &&Seen| {
            seen.identity.pod == *pod
                && seen.identity.container == container
                && matches!(seen.state, RunState::Running { .. })
        };
        seen.iter().filter(of_name).max_by_key(|seen| seen.identity.attempt).cloned()
    };
    find(shared, pick).await?.ok_or_else(|| Refused::not_found("container not found"))
}

/// A pod's ports are those of any of its running containers, and its address is that of the one
/// that has one.
async fn connect<R: Runtime>(
    shared: &Shared<R>,
    request: &ConnectRequest,
) -> Result<TcpStream, Refused> {
    let pick = |seen: &[Seen]| {
        let alive = seen.iter().filter(|seen| {
            seen.identity.pod == request.pod && matches!(seen.state, RunState::Running { .. })
        });
        let address = alive.clone().find_map(|seen| seen.address);
        let container = alive.max_by_key(|seen| seen.identity.container == PAUSE)?;
        Some((container.id.clone(), address))
    };
    let found = find(shared, pick).await?;
    let (id, address) = found.ok_or_else(|| Refused::not_found("the pod is not running"))?;
    Ok(shared.runtime.connect(&id, address, request.port).await?)
}

/// What `pick` finds in the last look at the engine, or else in a fresh one.
async fn find<R: Runtime, T>(
    shared: &Shared<R>,
    pick: impl Fn(&[Seen]) -> Option<T>,
) -> Result<Option<T>, Refused> {
    let last = Arc::clone(&shared.seen.borrow());
    if let Some(found) = pick(&last) {
        return Ok(Some(found));
    }
    Ok(pick(&shared.runtime.view(shared.range).await?.containers))
}

/// Carries bytes both ways; either side may end its own direction first.
fn carry(
    connection: TcpStream,
    frames: Frames,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let (read, mut write) = connection.into_split();
    tokio::spawn(async move {
        let mut bytes = std::pin::pin!(frames.into_bytes());
        while let Some(Ok(piece)) = bytes.next().await {
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
        // One that is closed already needs no goodbye.
        let _ = write.shutdown().await;
    });
    ReaderStream::with_capacity(read, CHUNK_BYTES)
}

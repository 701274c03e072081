//! The tunnels that agents dialled, one for each node, and the streams that are opened on them.
//! On a tunnel the master is the HTTP/2 client; [`kgit_protocol::stream`] tells what is said.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use bytes::{Buf as _, BytesMut};
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http_body_util::{BodyExt as _, BodyStream, Limited, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::Refusal;
use kgit_protocol::stream::{
    Channel, FRAME_HEAD_BYTES, MAX_FRAME_BYTES, MAX_STREAMS, STREAM_PATH, STREAM_WINDOW_BYTES,
    StreamRequest, TUNNEL_PING_SECONDS, TUNNEL_WINDOW_BYTES, frame, frame_length,
};
use kgit_protocol::time::Timestamp;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::{CancellationToken, PollSendError, PollSender};

/// How long an agent may take to open a stream: a slow uplink, and an engine under load.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a stream waits for a tunnel that is not there: an agent that restarts is back within
/// a second.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(TUNNEL_PING_SECONDS);
/// Streams of the whole cluster at a time; each has a window's worth of memory at most.
const MAX_STREAMS_OF_ALL: usize = 4096;
/// Pieces for the agent that wait for the stream's window.
const UNSENT_PIECES: usize = 8;
/// Bytes that a frame of HTTP/2 may hold: a piece of output in one.
const HTTP2_FRAME_BYTES: u32 = 128 * 1024;
/// An agent refuses in a sentence.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// What a frame can carry beside its channel.
const MAX_PAYLOAD_BYTES: usize = MAX_FRAME_BYTES - 1;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamRefused {
    #[error("node `{0}` can't be reached: its agent has no tunnel to the master; is it running?")]
    NoTunnel(NodeName),
    #[error("node `{0}` did not answer in time; is its agent running? `kgit get nodes` tells")]
    NoAnswer(NodeName),
    #[error("too many streams are open; close some and try again")]
    TooMany,
    #[error("{message}")]
    Agent { code: u16, message: String },
}

type Piece = std::io::Result<Bytes>;
type ToAgent = StreamBody<Pieces>;

/// The pieces of a stream to an agent.
struct Pieces(mpsc::Receiver<Piece>);

impl Stream for Pieces {
    type Item = std::io::Result<Frame<Bytes>>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// All tunnels.
#[derive(Debug)]
pub struct Tunnels {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    seats: Arc<Semaphore>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<NodeName, Tunnel>,
    /// Since when each node is without, as far as it had one.
    lost: BTreeMap<NodeName, Timestamp>,
}

struct Tunnel {
    number: u64,
    since: Timestamp,
    sender: SendRequest<ToAgent>,
    seats: Arc<Semaphore>,
    /// Ends the connection: a newer one takes its place.
    replaced: CancellationToken,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("number", &self.number).finish_non_exhaustive()
    }
}

/// How a node's tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelState {
    Up { since: Timestamp },
    Down { since: Option<Timestamp> },
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
            seats: Arc::new(Semaphore::new(MAX_STREAMS_OF_ALL)),
            closed: CancellationToken::new(),
        }
    }
}

impl Tunnels {
    /// Speaks on `wire`, which `node` dialled, until it breaks or a newer one takes its place.
    pub async fn carry(
        &self,
        node: NodeName,
        wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        clock: impl Fn() -> Timestamp,
    ) {
        let shaken = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(TUNNEL_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .handshake(TokioIo::new(wire))
            .await;
        let (sender, connection) = match shaken {
            Ok(shaken) => shaken,
            Err(error) => return tracing::debug!(%node, %error, "a tunnel did not come about"),
        };
        let (number, replaced) = self.opened(&node, sender, clock());
        tokio::select! {
            ended = connection => tracing::debug!(%node, ?ended, "a tunnel ended"),
            () = replaced.cancelled() => tracing::debug!(%node, "a newer tunnel took over"),
            () = self.closed.cancelled() => {}
        }
        self.ended(&node, number, clock());
    }

    fn opened(
        &self,
        node: &NodeName,
        sender: SendRequest<ToAgent>,
        since: Timestamp,
    ) -> (u64, CancellationToken) {
        let mut inner = self.lock();
        inner.next += 1;
        let (number, replaced) = (inner.next, CancellationToken::new());
        let tunnel = Tunnel {
            number,
            since,
            sender,
            seats: Arc::new(Semaphore::new(MAX_STREAMS as usize)),
            replaced: replaced.clone(),
        };
        if let Some(older) = inner.open.insert(node.clone(), tunnel) {
            older.replaced.cancel();
        }
        inner.lost.remove(node);
        drop(inner);
        self.changed.send_modify(|changed| *changed += 1);
        (number, replaced)
    }

    fn ended(&self, node: &NodeName, number: u64, now: Timestamp) {
        let mut inner = self.lock();
        if inner.open.get(node).is_some_and(|tunnel| tunnel.number == number) {
            inner.open.remove(node);
            inner.lost.insert(node.clone(), now);
        }
    }

    /// Ends all tunnels, and whatever is carried on them.
    pub fn close(&self) {
        self.closed.cancel();
    }

    pub fn state(&self, node: &NodeName) -> TunnelState {
        let inner = self.lock();
        match inner.open.get(node) {
            Some(tunnel) => TunnelState::Up { since: tunnel.since },
            None => TunnelState::Down { since: inner.lost.get(node).copied() },
        }
    }

    /// Opens a stream to `node`. Dropping both of its halves ends the agent's side.
    pub async fn open(
        &self,
        node: &NodeName,
        request: &StreamRequest,
    ) -> Result<NodeStream, StreamRefused> {
        let seat =
            Arc::clone(&self.seats).try_acquire_owned().map_err(|_| StreamRefused::TooMany)?;
        let (mut sender, seats) = self.tunnel(node).await?;
        let of_node = seats.try_acquire_owned().map_err(|_| StreamRefused::TooMany)?;
        let (to, pieces) = mpsc::channel(UNSENT_PIECES);
        let text = serde_json::to_vec(request).unwrap_or_default();
        // The channel is empty and has room.
        let _ = to.try_send(Ok(frame([&text, &[]]).into()));
        let request = Request::post(format!("http://tunnel{STREAM_PATH}"))
            .body(StreamBody::new(Pieces(pieces)))
            .map_err(|_| StreamRefused::NoAnswer(node.clone()))?;
        let asked = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answer = tokio::time::timeout(OPEN_TIMEOUT, asked).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Err(StreamRefused::NoAnswer(node.clone())),
        };
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let from = FromNode { body: answer.into_body(), read: BytesMut::new() };
        Ok(NodeStream { to: ToNode(to), from, _seats: [seat, of_node] })
    }

    /// The node's tunnel; one that is about to come back is waited for.
    async fn tunnel(
        &self,
        node: &NodeName,
    ) -> Result<(SendRequest<ToAgent>, Arc<Semaphore>), StreamRefused> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                if let Some(tunnel) = self.lock().open.get(node)
                    && !tunnel.sender.is_closed()
                {
                    return (tunnel.sender.clone(), Arc::clone(&tunnel.seats));
                }
                // The sender lives as long as the tunnels do.
                let _ = changed.changed().await;
            }
        };
        let waited = tokio::time::timeout(TUNNEL_TIMEOUT, waiting).await;
        waited.map_err(|_| StreamRefused::NoTunnel(node.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn refusal(answer: hyper::Response<Incoming>) -> StreamRefused {
    let code = answer.status().as_u16();
    let said = Limited::new(answer.into_body(), MAX_REFUSAL_BYTES).collect().await;
    let said = said.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = match serde_json::from_slice::<Refusal>(&said) {
        Ok(refusal) => refusal.message,
        Err(_) => "the agent refused without a reason".to_owned(),
    };
    StreamRefused::Agent { code, message }
}

/// A stream to a node, with its place among the limited number.
#[derive(Debug)]
pub struct NodeStream {
    pub to: ToNode,
    pub from: FromNode,
    _seats: [OwnedSemaphorePermit; 2],
}

/// The way there. Dropped, it ends that direction.
#[derive(Debug)]
pub struct ToNode(mpsc::Sender<Piece>);

/// The way back.
#[derive(Debug)]
pub struct FromNode {
    body: Incoming,
    read: BytesMut,
}

/// The stream broke: the agent or the way to it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection to the node was lost")]
pub struct Lost;

impl ToNode {
    /// Bytes of a stream without frames.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Lost> {
        self.0.send(Ok(bytes)).await.map_err(|_| Lost)
    }

    /// Bytes of one channel, in as many frames as they need.
    pub async fn say(&self, channel: Channel, bytes: &[u8]) -> Result<(), Lost> {
        if bytes.is_empty() {
            return self.send(frame([&[channel.number()], &[]]).into()).await;
        }
        for part in bytes.chunks(MAX_PAYLOAD_BYTES) {
            self.send(frame([&[channel.number()], part]).into()).await?;
        }
        Ok(())
    }
}

impl FromNode {
    /// The next bytes of a stream without frames; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Lost),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The next frame: its channel's number and what is on it.
    pub async fn hear(&mut self) -> Result<Option<Bytes>, Lost> {
        loop {
            if let Some(head) = self.read.first_chunk::<FRAME_HEAD_BYTES>() {
                let length = frame_length(*head).ok_or(Lost)?;
                if self.read.len() >= FRAME_HEAD_BYTES + length {
                    self.read.advance(FRAME_HEAD_BYTES);
                    return Ok(Some(self.read.split_to(length).freeze()));
                }
            }
            match self.next().await? {
                Some(piece) => self.read.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

impl NodeStream {
    /// The stream as a connection, for what speaks a protocol of its own. Dropped, it ends.
    pub fn into_wire(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        let to = PollSender::new(self.to.0.clone());
        let to = to.with(|bytes| std::future::ready(Ok::<Piece, PollSendError<Piece>>(Ok(bytes))));
        let to = to.sink_map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let from = self.into_bytes().map(|bytes| bytes.map_err(std::io::Error::other));
        let reader = StreamReader::new(Box::pin(from));
        tokio::io::join(reader, SinkWriter::new(CopyToBytes::new(to)))
    }

    /// What comes, for a stream that only comes: a log.
    pub fn into_bytes(self) -> impl Stream<Item = Result<Bytes, hyper::Error>> + Send {
        let Self { to, from, _seats } = self;
        drop(to);
        BodyStream::new(from.body).filter_map(move |frame| {
            // Held until the stream is dropped.
            let _held = &_seats;
            let data = frame.map(|frame| frame.into_data().ok()).transpose();
            std::future::ready(data)
        })
    }
}

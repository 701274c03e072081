//! Port-forward: each connection of the client is a stream of the tunnel.
//!
//! Three ways to carry them: SPDY, SPDY in a WebSocket's messages, and a WebSocket with two
//! channels for each port, its bytes and its errors.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::stream::{Channel, ConnectRequest, StreamRequest};
use kgit_protocol::time::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::api::error::ApiError;
use crate::api::spdy::session::{self, Stream};
use crate::api::state::Api;
use crate::api::tunnels::{FromNode, NodeStream, StreamRefused, ToNode};
use crate::kube::status::Status;

/// Ports of one WebSocket; a channel's number is a byte, and each port takes two.
const MAX_PORTS: usize = 32;
/// Error streams that wait for their data streams.
const MAX_UNPAIRED: usize = 256;
/// Between a WebSocket's messages and SPDY's frames.
const PIPE_BYTES: usize = 256 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// Messages that wait for a slow client.
const UNSENT_MESSAGES: usize = 16;
/// A token that goes on forwarding ports of a pod is noted this often: some clients ask for each
/// connection anew.
const NOTED_AGAIN_MILLIS: i64 = 10 * 60 * 1000;
/// How many of these are remembered; beyond, all are noted again.
const MAX_NOTED: usize = 4096;

/// Which forwards were written down lately.
#[derive(Debug, Default)]
pub struct Forwards(Mutex<BTreeMap<(String, PodUid), Timestamp>>);

impl Forwards {
    /// Whether this one is yet to be written down; it counts as such from now on.
    pub fn is_new(&self, token: &str, pod: &PodUid, now: Timestamp) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now.0.saturating_sub(at.0) < NOTED_AGAIN_MILLIS);
        if noted.len() >= MAX_NOTED {
            noted.clear();
        }
        let key = (token.to_owned(), pod.clone());
        if noted.contains_key(&key) {
            return false;
        }
        noted.insert(key, now);
        true
    }
}

/// The pod whose ports are forwarded.
#[derive(Clone, Debug)]
pub struct Forward {
    pub api: Api,
    pub node: NodeName,
    pub pod: PodUid,
}

impl Forward {
    async fn connect(&self, port: u16) -> Result<NodeStream, StreamRefused> {
        let request = StreamRequest::Connect(ConnectRequest { pod: self.pod.clone(), port });
        self.api.tunnels.open(&self.node, &request).await
    }
}

/// The ports in a query: `ports=80&ports=443`, `ports=80,443`, or none.
pub fn ports(query: &[(String, String)]) -> Result<Vec<u16>, ApiError> {
    let named = query.iter().filter(|(key, _)| key == "ports");
    let ports = named.flat_map(|(_, value)| value.split(','));
    let read = |text: &str| match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => {
            let message = format!("unable to parse \"{text}\" as a port");
            Err(ApiError::from(Status::bad_request(message)))
        }
    };
    let ports: Vec<u16> = ports.map(read).collect::<Result<_, _>>()?;
    if ports.len() > MAX_PORTS {
        return Err(Status::bad_request(format!("at most {MAX_PORTS} ports at a time")).into());
    }
    Ok(ports)
}

/// Over SPDY: two streams for each connection, that of its errors first.
pub async fn spdy(forward: Forward, wire: impl AsyncRead + AsyncWrite + Send + Unpin) {
    let (incoming, work) = session::serve(wire);
    tokio::select! {
        ended = work => if let Err(error) = ended {
            tracing::debug!(%error, "a port-forward ended");
        },
        () = pair(forward, incoming) => {}
    }
}

/// Serves each pair of streams. Connections end with this.
async fn pair(forward: Forward, mut incoming: mpsc::Receiver<Stream>) {
    let mut connections = JoinSet::new();
    let mut unpaired: BTreeMap<String, Stream> = BTreeMap::new();
    while let Some(stream) = incoming.recv().await {
        while connections.try_join_next().is_some() {}
        let header = |name| stream.headers.get(name).unwrap_or_default().to_owned();
        let (id, kind, port) = (header("requestid"), header("streamtype"), header("port"));
        match (kind.as_str(), unpaired.remove(&id)) {
            ("error", None) if unpaired.len() < MAX_UNPAIRED => {
                unpaired.insert(id, stream);
            }
            ("data", Some(error)) => {
                let forward = forward.clone();
                connections.spawn(async move {
                    // A client that went away needs no answer.
                    let _ = connection(&forward, &port, stream, error).await;
                });
            }
            // Not as the protocol has it; dropping a stream ends it.
            _ => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(
    forward: &Forward,
    port: &str,
    data: Stream,
    error: Stream,
) -> Result<(), session::Gone> {
    let opened = match port.parse() {
        Ok(port) => forward.connect(port).await.map_err(|refused| refused.to_string()),
        Err(_) => Err(format!("\"{port}\" is no port")),
    };
    let failed = match opened {
        Ok(stream) => carry(stream, data).await?,
        Err(why) => {
            data.writer.finish().await?;
            Some(why)
        }
    };
    if let Some(why) = failed {
        let text = format!("error forwarding port {port} to pod {}: {why}", forward.pod);
        error.writer.send(Bytes::from(text)).await?;
    }
    error.writer.finish().await
}

/// Carries bytes both ways until the pod ends its direction; why, if it broke.
async fn carry(stream: NodeStream, data: Stream) -> Result<Option<String>, session::Gone> {
    let NodeStream { to, mut from, .. } = stream;
    let Stream { mut reader, writer, .. } = data;
    let there = async {
        while let Some(bytes) = reader.next().await {
            if to.send(bytes).await.is_err() {
                break;
            }
        }
        // The client has no more to say; the pod may.
        drop(to);
        std::future::pending::<()>().await;
    };
    let back = async {
        loop {
            match from.next().await {
                Ok(Some(bytes)) => writer.send(bytes).await?,
                Ok(None) => return Ok(None),
                Err(lost) => return Ok(Some(lost.to_string())),
            }
        }
    };
    let ended = tokio::select! {
        ended = back => ended?,
        () = there => None,
    };
    writer.finish().await?;
    Ok(ended)
}

/// SPDY's bytes in binary messages.
pub async fn spdy_in_websocket(forward: Forward, socket: WebSocket) {
    let (inner, outer) = tokio::io::duplex(PIPE_BYTES);
    tokio::select! {
        () = spdy(forward, inner) => {}
        _ = unpack(socket, outer) => {}
    }
}

/// Takes bytes out of messages and puts bytes into them.
async fn unpack(socket: WebSocket, pipe: DuplexStream) -> Option<()> {
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(pipe);
    let inwards = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => write.write_all(&bytes).await.ok()?,
                Message::Close(_) => return None,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        None
    };
    let outwards = async {
        loop {
            let mut piece = bytes::BytesMut::with_capacity(CHUNK_BYTES);
            if read.read_buf(&mut piece).await.ok()? == 0 {
                return sink.send(goodbye()).await.ok();
            }
            sink.send(Message::Binary(piece.freeze())).await.ok()?;
        }
    };
    tokio::select! {
        ended = inwards => ended,
        ended = outwards => ended,
    }
}

fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))
}

/// Two channels for each port of the query: even ones for bytes, odd ones for errors. The first
/// message of each is the port, low byte first.
pub async fn websocket(forward: Forward, ports: Vec<u16>, socket: WebSocket) {
    let (mut sink, source) = socket.split();
    let (messages, mut unsent) = mpsc::channel::<Message>(UNSENT_MESSAGES);
    let sending = async {
        while let Some(message) = unsent.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(goodbye()).await;
    };
    tokio::select! {
        () = sending => {}
        () = serve_ports(forward, ports, source, messages) => {}
    }
}

async fn serve_ports(
    forward: Forward,
    ports: Vec<u16>,
    source: SplitStream<WebSocket>,
    messages: mpsc::Sender<Message>,
) {
    let mut back = JoinSet::new();
    let mut there = Vec::new();
    for (channel, port) in (0u8..).step_by(2).zip(ports) {
        for channel in [channel, channel + 1] {
            let [low, high] = port.to_le_bytes();
            // Whether the client is still there shows below.
            let _ = messages.send(message(channel, &[low, high])).await;
        }
        match forward.connect(port).await {
            Ok(NodeStream { to, from, .. }) => {
                there.push(Some(to));
                back.spawn(send_back(channel, from, messages.clone()));
            }
            Err(refused) => {
                there.push(None);
                let _ = messages.send(message(channel + 1, refused.to_string().as_bytes())).await;
            }
        }
    }
    drop(messages);
    let ended = async { while back.join_next().await.is_some() {} };
    let (mut feeding, mut ended) = (std::pin::pin!(feed(source, there)), std::pin::pin!(ended));
    tokio::select! {
        // The client is gone.
        () = &mut feeding => {}
        // All is said; the client hears the goodbye while it is read to its end.
        () = &mut ended => feeding.await,
    }
}

async fn send_back(channel: u8, mut from: FromNode, messages: mpsc::Sender<Message>) {
    loop {
        let said = match from.next().await {
            Ok(Some(bytes)) => message(channel, &bytes),
            Ok(None) => return,
            Err(lost) => {
                let _ = messages.send(message(channel + 1, lost.to_string().as_bytes())).await;
                return;
            }
        };
        if messages.send(said).await.is_err() {
            return;
        }
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(1 + data.len());
    bytes.push(channel);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.into())
}

/// Passes on what the client sends, until it is gone. As in version 5 of the channels, a client
/// may close one of them: `kgit` does, so that a pod hears the end of what was sent to it.
async fn feed(mut source: SplitStream<WebSocket>, mut there: Vec<Option<ToNode>>) {
    while let Some(Ok(message)) = source.next().await {
        let Message::Binary(bytes) = message else { continue };
        let Some((number, data)) = bytes.split_first() else { continue };
        let closes = *number == Channel::CloseStdin.number();
        let channel = if closes { data.first().copied().unwrap_or(u8::MAX) } else { *number };
        let Some(to) = there.get_mut(usize::from(channel / 2)) else { continue };
        if closes {
            *to = None;
        } else if let Some(open) = to
            && open.send(bytes.slice(1..)).await.is_err()
        {
            *to = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_either_form_of_the_query() {
        let read = |pairs: &[(&str, &str)]| {
            let query: Vec<_> =
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            ports(&query).map_err(|error| error.0.message)
        };
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&[("ports", "80"), ("x", "1"), ("ports", "443")]), Ok(vec![80, 443]));
        assert_eq!(read(&[("ports", "80,443")]), Ok(vec![80, 443]));
        assert_eq!(read(&[("ports", "0")]), Err("unable to parse \"0\" as a port".to_owned()));
        assert_eq!(read(&[("ports", "web")]), Err("unable to parse \"web\" as a port".to_owned()));
        let many = vec![("ports", "80"); MAX_PORTS + 1];
        assert_eq!(read(&many), Err("at most 32 ports at a time".to_owned()));
    }

    #[test]
    fn a_forward_that_goes_on_is_written_down_now_and_then() {
        let (forwards, pod) = (Forwards::default(), PodUid::new("uid"));
        assert!(forwards.is_new("ann", &pod, Timestamp(0)));
        assert!(!forwards.is_new("ann", &pod, Timestamp(NOTED_AGAIN_MILLIS - 1)));
        assert!(forwards.is_new("bob", &pod, Timestamp(1)));
        assert!(forwards.is_new("ann", &pod, Timestamp(NOTED_AGAIN_MILLIS)));
    }
}

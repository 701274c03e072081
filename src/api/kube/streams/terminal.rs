//! Exec and attach: a stream of the tunnel on one side, a client's channels on the other.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use kgit_protocol::stream::{Channel, Ends, StreamEnd, TerminalSize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::api::spdy::session::{self, Reader, Stream, Writer};
use crate::api::tunnels::{FromNode, NodeStream, ToNode};
use crate::kube::remote::status_of;

/// How long a client may take to open the streams of one exec.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to say goodbye after it was told the end.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes from the node.
enum Heard {
    Said(Channel, Bytes),
    /// Nothing follows.
    End(Value),
}

/// The next of what the process says, or how it ended.
async fn hear(from: &mut FromNode) -> Heard {
    let lost = || {
        let message = "the connection to the node was lost".to_owned();
        Heard::End(status_of(&StreamEnd::Failed { message }))
    };
    loop {
        let Ok(Some(frame)) = from.hear().await else { return lost() };
        let Some(number) = frame.first() else { continue };
        match Channel::of_number(*number) {
            Some(channel @ (Channel::Stdout | Channel::Stderr)) => {
                return Heard::Said(channel, frame);
            }
            Some(Channel::End) => {
                return match serde_json::from_slice(frame.get(1..).unwrap_or_default()) {
                    Ok(end) => Heard::End(status_of(&end)),
                    Err(_) => lost(),
                };
            }
            Some(Channel::Stdin | Channel::Resize | Channel::CloseStdin) | None => {}
        }
    }
}

/// Over a WebSocket, each message led by its channel.
pub async fn websocket(stream: NodeStream, socket: WebSocket) {
    let NodeStream { to, mut from, .. } = stream;
    let (mut sink, mut source) = socket.split();
    tokio::select! {
        told = tell_socket(&mut from, &mut sink) => if told.is_err() {
            return;
        },
        () = feed_from_socket(&mut source, &to) => return,
    }
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    if sink.send(Message::Close(Some(normal))).await.is_ok() {
        // Closing at once could cost the client what it has not read yet.
        let goodbye = async { while let Some(Ok(_)) = source.next().await {} };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
    }
}

/// Tells the client what the process says, and its end. An error: the client is gone.
async fn tell_socket(
    from: &mut FromNode,
    sink: &mut SplitSink<WebSocket, Message>,
) -> Result<(), axum::Error> {
    loop {
        match hear(from).await {
            // The numbers of the channels are the same on both sides.
            Heard::Said(_, frame) => sink.send(Message::Binary(frame)).await?,
            Heard::End(status) => {
                let mut message = vec![Channel::End.number()];
                message.extend_from_slice(status.to_string().as_bytes());
                return sink.send(Message::Binary(message.into())).await;
            }
        }
    }
}

/// Passes on what the client sends, until it is gone.
async fn feed_from_socket(source: &mut SplitStream<WebSocket>, to: &ToNode) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Some((number, data)) = bytes.split_first() else { continue };
        // What the process no longer takes is dropped; what it says is still heard.
        let _ = match Channel::of_number(*number) {
            Some(Channel::Stdin) if data.is_empty() => Ok(()),
            Some(channel @ (Channel::Stdin | Channel::Resize)) => to.say(channel, data).await,
            Some(Channel::CloseStdin) if data == [Channel::Stdin.number()] => {
                to.say(Channel::CloseStdin, &[]).await
            }
            Some(Channel::Stdout | Channel::Stderr | Channel::End | Channel::CloseStdin) | None => {
                Ok(())
            }
        };
    }
}

/// Over SPDY, a stream for each channel.
pub async fn spdy(
    stream: NodeStream,
    ends: Ends,
    wire: impl AsyncRead + AsyncWrite + Send + Unpin,
) {
    let (mut incoming, work) = session::serve(wire);
    let mut work = std::pin::pin!(work);
    let told = tokio::select! {
        // The client is gone.
        _ = &mut work => return,
        told = talk(stream, ends, &mut incoming) => told,
    };
    drop(incoming);
    if told.is_some() {
        // What is left to be sent is sent.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, work).await;
    }
}

/// The client's streams, by what they are for.
#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    /// Takes up as many as the client said that it would open.
    async fn of(ends: Ends, incoming: &mut mpsc::Receiver<Stream>) -> Option<Self> {
        let wanted = [ends.stdin, ends.stdout, ends.stderr, ends.tty];
        let wanted = 1 + wanted.into_iter().filter(|wanted| *wanted).count();
        let mut streams = Self::default();
        for _ in 0..wanted {
            let stream = incoming.recv().await?;
            let place = match stream.headers.get("streamtype")? {
                "error" => &mut streams.error,
                "stdin" => &mut streams.stdin,
                "stdout" => &mut streams.stdout,
                "stderr" => &mut streams.stderr,
                "resize" => &mut streams.resize,
                _ => return None,
            };
            *place = Some(stream);
        }
        Some(streams)
    }
}

/// `None`: the client is gone, or does not keep to the protocol.
async fn talk(stream: NodeStream, ends: Ends, incoming: &mut mpsc::Receiver<Stream>) -> Option<()> {
    let opening = Streams::of(ends, incoming);
    let streams = tokio::time::timeout(STREAMS_TIMEOUT, opening).await.ok()??;
    let NodeStream { to, mut from, .. } = stream;
    let error = streams.error?.writer;
    // Clients close their standard input once the server ended its own direction of that stream:
    // these are held until the end.
    let (stdin, _stdin_back) = halves(streams.stdin);
    let (resize, _resize_back) = halves(streams.resize);
    let (stdout, stderr) = (writer(streams.stdout), writer(streams.stderr));
    let feeding = async {
        let fed = (feed(stdin, &to), set_sizes(resize, &to));
        futures_util::future::join(fed.0, fed.1).await;
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = tell(&mut from, stdout.as_ref(), stderr.as_ref()) => status?,
        () = feeding => return None,
    };
    error.send(Bytes::from(status.to_string())).await.ok()?;
    error.finish().await.ok()
}

fn halves(stream: Option<Stream>) -> (Option<Reader>, Option<Writer>) {
    stream.map(|stream| (stream.reader, stream.writer)).unzip()
}

fn writer(stream: Option<Stream>) -> Option<Writer> {
    stream.map(|stream| stream.writer)
}

/// The status that it ends with.
async fn tell(
    from: &mut FromNode,
    stdout: Option<&Writer>,
    stderr: Option<&Writer>,
) -> Option<Value> {
    loop {
        match hear(from).await {
            Heard::Said(channel, frame) => {
                let to = if channel == Channel::Stderr { stderr } else { stdout };
                if let Some(to) = to {
                    to.send(frame.slice(1..)).await.ok()?;
                }
            }
            Heard::End(status) => return Some(status),
        }
    }
}

async fn feed(stdin: Option<Reader>, to: &ToNode) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = stdin.next().await {
        // What the process no longer takes is dropped.
        let _ = to.say(Channel::Stdin, &bytes).await;
    }
    let _ = to.say(Channel::CloseStdin, &[]).await;
}

async fn set_sizes(resize: Option<Reader>, to: &ToNode) {
    let Some(mut resize) = resize else { return };
    while let Some(bytes) = resize.next().await {
        // Several may have come together; the last one counts.
        let sizes = serde_json::Deserializer::from_slice(&bytes).into_iter::<TerminalSize>();
        if let Some(size) = sizes.flatten().last() {
            let text = serde_json::to_vec(&size).unwrap_or_default();
            let _ = to.say(Channel::Resize, &text).await;
        }
    }
}

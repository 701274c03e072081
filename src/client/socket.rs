//! WebSockets: the connections of exec, attach and port-forward.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::http::{Client, ClientError};

/// How often the master is asked whether it is still there; also what keeps a NAT in between from
/// forgetting a quiet connection.
const PING: Duration = Duration::from_secs(10);
/// How long it may be silent: two pings and some patience.
const SILENCE: Duration = Duration::from_secs(30);
/// A message of the master; it sends 64 KiB at a time.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Bytes of chance in the handshake's key.
const KEY_BYTES: usize = 16;

/// What is sent.
#[derive(Debug)]
pub struct Sender(SplitSink<WebSocketStream<Upgraded>, Message>);

/// What is received.
#[derive(Debug)]
pub struct Receiver(SplitStream<WebSocketStream<Upgraded>>);

impl Client {
    /// Opens a WebSocket that speaks one of `protocols`.
    pub async fn socket(
        &self,
        path: &str,
        protocols: &str,
    ) -> Result<(Sender, Receiver), ClientError> {
        let mut bytes = [0; KEY_BYTES];
        let provider = rustls::crypto::ring::default_provider();
        // A key that others can guess does no harm: it only proves that the other end speaks this.
        let _ = provider.secure_random.fill(&mut bytes);
        let key = BASE64.encode(bytes);
        let request = self
            .upgrading(Method::GET, path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key)
            .header("sec-websocket-protocol", protocols);
        let response = self.send(request).await?;
        let accepted = response.headers().get("sec-websocket-accept");
        let is_answer =
            accepted.is_some_and(|accepted| accepted == &derive_accept_key(key.as_bytes()));
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !is_answer {
            return Err(ClientError::NoSocket);
        }
        let wire = response.upgrade().await.map_err(ClientError::CutOff)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let socket = WebSocketStream::from_raw_socket(wire, Role::Client, Some(config)).await;
        let (sink, stream) = socket.split();
        Ok((Sender(sink), Receiver(stream)))
    }
}

impl Sender {
    /// `data` on a channel.
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), ClientError> {
        let mut message = Vec::with_capacity(1 + data.len());
        message.push(channel);
        message.extend_from_slice(data);
        self.0.send(Message::Binary(message.into())).await.map_err(lost)
    }

    /// Asks again and again whether the master is there, until it is not.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        tokio::time::sleep(PING).await;
        self.0.send(Message::Ping(Bytes::new())).await.map_err(lost)
    }
}

impl Receiver {
    /// The next message with its channel in front; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let next = tokio::time::timeout(SILENCE, self.0.next()).await;
            match next.map_err(|_| ClientError::Silent)? {
                Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => return Ok(Some(bytes)),
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
            }
        }
    }
}

fn lost(error: Error) -> ClientError {
    ClientError::SocketLost(Box::new(error))
}

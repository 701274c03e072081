//! Requests and answers: JSON, lines of a watch, bytes of a log or a backup.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::client::kubeconfig::Kubeconfig;
use crate::client::tls::{TlsError, trusting};
use crate::kube::status::Status;

/// For a connection to come about: a round trip or two through anything that works.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A line of a watch holds one object; Kubernetes' own limit for one is 1.5 MiB.
const MAX_LINE_BYTES: usize = 8 << 20;

/// The form in which lists and objects are asked for.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
pub const JSON: &str = "application/json";

#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    /// For connections that become something else, which HTTP/2 has not.
    http1: reqwest::Client,
    server: String,
    token: String,
}

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("failed to prepare the connection to {server}")]
    Tls { server: String, source: TlsError },
    #[error("failed to set up a client")]
    Setup(#[source] reqwest::Error),
    #[error("the master at {server} can't be reached")]
    Unreachable { server: String, source: reqwest::Error },
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    #[error("the master's answer was cut off")]
    CutOff(#[source] reqwest::Error),
    #[error("the master's answer can't be read")]
    Unreadable(#[source] serde_json::Error),
    #[error("the master does not speak WebSocket here")]
    NoSocket,
    #[error("the connection to the master was lost")]
    SocketLost(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("nothing was heard of the master any more")]
    Silent,
    #[error("a line of the master's answer is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
}

impl ClientError {
    /// The master may be back in a moment: it stops, or starts.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::CutOff(_) | Self::SocketLost(_) | Self::Silent => true,
            Self::Refused(status) => status.code == 503,
            Self::Tls { .. }
            | Self::Setup(_)
            | Self::Unreadable(_)
            | Self::NoSocket
            | Self::TooLong => false,
        }
    }

    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "is it running? start it with `kgit up`, or name another with --kubeconfig"
                    .to_owned(),
            ),
            Self::Refused(status) if status.code == 401 => Some(
                "the kubeconfig's token is unknown or expired; the one in the master's data \
                 directory is always valid"
                    .to_owned(),
            ),
            Self::CutOff(_) | Self::SocketLost(_) | Self::Silent => {
                Some("the master may have stopped; try again".to_owned())
            }
            Self::Unreadable(_) | Self::NoSocket => {
                Some("kgit and the master may be of different versions: `kgit version`".to_owned())
            }
            Self::Tls { .. } | Self::Setup(_) | Self::Refused(_) | Self::TooLong => None,
        }
    }
}

impl Client {
    pub fn new(kubeconfig: &Kubeconfig) -> Result<Self, ClientError> {
        let server = kubeconfig.server.clone();
        let tls = trusting(&kubeconfig.authority)
            .map_err(|source| ClientError::Tls { server: server.clone(), source })?;
        let mut upgradable = tls.clone();
        upgradable.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = |tls| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .connect_timeout(CONNECT_TIMEOUT)
                .build()
                .map_err(ClientError::Setup)
        };
        let (http, http1) = (client(tls)?, client(upgradable)?);
        Ok(Self { http, http1, server, token: kubeconfig.token.clone() })
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server)).bearer_auth(&self.token)
    }

    /// A request whose connection is to be upgraded.
    pub(super) fn upgrading(&self, method: Method, path: &str) -> RequestBuilder {
        self.http1.request(method, format!("{}{path}", self.server)).bearer_auth(&self.token)
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { server: self.server.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let bytes = response.bytes().await.map_err(ClientError::CutOff)?;
        let status = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            Status::new(code, "Unknown", String::from_utf8_lossy(&bytes).into_owned())
        });
        Err(ClientError::Refused(Box::new(status)))
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(ClientError::CutOff)?;
        serde_json::from_slice(&bytes).map_err(ClientError::Unreadable)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.request(Method::GET, path)).await
    }

    /// A GET in the form that `accept` names.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, path).header("accept", accept)).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.read(self.request(Method::POST, path).json(body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.request(Method::DELETE, path)).await
    }

    /// The bytes of an answer, as they come.
    pub async fn bytes(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let response = self.send(self.request(Method::GET, path)).await?;
        Ok(response.bytes_stream().map(|bytes| bytes.map_err(ClientError::CutOff)))
    }

    /// The events of a watch.
    pub async fn watch(&self, path: &str, accept: &str) -> Result<Events, ClientError> {
        let request = self.request(Method::GET, path).header("accept", accept);
        let stream = self.send(request).await?.bytes_stream();
        Ok(Events { stream: Box::pin(stream), read: Vec::new() })
    }
}

/// A watch under way.
pub struct Events {
    stream: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    read: Vec<u8>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// The next event; `None` at the end of the watch.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(ClientError::Unreadable);
            }
            match self.stream.next().await {
                Some(bytes) => self.read.extend_from_slice(&bytes.map_err(ClientError::CutOff)?),
                None => return Ok(None),
            }
            if self.read.len() > MAX_LINE_BYTES {
                return Err(ClientError::TooLong);
            }
        }
    }
}

/// A value as it stands in a query.
pub fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let shown = text.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    shown.collect()
}

//! The real link: JSON over HTTPS with the node's certificate, through whatever CONNECT proxy the
//! environment names.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use kgit_protocol::messages::{
    Acknowledged, Heartbeat, Join, Joined, Lease, Leave, PROTOCOL_VERSION, Pull, Pulled, Refusal,
    Renew, Report,
};
use kgit_protocol::stream::TUNNEL_UPGRADE;
use kgit_protocol::usage::Usage;
use reqwest::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::link::join::Application;
use crate::link::{Answer, Link, LinkError, Wire, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// What a long poll may take beyond the time that it asked the master to hold it.
const POLL_SLACK: Duration = Duration::from_secs(15);
/// A master that vanished without a word is noticed within this and the next.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Answers are read up to this: a set of a few hundred pods with their files takes some megabytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A connection to the master.
#[derive(Debug)]
pub struct HttpsLink {
    url: String,
    clients: RwLock<Clients>,
    /// `None`: it does not ask to be a member again.
    application: Option<Application>,
}

#[derive(Clone, Debug)]
struct Clients {
    /// For requests and their answers.
    asking: Client,
    /// For the tunnel: HTTP/2 has no upgrade to anything.
    upgrading: Client,
}

impl HttpsLink {
    /// As a node of the cluster.
    pub fn new(url: &str, authority: &str, certificate: &str, key: &str) -> Answer<Self> {
        let config = tls::of_cluster(authority, certificate, key)?;
        Self::with(url, config)
    }

    /// One that can ask to be a member again.
    pub fn applying(self, application: Application) -> Self {
        Self { application: Some(application), ..self }
    }

    /// As somebody who knows no more than a token.
    pub fn to_join(url: &str, authority: &kgit_protocol::ids::Digest) -> Answer<Self> {
        Self::with(url, tls::pinned(authority))
    }

    fn with(url: &str, config: rustls::ClientConfig) -> Answer<Self> {
        let url = url.trim_end_matches('/').to_owned();
        let clients = RwLock::new(clients(&url, config)?);
        Ok(Self { url, clients, application: None })
    }

    /// Goes on with a renewed certificate.
    pub fn renewed(&self, authority: &str, certificate: &str, key: &str) -> Answer<()> {
        let fresh = clients(&self.url, tls::of_cluster(authority, certificate, key)?)?;
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub async fn join(&self, join: &Join) -> Answer<Joined> {
        self.post("join", join, REQUEST_TIMEOUT).await
    }

    pub async fn renew(&self, renew: &Renew) -> Answer<Joined> {
        self.post("renew", renew, REQUEST_TIMEOUT).await
    }

    fn clients(&self) -> Clients {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn client(&self) -> Client {
        self.clients().asking
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Answer<T> {
        let url = format!("{}/agent/v1/{path}", self.url);
        let answer = self.client().post(url).timeout(timeout).json(body).send().await;
        let answer = accepted(answer.map_err(unreachable)?).await?;
        let bytes = limited(answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| LinkError::Nonsense(error.to_string()))
    }
}

fn clients(url: &str, config: rustls::ClientConfig) -> Answer<Clients> {
    let mut upgrading = config.clone();
    upgrading.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Clients { asking: client(url, config)?, upgrading: client(url, upgrading)? })
}

fn client(url: &str, config: rustls::ClientConfig) -> Answer<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .connect_timeout(CONNECT_TIMEOUT)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .http2_keep_alive_while_idle(true)
        .user_agent(concat!("kgit-agent/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| LinkError::Certificate(error.to_string()))
}

/// A proxy can't reach this host's own loopback.
fn is_loopback(url: &str) -> bool {
    reqwest::Url::parse(url).ok().is_some_and(|url| {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

fn unreachable(error: reqwest::Error) -> LinkError {
    let mut cause: &dyn std::error::Error = &error;
    let mut words = Vec::new();
    while let Some(deeper) = cause.source() {
        cause = deeper;
        words.push(cause.to_string());
    }
    LinkError::Unreachable(words.pop().unwrap_or_else(|| error.to_string()))
}

/// The answer if it is a success, else the refusal in it.
async fn accepted(answer: reqwest::Response) -> Answer<reqwest::Response> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let bytes = limited(answer).await.unwrap_or_default();
    Err(match serde_json::from_slice::<Refusal>(&bytes) {
        Ok(Refusal { reason, message }) => LinkError::Refused { reason, message },
        // A proxy or something else in between, or a master that is starting.
        Err(_) if status.is_server_error() => LinkError::Unreachable(format!("status {status}")),
        Err(_) => LinkError::Nonsense(format!("status {status}")),
    })
}

async fn limited(mut answer: reqwest::Response) -> Answer<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(LinkError::Nonsense("it is too large".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

impl Link for HttpsLink {
    async fn pull(&self, pull: &Pull) -> Answer<Pulled> {
        let timeout = Duration::from_secs(u64::from(pull.wait_seconds)) + POLL_SLACK;
        self.post("pull", pull, timeout).await
    }

    async fn report(&self, report: &Report) -> Answer<Acknowledged> {
        self.post("report", report, REQUEST_TIMEOUT).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Answer<Lease> {
        self.post("heartbeat", heartbeat, REQUEST_TIMEOUT).await
    }

    async fn usage(&self, usage: &Usage) -> Answer<()> {
        self.post("usage", usage, REQUEST_TIMEOUT).await
    }

    async fn tunnel(&self) -> Answer<Wire> {
        let upgrading = self.clients().upgrading;
        let request = upgrading
            .get(format!("{}/agent/v1/tunnel", self.url))
            .header("connection", "upgrade")
            .header("upgrade", TUNNEL_UPGRADE);
        // No limit on the whole request: the connection lasts for as long as it is good.
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, request.send()).await;
        let answer = answer.map_err(|_| LinkError::Unreachable("no answer in time".to_owned()))?;
        let answer = answer.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            let answer = accepted(answer).await?;
            return Err(LinkError::Nonsense(format!("status {}", answer.status())));
        }
        Ok(Box::new(answer.upgrade().await.map_err(unreachable)?))
    }

    async fn join_again(&self) -> Answer<()> {
        let application =
            self.application.as_ref().ok_or(LinkError::Token("nobody gave this link one"))?;
        // The certificate that is known is as good as the new one, and is renewed in its time.
        self.join(&application.request()?).await.map(drop)
    }

    async fn leave(&self) -> Answer<()> {
        let leave = Leave { version: PROTOCOL_VERSION };
        let url = format!("{}/agent/v1/leave", self.url);
        let answer = self.client().post(url).timeout(REQUEST_TIMEOUT).json(&leave).send().await;
        accepted(answer.map_err(unreachable)?).await.map(|_| ())
    }
}

//! Git's smart HTTP protocol for libgit2, spoken through reqwest: its TLS, roots and proxies are
//! those of the whole program, and no second TLS library is linked.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::runtime::{Builder, Runtime};

use crate::source::error::SourceError;
use crate::source::remote::Credential;
use crate::source::session;

/// A connection that is not there by then is tried again later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence in the middle of an answer; servers send progress while they pack.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Some servers answer as to a browser unless this starts with `git/`.
const USER_AGENT: &str = concat!("git/2.0 (kgit ", env!("CARGO_PKG_VERSION"), ")");

/// A request of the negotiation lists what this side has: some hundred bytes a round.
const MAX_REQUEST_BYTES: usize = 16 << 20;

/// Password managers and tokens want some user name; most servers take any.
const ANY_USER: &str = "git";

/// The client, and the runtime that drives it while a fetch blocks on it.
pub(super) struct HttpClient {
    runtime: Runtime,
    client: Client,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    pub(super) fn new() -> Result<Self, SourceError> {
        // Another part of the program may have installed it already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| SourceError::Client { message: error.to_string() })?;
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| SourceError::Client { message: chain(&error) })?;
        Ok(Self { runtime, client })
    }

    fn send(&self, request: RequestBuilder) -> io::Result<Response> {
        let response = self.runtime.block_on(async { request.send().await }).map_err(plain)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(io::Error::other(format!(
                "the server refuses access ({}): give a token that may read the repository",
                response.status()
            ))),
            StatusCode::NOT_FOUND => Err(io::Error::other(
                "the server knows no such repository (404), or hides it without a token",
            )),
            status => Err(io::Error::other(format!("the server answered {status}"))),
        }
    }

    fn chunk(&self, response: &mut Response) -> io::Result<Option<Bytes>> {
        self.runtime.block_on(async { response.chunk().await }).map_err(plain)
    }
}

/// reqwest's errors name the address, which may carry a credential; and hide the cause.
fn plain(error: reqwest::Error) -> io::Error {
    io::Error::other(chain(&error.without_url()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// For [`git2::transport::register`].
pub(super) fn transport(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let session = session::current()?;
    let Some(client) = session.http else {
        return Err(git2::Error::from_str("this fetch has no HTTP client"));
    };
    let http = Http { client, credential: session.credential, base: Arc::default() };
    Transport::smart(remote, true, http)
}

struct Http {
    client: Arc<HttpClient>,
    credential: Option<Credential>,
    /// Where the first request was answered from: after a redirect, the others go there.
    base: Arc<Mutex<Option<Url>>>,
}

impl SmartSubtransport for Http {
    fn action(
        &self,
        url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match service {
            Service::UploadPackLs => self.advertisement(url),
            Service::UploadPack => self.exchange(url),
            Service::ReceivePackLs | Service::ReceivePack => {
                Err(git2::Error::from_str("kgit never pushes to a followed remote"))
            }
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

impl Http {
    fn advertisement(&self, url: &str) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let original = parse(url)?;
        let mut full = at(&original, "info/refs");
        full.set_query(Some("service=git-upload-pack"));
        let request = self.authorized(self.client.client.get(full), &original, &original);
        let response = self.client.send(request).map_err(git_error)?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if kind != Some("application/x-git-upload-pack-advertisement") {
            return Err(git2::Error::from_str(
                "no Git repository answers at this address: check it",
            ));
        }
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = redirected(response.url());
        let client = Arc::clone(&self.client);
        Ok(Box::new(Exchange { client, state: State::Answer(response), rest: Bytes::new() }))
    }

    fn exchange(&self, url: &str) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let original = parse(url)?;
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let base = base.unwrap_or_else(|| original.clone());
        let request = self
            .client
            .client
            .post(at(&base, "git-upload-pack"))
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result");
        let request = self.authorized(request, &original, &base);
        let client = Arc::clone(&self.client);
        let state = State::Request { request: Some(request), body: Vec::new() };
        Ok(Box::new(Exchange { client, state, rest: Bytes::new() }))
    }

    /// A credential goes to the host that it was given for, and to no other.
    fn authorized(&self, request: RequestBuilder, original: &Url, to: &Url) -> RequestBuilder {
        let same = (original.scheme(), original.host_str(), original.port_or_known_default())
            == (to.scheme(), to.host_str(), to.port_or_known_default());
        match &self.credential {
            Some(Credential { user, secret }) if same => {
                request.basic_auth(user.as_deref().unwrap_or(ANY_USER), Some(secret))
            }
            _ => request,
        }
    }
}

fn parse(url: &str) -> Result<Url, git2::Error> {
    Url::parse(url).map_err(|error| git2::Error::from_str(&format!("the address: {error}")))
}

fn at(base: &Url, end: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{end}", base.path().trim_end_matches('/')));
    url
}

/// The repository's address, from where its advertisement came.
fn redirected(answered: &Url) -> Option<Url> {
    let mut base = answered.clone();
    let path = answered.path().strip_suffix("/info/refs")?.to_owned();
    base.set_path(&path);
    base.set_query(None);
    Some(base)
}

fn git_error(error: io::Error) -> git2::Error {
    git2::Error::from_str(&error.to_string())
}

/// One request and its answer: written first, sent with the first read.
struct Exchange {
    client: Arc<HttpClient>,
    state: State,
    /// Of the answer's last chunk, what was not read yet.
    rest: Bytes,
}

enum State {
    Request { request: Option<RequestBuilder>, body: Vec<u8> },
    Answer(Response),
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Request { body, .. } if body.len() + bytes.len() <= MAX_REQUEST_BYTES => {
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            State::Request { .. } => Err(io::Error::other("the request grows beyond all bounds")),
            State::Answer(_) => Err(io::Error::other("the request was sent already")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Exchange {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if let State::Request { request, body } = &mut self.state {
            let Some(request) = request.take() else {
                return Err(io::Error::other("the request failed already"));
            };
            let request = request.body(std::mem::take(body));
            self.state = State::Answer(self.client.send(request)?);
        }
        while self.rest.is_empty() {
            let State::Answer(response) = &mut self.state else { return Ok(0) };
            match self.client.chunk(response)? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(to.len());
        self.rest.copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}

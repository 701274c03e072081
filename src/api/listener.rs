//! The TLS listener: connections in, requests with their peer out. Limits on how many, how slow,
//! and how long they may take to end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::api::auth::Peer;
use crate::api::authority::NodeIdentity;
use crate::api::state::Api;

/// Connections at a time: 1,000 agents with 3 each, and as many people again.
const MAX_CONNECTIONS: usize = 8192;
/// A handshake takes two round trips; whoever needs longer is not talking TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request on HTTP/1.1.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The head of a request: a path, a token, a command to exec with its arguments.
pub(super) const MAX_HEAD_BYTES: u32 = 64 << 10;
/// HTTP/2 pings find connections whose other end is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The same, by the kernel, for other connections: this often after a silence of the above.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// Streams on one HTTP/2 connection: watches of a dashboard, logs of many pods.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// After a shutdown began, how long requests under way may take to end. Watches and long polls
/// are cut off; their clients come back.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// After `accept` failed (out of file descriptors, mostly), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `api` on `listener` until `shutdown` turns true, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    api: Api,
    mut shutdown: watch::Receiver<bool>,
) {
    let router = crate::api::router::router(&api);
    let acceptor = TlsAcceptor::from(tls);
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    let history = api.clone();
    let mut follower =
        JoinSet::from_iter([async move { history.history.follow(history.master.clone()).await }]);
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut shutdown) => break,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                let shutdown = shutdown.clone();
                tasks.spawn(async move {
                    connection(stream, acceptor, router, shutdown).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    api.tunnels.close();
    let drained = async { while tasks.join_next().await.is_some() {} };
    // What did not end by itself is cut off when the set is dropped.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    follower.abort_all();
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let Ok(address) = stream.peer_addr() else { return };
    // Small messages, each waited for: don't hold them back.
    let _ = stream.set_nodelay(true);
    notice_the_dead(&stream);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let peer = Peer { address, node: node_of(&stream) };
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        let response = router.call(request);
        async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
    });
    let builder = builder();
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut shutdown) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%address, %error, "connection ended");
    }
}

/// Has the kernel find connections whose other end is gone. An idle exec says nothing for hours,
/// and not every client pings.
fn notice_the_dead(stream: &TcpStream) {
    // A connection without it is served as well.
    let _ = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, PING_INTERVAL))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, PROBES));
}

/// Returns when the shutdown begins, or when nobody is left to begin it.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION);
    builder
}

fn node_of(stream: &TlsStream<TcpStream>) -> Option<NodeIdentity> {
    let (_, session) = stream.get_ref();
    NodeIdentity::of(session.peer_certificates()?.first()?)
}

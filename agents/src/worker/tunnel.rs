//! The tunnel's near end: keeps one connection to the master and serves the streams that the
//! master asks for on it. What is in a stream is `streams`'.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kgit_protocol::stream::{
    MAX_STREAMS, STREAM_WINDOW_BYTES, TUNNEL_PING_SECONDS, TUNNEL_WINDOW_BYTES,
};
use tokio::time::Instant;

use crate::link::retry::Backoff;
use crate::link::{Link, Wire};
use crate::runtime::Runtime;
use crate::worker::{Shared, streams};

const PING: Duration = Duration::from_secs(TUNNEL_PING_SECONDS);
/// Bytes that a frame of HTTP/2 may hold: a piece of output in one.
const HTTP2_FRAME_BYTES: u32 = 128 * 1024;
/// A tunnel that held this long was a good one: its end is not held against the next.
const GOOD: Duration = Duration::from_secs(10);

/// Keeps the tunnel for as long as the agent runs.
pub(super) async fn keep<R: Runtime, L: Link>(shared: Arc<Shared<R>>, link: Arc<L>) {
    let mut backoff = Backoff::default();
    loop {
        match link.tunnel().await {
            Ok(wire) => {
                let begun = Instant::now();
                tracing::debug!("the tunnel is up");
                serve(Arc::clone(&shared), wire).await;
                if begun.elapsed() >= GOOD {
                    backoff.reset();
                }
            }
            Err(error) => tracing::debug!(%error, "no tunnel yet"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Serves streams until the connection ends.
async fn serve<R: Runtime>(shared: Arc<Shared<R>>, wire: Wire) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(streams::serve(shared, request.into_body()).await) }
    });
    let served = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(TUNNEL_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .serve_connection(TokioIo::new(wire), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "the tunnel is down");
    }
}

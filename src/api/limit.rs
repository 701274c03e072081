//! How much one client may ask for: a bucket of requests for each, so many watches for each token,
//! and so long between the pieces of what it sends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use kgit_protocol::ids::NodeName;
use tokio::time::Sleep;

/// A `kubectl` that fills its discovery cache sends some 50 requests at once, several people
/// behind one address a few hundred.
const BURST: f64 = 1000.0;
/// More than any tool sends for long; an agent sends about one.
const REQUESTS_PER_SECOND: f64 = 300.0;
/// Clients that are remembered. Beyond it those that were quiet long enough to be full again
/// are forgotten, which changes nothing for them.
const MAX_CLIENTS: usize = 8192;
/// Watches of one token at a time: 20 people who share it, each with a dashboard that watches
/// every kind.
const MAX_WATCHES: usize = 512;
/// A body that stalls for so long is given up: whoever sends it is gone, or holds a place.
const MAX_STALL: Duration = Duration::from_secs(30);

/// Who is counted as one client. Agents behind one address are still many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    Node(NodeName),
    Address(IpAddr),
}

#[derive(Debug, Default)]
pub struct Limiter {
    buckets: Mutex<HashMap<ClientKey, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Limiter {
    /// Counts one request. False: the client is over its limit.
    pub fn admit(&self, client: ClientKey, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CLIENTS && !buckets.contains_key(&client) {
            buckets.retain(|_, bucket| bucket.refilled(now) < BURST);
            if buckets.len() >= MAX_CLIENTS {
                return false;
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { left: BURST, at: now });
        *bucket = Bucket { left: bucket.refilled(now), at: now };
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }
}

impl Bucket {
    fn refilled(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * REQUESTS_PER_SECOND).min(BURST)
    }
}

/// The watches that each token has open.
#[derive(Debug, Default)]
pub struct Watches(Arc<Mutex<HashMap<String, usize>>>);

/// One of a token's watches; dropped, it makes room.
#[derive(Debug)]
pub struct Seat {
    open: Arc<Mutex<HashMap<String, usize>>>,
    token: String,
}

impl Watches {
    /// `None`: the token has as many as it may.
    pub fn take(&self, token: &str) -> Option<Seat> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(token.to_owned()).or_default();
        if *count >= MAX_WATCHES {
            return None;
        }
        *count += 1;
        Some(Seat { open: Arc::clone(&self.0), token: token.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open.get(&self.token).map_or(0, |count| count - 1);
        match left {
            0 => open.remove(&self.token),
            left => open.insert(self.token.clone(), left),
        };
    }
}

/// A request's body, given up when it stalls.
pub fn impatient(body: Body) -> Body {
    match body.is_end_stream() {
        true => body,
        false => Body::new(Impatient::new(body, MAX_STALL)),
    }
}

struct Impatient {
    body: Body,
    patience: Duration,
    stalled: Pin<Box<Sleep>>,
}

impl Impatient {
    fn new(body: Body, patience: Duration) -> Self {
        Self { body, patience, stalled: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl hyper::body::Body for Impatient {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let until = tokio::time::Instant::now() + self.patience;
            self.stalled.as_mut().reset(until);
            return Poll::Ready(frame);
        }
        ready!(self.stalled.as_mut().poll(context));
        let stalled = std::io::Error::new(std::io::ErrorKind::TimedOut, "the body stalled");
        Poll::Ready(Some(Err(axum::Error::new(stalled))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_so_many_watches_until_one_ends() {
        let watches = Watches::default();
        let mut seats: Vec<_> = (0..MAX_WATCHES).filter_map(|_| watches.take("ann")).collect();
        assert_eq!(seats.len(), MAX_WATCHES);
        assert!(watches.take("ann").is_none());
        assert!(watches.take("bob").is_some());
        seats.pop();
        assert!(watches.take("ann").is_some());
        drop(seats);
        assert!(watches.0.lock().unwrap().is_empty(), "nobody is remembered for nothing");
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_given_up_and_one_that_flows_is_not() {
        let pieces = futures_util::stream::iter(["one ", "two"].map(Ok::<_, std::io::Error>));
        let flowing = impatient(Body::from_stream(pieces));
        assert_eq!(axum::body::to_bytes(flowing, 100).await.unwrap(), "one two");
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let stalled = Body::new(Impatient::new(Body::from_stream(never), Duration::from_millis(1)));
        assert!(axum::body::to_bytes(stalled, 100).await.is_err());
    }

    #[test]
    fn a_client_over_its_limit_is_refused_until_time_passes_and_others_are_not() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let one = ClientKey::Node(NodeName::new("a"));
        let admitted = (0..2000).filter(|_| limiter.admit(one.clone(), start)).count();
        assert_eq!(admitted, 1000);
        assert!(limiter.admit(ClientKey::Node(NodeName::new("b")), start));
        assert!(limiter.admit(one, start + Duration::from_secs(1)));
    }
}

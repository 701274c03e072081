//! How much one client may ask for: a token bucket for each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kgit_protocol::ids::NodeName;

/// A `kubectl` that fills its discovery cache sends some 50 requests at once, several people
/// behind one address a few hundred.
const BURST: f64 = 1000.0;
/// More than any tool sends for long; an agent sends about one.
const REQUESTS_PER_SECOND: f64 = 300.0;
/// Clients that are remembered. Beyond it those that were quiet long enough to be full again
/// are forgotten, which changes nothing for them.
const MAX_CLIENTS: usize = 8192;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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

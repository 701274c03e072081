//! How long a node counts as ready after it was last heard of.

use std::time::Duration;

use kgit_protocol::time::Timestamp;

use crate::domain::node::Node;

/// Kubernetes' node-monitor-grace-period.
const SHORTEST: u32 = 40;

/// A heartbeat goes every quarter of a lease, so with this many nodes a second's worth of
/// heartbeats is 40, however many nodes there are beyond 400.
const NODES_PER_SECOND: usize = 10;

/// A lease's length, in seconds, in a fleet of this many nodes.
pub fn lease_seconds(nodes: usize) -> u32 {
    u32::try_from(nodes / NODES_PER_SECOND).unwrap_or(u32::MAX).max(SHORTEST)
}

/// When a node's lease runs out. After the master's own start everybody gets a second grace: it
/// was the master that was away.
pub fn runs_out(
    node: &Node,
    heard: Option<Timestamp>,
    started: Timestamp,
    nodes: usize,
) -> Timestamp {
    let lease = Duration::from_secs(lease_seconds(nodes).into());
    let grace = started.after(lease * 2);
    let since = heard.unwrap_or(node.joined).after(lease);
    if heard.is_some_and(|heard| heard >= started) { since } else { since.max(grace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_grow_with_the_fleet() {
        assert_eq!([1, 400, 1000].map(lease_seconds), [40, 40, 100]);
    }
}

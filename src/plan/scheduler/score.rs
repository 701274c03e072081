//! How well a node that can take a pod would take it. Higher is better.

use crate::domain::record::{Node, Pod};
use crate::domain::world::World;
use crate::plan::scheduler::filter::Load;

/// Kubernetes' weights: the default soft spread counts twice the resource fit.
const SPREAD_WEIGHT: i64 = 2;
const FIT_WEIGHT: i64 = 1;
const FULL: i64 = 100;

pub fn score(world: &World, pod: &Pod, node: &Node, load: &Load) -> i64 {
    SPREAD_WEIGHT * spread(world, pod, node) + FIT_WEIGHT * least_allocated(node, load)
}

/// Fewer pods of the same owner on the node are better.
fn spread(world: &World, pod: &Pod, node: &Node) -> i64 {
    let workload = world.workload_of(pod);
    let siblings = world
        .pods_on(&node.name)
        .filter(|other| other.is_active() && world.workload_of(other) == workload)
        .count();
    FULL - i64::try_from(siblings).unwrap_or(FULL).min(FULL)
}

/// Σ (capacity − requested) · 100 / capacity over cpu and memory, halved.
fn least_allocated(node: &Node, load: &Load) -> i64 {
    let free = |capacity: u64, requested: u64| match capacity {
        0 => 0,
        capacity => i64::try_from(capacity.saturating_sub(requested) * 100 / capacity).unwrap_or(0),
    };
    let capacity = &node.observed.capacity;
    let cpu = free(capacity.cpu_millis, load.cpu_millis);
    let memory = free(capacity.memory_bytes / 1024, load.memory_bytes / 1024);
    (cpu + memory) / 2
}

//! How well nodes would take a pod: the single scores, each from 0 to 100, and what each weighs.
//! Sources: upstream's `scheduler/framework/plugins`, under the names given.

use kgit_protocol::observation::Capacity;

use crate::domain::load::{Amounts, Load};

/// Upstream's default weights (`apis/config/v1/default_plugins.go`). Image locality has none
/// here: nodes do not tell their images.
pub const TAINTS_WEIGHT: i64 = 3;
pub const PREFERRED_NODES_WEIGHT: i64 = 2;
pub const SPREAD_WEIGHT: i64 = 2;
pub const PODS_WEIGHT: i64 = 2;

const FULL: i64 = 100;
/// Parts of one in which shares are counted.
const PARTS: u64 = 1 << 20;

/// What depends on the node and its own load alone: noderesources' fit and balance, each with
/// weight 1. `is_best_effort` pods have nothing to balance.
pub fn room(capacity: &Capacity, load: &Load, is_best_effort: bool) -> i64 {
    let balance = if is_best_effort { 0 } else { balanced(capacity, load.asked) };
    least_allocated(capacity, load.assumed) + balance
}

/// Σ (capacity − requested) · 100 / capacity over cpu and memory, halved.
fn least_allocated(capacity: &Capacity, assumed: Amounts) -> i64 {
    let free = |capacity: u64, requested: u64| match capacity {
        0 => 0,
        capacity => capacity.saturating_sub(requested) * 100 / capacity,
    };
    let cpu = free(capacity.cpu_millis, assumed.cpu_millis);
    let memory = free(capacity.memory_bytes / 1024, assumed.memory_bytes / 1024);
    i64::try_from(u64::midpoint(cpu, memory)).unwrap_or(FULL)
}

/// 100 where cpu and memory are used up evenly; less by half the difference of their shares.
fn balanced(capacity: &Capacity, asked: Amounts) -> i64 {
    let share = |capacity: u64, asked: u64| match capacity {
        0 => PARTS,
        capacity => (asked * PARTS / capacity).min(PARTS),
    };
    let cpu = share(capacity.cpu_millis, asked.cpu_millis);
    let memory = share(capacity.memory_bytes / 1024, asked.memory_bytes / 1024);
    let even = PARTS - cpu.abs_diff(memory) / 2;
    i64::try_from(even * 100 / PARTS).unwrap_or(FULL)
}

/// The range of one raw score over the nodes that can take the pod.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub min: i64,
    pub max: i64,
}

impl Range {
    pub fn of(scores: impl Iterator<Item = i64>) -> Self {
        let empty = Self { min: i64::MAX, max: i64::MIN };
        scores.fold(empty, |range, score| Self {
            min: range.min.min(score),
            max: range.max.max(score),
        })
    }

    /// Fewer is better (tainttoleration).
    pub fn reversed(self, count: i64) -> i64 {
        if self.max == 0 { FULL } else { FULL - FULL * count / self.max }
    }

    /// More is better (nodeaffinity).
    pub fn share(self, sum: i64) -> i64 {
        if self.max == 0 { 0 } else { FULL * sum / self.max }
    }

    /// More is better, counted from the least (interpodaffinity).
    pub fn between(self, sum: i64) -> i64 {
        if self.max == self.min { 0 } else { FULL * (sum - self.min) / (self.max - self.min) }
    }

    /// Fewer is better, measured by the most (podtopologyspread).
    pub fn spread(self, crowd: i64) -> i64 {
        if self.max == 0 { FULL } else { FULL * (self.max + self.min - crowd) / self.max }
    }
}

/// Parts of one in which [`domain_weight`] and [`crowd`] count.
const FRACTION: u32 = 16;
/// ln 2.
const LN_2: u64 = 45_426;

/// ln(domains + 2): what a pod in a domain weighs, so that a topology of few domains does not
/// count for less than one of many. Without floating point, so that every machine gives the same.
pub fn domain_weight(domains: usize) -> i64 {
    let number = (domains as u64 + 2).min(1 << 31);
    let whole = number.ilog2();
    let mut rest = (number << 31) >> whole;
    let mut log = u64::from(whole);
    for _ in 0..FRACTION {
        rest = (rest * rest) >> 31;
        let above = rest >> 32;
        log = (log << 1) | above;
        rest >>= above;
    }
    i64::try_from((log * LN_2) >> FRACTION).unwrap_or(i64::MAX)
}

/// How crowded a node's domain is with pods like this one, by one constraint.
pub fn crowd(pods: i64, weight: i64, max_skew: u32) -> i64 {
    pods * weight + (i64::from(max_skew.saturating_sub(1)) << FRACTION)
}

/// To a whole number, rounded.
pub fn rounded(crowd: i64) -> i64 {
    (crowd + (1 << (FRACTION - 1))) >> FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cpu_millis: u64, memory_bytes: u64) -> Capacity {
        Capacity { cpu_millis, memory_bytes, pods: 110, disk_bytes: 0 }
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let free = |cpu_millis, memory: u64| {
            let memory_bytes = memory << 20;
            least_allocated(&node(1000, 1000 << 20), Amounts { cpu_millis, memory_bytes })
        };
        assert_eq!(free(0, 0), 100);
        assert_eq!(free(500, 0), 75);
        assert_eq!(free(1000, 500), 25);
        assert_eq!(free(2000, 2000), 0);
        assert_eq!(least_allocated(&node(0, 0), Amounts::default()), 0);
    }

    #[test]
    fn lopsided_use_scores_lower() {
        let even = |cpu_millis, memory: u64| {
            let memory_bytes = memory << 20;
            balanced(&node(1000, 1000 << 20), Amounts { cpu_millis, memory_bytes })
        };
        assert_eq!([even(500, 500), even(0, 1000), even(250, 750)], [100, 50, 75]);
    }

    #[test]
    fn scores_are_measured_by_the_nodes_that_can_take_the_pod() {
        let range = Range { min: 1, max: 3 };
        assert_eq!([range.reversed(0), range.reversed(3)], [100, 0]);
        assert_eq!([range.share(0), range.share(3)], [0, 100]);
        assert_eq!([range.between(1), range.between(2), range.between(3)], [0, 50, 100]);
        assert_eq!([range.spread(1), range.spread(3)], [100, 33]);
        let none = Range { min: 0, max: 0 };
        assert_eq!(
            [none.reversed(0), none.share(0), none.between(0), none.spread(0)],
            [100, 0, 0, 100]
        );
    }

    #[test]
    fn domains_weigh_the_logarithm_of_their_number() {
        for domains in [0usize, 1, 2, 3, 10, 100, 5000] {
            let exact = ((domains + 2) as f64).ln();
            let found = domain_weight(domains) as f64 / 65536.0;
            assert!((exact - found).abs() < 0.001, "{domains}: {found} for {exact}");
        }
        assert_eq!(rounded(crowd(2, domain_weight(3), 3)), 5);
    }
}

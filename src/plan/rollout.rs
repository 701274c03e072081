//! The arithmetic of a rolling update: pure numbers in, pure numbers out.
//!
//! Source: kubernetes-rules "Deployment and ReplicaSet"; upstream's
//! `deployment/{rolling,recreate,sync}.go` and `deployment/util/deployment_util.go`.

use crate::domain::resource::DeploymentSpec;

/// One revision, as far as the arithmetic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it is scaled to.
    pub replicas: u32,
    pub available: u32,
    /// [`crate::domain::record::ReplicaSet::max_replicas`].
    pub max_replicas: u32,
}

/// How many pods a rollout may have too many and too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub surge: u32,
    pub unavailable: u32,
}

impl Bounds {
    /// Where all pods are replaced at once, none has to stay.
    pub fn of(spec: &DeploymentSpec) -> Self {
        let (surge, unavailable) = spec.bounds().unwrap_or((0, spec.replicas));
        Self { surge, unavailable }
    }
}

/// What the new revision is to be scaled to.
pub fn new_size(wanted: u32, bounds: Bounds, new: Set, old: &[Set]) -> u32 {
    if new.replicas >= wanted {
        return wanted;
    }
    let total = new.replicas + old.iter().map(|set| set.replicas).sum::<u32>();
    let room = wanted.saturating_add(bounds.surge).saturating_sub(total);
    new.replicas + room.min(wanted - new.replicas)
}

/// What the old revisions, oldest first, are to be scaled to: first away with those that are not
/// available, then with as many as the available ones allow.
pub fn old_sizes(wanted: u32, bounds: Bounds, new: Set, old: &[Set]) -> Vec<u32> {
    let mut sizes: Vec<u32> = old.iter().map(|set| set.replicas).collect();
    let total: i64 =
        i64::from(new.replicas) + sizes.iter().map(|size| i64::from(*size)).sum::<i64>();
    let min_available = i64::from(wanted.saturating_sub(bounds.unavailable));
    let new_unavailable = i64::from(new.replicas) - i64::from(new.available);
    let mut may_go = total - min_available - new_unavailable;
    if may_go <= 0 {
        return sizes;
    }
    for (size, set) in sizes.iter_mut().zip(old) {
        let unhealthy = i64::from(set.replicas.saturating_sub(set.available));
        let gone = unhealthy.min(may_go);
        *size -= u32::try_from(gone).unwrap_or(0);
        may_go -= gone;
    }
    let available: i64 =
        i64::from(new.available) + old.iter().map(|set| i64::from(set.available)).sum::<i64>();
    let mut may_go = available - min_available;
    for size in &mut sizes {
        let gone = i64::from(*size).min(may_go.max(0));
        *size -= u32::try_from(gone).unwrap_or(0);
        may_go -= gone;
    }
    sizes
}

/// Shares out a change of scale in mid-rollout over all revisions that have pods, in proportion
/// to their size. `sets` are in the order in which leftovers are given: largest first, newest
/// first among equals when growing, oldest first when shrinking.
pub fn proportional(wanted: u32, surge: u32, sets: &[Set]) -> Vec<u32> {
    let allowed = if wanted > 0 { i64::from(wanted) + i64::from(surge) } else { 0 };
    let total: i64 = sets.iter().map(|set| i64::from(set.replicas)).sum();
    let change = allowed - total;
    let mut shared = 0;
    let mut sizes: Vec<i64> = Vec::with_capacity(sets.len());
    for set in sets {
        let part = match change {
            0 => 0,
            _ => share(wanted, surge, *set, change, shared, total),
        };
        shared += part;
        sizes.push(i64::from(set.replicas) + part);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + change - shared).max(0);
    }
    sizes.into_iter().map(|size| u32::try_from(size.max(0)).unwrap_or(0)).collect()
}

fn share(wanted: u32, surge: u32, set: Set, change: i64, shared: i64, total: i64) -> i64 {
    if set.replicas == 0 {
        return 0;
    }
    let left = change - shared;
    let fraction = if wanted == 0 {
        -i64::from(set.replicas)
    } else {
        let before = if set.max_replicas > 0 { i64::from(set.max_replicas) } else { total };
        let now = i64::from(wanted) + i64::from(surge);
        rounded(i64::from(set.replicas) * now, before) - i64::from(set.replicas)
    };
    if change > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// Half away from zero, as Go's `math.Round`; both are positive here.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    let denominator = denominator.max(1);
    (2 * numerator + denominator) / (2 * denominator)
}

#[cfg(test)]
mod tests;

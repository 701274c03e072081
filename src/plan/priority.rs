//! Which pods come first: what a pod's PriorityClass says, and the order in which workloads are
//! planned.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use kgit_protocol::time::Timestamp;

use crate::domain::autoscaling::{BUILT_IN_PRIORITIES, PriorityClassSpec};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::resource::Spec;
use crate::domain::template::Placement;
use crate::domain::world::World;

/// A pod's priority, and whether it only waits for room. Fixed when the pod is made. Source:
/// upstream's `plugin/pkg/admission/priority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    pub value: i32,
    pub never_preempts: bool,
}

pub fn of(world: &World, placement: &Placement) -> Priority {
    let named = match placement.priority_class.as_str() {
        "" => default_class(world).map(|(_, class)| priority(class)),
        name => built_in(name).or_else(|| class(world, name).map(priority)),
    };
    let named = named.unwrap_or_default();
    Priority { never_preempts: placement.never_preempts.unwrap_or(named.never_preempts), ..named }
}

fn priority(class: &PriorityClassSpec) -> Priority {
    Priority { value: class.value, never_preempts: class.never_preempts }
}

fn built_in(name: &str) -> Option<Priority> {
    let (_, value) = BUILT_IN_PRIORITIES.iter().find(|(known, _)| *known == name)?;
    Some(Priority { value: *value, never_preempts: false })
}

fn class<'w>(world: &'w World, name: &str) -> Option<&'w PriorityClassSpec> {
    spec_of(world, &ObjectKey::new(Kind::PriorityClass, "", name))
}

fn spec_of<'w>(world: &'w World, key: &ObjectKey) -> Option<&'w PriorityClassSpec> {
    match &world.objects.get(key)?.value.resource.spec {
        Spec::PriorityClass(spec) => Some(spec),
        _ => None,
    }
}

/// Of several that say they are the default, the lowest, as upstream does.
fn default_class(world: &World) -> Option<(&ObjectKey, &PriorityClassSpec)> {
    let all = world.objects_of(Kind::PriorityClass).map(|row| &row.value.resource.key);
    let classes = all.filter_map(|key| Some((key, spec_of(world, key)?)));
    classes.filter(|(_, class)| class.global_default).min_by_key(|(key, it)| (it.value, *key))
}

/// Workloads that wait for places and are ranked one by one; beyond, they go by name. A tick looks
/// for each of them whenever it goes on to the next object.
const MAX_RANKED: usize = 256;

/// Which workloads are planned before the others, and which after: room goes to those first that
/// have a right to it.
#[derive(Debug, Default)]
pub struct Ranks {
    ahead: Vec<ObjectKey>,
    behind: Vec<ObjectKey>,
}

impl Ranks {
    pub fn of(world: &World) -> Self {
        let default = default_class(world).map_or(0, |(_, class)| class.value);
        let mut ranks: BTreeMap<ObjectKey, Rank> = BTreeMap::new();
        for (value, class) in classes(world) {
            for workload in world.referrers(&class).filter(|key| key.kind.is_workload()) {
                ranks.insert(workload.clone(), (Reverse(value), Timestamp(i64::MAX)));
            }
        }
        let mut waiting: Vec<&Pod> = world.unplaced().map(|row| &*row.value).collect();
        waiting.sort_by_key(|pod| (Reverse(pod.priority), pod.created, &pod.key));
        for pod in waiting.into_iter().take(MAX_RANKED) {
            let rank = (Reverse(pod.priority), pod.created);
            let known = ranks.entry(world.workload_of(pod)).or_insert(rank);
            *known = rank.min(*known);
        }
        let mut all: Vec<(Rank, ObjectKey)> =
            ranks.into_iter().map(|(key, rank)| (rank, key)).collect();
        all.sort();
        let (ahead, behind): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(rank, _)| *rank < (Reverse(default), Timestamp(i64::MAX)));
        let keys = |all: Vec<(Rank, ObjectKey)>| all.into_iter().map(|(_, key)| key).collect();
        Self { ahead: keys(ahead), behind: keys(behind) }
    }

    /// Takes the next object out of a queue. What others stand on comes before all workloads.
    pub fn next(&self, queue: &mut BTreeSet<ObjectKey>) -> Option<ObjectKey> {
        let first = queue.first()?;
        if !first.kind.is_workload() || (self.ahead.is_empty() && self.behind.is_empty()) {
            return queue.pop_first();
        }
        let ahead = self.ahead.iter().find(|key| queue.contains(*key)).cloned();
        let next = ahead
            .or_else(|| queue.iter().find(|key| self.is_ordinary(key)).cloned())
            .or_else(|| self.behind.iter().find(|key| queue.contains(*key)).cloned())
            .or_else(|| queue.first().cloned())?;
        queue.take(&next)
    }

    fn is_ordinary(&self, key: &ObjectKey) -> bool {
        key.kind.is_workload() && !self.behind.contains(key)
    }
}

/// By priority, then by how long it waits.
type Rank = (Reverse<i32>, Timestamp);

/// All classes that are there, with what they are worth.
fn classes(world: &World) -> Vec<(i32, ObjectKey)> {
    let written = world.objects_of(Kind::PriorityClass).filter_map(|row| {
        let key = &row.value.resource.key;
        Some((spec_of(world, key)?.value, key.clone()))
    });
    let built_in = BUILT_IN_PRIORITIES
        .map(|(name, value)| (value, ObjectKey::new(Kind::PriorityClass, "", name)));
    written.chain(built_in).collect()
}

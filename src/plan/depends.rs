//! Waiting for others: `kgit.dev/depends-on` holds the first pods of a revision back until what
//! it names is healthy. Pods that run already are never stopped by it.

use std::time::Duration;

use kgit_protocol::time::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::plan::{WaitKind, Waiting};
use crate::domain::record::Pod;
use crate::domain::resource::{ReferenceKind, Resource};
use crate::domain::world::World;
use crate::plan::draft::Draft;
use crate::plan::health::{Health, health, pod_health};
use crate::plan::{budget, services};

/// True, and said, while something that the object depends on is not healthy.
pub fn held(draft: &mut Draft<'_>, key: &ObjectKey, resource: &Resource) -> bool {
    let mut held = false;
    let needed =
        resource.references.iter().filter(|reference| reference.kind == ReferenceKind::DependsOn);
    for reference in needed {
        let found = health(&draft.world, &reference.to);
        if matches!(found, Health::Healthy | Health::Suspended) {
            continue;
        }
        held = true;
        let deadline = deadline(&draft.world, key, &reference.to);
        let failed = found == Health::Degraded || deadline <= draft.now;
        if !failed {
            draft.wake(key, deadline);
        }
        draft.wait(Waiting {
            object: key.clone(),
            for_what: format!(
                "{} to be healthy ({}); it is {found:?}",
                reference.to, reference.place
            ),
            kind: if failed { WaitKind::Blocked } else { WaitKind::Progress },
            deadline: (!failed).then_some(deadline),
            consequence: "it is not started".to_owned(),
            unplaced: None,
        });
    }
    held
}

/// After this long the wait is not expected to end by itself; counted from when a commit last
/// changed either of the two. As long as a Deployment may go without progress by default.
const PATIENCE: Duration = Duration::from_secs(600);

fn deadline(world: &World, key: &ObjectKey, on: &ObjectKey) -> Timestamp {
    let objects = [key, on].map(|key| world.objects.get(key));
    let changed = objects.iter().flatten().map(|applied| applied.changed.max(applied.created));
    changed.max().unwrap_or_default().after(PATIENCE)
}

/// Who is concerned by a change of a pod, besides its workload: the services that it is behind,
/// and, of a pod with a manifest of its own, who waits for its health. Any other workload's
/// health is in a record of its own, and it is that record's change that tells.
pub fn woken(world: &World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<ObjectKey> {
    let mut woken = services::woken(world, old, new);
    woken.extend(budget::woken(world, old, new));
    // What a drain waits for may have come true, and what the filling of a node does.
    woken.extend(world.moving_nodes().cloned());
    if old.is_some_and(|old| !old.is_over()) && new.is_some_and(Pod::is_over) {
        // Room, or a volume, became free.
        woken.extend(world.unplaced().map(|pod| world.workload_of(pod)));
    }
    let of = |pod: Option<&Pod>| pod.map_or(Health::Progressing, pod_health);
    if let Some(pod) = new.or(old)
        && pod.owner == pod.key
        && of(old) != of(new)
    {
        woken.extend(world.referrers(&pod.key).cloned());
    }
    woken
}

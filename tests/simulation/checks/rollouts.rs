//! Rollouts of Deployments stay within their bounds, and finished jobs at rest. By the published
//! rules, and written here once more so that the planner's arithmetic is not its own witness.

use std::collections::BTreeSet;

use kgit::domain::key::ObjectKey;
use kgit::domain::record::Pod;
use kgit::domain::resource::{DeploymentSpec, IntOrPercent, Spec, Strategy};

use crate::checks::{Checked, Turned, is_reachable, makes_way, pods_of, was_told_to_end};

/// What a rolling update may have too many and too few of.
fn bounds(spec: &DeploymentSpec, replicas: u32) -> Option<(u32, u32)> {
    let Strategy::RollingUpdate { max_surge, max_unavailable } = spec.strategy else { return None };
    let of = |value: IntOrPercent, up: u32| match value {
        IntOrPercent::Int(number) => number,
        IntOrPercent::Percent(percent) => (replicas * percent + up) / 100,
    };
    let (surge, unavailable) = (of(max_surge, 99), of(max_unavailable, 0));
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Some((surge, unavailable.min(replicas)))
}

/// Deployments as they are now, that were there before with as many replicas; and how many.
fn steady<'a>(
    turned: &Turned<'a>,
) -> impl Iterator<Item = (&'a ObjectKey, &'a DeploymentSpec, u32)> + use<'a> {
    let (before, after) = (turned.before, turned.after);
    after.objects.iter().filter_map(move |(key, row)| {
        let Spec::Deployment(spec) = &row.value.resource.spec else { return None };
        let old = &before.objects.get(key)?.value.resource;
        let Spec::Deployment(old) = &old.spec else { return None };
        let replicas = after.replicas_of(key, spec.replicas);
        let same = before.replicas_of(key, old.replicas) == replicas;
        (same && old.strategy == spec.strategy).then_some((key, spec, replicas))
    })
}

/// Of the pods that this turn told to end, so many were available, and so many are left.
pub(super) fn availability(turned: &Turned<'_>) -> Checked {
    for (key, spec, replicas) in steady(turned) {
        let Some((surge, unavailable)) = bounds(spec, replicas) else { continue };
        let before = pods_of(turned.before, key).len();
        if spec.paused && before > (replicas + surge) as usize {
            // One that is paused is only scaled, each revision by its share: upstream's `scale`.
            continue;
        }
        let available = |pod: &Pod| {
            pod.is_available(spec.min_ready_seconds, turned.now) && is_reachable(turned.after, pod)
        };
        let after = pods_of(turned.after, key);
        let told: Vec<&&Pod> = after.iter().filter(|pod| was_told_to_end(turned, pod)).collect();
        if told.is_empty() || told.iter().any(|pod| makes_way(turned, pod)) {
            continue;
        }
        let victims = told.iter().filter(|pod| {
            let alive = Pod { deletion: None, ..(***pod).clone() };
            available(&alive)
        });
        let victims = victims.count();
        let left = after.iter().filter(|pod| available(pod)).count();
        let least = replicas.saturating_sub(unavailable) as usize;
        if victims > 0 && left < least {
            return Err(format!(
                "{key}: {victims} available pods were told to end, which leaves {left} of at \
                 least {least}"
            ));
        }
    }
    Ok(())
}

/// A turn that makes pods leaves no more of them than the surge allows.
pub(super) fn surge(turned: &Turned<'_>) -> Checked {
    for (key, spec, replicas) in steady(turned) {
        let surge = bounds(spec, replicas).map_or(0, |(surge, _)| surge);
        let after = pods_of(turned.after, key);
        let made = after.iter().any(|pod| !turned.before.pods.contains_key(&pod.key));
        let active = after.iter().filter(|pod| pod.is_active()).count();
        let grown = turned.after.sets_of(key).any(|set| {
            let before = turned.before.replica_sets.get(&set.key);
            before.is_none_or(|before| before.replicas < set.replicas)
        });
        // A pod that is lost is replaced whatever else there is: bounds that became narrower take
        // no revision back that was scaled within the wider ones.
        let scaled_to: u32 = turned.before.sets_of(key).map(|set| set.replicas).sum();
        let most = if grown { replicas + surge } else { scaled_to.max(replicas + surge) } as usize;
        if made && active > most {
            return Err(format!("{key}: {active} pods, of at most {most}"));
        }
        let old_and_new: BTreeSet<&ObjectKey> = after.iter().map(|pod| &pod.owner).collect();
        if spec.strategy == Strategy::Recreate && made && grown && old_and_new.len() > 1 {
            return Err(format!("{key}: a new pod beside old ones (Recreate)"));
        }
    }
    Ok(())
}

/// A turn that makes pods of a set with a manifest of its own leaves no more than are wanted.
pub(super) fn sets_of_their_own(turned: &Turned<'_>) -> Checked {
    for (key, row) in &turned.after.objects {
        let Spec::ReplicaSet(spec) = &row.value.resource.spec else { continue };
        let pods = pods_of(turned.after, key);
        let made = pods.iter().any(|pod| !turned.before.pods.contains_key(&pod.key));
        let active = pods.iter().filter(|pod| pod.is_active()).count();
        let wanted = turned.after.replicas_of(key, spec.replicas) as usize;
        if made && active > wanted {
            return Err(format!("{key}: {active} pods, of {wanted}"));
        }
    }
    Ok(())
}

/// A finished job makes no pods, unless its template changed.
pub(super) fn finished_jobs_rest(turned: &Turned<'_>) -> Checked {
    for (key, job) in &turned.before.jobs {
        let Some(row) = turned.after.objects.get(key) else { continue };
        let Spec::Job(spec) = &row.value.resource.spec else { continue };
        // A hook's Job is another one for each commit.
        if turned.before.objects.get(key).is_none_or(|old| old.uid != row.uid) {
            continue;
        }
        if job.finished.is_none() || job.template_digest != Some(spec.template.digest()) {
            continue;
        }
        let new = turned.after.pods_of(key).find(|pod| !turned.before.pods.contains_key(&pod.key));
        if let Some(pod) = new {
            return Err(format!("{} was made for a finished job", pod.key));
        }
    }
    Ok(())
}

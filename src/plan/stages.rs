//! Waves and phases: a commit's changes come about stage by stage, each once what the earlier ones
//! changed is healthy. Nothing of this happens where no manifest names a wave or a hook.
//!
//! Departs from Argo CD in one thing: it is what this sync changed that has to be healthy, not
//! every object of the earlier waves. An application that is down for reasons of its own does not
//! hold up the others in the same repo (docs/reference/waves.md).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::time::Timestamp;

use crate::diff::change;
use crate::domain::desired::Desired;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{WaitKind, Waiting};
use crate::domain::record::Meta;
use crate::domain::selector::Labels;
use crate::domain::stage::{self, HookState, Phase, Stage, Sync};
use crate::domain::words::counted;
use crate::domain::world::{Effect, World};
use crate::plan::draft::Draft;
use crate::plan::health::{Health, detail, health};
use crate::plan::{claims, hooks, objects};

/// What belongs to one stage.
#[derive(Debug, Default)]
struct Work {
    changes: BTreeSet<ObjectKey>,
    hooks: Vec<ObjectKey>,
    touched: BTreeSet<ObjectKey>,
}

/// Why the stages behind one do not come yet.
#[derive(Debug)]
pub struct Obstacle {
    pub what: String,
    /// It will not go away by itself.
    pub failed: bool,
}

/// Whether changes come in stages: some manifest names one, or a commit is on its way through.
pub fn in_use(draft: &Draft<'_>) -> bool {
    !draft.desired.staged.is_empty() || open(draft).is_some()
}

fn open<'a>(draft: &'a Draft<'_>) -> Option<&'a Sync> {
    draft.world.meta.sync.as_ref().filter(|sync| sync.open)
}

/// The manifests whose change waits for something; they are looked at again in every tick.
pub fn pending(draft: &Draft<'_>) -> BTreeSet<ObjectKey> {
    // As long as the source was not read, what it says is not known.
    if draft.desired.commit.id.is_empty() {
        return BTreeSet::new();
    }
    open(draft).map(|sync| sync.pending.clone()).unwrap_or_default()
}

pub fn is_hook(annotations: &Labels) -> bool {
    stage::hook(annotations).is_some()
}

/// Takes note of changes. A commit that brings the first of them, or that comes while an older one
/// is on its way, begins a new sync, with hooks of its own.
pub fn take_in(draft: &mut Draft<'_>, changed: BTreeSet<ObjectKey>, deletes: bool) {
    let commit = Arc::clone(&draft.desired.commit);
    // As long as the source was not read, no commit takes the place of the one on its way.
    if commit.id.is_empty() {
        return;
    }
    let before = draft.world.meta.sync.as_ref();
    let other = before.is_none_or(|sync| sync.commit.id != commit.id);
    if changed.is_empty() && !other {
        return;
    }
    let mut sync = match before {
        _ if other && (!changed.is_empty() || deletes || open(draft).is_some()) => {
            Sync::new(commit, before)
        }
        Some(sync) => sync.clone(),
        None => return,
    };
    sync.open |= !changed.is_empty();
    sync.pending.extend(changed);
    set(draft, sync);
}

pub fn set(draft: &mut Draft<'_>, sync: Sync) {
    if draft.world.meta.sync.as_ref() != Some(&sync) {
        let meta = Meta { sync: Some(sync), ..(*draft.world.meta).clone() };
        draft.note_effect(Effect::Meta(Arc::new(meta)));
    }
}

/// Of the deletions that may go ahead, those whose turn it is: the highest wave first, and a lower
/// one only when no pods are left of what went before. The rest stays pending.
pub fn in_reverse(draft: &mut Draft<'_>, go: Vec<ObjectKey>) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    if is_before_sync(draft) {
        return (Vec::new(), go);
    }
    let Some(highest) = go.iter().map(|key| wave_in_force(&draft.world, key)).max() else {
        return (go, Vec::new());
    };
    let waits = draft.world.pruned.iter().any(|(key, pruned)| {
        stage::wave(&pruned.applied.resource.annotations) > highest && has_pods(&draft.world, key)
    });
    if waits {
        return (Vec::new(), go);
    }
    go.into_iter().partition(|key| wave_in_force(&draft.world, key) == highest)
}

/// Whether a hook still has to run before anything changes, and that includes what goes.
fn is_before_sync(draft: &Draft<'_>) -> bool {
    let Some(sync) = open(draft) else { return false };
    let succeeded = |key| sync.hook(Phase::PreSync, key) == Some(HookState::Succeeded);
    hooks::of_phase(draft.desired, Phase::PreSync).any(|key| !succeeded(key))
}

fn wave_in_force(world: &World, key: &ObjectKey) -> i32 {
    world.objects.get(key).map_or(0, |applied| stage::wave(&applied.resource.annotations))
}

fn has_pods(world: &World, key: &ObjectKey) -> bool {
    let mut owners = world.pod_owners(key).into_iter();
    owners.any(|owner| world.pods_of(&owner).next().is_some())
}

/// Keeps deletions for later ticks.
pub fn postpone(draft: &mut Draft<'_>, later: Vec<ObjectKey>) {
    if later.is_empty() {
        return;
    }
    let sync = draft.world.meta.sync.clone();
    let sync = sync.unwrap_or_else(|| Sync::new(Arc::clone(&draft.desired.commit), None));
    let pending = sync.pending.into_iter().chain(later).collect();
    set(draft, Sync { open: true, pending, ..sync });
}

/// Goes as far as it can now; true if something was done that has to be planned on from.
pub fn go_on(draft: &mut Draft<'_>) -> bool {
    if draft.world.meta.suspended.is_some() || draft.desired.commit.id.is_empty() {
        return false;
    }
    let Some(mut sync) = open(draft).cloned() else { return false };
    let stages = work(draft, &mut sync);
    for (stage, work) in &stages {
        if !work.changes.is_empty() {
            objects::carry_out_all(draft, &work.changes);
            sync.pending.retain(|key| !work.changes.contains(key));
            sync.touched.extend(with_those_that_roll(&draft.world, &work.changes));
            set(draft, sync);
            return true;
        }
        if hooks::advance(draft, &mut sync, *stage, &work.hooks) {
            set(draft, sync);
            return true;
        }
        if let Some(obstacle) = obstacle(draft, &sync, &stages, *stage) {
            return stop_at(draft, sync, *stage, &obstacle);
        }
    }
    finish(draft, sync)
}

/// What the stages behind this one wait for. Behind the last one there is nothing whose turn
/// depends on health.
fn obstacle(
    draft: &Draft<'_>,
    sync: &Sync,
    stages: &BTreeMap<Stage, Work>,
    stage: Stage,
) -> Option<Obstacle> {
    let work = stages.get(&stage)?;
    let is_last = stages.range(stage..).nth(1).is_none();
    hooks::unfinished(draft, sync, stage, &work.hooks)
        .or_else(|| unhealthy(draft, work).filter(|_| !is_last))
        .or_else(|| deletions(sync, stages, stage))
}

/// Everything that is to be done and to be waited for, by stage.
fn work(draft: &Draft<'_>, sync: &mut Sync) -> BTreeMap<Stage, Work> {
    let (desired, world) = (draft.desired, &draft.world);
    let mut stages: BTreeMap<Stage, Work> = BTreeMap::new();
    sync.pending.retain(|key| change(desired, world, key).is_some());
    for key in &sync.pending {
        // One whose manifest is gone is not carried out here.
        if let Some(resource) = desired.objects.get(key) {
            let stage = stage::stage(&resource.annotations);
            stages.entry(stage).or_default().changes.insert(key.clone());
        }
    }
    // What is only kept for its data is no part of what is wanted, however it is.
    sync.touched.retain(|key| world.objects.get(key).is_some_and(|it| it.retained.is_none()));
    // One that changes once more in a later stage would wait for itself.
    for key in sync.touched.difference(&sync.pending) {
        let stage = stage::stage(&world.objects[key].resource.annotations);
        stages.entry(stage).or_default().touched.insert(key.clone());
    }
    for key in &desired.staged {
        for stage in stages_of_hook(desired, key) {
            stages.entry(stage).or_default().hooks.push(key.clone());
        }
    }
    stages
}

/// When a hook runs, unless the sync fails; never for what is none.
fn stages_of_hook(desired: &Desired, key: &ObjectKey) -> impl Iterator<Item = Stage> {
    let annotations = desired.objects.get(key).map(|resource| &resource.annotations);
    let wave = annotations.map_or(0, stage::wave);
    let phases = annotations.and_then(stage::hook).map(|hook| hook.phases).unwrap_or_default();
    let phases = phases.into_iter().filter(|phase| *phase != Phase::SyncFail);
    phases.map(move |phase| Stage { phase, wave })
}

/// A changed ConfigMap is healthy at once; the workloads that roll because of it are not.
fn with_those_that_roll(world: &World, changed: &BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
    let configs = changed.iter().filter(|key| matches!(key.kind, Kind::ConfigMap | Kind::Secret));
    let users = configs.flat_map(|key| world.referrers(key).cloned().collect::<Vec<_>>());
    let rolling = users.filter(|key| key.kind.is_workload());
    rolling.chain(changed.iter().cloned()).collect()
}

/// What of a stage is not healthy, by the health table.
fn unhealthy(draft: &Draft<'_>, work: &Work) -> Option<Obstacle> {
    let world = &draft.world;
    let found: Vec<(Health, &ObjectKey)> = work
        .touched
        .iter()
        .map(|key| (health(world, key), key))
        .filter(|(found, _)| !matches!(found, Health::Healthy | Health::Suspended))
        .filter(|(_, key)| holds_up(world, key))
        .collect();
    let (worst, key) = found.iter().max_by_key(|(health, _)| *health)?;
    let more = match found.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    let how = Some(detail(world, key)).filter(|how| !how.is_empty());
    let how = how.map(|how| format!(" ({how})")).unwrap_or_default();
    Some(Obstacle {
        what: format!("{key} to be healthy, which is {worst:?}{how}{more}"),
        failed: *worst == Health::Degraded,
    })
}

/// What can only come true by what may stand in a later wave holds up nothing: a claim that waits
/// for its first consumer, and an autoscaler, whose figures come from running pods.
fn holds_up(world: &World, key: &ObjectKey) -> bool {
    key.kind != Kind::HorizontalPodAutoscaler && !claims::waits_for_first_consumer(world, key)
}

/// PostSync comes when everything is in place, and that includes what had to go.
fn deletions(sync: &Sync, stages: &BTreeMap<Stage, Work>, stage: Stage) -> Option<Obstacle> {
    let next = stages.range(stage..).nth(1).map(|(next, _)| next.phase)?;
    let left =
        sync.pending.iter().filter(|key| !stages.values().any(|it| it.changes.contains(*key)));
    let first = left.clone().next().filter(|_| next == Phase::PostSync)?;
    let what = format!("{} to be deleted, {first} among them", counted(left.count(), "object"));
    Some(Obstacle { what, failed: false })
}

/// Notes what is waited for; a sync that fails has its `SyncFail` hooks run.
fn stop_at(draft: &mut Draft<'_>, mut sync: Sync, stage: Stage, obstacle: &Obstacle) -> bool {
    let since = match sync.waits_at {
        Some((at, since)) if at == stage => since,
        _ => draft.now,
    };
    sync.waits_at = Some((stage, since));
    sync.failed |= obstacle.failed || deadline(draft, since) <= draft.now;
    let advanced = sync.failed && hooks::advance_failed(draft, &mut sync);
    set(draft, sync);
    advanced
}

fn deadline(draft: &Draft<'_>, since: Timestamp) -> Timestamp {
    since.after(Duration::from_secs(draft.world.meta.settings.wave_deadline_seconds.into()))
}

fn finish(draft: &mut Draft<'_>, mut sync: Sync) -> bool {
    sync.waits_at = None;
    // Deletions of lower waves may still wait for pods of higher ones.
    sync.open = !sync.pending.is_empty();
    sync.touched.retain(|_| sync.open);
    set(draft, sync);
    false
}

/// The object whose waits tell what the stages wait for is looked at anew; true if that has to be
/// planned first.
pub fn begin_to_tell(draft: &mut Draft<'_>) -> bool {
    let Some(sync) = draft.world.meta.sync.clone() else { return false };
    let teller = open(draft).and_then(|sync| teller(draft, sync));
    let both = [sync.teller.clone(), teller.clone()];
    for key in both
        .iter()
        .flatten()
        .filter(|key| !draft.plan.waits.contains_key(*key))
        .cloned()
        .collect::<Vec<_>>()
    {
        draft.start_over(&key);
        draft.queue.insert(key);
    }
    set(draft, Sync { teller, ..sync });
    !draft.queue.is_empty()
}

/// What waits for its turn: a change or a hook that is begun, else one of the hooks to come, and
/// one of those waited for where nothing else is left.
fn teller(draft: &Draft<'_>, sync: &Sync) -> Option<ObjectKey> {
    let hook = sync.hooks.iter().rfind(|run| run.state != HookState::Succeeded);
    let begun = sync.pending.first().or(hook.map(|run| &run.hook));
    let Some((stage, _)) = sync.waits_at else {
        return begun.filter(|_| !sync.pending.is_empty()).cloned();
    };
    let later = || {
        let mut hooks = draft.desired.staged.iter();
        hooks.find(|key| stages_of_hook(draft.desired, key).any(|it| it.phase > stage.phase))
    };
    let waited_for = || {
        sync.touched.iter().find(|key| {
            let row = draft.world.objects.get(*key);
            row.is_some_and(|row| stage::stage(&row.resource.annotations) == stage)
        })
    };
    begun.or_else(later).or_else(waited_for).cloned()
}

/// Says what the stages wait for.
pub fn tell(draft: &mut Draft<'_>) {
    let Some(sync) = open(draft).cloned() else { return };
    let Some(teller) = sync.teller.clone() else { return };
    // What the brakes hold is told with them.
    if draft.world.meta.held.as_ref().is_some_and(|held| held.objects.contains(&teller)) {
        return;
    }
    let Some((stage, since)) = sync.waits_at else {
        return draft
            .wait(waiting(teller, "the pods of deleted objects of higher waves".to_owned()));
    };
    let mut again = sync.clone();
    let stages = work(draft, &mut again);
    let Some(obstacle) = obstacle(draft, &sync, &stages, stage) else { return };
    let due = deadline(draft, since);
    let failed = obstacle.failed || due <= draft.now;
    let behind = stages.range(stage..).nth(1).map(|(next, _)| format!("{next} and what follows"));
    draft.wait(Waiting {
        for_what: format!("{stage}: {}", obstacle.what.replace(&teller.to_string(), "itself")),
        kind: if failed { WaitKind::Blocked } else { WaitKind::Progress },
        deadline: (!failed).then_some(due),
        consequence: match behind {
            Some(behind) if failed => format!("{behind} stays as it is"),
            Some(behind) => format!("the sync counts as failed, and {behind} stays as it is"),
            None => "the sync counts as failed".to_owned(),
        },
        ..waiting(teller.clone(), String::new())
    });
    if !failed {
        draft.wake(&teller, due);
    }
}

fn waiting(object: ObjectKey, for_what: String) -> Waiting {
    Waiting {
        object,
        for_what,
        kind: WaitKind::Progress,
        deadline: None,
        // Each of them has a deadline of its own, and a wait that tells.
        consequence: "what is to be deleted after them stays".to_owned(),
        unplaced: None,
    }
}

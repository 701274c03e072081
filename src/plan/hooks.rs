//! Hooks: objects that are made anew for each sync. A Job or a Pod runs to its end; of any other
//! kind, it is put in force and has to be healthy.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::desired::Desired;
use crate::domain::key::ObjectKey;
use crate::domain::plan::Reason;
use crate::domain::resource::Resource;
use crate::domain::stage::{self, HookState, Phase, Stage, Sync};
use crate::plan::dissolve::{self, runs_to_an_end};
use crate::plan::draft::Draft;
use crate::plan::health::{Health, detail, health};
use crate::plan::stages::Obstacle;
use crate::plan::{objects, prune};

/// The hooks that have a part in a phase, whatever their wave.
pub fn of_phase(desired: &Desired, phase: Phase) -> impl Iterator<Item = &ObjectKey> {
    desired.staged.iter().filter(move |key| {
        let hook = desired.objects.get(*key).and_then(|it| stage::hook(&it.annotations));
        hook.is_some_and(|hook| hook.phases.contains(&phase))
    })
}

/// Takes the hooks of a stage as far as they can go now; true if something was done.
pub fn advance(draft: &mut Draft<'_>, sync: &mut Sync, stage: Stage, hooks: &[ObjectKey]) -> bool {
    let mut done = false;
    for key in hooks {
        done |= advance_one(draft, sync, stage.phase, key);
    }
    done
}

/// The same of the hooks for a sync that failed.
pub fn advance_failed(draft: &mut Draft<'_>, sync: &mut Sync) -> bool {
    let hooks: Vec<ObjectKey> = of_phase(draft.desired, Phase::SyncFail).cloned().collect();
    let wave = 0;
    advance(draft, sync, Stage { phase: Phase::SyncFail, wave }, &hooks)
}

fn resource(draft: &Draft<'_>, key: &ObjectKey) -> Option<Arc<Resource>> {
    draft.desired.objects.get(key).cloned()
}

fn advance_one(draft: &mut Draft<'_>, sync: &mut Sync, phase: Phase, key: &ObjectKey) -> bool {
    let Some(wanted) = resource(draft, key) else { return false };
    let how = detail(&draft.world, key);
    let next = match sync.hook(phase, key) {
        Some(HookState::Succeeded | HookState::Failed) => return false,
        Some(HookState::Running) => match ended(draft, key) {
            Some(state) => {
                clear(draft, &wanted, state);
                state
            }
            None => return false,
        },
        Some(HookState::Replacing) if is_there(draft, key) => return false,
        Some(HookState::Replacing) => make(draft, &wanted),
        None if !runs_to_an_end(key.kind) => make(draft, &wanted),
        None if is_under_way(draft, &wanted) => HookState::Waiting,
        Some(HookState::Waiting) if is_under_way(draft, &wanted) && !sync.failed => return false,
        None | Some(HookState::Waiting) => replace(draft, &wanted),
    };
    let ended = matches!(next, HookState::Succeeded | HookState::Failed);
    sync.set_hook(phase, key, next, if ended { how } else { String::new() });
    true
}

fn make(draft: &mut Draft<'_>, wanted: &Arc<Resource>) -> HookState {
    if runs_to_an_end(wanted.key.kind) {
        dissolve::forget_undo(draft, &wanted.key);
    }
    objects::carry_out_all(draft, &BTreeSet::from([wanted.key.clone()]));
    HookState::Running
}

/// A run for an older commit may be in the middle of something: where its manifest is the same, it
/// comes to its end first.
fn is_under_way(draft: &Draft<'_>, wanted: &Resource) -> bool {
    let old = draft.world.objects.get(&wanted.key);
    old.is_some_and(|old| old.resource.digest == wanted.digest)
        && ended(draft, &wanted.key).is_none()
}

/// The object, or pods of one whose manifest was gone for a while.
fn is_there(draft: &Draft<'_>, key: &ObjectKey) -> bool {
    draft.world.objects.contains_key(key) || draft.world.pods_of(key).next().is_some()
}

fn replace(draft: &mut Draft<'_>, wanted: &Arc<Resource>) -> HookState {
    if !is_there(draft, &wanted.key) {
        return make(draft, wanted);
    }
    if draft.world.pruned.contains_key(&wanted.key) {
        return HookState::Replacing;
    }
    let commit = objects::commit(draft, wanted, Vec::new());
    dissolve::begin(draft, &wanted.key, vec![commit]);
    HookState::Replacing
}

fn ended(draft: &Draft<'_>, key: &ObjectKey) -> Option<HookState> {
    match health(&draft.world, key) {
        Health::Healthy => Some(HookState::Succeeded),
        Health::Degraded => Some(HookState::Failed),
        Health::Suspended | Health::Progressing | Health::Missing | Health::Unknown => None,
    }
}

/// The deletion policies; what none of them names stays until the next sync.
fn clear(draft: &mut Draft<'_>, wanted: &Resource, state: HookState) {
    let Some(hook) = stage::hook(&wanted.annotations) else { return };
    let policy = match state {
        HookState::Succeeded if hook.delete_succeeded => "HookSucceeded",
        HookState::Failed if hook.delete_failed => "HookFailed",
        _ => return,
    };
    let reason = Reason::Limit { what: format!("its deletion policy {policy}") };
    let applied = draft.world.objects.get(&wanted.key).map(|row| Arc::clone(&row.value));
    if let Some(applied) = applied.filter(|_| wanted.key.kind.holds_data()) {
        prune::retain(draft, &wanted.key, &applied, vec![reason]);
    } else if runs_to_an_end(wanted.key.kind) {
        dissolve::begin(draft, &wanted.key, vec![reason]);
    } else {
        prune::delete_for(draft, &wanted.key, reason);
    }
}

/// The hook of a stage that has not ended, or that failed.
pub fn unfinished(
    draft: &Draft<'_>,
    sync: &Sync,
    stage: Stage,
    hooks: &[ObjectKey],
) -> Option<Obstacle> {
    let state = |key: &ObjectKey| sync.hook(stage.phase, key);
    let failed = hooks.iter().find(|key| state(key) == Some(HookState::Failed));
    let running = || hooks.iter().find(|key| state(key) != Some(HookState::Succeeded));
    let key = failed.or_else(running)?;
    let how = detail(&draft.world, key);
    Some(match state(key) {
        Some(HookState::Failed) => {
            let how = sync.end_of(stage.phase, key);
            Obstacle { what: format!("the hook {key} to succeed ({how})"), failed: true }
        }
        Some(HookState::Running) => {
            Obstacle { what: format!("the hook {key} to end ({how})"), failed: false }
        }
        _ => Obstacle { what: format!("the earlier run of the hook {key} to end"), failed: false },
    })
}

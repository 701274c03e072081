//! Manifests that disappeared: the brakes, what is retained, and the undo window.
//!
//! A manifest that is gone removes no data: claims and volumes are retained until somebody orders
//! them away, by a command or by a policy that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::Node;
use crate::domain::plan::{Reason, Said, Verb, WaitKind, Waiting};
use crate::domain::record::{
    Applied, ClaimPhase, DeploymentState, Held, Meta, Pod, Pruned, ReplicaSet, StatefulSetState,
    VolumePhase, VolumeState,
};
use crate::domain::resource::{ReclaimPolicy, Resource};
use crate::domain::world::{Effect, Record, Table, World, node_key};
use crate::plan::claims::volume_key;
use crate::plan::draft::{Draft, said};
use crate::plan::objects::commit;
use crate::plan::{attach, dissolve, doubt, pods, stages};

/// How long a pruned object can come back as itself: long enough to notice in the morning what
/// was pushed in the evening.
pub const UNDO_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes, retains or holds what the commit no longer mentions. Of the manifests, only those in
/// `dirty` were looked at.
pub fn plan_gone(
    draft: &mut Draft<'_>,
    gone: BTreeMap<ObjectKey, Arc<Applied>>,
    dirty: &BTreeSet<ObjectKey>,
) {
    if gone.is_empty() {
        return release(draft, dirty);
    }
    let (stay, go): (Vec<_>, Vec<_>) = gone
        .into_iter()
        .partition(|(key, applied)| key.kind.holds_data() || !applied.resource.may_be_pruned());
    if let Some(brake) = brake(draft, stay.len() + go.len()) {
        let keys: Vec<ObjectKey> = stay.iter().chain(&go).map(|(key, _)| key.clone()).collect();
        return hold(draft, keys, brake);
    }
    release(draft, dirty);
    for (key, applied) in stay {
        let reason = gone_reason(draft, &applied);
        retain(draft, &key, &applied, vec![reason]);
    }
    // What others stand on goes last.
    let mut left: Vec<ObjectKey> = go.into_iter().rev().map(|(key, _)| key).collect();
    loop {
        let (now, later) = stages::in_reverse(draft, left);
        for key in &now {
            delete(draft, key);
        }
        if now.is_empty() {
            return stages::postpone(draft, later);
        }
        left = later;
    }
}

/// Why nothing may be removed now.
struct Brake {
    reason: String,
    /// An approval lifts it.
    approvable: bool,
}

fn brake(draft: &Draft<'_>, deletions: usize) -> Option<Brake> {
    let meta = &draft.world.meta;
    let firm = |reason: String| Some(Brake { reason, approvable: false });
    if let Some(file) = draft.desired.unreadable.first() {
        return firm(format!("`{file}` can't be read, so what it defines is not known"));
    }
    if draft.desired.objects.is_empty() {
        return firm("the source yields no objects at all".to_owned());
    }
    if meta.restored {
        let reason = "the master was restored from a backup and knows less than its agents".into();
        return Some(Brake { reason, approvable: true });
    }
    if let Some(whom) = doubt::waits_for(&draft.world) {
        let reason = format!("the master was restored from a backup, and waits for {whom}");
        return Some(Brake { reason, approvable: true });
    }
    // These may always go, and what there is need not be counted for them.
    if deletions <= meta.settings.prune_budget_floor as usize {
        return None;
    }
    let written = draft.world.objects.values().filter(|applied| applied.owner.is_none()).count();
    let total = u32::try_from(written).unwrap_or(u32::MAX);
    let budget = meta.settings.prune_budget.of_rounding_down(total);
    let budget = budget.max(meta.settings.prune_budget_floor) as usize;
    (deletions > budget).then(|| Brake {
        reason: format!("{deletions} of {total} objects would go, and the budget is {budget}"),
        approvable: true,
    })
}

fn hold(draft: &mut Draft<'_>, keys: Vec<ObjectKey>, brake: Brake) {
    let plan = plan_name(&keys);
    let held = draft.world.meta.held.clone();
    let approved = held.as_ref().filter(|held| held.plan == plan).and_then(|h| h.approved.clone());
    if let (Some(by), true) = (approved, brake.approvable) {
        return carry_out_approved(draft, keys, by);
    }
    let since = held.filter(|held| held.plan == plan).map_or(draft.now, |held| held.since);
    let held = Held {
        plan,
        objects: keys,
        reason: brake.reason,
        approvable: brake.approvable,
        since,
        commit: Arc::clone(&draft.desired.commit),
        approved: None,
    };
    set_held(draft, Some(held));
}

fn carry_out_approved(draft: &mut Draft<'_>, keys: Vec<ObjectKey>, by: String) {
    set_held(draft, None);
    if draft.world.meta.restored {
        let meta = Meta { restored: false, ..(*draft.world.meta).clone() };
        draft.note_effect(Effect::Meta(Arc::new(meta)));
        // What their sets lack, every node was told to leave alone until now.
        draft.nodes.extend(draft.world.nodes.values().map(|node| node.name.clone()));
    }
    for key in keys.into_iter().rev() {
        let Some(applied) = draft.world.objects.get(&key).map(|row| Arc::clone(&row.value)) else {
            continue;
        };
        let before = draft.plan.steps.len();
        if key.kind.holds_data() || !applied.resource.may_be_pruned() {
            let reason = gone_reason(draft, &applied);
            retain(draft, &key, &applied, vec![reason]);
        } else {
            delete(draft, &key);
        }
        for step in &mut draft.plan.steps[before..] {
            step.reasons.push(Reason::Approved { by: by.clone() });
        }
    }
}

/// Says what is held with what its first object waits for, whenever that was found out anew.
pub fn tell_held(draft: &mut Draft<'_>) {
    let Some(held) = &draft.world.meta.held else { return };
    let (plan, reason, count) = (&held.plan, &held.reason, held.objects.len());
    let Some(first) = held.objects.first().filter(|key| draft.plan.waits.contains_key(key)) else {
        return;
    };
    let for_what = match held.approvable {
        true => format!("approval of plan {plan} (`kgit approve {plan}`): {reason}"),
        false => format!("the manifests of {count} objects: {reason}"),
    };
    draft.wait(Waiting {
        object: first.clone(),
        for_what,
        kind: WaitKind::Blocked,
        deadline: None,
        consequence: "nothing is removed".to_owned(),
        unplaced: None,
    });
}

/// Names a set of deletions by its content.
pub fn plan_name(keys: &[ObjectKey]) -> String {
    let text: Vec<String> = keys.iter().map(ToString::to_string).collect();
    Digest::of(text.join("\n").as_bytes()).short().to_owned()
}

/// The manifests are back, or the brakes no longer apply. A tick that did not look at what is
/// held (an observation set it off, say) knows nothing of that.
fn release(draft: &mut Draft<'_>, dirty: &BTreeSet<ObjectKey>) {
    let held = draft.world.meta.held.as_ref();
    if held.is_some_and(|held| held.objects.iter().all(|key| dirty.contains(key))) {
        set_held(draft, None);
    }
}

fn set_held(draft: &mut Draft<'_>, held: Option<Held>) {
    // Planned again, because it is its waits that tell what is held.
    let before = draft.world.meta.held.as_ref();
    let both = before.into_iter().chain(held.as_ref());
    let tellers: Vec<ObjectKey> = both.filter_map(|held| held.objects.first().cloned()).collect();
    for teller in tellers {
        draft.start_over(&teller);
        draft.queue.insert(teller);
    }
    if draft.world.meta.held != held {
        let meta = Meta { held, ..(*draft.world.meta).clone() };
        draft.note_effect(Effect::Meta(Arc::new(meta)));
    }
}

fn gone_reason(draft: &Draft<'_>, applied: &Applied) -> Reason {
    Reason::ManifestGone {
        commit: Arc::clone(&draft.desired.commit),
        place: applied.resource.place.clone(),
    }
}

/// From now on somebody has to order it away.
pub fn retain(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    applied: &Arc<Applied>,
    reasons: Vec<Reason>,
) {
    let retained = Applied { retained: Some(draft.now), ..(**applied).clone() };
    let effect = Effect::Put(key.clone(), Record::Object(Arc::new(retained)));
    draft.step(said(Verb::Retain, key), reasons, vec![effect]);
}

/// Takes an object out of force, and keeps what makes it itself for the undo window.
fn delete(draft: &mut Draft<'_>, key: &ObjectKey) {
    let applied = draft.world.objects.get(key).map(|row| Arc::clone(&row.value));
    if let Some(applied) = applied {
        delete_for(draft, key, gone_reason(draft, &applied));
    }
}

/// The same for another reason than a manifest that is gone.
pub fn delete_for(draft: &mut Draft<'_>, key: &ObjectKey, reason: Reason) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let pruned = Pruned {
        applied,
        at: draft.now,
        commit: Arc::clone(&draft.desired.commit),
        rows: rows_with(&draft.world, key),
    };
    let owners = draft.world.pod_owners(key);
    let mut effects = vec![
        Effect::Put(key.clone(), Record::Pruned(Arc::new(pruned))),
        Effect::Remove(key.clone(), Table::Object),
    ];
    effects.extend(STATES.map(|table| Effect::Remove(key.clone(), table)));
    effects.push(Effect::Remove(key.clone(), Table::Service));
    draft.step(said(Verb::Delete, key), vec![reason.clone()], effects);
    draft.start_over(key);
    draft.wake(key, draft.now.after(UNDO_WINDOW));
    for owner in owners {
        let pods: Vec<_> = draft.world.pods_of(&owner).map(|row| Arc::clone(&row.value)).collect();
        for pod in pods {
            pods::stop(draft, &pod, vec![reason.clone()]);
        }
    }
    release_made(draft, key, &reason);
    // Pods that were told to end before are waited for all the same.
    draft.queue.insert(key.clone());
}

/// What was made for an object goes with it. The claims that a StatefulSet made stay, whatever its
/// retention policy says: a manifest that disappears never takes data with it.
fn release_made(draft: &mut Draft<'_>, key: &ObjectKey, reason: &Reason) {
    let made: Vec<ObjectKey> = draft.world.made_for(key).cloned().collect();
    for key in &made {
        if key.kind == Kind::Job {
            dissolve::begin(draft, key, vec![reason.clone()]);
        }
        let held = draft.world.objects.get(key).map(|row| Arc::clone(&row.value));
        let held = held.filter(|applied| key.kind.holds_data() && applied.retained.is_none());
        if let Some(applied) = held {
            retain(draft, key, &applied, vec![reason.clone()]);
        }
    }
}

/// What an object remembers of itself, by its own key.
const STATES: [Table; 7] = [
    Table::Deployment,
    Table::StatefulSet,
    Table::DaemonSet,
    Table::Job,
    Table::CronJob,
    Table::Autoscaler,
    Table::Budget,
];

/// The rows that make an object itself: its state and its revisions.
fn rows_with(world: &World, key: &ObjectKey) -> Vec<(ObjectKey, Record)> {
    let states = STATES.iter().filter_map(|table| Some((key.clone(), world.row(key, *table)?)));
    let sets = world.sets_of(key).map(|row| {
        let set = Arc::clone(&row.value);
        (set.key.clone(), Record::ReplicaSet(set))
    });
    let revisions = world.revisions_of(key).map(|row| {
        let revision = Arc::clone(&row.value);
        (revision.key.clone(), Record::Revision(revision))
    });
    states.chain(sets).chain(revisions).collect()
}

/// The manifest is back within the window: the same object comes back, with its uid, its counters
/// and its revisions. A finished Job stays finished.
pub fn restore(draft: &mut Draft<'_>, key: &ObjectKey, resource: Arc<Resource>) {
    let Some(pruned) = draft.world.pruned.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let reason = commit(draft, &resource, Vec::new());
    let changed = pruned.applied.resource.spec != resource.spec;
    let detail = what_rests(&pruned, &resource).to_owned();
    let applied = Applied {
        generation: pruned.applied.generation + u64::from(changed),
        commit: Arc::clone(&draft.desired.commit),
        changed: draft.now,
        changes: Vec::new(),
        retained: None,
        resource,
        ..(*pruned.applied).clone()
    };
    let mut effects = vec![
        Effect::Put(key.clone(), Record::Object(Arc::new(applied))),
        Effect::Remove(key.clone(), Table::Pruned),
    ];
    effects.extend(pruned.rows.iter().filter_map(|(row, record)| {
        let there = draft.world.row(row, record.table()).is_some();
        (!there).then(|| Effect::Put(row.clone(), begun_anew(record.clone(), draft.now)))
    }));
    draft.step(Said { detail, ..said(Verb::Restore, key) }, vec![reason], effects);
}

/// A Job that ended with the template that it has stays ended; in words, or nothing.
fn what_rests(pruned: &Pruned, resource: &Resource) -> &'static str {
    let template = resource.template().map(|template| template.digest());
    let rests = pruned.rows.iter().any(|(_, record)| match record {
        Record::Job(job) => job.finished.is_some() && job.template_digest == template,
        _ => false,
    });
    if rests { "ended before, and is not run again" } else { "" }
}

/// What an object remembered, for a life that begins now: nothing was made progress with meanwhile,
/// and no revision has pods before it is known which one is wanted.
fn begun_anew(record: Record, now: Timestamp) -> Record {
    match record {
        Record::Deployment(state) => Record::Deployment(Arc::new(DeploymentState {
            progressed: now,
            deadline_exceeded: false,
            rolled_out: false,
            ..(*state).clone()
        })),
        Record::ReplicaSet(set) => {
            Record::ReplicaSet(Arc::new(ReplicaSet { replicas: 0, ..(*set).clone() }))
        }
        // Below the partition, too, its first pods are of the template that there is.
        Record::StatefulSet(state) => Record::StatefulSet(Arc::new(StatefulSetState {
            current_revision: String::new(),
            update_revision: String::new(),
            ..(*state).clone()
        })),
        record => record,
    }
}

/// What is left of a deleted object: pods that end, revisions without an owner, and the record
/// for the undo window.
pub fn plan_pruned(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(pruned) = draft.world.pruned.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    draft.start_over(key);
    let mut left = 0;
    for owner in &draft.world.pod_owners(key) {
        let pods: Vec<_> = draft.world.pods_of(owner).map(|row| Arc::clone(&row.value)).collect();
        for pod in pods.iter().filter(|pod| pod.deletion.is_none()) {
            let reason = gone_reason(draft, &pruned.applied);
            pods::stop(draft, pod, vec![reason]);
        }
        pods::follow(draft, key, &pods);
        left += draft.world.pods_of(owner).count();
    }
    if left == 0 {
        forget_revisions(draft, key);
    }
    expire(draft, key, &pruned, left);
}

fn forget_revisions(draft: &mut Draft<'_>, key: &ObjectKey) {
    let sets = draft.world.sets_of(key).map(|set| (set.key.clone(), Table::ReplicaSet));
    let revisions = draft.world.revisions_of(key).map(|it| (it.key.clone(), Table::Revision));
    let gone: Vec<(ObjectKey, Table)> = sets.chain(revisions).collect();
    for (row, table) in gone {
        draft.note_effect(Effect::Remove(row.clone(), table));
        draft.note_effect(Effect::Remove(row, Table::Events));
    }
}

fn expire(draft: &mut Draft<'_>, key: &ObjectKey, pruned: &Pruned, pods_left: usize) {
    let end = pruned.at.after(UNDO_WINDOW);
    if end > draft.now || pods_left > 0 {
        draft.wake(key, end.max(draft.now.after(Duration::from_secs(60))));
        return;
    }
    let mut effects = vec![Effect::Remove(key.clone(), Table::Pruned)];
    effects.extend([Table::Events, Table::Claim].map(|table| Effect::Remove(key.clone(), table)));
    effects.push(next_incarnation(draft));
    let hours = UNDO_WINDOW.as_secs() / 3600;
    let why = Reason::Limit { what: format!("the undo window of {hours} hours ended") };
    draft.step(said(Verb::Forget, key), vec![why], effects);
}

/// A later object of a name that is free from now on is another one.
pub fn next_incarnation(draft: &Draft<'_>) -> Effect {
    let meta = &draft.world.meta;
    Effect::Meta(Arc::new(Meta { incarnation: meta.incarnation + 1, ..(**meta).clone() }))
}

/// An explicit order: retained objects go, and their data with them. What holds none can still be
/// taken back, as whatever else is deleted.
pub fn remove_retained(draft: &mut Draft<'_>, keys: &[ObjectKey], by: &str) -> Vec<ObjectKey> {
    let mut removed = Vec::new();
    for key in keys {
        let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
            continue;
        };
        if !may_be_given_up(&draft.world, &applied) {
            continue;
        }
        let approved = Reason::Approved { by: by.to_owned() };
        if key.kind.holds_data() {
            remove_data(draft, key, vec![approved]);
        } else {
            let before = draft.plan.steps.len();
            delete(draft, key);
            for step in &mut draft.plan.steps[before..] {
                step.reasons.insert(0, approved.clone());
            }
        }
        removed.push(key.clone());
    }
    removed
}

/// Whether it is there for nothing any more: its manifest is gone, or it is a claim whose data is
/// gone, and that no pod runs with.
pub fn may_be_given_up(world: &World, applied: &Applied) -> bool {
    let key = &applied.resource.key;
    applied.retained.is_some() || (has_lost_its_data(world, key) && pod_with(world, key).is_none())
}

/// The pod that has to end before a claim whose data is gone may be given up.
pub fn pod_that_uses_lost<'a>(world: &'a World, claim: &ObjectKey) -> Option<&'a Pod> {
    pod_with(world, claim).filter(|_| has_lost_its_data(world, claim))
}

/// The volume of a claim is lost, or left with its node.
fn has_lost_its_data(world: &World, claim: &ObjectKey) -> bool {
    world.claims.get(claim).is_some_and(|claim| {
        let volume = claim.volume.as_ref();
        claim.phase == ClaimPhase::Lost
            || volume.is_some_and(|volume| attach::left_with(world, volume).is_some())
    })
}

fn pod_with<'a>(world: &'a World, claim: &ObjectKey) -> Option<&'a Pod> {
    world.pods_with_claim(claim).map(|row| &*row.value).find(|pod| pod.placed.is_some())
}

/// Data goes: on somebody's order, or because a policy that somebody wrote says so.
pub fn remove_data(draft: &mut Draft<'_>, key: &ObjectKey, reasons: Vec<Reason>) {
    let mut effects = vec![next_incarnation(draft)];
    if key.kind == Kind::PersistentVolumeClaim {
        effects.extend(release_volume(draft, key));
    } else {
        effects.push(Effect::Remove(key.clone(), Table::Volume));
    }
    effects.extend([Table::Object, Table::Events].map(|it| Effect::Remove(key.clone(), it)));
    draft.step(said(Verb::Delete, key), reasons, effects);
    draft.start_over(key);
}

/// The reclaim policy is honoured for an explicit delete: a provisioned volume of policy Delete is
/// removed with its data by its node; any other is released, and keeps its data.
fn release_volume(draft: &Draft<'_>, claim: &ObjectKey) -> Vec<Effect> {
    let mut effects = vec![Effect::Remove(claim.clone(), Table::Claim)];
    let volume = draft.world.claims.get(claim).and_then(|state| state.volume.clone());
    let Some(key) = volume.map(|name| volume_key(&name)) else { return effects };
    let Some(state) = draft.world.volumes.get(&key).map(|row| (*row.value).clone()) else {
        return effects;
    };
    let delete = state.provisioned.as_ref().filter(|p| p.reclaim == ReclaimPolicy::Delete);
    match (delete, &state.node) {
        (Some(provisioned), Some(node)) => {
            let node = draft.world.nodes.get(&node_key(node));
            if let Some(node) = node {
                let mut node: Node = (*node.value).clone();
                node.remove_volumes.push(provisioned.docker_volume.clone());
                effects.push(Effect::Put(node_key(&node.name), Record::Node(Arc::new(node))));
            }
            effects.push(Effect::Remove(key, Table::Volume));
        }
        _ => {
            let released = VolumeState { phase: VolumePhase::Released, ..state };
            effects.push(Effect::Put(key, Record::Volume(Arc::new(released))));
        }
    }
    effects
}

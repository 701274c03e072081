//! Manifests: what a commit made, changed or removed becomes what is in force, in the order of
//! the graph, as far as the brakes allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diff::{Change, change};
use crate::domain::change::FieldChange;
use crate::domain::key::ObjectKey;
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{Applied, MAX_CAUSE_CHANGES, Meta};
use crate::domain::resource::{Reference, Resource};
use crate::domain::stage::{self, is_staged};
use crate::domain::world::{Effect, Record};
use crate::graph;
use crate::plan::draft::{Draft, said};
use crate::plan::{lasting, names, prune, stages};

/// Brings what is in force to what the commit says, for the manifests in `dirty`.
pub fn plan_objects(draft: &mut Draft<'_>, dirty: &BTreeSet<ObjectKey>) {
    if draft.world.meta.suspended.is_some() {
        return;
    }
    let pending = stages::pending(draft);
    // What waits for its turn is looked at in every tick, and what the brakes hold along with it:
    // they would be judged, and remember, only a part of what is gone.
    let held = draft.world.meta.held.as_ref().filter(|_| !pending.is_empty());
    let held = held.into_iter().flat_map(|held| held.objects.iter().cloned());
    let dirty: BTreeSet<ObjectKey> = dirty.iter().cloned().chain(held).chain(pending).collect();
    let mut now: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut in_stages: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut gone: BTreeMap<ObjectKey, Arc<Applied>> = BTreeMap::new();
    let staged = stages::in_use(draft);
    for key in &dirty {
        match change(draft.desired, &draft.world, key) {
            None => {}
            Some(Change::Gone { applied }) => drop(gone.insert(key.clone(), applied)),
            Some(Change::Moved { .. }) => drop(now.insert(key.clone())),
            Some(_) if staged && is_hook(draft, key) => {}
            Some(_) if staged => drop(in_stages.insert(key.clone())),
            Some(_) => drop(now.insert(key.clone())),
        }
    }
    carry_out_all(draft, &now);
    if staged || gone.values().any(|applied| is_staged(&applied.resource.annotations)) {
        stages::take_in(draft, in_stages, !gone.is_empty());
    }
    // The brakes are judged by the settings that were in force before this commit.
    prune::plan_gone(draft, gone, &dirty);
    accept(draft);
}

/// Deletions that wait for pods of others to be gone may have their turn; true if any had.
pub fn go_on_deleting(draft: &mut Draft<'_>) -> bool {
    let desired = &draft.desired.objects;
    if stages::pending(draft).iter().all(|key| desired.contains_key(key)) {
        return false;
    }
    let before = draft.plan.steps.len();
    plan_objects(draft, &BTreeSet::new());
    draft.plan.steps.len() > before
}

fn is_hook(draft: &Draft<'_>, key: &ObjectKey) -> bool {
    let resource = draft.desired.objects.get(key);
    resource.is_some_and(|resource| stages::is_hook(&resource.annotations))
}

/// Puts manifests in force, each after what it refers to.
pub fn carry_out_all(draft: &mut Draft<'_>, keys: &BTreeSet<ObjectKey>) {
    let desired = draft.desired;
    let references = |key: &ObjectKey| -> Vec<Reference> {
        desired.objects.get(key).map(|resource| resource.references.clone()).unwrap_or_default()
    };
    for key in graph::order(keys, references) {
        if let Some(change) = change(desired, &draft.world, &key) {
            carry_out(draft, &key, change);
        }
    }
}

fn carry_out(draft: &mut Draft<'_>, key: &ObjectKey, change: Change) {
    match change {
        Change::Create { resource } => create(draft, key, resource),
        Change::Update { applied, resource, changes } => {
            update(draft, key, &applied, resource, changes);
        }
        Change::Moved { applied, resource } => {
            let moved = Applied { resource, ..(*applied).clone() };
            draft.note(key, Record::Object(Arc::new(moved)));
        }
        Change::Wanted { applied, resource } => {
            let reason = commit(draft, &resource, Vec::new());
            let wanted = Applied { resource, retained: None, owner: None, ..(*applied).clone() };
            let effect = Effect::Put(key.clone(), Record::Object(Arc::new(wanted)));
            draft.step(said(Verb::Restore, key), vec![reason], vec![effect]);
        }
        Change::Gone { .. } => {}
    }
}

fn create(draft: &mut Draft<'_>, key: &ObjectKey, resource: Arc<Resource>) {
    if draft.world.pruned.contains_key(key) {
        return prune::restore(draft, key, resource);
    }
    let reason = commit(draft, &resource, Vec::new());
    let applied = Applied {
        uid: names::object_uid(&draft.world.cluster, key, draft.world.meta.incarnation),
        created: draft.now,
        changed: draft.now,
        generation: 1,
        commit: Arc::clone(&draft.desired.commit),
        changes: Vec::new(),
        counter: 0,
        retained: None,
        owner: None,
        deletion: None,
        resource,
    };
    let hook = stage::hook(&applied.resource.annotations);
    let detail = hook.map(|hook| format!("{hook} hook")).unwrap_or_default();
    let effect = Effect::Put(key.clone(), Record::Object(Arc::new(applied)));
    draft.step(Said { detail, ..said(Verb::Create, key) }, vec![reason], vec![effect]);
}

fn update(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    applied: &Applied,
    resource: Arc<Resource>,
    mut changes: Vec<FieldChange>,
) {
    changes.truncate(MAX_CAUSE_CHANGES);
    let reason = commit(draft, &resource, changes.clone());
    let spec_changed = applied.resource.spec != resource.spec;
    let updated = Applied {
        resource,
        generation: applied.generation + u64::from(spec_changed),
        commit: Arc::clone(&draft.desired.commit),
        changed: draft.now,
        changes,
        retained: None,
        // From now on it is the manifest's.
        owner: None,
        ..applied.clone()
    };
    let (old, new) = (&applied.resource.spec, &updated.resource.spec);
    let detail = lasting::what_stays(&draft.world, key, old, new).to_owned();
    let effect = Effect::Put(key.clone(), Record::Object(Arc::new(updated)));
    draft.step(Said { detail, ..said(Verb::Update, key) }, vec![reason], vec![effect]);
}

pub fn commit(draft: &Draft<'_>, resource: &Resource, changes: Vec<FieldChange>) -> Reason {
    Reason::Commit {
        commit: Arc::clone(&draft.desired.commit),
        place: resource.place.clone(),
        changes,
    }
}

/// From now on this commit's brakes are in force.
fn accept(draft: &mut Draft<'_>) {
    let meta = &draft.world.meta;
    let known = meta.accepted.as_ref() == Some(&draft.desired.commit);
    if draft.desired.commit.id.is_empty() || (known && meta.settings == draft.desired.settings) {
        return;
    }
    // A commit whose files can't all be read does not get to loosen the brakes; nor does one whose
    // deletions they hold, however often it is looked at.
    let settings = match draft.desired.unreadable.is_empty() && meta.held.is_none() {
        true => draft.desired.settings.clone(),
        false => meta.settings.clone(),
    };
    let accepted =
        Meta { accepted: Some(Arc::clone(&draft.desired.commit)), settings, ..(**meta).clone() };
    if accepted != **meta {
        draft.note_effect(Effect::Meta(Arc::new(accepted)));
    }
}

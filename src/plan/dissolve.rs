//! Jobs and pods that go for good without a manifest that disappeared: those that nobody wrote a
//! manifest for, and hooks that are made anew. There is no undo window for them.

use std::sync::Arc;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Verb};
use crate::domain::record::Applied;
use crate::domain::world::{Effect, Record, Table};
use crate::plan::draft::{Draft, said};
use crate::plan::replicas::pods_of;
use crate::plan::{pods, prune};

/// The kinds that run to an end, and so can be run again.
pub fn runs_to_an_end(kind: Kind) -> bool {
    matches!(kind, Kind::Job | Kind::Pod)
}

/// Takes the object away: its pods end, and then it is gone.
pub fn begin(draft: &mut Draft<'_>, key: &ObjectKey, reasons: Vec<Reason>) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    if applied.deletion.is_some() {
        return;
    }
    let deleted = Applied { deletion: Some(draft.now), ..(*applied).clone() };
    let effect = Effect::Put(key.clone(), Record::Object(Arc::new(deleted)));
    draft.step(said(Verb::Delete, key), reasons.clone(), vec![effect]);
    for pod in pods_of(&draft.world, key) {
        pods::stop(draft, &pod, reasons.clone());
    }
}

/// One that is to run again does not go on from where its deleted namesake ended.
pub fn forget_undo(draft: &mut Draft<'_>, key: &ObjectKey) {
    if !draft.world.pruned.contains_key(key) {
        return;
    }
    let next = prune::next_incarnation(draft);
    draft.note_effect(next);
    for table in [Table::Pruned, Table::Events] {
        draft.note_effect(Effect::Remove(key.clone(), table));
    }
}

/// Goes on with an object that is on its way out.
pub fn go_on(draft: &mut Draft<'_>, key: &ObjectKey) {
    pods::follow(draft, key, &pods_of(&draft.world, key));
    if draft.world.pods_of(key).next().is_some() {
        return;
    }
    let written = draft.world.objects.get(key).is_some_and(|applied| applied.owner.is_none());
    if written {
        // The next one of its name is another object, with pods of its own.
        let effect = prune::next_incarnation(draft);
        draft.note_effect(effect);
    }
    for table in [Table::Object, Table::Job, Table::Events] {
        draft.note_effect(Effect::Remove(key.clone(), table));
    }
}

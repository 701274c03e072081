//! Revisions of StatefulSets and DaemonSets: one per template, numbered in the order in which
//! they were last wanted.
//!
//! Source: upstream's `pkg/controller/history`. Those of Deployments are their ReplicaSets.

use std::sync::Arc;

use kgit_protocol::ids::Digest;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{Applied, Revision};
use crate::domain::template::PodTemplate;
use crate::domain::world::{Effect, Record, Table, World};
use crate::plan::config::Needs;
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::names;

/// The label by which the pods of revisions are told apart.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// The set that has revisions.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub key: &'a ObjectKey,
    pub applied: &'a Applied,
    pub template: &'a Arc<PodTemplate>,
    /// How many are kept that no pod has.
    pub limit: u32,
}

/// By number, oldest first.
pub fn all(world: &World, owner: &ObjectKey) -> Vec<Arc<Revision>> {
    let mut all: Vec<_> = world.revisions_of(owner).map(|row| Arc::clone(&row.value)).collect();
    all.sort_by_key(|revision| (revision.number, revision.key.clone()));
    all
}

/// The revision that pods of this digest have.
pub fn of_digest(world: &World, owner: &ObjectKey, digest: &Digest) -> Option<Arc<Revision>> {
    let mut found = world.revisions_of(owner).filter(|row| row.revision_digest == *digest);
    found.next().map(|row| Arc::clone(&row.value))
}

/// The revision of that name.
pub fn named(world: &World, owner: &ObjectKey, name: &str) -> Option<Arc<Revision>> {
    let row = world.revisions.get(&owner.sibling(Kind::ControllerRevision, name))?;
    (row.owner == *owner).then(|| Arc::clone(&row.value))
}

/// The revision of the owner's template: found, brought back under a new number, or made.
pub fn wanted(
    draft: &mut Draft<'_>,
    owner: Owner<'_>,
    digest: &Digest,
    needs: &Needs,
) -> Arc<Revision> {
    let newest = all(&draft.world, owner.key).pop();
    let number = newest.as_ref().map_or(0, |newest| newest.number);
    match of_digest(&draft.world, owner.key, digest) {
        None => make(draft, owner, digest, needs, newest.as_deref()),
        Some(found) if found.number < number => bring_back(draft, owner, &found, number + 1, needs),
        Some(found) => with_configs(draft, found, needs),
    }
}

fn make(
    draft: &mut Draft<'_>,
    owner: Owner<'_>,
    digest: &Digest,
    needs: &Needs,
    newest: Option<&Revision>,
) -> Arc<Revision> {
    let (key, hash) = free_name(&draft.world, owner.key, digest);
    let number = newest.map_or(0, |newest| newest.number) + 1;
    let revision = Arc::new(Revision {
        uid: names::owned_uid(&owner.applied.uid, &key.name),
        key: key.clone(),
        owner: owner.key.clone(),
        created: draft.now,
        number,
        template: Arc::clone(owner.template),
        revision_digest: digest.clone(),
        hash,
        configs: needs.configs.clone(),
    });
    let words = Said { detail: format!("revision {number}"), ..said(Verb::Create, &key) };
    let rolled_by = newest
        .filter(|newest| newest.template == *owner.template)
        .map(|newest| needs.reasons_since(&draft.world, owner.key, &newest.configs));
    let rolled_by = rolled_by.filter(|reasons| !reasons.is_empty());
    let reasons = rolled_by.unwrap_or_else(|| vec![commit_reason(owner.applied)]);
    let effect = Effect::Put(key, Record::Revision(Arc::clone(&revision)));
    draft.step(words, reasons, vec![effect]);
    revision
}

/// Two owners of one name (a StatefulSet and a DaemonSet) and one template want the same name.
fn free_name(world: &World, owner: &ObjectKey, digest: &Digest) -> (ObjectKey, String) {
    let mut collisions = 0;
    loop {
        let hash = names::revision_hash(digest, collisions);
        let name = names::owned_name(owner, &hash);
        let key = owner.sibling(Kind::ControllerRevision, &name);
        if !world.revisions.contains_key(&key) {
            return (key, hash);
        }
        collisions += 1;
    }
}

fn bring_back(
    draft: &mut Draft<'_>,
    owner: Owner<'_>,
    found: &Revision,
    number: u64,
    needs: &Needs,
) -> Arc<Revision> {
    let configs = needs.configs.clone();
    let revision = Arc::new(Revision { number, configs, ..found.clone() });
    let words = Said {
        detail: format!("revision {} is revision {number} again", found.number),
        ..said(Verb::Update, &found.key)
    };
    let effect = Effect::Put(found.key.clone(), Record::Revision(Arc::clone(&revision)));
    draft.step(words, vec![commit_reason(owner.applied)], vec![effect]);
    revision
}

/// Contents that do not roll the pods may have changed: pods made from now on get the new ones.
fn with_configs(draft: &mut Draft<'_>, found: Arc<Revision>, needs: &Needs) -> Arc<Revision> {
    if found.configs == needs.configs {
        return found;
    }
    let revision = Arc::new(Revision { configs: needs.configs.clone(), ..(*found).clone() });
    draft.note(&found.key, Record::Revision(Arc::clone(&revision)));
    revision
}

/// Forgets the oldest ones beyond the limit, of those that no pod has and that are not in `used`.
pub fn forget(draft: &mut Draft<'_>, owner: Owner<'_>, used: &[&str]) {
    let is_used = |revision: &Revision| {
        used.contains(&&*revision.key.name)
            || draft
                .world
                .pods_of(owner.key)
                .any(|pod| pod.revision_digest == revision.revision_digest)
    };
    let mut idle = all(&draft.world, owner.key);
    idle.retain(|revision| !is_used(revision));
    let limit = owner.limit as usize;
    let beyond = idle.len().saturating_sub(limit);
    for revision in &idle[..beyond] {
        let what = format!("revisionHistoryLimit {limit}");
        let effect = Effect::Remove(revision.key.clone(), Table::Revision);
        draft.step(said(Verb::Delete, &revision.key), vec![Reason::Limit { what }], vec![effect]);
    }
}

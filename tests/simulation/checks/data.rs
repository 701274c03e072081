//! Data goes by explicit order alone.

use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::record::ClaimPhase;
use kgit::domain::resource::Spec;
use kgit::domain::workload::ClaimRetention;
use kgit::domain::world::World;

use crate::checks::{Checked, Checks, Turned};

impl Checks {
    /// Claims, volumes and their bindings stay, unless somebody ordered them away, or their
    /// StatefulSet says that they go with its pods.
    pub(super) fn no_data_removed(&mut self, turned: &Turned<'_>) -> Checked {
        let lost = |what: &str, key: &ObjectKey| Err(format!("{what} {key} was removed"));
        for (key, claim) in &turned.before.claims {
            if self.may_be_removed(turned, key) {
                self.lets_go(turned, claim.volume.as_deref());
                continue;
            }
            match turned.after.claims.get(key) {
                None => return lost("the state of", key),
                Some(now) if now.phase == ClaimPhase::Lost && self.given_up.is_empty() => {
                    return Err(format!("{key} is lost, and nobody gave a node up"));
                }
                Some(now) if claim.phase == ClaimPhase::Bound && now.volume != claim.volume => {
                    return Err(format!("{key} is bound to another volume"));
                }
                Some(_) => {}
            }
        }
        for (key, state) in &turned.before.volumes {
            let claim = state.claim.as_ref().map(|(claim, _)| claim);
            let gone = !turned.after.volumes.contains_key(key);
            let may_go = self.ordered_away.contains(key)
                || claim.is_some_and(|claim| self.may_be_removed(turned, claim))
                || state.node.as_ref().is_some_and(|node| self.given_up.contains(node))
                || state
                    .provisioned
                    .as_ref()
                    .is_some_and(|it| self.may_go.contains(&it.docker_volume));
            if gone && !may_go {
                return lost("volume", key);
            }
        }
        let mut data = turned.before.objects.keys().filter(|key| key.kind.holds_data());
        let lost_key = data.find(|key| {
            !turned.after.objects.contains_key(*key) && !self.may_be_removed(turned, key)
        });
        match lost_key {
            Some(key) => lost("object", key),
            None => Ok(()),
        }
    }

    fn may_be_removed(&self, turned: &Turned<'_>, key: &ObjectKey) -> bool {
        self.ordered_away.contains(key)
            || deletes(turned.before, turned.before, key)
            || deletes(turned.before, turned.after, key)
    }

    /// The engine's own volume may go as well.
    fn lets_go(&mut self, turned: &Turned<'_>, volume: Option<&str>) {
        let Some(volume) = volume else { return };
        let key = ObjectKey::new(Kind::PersistentVolume, "", volume);
        let state = turned.before.volumes.get(&key);
        let provisioned = state.and_then(|state| state.provisioned.as_ref());
        self.may_go.extend(provisioned.map(|provisioned| provisioned.docker_volume.clone()));
    }
}

/// Whether the StatefulSet that a claim was made for says that its claims go.
fn deletes(claims: &World, sets: &World, key: &ObjectKey) -> bool {
    let owner = claims.objects.get(key).and_then(|row| row.owner.clone());
    let Some(owner) = owner else { return false };
    let live = sets.objects.get(&owner).map(|row| &row.value.resource);
    let pruned = sets.pruned.get(&owner).map(|row| &row.value.applied.resource);
    let both = live.into_iter().chain(pruned);
    both.into_iter().any(|resource| match &resource.spec {
        Spec::StatefulSet(spec) => spec.retention != ClaimRetention::default(),
        _ => false,
    })
}

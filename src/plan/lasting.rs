//! What a changed manifest does not change: things that were made from it once, and that stay as
//! they are. Kubernetes' API refuses such a change. A repo that makes it gets what can be had, and
//! is told what can't.

use crate::domain::key::ObjectKey;
use crate::domain::resource::Spec;
use crate::domain::workload::{ClaimTemplate, StatefulSetSpec};
use crate::domain::world::World;

/// What stays as it is of an object whose spec changes, in words; empty: nothing.
pub fn what_stays(world: &World, key: &ObjectKey, old: &Spec, new: &Spec) -> &'static str {
    match (old, new) {
        (Spec::PersistentVolumeClaim(old), Spec::PersistentVolumeClaim(new)) => {
            let volume = world.claims.get(key).and_then(|claim| claim.volume.as_ref());
            let stays = volume.is_some() && old != new;
            if stays { "its volume stays as it is" } else { "" }
        }
        (Spec::StatefulSet(old), Spec::StatefulSet(new)) => {
            let has_claims = world.made_for(key).next().is_some();
            let stays = has_claims && asks_for_others(old, new);
            if stays { "claims that there are stay as they are" } else { "" }
        }
        _ => "",
    }
}

/// Whether a claim template that stays asks for something else.
fn asks_for_others(old: &StatefulSetSpec, new: &StatefulSetSpec) -> bool {
    let differs = |claim: &ClaimTemplate| {
        new.claims.iter().any(|other| other.name == claim.name && other.spec != claim.spec)
    };
    old.claims.iter().any(differs)
}

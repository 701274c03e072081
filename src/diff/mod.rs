//! Desired × World → changes, field by field.
//!
//! Compares what manifests say; whether a pod matches its order is the plan's and the agent's.
//! Values of Secrets never leave this module unmasked.

pub mod fields;
pub mod mask;

use std::sync::Arc;

use crate::diff::fields::field_changes;
use crate::domain::change::FieldChange;
use crate::domain::desired::Desired;
use crate::domain::key::ObjectKey;
use crate::domain::record::Applied;
use crate::domain::resource::Resource;
use crate::domain::world::World;

/// How one manifest differs from what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create {
        resource: Arc<Resource>,
    },
    Update {
        applied: Arc<Applied>,
        resource: Arc<Resource>,
        changes: Vec<FieldChange>,
    },
    /// The same object in another file, or further down in its own.
    Moved {
        applied: Arc<Applied>,
        resource: Arc<Resource>,
    },
    /// It was retained or about to be, and is wanted again as it is.
    Wanted {
        applied: Arc<Applied>,
        resource: Arc<Resource>,
    },
    Gone {
        applied: Arc<Applied>,
    },
}

/// How the manifest of `key` differs; `None` if it does not.
pub fn change(desired: &Desired, world: &World, key: &ObjectKey) -> Option<Change> {
    // A broken document names its object still: it keeps its last accepted form.
    if desired.broken.contains(key) {
        return None;
    }
    let applied = world.objects.get(key).map(|row| Arc::clone(&row.value));
    match (applied, desired.objects.get(key).cloned()) {
        (None, None) => None,
        (None, Some(resource)) => Some(Change::Create { resource }),
        (Some(applied), None) if applied.retained.is_some() => None,
        // No manifest made it, so none is missing.
        (Some(applied), None) if applied.owner.is_some() => None,
        (Some(applied), None) => Some(Change::Gone { applied }),
        (Some(applied), Some(resource)) => compare(world, applied, resource),
    }
}

fn compare(world: &World, applied: Arc<Applied>, resource: Arc<Resource>) -> Option<Change> {
    if applied.resource.digest != resource.digest {
        let changes = field_changes(&applied.resource, &resource, &world.masking_key);
        return Some(Change::Update { applied, resource, changes });
    }
    if applied.retained.is_some() {
        return Some(Change::Wanted { applied, resource });
    }
    let moved = applied.resource.place.file != resource.place.file;
    // A new release may lower the same manifest to other words.
    let relowered = applied.resource.spec != resource.spec
        || applied.resource.references != resource.references;
    (moved || relowered).then_some(Change::Moved { applied, resource })
}

//! Waiting for others: `kgit.dev/depends-on` holds the first pods of a revision back until what
//! it names is healthy. Pods that run already are never stopped by it.

use crate::domain::key::ObjectKey;
use crate::domain::plan::{WaitKind, Waiting};
use crate::domain::resource::{ReferenceKind, Resource};
use crate::plan::draft::Draft;
use crate::plan::health::{Health, health};

/// True, and said, while something that the object depends on is not healthy.
pub fn held(draft: &mut Draft<'_>, key: &ObjectKey, resource: &Resource) -> bool {
    let mut held = false;
    let needed =
        resource.references.iter().filter(|reference| reference.kind == ReferenceKind::DependsOn);
    for reference in needed {
        let found = health(&draft.world, &reference.to);
        if matches!(found, Health::Healthy | Health::Suspended) {
            continue;
        }
        held = true;
        let failed = found == Health::Degraded;
        draft.wait(Waiting {
            object: key.clone(),
            for_what: format!(
                "{} to be healthy ({}); it is {found:?}",
                reference.to, reference.place
            ),
            kind: if failed { WaitKind::Blocked } else { WaitKind::Progress },
            deadline: None,
            consequence: "it is not started".to_owned(),
            unplaced: None,
        });
    }
    held
}

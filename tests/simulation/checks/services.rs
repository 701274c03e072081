//! Services lead to their pods as they are now.

use std::collections::BTreeMap;

use kgit::domain::resource::Spec;
use kgit::domain::service;
use kgit::domain::world::World;
use kgit_protocol::directory::{Backend, ServiceAddress};

use crate::checks::Checked;

/// A service leads to its pods, and has an address that no other has.
pub(super) fn endpoints(world: &World) -> Checked {
    let mut taken = BTreeMap::new();
    for (key, state) in &world.services {
        if let ServiceAddress::Cluster(address) = state.service.address
            && let Some(other) = taken.insert(address, key)
        {
            return Err(format!("{other} and {key} have the address {address}"));
        }
        let applied = world.objects.get(key).map(|applied| &applied.resource.spec);
        let Some(Spec::Service(spec)) = applied else { continue };
        let (expected, _) = service::endpoints(world, key, spec);
        if state.service.backend != Backend::Endpoints(expected.clone()) {
            return Err(format!("{key} leads to {:?}, not to {expected:?}", state.service.backend));
        }
    }
    Ok(())
}

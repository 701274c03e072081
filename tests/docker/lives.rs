//! Which containers of a cluster run, and since when: what a test compares before and after.

use std::collections::BTreeMap;

use crate::engine::Container;

/// A container of a pod: `web-1/web`, `web-1/` for the one that holds the pod's namespaces.
pub type Place = String;

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub id: String,
    pub started_at: String,
    pub address: String,
    pub image: String,
    pub attempt: String,
    pub paused: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives(pub BTreeMap<Place, Life>);

impl Lives {
    /// # Panics
    /// If something runs twice: there is no moment at which it may.
    pub fn of(containers: &[Container]) -> Self {
        let mut lives = BTreeMap::new();
        for container in containers.iter().filter(|container| container.runs()) {
            let place = place(container);
            let before = lives.insert(place.clone(), Life::of(container));
            assert!(before.is_none(), "{place} runs twice: {before:?} and {}", container.id());
        }
        Self(lives)
    }

    /// Those whose pod's name starts so.
    pub fn with(&self, pod: &str) -> Self {
        let chosen = self.0.iter().filter(|(place, _)| place.starts_with(pod));
        Self(chosen.map(|(place, life)| (place.clone(), life.clone())).collect())
    }

    /// Whether the same things run at the same addresses, in whichever life.
    pub fn fills(&self, before: &Self) -> bool {
        self.0.len() == before.0.len()
            && before.0.iter().all(|(place, old)| {
                let now = self.0.get(place);
                now.is_some_and(|now| now.address == old.address && !now.paused)
            })
    }

    /// Where another life has begun, or none is.
    pub fn changed_since(&self, before: &Self) -> Vec<Place> {
        let same = |place: &str, old: &Life| {
            self.0
                .get(place)
                .is_some_and(|now| (&now.id, &now.started_at) == (&old.id, &old.started_at))
        };
        before
            .0
            .iter()
            .filter(|(place, old)| !same(place, old))
            .map(|(place, _)| place.clone())
            .collect()
    }

    pub fn id(&self, place: &str) -> &str {
        &self.0.get(place).unwrap_or_else(|| panic!("{place} runs: {self:?}")).id
    }
}

pub fn place(container: &Container) -> Place {
    format!("{}/{}", container.label("pod"), container.label("container"))
}

impl Life {
    fn of(container: &Container) -> Self {
        let (id, started_at) = container.life();
        let networks = container.at("/NetworkSettings/Networks").as_object();
        let addresses = networks.into_iter().flatten();
        let address = addresses.filter_map(|(_, network)| network["IPAddress"].as_str()).collect();
        Self {
            id,
            started_at,
            address,
            image: container.text("/Config/Image").to_owned(),
            attempt: container.label("attempt").to_owned(),
            paused: container.at("/State/Paused") == true,
        }
    }
}

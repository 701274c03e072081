//! The directory as agents are given it: assembled from the services on record, and told as what
//! is new since the version that an agent has.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use ipnet::Ipv4Net;
use kgit_protocol::directory::{
    Directory, DirectoryChange, DirectoryDelta, ListedService, ServiceName, content_digest,
};
use kgit_protocol::ids::Digest;

use crate::domain::key::ObjectKey;
use crate::domain::service::{DOMAIN, ServiceState};
use crate::domain::world::{Rows, World};

/// Versions that a difference can be told from. An agent that was away for longer gets it all.
const VERSIONS: usize = 256;

/// The newest version and some before it. They share what did not change.
#[derive(Debug, Default)]
pub struct Directories(Mutex<Versions>);

#[derive(Debug, Default)]
struct Versions {
    /// What the newest was assembled from.
    rows: Rows<ServiceState>,
    range: Option<Ipv4Net>,
    newest: Listed,
    digest: Option<Digest>,
    past: VecDeque<(Digest, Listed)>,
}

type Listed = OrdMap<ServiceName, ListedService>;

impl Directories {
    /// What is new for an agent that has the version `have`; `None`: nothing.
    pub fn change(&self, world: &World, have: Option<&Digest>) -> Option<DirectoryChange> {
        let range = world.meta.service_range?;
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        versions.update(world, range);
        let digest = versions.digest.clone()?;
        if have == Some(&digest) {
            return None;
        }
        let past = versions.past.iter().find(|(version, _)| Some(version) == have);
        Some(match past {
            Some((base, listed)) => {
                DirectoryChange::Delta(delta(base, listed, digest, &versions.newest))
            }
            None => DirectoryChange::Whole(Directory {
                digest,
                domain: DOMAIN.to_owned(),
                service_range: range,
                services: versions.newest.iter().map(|(n, s)| (n.clone(), s.clone())).collect(),
            }),
        })
    }
}

impl Versions {
    fn update(&mut self, world: &World, range: Ipv4Net) {
        if self.digest.is_some() && self.range == Some(range) && self.rows.ptr_eq(&world.services) {
            return;
        }
        for difference in self.rows.diff(&world.services) {
            match difference {
                DiffItem::Add(key, row) | DiffItem::Update { new: (key, row), .. } => {
                    let service = row.service.clone();
                    let listed = ListedService { digest: service.digest(), service };
                    self.newest.insert(name(key), listed);
                }
                DiffItem::Remove(key, _) => drop(self.newest.remove(&name(key))),
            }
        }
        self.rows = world.services.clone();
        self.range = Some(range);
        let digest = content_digest(DOMAIN, range, self.newest.iter());
        if self.digest.as_ref() == Some(&digest) {
            return;
        }
        // An earlier version of the same content would be found first, and is as good.
        self.past.push_back((digest.clone(), self.newest.clone()));
        if self.past.len() > VERSIONS {
            self.past.pop_front();
        }
        self.digest = Some(digest);
    }
}

fn name(key: &ObjectKey) -> ServiceName {
    ServiceName::new(&key.namespace, &key.name)
}

fn delta(base: &Digest, from: &Listed, next: Digest, to: &Listed) -> DirectoryDelta {
    let mut delta = DirectoryDelta {
        base: base.clone(),
        next,
        changed: std::collections::BTreeMap::new(),
        removed: Vec::new(),
    };
    for difference in from.diff(to) {
        match difference {
            DiffItem::Add(name, listed) | DiffItem::Update { new: (name, listed), .. } => {
                delta.changed.insert(name.clone(), listed.clone());
            }
            DiffItem::Remove(name, _) => delta.removed.push(name.clone()),
        }
    }
    delta
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kgit_protocol::directory::{Backend, Service, ServiceAddress, TrafficPolicy};
    use kgit_protocol::ids::ClusterId;

    use super::*;
    use crate::domain::key::Kind;
    use crate::domain::record::Meta;
    use crate::domain::world::{Effect, Record, Table};

    fn put(world: &mut World, name: &str, port: Option<u32>) {
        let key = ObjectKey::new(Kind::Service, "default", name);
        let effect = match port {
            None => Effect::Remove(key, Table::Service),
            Some(affinity) => {
                let service = Service {
                    address: ServiceAddress::Headless,
                    ports: Vec::new(),
                    backend: Backend::Endpoints(Vec::new()),
                    affinity_seconds: Some(affinity),
                    publish_not_ready: false,
                    external_addresses: Vec::new(),
                    on_node_addresses: false,
                    internal_traffic: TrafficPolicy::Cluster,
                    external_traffic: TrafficPolicy::Cluster,
                };
                let state = ServiceState { service, pods: Vec::new(), ingress: Vec::new() };
                Effect::Put(key, Record::Service(Arc::new(state)))
            }
        };
        let version = world.version + 1;
        world.apply(&effect, version);
    }

    fn world() -> World {
        let mut world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
        let range = "10.16.0.0/16".parse().ok();
        let meta = Meta { service_range: range, ..Meta::default() };
        world.apply(&Effect::Meta(Arc::new(meta)), 1);
        world
    }

    #[test]
    fn an_agent_gets_all_of_it_then_what_is_new_then_nothing() {
        let (directories, mut world) = (Directories::default(), world());
        put(&mut world, "a", Some(1));
        put(&mut world, "b", Some(1));
        let Some(DirectoryChange::Whole(whole)) = directories.change(&world, None) else {
            panic!("the first answer is whole")
        };
        assert_eq!(whole.content_digest(), whole.digest);
        assert_eq!(directories.change(&world, Some(&whole.digest)), None);
        put(&mut world, "a", None);
        put(&mut world, "b", Some(2));
        put(&mut world, "c", Some(3));
        let change = directories.change(&world, Some(&whole.digest));
        let Some(DirectoryChange::Delta(delta)) = change else { panic!("{change:?}") };
        let next = whole.apply(delta).expect("the delta leads where it says");
        let names: Vec<_> = next.services.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["default/b", "default/c"]);
        assert_eq!(directories.change(&world, Some(&next.digest)), None);
    }

    #[test]
    fn one_with_a_version_that_nobody_knows_gets_all_of_it() {
        let (directories, mut world) = (Directories::default(), world());
        put(&mut world, "a", Some(1));
        let change = directories.change(&world, Some(&Digest::of(b"lost")));
        assert!(matches!(change, Some(DirectoryChange::Whole(_))));
    }

    #[test]
    fn a_change_that_is_taken_back_is_the_version_before() {
        let (directories, mut world) = (Directories::default(), world());
        put(&mut world, "a", Some(1));
        let Some(DirectoryChange::Whole(whole)) = directories.change(&world, None) else {
            panic!("the first answer is whole")
        };
        put(&mut world, "a", Some(2));
        assert!(directories.change(&world, Some(&whole.digest)).is_some());
        put(&mut world, "a", Some(1));
        assert_eq!(directories.change(&world, Some(&whole.digest)), None);
    }
}

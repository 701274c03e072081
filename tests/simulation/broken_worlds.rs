//! The checks bite, too, where no broken part would break a promise soon: pairs of Worlds that no
//! turn may make.

use std::sync::Arc;

use kgit::domain::node::Node;
use kgit::domain::plan::Waits;
use kgit::domain::record::{Deletion, Pod, ReplicaSet};
use kgit::domain::resource::{Spec, Strategy};
use kgit::domain::world::{Effect, Record, Table, World, node_key};
use kgit_protocol::directory::Backend;
use kgit_protocol::ids::{Generation, PodUid};

use crate::checks::{Checked, Checks, Turned};
use crate::cluster::Cluster;
use crate::run;
use crate::weather::{Pace, Weather};

/// A World at rest with a rolling Deployment of at least two pods, and what a turn makes of it.
struct Case {
    before: World,
    after: World,
    cluster: Cluster,
    set: ReplicaSet,
}

impl Case {
    fn new() -> Self {
        for seed in 0.. {
            let mut cluster = Cluster::new(seed, Some(Weather::calm()), Pace::DENSE, false);
            if run(&mut cluster).is_err() {
                continue;
            }
            let world = cluster.master.view().unwrap().world;
            let rolls = |set: &ReplicaSet| {
                let spec = world.objects.get(&set.owner).map(|row| &row.value.resource.spec);
                let rolling = matches!(spec, Some(Spec::Deployment(spec))
                    if matches!(spec.strategy, Strategy::RollingUpdate { .. }));
                rolling && set.replicas >= 2
            };
            let set = world.replica_sets.values().find(|set| rolls(set)).cloned();
            if let (Some(set), false) = (set, world.claims.is_empty()) {
                let (before, after) = (world.clone(), world.clone());
                return Self { before, after, cluster, set: (*set.value).clone() };
            }
        }
        unreachable!("seeds do not end");
    }

    fn pods(&self) -> Vec<Pod> {
        self.before.pods_of(&self.set.key).map(|row| (*row.value).clone()).collect()
    }

    fn put(&mut self, pod: Pod) {
        let effect = Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod)));
        self.after.apply(&effect, self.after.version + 1);
    }

    fn check(&self, readable: bool) -> Checked {
        let turned = Turned {
            before: &self.before,
            after: &self.after,
            waits: &Waits::new(),
            now: self.cluster.now,
            readable,
            read: true,
            through: true,
        };
        Checks::default().turn(&turned)
    }

    fn is_noticed(&self, words: &str) {
        let why = self.check(true).unwrap_err();
        assert!(why.contains(words), "{why}");
    }

    /// Another pod of the same set.
    fn one_more(&self, number: usize) -> Pod {
        let pod = self.pods()[0].clone();
        let key = pod.key.sibling(pod.key.kind, &format!("more-{number}"));
        Pod { key, uid: PodUid::new(format!("more-{number}")), ..pod }
    }
}

#[test]
fn a_turn_that_changes_nothing_breaks_no_promise() {
    Case::new().check(true).unwrap();
}

#[test]
fn too_many_stops_at_once_are_noticed() {
    let mut case = Case::new();
    for pod in case.pods() {
        let deletion = Some(Deletion { at: case.cluster.now, grace_seconds: 10 });
        case.put(Pod { deletion, ..pod });
    }
    case.is_noticed("available pods were told to end");
}

#[test]
fn too_many_pods_are_noticed() {
    let mut case = Case::new();
    for number in 0..5 {
        let more = case.one_more(number);
        case.put(Pod { placed: None, observed: None, ..more });
    }
    case.is_noticed("of at most");
}

#[test]
fn two_pods_with_one_address_are_noticed() {
    let mut case = Case::new();
    let more = case.one_more(0);
    case.put(more);
    case.is_noticed("have the address");
}

#[test]
fn a_pending_pod_that_nothing_explains_is_noticed() {
    let mut case = Case::new();
    let pod = case.pods()[0].clone();
    case.put(Pod { placed: None, observed: None, ..pod });
    case.is_noticed("waits for nothing");
}

#[test]
fn a_service_that_leads_past_its_pods_is_noticed() {
    let mut case = Case::new();
    let (key, row) = case.before.services.iter().find(|(_, row)| !row.pods.is_empty()).unwrap();
    let (key, mut state) = (key.clone(), (*row.value).clone());
    state.service.backend = Backend::Endpoints(Vec::new());
    state.pods.clear();
    let effect = Effect::Put(key, Record::Service(Arc::new(state)));
    case.after.apply(&effect, case.after.version + 1);
    case.is_noticed("leads to");
}

#[test]
fn a_removed_claim_is_noticed() {
    let mut case = Case::new();
    let claim = case.before.claims.keys().next().unwrap().clone();
    case.after.apply(&Effect::Remove(claim, Table::Claim), case.after.version + 1);
    case.is_noticed("was removed");
}

#[test]
fn a_deletion_while_a_file_is_broken_is_noticed() {
    let mut case = Case::new();
    let owner = case.set.owner.clone();
    case.after.apply(&Effect::Remove(owner, Table::Object), case.after.version + 1);
    let why = case.check(false).unwrap_err();
    assert!(why.contains("while a file can't be read"), "{why}");
}

#[test]
fn generations_that_go_back_are_noticed() {
    let case = Case::new();
    let mut checks = Checks::default();
    let mut check = |world: &World| {
        let (before, waits) = (world, &Waits::new());
        let now = case.cluster.now;
        let (readable, read, through) = (true, true, true);
        checks.turn(&Turned { before, after: world, waits, now, readable, read, through })
    };
    check(&case.before).unwrap();
    let mut back = case.before.clone();
    let issued = case.before.nodes.values().find(|node| node.issued.generation.0 > 0).unwrap();
    let mut node: Node = (*issued.value).clone();
    node.issued.generation = Generation(0);
    let effect = Effect::Put(node_key(&node.name), Record::Node(Arc::new(node)));
    back.apply(&effect, back.version + 1);
    assert!(check(&back).unwrap_err().contains("was issued"));
}

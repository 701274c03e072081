//! What a change costs the master: a one-file commit, and an observation that says nothing new,
//! in a large repo against a small one.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit::domain::world::World;
use kgit::master::core::Core;
use kgit::master::event::{Credential, Event};
use kgit::master::view::SourceStatus;
use kgit::plan::assignments;
use kgit::source::Source as _;
use kgit::source::git::{LocalGit, LocalGitConfig};
use kgit::store::Store;
use kgit_protocol::assignment::{Order, PodNetwork};
use kgit_protocol::ids::{BootId, ClusterId, Digest, NodeName, PodUid};
use kgit_protocol::messages::{Join, Report};
use kgit_protocol::observation::{Capacity, NodeObservation, PodObservation, PodPhase};
use kgit_protocol::time::Timestamp;
use tokio::sync::oneshot;

use crate::cpu::measured;
use crate::{Size, median, repo};

/// Reports in one sample: one alone is near the clock's grain, and reports come in streams.
const REPORTS: u32 = 50;
/// One node for each so many applications: about what a Docker host takes.
const PODS_PER_NODE: usize = 100;

struct Master {
    core: Core,
    store: Store,
    source: LocalGit,
    repo: git2::Repository,
    now: Timestamp,
    sequence: u64,
    _dir: tempfile::TempDir,
}

impl Master {
    /// A master whose repo of so many objects has come up.
    fn new(objects: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = repo::make(&dir.path().join("repo"), objects);
        let data = dir.path().join("data");
        let store = Store::open(&data).unwrap();
        let world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
        let source = LocalGit::new(LocalGitConfig {
            path: dir.path().join("repo"),
            branch: None,
            folder: String::new(),
            data,
            at: None,
        });
        let now = Timestamp(1_767_225_600_000);
        let core = Core::new(world, SourceStatus::default(), now);
        let mut master = Self { core, store, source, repo, now, sequence: 0, _dir: dir };
        for node in 0..(objects / repo::OBJECTS).div_ceil(PODS_PER_NODE) {
            master.join(node);
        }
        master.deliver();
        while master.agents_act() {}
        master
    }

    fn join(&mut self, index: usize) {
        let node = NodeName::new(format!("node-{index}"));
        let (reply, _answer) = oneshot::channel();
        let range = format!("10.{}.{}.0/24", index / 256, index % 256).parse().unwrap();
        let join = Box::new(Join {
            version: 1,
            token: String::new(),
            node: node.clone(),
            labels: BTreeMap::new(),
            certificate_request: String::new(),
            network: PodNetwork { range },
        });
        let key_digest = Digest::of(node.as_str().as_bytes());
        self.turn(vec![Event::Join {
            join,
            key_digest,
            credential: Credential::Token(None),
            reply,
        }]);
        let capacity =
            Capacity { cpu_millis: 64_000, memory_bytes: 64 << 30, pods: 250, disk_bytes: 1 << 40 };
        let about = NodeObservation { capacity, ..NodeObservation::default() };
        self.report(node, Some(about), Vec::new());
    }

    fn turn(&mut self, events: Vec<Event>) {
        let turn = self.core.turn(events, self.now, &mut self.store);
        assert!(turn.failed.is_none(), "{:?}", turn.failed);
    }

    /// Looks at the source and plans what is new: the master's whole work for a commit.
    fn deliver(&mut self) {
        let (commit, change) = self.source.look().unwrap().expect("a new commit");
        self.turn(vec![Event::Source { commit, change }]);
    }

    fn report(
        &mut self,
        node: NodeName,
        about: Option<NodeObservation>,
        pods: Vec<PodObservation>,
    ) {
        self.sequence += 1;
        let (reply, _answer) = oneshot::channel();
        let report = Box::new(Report {
            directory: None,
            version: 1,
            boot: BootId::new("boot"),
            sequence: self.sequence,
            applied: None,
            node: about,
            pods,
            events: Vec::new(),
            volumes_removed: Vec::new(),
            complete: false,
        });
        self.turn(vec![Event::Report { node, report, reply }]);
    }

    /// Every agent does what it is told and says so; false if there was nothing new.
    fn agents_act(&mut self) -> bool {
        let world = self.core.view(&self.store).world;
        let mut acted = false;
        for node in world.nodes.values() {
            let set = assignments::for_node(&world, &node.name).unwrap();
            let seen: Vec<PodObservation> = set
                .pods
                .values()
                .map(|pod| observation(&pod.uid, pod.order, self.now))
                .filter(|seen| {
                    world.pod_by_uid(&seen.uid).and_then(|pod| pod.observed.clone()).as_deref()
                        != Some(seen)
                })
                .collect();
            if !seen.is_empty() {
                acted = true;
                self.report(node.name.clone(), None, seen);
            }
        }
        acted
    }

    /// A commit that changes one application's image.
    fn one_file(&mut self, round: usize, applications: usize) -> f64 {
        repo::change(&self.repo, round % applications, &format!("app:{}", round + 2));
        let ((), spent) = measured(|| self.deliver());
        while self.agents_act() {}
        spent
    }

    /// Reports that say what is known already: what one of them costs.
    fn nothing_new(&mut self) -> f64 {
        let world = self.core.view(&self.store).world;
        let pod = world.pods.values().next().unwrap();
        let (node, seen) = (pod.node().unwrap().clone(), pod.observed.clone().unwrap());
        drop(world);
        let ((), spent) = measured(|| {
            for _ in 0..REPORTS {
                self.report(node.clone(), None, vec![(*seen).clone()]);
            }
        });
        spent / f64::from(REPORTS)
    }
}

fn observation(uid: &PodUid, order: Order, now: Timestamp) -> PodObservation {
    let running = order == Order::Run;
    PodObservation {
        uid: uid.clone(),
        phase: if running { PodPhase::Running } else { PodPhase::Gone },
        reason: None,
        message: None,
        ready: running,
        ready_since: running.then_some(now),
        started_at: Some(now),
        init_containers: Vec::new(),
        containers: Vec::new(),
        drifts: Vec::new(),
        silent_ports: Vec::new(),
    }
}

#[test]
fn a_change_costs_what_changed() {
    let (large, small, rounds) = match Size::chosen() {
        Size::Smoke => (400, 40, 3),
        Size::Full => (10_000, 100, 200),
    };
    let (mut big, mut little) = (Master::new(large), Master::new(small));
    let mut commits = (Vec::new(), Vec::new());
    let mut reports = (Vec::new(), Vec::new());
    for round in 0..rounds {
        commits.0.push(big.one_file(round, large / repo::OBJECTS));
        commits.1.push(little.one_file(round, small / repo::OBJECTS));
        reports.0.push(big.nothing_new());
        reports.1.push(little.nothing_new());
    }
    print("one-file commit", large, small, commits);
    print("observation that changes nothing", large, small, reports);
}

fn print(what: &str, large: usize, small: usize, (big, little): (Vec<f64>, Vec<f64>)) {
    let (big, little) = (median(big), median(little));
    assert!(big > 0.0 && little > 0.0, "the clock stands still");
    println!(
        "{what}: {big:.4} ms CPU at {large} objects, {little:.4} ms at {small}: {:.2} ×",
        big / little
    );
}

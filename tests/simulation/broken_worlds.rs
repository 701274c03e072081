//! The checks bite, too, where no broken part would break a promise soon: pairs of Worlds that no
//! turn may make, and engines that run what none may run.

use std::sync::{Arc, LazyLock};

use kgit::domain::desired::Commit;
use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::node::{Drain, Node};
use kgit::domain::plan::Waits;
use kgit::domain::record::{Deletion, EndedBy, Meta, Pod, ReplicaSet};
use kgit::domain::resource::{AccessMode, Spec, Strategy};
use kgit::domain::stage::{Phase, Stage, Sync};
use kgit::domain::world::{Effect, Record, Table, World, node_key};
use kgit_protocol::directory::Backend;
use kgit_protocol::ids::{Digest, Generation, PodUid};
use kgit_protocol::observation::PodPhase;

use crate::checks::stages::Hooked;
use crate::checks::{Checked, Checks, Turned};
use crate::cluster::Cluster;
use crate::run;
use crate::weather::{Pace, Weather};

/// A World at rest with something in it that a promise is about, and what a turn makes of it.
struct Case<T> {
    before: World,
    after: World,
    cluster: Cluster,
    hooks: Vec<Hooked>,
    found: T,
}

impl<T> Case<T> {
    /// The first World at rest that has it.
    fn with(find: impl Fn(&World) -> Option<T>) -> Self {
        for seed in 0.. {
            let mut cluster = Cluster::new(seed, Some(Weather::calm()), Pace::DENSE, false);
            if run(&mut cluster).is_err() {
                continue;
            }
            let world = cluster.master.view().unwrap().world;
            if let Some(found) = find(&world) {
                let (before, after) = (world.clone(), world);
                return Self { before, after, cluster, hooks: Vec::new(), found };
            }
        }
        unreachable!("seeds do not end");
    }

    fn apply(&mut self, effect: &Effect) {
        self.after.apply(effect, self.after.version + 1);
    }

    fn put(&mut self, pod: Pod) {
        self.apply(&Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod))));
    }

    fn tell_to_end(&mut self, pods: &[Pod]) {
        for pod in pods {
            let deletion =
                Some(Deletion { at: self.cluster.now, grace_seconds: 10, by: EndedBy::Workload });
            self.put(Pod { deletion, ..pod.clone() });
        }
    }

    /// Somebody drains the nodes of these pods.
    fn drain(&mut self, pods: &[Pod]) {
        for name in pods.iter().filter_map(Pod::node) {
            let node = (*self.after.nodes[&node_key(name)].value).clone();
            let drain = Drain {
                by: "ann".to_owned(),
                since: self.cluster.now,
                grace_seconds: None,
                delete_empty_dirs: true,
                force: true,
            };
            let node = Node { drain: Some(drain), unschedulable: true, ..node };
            self.apply(&Effect::Put(node_key(name), Record::Node(Arc::new(node))));
        }
    }

    /// A commit changes these, each in its wave, or as a hook.
    fn commit(&mut self, objects: &[(ObjectKey, &str, Option<&str>)]) {
        let commit = Arc::new(Commit { id: "newer".to_owned(), ..Commit::default() });
        let sync = Some(Sync::new(commit, None));
        let meta = Meta { sync, ..(*self.after.meta).clone() };
        self.apply(&Effect::Meta(Arc::new(meta)));
        for (key, wave, hook) in objects {
            let mut row = (*self.before.objects[key].value).clone();
            let mut resource = (*row.resource).clone();
            let annotations = &mut resource.annotations;
            annotations.insert("kgit.dev/sync-wave".to_owned(), (*wave).to_owned());
            annotations.extend(hook.map(|hook| ("kgit.dev/hook".to_owned(), hook.to_owned())));
            resource.digest = Digest::of(b"changed");
            row.resource = Arc::new(resource);
            self.apply(&Effect::Put(key.clone(), Record::Object(Arc::new(row))));
            if hook.is_some() {
                self.make_anew(key);
            }
        }
    }

    /// The same object again, as another one.
    fn make_anew(&mut self, key: &ObjectKey) {
        let mut row = (*self.after.objects[key].value).clone();
        row.uid.push_str("-again");
        self.apply(&Effect::Put(key.clone(), Record::Object(Arc::new(row))));
    }

    fn turned(&self, readable: bool) -> Turned<'_> {
        static NONE: LazyLock<Waits> = LazyLock::new(Waits::new);
        Turned {
            before: &self.before,
            after: &self.after,
            waits: &NONE,
            now: self.cluster.now,
            readable,
            read: true,
            through: true,
            hooks: &self.hooks,
        }
    }

    fn check(&self, readable: bool) -> Checked {
        Checks::default().turn(&self.turned(readable))
    }

    fn is_noticed(&self, words: &str) {
        let why = self.check(true).unwrap_err();
        assert!(why.contains(words), "{why}");
    }

    /// Runs another pod with the name and the claims of this one, on its node.
    fn run_twin(&mut self, pod: &Pod) -> Checked {
        let name = pod.node().unwrap();
        let agent = self.cluster.agents.iter_mut().find(|agent| agent.name == *name).unwrap();
        let twin = self.cluster.checks.twin_of(&pod.uid, name).unwrap();
        agent.given.insert(twin.clone());
        {
            let mut engine = agent.engine.world();
            let mut all = engine.containers.values();
            let mut seen = all.find(|seen| seen.identity.pod == pod.uid).unwrap().clone();
            seen.id.push_str("-twin");
            seen.identity.pod = twin;
            engine.containers.insert(seen.id.clone(), seen);
            engine.told += 1;
        }
        self.cluster.checks.engine(agent)
    }
}

fn pods_of(world: &World, owner: &ObjectKey) -> Vec<Pod> {
    world.pods_of(owner).map(|row| (*row.value).clone()).collect()
}

/// One more pod beside this one.
fn one_more(pod: &Pod, number: usize) -> Pod {
    let key = pod.key.sibling(pod.key.kind, &format!("more-{number}"));
    Pod { key, uid: PodUid::new(format!("more-{number}")), ..pod.clone() }
}

fn not_placed(pod: Pod) -> Pod {
    Pod { placed: None, observed: None, ..pod }
}

/// A Deployment's set and its pods, at least so many, and a claim of anybody.
fn deployed(world: &World, least: u32, rolls: bool) -> Option<(ReplicaSet, Vec<Pod>)> {
    let fits = |set: &&ReplicaSet| {
        let spec = world.objects.get(&set.owner).map(|row| &row.value.resource.spec);
        let rolling = |strategy| matches!(strategy, Strategy::RollingUpdate { .. });
        set.replicas >= least
            && matches!(spec, Some(Spec::Deployment(spec)) if rolling(spec.strategy) == rolls)
    };
    let set = world.replica_sets.values().map(|row| &*row.value).find(fits)?;
    (!world.claims.is_empty()).then(|| (set.clone(), pods_of(world, &set.key)))
}

fn rolling() -> Case<(ReplicaSet, Vec<Pod>)> {
    Case::with(|world| deployed(world, 2, true))
}

/// The pods of the first object of this kind that has at least so many.
fn pods_of_a(kind: Kind, least: usize) -> Case<Vec<Pod>> {
    Case::with(|world| {
        let mut all = world.objects_of(kind).map(|row| pods_of(world, &row.resource.key));
        all.find(|pods| pods.len() >= least)
    })
}

#[test]
fn a_turn_that_changes_nothing_breaks_no_promise() {
    rolling().check(true).unwrap();
}

#[test]
fn too_many_stops_at_once_are_noticed() {
    let mut case = rolling();
    let pods = case.found.1.clone();
    case.tell_to_end(&pods);
    case.is_noticed("available pods were told to end");
}

#[test]
fn too_many_pods_are_noticed() {
    let mut case = rolling();
    for number in 0..5 {
        case.put(not_placed(one_more(&case.found.1[0], number)));
    }
    case.is_noticed("of at most");
}

#[test]
fn a_new_pod_beside_old_ones_is_noticed_where_all_are_to_go_first() {
    let mut case = Case::with(|world| deployed(world, 1, false));
    let (set, pods) = case.found.clone();
    case.tell_to_end(&pods);
    let key = set.key.sibling(Kind::ReplicaSet, "newer");
    let newer = ReplicaSet { key: key.clone(), revision: set.revision + 1, ..set };
    case.apply(&Effect::Put(key.clone(), Record::ReplicaSet(Arc::new(newer))));
    case.put(not_placed(Pod { owner: key, ..one_more(&pods[0], 0) }));
    case.is_noticed("beside old ones");
}

#[test]
fn too_many_stops_of_a_stateful_set_are_noticed() {
    let mut case = pods_of_a(Kind::StatefulSet, 2);
    let pods = case.found.clone();
    case.tell_to_end(&pods);
    case.is_noticed("are missing");
}

#[test]
fn too_many_stops_of_a_daemon_set_are_noticed() {
    let mut case = pods_of_a(Kind::DaemonSet, 2);
    let pods = case.found.clone();
    case.tell_to_end(&pods);
    case.is_noticed("nodes go without");
}

#[test]
fn a_second_pod_of_a_daemon_set_on_one_node_is_noticed() {
    let mut case = pods_of_a(Kind::DaemonSet, 1);
    case.put(not_placed(one_more(&case.found[0], 0)));
    case.is_noticed("on one node");
}

#[test]
fn a_pod_for_a_finished_job_is_noticed() {
    let mut case = Case::with(|world| {
        let mut jobs = world.jobs.iter().filter(|(_, job)| job.finished.is_some());
        jobs.find_map(|(key, _)| pods_of(world, key).pop())
    });
    case.put(not_placed(one_more(&case.found, 0)));
    case.is_noticed("for a finished job");
}

#[test]
fn a_job_that_runs_again_after_it_succeeded_is_noticed() {
    let case = Case::with(|world| {
        let mut pods = world.pods.values().filter(|pod| pod.owner.kind == Kind::Job);
        pods.find(|pod| pod.phase() == PodPhase::Succeeded).cloned()
    });
    let why = case.cluster.checks.started(&case.found.uid, "main").unwrap_err();
    assert!(why.contains("runs again after it succeeded"), "{why}");
}

#[test]
fn a_drain_beyond_a_disruption_budget_is_noticed() {
    let mut case = Case::with(|world| {
        let (set, pods) = deployed(world, 2, true)?;
        let budget = set.owner.sibling(Kind::PodDisruptionBudget, &set.owner.name);
        world.objects.contains_key(&budget).then_some(pods)
    });
    let pods = case.found.clone();
    case.drain(&pods);
    case.tell_to_end(&pods);
    case.is_noticed("was drained, which leaves 0");
}

#[test]
fn a_drain_that_nothing_explains_is_noticed() {
    let mut case = rolling();
    let pods = case.found.1.clone();
    case.drain(&pods);
    case.is_noticed("is drained, has pods, and waits for nothing");
}

#[test]
fn an_ordinal_that_runs_twice_is_noticed() {
    let mut case = pods_of_a(Kind::StatefulSet, 1);
    let why = case.run_twin(&case.found[0].clone()).unwrap_err();
    assert!(why.starts_with("Ordinal("), "{why}");
}

/// A pod of a Deployment whose claim has this mode.
fn claimed(world: &World, mode: AccessMode) -> Option<Pod> {
    let has = |pod: &Pod| {
        let key = |name: &str| pod.key.sibling(Kind::PersistentVolumeClaim, name);
        let mut claims = pod.template.claims().filter_map(|name| world.objects.get(&key(name)));
        claims.any(|row| {
            matches!(&row.resource.spec, Spec::PersistentVolumeClaim(spec)
                if spec.access_modes == [mode])
        })
    };
    let mut pods = world.pods.values().filter(|pod| pod.owner.kind == Kind::ReplicaSet);
    pods.find(|pod| has(pod)).map(|row| (*row.value).clone())
}

#[test]
fn a_claim_of_one_pod_that_two_use_is_noticed() {
    let mut case = Case::with(|world| claimed(world, AccessMode::ReadWriteOncePod));
    let why = case.run_twin(&case.found.clone()).unwrap_err();
    assert!(why.starts_with("OfPod("), "{why}");
}

#[test]
fn two_pods_on_one_node_may_use_a_claim_of_one_node() {
    let mut case = Case::with(|world| claimed(world, AccessMode::ReadWriteOnce));
    case.run_twin(&case.found.clone()).unwrap();
}

#[test]
fn a_lost_pod_is_replaced_though_the_bounds_are_narrower_by_now_and_none_comes_on_top() {
    let mut case = rolling();
    let (set, pods) = case.found.clone();
    let many = ReplicaSet { replicas: set.replicas + 5, ..set.clone() };
    let put = Effect::Put(set.key.clone(), Record::ReplicaSet(Arc::new(many.clone())));
    case.before.apply(&put, case.before.version);
    case.apply(&put);
    for number in 0..5 {
        case.put(not_placed(one_more(&pods[0], number)));
    }
    // Its other promises are kept no better: nothing says what they wait for.
    case.is_noticed("waits for nothing");
    let more = ReplicaSet { replicas: many.replicas + 1, ..many };
    case.apply(&Effect::Put(set.key.clone(), Record::ReplicaSet(Arc::new(more))));
    case.is_noticed("of at most");
}

#[test]
fn too_many_pods_of_a_set_with_a_manifest_of_its_own_are_noticed() {
    let mut case = Case::with(|world| {
        let mut sets = world.objects_of(Kind::ReplicaSet);
        sets.find_map(|row| pods_of(world, &row.resource.key).pop())
    });
    case.put(not_placed(one_more(&case.found, 0)));
    case.is_noticed("pods, of");
}

#[test]
fn a_change_before_its_turn_is_noticed() {
    let mut case = rolling();
    let (set, pods) = case.found.clone();
    case.put(not_placed(pods[0].clone()));
    case.commit(&[(set.owner.clone(), "0", None), (settings(), "0", None)]);
    case.is_noticed("waits for nothing");
    case.commit(&[(set.owner, "0", None), (settings(), "1", None)]);
    case.is_noticed("of an earlier stage was healthy");
}

#[test]
fn a_change_before_the_hook_that_precedes_it_is_noticed() {
    let mut case = rolling();
    let hook = settings().sibling(Kind::Job, "hook");
    let stages = vec![Stage { phase: Phase::PreSync, wave: 0 }];
    case.hooks.push(Hooked { key: hook, stages });
    case.commit(&[(settings(), "0", None)]);
    case.is_noticed("before the hook Job/default/hook ended well");
}

#[test]
fn a_deletion_before_the_hook_that_precedes_it_is_noticed() {
    let mut case = rolling();
    let hook = settings().sibling(Kind::Job, "hook");
    let stages = vec![Stage { phase: Phase::PreSync, wave: 0 }];
    case.hooks.push(Hooked { key: hook, stages });
    case.commit(&[]);
    case.apply(&Effect::Remove(settings(), Table::Object));
    case.is_noticed("went before the hook Job/default/hook ended well");
}

#[test]
fn a_hook_that_runs_twice_for_one_commit_is_noticed() {
    let mut case = rolling();
    let mut checks = Checks::default();
    case.commit(&[(settings(), "0", Some("SyncFail"))]);
    checks.turn(&case.turned(true)).unwrap();
    case.before = case.after.clone();
    case.make_anew(&settings());
    let why = checks.turn(&case.turned(true)).unwrap_err();
    assert!(why.contains("ran 2 times for one commit"), "{why}");
}

fn settings() -> ObjectKey {
    ObjectKey::new(Kind::ConfigMap, "default", "settings")
}

#[test]
fn two_pods_with_one_address_are_noticed() {
    let mut case = rolling();
    case.put(one_more(&case.found.1[0], 0));
    case.is_noticed("have the address");
}

#[test]
fn a_pending_pod_that_nothing_explains_is_noticed() {
    let mut case = rolling();
    case.put(not_placed(case.found.1[0].clone()));
    case.is_noticed("waits for nothing");
}

#[test]
fn a_service_that_leads_past_its_pods_is_noticed() {
    let mut case = rolling();
    let (key, row) = case.before.services.iter().find(|(_, row)| !row.pods.is_empty()).unwrap();
    let (key, mut state) = (key.clone(), (*row.value).clone());
    state.service.backend = Backend::Endpoints(Vec::new());
    state.pods.clear();
    case.apply(&Effect::Put(key, Record::Service(Arc::new(state))));
    case.is_noticed("leads to");
}

#[test]
fn a_removed_claim_is_noticed() {
    let mut case = Case::with(|world| {
        // Not one that a StatefulSet made, which may say that it goes.
        let mut claims = world.claims.keys();
        claims.find(|key| world.objects.get(*key).is_some_and(|row| row.owner.is_none())).cloned()
    });
    case.apply(&Effect::Remove(case.found.clone(), Table::Claim));
    case.is_noticed("was removed");
}

#[test]
fn a_deletion_while_a_file_is_broken_is_noticed() {
    let mut case = rolling();
    let owner = case.found.0.owner.clone();
    case.apply(&Effect::Remove(owner, Table::Object));
    let why = case.check(false).unwrap_err();
    assert!(why.contains("while a file can't be read"), "{why}");
}

#[test]
fn generations_that_go_back_are_noticed() {
    let case = rolling();
    let mut checks = Checks::default();
    let mut check = |world: &World| {
        let (before, waits) = (world, &Waits::new());
        let now = case.cluster.now;
        let (readable, read, through) = (true, true, true);
        let hooks = &[];
        checks.turn(&Turned { before, after: world, waits, now, readable, read, through, hooks })
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

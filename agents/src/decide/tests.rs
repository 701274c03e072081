//! The core against an engine in memory: what happens, told as lines; and what must never happen,
//! whatever a seed makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kgit_protocol::assignment::{AssignmentSet, Order, PodAssignment, Stamp};
use kgit_protocol::ids::{Attempt, Digest, Epoch, Generation, PodUid};
use kgit_protocol::messages::Orders;
use kgit_protocol::observation::{ContainerState, PodObservation, PodPhase};
use kgit_protocol::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decide::Step;
use crate::decide::facts::Touched;
use crate::decide::outcome::{Note, ProbeResult, PullTold};
use crate::decide::probing::ProbeKind;
use crate::node::Node;
use crate::runtime::sim::Sim;
use crate::runtime::{Change, EventKind, PAUSE, RunState, Runtime as _, RuntimeError, Scope, Seen};
use crate::spec::{SpecKey, member_order, pause_order};

const RANGE: &str = "10.1.2.0/24";

/// A node, its engine and its clock.
struct World {
    node: Node,
    sim: Sim,
    now: Timestamp,
    pods: BTreeMap<PodUid, PodAssignment>,
    generation: u64,
    told: BTreeMap<PodUid, PodObservation>,
    lines: Vec<String>,
}

impl World {
    fn new() -> Self {
        let sim = Sim::default();
        sim.world().images.insert("here".to_owned());
        sim.world().registry.insert("there".to_owned());
        sim.world().network = Some(RANGE.parse().unwrap());
        Self {
            node: Node::new(SpecKey([1; 32]), None, BTreeMap::new()),
            sim,
            now: Timestamp(1_000_000),
            pods: BTreeMap::new(),
            generation: 0,
            told: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    fn order(&mut self, pod: PodAssignment) {
        self.pods.insert(pod.uid.clone(), pod);
        self.publish();
    }

    fn publish(&mut self) {
        self.generation += 1;
        let stamp = Stamp {
            epoch: Epoch(1),
            generation: Generation(self.generation),
            digest: Digest::new(""),
        };
        let mut set = AssignmentSet {
            stamp,
            pods: self.pods.clone(),
            remove_volumes: Vec::new(),
            keep_others: false,
        };
        for pod in set.pods.values_mut() {
            pod.digest = pod.spec.digest();
        }
        set.stamp.digest = set.content_digest();
        self.node.take(Orders::Set(set));
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.sim.set_time(self.now);
    }

    /// The agent dies and comes back with what its journal has.
    fn restart(&mut self) {
        let set = self.node.set().cloned();
        let facts = self.node.facts().clone();
        self.node = Node::new(SpecKey([1; 32]), set, facts);
    }

    async fn hear(&mut self) {
        let events: Vec<_> = self.sim.world().events.drain(..).collect();
        for event in events {
            let EventKind::Container { id, identity, change } = event.kind else { continue };
            if let Change::Signalled(signal) = change {
                let kind = kgit_protocol::observation::DriftKind::Stopped;
                let touched = Touched { id, at: event.at, kind, seen: format!("signal {signal}") };
                let note = Note::Touched { container: identity.container, touched };
                self.node.note(&identity.pod, note, self.now);
            }
        }
    }

    /// One look and what follows from it; whether there was anything to do.
    async fn step(&mut self) -> bool {
        self.hear().await;
        let Ok(view) = self.sim.view(RANGE.parse().unwrap()).await else { return false };
        let round = self.node.decide(&view, None, self.now);
        for observation in round.observations {
            self.told.insert(observation.uid.clone(), observation);
        }
        let busy = !round.work.is_empty();
        for (uid, steps) in round.work {
            for step in steps {
                if !self.carry_out(&uid, step).await {
                    break;
                }
            }
            self.node.finish(&uid);
        }
        self.check();
        busy
    }

    /// Steps until nothing is left to do at this moment.
    async fn settle(&mut self) {
        for _ in 0..100 {
            if !self.step().await {
                return;
            }
        }
        panic!("never quiet:\n{}", self.lines.join("\n"));
    }

    async fn carry_out(&mut self, uid: &PodUid, step: Step) -> bool {
        let sim = self.sim.clone();
        let done = match step {
            Step::Start { container, attempt, sandbox } => {
                return self.start(uid, &container, attempt, sandbox).await;
            }
            Step::Pull { container, image, attempt } => {
                self.lines.push(format!("pull {image}"));
                let note = match sim.pull(&image, &[]).await {
                    Ok(()) => Note::Pulled { container, attempt, told: PullTold::Fetched(image) },
                    Err(error) => Note::PullFailed { container, message: error.to_string() },
                };
                self.node.note(uid, note, self.now);
                return true;
            }
            Step::Hook { container, id, hook, .. } => {
                self.lines.push(format!("{hook:?} {container}"));
                let note = Note::HookEnded { container, id, hook, result: Ok(()) };
                self.node.note(uid, note, self.now);
                return true;
            }
            Step::LastWords { .. } | Step::Clean => return true,
            Step::Resume { container, id } => {
                self.lines.push(format!("resume {container}"));
                let done = sim.start(&id).await;
                if done.is_ok() {
                    self.node.note(uid, Note::Started { container, id }, self.now);
                }
                done
            }
            Step::Terminate { id } => {
                self.line("terminate", &id);
                sim.terminate(&id).await
            }
            Step::Kill { id } => {
                self.line("kill", &id);
                sim.kill(&id).await
            }
            Step::Unpause { id } => {
                self.line("unpause", &id);
                sim.unpause(&id).await
            }
            Step::Remove { id } => {
                self.line("remove", &id);
                sim.remove(&id).await
            }
            Step::Attach { id } => {
                self.line("attach", &id);
                let address = self.node.pod(uid).and_then(|pod| pod.spec.address).unwrap();
                sim.attach(&id, address).await
            }
        };
        done.is_ok()
    }

    async fn start(
        &mut self,
        uid: &PodUid,
        container: &str,
        attempt: Attempt,
        sandbox: Option<String>,
    ) -> bool {
        let scope = Scope { cluster: "c".into(), node: "n".into() };
        let pod = self.node.pod(uid).unwrap().clone();
        let hash = self.node.hash(uid, container);
        let order = if container == PAUSE {
            let image = self.sim.ensure_pause_image().await;
            let Ok(image) = image else { return false };
            pause_order(&scope, &pod, attempt, hash, image, Vec::new())
        } else {
            let all = pod.spec.init_containers.iter().chain(&pod.spec.containers);
            let spec = all.into_iter().find(|spec| spec.name == container).unwrap().clone();
            member_order(&scope, &pod, &spec, attempt, hash, sandbox.as_deref(), Vec::new())
        };
        let name = if container == PAUSE { "pause" } else { container };
        self.lines.push(format!("start {name} {attempt}"));
        let made = match self.sim.create(&order).await {
            Ok(id) => self.sim.start(&id).await.map(|()| id),
            Err(error) => Err(error),
        };
        let container = container.to_owned();
        let (ok, note) = match made {
            Ok(id) => (true, Note::Started { container, id }),
            Err(RuntimeError::NoSuchImage(_)) => (true, Note::ImageMissing { container }),
            Err(error) => {
                let message = error.to_string();
                (false, Note::StartFailed { container, reason: "RunContainerError", message })
            }
        };
        self.node.note(uid, note, self.now);
        ok
    }

    fn line(&mut self, verb: &str, id: &str) {
        let name = match self.sim.world().containers.get(id) {
            Some(seen) if seen.identity.container == PAUSE => "pause".to_owned(),
            Some(seen) => format!("{} {}", seen.identity.container, seen.identity.attempt),
            None => "what is gone".to_owned(),
        };
        self.lines.push(format!("{verb} {name}"));
    }

    /// What must hold at every moment.
    fn check(&self) {
        let world = self.sim.world();
        let mut alive = BTreeSet::new();
        for seen in world.containers.values().filter(|seen| seen.state.is_alive()) {
            let who = (seen.identity.pod.clone(), seen.identity.container.clone());
            assert!(alive.insert(who), "two of one:\n{}", self.lines.join("\n"));
        }
    }

    fn id(&self, container: &str) -> String {
        let world = self.sim.world();
        let all = world.containers.values().filter(|seen| seen.identity.container == container);
        all.max_by_key(|seen| seen.identity.attempt).unwrap().id.clone()
    }

    fn exit(&mut self, container: &str, code: i64) {
        self.sim.exit(&self.id(container), code);
    }

    fn drain(&mut self) -> String {
        std::mem::take(&mut self.lines).join(", ")
    }

    fn phase(&self) -> PodPhase {
        self.told.values().next().unwrap().phase
    }

    fn waits(&self, container: &str) -> String {
        let pod = self.told.values().next().unwrap();
        let all = pod.init_containers.iter().chain(&pod.containers);
        match &all.into_iter().find(|seen| seen.name == container).unwrap().state {
            ContainerState::Waiting { reason, .. } => reason.clone(),
            other => format!("{other:?}"),
        }
    }
}

fn pod(uid: &str, spec: Value) -> PodAssignment {
    let mut whole = json!({
        "hostname": "h",
        "address": "10.1.2.3",
        "dns": { "nameservers": [], "searches": [], "options": [] },
        "restart_policy": "Always",
        "termination_grace_seconds": 30,
    });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "uid": uid, "namespace": "default", "name": "p", "order": "Run", "digest": "",
        "spec": whole,
    }))
    .unwrap()
}

fn member(name: &str) -> Value {
    json!({ "name": name, "image": "here", "pull_policy": "IfNotPresent" })
}

fn stop(pod: &PodAssignment) -> PodAssignment {
    PodAssignment { order: Order::Stop { grace_seconds: 30 }, ..pod.clone() }
}

#[tokio::test]
async fn one_container_needs_no_pause_and_a_crash_backs_off() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("m")] })));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
    assert_eq!(world.phase(), PodPhase::Running);
    world.pass(5);
    world.exit("m", 1);
    world.settle().await;
    assert_eq!(world.drain(), "start m 1", "the first restart is at once");
    world.exit("m", 1);
    world.settle().await;
    assert_eq!(world.drain(), "");
    assert_eq!(world.waits("m"), "CrashLoopBackOff");
    world.pass(9);
    world.settle().await;
    assert_eq!(world.drain(), "");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.drain(), "start m 2, remove m 0");
    world.step().await;
    assert!(world.sim.world().containers.len() <= 2, "only the newest two are kept");
}

#[tokio::test]
async fn members_share_a_pause_and_follow_it_when_it_restarts() {
    let mut world = World::new();
    let order = pod(
        "a",
        json!({
        "init_containers": [member("i")], "containers": [member("x"), member("y")] }),
    );
    world.order(order.clone());
    world.settle().await;
    assert_eq!(world.drain(), "start pause 0, start i 0");
    assert_eq!(world.waits("x"), "PodInitializing");
    world.exit("i", 0);
    world.settle().await;
    assert_eq!(world.drain(), "start x 0, start y 0");
    world.pass(60);
    world.sim.kill_from_outside(&world.id(PAUSE));
    world.settle().await;
    let lines = world.drain();
    assert!(lines == "remove x 0, remove y 0, start pause 1, remove pause, start i 1", "{lines}");
    world.exit("i", 0);
    world.settle().await;
    assert!(world.drain().ends_with("start x 1, start y 1"));
    world.order(stop(&order));
    world.settle().await;
    assert_eq!(world.phase(), PodPhase::Gone);
    assert!(world.sim.world().containers.is_empty());
}

#[tokio::test]
async fn what_others_end_starts_at_once_whatever_the_policy() {
    let mut world = World::new();
    world.order(pod("a", json!({ "restart_policy": "Never", "containers": [member("m")] })));
    world.settle().await;
    world.sim.kill_from_outside(&world.id("m"));
    world.settle().await;
    world.sim.remove_from_outside(&world.id("m"));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, start m 1, start m 2");
    let drifts: Vec<_> = world.told.values().next().unwrap().drifts.clone();
    let kinds: Vec<String> = drifts.iter().map(|drift| format!("{:?}", drift.kind)).collect();
    assert_eq!(kinds, ["Stopped", "Removed"]);
    world.exit("m", 0);
    world.settle().await;
    assert_eq!(world.phase(), PodPhase::Succeeded);
}

#[tokio::test]
async fn a_stubborn_container_is_killed_when_its_grace_is_over() {
    let mut world = World::new();
    let mut container = member("m");
    container["pre_stop"] = json!({ "Exec": { "command": ["x"] } });
    let order = pod("a", json!({ "containers": [container] }));
    world.sim.world().stubborn.insert("m".to_owned());
    world.order(order.clone());
    world.settle().await;
    world.order(stop(&order));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, PreStop m, terminate m 0");
    world.pass(31);
    world.settle().await;
    assert_eq!(world.drain(), "");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.drain(), "kill m 0, remove m 0");
    assert_eq!(world.phase(), PodPhase::Gone);
}

#[tokio::test]
async fn a_missing_image_is_fetched_and_a_failure_backs_off() {
    let mut world = World::new();
    let image = |name: &str| json!({ "name": "m", "image": name, "pull_policy": "IfNotPresent" });
    world.order(pod("a", json!({ "containers": [image("there")] })));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, pull there, start m 0");
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [image("nowhere")] })));
    world.settle().await;
    assert_eq!(world.waits("m"), "ErrImagePull");
    world.pass(10);
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, pull nowhere, pull nowhere");
    assert_eq!(world.waits("m"), "ImagePullBackOff");
}

#[tokio::test]
async fn a_failed_liveness_probe_ends_the_container() {
    let mut world = World::new();
    let mut container = member("m");
    container["liveness"] = json!({ "handler": { "Tcp": { "host": null, "port": 1 } },
        "initial_delay_seconds": 0, "period_seconds": 1, "timeout_seconds": 1,
        "success_threshold": 1, "failure_threshold": 1 });
    let order = pod("a", json!({ "containers": [container] }));
    let probe = order.spec.containers[0].liveness.clone().unwrap();
    world.order(order.clone());
    world.settle().await;
    let result = ProbeResult::Failure("no".to_owned());
    let (container, id, kind) = ("m".to_owned(), world.id("m"), ProbeKind::Liveness);
    world.node.note(&order.uid, Note::Probed { container, id, kind, probe, result }, world.now);
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, terminate m 0, start m 1");
}

#[tokio::test]
async fn a_node_that_was_never_told_anything_removes_nothing() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("m")] })));
    world.settle().await;
    world.node = Node::new(SpecKey([1; 32]), None, BTreeMap::new());
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
}

/// Something that goes wrong, or on.
#[derive(Clone, Debug)]
enum Act {
    Order(u8),
    Stop(u8),
    Forget(u8),
    Exit(u8, bool),
    Kill(u8),
    Remove(u8),
    Pause(u8),
    Fault(u8),
    Restart,
    Pass(u8),
    Step,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..4u8).prop_map(Act::Order),
        1 => (0..4u8).prop_map(Act::Stop),
        1 => (0..4u8).prop_map(Act::Forget),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, well)| Act::Exit(which, well)),
        2 => any::<u8>().prop_map(Act::Kill),
        2 => any::<u8>().prop_map(Act::Remove),
        1 => any::<u8>().prop_map(Act::Pause),
        1 => (0..4u8).prop_map(Act::Fault),
        1 => Just(Act::Restart),
        2 => any::<u8>().prop_map(Act::Pass),
        6 => Just(Act::Step),
    ]
}

fn some_pod(number: u8) -> PodAssignment {
    let spec = match number {
        0 => json!({ "containers": [member("m")] }),
        1 => json!({ "containers": [member("x"), member("y")] }),
        2 => {
            let mut sidecar = member("s");
            sidecar["sidecar"] = json!(true);
            json!({ "init_containers": [sidecar, member("i")], "containers": [member("m")] })
        }
        _ => json!({ "restart_policy": "OnFailure", "containers": [member("m")] }),
    };
    let mut pod = pod(&format!("pod-{number}"), spec);
    pod.spec.address = Some(std::net::Ipv4Addr::new(10, 1, 2, 10 + number));
    pod
}

async fn act_out(acts: Vec<Act>) -> World {
    let mut world = World::new();
    for act in acts {
        let pick = |world: &World, which: u8| -> Option<Seen> {
            let engine = world.sim.world();
            let all: Vec<_> = engine.containers.values().collect();
            all.get(usize::from(which) % all.len().max(1)).map(|seen| (*seen).clone())
        };
        match act {
            Act::Order(number) => world.order(some_pod(number)),
            Act::Stop(number) => {
                let pod = stop(&some_pod(number));
                if world.pods.contains_key(&pod.uid) {
                    world.order(pod);
                }
            }
            Act::Forget(number) => {
                world.pods.remove(&some_pod(number).uid);
                world.publish();
            }
            Act::Exit(which, well) => {
                if let Some(seen) = pick(&world, which)
                    && seen.identity.container != PAUSE
                {
                    world.sim.exit(&seen.id, i64::from(!well));
                }
            }
            Act::Kill(which) => {
                if let Some(seen) = pick(&world, which) {
                    world.sim.kill_from_outside(&seen.id);
                }
            }
            Act::Remove(which) => {
                if let Some(seen) = pick(&world, which) {
                    world.sim.remove_from_outside(&seen.id);
                }
            }
            Act::Pause(which) => {
                if let Some(seen) = pick(&world, which)
                    && let RunState::Running { started_at } = seen.state
                {
                    let mut engine = world.sim.world();
                    engine.containers.get_mut(&seen.id).unwrap().state =
                        RunState::Paused { started_at };
                }
            }
            Act::Fault(which) => {
                let call = ["create", "start", "remove", "terminate"][usize::from(which)];
                world.sim.world().faults.insert(call.to_owned(), 1);
            }
            Act::Restart => world.restart(),
            Act::Pass(seconds) => world.pass(u64::from(seconds)),
            Act::Step => {
                world.step().await;
            }
        }
    }
    world
}

/// Nothing goes wrong any more: init containers end well, time passes.
async fn heal(world: &mut World) {
    world.sim.world().faults.clear();
    for _ in 0..40 {
        world.settle().await;
        let inits: Vec<String> = {
            let engine = world.sim.world();
            let all = engine.containers.values();
            all.filter(|seen| seen.identity.container == "i" && seen.state.is_alive())
                .map(|seen| seen.id.clone())
                .collect()
        };
        for id in inits {
            world.sim.exit(&id, 0);
        }
        world.pass(60);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_converges_to_what_is_ordered(acts in prop::collection::vec(act(), 0..60)) {
        runtime().block_on(async {
            let mut world = act_out(acts).await;
            if world.node.set().is_none() {
                return;
            }
            heal(&mut world).await;
            world.settle().await;
            world.drain();
            let engine = world.sim.world();
            for seen in engine.containers.values() {
                assert!(world.pods.contains_key(&seen.identity.pod), "left over: {seen:?}");
            }
            for pod in world.pods.values() {
                let alive: BTreeSet<&str> = engine
                    .containers
                    .values()
                    .filter(|seen| seen.identity.pod == pod.uid && seen.state.is_alive())
                    .map(|seen| seen.identity.container.as_str())
                    .filter(|name| *name != PAUSE)
                    .collect();
                let observed = &world.told[&pod.uid];
                match (pod.order, observed.phase) {
                    (Order::Stop { .. }, phase) => assert_eq!(phase, PodPhase::Gone),
                    (Order::Run, PodPhase::Succeeded | PodPhase::Failed) => {
                        assert!(alive.is_empty(), "{alive:?}");
                    }
                    (Order::Run, phase) => {
                        assert_eq!(phase, PodPhase::Running, "{observed:#?}");
                        for spec in &pod.spec.containers {
                            assert!(alive.contains(spec.name.as_str()), "{observed:#?}");
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn the_same_history_leads_to_the_same_steps(acts in prop::collection::vec(act(), 0..40)) {
        let first = runtime().block_on(act_out(acts.clone())).lines;
        let second = runtime().block_on(act_out(acts)).lines;
        prop_assert_eq!(first, second);
    }
}

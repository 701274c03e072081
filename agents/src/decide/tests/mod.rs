//! The core against an engine in memory: what happens, told as lines; and what must never happen,
//! whatever a seed makes of it.

mod chaos;
mod cut_off;
mod ends;
mod exits;
mod images;
mod meddling;
mod probes;
mod script;
mod stories;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kgit_protocol::assignment::{AssignmentSet, Order, PodAssignment, Stamp};
use kgit_protocol::ids::{Attempt, Digest, Epoch, Generation, PodUid};
use kgit_protocol::messages::Orders;
use kgit_protocol::observation::{ContainerState, PodObservation, PodPhase};
use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::decide::facts::Touched;
use crate::decide::outcome::{Note, PullTold};
use crate::decide::probing::ProbeTarget;
use crate::decide::{Outage, Step};
use crate::node::Node;
use crate::runtime::sim::Sim;
use crate::runtime::{Change, EventKind, PAUSE, Runtime as _, RuntimeError, Scope};
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
    /// What was done that leaves no trace in the engine.
    words: Vec<String>,
    /// What was told about pods, as `Reason: message`.
    events: Vec<String>,
    /// When the last look asked for another one, and what it wanted to be probed.
    wake: Option<Timestamp>,
    probes: Vec<ProbeTarget>,
    outage: Option<Outage>,
    /// What becomes of hooks; `None`: they go on and on.
    hooks: Option<Result<(), String>>,
    /// Containers whose command isn't there.
    unrunnable: BTreeSet<String>,
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
            words: Vec::new(),
            events: Vec::new(),
            wake: None,
            probes: Vec::new(),
            outage: None,
            hooks: Some(Ok(())),
            unrunnable: BTreeSet::new(),
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

    /// The node is taken down on purpose, and comes back.
    async fn down_and_up(&mut self) {
        let view = self.sim.view(RANGE.parse().unwrap()).await.unwrap();
        self.node.take_down(&view, self.now);
        for id in view.containers.iter().map(|seen| &seen.id) {
            self.sim.remove(id).await.unwrap();
        }
        self.sim.world().events.clear();
        self.restart();
    }

    async fn view(&self) -> crate::runtime::View {
        self.sim.view(RANGE.parse().unwrap()).await.unwrap()
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
        let round = self.node.decide(&view, self.outage, self.now);
        let told = round.events.iter().map(|event| format!("{}: {}", event.reason, event.message));
        self.events.extend(told);
        self.wake = round.wake;
        self.probes = round.probes.into_iter().map(|(_, target)| target).collect();
        for observation in round.observations {
            self.told.insert(observation.uid.clone(), observation);
        }
        let busy = !round.work.is_empty();
        for (uid, steps) in round.work {
            for step in steps {
                if !self.carry_out(&uid, step).await {
                    self.node.failed(&uid);
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
                if let Some(result) = self.hooks.clone() {
                    let note = Note::HookEnded { container, id, hook, result };
                    self.node.note(uid, note, self.now);
                }
                return true;
            }
            Step::LastWords { container, id, attempt } => {
                self.words.push(format!("read {container} {attempt} {}", short(&id)));
                return true;
            }
            Step::Clean => {
                self.words.push("clean".to_owned());
                return true;
            }
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
            let spec = pod.spec.container(container).unwrap().clone();
            member_order(&scope, &pod, &spec, attempt, hash, sandbox.as_deref(), Vec::new())
        };
        let name = if container == PAUSE { "pause" } else { container };
        self.lines.push(format!("start {name} {attempt}"));
        let made = match self.sim.create(&order).await {
            Ok(_) if self.unrunnable.contains(container) => {
                let message = "no such command".to_owned();
                self.node.note(
                    uid,
                    Note::CannotRun { container: name.to_owned(), message },
                    self.now,
                );
                return false;
            }
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
        match &pod.all_containers().find(|seen| seen.name == container).unwrap().state {
            ContainerState::Waiting { reason, .. } => reason.clone(),
            other => format!("{other:?}"),
        }
    }
}

/// An id without the zeros in front.
fn short(id: &str) -> &str {
    id.trim_start_matches('0')
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

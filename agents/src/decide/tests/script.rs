//! Stories as scripts: what happens in one pod, line by line, and below each line what the agent
//! did and told about it.
//!
//! Lines of a script: `+SECONDS`, `exit NAME CODE`, … as [`Story::act`] has them; several that
//! happen before anybody looks are joined by `;`. Told are the steps, `wake` (in seconds from now),
//! the probes wanted, events but for those of every start, drifts, and those lines of the pod's
//! status that changed. Times are seconds from the beginning, ids the engine's.

use std::time::Duration;

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::ids::Attempt;
use kgit_protocol::observation::{
    ContainerObservation, ContainerState, DriftKind, PodObservation, Termination,
};
use kgit_protocol::time::Timestamp;
use serde_json::Value;

use crate::decide::Hook;
use crate::decide::Outage;
use crate::decide::facts::Touched;
use crate::decide::outcome::{Note, ProbeResult, PullTold};
use crate::decide::probing::{ProbeKind, ProbeTarget};
use crate::decide::tests::{World, pod, short};
use crate::node::Node;
use crate::runtime::{Change, Event, EventKind, Exit, PAUSE, RunState, Seen};
use crate::spec::SpecKey;

const BEGINNING: Timestamp = Timestamp(1_000_000);

/// Tells what becomes of a pod with this spec, ordered at the beginning.
pub(super) fn tell(spec: Value, script: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Story::new(pod("a", spec)).tell(script))
}

struct Story {
    world: World,
    pod: PodAssignment,
    told: Vec<String>,
    probes: Vec<String>,
    drifts: u64,
}

impl Story {
    fn new(pod: PodAssignment) -> Self {
        let mut world = World::new();
        world.pass(0);
        Self { world, pod, told: Vec::new(), probes: Vec::new(), drifts: 0 }
    }

    async fn tell(mut self, script: &str) -> String {
        let mut told = String::new();
        let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
        for line in ["run"].into_iter().chain(lines) {
            for act in line.split(';') {
                self.act(act.trim());
            }
            self.world.settle().await;
            told.push_str(&format!("> {line}\n"));
            for line in self.news() {
                told.push_str(&format!("  {line}\n"));
            }
        }
        told
    }

    fn act(&mut self, act: &str) {
        let words: Vec<&str> = act.split_whitespace().collect();
        match *words {
            [seconds] if seconds.starts_with('+') => self.world.pass(number(&seconds[1..])),
            ["run"] => self.world.order(self.pod.clone()),
            ["stop", grace] => {
                let order = Order::Stop { grace_seconds: number(grace) };
                self.world.order(PodAssignment { order, ..self.pod.clone() });
            }
            ["forget"] => {
                self.world.pods.clear();
                self.world.publish();
            }
            ["change", name] => {
                let spec = self.pod.spec.containers.iter_mut().find(|it| it.name == name).unwrap();
                spec.command.push("changed".to_owned());
                self.world.order(self.pod.clone());
            }
            ["agent", "restarts"] => self.world.restart(),
            ["agent", "forgets"] => {
                let set = self.world.node.set().cloned();
                self.world.node = Node::new(SpecKey([1; 32]), set, Default::default());
            }
            ["unrunnable", name] => {
                self.world.unrunnable.insert(name.to_owned());
            }
            ["served"] => self.world.node.serve([self.pod.uid.clone()].into()),
            ["cut-off", "unknown"] => self.world.node.cut_off_for(None),
            ["cut-off", seconds] => {
                self.world.node.cut_off_for(Some(Duration::from_secs(number(seconds))));
            }
            ["outage", from, until] => {
                self.world.outage = Some(Outage { from: at(from), until: at(until) });
            }
            ["hooks", "hang"] => self.world.hooks = None,
            ["hooks", "fail"] => self.world.hooks = Some(Err("no".to_owned())),
            ["fault", call, times] => {
                self.world.sim.world().faults.insert(call.to_owned(), number(times));
            }
            ["image", "gone", image] => {
                self.world.sim.world().images.remove(image);
            }
            ["stubborn", name] => {
                self.world.sim.world().stubborn.insert(name.to_owned());
            }
            _ => self.happens(&words),
        }
    }

    /// What happens to a container in the engine.
    fn happens(&mut self, words: &[&str]) {
        let now = self.world.now;
        match *words {
            ["exit", name, code] => self.world.sim.exit(&self.id(name), number(code)),
            ["oom", name] => self.ended(name, |exit| exit.out_of_memory = true),
            ["broken", name, "unstarted"] => self.ended(name, |exit| {
                exit.started_at = None;
                exit.error = "no such file".to_owned();
            }),
            ["broken", name, "started"] => {
                self.ended(name, |exit| exit.error = "lost".to_owned());
            }
            ["kill", name] => self.world.sim.kill_from_outside(&self.id(name)),
            ["remove", name] => self.world.sim.remove_from_outside(&self.id(name)),
            ["signal", name, signal] => {
                let id = self.id(name);
                let mut engine = self.world.sim.world();
                let identity = engine.containers[&id].identity.clone();
                let kind = EventKind::Container {
                    id,
                    identity,
                    change: Change::Signalled(number(signal)),
                };
                engine.events.push_back(Event { at: now, kind });
            }
            ["pause", name] => self.seen(name, |seen| {
                let RunState::Running { started_at } = seen.state else { panic!("not running") };
                seen.state = RunState::Paused { started_at };
            }),
            ["start", name] => {
                self.seen(name, |seen| seen.state = RunState::Running { started_at: now });
            }
            ["removing", name] => self.seen(name, |seen| seen.state = RunState::Removing),
            ["address", name, address] => {
                self.seen(name, |seen| seen.address = address.parse().ok());
            }
            ["labelled", name] => self.seen(name, |seen| seen.identity.spec = "other".to_owned()),
            ["double", name, attempt, state] => self.double(name, number(attempt), state),
            _ => self.note(words),
        }
    }

    /// What the agent's own tasks note.
    fn note(&mut self, words: &[&str]) {
        let container = words.get(1).map_or_else(String::new, |name| (*name).to_owned());
        let message = "the message".to_owned();
        let note = match *words {
            ["probe", name, kind, result] => self.probed(name, kind, result),
            ["stale-probe", name, kind, result] => {
                let Note::Probed { container, kind, probe, result, .. } =
                    self.probed(name, kind, result)
                else {
                    unreachable!()
                };
                Note::Probed { container, id: "old".to_owned(), kind, probe, result }
            }
            ["hook-ends", name, hook, result] => {
                let hook = if hook == "pre" { Hook::PreStop } else { Hook::PostStart };
                let result = if result == "ok" { Ok(()) } else { Err("no".to_owned()) };
                Note::HookEnded { container, id: self.id(name), hook, result }
            }
            ["hook-of-another-ends", _] => {
                let hook = Hook::PostStart;
                Note::HookEnded { container, id: "old".to_owned(), hook, result: Ok(()) }
            }
            ["tampered", name] => {
                let (id, kind) = (self.id(name), DriftKind::Changed);
                let touched = Touched { id, at: self.world.now, kind, seen: String::new() };
                Note::Touched { container, touched }
            }
            ["another-tampered", _] => {
                let (id, kind) = ("old".to_owned(), DriftKind::Changed);
                let touched = Touched { id, at: self.world.now, kind, seen: String::new() };
                Note::Touched { container, touched }
            }
            ["words", _, attempt, said] => {
                let attempt = Attempt(number(attempt));
                Note::LastWords { container, attempt, message: said.to_owned() }
            }
            ["start-fails", _] => {
                Note::StartFailed { container, reason: "RunContainerError", message }
            }
            ["prepare-fails"] => Note::PrepareFailed { reason: "FailedMount".to_owned(), message },
            ["refused"] => Note::Refused { message },
            ["evicted"] => Note::Evicted { message },
            ["image-lost", _, "put-back"] => {
                Note::ImageLost { container, image: "here".to_owned(), put_back: Ok(()) }
            }
            ["image-lost", _] => {
                let put_back = Err("no".to_owned());
                Note::ImageLost { container, image: "here".to_owned(), put_back }
            }
            ["pulled-locally", _] => {
                let told = PullTold::UsedLocal("the local one".to_owned());
                Note::Pulled { container, attempt: Attempt(0), told }
            }
            ["volume-lost", name] => Note::VolumeLost { volume: name.to_owned() },
            ["drained"] => Note::Drained,
            ["silent", port] => Note::SilentPorts(vec![number(port)]),
            _ => panic!("what is {words:?}?"),
        };
        self.world.node.note(&self.pod.uid, note, self.world.now);
    }

    fn probed(&self, name: &str, kind: &str, result: &str) -> Note {
        let spec = self.pod.spec.container(name).unwrap();
        let (kind, probe) = match kind {
            "startup" => (ProbeKind::Startup, &spec.startup),
            "liveness" => (ProbeKind::Liveness, &spec.liveness),
            _ => (ProbeKind::Readiness, &spec.readiness),
        };
        let result = match result {
            "ok" => ProbeResult::Success,
            "error" => ProbeResult::Error("not there".to_owned()),
            _ => ProbeResult::Failure("no".to_owned()),
        };
        let (container, probe) = (name.to_owned(), probe.clone().unwrap());
        Note::Probed { container, id: self.id(name), kind, probe, result }
    }

    fn id(&self, name: &str) -> String {
        self.world.id(if name == "pause" { PAUSE } else { name })
    }

    fn seen(&mut self, name: &str, change: impl FnOnce(&mut Seen)) {
        let id = self.id(name);
        change(self.world.sim.world().containers.get_mut(&id).unwrap());
    }

    fn ended(&mut self, name: &str, change: impl FnOnce(&mut Exit)) {
        self.world.sim.exit(&self.id(name), 1);
        self.seen(name, |seen| {
            let RunState::Exited(exit) = &mut seen.state else { panic!("it goes on") };
            change(exit);
        });
    }

    /// A container of the same name that the agent did not make.
    fn double(&mut self, name: &str, attempt: u64, state: &str) {
        let now = self.world.now;
        let like = self.id(name);
        let mut seen = self.world.sim.world().containers[&like].clone();
        seen.id = format!("d{attempt}");
        seen.identity.attempt = Attempt(attempt);
        seen.state = match state {
            "running" => RunState::Running { started_at: now },
            "created" => RunState::Created,
            "removing" => RunState::Removing,
            _ => RunState::Exited(Exit {
                code: 7,
                started_at: Some(now),
                finished_at: now,
                out_of_memory: false,
                error: String::new(),
            }),
        };
        self.world.sim.world().containers.insert(seen.id.clone(), seen);
    }

    fn news(&mut self) -> Vec<String> {
        let world = &mut self.world;
        let mut news: Vec<String> = Vec::new();
        news.extend(Some(world.drain()).filter(|lines| !lines.is_empty()));
        news.extend(Some(world.words.join(", ")).filter(|words| !words.is_empty()));
        world.words.clear();
        news.extend(world.wake.map(|wake| format!("wake +{}", seconds(wake.since(world.now)))));
        let probes: Vec<String> = world.probes.iter().map(probe).collect();
        if probes != self.probes {
            news.push(format!("probes {}", probes.join(", ")));
            self.probes = probes;
        }
        news.extend(world.events.drain(..).filter(|line| !is_of_every_start(line)));
        let Some(pod) = world.told.get(&self.pod.uid) else { return news };
        for drift in pod.drifts.iter().filter(|drift| drift.number > self.drifts) {
            let name = if drift.container == PAUSE { "pause" } else { &drift.container };
            let at = since(drift.at);
            news.push(format!(
                "drift {} {at} {name} {:?}: {}",
                drift.number, drift.kind, drift.seen
            ));
        }
        self.drifts = pod.drifts.last().map_or(0, |drift| drift.number);
        let status = status(pod);
        let changed = status.iter().filter(|line| !self.told.contains(line)).cloned();
        news.extend(changed.collect::<Vec<_>>());
        self.told = status;
        news
    }
}

/// What is told of every start says nothing new after the step itself.
fn is_of_every_start(event: &str) -> bool {
    let common = ["Pulled: Container image", "Created: ", "Started: "];
    common.iter().any(|beginning| event.starts_with(beginning))
}

fn number<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    BEGINNING.after(Duration::from_secs(number(text)))
}

fn since(moment: Timestamp) -> String {
    seconds(moment.since(BEGINNING))
}

fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

fn probe(target: &ProbeTarget) -> String {
    let address = target.address.map_or_else(|| "host".to_owned(), |address| address.to_string());
    let (name, id, kind) = (&target.container, short(&target.id), target.kind.word());
    format!("{name} {id} {kind} {address} since {}", since(target.started_at))
}

fn status(pod: &PodObservation) -> Vec<String> {
    let optional =
        |text: &Option<String>| text.as_ref().map_or_else(String::new, |it| format!(" {it}"));
    let ready =
        pod.ready_since.map_or_else(String::new, |at| format!(", ready since {}", since(at)));
    let silent = match &*pod.silent_ports {
        [] => String::new(),
        ports => format!(", silent {ports:?}"),
    };
    let first = format!(
        "{:?}{}{}{ready}{silent}",
        pod.phase,
        optional(&pod.reason),
        optional(&pod.message)
    );
    assert_eq!(pod.ready, pod.ready_since.is_some());
    [first].into_iter().chain(pod.all_containers().map(container)).collect()
}

fn container(told: &ContainerObservation) -> String {
    let state = match &told.state {
        ContainerState::Waiting { reason, message: None } => reason.clone(),
        ContainerState::Waiting { reason, message: Some(message) } => {
            format!("{reason} ({message})")
        }
        ContainerState::Running { started_at } => format!("runs since {}", since(*started_at)),
        ContainerState::Terminated(termination) => ended(termination),
        ContainerState::Unknown => "unknown".to_owned(),
    };
    let mut line = format!("{} {}: {state}", told.name, told.attempt);
    for (word, holds) in [("started", told.started), ("ready", told.ready)] {
        if holds {
            line.push_str(&format!(", {word}"));
        }
    }
    if told.restarts > 0 {
        line.push_str(&format!(", restarts {}", told.restarts));
    }
    if let Some(last) = &told.last {
        line.push_str(&format!(", before: {}", ended(last)));
    }
    line
}

fn ended(how: &Termination) -> String {
    let start = how.started_at.map_or_else(|| "never".to_owned(), since);
    let end = how.finished_at.map_or_else(|| "never".to_owned(), since);
    let message = how.message.as_ref().map_or_else(String::new, |text| format!(" ({text})"));
    let id = how.container_id.as_deref().map_or("none", short);
    format!("{} {}{message} {start}..{end} id {id}", how.reason, how.exit_code)
}

//! The cluster in virtual time: a queue of happenings, handled one by one. Only what is in the
//! queue happens; its order and its times come from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kgit::domain::key::ObjectKey;
use kgit::domain::plan::Waits;
use kgit::domain::world::World;
use kgit::master::event::Event;
use kgit_agent::decide::outcome::{Note, ProbeResult, PullTold};
use kgit_agent::runtime::{RunState, Runtime as _};
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Attempt, Digest, PodUid};
use kgit_protocol::messages::{AuditHead, Join, Orders, Pulled, Report};
use kgit_protocol::time::Timestamp;
use tokio::sync::oneshot;

use crate::agent::{Agent, Pending};
use crate::calls::{Call, Outcome, now as at_once};
use crate::checks::{Checked, Checks, Turned};
use crate::coverage::Coverage;
use crate::master::{Held, Master};
use crate::random::Random;
use crate::repo::{Repo, Tree};
use crate::trace::Trace;
use crate::weather::{Fault, Weather};

/// As in the agent's tasks and its link.
const POLL: Duration = Duration::from_secs(25);
const POLL_LIMIT: Duration = Duration::from_secs(40);
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// A quarter of the shortest lease.
const BEAT: Duration = Duration::from_secs(10);

/// Happenings without the clock getting on, after which something goes around in circles.
const MAX_AT_ONCE: u32 = 5_000;

#[derive(Debug)]
pub enum Happening {
    MasterStarts,
    MasterTurns {
        life: u64,
    },
    SourceDelivers {
        life: u64,
    },
    StoreWorks,
    AtMaster {
        node: usize,
        life: u64,
        id: u64,
        request: Request,
    },
    AtAgent {
        node: usize,
        life: u64,
        id: u64,
        answer: Answer,
    },
    AgentStarts {
        node: usize,
    },
    AgentLooks {
        node: usize,
        life: u64,
    },
    AgentCalls {
        node: usize,
        life: u64,
        pod: PodUid,
    },
    AgentSends {
        node: usize,
        life: u64,
        what: Sends,
    },
    TimedOut {
        node: usize,
        life: u64,
        id: u64,
    },
    Fetched {
        node: usize,
        life: u64,
        pod: PodUid,
        container: String,
        image: String,
        attempt: Attempt,
    },
    HookEnds {
        node: usize,
        life: u64,
        pod: PodUid,
        note: Note,
    },
    Probes {
        node: usize,
        life: u64,
        key: (String, u8),
    },
    ProcessEnds {
        node: usize,
        id: String,
        started_at: Timestamp,
        code: i64,
    },
    EngineBack {
        node: usize,
    },
    LinkBack {
        node: usize,
    },
    RegistryBack {
        node: usize,
    },
    Chaos,
}

#[derive(Clone, Debug)]
pub enum Request {
    Pull { have: Option<Stamp>, witness: Option<AuditHead> },
    Report(Box<Report>),
    Heartbeat,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Pulled(Box<Pulled>),
    Acknowledged(u64),
    Lease,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    Pull,
    Report,
    Beat,
}

/// A promise broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    DoublesContainers,
    IgnoresStop,
    RemovesVolumes,
    StartsWhatIsGone,
    LosesReports,
    TakesOldOrders,
    TampersWithAudit,
}

pub struct Cluster {
    pub now: Timestamp,
    pub start: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    order: u64,
    requests: u64,
    pub random: Random,
    pub weather: Weather,
    pub sabotage: Sabotage,
    pub master: Master,
    pub agents: Vec<Agent>,
    pub repo: Repo,
    pub tree: Tree,
    pub checks: Checks,
    pub trace: Trace,
    pub coverage: Coverage,
    pub chaos_left: usize,
    pub store_fails: bool,
    /// What the master's turns began and ended with, last.
    pub world: World,
    pub waits: Waits,
    /// Old orders, for an agent that takes them.
    old: Vec<Pulled>,
    at_once: (Timestamp, u32),
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub fn new(seed: u64, weather: Option<Weather>, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let weather = weather.unwrap_or_else(|| Weather::of(&mut random));
        let dir = directory();
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let nodes = random.pick(&[1, 2, 2, 3, 3, 4, 5]);
        let mut master = Master::new(dir.path());
        master.start(now);
        let repo = Repo::new(&mut random);
        let world = master.view().unwrap().world;
        let agents = (0..nodes)
            .map(|index| Agent::new(index, dir.path().join(format!("agent-{index}"))))
            .collect();
        let mut cluster = Self {
            now,
            start: now,
            queue: BTreeMap::new(),
            order: 0,
            requests: 0,
            tree: repo.tree(),
            random,
            chaos_left: weather.chaos_events,
            weather,
            sabotage: Sabotage::None,
            master,
            agents,
            repo,
            checks: Checks::default(),
            trace: Trace::new(traced, now),
            coverage: Coverage::default(),
            store_fails: false,
            world,
            waits: Waits::new(),
            old: Vec::new(),
            at_once: (now, 0),
            _dir: dir,
        };
        cluster.set_up();
        cluster
    }

    fn set_up(&mut self) {
        let (weather, nodes) = (self.weather.clone(), self.agents.len());
        self.say(|| format!("{nodes} nodes; {weather:?}"));
        for node in 0..nodes {
            let agent = &mut self.agents[node];
            std::fs::create_dir_all(&agent.dir).unwrap();
            let mut world = agent.engine.world();
            world.now = self.now;
            world.network = Some(agent.range);
            world.registry = Repo::images().collect();
            drop(world);
            let event = join(agent);
            self.master.running.as_mut().unwrap().inbox.push(event);
            let delay = self.random.millis(0, 3000);
            self.at(delay, Happening::AgentStarts { node });
        }
        self.wake_master(Duration::ZERO);
        let life = self.master.life;
        let delay = self.random.millis(0, 3000);
        self.at(delay, Happening::SourceDelivers { life });
        self.at(Duration::from_secs(5), Happening::Chaos);
    }

    pub fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now, line);
    }

    pub fn at(&mut self, delay: Duration, happening: Happening) {
        self.order += 1;
        self.queue.insert((self.now.after(delay), self.order), happening);
    }

    /// Handles the next happening; false if it is later than `until`.
    pub fn step(&mut self, until: Timestamp) -> Result<bool, String> {
        let Some((&(at, _), _)) = self.queue.first_key_value() else { return Ok(false) };
        if at > until {
            self.set_time(until);
            return Ok(false);
        }
        let ((at, _), happening) = self.queue.pop_first().expect("it was there just now");
        self.set_time(at);
        self.limit()?;
        self.happens(happening)?;
        self.listen();
        self.checks.engines(&self.agents)?;
        Ok(true)
    }

    fn set_time(&mut self, at: Timestamp) {
        self.now = at;
        for agent in &self.agents {
            agent.engine.set_time(at);
        }
    }

    fn limit(&mut self) -> Checked {
        if self.at_once.0 == self.now {
            self.at_once.1 += 1;
        } else {
            self.at_once = (self.now, 0);
        }
        match self.at_once.1 < MAX_AT_ONCE {
            true => Ok(()),
            false => Err("the cluster goes around in circles".to_owned()),
        }
    }

    fn happens(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::MasterStarts => self.start_master(),
            Happening::MasterTurns { life } => {
                if life == self.master.life && self.master.turn_at.is_some_and(|at| at <= self.now)
                {
                    return self.turn();
                }
            }
            Happening::SourceDelivers { life } => self.deliver(life),
            Happening::StoreWorks => {
                self.store_fails = false;
                self.master.fail_store(false);
            }
            Happening::AtMaster { node, life, id, request } => {
                self.at_master(node, life, id, request);
            }
            Happening::AtAgent { node, life, id, answer } => {
                return self.at_agent(node, life, id, answer);
            }
            Happening::AgentStarts { node } => self.start_agent(node),
            Happening::AgentLooks { node, life } => self.look(node, life),
            Happening::AgentCalls { node, life, pod } => return self.call(node, life, &pod),
            Happening::AgentSends { node, life, what } => self.send(node, life, what),
            Happening::TimedOut { node, life, id } => self.failed(node, life, id),
            Happening::Fetched { node, life, pod, container, image, attempt } => {
                self.fetched(node, life, &pod, container, &image, attempt);
            }
            Happening::HookEnds { node, life, pod, note } => {
                let now = self.now;
                if let Some(process) = self.process(node, life) {
                    process.note(&pod, note, now);
                    self.look_later(node);
                }
            }
            Happening::Probes { node, life, key } => self.probe(node, life, key),
            Happening::ProcessEnds { node, id, started_at, code } => {
                self.process_ends(node, &id, started_at, code);
            }
            Happening::EngineBack { node } => {
                self.agents[node].engine.world().down = false;
                self.say(|| format!("n{node} engine is back"));
            }
            Happening::LinkBack { node } => {
                (self.agents[node].cut, self.agents[node].deaf) = (false, false);
                self.say(|| format!("n{node} link is back"));
            }
            Happening::RegistryBack { node } => {
                self.agents[node].engine.world().registry = Repo::images().collect();
            }
            Happening::Chaos => self.chaos(),
        }
        Ok(())
    }

    // The master.

    fn wake_master(&mut self, delay: Duration) {
        let at = self.now.after(delay);
        if self.master.turn_at.is_none_or(|due| due > at || due <= self.now) {
            self.master.turn_at = Some(at);
        }
        let life = self.master.life;
        self.at(delay, Happening::MasterTurns { life });
    }

    pub fn start_master(&mut self) {
        if self.master.running.is_some() {
            return;
        }
        self.say(|| "master starts".to_owned());
        self.master.start(self.now);
        self.wake_master(Duration::ZERO);
        let life = self.master.life;
        let delay = self.random.millis(0, 5000);
        self.at(delay, Happening::SourceDelivers { life });
    }

    pub fn kill_master(&mut self) {
        self.say(|| "master dies".to_owned());
        self.master.die();
        let delay = self.random.pick(&[100, 1_000, 10_000, 120_000, 500_000]);
        self.at(Duration::from_millis(delay), Happening::MasterStarts);
    }

    fn deliver(&mut self, life: u64) {
        let (head, now) = (self.repo.head, self.now);
        let Some(running) = &mut self.master.running else { return };
        if life != self.master.life || running.delivered_head == head {
            return;
        }
        running.deliver(head, &self.tree, now);
        self.say(|| format!("source delivers {head}"));
        self.wake_master(Duration::ZERO);
    }

    fn turn(&mut self) -> Checked {
        if self.strikes(Fault::MasterDiesBeforeCommit) {
            self.kill_master();
            return Ok(());
        }
        self.coverage.turns += 1;
        let now = self.now;
        let Some(running) = &mut self.master.running else { return Ok(()) };
        let before = running.world();
        let events = std::mem::take(&mut running.inbox);
        let said: Vec<String> = match self.trace.kept {
            true => events.iter().map(word).collect(),
            false => Vec::new(),
        };
        let turn = running.core.turn(events, now, &mut running.store);
        let view = running.core.view(&running.store);
        running.note_issued(&view.world);
        let read = view.source.commit.is_some();
        let wake = running.core.next_wake();
        if turn.failed.is_some() && !self.store_fails {
            return Err(format!("the store failed: {:?}", turn.failed));
        }
        self.coverage.transactions += u64::from(turn.committed.is_some());
        self.say_turn(&said, &before, &view.world);
        let readable = view.catalog.desired(Default::default()).unreadable.is_empty();
        let turned =
            Turned { before: &before, after: &view.world, waits: &view.waits, now, readable, read };
        self.checks.turn(&turned)?;
        self.world = view.world.clone();
        self.waits = view.waits.clone();
        self.master.turn_at = None;
        if self.strikes(Fault::MasterDiesAfterCommit) {
            self.kill_master();
            return self.on_disk(&view.world);
        }
        self.answer_reports();
        self.answer_pulls(&view.world);
        if let Some(wake) = wake {
            self.wake_master(wake.since(now).max(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// What was committed is what a restart finds.
    fn on_disk(&mut self, world: &World) -> Checked {
        if self.store_fails {
            return Ok(());
        }
        self.master.start(self.now);
        let loaded = self.master.view().expect("it was just started").world;
        let (life, turn_at) = (self.master.life, self.master.turn_at);
        self.master.die();
        debug_assert!(life > 0 && turn_at.is_some());
        if format!("{:?}", loaded.pods) == format!("{:?}", world.pods)
            && format!("{:?}", loaded.nodes) == format!("{:?}", world.nodes)
            && loaded.meta == world.meta
        {
            return Ok(());
        }
        Err("a restart finds another World than was committed".to_owned())
    }

    fn say_turn(&mut self, said: &[String], before: &World, after: &World) {
        if !self.trace.kept || (said.is_empty() && before.version == after.version) {
            return;
        }
        self.say(|| format!("master turns: {}", said.join(", ")));
        for line in differences(before, after) {
            self.say(|| format!("    {line}"));
        }
    }

    fn answer_reports(&mut self) {
        let Some(running) = &mut self.master.running else { return };
        let asked = std::mem::take(&mut running.asked);
        for (node, id, mut answer) in asked {
            let answer = match answer.try_recv() {
                Ok(Ok(sequence)) => Answer::Acknowledged(sequence),
                Ok(Err(_)) | Err(_) => Answer::Failed,
            };
            self.reply(node, id, answer);
        }
    }

    fn answer_pulls(&mut self, world: &World) {
        let now = self.now;
        let Some(running) = &mut self.master.running else { return };
        let mut answers = Vec::new();
        for (node, held) in &running.held {
            let orders = running.orders(world, &self.agents[*node].name, held.have.as_ref());
            if orders != Orders::Unchanged || held.until <= now {
                answers.push((*node, held.id, running.pulled(orders, now)));
            }
        }
        for (node, _, _) in &answers {
            running.held.remove(node);
        }
        for (node, id, pulled) in answers {
            if self.sabotage == Sabotage::TakesOldOrders {
                self.old.push(pulled.clone());
            }
            self.reply(node, id, Answer::Pulled(Box::new(pulled)));
        }
    }

    fn at_master(&mut self, node: usize, life: u64, id: u64, request: Request) {
        let now = self.now;
        let name = self.agents[node].name.clone();
        let Some(running) = &mut self.master.running else {
            return self.at(
                Duration::from_millis(5),
                Happening::AtAgent { node, life, id, answer: Answer::Failed },
            );
        };
        match request {
            Request::Pull { have, witness } => {
                running.held.insert(node, Held { id, have: have.clone(), until: now.after(POLL) });
                running.inbox.push(Event::Pull { node: name, have, witness });
                self.at(POLL, Happening::MasterTurns { life: self.master.life });
            }
            Request::Report(report) => {
                let (reply, answer) = oneshot::channel();
                running.asked.push((node, id, answer));
                running.inbox.push(Event::Report { node: name, report, reply });
            }
            Request::Heartbeat => {
                let boot = kgit_protocol::ids::BootId::new("any");
                running.inbox.push(Event::Heartbeat { node: name, boot });
                self.reply(node, id, Answer::Lease);
            }
        }
        let delay = self.random.millis(0, 4);
        self.wake_master(delay);
    }

    // The link.

    fn travel(&mut self) -> Vec<Duration> {
        if self.strikes(Fault::MessageLost) {
            return Vec::new();
        }
        let mut times = vec![self.random.millis(1, 30)];
        if self.strikes(Fault::MessageLate) {
            times[0] = self.random.millis(1_000, 45_000);
        }
        if self.strikes(Fault::MessageDoubled) {
            times.push(self.random.millis(1, 30_000));
        }
        times
    }

    fn reply(&mut self, node: usize, id: u64, answer: Answer) {
        if self.agents[node].cut || self.agents[node].deaf {
            return;
        }
        let life = self.agents[node].life;
        for delay in self.travel() {
            let answer = answer.clone();
            self.at(delay, Happening::AtAgent { node, life, id, answer });
        }
    }

    // The agents.

    fn process(&mut self, node: usize, life: u64) -> Option<&mut crate::agent::Process> {
        let agent = &mut self.agents[node];
        if agent.life == life { agent.process.as_mut() } else { None }
    }

    pub fn start_agent(&mut self, node: usize) {
        if self.agents[node].process.is_some() {
            return;
        }
        self.say(|| format!("n{node} agent starts"));
        self.agents[node].start(self.now);
        let life = self.agents[node].life;
        self.at(Duration::from_millis(200), Happening::AgentLooks { node, life });
        for what in [Sends::Pull, Sends::Report, Sends::Beat] {
            self.at(Duration::from_millis(1), Happening::AgentSends { node, life, what });
        }
    }

    pub fn kill_agent(&mut self, node: usize) {
        self.say(|| format!("n{node} agent dies"));
        self.agents[node].die();
        let delay = self.random.pick(&[10, 1_000, 20_000, 100_000, 400_000]);
        self.at(Duration::from_millis(delay), Happening::AgentStarts { node });
    }

    /// Agents hear what their engines told, and look when something calls for it.
    fn listen(&mut self) {
        for node in 0..self.agents.len() {
            self.agents[node].hear(self.now);
            let waiting = self.agents[node].process.as_ref().map(|process| process.look_at);
            if waiting.is_some_and(|at| at <= self.now.after(Duration::from_millis(25))) {
                self.look_later(node);
            }
        }
    }

    fn look_later(&mut self, node: usize) {
        let agent = &self.agents[node];
        let Some(process) = &agent.process else { return };
        let (delay, life) = (process.look_at.since(self.now), agent.life);
        let due = (self.now.after(delay), u64::MAX);
        let soon = self.queue.range(..due).any(|(_, happening)| {
            matches!(happening, Happening::AgentLooks { node: n, life: l } if *n == node && *l == life)
        });
        if !soon {
            self.at(delay, Happening::AgentLooks { node, life });
        }
    }

    fn look(&mut self, node: usize, life: u64) {
        let now = self.now;
        match self.process(node, life) {
            None => return,
            Some(process) if process.look_at > now => return self.look_later(node),
            Some(_) => {}
        }
        let Some(looked) = self.agents[node].look(now) else { return };
        if self.strikes(Fault::AgentDiesBetweenJournalAndWork) {
            return self.kill_agent(node);
        }
        for pod in looked.work {
            if self.trace.kept {
                self.say_work(node, &pod);
            }
            let delay = self.random.millis(1, 50);
            self.at(delay, Happening::AgentCalls { node, life, pod });
        }
        for (key, target) in looked.new_probes {
            let initial = u64::from(target.probe.initial_delay_seconds);
            self.at(Duration::from_secs(initial), Happening::Probes { node, life, key });
        }
        self.send(node, life, Sends::Report);
        self.look_later(node);
    }

    fn say_work(&mut self, node: usize, pod: &PodUid) {
        let job = self.agents[node].process.as_ref().and_then(|process| process.jobs.get(pod));
        let calls: Vec<String> =
            job.iter().flat_map(|job| &job.calls).map(|call| format!("{call:?}")).collect();
        let name = job
            .and_then(|job| job.pod.as_ref())
            .map_or_else(|| pod.to_string(), |pod| pod.name.clone());
        self.say(|| format!("n{node} {name}: {}", calls.join("; ")));
    }

    fn call(&mut self, node: usize, life: u64, pod: &PodUid) -> Checked {
        if self.process(node, life).is_none() {
            return Ok(());
        }
        if self.strikes(Fault::AgentDiesBeforeCall) {
            self.kill_agent(node);
            return Ok(());
        }
        if self.weather.faults.contains(&Fault::CallFails) {
            self.maybe_fail_call(node, pod);
        }
        self.coverage.calls += 1;
        let now = self.now;
        let scope = self.agents[node].scope(&self.world.cluster);
        let engine = self.agents[node].engine.clone();
        let sabotage = self.sabotage;
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let Some(mut job) = process.jobs.remove(pod) else { return Ok(()) };
        let Some(call) = job.calls.pop_front() else {
            process.finished(pod, false, now);
            self.look_later(node);
            return Ok(());
        };
        let skipped = sabotage == Sabotage::IgnoresStop
            && matches!(call, Call::Terminate(_) | Call::Kill(_) | Call::Remove(_));
        let made = match skipped {
            true => Outcome::Done(None),
            false => job.make(&call, &engine, &scope),
        };
        let word = call.word();
        if let Outcome::Failed(note) = &made {
            self.trace.say(now, || format!("n{node} {word} failed: {note:?}"));
        }
        self.apart(node, life, pod, &call);
        let (note, failed, over) = match made {
            Outcome::Done(note) => (note, false, false),
            Outcome::Over(note) => (note, false, true),
            Outcome::Failed(note) => (note, true, true),
        };
        let started = match (&call, &note) {
            (Call::Run { container, .. }, Some(Note::Started { id, .. })) => {
                Some((container.clone(), id.clone()))
            }
            _ => None,
        };
        if let Some((container, id)) = &started {
            self.checks.started(pod, container)?;
            self.begins(node, id);
        }
        self.sabotage_after(node, &call, started.is_some());
        if self.strikes(Fault::AgentDiesAfterCall) {
            self.kill_agent(node);
            return Ok(());
        }
        if over && !failed {
            let here = |next: &Call| match next {
                Call::Create { .. } | Call::Run { id: None, .. } => true,
                _ => false,
            };
            while job.calls.front().is_some_and(here) {
                job.calls.pop_front();
            }
        }
        let end = failed || job.calls.is_empty();
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process.jobs.insert(pod.clone(), job);
        if let Some(note) = note {
            process.note(pod, note, now);
        }
        if end {
            process.finished(pod, failed, now);
            self.look_later(node);
        } else {
            let delay = self.random.millis(1, 200);
            self.at(delay, Happening::AgentCalls { node, life, pod: pod.clone() });
        }
        Ok(())
    }

    fn maybe_fail_call(&mut self, node: usize, pod: &PodUid) {
        let next = self.agents[node].process.as_ref().and_then(|process| {
            process.jobs.get(pod).and_then(|job| job.calls.front()).map(Call::word)
        });
        if let Some(word) = next
            && self.strikes(Fault::CallFails)
        {
            self.agents[node].engine.world().faults.insert(word.to_owned(), 1);
        }
    }

    fn sabotage_after(&mut self, node: usize, call: &Call, started: bool) {
        let engine = self.agents[node].engine.clone();
        let mut world = engine.world();
        match (self.sabotage, call) {
            (Sabotage::DoublesContainers, Call::Run { .. }) if started => {
                let Some(seen) =
                    world.containers.values().find(|seen| seen.state.is_alive()).cloned()
                else {
                    return;
                };
                let id = format!("{}-again", seen.id);
                world.containers.insert(id.clone(), kgit_agent::runtime::Seen { id, ..seen });
            }
            (Sabotage::RemovesVolumes, Call::Clean) => world.volumes.clear(),
            (Sabotage::StartsWhatIsGone, Call::Remove(id)) => {
                let gone =
                    self.agents[node].told.iter().rev().find_map(|event| match &event.kind {
                        kgit_agent::runtime::EventKind::Container { id: of, identity, .. }
                            if of == id =>
                        {
                            Some(identity.clone())
                        }
                        _ => None,
                    });
                if let Some(identity) = gone {
                    let state = RunState::Running { started_at: self.now };
                    let (id, image) = (format!("{id}-ghost"), "web:1".to_owned());
                    let seen = kgit_agent::runtime::Seen {
                        id: id.clone(),
                        identity,
                        state,
                        image,
                        address: None,
                    };
                    world.containers.insert(id, seen);
                }
            }
            _ => {}
        }
    }

    /// Starts what is done apart from the other calls.
    fn apart(&mut self, node: usize, life: u64, pod: &PodUid, call: &Call) {
        match call {
            Call::Pull { container, image, attempt } => {
                let delay = self.random.pick(&[20, 500, 3_000, 40_000]);
                let (pod, container, image) = (pod.clone(), container.clone(), image.clone());
                let attempt = *attempt;
                self.at(
                    Duration::from_millis(delay),
                    Happening::Fetched { node, life, pod, container, image, attempt },
                );
            }
            Call::Hook { container, id, hook } => {
                let delay = self.random.millis(10, 8_000);
                let note = Note::HookEnded {
                    container: container.clone(),
                    id: id.clone(),
                    hook: *hook,
                    result: Ok(()),
                };
                self.at(delay, Happening::HookEnds { node, life, pod: pod.clone(), note });
            }
            _ => {}
        }
    }

    fn fetched(
        &mut self,
        node: usize,
        life: u64,
        pod: &PodUid,
        container: String,
        image: &str,
        attempt: Attempt,
    ) {
        let now = self.now;
        let engine = self.agents[node].engine.clone();
        if self.process(node, life).is_none() {
            return;
        }
        let here = engine.world().images.contains(image);
        let note = match here.then_some(()).ok_or(()).or_else(|()| at_once(engine.pull(image, &[])))
        {
            Ok(()) => {
                let told = PullTold::Fetched(image.to_owned());
                Note::Pulled { container, attempt, told }
            }
            Err(error) => Note::PullFailed { container, message: error.to_string() },
        };
        let Some(process) = self.process(node, life) else { return };
        process.note(pod, note, now);
        self.look_later(node);
    }

    /// A process begins: those of jobs end by themselves, and those of bad images crash.
    fn begins(&mut self, node: usize, id: &str) {
        let seen = self.agents[node].engine.world().containers.get(id).cloned();
        let Some(seen) = seen else { return };
        let RunState::Running { started_at } = seen.state else { return };
        let fails = self.chaos_left > 0 && self.random.permille(200);
        let (delay, code) = match seen.image.split(':').next() {
            Some("job") => (self.random.millis(500, 30_000), i64::from(fails)),
            Some("crash") => (self.random.millis(100, 3_000), 1),
            _ => return,
        };
        let id = id.to_owned();
        self.at(delay, Happening::ProcessEnds { node, id, started_at, code });
    }

    fn process_ends(&mut self, node: usize, id: &str, started_at: Timestamp, code: i64) {
        let engine = self.agents[node].engine.clone();
        let seen = engine.world().containers.get(id).cloned();
        let Some(seen) = seen.filter(|seen| seen.state == RunState::Running { started_at }) else {
            return;
        };
        engine.exit(id, code);
        let identity = &seen.identity;
        self.trace.say(self.now, || {
            format!("n{node} {}/{} ends with {code}", identity.pod_name, identity.container)
        });
    }

    fn probe(&mut self, node: usize, life: u64, key: (String, u8)) {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return };
        let Some((pod, target)) = process.probes.get(&key).cloned() else { return };
        let fails = self.strikes(Fault::ProbeFails);
        let result = match fails {
            true => ProbeResult::Failure("refused".to_owned()),
            false => ProbeResult::Success,
        };
        let period = Duration::from_secs(u64::from(target.probe.period_seconds.max(1)));
        let (container, id, kind, probe) = (target.container, target.id, target.kind, target.probe);
        let note = Note::Probed { container, id, kind, probe, result };
        if let Some(process) = self.process(node, life) {
            process.note(&pod, note, now);
        }
        self.look_later(node);
        self.at(period, Happening::Probes { node, life, key });
    }

    fn send(&mut self, node: usize, life: u64, what: Sends) {
        self.requests += 1;
        let pending = Pending { id: self.requests };
        let loses = self.sabotage == Sabotage::LosesReports;
        let Some(process) = self.process(node, life) else { return };
        let (request, limit) = match what {
            Sends::Pull => {
                process.pull = Some(pending);
                let (have, witness) = (process.have.clone(), process.witness.clone());
                (Request::Pull { have, witness }, POLL_LIMIT)
            }
            Sends::Beat => {
                process.beat = Some(pending);
                (Request::Heartbeat, REQUEST_LIMIT)
            }
            Sends::Report => {
                if process.reporting.as_ref().is_some_and(|(pending, _)| pending.id > 0) {
                    return;
                }
                let again = process.reporting.take().map(|(_, report)| report);
                let Some(mut report) = again.or_else(|| take(process)) else { return };
                if loses {
                    report.pods.clear();
                }
                process.reporting = Some((pending, report.clone()));
                (Request::Report(Box::new(report)), REQUEST_LIMIT)
            }
        };
        self.at(limit, Happening::TimedOut { node, life, id: pending.id });
        if self.agents[node].cut {
            return;
        }
        for delay in self.travel() {
            let (request, id) = (request.clone(), pending.id);
            self.at(delay, Happening::AtMaster { node, life, id, request });
        }
    }

    /// A request failed, or was given up.
    fn failed(&mut self, node: usize, life: u64, id: u64) {
        let Some(process) = self.process(node, life) else { return };
        let is = |pending: &Option<Pending>| pending.is_some_and(|pending| pending.id == id);
        let what = if is(&process.pull) {
            process.pull = None;
            Sends::Pull
        } else if is(&process.beat) {
            process.beat = None;
            Sends::Beat
        } else if let Some((pending, _)) = &mut process.reporting
            && pending.id == id
        {
            pending.id = 0;
            Sends::Report
        } else {
            return;
        };
        let delay = process.backoff();
        self.at(delay, Happening::AgentSends { node, life, what });
    }

    fn at_agent(&mut self, node: usize, life: u64, id: u64, answer: Answer) -> Checked {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return Ok(()) };
        match answer {
            Answer::Failed => self.failed(node, life, id),
            Answer::Lease => {
                if process.beat.is_some_and(|pending| pending.id == id) {
                    process.beat = None;
                    process.failures = 0;
                    self.at(BEAT, Happening::AgentSends { node, life, what: Sends::Beat });
                }
            }
            Answer::Acknowledged(sequence) => {
                let current =
                    process.reporting.take_if(|(p, r)| p.id == id && sequence >= r.sequence);
                if let Some((_, report)) = current {
                    process.outbox.acknowledged(&report);
                    process.failures = 0;
                    self.send(node, life, Sends::Report);
                }
            }
            Answer::Pulled(pulled) => {
                // An answer that comes late or twice is taken as well: orders are fenced.
                let current = process.pull.take_if(|pending| pending.id == id).is_some();
                let (taken, have) = process.take_orders(*pulled, now);
                if current {
                    process.have = have;
                    process.failures = 0;
                }
                self.trace.say(now, || format!("n{node} takes orders: {taken:?}"));
                self.took(node)?;
                self.send(node, life, Sends::Report);
                if current {
                    self.send(node, life, Sends::Pull);
                }
                self.look_later(node);
            }
        }
        Ok(())
    }

    /// What the agent may run from now on, and that its orders only ever go ahead.
    fn took(&mut self, node: usize) -> Checked {
        if self.sabotage == Sabotage::TakesOldOrders && self.old.len() > 2 {
            let old = self.old.remove(0);
            if let (Orders::Set(set), Some(newest)) = (old.orders, &mut self.agents[node].newest) {
                *newest = (set.stamp.epoch.0, set.stamp.generation.0).max(*newest);
                return match (set.stamp.epoch.0, set.stamp.generation.0) < *newest {
                    true => Err("orders went back".to_owned()),
                    false => Ok(()),
                };
            }
        }
        let agent = &mut self.agents[node];
        let Some(set) = agent.process.as_ref().and_then(|process| process.node.set()) else {
            return Ok(());
        };
        let place = (set.stamp.epoch.0, set.stamp.generation.0);
        if agent.newest.is_some_and(|newest| place < newest) {
            return Err(format!("{}'s orders went back to {place:?}", agent.name));
        }
        agent.newest = Some(place);
        agent.given.extend(set.pods.keys().cloned());
        Ok(())
    }

    /// Whether a fault that strikes at something strikes now; counted where it does.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.chaos_left > 0 && self.weather.strikes(fault, &mut self.random);
        if strikes {
            self.strike(fault);
        }
        strikes
    }

    pub fn strike(&mut self, fault: Fault) {
        self.say(|| format!("!! {fault:?}"));
        let moments = self.moments();
        self.coverage.met(fault, &moments);
    }

    /// What is going on just now.
    fn moments(&self) -> BTreeSet<&'static str> {
        let jobs = self.agents.iter().filter_map(|agent| agent.process.as_ref());
        let calls = jobs.flat_map(|process| process.jobs.values());
        let mut moments: BTreeSet<&'static str> =
            calls.filter_map(|job| job.calls.front()).map(Call::word).collect();
        let world = &self.world;
        let mut note = |yes: bool, word| {
            if yes {
                moments.insert(word);
            }
        };
        let sets = world.replica_sets.values().filter(|set| set.replicas > 0);
        let owners: Vec<&ObjectKey> = sets.map(|set| &set.value.owner).collect();
        let distinct: BTreeSet<&&ObjectKey> = owners.iter().collect();
        note(distinct.len() < owners.len(), "rolling");
        note(world.pods.values().any(|pod| pod.deletion.is_some()), "stopping");
        note(world.pods.values().any(|pod| pod.placed.is_none()), "unplaced");
        note(world.jobs.values().any(|job| job.finished.is_none()), "job");
        note(world.meta.held.is_some(), "held");
        moments
    }
}

/// What the outbox has; nothing waits in virtual time.
fn take(process: &crate::agent::Process) -> Option<Report> {
    use futures_util::FutureExt as _;
    process.outbox.next().now_or_never()
}

fn join(agent: &Agent) -> Event {
    let (reply, _) = oneshot::channel();
    let join = Join {
        version: 1,
        token: String::new(),
        node: agent.name.clone(),
        labels: BTreeMap::new(),
        certificate_request: String::new(),
        network: kgit_protocol::assignment::PodNetwork { range: agent.range },
    };
    let key_digest = Digest::of(agent.name.as_str().as_bytes());
    Event::Join { join: Box::new(join), key_digest, spends: None, reply }
}

/// Memory where there is some: a run makes thousands of durable writes.
fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.unwrap()
}

fn word(event: &Event) -> String {
    match event {
        Event::Report { node, report, .. } => {
            let pods: Vec<String> = report
                .pods
                .iter()
                .map(|pod| {
                    format!("{}={:?}{}", pod.uid, pod.phase, if pod.ready { "+" } else { "" })
                })
                .collect();
            let complete = if report.complete { " complete" } else { "" };
            format!("report {node} {}{complete} [{}]", report.sequence, pods.join(" "))
        }
        Event::Pull { node, have, .. } => {
            format!("pull {node} has {:?}", have.as_ref().map(|have| have.generation.0))
        }
        Event::Heartbeat { node, .. } => format!("beat {node}"),
        Event::Source { commit, change } => format!(
            "commit {} (+{} -{})",
            commit.summary,
            change.upserted.len(),
            change.removed.len()
        ),
        other => format!("{other:?}").chars().take(60).collect(),
    }
}

/// Pods and nodes that a turn changed, in words.
fn differences(before: &World, after: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, pod) in &after.pods {
        let state = |pod: &kgit::domain::record::Pod| {
            let node = pod.node().map(ToString::to_string).unwrap_or_default();
            let ready = pod.is_ready();
            format!("on {node} {:?} ready={ready} stop={}", pod.phase(), pod.deletion.is_some())
        };
        let new = state(pod);
        match before.pods.get(key) {
            None => lines.push(format!("+ {key} {} {new}", pod.uid)),
            Some(old) if state(old) != new => lines.push(format!("~ {key} {} {new}", pod.uid)),
            Some(_) => {}
        }
    }
    let gone = before.pods.keys().filter(|key| !after.pods.contains_key(*key));
    lines.extend(gone.map(|key| format!("- {key}")));
    for (key, node) in &after.nodes {
        let old = before.nodes.get(key);
        if old.is_none_or(|old| old.ready != node.ready || old.issued != node.issued) {
            let generation = node.issued.generation;
            lines.push(format!("~ {key} ready={:?} generation {generation}", node.ready));
        }
    }
    for (key, job) in &after.jobs {
        if before.jobs.get(key).is_none_or(|old| *old.value != *job.value) {
            lines.push(format!("~ {key} {:?}", job.value));
        }
    }
    let new = after.objects.keys().filter(|key| !before.objects.contains_key(*key));
    lines.extend(new.map(|key| format!("+ {key}")));
    let gone = before.objects.keys().filter(|key| !after.objects.contains_key(*key));
    lines.extend(gone.map(|key| format!("- {key}")));
    lines
}

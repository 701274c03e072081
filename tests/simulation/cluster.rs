//! The cluster in virtual time: a queue of happenings, handled one by one. Only what is in the
//! queue happens; its order and its times come from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::plan::Waits;
use kgit::domain::record::Pod;
use kgit::domain::world::World;
use kgit::master::event::{Credential, Event};
use kgit_protocol::assignment::PodNetwork;
use kgit_protocol::messages::Join;
use kgit_protocol::time::Timestamp;
use tokio::sync::oneshot;

use crate::agent::Agent;
use crate::calls::Call;
use crate::checks::{Checked, Checks};
use crate::coverage::Coverage;
use crate::happening::{Happening, Sabotage};
use crate::hours::Hours;
use crate::master::Master;
use crate::random::Random;
use crate::repo::{Repo, Tree};
use crate::trace::Trace;
use crate::weather::{Fault, Pace, Weather};

/// Happenings without the clock getting on, after which something goes around in circles.
const MAX_AT_ONCE: u32 = 20_000;

/// Nodes of most runs, and of one run in so many a fleet.
const NODES: [usize; 10] = [1, 2, 3, 4, 5, 5, 5, 6, 7, 9];
const NODES_FOR_HOURS: [usize; 6] = [5, 6, 6, 7, 7, 8];
/// Enough to keep pods apart from each other.
const ROOMY: usize = 5;
const FLEETS_PERMILLE: u32 = 4;

pub struct Cluster {
    pub now: Timestamp,
    pub start: Timestamp,
    pub queue: BTreeMap<(Timestamp, u64), Happening>,
    pub order: u64,
    pub requests: u64,
    pub random: Random,
    pub weather: Weather,
    pub pace: Pace,
    pub sabotage: Sabotage,
    pub master: Master,
    pub agents: Vec<Agent>,
    pub repo: Repo,
    pub tree: Tree,
    pub checks: Checks,
    pub trace: Trace,
    pub coverage: Coverage,
    pub hours: Hours,
    /// Nothing goes wrong any more.
    pub calm: bool,
    pub store_fails: bool,
    /// What the master knows, and what it waits for.
    pub world: World,
    pub waits: Waits,
    pub at_once: (Timestamp, u32),
    /// What each workload has to do, in thousandths of a core.
    pub load: BTreeMap<String, u64>,
    pub backup: Option<(PathBuf, World)>,
    pub restores: u32,
    pub master_clock_set: Timestamp,
    /// The newest audit entry that the trace has.
    pub said_entry: u64,
    pub dir: tempfile::TempDir,
}

impl Cluster {
    pub fn new(seed: u64, weather: Option<Weather>, pace: Pace, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let weather = weather.unwrap_or_else(|| Weather::of(&mut random, &pace));
        let dir = directory();
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let nodes = match pace.hours {
            0 => random.pick(&NODES),
            _ if random.permille(FLEETS_PERMILLE) => 50 + random.below(250),
            _ => random.pick(&NODES_FOR_HOURS),
        };
        let mut master = Master::new(&dir.path().join("master"));
        master.start(now);
        let repo = Repo::new(&mut random, pace.probe_seconds, nodes >= ROOMY);
        let world = master.view().unwrap().world;
        let mut cluster = Self {
            now,
            start: now,
            queue: BTreeMap::new(),
            order: 0,
            requests: 0,
            tree: repo.tree(),
            random,
            weather,
            pace,
            sabotage: Sabotage::None,
            master,
            agents: Vec::new(),
            repo,
            checks: Checks::default(),
            trace: Trace::new(traced, now),
            coverage: Coverage::default(),
            hours: Hours::new(now),
            calm: false,
            store_fails: false,
            world,
            waits: Waits::new(),
            at_once: (now, 0),
            load: BTreeMap::new(),
            backup: None,
            restores: 0,
            master_clock_set: now,
            said_entry: 0,
            dir,
        };
        cluster.set_up(nodes);
        cluster
    }

    fn set_up(&mut self, nodes: usize) {
        let weather = self.weather.clone();
        self.say(|| format!("{nodes} nodes; {weather:?}"));
        // Joining is not what this is about: these nodes are members before anything goes wrong.
        self.calm = true;
        for _ in 0..nodes {
            self.join();
        }
        self.turn().expect("nothing is promised yet");
        self.calm = false;
        self.wake_master(Duration::ZERO);
        let life = self.master.life;
        let delay = self.random.millis(0, 3000);
        self.at(delay, Happening::SourceDelivers { life });
        self.at(Duration::from_secs(5), Happening::Chaos);
        self.at(Duration::from_secs(60), Happening::LoadChanges);
        self.at(Duration::from_secs(30), Happening::BackupTaken);
    }

    /// A machine that was never here joins.
    pub fn join(&mut self) {
        let node = self.agents.len();
        self.agents.push(Agent::new(node, self.now));
        self.ask_to_join(node);
        let delay = self.random.millis(0, 3000);
        self.at(delay, Happening::AgentStarts { node });
    }

    pub fn ask_to_join(&mut self, node: usize) {
        let event = join(&self.agents[node], Credential::Token(None));
        let Some(running) = &mut self.master.running else { return };
        running.inbox.push(event);
        self.wake_master(Duration::ZERO);
    }

    /// Machines that are members, or mean to be.
    pub fn members(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter().filter(|agent| !agent.dead && !agent.left)
    }

    /// Until when things go wrong.
    pub fn chaos_ends(&self) -> Timestamp {
        self.start.after(self.weather.lasts)
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
            self.now = until;
            return Ok(false);
        }
        let ((at, _), happening) = self.queue.pop_first().expect("it was there just now");
        self.now = at;
        self.limit()?;
        let Some((node, _)) = happening.node() else {
            let everywhere = happening.is_anywhere();
            self.happens(happening)?;
            let touched = if everywhere { 0..self.agents.len() } else { 0..0 };
            for node in touched {
                self.listen(node)?;
            }
            return Ok(true);
        };
        if let Some(later) = self.hangs(node, &happening) {
            self.at(later.since(at), happening);
            return Ok(true);
        }
        let agent = &self.agents[node];
        agent.engine.set_time(agent.clock.at(at).wall);
        self.happens(happening)?;
        self.listen(node)?;
        Ok(true)
    }

    /// Until when what is to happen does not, since the process or the engine hangs.
    fn hangs(&self, node: usize, happening: &Happening) -> Option<Timestamp> {
        let agent = &self.agents[node];
        let of_process = happening.node().is_some_and(|(_, process)| process);
        let asks = matches!(happening, Happening::AgentLooks { .. } | Happening::AgentCalls { .. });
        let process = of_process.then_some(agent.hangs_until);
        let engine = asks.then_some(agent.engine_hangs_until);
        process.into_iter().chain(engine).filter(|until| *until > self.now).max()
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
            Happening::AgentStarts { node } => return self.start_agent(node),
            Happening::AgentLooks { node, life } => self.look(node, life),
            Happening::AgentCalls { node, life, pod } => return self.call(node, life, &pod),
            Happening::AgentSends { node, life, what } => self.send(node, life, what),
            Happening::TimedOut { node, life, id } => self.failed(node, life, id),
            Happening::Fetched { node, life, pod, container, image, attempt } => {
                self.fetched(node, life, &pod, container, &image, attempt);
            }
            Happening::HookEnds { node, life, pod, note } => self.note(node, life, &pod, note),
            Happening::Probes { node, life, key } => self.probe(node, life, key),
            Happening::ProcessEnds { node, id, started_at, code } => {
                self.process_ends(node, &id, started_at, code);
            }
            Happening::EngineBack { node }
            | Happening::LinkBack { node }
            | Happening::RegistryBack { node }
            | Happening::DiskFreed { node } => self.relents(node, &happening),
            Happening::NodeRemoved { node } => self.take_out(node),
            Happening::NodeReturns { node } => return self.unbury(node),
            Happening::BackupTaken => self.take_backup(),
            Happening::LoadChanges => self.change_load(),
            Happening::Chaos => self.chaos(),
        }
        Ok(())
    }

    /// Whether a fault that strikes at something strikes now; counted where it does.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = !self.calm && self.weather.strikes(fault, &mut self.random);
        if strikes {
            self.strike(fault);
        }
        strikes
    }

    pub fn strike(&mut self, fault: Fault) {
        self.say(|| format!("!! {fault:?}"));
        let moments = self.moments();
        self.coverage.met(fault, &moments);
        if !fault.is_small() {
            let members = self.members().count();
            self.hours.fault(self.now, members);
        }
    }

    /// What is going on just now: calls that agents are about to make, and what the master sees
    /// under way.
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
        let mut sets = world.stateful_sets.values();
        note(sets.any(|set| set.current_revision != set.update_revision), "set-roll");
        let mut daemons = world.daemon_sets.values();
        note(daemons.any(|set| set.updated < set.desired), "ds-roll");
        for pod in world.pods.values() {
            note(pod.deletion.is_some(), "stopping");
            note(pod.placed.is_none(), "unplaced");
            note(pod.nominated.is_some(), "preempt");
        }
        note(world.jobs.values().any(|job| job.finished.is_none()), "job");
        note(world.cron_jobs.values().any(|cron| !cron.active.is_empty()), "cron");
        note(world.autoscalers.values().any(|it| it.desired.is_some()), "scaling");
        note(world.nodes.values().any(|node| node.drain.is_some()), "drain");
        let fenced = |pod: &Pod| {
            pod.placed.as_ref().is_some_and(|placed| placed.spec.fence_after_seconds.is_some())
        };
        let away = world.nodes.values().filter(|node| node.heard == Some(false));
        let mut pods = away.flat_map(|node| world.pods_on(&node.name));
        note(pods.any(|pod| fenced(pod)), "fencing");
        note(world.meta.sync.as_ref().is_some_and(|sync| sync.open), "sync");
        note(world.meta.held.is_some(), "held");
        note(world.meta.restored, "restored");
        note(world.objects.values().any(|row| row.deletion.is_some()), "delete");
        moments
    }

    pub fn has_autoscalers(&self) -> bool {
        self.world.objects_of(Kind::HorizontalPodAutoscaler).next().is_some()
    }
}

pub fn join(agent: &Agent, credential: Credential) -> Event {
    let (reply, _) = oneshot::channel();
    let join = Join {
        version: 1,
        token: String::new(),
        node: agent.name.clone(),
        labels: agent.labels(),
        certificate_request: String::new(),
        network: PodNetwork { range: agent.range },
    };
    Event::Join { join: Box::new(join), key_digest: agent.key_digest(), credential, reply }
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

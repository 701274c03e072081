//! The cluster in virtual time: a queue of happenings, handled one by one. Only what is in the
//! queue happens; its order and its times come from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kgit::domain::key::ObjectKey;
use kgit::domain::plan::Waits;
use kgit::domain::world::World;
use kgit::master::event::Event;
use kgit_agent::decide::outcome::Note;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Attempt, Digest, PodUid};
use kgit_protocol::messages::{AuditHead, Join, Pulled, Report};
use kgit_protocol::time::Timestamp;
use tokio::sync::oneshot;

use crate::agent::Agent;
use crate::calls::Call;
use crate::checks::{Checked, Checks};
use crate::coverage::Coverage;
use crate::master::Master;
use crate::random::Random;
use crate::repo::{Repo, Tree};
use crate::trace::Trace;
use crate::weather::{Fault, Weather};

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
    TampersWithAudit,
}

pub struct Cluster {
    pub now: Timestamp,
    pub start: Timestamp,
    pub queue: BTreeMap<(Timestamp, u64), Happening>,
    pub order: u64,
    pub requests: u64,
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
    pub at_once: (Timestamp, u32),
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
            at_once: (now, 0),
            _dir: dir,
        };
        cluster.set_up();
        cluster
    }

    pub fn set_up(&mut self) {
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
        // Joining is not what this is about: all nodes are members before anything goes wrong.
        let chaos_left = std::mem::take(&mut self.chaos_left);
        self.turn().expect("nothing is promised yet");
        self.chaos_left = chaos_left;
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

    pub fn set_time(&mut self, at: Timestamp) {
        self.now = at;
        for agent in &self.agents {
            agent.engine.set_time(at);
        }
    }

    pub fn limit(&mut self) -> Checked {
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

    pub fn happens(&mut self, happening: Happening) -> Checked {
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
    pub fn moments(&self) -> BTreeSet<&'static str> {
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

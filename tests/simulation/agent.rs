//! One node: an engine in memory that outlives everything, a disk with the journal, a clock of its
//! own, and the agent's process, which comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt as _;
use ipnet::Ipv4Net;
use kgit_agent::decide::Outage;
use kgit_agent::journal::{Journal, JournalError};
use kgit_agent::node::Node;
use kgit_agent::runtime::sim::Sim;
use kgit_agent::runtime::{Event, NetworkState, Runtime as _, Scope};
use kgit_agent::worker::outbox::Outbox;
use kgit_protocol::ids::{BootId, ClusterId, Digest, NodeName, PodUid};
use kgit_protocol::observation::{Capacity, NodeObservation};
use kgit_protocol::time::Timestamp;

use crate::disk::SimDisk;
use crate::process::{LOOK_AGAIN, Looked, Process};

#[derive(Debug)]
pub struct Agent {
    pub name: NodeName,
    pub index: usize,
    pub range: Ipv4Net,
    pub engine: Sim,
    pub disk: SimDisk,
    pub process: Option<Process>,
    /// Counts processes: what was meant for an earlier one is not for this one.
    pub life: u64,
    pub host_boot: u32,
    /// Everything the engine ever told, as its own history is.
    pub told: Vec<Event>,
    pub link: Link,
    pub clock: HostClock,
    /// The process, or the engine, does nothing before this.
    pub hangs_until: Timestamp,
    pub engine_hangs_until: Timestamp,
    /// The machine is gone for good.
    pub dead: bool,
    /// Taken out of the cluster, or never to come back to it.
    pub left: bool,
    /// A member once: it has a certificate.
    pub certified: bool,
    /// Somebody gave it a token to join again with.
    pub token: bool,
    /// Pods that were ever ordered to run here, as the agent took it.
    pub given: BTreeSet<PodUid>,
    /// The newest place that the agent ever had orders of.
    pub newest: Option<(u64, u64)>,
    /// When the last request was sent that the master answered, as nobody in the cluster knows it.
    pub heard_at: Timestamp,
    /// Until when the agent or the engine did not do its work, apart from hanging.
    pub unfit_until: Timestamp,
    cpu_millis: u64,
}

/// What gets through between the agent and the master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Requests of the agent do not arrive.
    pub mute: bool,
    /// Answers to the agent do not arrive.
    pub deaf: bool,
}

/// A machine's idea of the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    pub ahead_ms: i64,
    /// Millionths; from `since` on.
    pub drift_ppm: i64,
    pub since: Timestamp,
    /// By how many milliseconds it drifted before that.
    drifted_ms: i64,
}

/// The time as it is, and as the machine tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub now: Timestamp,
    pub wall: Timestamp,
}

impl HostClock {
    pub fn at(&self, now: Timestamp) -> Moment {
        Moment { now, wall: Timestamp(now.0 + self.ahead_ms + self.drift(now)) }
    }

    fn drift(&self, now: Timestamp) -> i64 {
        (now.0 - self.since.0) * self.drift_ppm / 1_000_000
    }

    /// The clock that nobody can set; where it started means nothing.
    pub fn uptime(&self, now: Timestamp) -> Duration {
        let millis = now.0 + self.drifted_ms + self.drift(now);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Steps, and drifts differently from now on.
    pub fn set(&mut self, ahead_ms: i64, drift_ppm: i64, now: Timestamp) {
        let drifted_ms = self.drifted_ms + self.drift(now);
        *self = Self { ahead_ms, drift_ppm, since: now, drifted_ms };
    }
}

impl Agent {
    pub fn new(index: usize, now: Timestamp) -> Self {
        let range = format!("10.{}.{}.0/24", 77 + index / 256, index % 256);
        let engine = Sim::default();
        let range: Ipv4Net = range.parse().unwrap();
        {
            let mut world = engine.world();
            world.now = now;
            world.network = Some(range);
            world.registry = crate::repo::Repo::images().collect();
        }
        Self {
            name: NodeName::new(format!("n{index}")),
            index,
            range,
            engine,
            disk: SimDisk::default(),
            process: None,
            life: 0,
            host_boot: 0,
            told: Vec::new(),
            link: Link::default(),
            clock: HostClock::default(),
            hangs_until: now,
            engine_hangs_until: now,
            dead: false,
            left: false,
            certified: false,
            token: false,
            given: BTreeSet::new(),
            newest: None,
            heard_at: now,
            unfit_until: now,
            cpu_millis: CPU_MILLIS,
        }
    }

    /// Somebody gives the machine more cores.
    pub fn grow(&mut self) {
        self.cpu_millis = 8 * CPU_MILLIS;
        if let Some(process) = &self.process {
            process.outbox.node(about_node(self.cpu_millis));
        }
    }

    /// Since when agent and engine do their work, as far as is seen now.
    pub fn fit_since(&self, now: Timestamp) -> Timestamp {
        let away = self.process.is_none() || self.engine.world().down;
        let hung = self.hangs_until.max(self.engine_hangs_until);
        self.unfit_until.max(hung).max(if away { now } else { Timestamp(0) })
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        let zone = format!("z{}", self.index % 3);
        let mut labels = BTreeMap::from([("zone".to_owned(), zone)]);
        if self.index.is_multiple_of(2) {
            labels.insert("disk".to_owned(), "ssd".to_owned());
        }
        labels
    }

    pub fn key_digest(&self) -> Digest {
        Digest::of(self.name.as_str().as_bytes())
    }

    pub fn scope(&self, cluster: &ClusterId) -> Scope {
        Scope { cluster: cluster.clone(), node: self.name.clone() }
    }

    pub fn is_hung(&self, now: Timestamp) -> bool {
        self.hangs_until > now
    }

    /// A new process, with what the journal has.
    pub fn start(&mut self, now: Timestamp, resync: Duration) -> Result<(), JournalError> {
        self.life += 1;
        let moment = self.clock.at(now);
        let journal = Journal::on(Box::new(self.disk.clone()));
        let remembered = journal.remembered()?;
        let key = journal.spec_key([7; 32])?;
        let mut node = Node::new(key, journal.set()?, remembered.pods.clone());
        node.keep(remembered.kept.clone());
        let boot = self.host_boot.to_string();
        let rebooted = !remembered.host_boot.is_empty() && remembered.host_boot != boot;
        let outage = Outage { from: remembered.seen_at, until: moment.wall };
        let heard = match remembered.seen_at {
            Timestamp(0) => self.told.len(),
            since => {
                let first = self.told.iter().position(|event| event.at >= since);
                first.unwrap_or(self.told.len())
            }
        };
        let life = BootId::new(format!("{}-{}", self.name, self.life));
        let outbox = Outbox::new(life, node.stamp().cloned());
        outbox.node(about_node(self.cpu_millis));
        let witness = journal.witness()?;
        let contact = journal.contact(&boot)?;
        let mut process = Process::new(node, journal, outbox, remembered, moment, resync);
        process.outage = rebooted.then_some(outage);
        process.heard = heard;
        process.witness = witness;
        process.contact = contact;
        self.unfit_until = now;
        self.process = Some(process);
        Ok(())
    }

    /// The process is gone from one moment to the next; containers go on.
    pub fn die(&mut self) {
        self.life += 1;
        self.process = None;
        self.unfit_until = self.unfit_until.max(self.hangs_until);
        self.hangs_until = Timestamp(0);
    }

    /// Takes what the engine told since, as far as the agent lives.
    pub fn hear(&mut self, now: Timestamp) {
        let moment = self.clock.at(now);
        let events: Vec<Event> = self.engine.world().events.drain(..).collect();
        self.told.extend(events);
        if self.is_hung(now) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        for event in &self.told[process.heard..] {
            process.take_event(event, moment);
        }
        if process.heard < self.told.len() {
            process.look_soon(now);
        }
        process.heard = self.told.len();
    }

    /// Looks at the engine and decides.
    pub fn look(&mut self, now: Timestamp) -> Result<Option<Looked>, JournalError> {
        let (range, moment, uptime) = (self.range, self.clock.at(now), self.clock.uptime(now));
        let boot = self.host_boot.to_string();
        let engine = self.engine.clone();
        let Some(process) = self.process.as_mut() else { return Ok(None) };
        process.look_at = now.after(process.resync);
        let seen = |engine: &Sim| engine.view(range).now_or_never().expect("it answers at once");
        let view = match seen(&engine) {
            Ok(view) if view.network == NetworkState::Present => Ok(view),
            Ok(view) => {
                let made = engine.ensure_network(range).now_or_never();
                match made.expect("it answers at once") {
                    Ok(()) => seen(&engine),
                    Err(error) => {
                        process.outbox.network_ready(Err(error.to_string()));
                        process.look_within(LOOK_AGAIN, now);
                        Ok(view)
                    }
                }
            }
            Err(error) => Err(error),
        };
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                process.no_view(error, moment);
                return Ok(Some(Looked::default()));
            }
        };
        process.engine_answered(moment);
        process.node.cut_off_for(process.contact.map(|sent| uptime.saturating_sub(sent)));
        let round = process.node.decide(&view, process.outage, moment.wall);
        process.remember(&boot)?;
        process.remember_contact(&boot);
        let mut looked = process.dispatch(round, moment);
        looked.removed = process.remove_ordered_volumes(&engine);
        Ok(Some(looked))
    }
}

/// What a machine has.
const CPU_MILLIS: u64 = 4000;

fn about_node(cpu_millis: u64) -> NodeObservation {
    let capacity = Capacity { cpu_millis, memory_bytes: 8 << 30, pods: 110, disk_bytes: 1 << 40 };
    NodeObservation { capacity, ..NodeObservation::default() }
}

//! One node: an engine in memory that outlives everything, a journal on disk, and the agent's
//! process, which comes and goes. The process is the real core, outbox and journal; what the
//! worker does around them with tasks and timers is done here in virtual time, one call at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt as _;
use ipnet::Ipv4Net;
use kgit_agent::decide::Outage;
use kgit_agent::decide::facts::Touched;
use kgit_agent::decide::outcome::Note;
use kgit_agent::decide::probing::ProbeTarget;
use kgit_agent::journal::{Journal, Remembered};
use kgit_agent::node::{Node, Round, Taken};
use kgit_agent::runtime::sim::Sim;
use kgit_agent::runtime::{Change, Event, EventKind, NetworkState, Runtime as _, RuntimeError};
use kgit_agent::worker::outbox::Outbox;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{BootId, ClusterId, NodeName, PodUid};
use kgit_protocol::messages::{AuditHead, Pulled, Report};
use kgit_protocol::observation::{Capacity, DriftKind, NodeObservation};
use kgit_protocol::time::Timestamp;

use crate::calls::{Call, Job};

/// As in the worker.
pub const RESYNC: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const ENGINE_DYING: Duration = Duration::from_secs(20);
const ENGINE_SETTLING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Agent {
    pub name: NodeName,
    pub index: usize,
    pub range: Ipv4Net,
    pub engine: Sim,
    pub dir: PathBuf,
    pub process: Option<Process>,
    /// Counts processes: what was meant for an earlier one is not for this one.
    pub life: u64,
    pub host_boot: u32,
    /// Everything the engine ever told, as its own history is.
    pub told: Vec<Event>,
    /// Requests of the agent do not arrive.
    pub cut: bool,
    /// Answers to the agent do not arrive.
    pub deaf: bool,
    /// Pods that were ever ordered to run here, as the agent took it.
    pub given: BTreeSet<PodUid>,
    /// The newest place that the agent ever had orders of.
    pub newest: Option<(u64, u64)>,
}

/// A request under way: its number, and when the agent gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: u64,
}

#[derive(Debug)]
pub struct Process {
    pub node: Node,
    journal: Journal,
    pub outbox: Outbox,
    remembered: Remembered,
    outage: Option<Outage>,
    down_since: Option<Timestamp>,
    seen_at: Timestamp,
    complete_sent: bool,
    /// How much of what the engine told is taken.
    heard: usize,
    pub witness: Option<AuditHead>,
    pub have: Option<Stamp>,
    pub jobs: BTreeMap<PodUid, Job>,
    pub look_at: Timestamp,
    pub probes: BTreeMap<(String, u8), (PodUid, ProbeTarget)>,
    pub pull: Option<Pending>,
    pub beat: Option<Pending>,
    pub reporting: Option<(Pending, Report)>,
    pub failures: u32,
}

/// What a look leaves to be done by the cluster around.
#[derive(Debug, Default)]
pub struct Looked {
    /// Pods whose calls are to begin.
    pub work: Vec<PodUid>,
    pub new_probes: Vec<((String, u8), ProbeTarget)>,
}

impl Agent {
    pub fn new(index: usize, dir: PathBuf) -> Self {
        let range: Ipv4Net = format!("10.77.{index}.0/24").parse().unwrap();
        Self {
            name: NodeName::new(format!("n{index}")),
            index,
            range,
            engine: Sim::default(),
            dir,
            process: None,
            life: 0,
            host_boot: 0,
            told: Vec::new(),
            cut: false,
            deaf: false,
            given: BTreeSet::new(),
            newest: None,
        }
    }

    pub fn scope(&self, cluster: &ClusterId) -> kgit_agent::runtime::Scope {
        kgit_agent::runtime::Scope { cluster: cluster.clone(), node: self.name.clone() }
    }

    /// A new process, with what the journal has.
    pub fn start(&mut self, now: Timestamp) {
        self.life += 1;
        let journal = Journal::open(&self.dir).unwrap();
        let remembered = journal.remembered().unwrap();
        let key = journal.spec_key([7; 32]).unwrap();
        let mut node = Node::new(key, journal.set().unwrap(), remembered.pods.clone());
        node.keep(remembered.kept.clone());
        let boot = self.host_boot.to_string();
        let rebooted = !remembered.host_boot.is_empty() && remembered.host_boot != boot;
        let outage = rebooted.then_some(Outage { from: remembered.seen_at, until: now });
        let heard = match remembered.seen_at {
            Timestamp(0) => self.told.len(),
            since => self.told.partition_point(|event| event.at < since),
        };
        let outbox = Outbox::new(BootId::new(format!("{}-{}", self.name, self.life)));
        outbox.node(about_node());
        let have = node.stamp().cloned();
        self.process = Some(Process {
            node,
            outbox,
            outage,
            down_since: None,
            seen_at: now,
            complete_sent: false,
            heard,
            witness: journal.witness().unwrap(),
            journal,
            remembered,
            have,
            jobs: BTreeMap::new(),
            look_at: now,
            probes: BTreeMap::new(),
            pull: None,
            beat: None,
            reporting: None,
            failures: 0,
        });
    }

    /// The process is gone from one moment to the next; containers go on.
    pub fn die(&mut self) {
        self.life += 1;
        self.process = None;
    }

    /// Takes what the engine told since, as far as the agent lives.
    pub fn hear(&mut self, now: Timestamp) {
        let events: Vec<Event> = self.engine.world().events.drain(..).collect();
        self.told.extend(events);
        let Some(process) = &mut self.process else { return };
        for event in &self.told[process.heard..] {
            process.take_event(event, now);
        }
        if process.heard < self.told.len() {
            process.look_within(BETWEEN_LOOKS, now);
        }
        process.heard = self.told.len();
    }

    /// Looks at the engine and decides.
    pub fn look(&mut self, now: Timestamp) -> Option<Looked> {
        let range = self.range;
        let boot = self.host_boot.to_string();
        let engine = self.engine.clone();
        let process = self.process.as_mut()?;
        process.look_at = now.after(RESYNC);
        let view = engine.view(range).now_or_never()?;
        let view = match view {
            Ok(view) if view.network == NetworkState::Present => Ok(view),
            Ok(view) => match engine.ensure_network(range).now_or_never()? {
                Ok(()) => engine.view(range).now_or_never()?,
                Err(error) => {
                    process.outbox.network_ready(Err(error.to_string()));
                    process.look_within(LOOK_AGAIN, now);
                    Ok(view)
                }
            },
            Err(error) => Err(error),
        };
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                process.no_view(error, now);
                return Some(Looked::default());
            }
        };
        process.engine_answered(now);
        let round = process.node.decide(&view, process.outage, now);
        process.remember(&boot);
        Some(process.dispatch(round, now))
    }
}

fn about_node() -> NodeObservation {
    let capacity =
        Capacity { cpu_millis: 4000, memory_bytes: 8 << 30, pods: 110, disk_bytes: 1 << 40 };
    NodeObservation { capacity, ..NodeObservation::default() }
}

impl Process {
    pub fn look_within(&mut self, delay: Duration, now: Timestamp) {
        self.look_at = self.look_at.min(now.after(delay));
    }

    fn no_view(&mut self, error: RuntimeError, now: Timestamp) {
        self.down_since.get_or_insert(now);
        self.outbox.observations(self.node.unknown());
        self.outbox.engine_ready(Err(error.to_string()));
        self.look_at = now.after(LOOK_AGAIN);
    }

    fn engine_answered(&mut self, now: Timestamp) {
        if let Some(since) = self.down_since.take() {
            let from = Timestamp(since.0 - i64::try_from(ENGINE_DYING.as_millis()).unwrap());
            self.outage = Some(Outage { from, until: now.after(ENGINE_SETTLING) });
        }
        self.seen_at = now;
        self.outbox.engine_ready(Ok(()));
    }

    fn take_event(&mut self, event: &Event, now: Timestamp) {
        let EventKind::Container { id, identity, change } = &event.kind else { return };
        let (kind, seen) = match change {
            Change::Signalled(signal) => (DriftKind::Stopped, format!("signal {signal}")),
            Change::Updated => (DriftKind::Changed, "updated by somebody".to_owned()),
            Change::State => return,
        };
        let touched = Touched { id: id.clone(), at: event.at, kind, seen };
        let note = Note::Touched { container: identity.container.clone(), touched };
        self.node.note(&identity.pod, note, now);
    }

    /// What the worker makes of an answer to a pull; the stamp to ask with next.
    pub fn take_orders(&mut self, pulled: Pulled, now: Timestamp) -> (Taken, Option<Stamp>) {
        if let Some(head) = pulled.audit_head
            && self.witness.as_ref().is_none_or(|known| head.is_after(known))
        {
            self.journal.keep_witness(&head).unwrap();
            self.witness = Some(head);
        }
        let taken = self.node.take(pulled.orders);
        match &taken {
            Taken::Applied(_) => {
                if let Some(set) = self.node.set() {
                    self.journal.keep_set(set).unwrap();
                    self.outbox.applied(set.stamp.clone());
                }
                self.look_at = now;
            }
            Taken::NeedWhole => return (taken, None),
            Taken::Stale | Taken::Unchanged => {}
        }
        (taken, self.node.stamp().cloned())
    }

    fn dispatch(&mut self, round: Round, now: Timestamp) -> Looked {
        self.outbox.events(round.events);
        if self.complete_sent || self.node.set().is_none() {
            self.outbox.observations(round.observations);
        } else {
            self.complete_sent = true;
            self.outbox.complete(self.node.observations());
        }
        let mut looked = Looked::default();
        let mut wanted = BTreeMap::new();
        for (uid, target) in round.probes {
            let key = (target.id.clone(), target.kind as u8);
            if self.probes.get(&key).is_none_or(|(_, known)| *known != target) {
                looked.new_probes.push((key.clone(), target.clone()));
            }
            wanted.insert(key, (uid, target));
        }
        self.probes = wanted;
        for (uid, steps) in round.work {
            let calls: VecDeque<Call> = steps.into_iter().flat_map(Call::of).collect();
            let job = Job::new(&self.node, &uid, calls);
            self.jobs.insert(uid.clone(), job);
            looked.work.push(uid);
        }
        if let Some(at) = round.wake {
            self.look_within(at.since(now).max(BETWEEN_LOOKS), now);
        }
        looked
    }

    /// A pod's calls are over.
    pub fn finished(&mut self, uid: &PodUid, failed: bool, now: Timestamp) {
        self.jobs.remove(uid);
        self.node.finish(uid);
        self.look_within(if failed { LOOK_AGAIN } else { BETWEEN_LOOKS }, now);
    }

    pub fn note(&mut self, uid: &PodUid, note: Note, now: Timestamp) {
        self.node.note(uid, note, now);
        self.look_within(BETWEEN_LOOKS, now);
    }

    /// Makes the facts durable, if they changed.
    fn remember(&mut self, host_boot: &str) {
        let seen_at = self.down_since.unwrap_or(self.seen_at);
        let changed = *self.node.facts() != self.remembered.pods
            || *self.node.kept() != self.remembered.kept
            || seen_at.since(self.remembered.seen_at) > Duration::from_secs(60)
            || self.remembered.host_boot != host_boot;
        if !changed {
            return;
        }
        self.remembered = Remembered {
            pods: self.node.facts().clone(),
            kept: self.node.kept().clone(),
            seen_at,
            host_boot: host_boot.to_owned(),
        };
        self.journal.remember(&self.remembered).unwrap();
    }

    /// As the link's back-off does, without its chance.
    pub fn backoff(&mut self) -> Duration {
        let delay = Duration::from_millis(250) * 2u32.pow(self.failures.min(6));
        self.failures += 1;
        delay.min(Duration::from_secs(15))
    }
}

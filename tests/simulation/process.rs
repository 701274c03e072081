//! An agent's process: the real core, outbox and journal; what the worker does around them with
//! tasks and timers is done here in virtual time, one call at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::FutureExt as _;
use kgit_agent::decide::Outage;
use kgit_agent::decide::facts::Touched;
use kgit_agent::decide::outcome::Note;
use kgit_agent::decide::probing::ProbeTarget;
use kgit_agent::journal::{Journal, JournalError, Remembered};
use kgit_agent::node::{Node, Round, Taken};
use kgit_agent::runtime::sim::Sim;
use kgit_agent::runtime::{Change, Event, EventKind, Runtime as _, RuntimeError};
use kgit_agent::worker::COMPLETE_EVERY;
use kgit_agent::worker::outbox::Outbox;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::PodUid;
use kgit_protocol::messages::{AuditHead, Pulled, Report};
use kgit_protocol::observation::DriftKind;
use kgit_protocol::pod::VolumeSource;
use kgit_protocol::time::Timestamp;

use crate::agent::Moment;
use crate::calls::{Call, Job};

/// As in the worker.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);
const ENGINE_DYING: Duration = Duration::from_secs(20);
const ENGINE_SETTLING: Duration = Duration::from_secs(5);
const CONTACT_EVERY: Duration = Duration::from_secs(10);

/// A request under way, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: u64,
    /// By the host's clock that nobody sets.
    pub sent: Duration,
}

#[derive(Debug)]
pub struct Process {
    pub node: Node,
    journal: Journal,
    pub outbox: Outbox,
    remembered: Remembered,
    pub resync: Duration,
    pub outage: Option<Outage>,
    down_since: Option<Timestamp>,
    seen_at: Timestamp,
    complete_at: Timestamp,
    /// How much of what the engine told is taken.
    pub heard: usize,
    pub witness: Option<AuditHead>,
    pub have: Option<Stamp>,
    pub jobs: BTreeMap<PodUid, Job>,
    /// By no clock that anybody turns.
    pub look_at: Timestamp,
    /// The earliest look that is in the cluster's queue.
    pub look_queued: Option<Timestamp>,
    pub probes: BTreeMap<(String, u8), (PodUid, ProbeTarget)>,
    pub pull: Option<Pending>,
    pub beat: Option<Pending>,
    pub reporting: Option<(Pending, Report)>,
    pub failures: u32,
    /// When the last request that was answered had been sent; `None`: none was since the host
    /// started.
    pub contact: Option<Duration>,
    contact_kept: Duration,
    removed: BTreeSet<String>,
}

/// What a look leaves to be done by the cluster around.
#[derive(Debug, Default)]
pub struct Looked {
    /// Pods whose calls are to begin.
    pub work: Vec<PodUid>,
    pub new_probes: Vec<((String, u8), ProbeTarget)>,
    /// Volumes that went by order.
    pub removed: Vec<String>,
}

impl Process {
    pub fn new(
        node: Node,
        journal: Journal,
        outbox: Outbox,
        remembered: Remembered,
        moment: Moment,
        resync: Duration,
    ) -> Self {
        let have = node.stamp().cloned();
        Self {
            node,
            journal,
            outbox,
            remembered,
            resync,
            outage: None,
            down_since: None,
            seen_at: moment.wall,
            complete_at: moment.now,
            heard: 0,
            witness: None,
            have,
            jobs: BTreeMap::new(),
            look_at: moment.now,
            look_queued: None,
            probes: BTreeMap::new(),
            pull: None,
            beat: None,
            reporting: None,
            failures: 0,
            contact: None,
            contact_kept: Duration::ZERO,
            removed: BTreeSet::new(),
        }
    }

    pub fn look_within(&mut self, delay: Duration, now: Timestamp) {
        self.look_at = self.look_at.min(now.after(delay));
    }

    pub fn look_soon(&mut self, now: Timestamp) {
        self.look_within(BETWEEN_LOOKS, now);
    }

    pub fn no_view(&mut self, error: RuntimeError, moment: Moment) {
        self.down_since.get_or_insert(moment.wall);
        self.outbox.observations(self.node.unknown());
        self.outbox.engine_ready(Err(error.to_string()));
        self.look_at = moment.now.after(LOOK_AGAIN);
    }

    pub fn engine_answered(&mut self, moment: Moment) {
        if let Some(since) = self.down_since.take() {
            let from = Timestamp(since.0 - i64::try_from(ENGINE_DYING.as_millis()).unwrap());
            self.outage = Some(Outage { from, until: moment.wall.after(ENGINE_SETTLING) });
        }
        self.seen_at = moment.wall;
        self.outbox.engine_ready(Ok(()));
    }

    pub fn take_event(&mut self, event: &Event, moment: Moment) {
        let EventKind::Container { id, identity, change } = &event.kind else { return };
        let (kind, seen) = match change {
            Change::Signalled(signal) => (DriftKind::Stopped, format!("signal {signal}")),
            Change::Updated => (DriftKind::Changed, "updated by somebody".to_owned()),
            Change::State => return,
        };
        let touched = Touched { id: id.clone(), at: event.at, kind, seen };
        let note = Note::Touched { container: identity.container.clone(), touched };
        self.node.note(&identity.pod, note, moment.wall);
    }

    /// What the worker makes of an answer to a pull; the stamp to ask with next.
    pub fn take_orders(
        &mut self,
        pulled: Pulled,
        now: Timestamp,
    ) -> Result<(Taken, Option<Stamp>), JournalError> {
        if let Some(head) = pulled.audit_head
            && self.witness.as_ref().is_none_or(|known| head.is_after(known))
        {
            self.journal.keep_witness(&head)?;
            self.witness = Some(head);
        }
        let taken = self.node.take(pulled.orders);
        match &taken {
            Taken::Applied(_) => {
                let host_boot = self.remembered.host_boot.clone();
                self.remember(&host_boot)?;
                if let Some(set) = self.node.set() {
                    self.journal.keep_set(set)?;
                    if self.outbox.applied(set.stamp.clone()) {
                        self.complete_at = now;
                    }
                }
                self.look_at = now;
            }
            Taken::NeedWhole => return Ok((taken, None)),
            Taken::Stale | Taken::Unchanged => {}
        }
        Ok((taken, self.node.stamp().cloned()))
    }

    pub fn dispatch(&mut self, round: Round, moment: Moment) -> Looked {
        self.outbox.events(round.events);
        if moment.now < self.complete_at || self.node.set().is_none() {
            self.outbox.observations(round.observations);
        } else {
            self.complete_at = moment.now.after(COMPLETE_EVERY);
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
            let delay = at.since(moment.wall).max(BETWEEN_LOOKS);
            self.look_within(delay, moment.now);
        }
        looked
    }

    /// What the worker's removals do, at once.
    pub fn remove_ordered_volumes(&mut self, engine: &Sim) -> Vec<String> {
        let Some(set) = self.node.set() else { return Vec::new() };
        if set.remove_volumes.is_empty() {
            self.removed.clear();
            return Vec::new();
        }
        let all = set.pods.values().chain(self.node.kept().values());
        let volumes = all.flat_map(|pod| &pod.spec.volumes);
        let mounted: BTreeSet<&String> = volumes
            .filter_map(|volume| match &volume.source {
                VolumeSource::Docker { volume, .. } => Some(volume),
                _ => None,
            })
            .collect();
        let due = set.remove_volumes.iter().filter(|name| !mounted.contains(name));
        let due: Vec<String> = due.filter(|name| !self.removed.contains(*name)).cloned().collect();
        let gone = due.into_iter().filter(|name| {
            engine.remove_volume(name).now_or_never().is_some_and(|removed| removed.is_ok())
        });
        let gone: Vec<String> = gone.collect();
        self.removed.extend(gone.iter().cloned());
        self.outbox.volumes_removed(gone.clone());
        gone
    }

    /// A pod's calls are over.
    pub fn finished(&mut self, uid: &PodUid, failed: bool, now: Timestamp) {
        self.jobs.remove(uid);
        if failed {
            self.node.failed(uid);
        }
        self.node.finish(uid);
        self.look_within(if failed { LOOK_AGAIN } else { BETWEEN_LOOKS }, now);
    }

    pub fn note(&mut self, uid: &PodUid, note: Note, moment: Moment) {
        self.node.note(uid, note, moment.wall);
        self.look_soon(moment.now);
    }

    /// Makes the facts durable, if they changed.
    pub fn remember(&mut self, host_boot: &str) -> Result<(), JournalError> {
        let seen_at = self.down_since.unwrap_or(self.seen_at);
        let changed = *self.node.facts() != self.remembered.pods
            || *self.node.kept() != self.remembered.kept
            || seen_at.since(self.remembered.seen_at) > Duration::from_secs(60)
            || self.remembered.host_boot != host_boot;
        if !changed {
            return Ok(());
        }
        self.remembered = Remembered {
            pods: self.node.facts().clone(),
            kept: self.node.kept().clone(),
            seen_at,
            host_boot: host_boot.to_owned(),
        };
        self.journal.remember(&self.remembered)
    }

    pub fn answered(&mut self, request: Pending) {
        self.contact = self.contact.max(Some(request.sent));
        self.failures = 0;
    }

    /// As the worker does: an older moment only has the pods stopped earlier.
    pub fn remember_contact(&mut self, host_boot: &str) {
        let Some(last) = self.contact.filter(|_| self.node.may_be_fenced()) else { return };
        if last.saturating_sub(self.contact_kept) >= CONTACT_EVERY {
            self.contact_kept = last;
            // Tried again with the next one.
            let _ = self.journal.keep_contact(host_boot, last);
        }
    }

    /// As the link's back-off does, without its chance.
    pub fn backoff(&mut self) -> Duration {
        let delay = Duration::from_millis(250) * 2u32.pow(self.failures.min(6));
        self.failures += 1;
        delay.min(Duration::from_secs(15))
    }
}

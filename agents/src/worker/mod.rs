//! The agent's loop: reacts to orders, engine events, outcomes and time; looks at the engine;
//! lets the core decide; has steps carried out. Everything it decides is decided in `node`.

#![allow(
    clippy::disallowed_methods,
    reason = "part of the shell: it reads the clock and carries steps out"
)]

pub mod carry_out;
mod catalogue;
pub mod contact;
pub mod facts;
pub mod images;
mod orders;
pub mod outbox;
pub mod probing;
mod removals;
mod silence;
mod sizes;
mod streams;
pub mod tasks;
pub mod traffic;
mod tunnel;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Digest, PodUid};
use kgit_protocol::messages::{AuditHead, Pulled};
use kgit_protocol::observation::DriftKind;
use kgit_protocol::time::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::decide::Outage;
use crate::decide::facts::{PodFacts, Touched};
use crate::decide::outcome::Note;
use crate::journal::{Journal, JournalError, Remembered};
use crate::link::Link;
use crate::node::{Node, Round};
use crate::runtime::{
    Change, Event, EventKind, NetworkState, Runtime, RuntimeError, Scope, Seen, View,
};
use crate::volumes::Places;
use crate::worker::catalogue::Catalogue;
use crate::worker::contact::Contact;
use crate::worker::images::{InUse, Puller};
use crate::worker::outbox::Outbox;
use crate::worker::probing::Probers;
use crate::worker::removals::Removals;
use crate::worker::traffic::{Ground, Traffic};

/// Pods worked on at a time: what keeps one engine busy without making it slower.
const PODS_IN_FLIGHT: usize = 8;
/// A net under lost events: the engine is looked at this often though nothing was told.
const RESYNC: Duration = Duration::from_secs(5);
/// Looks are this far apart: events come in bursts.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
/// The same while containers are being started: looking costs the engine time that it needs.
const BETWEEN_LOOKS_BUSY: Duration = Duration::from_millis(100);
/// How soon to look again after the engine did not answer or a step failed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A dying engine takes its containers along over this long before it is seen to be gone.
const ENGINE_DYING: Duration = Duration::from_secs(20);
/// The engine settles what ended with it this soon after it is back.
const ENGINE_SETTLING: Duration = Duration::from_secs(5);
/// All pods are told of anew this often: a master that was restored from a backup may have lost what
/// it was told, and can't know that it did.
pub const COMPLETE_EVERY: Duration = Duration::from_secs(300);
/// How often the last contact with the master is kept on disk.
const CONTACT_EVERY: Duration = Duration::from_secs(10);
/// Inputs waiting for the loop; tasks wait when it is full.
const INPUTS: usize = 1024;

/// What the loop reacts to.
#[derive(Debug)]
pub enum Input {
    /// From the master; what to ask with next is sent back.
    Pulled(Box<Pulled>, oneshot::Sender<Have>),
    /// This node is a member again: the master knows nothing of it.
    JoinedAgain,
    Engine(Event),
    /// The engine's events stopped: it went away.
    EngineLost,
    Note(PodUid, Note),
    /// Volumes that were ordered removed are gone; the try is over.
    VolumesRemoved(Vec<String>),
    /// A pod's steps are over.
    Finished {
        pod: PodUid,
        failed: bool,
    },
}

/// What the node has of the master's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// `None`: the whole set is needed.
    pub stamp: Option<Stamp>,
    /// `None`: the whole directory is needed.
    pub directory: Option<Digest>,
}

/// What tasks share.
#[derive(Debug)]
pub struct Shared<R> {
    pub runtime: R,
    pub scope: Scope,
    pub places: Places,
    pub puller: Puller,
    pub inputs: mpsc::Sender<Input>,
    pub in_flight: Semaphore,
    pub range: Ipv4Net,
    pub contact: Contact,
    /// What the last look at the engine saw.
    pub seen: watch::Sender<Arc<Vec<Seen>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the agent's journal can't be written")]
    Journal(#[from] JournalError),
}

/// The loop and what it owns.
#[derive(Debug)]
pub struct Worker<R, L> {
    shared: Arc<Shared<R>>,
    link: Arc<L>,
    node: Node,
    journal: Journal,
    outbox: Arc<Outbox>,
    range: Ipv4Net,
    inputs: mpsc::Receiver<Input>,
    probers: Probers,
    view: View,
    written: Remembered,
    /// The images that the journal knows to be fetched for pods.
    images: BTreeSet<String>,
    host_boot: String,
    /// The last contact with the master that is on disk.
    contact_kept: Duration,
    outage: Option<Outage>,
    engine: EngineState,
    look_at: Instant,
    witness: Option<AuditHead>,
    /// When all pods are told of next.
    complete_at: Instant,
    removals: Removals,
    sizes_at: Instant,
    silence_at: Instant,
    catalogue: Catalogue,
    /// `None` where nothing carries service traffic.
    traffic: Option<Traffic>,
}

#[derive(Debug)]
enum EngineState {
    Up { seen_at: Timestamp },
    Down { since: Timestamp },
}

/// What a worker begins with.
#[derive(Debug)]
pub struct Start<R, L> {
    pub runtime: R,
    pub link: Arc<L>,
    pub scope: Scope,
    pub places: Places,
    pub puller: Puller,
    pub journal: Journal,
    pub outbox: Arc<Outbox>,
    pub range: Ipv4Net,
    pub node: Node,
    pub remembered: Remembered,
    pub host_boot: String,
    /// What service traffic needs; `None`: no service leads anywhere on this node.
    pub ground: Option<Ground>,
}

impl<R: Runtime, L: Link> Worker<R, L> {
    pub fn new(start: Start<R, L>) -> Result<Self, WorkerError> {
        let (sender, inputs) = mpsc::channel(INPUTS);
        let now = now();
        let rebooted =
            !start.remembered.host_boot.is_empty() && start.remembered.host_boot != start.host_boot;
        let outage = rebooted.then_some(Outage { from: start.remembered.seen_at, until: now });
        let witness = start.journal.witness()?;
        let images = start.journal.images()?;
        start.puller.know(images.clone());
        let catalogue = Catalogue::new(start.journal.directory()?);
        let mut node = start.node;
        match &start.ground {
            Some(ground) => node.serve(catalogue.served(&ground.scope.node)),
            None => traffic::tell_of_none(&start.outbox),
        }
        let shared = Arc::new(Shared {
            runtime: start.runtime,
            scope: start.scope,
            places: start.places,
            puller: start.puller,
            inputs: sender,
            in_flight: Semaphore::new(PODS_IN_FLIGHT),
            range: start.range,
            contact: Contact::new(start.journal.contact(&start.host_boot)?),
            seen: watch::Sender::default(),
        });
        Ok(Self {
            shared,
            link: start.link,
            node,
            journal: start.journal,
            outbox: start.outbox,
            range: start.range,
            inputs,
            probers: Probers::default(),
            view: View::default(),
            written: start.remembered,
            images,
            host_boot: start.host_boot,
            contact_kept: Duration::ZERO,
            outage,
            engine: EngineState::Up { seen_at: now },
            look_at: Instant::now() + tasks::REPLAY,
            witness,
            complete_at: Instant::now(),
            removals: Removals::default(),
            sizes_at: Instant::now() + sizes::EVERY,
            silence_at: Instant::now() + silence::EVERY,
            catalogue,
            traffic: start.ground.map(Traffic::start),
        })
    }

    pub fn shared(&self) -> Arc<Shared<R>> {
        Arc::clone(&self.shared)
    }

    /// Runs until it is told to stop. Containers go on.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let since = self.written.seen_at;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(tasks::follow_engine(self.shared(), since));
        tasks.spawn(tasks::pull(
            Arc::clone(&self.link),
            self.shared(),
            self.have(),
            self.witness.clone(),
            Arc::clone(&self.outbox),
        ));
        tasks.spawn(tasks::report(Arc::clone(&self.link), Arc::clone(&self.outbox)));
        tasks.spawn(tasks::heartbeat(
            self.shared(),
            Arc::clone(&self.link),
            Arc::clone(&self.outbox),
        ));
        tasks.spawn(usage::tell(self.shared(), Arc::clone(&self.link), Arc::clone(&self.outbox)));
        tasks.spawn(tunnel::keep(self.shared(), Arc::clone(&self.link)));
        tasks.spawn(facts::watch_node(self.shared(), Arc::clone(&self.outbox)));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                input = self.inputs.recv() => match input {
                    Some(input) => self.take_all(input)?,
                    None => break,
                },
                () = news(&mut self.traffic) => self.take_traffic(),
                () = tokio::time::sleep_until(self.look_at) => self.look().await?,
            }
        }
        self.remember()?;
        Ok(())
    }

    /// Takes an input and all that wait behind it: one look serves them all.
    fn take_all(&mut self, first: Input) -> Result<(), WorkerError> {
        self.take(first)?;
        while let Ok(input) = self.inputs.try_recv() {
            self.take(input)?;
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), WorkerError> {
        match input {
            Input::Pulled(pulled, reply) => {
                let have = self.take_orders(*pulled)?;
                // The puller may have been stopped meanwhile.
                let _ = reply.send(have);
            }
            Input::JoinedAgain => {
                self.complete_at = Instant::now();
                self.look_within(Duration::ZERO);
            }
            Input::Engine(event) => {
                self.take_event(event);
                let busy = self.node.busy_count() > 0;
                self.look_within(if busy { BETWEEN_LOOKS_BUSY } else { BETWEEN_LOOKS });
            }
            Input::EngineLost => {
                self.engine_lost();
                self.look_within(BETWEEN_LOOKS);
            }
            Input::Note(pod, note) => {
                self.node.note(&pod, note, now());
                let busy = self.node.busy_count() > 0;
                self.look_within(if busy { BETWEEN_LOOKS_BUSY } else { BETWEEN_LOOKS });
            }
            Input::VolumesRemoved(gone) => {
                self.removals.over(&gone);
                self.outbox.volumes_removed(gone);
            }
            Input::Finished { pod, failed } => {
                if failed {
                    self.node.failed(&pod);
                }
                self.node.finish(&pod);
                let soon = match (failed, self.node.busy_count()) {
                    (true, _) => LOOK_AGAIN,
                    (false, 0) => BETWEEN_LOOKS,
                    (false, _) => BETWEEN_LOOKS_BUSY,
                };
                self.look_within(soon);
            }
        }
        Ok(())
    }

    fn look_within(&mut self, delay: Duration) {
        self.look_at = self.look_at.min(Instant::now() + delay);
    }

    fn take_event(&mut self, event: Event) {
        let (id, identity, change) = match event.kind {
            EventKind::Container { id, identity, change } => (id, identity, change),
            EventKind::Image => {
                tokio::spawn(images::restore(self.shared(), self.images_in_use()));
                return;
            }
            EventKind::Network | EventKind::Volume => return,
        };
        let (kind, seen) = match change {
            Change::Signalled(signal) => {
                (DriftKind::Stopped, format!("signal {signal} was sent by somebody"))
            }
            Change::Updated => (DriftKind::Changed, "updated by somebody".to_owned()),
            Change::State => return,
        };
        let touched = Touched { id, at: event.at, kind, seen };
        let note = Note::Touched { container: identity.container, touched };
        self.node.note(&identity.pod, note, now());
    }

    fn images_in_use(&self) -> Vec<InUse> {
        let alive = self.view.containers.iter().filter(|seen| seen.state.is_alive());
        let in_use = alive.filter_map(|seen| {
            let identity = &seen.identity;
            let spec = self.node.pod(&identity.pod)?.spec.container(&identity.container)?;
            Some(InUse {
                pod: identity.pod.clone(),
                container: identity.container.clone(),
                id: seen.id.clone(),
                image: spec.image.clone(),
            })
        });
        in_use.collect()
    }

    fn engine_lost(&mut self) {
        if let EngineState::Up { .. } = self.engine {
            tracing::warn!("the container engine went away");
            self.engine = EngineState::Down { since: now() };
        }
    }

    /// Looks at the engine, decides, and has done what was decided.
    async fn look(&mut self) -> Result<(), WorkerError> {
        self.look_at = Instant::now() + RESYNC;
        let view = match self.see().await {
            Ok(view) => view,
            Err(error) => {
                tracing::debug!(%error, "no view of the engine");
                self.engine_lost();
                self.outbox.observations(self.node.unknown());
                self.outbox.engine_ready(Err(error.to_string()));
                self.look_at = Instant::now() + LOOK_AGAIN;
                return Ok(());
            }
        };
        let now = now();
        self.engine_answered(now);
        self.shared.seen.send_replace(Arc::new(view.containers.clone()));
        self.view = view;
        self.node.cut_off_for(self.shared.contact.lost_for());
        let round = self.node.decide(&self.view, self.outage, now);
        self.remember()?;
        self.remember_contact();
        if let Some(traffic) = &mut self.traffic {
            traffic.feed(&self.node, &self.catalogue);
        }
        self.dispatch(round, now);
        // One that was in use may be free by now.
        self.remove_ordered_volumes();
        self.look_at_sizes();
        self.look_for_silence();
        self.refresh_names();
        Ok(())
    }

    fn look_at_sizes(&mut self) {
        if Instant::now() < self.sizes_at {
            return;
        }
        self.sizes_at = Instant::now() + sizes::EVERY;
        let Some(set) = self.node.set() else { return };
        let all = sizes::limited(&self.shared.places, &set.pods);
        if !all.is_empty() {
            tokio::spawn(sizes::check(self.shared(), all));
        }
    }

    async fn see(&mut self) -> Result<View, RuntimeError> {
        let view = self.shared.runtime.view(self.range).await?;
        if view.network == NetworkState::Present {
            self.outbox.network_ready(Ok(()));
            return Ok(view);
        }
        match self.shared.runtime.ensure_network(self.range).await {
            Ok(()) => {
                self.outbox.network_ready(Ok(()));
                self.shared.runtime.view(self.range).await
            }
            Err(error) => {
                if self.outbox.network_ready(Err(error.to_string())) {
                    tracing::warn!(%error, "the pod network can't be made; will try again");
                }
                self.look_within(LOOK_AGAIN);
                Ok(view)
            }
        }
    }

    fn engine_answered(&mut self, now: Timestamp) {
        if let EngineState::Down { since } = self.engine {
            tracing::info!("the container engine is back");
            let from = Timestamp(since.0 - i64::try_from(ENGINE_DYING.as_millis()).unwrap_or(0));
            self.outage = Some(Outage { from, until: now.after(ENGINE_SETTLING) });
        }
        self.engine = EngineState::Up { seen_at: now };
        self.outbox.engine_ready(Ok(()));
    }

    fn dispatch(&mut self, round: Round, now: Timestamp) {
        self.outbox.events(round.events);
        if Instant::now() < self.complete_at || self.node.set().is_none() {
            self.outbox.observations(round.observations);
        } else {
            self.complete_at = Instant::now() + COMPLETE_EVERY;
            self.outbox.complete(self.node.observations());
        }
        self.probers.keep(&self.shared, round.probes);
        for (uid, steps) in round.work {
            let job = carry_out::PodWork::new(&self.node, uid, steps);
            tokio::spawn(carry_out::carry_out(self.shared(), job));
        }
        if let Some(at) = round.wake {
            self.look_within(at.since(now).max(BETWEEN_LOOKS));
        }
    }

    /// A restarted agent has to know since when nobody answers, where pods depend on it.
    fn remember_contact(&mut self) {
        let Some(last) = self.shared.contact.last().filter(|_| self.node.may_be_fenced()) else {
            return;
        };
        // An older moment only has the pods stopped earlier.
        if last.saturating_sub(self.contact_kept) < CONTACT_EVERY {
            return;
        }
        self.contact_kept = last;
        if let Err(error) = self.journal.keep_contact(&self.host_boot, last) {
            tracing::warn!(%error, "the last contact with the master can't be kept");
        }
    }

    /// Makes the facts durable, if they changed.
    fn remember(&mut self) -> Result<(), WorkerError> {
        let images = self.shared.puller.fetched();
        if images != self.images {
            self.journal.keep_images(&images)?;
            self.images = images;
        }
        let seen_at = match self.engine {
            EngineState::Up { seen_at } => seen_at,
            EngineState::Down { since } => since,
        };
        let changed = *self.node.facts() != self.written.pods
            || *self.node.kept() != self.written.kept
            // The moment alone is worth a write now and then.
            || seen_at.since(self.written.seen_at) > Duration::from_secs(60)
            || self.written.host_boot != self.host_boot;
        if !changed {
            return Ok(());
        }
        let pods: BTreeMap<PodUid, PodFacts> = self.node.facts().clone();
        let kept = self.node.kept().clone();
        self.written = Remembered { pods, kept, seen_at, host_boot: self.host_boot.clone() };
        self.journal.remember(&self.written)?;
        Ok(())
    }
}

async fn news(traffic: &mut Option<Traffic>) {
    match traffic {
        Some(traffic) => traffic.news().await,
        None => std::future::pending().await,
    }
}

/// The one place where the worker reads the clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
}

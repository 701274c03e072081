//! The process: takes orders over its socket, puts what it is fed into force, and puts it back
//! when somebody takes it away.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it is a process")]

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kgit_protocol::directory::Directory;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::net::build;
use crate::net::field::{self, Field};
use crate::net::gaps::Gaps;
use crate::net::keep::Keep;
use crate::net::names::server::{self, Server};
use crate::net::names::zone::Zone;
use crate::net::passage::{ToMaster, Underway};
use crate::net::watch::{self as others, Change};
use crate::net::wire::{Answer, Applied, Feed, Here, Order, Problem, Wire};

/// How often things are looked at that nobody tells of.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Ports that programs take, and rules that failed, are looked at every so many looks.
const SLOW_LOOKS: u64 = 10;
/// Changes by others come in bursts: one repair serves them all.
const BURST: Duration = Duration::from_millis(100);
/// Rules are made anew at most so often, should two programs disagree about them for good.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(1);
/// How long a `net` that hands over gets to let go.
const HAND_OVER: Duration = Duration::from_secs(10);
/// A `net` that is busy with rules answers within this.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How long a `net` that handed over goes on answering, so that its heir has begun.
const LINGER: Duration = Duration::from_secs(2);
/// How long it carries connections on that it has under way.
const FINISH: Duration = Duration::from_secs(3600);
/// Orders that wait; connections wait when it is full.
const ORDERS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("the folder {0}")]
    Folder(std::path::PathBuf, #[source] io::Error),
    #[error("another `net` uses {0} and does not hand over")]
    InUse(std::path::PathBuf),
}

/// An order and where its answer goes.
type Asked = (Order, oneshot::Sender<Answer>);

/// Runs until it hands over, is told to take everything away, or is told to end; in the last case
/// the kernel goes on by the rules.
pub async fn run(dir: &Path, shutdown: CancellationToken) -> Result<(), NetError> {
    // A session of its own, so that no terminal takes it along.
    let _ = rustix::process::setsid();
    let keep = Keep::new(dir);
    let folder = |error| NetError::Folder(dir.to_owned(), error);
    let lock = keep.lock().map_err(folder)?;
    take_over(&keep, &lock).await?;
    let listener = listen(&keep).map_err(folder)?;
    let (orders, inbox) = mpsc::channel(ORDERS);
    let (news, heard) = watch::channel(Applied::default());
    let mut serving = Serving::new(keep, news);
    serving.begin().await;
    let doors = tokio::spawn(accept(listener, orders, heard, serving.known()));
    let ended = serving.work(inbox, shutdown).await;
    doors.abort();
    drop(lock);
    if ended == Ended::HandedOver {
        serving.finish().await;
    }
    Ok(())
}

/// Waits for the lock; whoever has it is asked to hand over.
async fn take_over(keep: &Keep, lock: &std::fs::File) -> Result<(), NetError> {
    let deadline = Instant::now() + HAND_OVER;
    while lock.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(NetError::InUse(keep.dir().to_owned()));
        }
        // Whether it heard shows by the lock.
        let _ = tokio::time::timeout(ASK_AGAIN, ask_to_hand_over(keep)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Returns when it was heard.
async fn ask_to_hand_over(keep: &Keep) -> io::Result<()> {
    let mut wire = Wire::new(UnixStream::connect(keep.socket()).await?);
    wire.next::<Answer>().await?;
    wire.send(&Order::HandOver).await?;
    wire.next::<Answer>().await.map(|_| ())
}

fn listen(keep: &Keep) -> io::Result<UnixListener> {
    let path = keep.socket();
    // Left by a process that was killed: the lock says that nobody uses it.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(
    listener: UnixListener,
    orders: mpsc::Sender<Asked>,
    news: watch::Receiver<Applied>,
    known: watch::Receiver<Option<kgit_protocol::ids::Digest>>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(crate::net::open::AFTER_REFUSAL).await;
            continue;
        };
        let hello = Answer::Hello { build: build(), directory: known.borrow().clone() };
        tokio::spawn(converse(Wire::new(stream), hello, orders.clone(), news.clone()));
    }
}

/// One connection: orders in, answers and news out. It ends when either side has had enough.
async fn converse(
    mut wire: Wire,
    hello: Answer,
    orders: mpsc::Sender<Asked>,
    mut news: watch::Receiver<Applied>,
) {
    if wire.send(&hello).await.is_err() {
        return;
    }
    let mut fed = false;
    loop {
        let message = tokio::select! {
            order = wire.next::<Order>() => {
                let Ok(Some(order)) = order else { return };
                fed |= matches!(order, Order::Feed(_));
                let (reply, answer) = oneshot::channel();
                if orders.send((order, reply)).await.is_err() {
                    return;
                }
                let Ok(answer) = answer.await else { return };
                news.mark_unchanged();
                answer
            }
            changed = news.changed() => match changed {
                // Only who feeds is told: the number says of which feed.
                Ok(()) if fed => Answer::Applied(news.borrow_and_update().clone()),
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if wire.send(&message).await.is_err() {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    HandedOver,
    Removed,
    Told,
}

struct Serving {
    keep: Keep,
    directory: Option<Directory>,
    here: Option<Here>,
    field: Field,
    gaps: Gaps,
    underway: Underway,
    zone: watch::Sender<Arc<Zone>>,
    names: Option<Server>,
    master: Option<ToMaster>,
    applied: Applied,
    news: watch::Sender<Applied>,
    known: watch::Sender<Option<kgit_protocol::ids::Digest>>,
    changes: mpsc::Receiver<Change>,
    heard: Option<mpsc::Sender<Change>>,
    repaired_at: Option<Instant>,
    /// What bridge, route and gaps were last made for.
    settled: Option<Ground>,
}

/// What must be settled anew when it changes.
type Ground = (Here, Option<ipnet::Ipv4Net>, u16);

impl Serving {
    fn new(keep: Keep, news: watch::Sender<Applied>) -> Self {
        let underway = Underway::default();
        let (heard, changes) = mpsc::channel(ORDERS);
        Self {
            directory: keep.directory(),
            here: keep.here(),
            keep,
            field: Field::new(Arc::clone(&underway)),
            gaps: Gaps::default(),
            underway,
            zone: watch::channel(Arc::default()).0,
            names: None,
            master: None,
            applied: Applied::default(),
            news,
            known: watch::channel(None).0,
            changes,
            heard: Some(heard),
            repaired_at: None,
            settled: None,
        }
    }

    fn known(&self) -> watch::Receiver<Option<kgit_protocol::ids::Digest>> {
        self.known.subscribe()
    }

    /// Puts into force what was kept.
    async fn begin(&mut self) {
        self.known.send_replace(self.directory.as_ref().map(|known| known.digest.clone()));
        self.put().await;
        self.settle().await;
    }

    async fn work(
        &mut self,
        mut inbox: mpsc::Receiver<Asked>,
        shutdown: CancellationToken,
    ) -> Ended {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u64 = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ended::Told,
                asked = inbox.recv() => {
                    let Some((order, reply)) = asked else { return Ended::Told };
                    match order {
                        Order::Feed(feed) => self.feed(*feed, reply).await,
                        Order::HandOver => {
                            let _ = reply.send(Answer::Done);
                            return Ended::HandedOver;
                        }
                        Order::Remove => {
                            self.remove().await;
                            let _ = reply.send(Answer::Done);
                            return Ended::Removed;
                        }
                    }
                }
                Some(change) = self.changes.recv() => self.repair(change).await,
                _ = looks.tick() => {
                    count += 1;
                    self.look(count).await;
                }
            }
        }
    }

    /// Rules and names first, then the answer, then what does not hurry.
    async fn feed(&mut self, feed: Feed, reply: oneshot::Sender<Answer>) {
        let new_directory = feed.directory.is_some();
        let new_here = self.here.as_ref() != Some(&feed.here);
        if let Some(old) = self.here.as_ref().filter(|old| old.table != feed.here.table) {
            // Another cluster's now: what stood for the old one goes.
            let range = self.directory.as_ref().map(|known| known.service_range);
            if let Err(problem) = field::clear(range, old).await {
                tracing::warn!(?problem, "what stood before is not all gone");
            }
        }
        if new_directory {
            self.directory = feed.directory;
        }
        self.here = Some(feed.here);
        if new_directory || new_here || self.applied.rules.is_some() {
            self.put().await;
        }
        self.applied.number = feed.number;
        self.tell();
        // Whoever fed may have gone.
        let _ = reply.send(Answer::Applied(self.applied.clone()));
        self.persist(new_directory, new_here);
        if self.settled != self.ground() {
            self.settle().await;
        }
    }

    fn persist(&self, directory: bool, here: bool) {
        let kept = match (&self.directory, &self.here) {
            (Some(known), _) if directory => self.keep.keep_directory(known),
            _ => Ok(()),
        };
        let also = match &self.here {
            Some(known) if here => self.keep.keep_here(known),
            _ => Ok(()),
        };
        if let Err(error) = kept.and(also) {
            tracing::warn!(%error, "what was fed is not kept: after a crash the agent must feed anew");
        }
    }

    fn tell(&self) {
        self.known.send_replace(self.directory.as_ref().map(|known| known.digest.clone()));
        self.news.send_if_modified(|told| {
            let differs = *told != self.applied;
            told.clone_from(&self.applied);
            differs
        });
    }

    /// Brings rules and names to what is known.
    async fn put(&mut self) {
        let Some(here) = self.here.clone() else { return };
        self.listen_for_others(&here.table);
        let master_port = self.lead_to_master(&here);
        let Some(directory) = &self.directory else { return };
        self.zone.send_replace(Arc::new(Zone::new(directory, &here)));
        let outcome = self.field.put(directory, &here, master_port).await;
        self.applied.directory = Some(directory.digest.clone());
        self.applied.rules = outcome.problem;
        self.applied.troubles = outcome.troubles;
        self.answer_names(&here);
    }

    fn ground(&self) -> Option<Ground> {
        let here = Here { pods: Default::default(), ..self.here.clone()? };
        let range = self.directory.as_ref().map(|known| known.service_range);
        Some((here, range, self.master.as_ref().map_or(0, |master| master.port)))
    }

    /// The route, the bridge, the gaps in filters: they change seldom.
    async fn settle(&mut self) {
        let (Some(here), Some(directory)) = (self.here.clone(), &self.directory) else { return };
        if self.applied.rules.is_some() {
            return;
        }
        let mut problem = self.field.connect(directory.service_range, &here).await.err();
        let port = self.master.as_ref().map_or(0, |master| master.port);
        if let Err(other) = self.gaps.pass(&here, port).await {
            problem.get_or_insert(other);
        }
        if let Some(problem) = &problem {
            tracing::warn!(?problem, "services may not be reached");
        }
        self.settled = self.ground();
        self.applied.ground = problem;
        self.tell();
    }

    fn lead_to_master(&mut self, here: &Here) -> u16 {
        match &self.master {
            Some(open) if open.serves(here.gateway) => open.lead_to(&here.master),
            _ => match ToMaster::open(here.gateway, &here.master, Arc::clone(&self.underway)) {
                Ok(open) => self.master = Some(open),
                Err(error) => tracing::warn!(%error, "no port for the kubernetes service"),
            },
        }
        self.master.as_ref().map_or(0, |open| open.port)
    }

    fn answer_names(&mut self, here: &Here) {
        if self.names.as_ref().is_some_and(|names| names.own() == here.gateway) {
            return;
        }
        self.names = None;
        let opened = server::start(here.gateway, self.zone.subscribe());
        self.applied.names = opened.as_ref().err().map(|error| {
            let reason = match error.kind() {
                io::ErrorKind::PermissionDenied => "NotPermitted",
                _ => "DnsPortTaken",
            };
            Problem::new(reason, format!("port 53 of {}: {error}", here.gateway))
        });
        self.names = opened.ok();
    }

    fn listen_for_others(&mut self, table: &str) {
        // Once: a process serves one node.
        let Some(heard) = self.heard.take() else { return };
        if let Err(error) =
            others::listen(table.to_owned(), Arc::clone(&self.field.own), heard.clone())
        {
            tracing::warn!(%error, "changes by others are only seen by looking");
        }
    }

    /// Somebody changed something: what is kgit's is put back.
    async fn repair(&mut self, first: Change) {
        tokio::time::sleep(BURST).await;
        let mut all = vec![first];
        while let Ok(change) = self.changes.try_recv() {
            all.push(change);
        }
        if all.contains(&Change::OwnTable) {
            if let Some(at) = self.repaired_at {
                tokio::time::sleep_until(at + BETWEEN_REPAIRS).await;
            }
            tracing::info!("somebody changed kgit's rules: they are put back");
            self.field.lost();
            self.put().await;
            self.repaired_at = Some(Instant::now());
        }
        self.settle().await;
    }

    async fn look(&mut self, count: u64) {
        let slow = count.is_multiple_of(SLOW_LOOKS);
        let failed = self.applied.rules.is_some() || self.applied.names.is_some();
        let ports = slow && self.field.look_at_ports();
        if self.field.look() || ports || (slow && failed) {
            self.put().await;
            self.tell();
        }
        if self.gaps.a_filter_is_silent() || slow {
            self.settle().await;
        }
    }

    async fn remove(&mut self) {
        if let Some(here) = &self.here {
            let range = self.directory.as_ref().map(|known| known.service_range);
            if let Err(problem) = field::clear(range, here).await {
                tracing::warn!(?problem, "not everything could be taken away");
            }
        }
        self.keep.forget();
    }

    /// Goes on answering while the heir begins, and carries on what is under way.
    async fn finish(&mut self) {
        tokio::time::sleep(LINGER).await;
        self.names = None;
        self.master = None;
        let deadline = Instant::now() + FINISH;
        while self.underway.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

//! The loop itself: a thread that waits for events or a deadline, turns, and shows the result.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use kgit_protocol::time::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};

use crate::master::core::Core;
use crate::master::event::Event;
use crate::master::handle::{FOLLOW_LIMIT, Handle, QUEUE_LIMIT};
use crate::master::view::View;
use crate::store::Store;

/// Events handled in one turn. More of them share a transaction, and wait longer for it.
const BATCH_LIMIT: usize = 256;

/// The longest that the loop sleeps. Deadlines beyond it are met by turning around once more.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What tells the time. The simulation has one of its own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Makes the loop and the handle that others reach it by; [`Loop::run`] blocks its thread.
pub fn new(core: Core, store: Store, clock: Clock) -> (Loop, Handle) {
    let (events, queue) = mpsc::channel(QUEUE_LIMIT);
    let view = Arc::new(ArcSwap::from_pointee(core.view(&store)));
    let (versions, version) = watch::channel(0);
    let (committed, _) = broadcast::channel(FOLLOW_LIMIT);
    let handle = Handle { events, view: Arc::clone(&view), version, committed: committed.clone() };
    (Loop { core, store, clock, queue, view, versions, committed }, handle)
}

pub struct Loop {
    core: Core,
    store: Store,
    clock: Clock,
    queue: mpsc::Receiver<Event>,
    view: Arc<ArcSwap<View>>,
    versions: watch::Sender<u64>,
    committed: broadcast::Sender<Arc<crate::master::view::Committed>>,
}

impl std::fmt::Debug for Loop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loop").finish_non_exhaustive()
    }
}

impl Loop {
    /// Turns until it is told to shut down or everybody who could send an event is gone.
    pub fn run(mut self) {
        let timers = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(timers) = timers else {
            tracing::error!("failed to set up the loop's timers");
            return;
        };
        let mut events = vec![Event::Timer];
        loop {
            let shutdown = events.iter().any(|event| matches!(event, Event::Shutdown));
            self.turn(events);
            if shutdown {
                return;
            }
            events = match timers.block_on(self.next()) {
                Some(events) => events,
                None => return,
            };
        }
    }

    fn turn(&mut self, events: Vec<Event>) {
        let turn = self.core.turn(events, (self.clock)(), &mut self.store);
        if let Some(error) = turn.failed {
            tracing::error!(%error, cause = ?std::error::Error::source(&error), "failed to commit; will try again");
        }
        let view = self.core.view(&self.store);
        let version = view.world.version;
        self.view.store(Arc::new(view));
        if let Some(committed) = turn.committed {
            // Nobody has to be following.
            let _ = self.committed.send(Arc::new(committed));
            self.versions.send_replace(version);
        }
    }

    /// Waits for events or for the next deadline; `None` when nobody is left to send any.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let now = (self.clock)();
        let sleep = self.core.next_wake().map_or(LONGEST_SLEEP, |at| at.since(now));
        let first = tokio::time::timeout(sleep.min(LONGEST_SLEEP), self.queue.recv()).await;
        let mut events = match first {
            Err(_) => return Some(vec![Event::Timer]),
            Ok(None) => return None,
            Ok(Some(event)) => vec![event],
        };
        while events.len() < BATCH_LIMIT {
            match self.queue.try_recv() {
                Ok(event) => events.push(event),
                Err(_) => break,
            }
        }
        Some(events)
    }
}

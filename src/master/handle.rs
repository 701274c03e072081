//! How everybody else reaches the loop: events in, views out.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::master::event::{Event, Refused, Reply};
use crate::master::view::{Committed, View};

/// Events that may wait for the loop. Agents and sources block beyond it instead of piling up.
pub const QUEUE_LIMIT: usize = 1024;

/// Transactions that a follower may lag behind before it has to read everything again.
pub const FOLLOW_LIMIT: usize = 4096;

#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) view: Arc<ArcSwap<View>>,
    /// The version of the newest view, for those who wait for the next one.
    pub(crate) version: watch::Receiver<u64>,
    pub(crate) committed: broadcast::Sender<Arc<Committed>>,
}

impl Handle {
    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Wakes when a newer view is there.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// Every transaction from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.committed.subscribe()
    }

    /// Puts an event in the queue; waits while it is full.
    pub async fn send(&self, event: Event) -> Result<(), Refused> {
        self.events.send(event).await.map_err(|_| stopping())
    }

    /// [`Handle::send`] for threads that may block.
    pub fn send_blocking(&self, event: Event) -> Result<(), Refused> {
        self.events.blocking_send(event).map_err(|_| stopping())
    }

    /// Sends an event that is answered, and waits for the answer.
    pub async fn ask<T>(&self, event: impl FnOnce(Reply<T>) -> Event) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(event(reply)).await?;
        answer.await.map_err(|_| stopping())?
    }
}

fn stopping() -> Refused {
    Refused { reason: "ShuttingDown", message: "the master is shutting down".to_owned() }
}

//! The recent past of the World, so that a watch can go on where it was and an agent can be told
//! the difference to what it has. Views share their rows, so a past one costs what has changed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{broadcast, watch};

use crate::domain::key::ObjectKey;
use crate::domain::world::Table;
use crate::master::handle::Handle;
use crate::master::view::{Committed, View};

/// Transactions that are remembered. A client that was away for longer lists again.
pub const MAX_MOMENTS: usize = 2048;
/// Rows that they changed: each is held as it was before, and so is what stands around it in
/// memory, about 2 KB each. The start of 2,500 pods changes ten times as many.
pub const MAX_ROWS: usize = 4096;
/// Transactions that are remembered however many rows they changed: who follows is not cut off
/// by a commit of thousands of objects.
pub const MIN_MOMENTS: usize = 4;

/// A row that was written or removed.
pub type ChangedRow = (Table, ObjectKey);

#[derive(Debug)]
pub struct History {
    past: RwLock<Past>,
    newest: watch::Sender<u64>,
    /// Until somebody follows.
    committed: Mutex<Option<broadcast::Receiver<Arc<Committed>>>>,
}

#[derive(Debug)]
struct Moment {
    /// As it was after the change, or a little later.
    view: Arc<View>,
    changed: Vec<ChangedRow>,
}

/// The moments that are remembered, the newest at the end.
#[derive(Debug)]
struct Past {
    moments: VecDeque<Moment>,
    /// All rows that they changed, but for the oldest: nothing is held from before that.
    rows: usize,
}

impl Past {
    fn begin(view: Arc<View>) -> Self {
        Self { moments: VecDeque::from([Moment { view, changed: Vec::new() }]), rows: 0 }
    }

    fn push(&mut self, moment: Moment) {
        self.rows += moment.changed.len();
        self.moments.push_back(moment);
        while self.is_too_much() && self.moments.pop_front().is_some() {
            self.rows -= self.moments.front().map_or(0, |oldest| oldest.changed.len());
        }
    }

    fn is_too_much(&self) -> bool {
        let count = self.moments.len();
        count > MAX_MOMENTS || (self.rows > MAX_ROWS && count > MIN_MOMENTS)
    }
}

/// What happened between two versions.
#[derive(Debug)]
pub struct Between {
    pub before: Arc<View>,
    pub after: Arc<View>,
    pub changed: BTreeSet<ChangedRow>,
}

impl History {
    /// Begins with the World as it is. Nothing that is committed from here on is missed, however
    /// long it takes until [`History::follow`] runs.
    pub fn new(master: &Handle) -> Self {
        let committed = Mutex::new(Some(master.follow()));
        let view = master.view();
        let newest = watch::Sender::new(view.world.version);
        Self { past: RwLock::new(Past::begin(view)), newest, committed }
    }

    /// Takes every transaction down until the master stops.
    pub async fn follow(&self, master: Handle) {
        let kept = self.committed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut committed = kept.unwrap_or_else(|| master.follow());
        loop {
            match committed.recv().await {
                Ok(transaction) => {
                    let rows = transaction.changes.iter();
                    let changed = rows.map(|row| (row.table, row.key.clone())).collect();
                    self.push(Moment { view: master.view(), changed });
                }
                Err(broadcast::error::RecvError::Lagged(_)) => self.restart(master.view()),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Forgets the past: it has a gap.
    fn restart(&self, view: Arc<View>) {
        let version = view.world.version;
        *self.write() = Past::begin(view);
        self.newest.send_replace(version);
    }

    fn push(&self, moment: Moment) {
        let version = moment.view.world.version;
        self.write().push(moment);
        self.newest.send_replace(version);
    }

    /// The version up to which the past is known; wakes when it grows.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The newest version that is known of, and everything since `version`. `None`: that is too
    /// long ago.
    pub fn since(&self, version: u64) -> Option<Between> {
        let moments = &self.read().moments;
        let base = moments.iter().rposition(|moment| moment.view.world.version <= version)?;
        let changed = moments.iter().skip(base + 1).flat_map(|moment| moment.changed.clone());
        Some(Between {
            before: Arc::clone(&moments.get(base)?.view),
            after: Arc::clone(&moments.back()?.view),
            changed: changed.collect(),
        })
    }

    /// The oldest version that [`History::since`] answers for.
    pub fn oldest(&self) -> u64 {
        let moments = &self.read().moments;
        moments.front().map_or(0, |moment| moment.view.world.version)
    }

    /// The newest view for which `fits` holds, among the last `depth`.
    pub fn find(&self, depth: usize, fits: impl Fn(&View) -> bool) -> Option<Arc<View>> {
        let moments = &self.read().moments;
        let found = moments.iter().rev().take(depth).find(|moment| fits(&moment.view))?;
        Some(Arc::clone(&found.view))
    }

    fn read(&self) -> RwLockReadGuard<'_, Past> {
        self.past.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Past> {
        self.past.write().unwrap_or_else(PoisonError::into_inner)
    }
}

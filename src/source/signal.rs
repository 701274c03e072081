//! "There may be something new": raised by watchers and by whoever asks for a look, waited for by
//! the thread that looks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A source that never falls quiet is looked at all the same, this long after the first signal.
const MAX_UNREST: Duration = Duration::from_secs(2);

/// Shared by all its clones.
#[derive(Clone, Debug, Default)]
pub struct Signal {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was raised first and last since the last look.
    raised: Option<(Instant, Instant)>,
    /// Somebody does not want to wait for quiet.
    urgent: bool,
    stopped: bool,
}

/// Why the wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Look,
    Stop,
}

impl Signal {
    /// Something may have changed.
    pub fn raise(&self) {
        let now = Instant::now();
        self.change(|state| {
            let first = state.raised.map_or(now, |(first, _)| first);
            state.raised = Some((first, now));
        });
    }

    /// Look now: a webhook called, or a person asks.
    pub fn look_now(&self) {
        self.change(|state| state.urgent = true);
    }

    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it was raised and has been quiet since, or until `patience` is over.
    pub(super) fn wait(&self, patience: Duration, quiet: Duration) -> Wake {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let due = match state.raised {
                Some((first, last)) => (last + quiet).min(first + MAX_UNREST),
                None => end,
            };
            let now = Instant::now();
            if state.stopped {
                return Wake::Stop;
            }
            if state.urgent || due <= now {
                // What is raised from here on is about the next look.
                state.raised = None;
                state.urgent = false;
                return Wake::Look;
            }
            state = self
                .shared
                .1
                .wait_timeout(state, due - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

//! Following a source: a thread that looks, delivers, and waits for the next reason to look.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::domain::desired::{Commit, TreeChange};
use crate::source::Source;
use crate::source::error::SourceError;
use crate::source::signal::{Signal, Wake};
use crate::source::watch::Watching;

/// What one look came to.
#[derive(Debug)]
pub enum Delivery {
    /// A commit, and how its tree differs from the one delivered before.
    Changed {
        commit: Arc<Commit>,
        change: TreeChange,
    },
    /// It can't be read; what was delivered last stays in force.
    Failed(SourceError),
    Unchanged,
}

/// A source being followed; dropping it ends that.
#[derive(Debug)]
pub struct Follower {
    signal: Signal,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Makes it look at once.
    pub fn look_now(&self) {
        self.signal.look_now();
    }

    /// A way to raise it from elsewhere: a webhook's handler, say.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A look that is under way ends first; a panic of it was reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// Follows a source on a thread of its own: Git and file systems block. `deliver` is called on
/// that thread, once per look, and may block; it ends the following with `Break`.
pub fn follow(
    source: impl Source,
    deliver: impl FnMut(Delivery) -> ControlFlow<()> + Send + 'static,
) -> std::io::Result<Follower> {
    let signal = Signal::default();
    let theirs = signal.clone();
    let thread = thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || run(source, &theirs, deliver))?;
    Ok(Follower { signal, thread: Some(thread) })
}

fn run(
    mut source: impl Source,
    signal: &Signal,
    mut deliver: impl FnMut(Delivery) -> ControlFlow<()>,
) {
    // Watching starts before the first look, so that nothing falls in between.
    let mut watching = source.watch(signal);
    tell(&watching);
    loop {
        let delivery = match source.look() {
            Ok(Some((commit, change))) => Delivery::Changed { commit, change },
            Ok(None) => Delivery::Unchanged,
            Err(error) => Delivery::Failed(error),
        };
        if deliver(delivery).is_break() {
            return;
        }
        if signal.wait(source.patience(), source.quiet()) == Wake::Stop {
            return;
        }
        let now = source.watch(signal);
        if now != watching {
            tell(&now);
            watching = now;
        }
    }
}

fn tell(watching: &Watching) {
    if let Watching::Polling { reason } = watching {
        tracing::warn!(%reason, "the source is looked at by the clock only");
    }
}

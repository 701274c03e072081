//! Since when the master gives no answer, by a clock that no one sets and that goes on while the
//! host sleeps. It is known across restarts of the agent, as long as the host is not restarted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When the last request that was answered had been sent, in milliseconds since the host started.
#[derive(Debug)]
pub struct Contact(AtomicU64);

/// No request was answered yet.
const NEVER: u64 = u64::MAX;

impl Contact {
    pub fn new(last: Option<Duration>) -> Self {
        Self(AtomicU64::new(last.map_or(NEVER, millis)))
    }

    /// A request that was sent at `sent`, by [`uptime`], was answered.
    pub fn answered(&self, sent: Duration) {
        let newer = |last: u64| (last == NEVER || last < millis(sent)).then(|| millis(sent));
        // Refused where a later one was answered already.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer);
    }

    pub fn last(&self) -> Option<Duration> {
        let last = self.0.load(Ordering::Relaxed);
        (last != NEVER).then(|| Duration::from_millis(last))
    }

    /// For how long there was none.
    pub fn lost_for(&self) -> Option<Duration> {
        self.last().map(|last| uptime().saturating_sub(last))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER - 1)
}

/// Since the host started, its sleep included.
pub fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_question_that_was_answered_counts_whenever_its_answer_came() {
        let contact = Contact::new(None);
        assert_eq!(contact.lost_for(), None);
        contact.answered(Duration::from_secs(5));
        contact.answered(Duration::from_secs(3));
        assert_eq!(contact.last(), Some(Duration::from_secs(5)));
        assert!(contact.lost_for().is_some());
    }
}

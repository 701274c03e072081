//! How long to wait before the next try, with jitter, so that a fleet does not return all at once.

use std::time::Duration;

use crate::link::tls::random;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: half of it fixed, half of it by chance.
    pub fn delay(&mut self) -> Duration {
        let full = (FIRST * 2u32.pow(self.failures.min(6))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let [chance] = random::<1>();
        full / 2 + full / 2 * u32::from(chance) / 255
    }
}

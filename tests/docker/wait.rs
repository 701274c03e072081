//! Waiting for a condition, never for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// What takes longer has failed: containers of local images start within seconds, and machines that run tests are slow.
const DEADLINE: Duration = Duration::from_secs(60);
/// Often enough that no test waits for the polling, seldom enough that asking is no load.
const POLL: Duration = Duration::from_millis(100);

/// Waits until the condition yields a value.
///
/// # Panics
/// With what was waited for and what `state` says, once the deadline has passed.
pub fn until<T, S: Display>(
    what: &str,
    state: impl Fn() -> S,
    condition: impl FnMut() -> Option<T>,
) -> T {
    until_within(DEADLINE, condition).unwrap_or_else(|| panic!("never came: {what}\n{}", state()))
}

/// The same with a deadline of its own, and nothing once it has passed.
pub fn until_within<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

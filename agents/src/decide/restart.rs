//! When a container that ended starts again.
//!
//! Kubernetes' rule: the first restart at once, then 10 s doubling to 300 s; forgotten after
//! 10 minutes of running.

use std::time::Duration;

use kgit_protocol::pod::RestartPolicy;

use crate::decide::Role;

const FIRST_DELAY: Duration = Duration::from_secs(10);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// A container that ran this long has recovered.
pub const RECOVERED_AFTER: Duration = Duration::from_secs(600);

/// How long to wait after exit number `crashes` (from 1) in a row.
pub fn restart_delay(crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        _ => doubling(crashes - 2),
    }
}

/// How long to wait after failure number `failures` (from 1) of something that is tried again.
pub fn retry_delay(failures: u32) -> Duration {
    doubling(failures.saturating_sub(1))
}

fn doubling(times: u32) -> Duration {
    // 2^5 · 10 s is past the longest delay, so a larger exponent changes nothing.
    (FIRST_DELAY * 2u32.pow(times.min(5))).min(LONGEST_DELAY)
}

/// Whether a container that ended by itself is to run again.
pub(crate) fn runs_again(policy: RestartPolicy, role: Role, exit_code: i64) -> bool {
    match (role, policy) {
        (Role::Sidecar, _) => true,
        (Role::Init, RestartPolicy::Never) => false,
        (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure) => exit_code != 0,
        (Role::Main, RestartPolicy::Always) => true,
        (Role::Main, RestartPolicy::OnFailure) => exit_code != 0,
        (Role::Main, RestartPolicy::Never) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_double_to_five_minutes() {
        let seconds: Vec<u64> = (1..=9).map(|n| restart_delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn retries_begin_with_ten_seconds() {
        let seconds: Vec<u64> = (1..=7).map(|n| retry_delay(n).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
    }
}

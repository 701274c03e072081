//! CPU time of this process, all threads.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn now() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// What `work` gives, and the milliseconds of CPU time that it took.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = now();
    let result = work();
    (result, (now() - before).as_secs_f64() * 1000.0)
}

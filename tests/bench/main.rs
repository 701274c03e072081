//! Measurements, as ratios within one run. Nothing that was timed is asserted: machines differ.
//!
//! `tests/run bench` is a smoke run: every measurement is made once, small. For figures:
//!
//! ```sh
//! KGIT_BENCH=full cargo test --release --test bench -- --nocapture --test-threads=1
//! ```
#![allow(clippy::disallowed_methods, reason = "measuring takes clocks, files and environment")]

mod cold;
mod cpu;
mod fleet;
#[path = "../support/hosts.rs"]
#[allow(dead_code, reason = "the docker suite uses the rest of it")]
mod hosts;
#[path = "../support/net_process.rs"]
mod net_process;
mod placement;
mod planning;
mod process;
mod repo;
#[path = "../support/skip.rs"]
mod skip;
mod start;
mod streams;
mod traffic;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Does it run at all?
    Smoke,
    /// What `docs/performance.md` quotes.
    Full,
}

impl Size {
    pub fn chosen() -> Self {
        match std::env::var("KGIT_BENCH").as_deref() {
            Ok("full") => Self::Full,
            _ => Self::Smoke,
        }
    }
}

/// The middle one; of an even number, the lower of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

//! Simulation: the real master core with the real store, real agent cores with their journals,
//! and between them a link, engines and a repo in memory, in virtual time. One seed decides
//! everything. Checks run after every happening; then all faults end, and the cluster has to come
//! to rest within a bounded time.
//!
//! `KGIT_SIM_SEED=N cargo test --test simulation replay -- --nocapture` shows one run;
//! `KGIT_SIM_SEEDS=N [KGIT_SIM_FROM=M] cargo test --test simulation as_many -- --nocapture`
//! makes as many as one likes.
//!
//! What is not covered: the worker's tasks, timers and probe attempts, and HTTP. Their part is
//! played by `agent`, `calls` and `cluster` here.

#![allow(clippy::disallowed_methods, reason = "tests read their settings and make directories")]

mod agent;
mod bites;
mod calls;
mod chaos;
mod checks;
mod cluster;
mod coverage;
mod link;
mod master;
mod random;
mod repo;
mod rest;
mod trace;
mod turns;
mod weather;
mod words;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::cluster::{Cluster, Sabotage};
use crate::coverage::Coverage;
use crate::weather::Weather;

/// Seeds of the default run: what two cores do in some seconds.
const BUDGET: u64 = 40;

/// The longest that a healed cluster may take: the longest back-off is 5 minutes, a pod that was
/// told to end may wait for its node, and a job may fail three times more.
const TO_REST: Duration = Duration::from_secs(1800);

/// How often it is asked whether it is at rest, and whether something waits for approval.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// Lines of the trace that a failure shows.
const SHOWN_LINES: usize = 60;

/// Seeds that found a bug once, by its name. What a seed means changes with the generators here, so
/// a bug that is easily told gets a test of its own as well, where it was.
const REGRESSIONS: &[(&str, u64)] = &[
    ("any observation let go what the brakes held", 6),
    ("a late complete report made running pods gone", 23),
    ("a rollout lost an available pod instead of one that was not yet", 76),
    ("a pull behind a step that failed was never begun", 3324),
    ("the pods of a pruned Deployment were waited for by nobody", 90),
];

fn run(cluster: &mut Cluster) -> Result<(), String> {
    while cluster.chaos_left > 0 {
        let until = cluster.now.after(Duration::from_secs(3600));
        if !cluster.step(until)? {
            return Err("nothing happens any more".to_owned());
        }
    }
    cluster.audit_is_sound()?;
    if cluster.sabotage == Sabotage::TampersWithAudit {
        assert_eq!(cluster.master.tamper(), 1, "there is an entry to tamper with");
    }
    cluster.heal();
    let deadline = cluster.now.after(TO_REST);
    loop {
        let ask = cluster.now.after(ASK_EVERY);
        while cluster.step(ask)? {}
        cluster.approve();
        let rest = cluster.at_rest();
        if rest.is_ok() {
            break;
        }
        if cluster.now > deadline {
            return rest.map_err(|why| format!("never at rest: {why}"));
        }
    }
    cluster.audit_is_sound()?;
    cluster.coverage.virtual_seconds = cluster.now.since(cluster.start).as_secs();
    Ok(())
}

/// One run; on failure its promise, and the end of its trace if it was traced.
fn simulate(
    seed: u64,
    weather: Option<Weather>,
    sabotage: Sabotage,
    traced: bool,
) -> Result<(Coverage, String), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::new(seed, weather, traced);
        cluster.sabotage = sabotage;
        let result = run(&mut cluster);
        let lines = if traced { cluster.trace.last(usize::MAX) } else { String::new() };
        match result {
            Ok(()) => Ok((cluster.coverage.clone(), lines)),
            Err(why) if traced => Err(format!("{lines}\n{why}")),
            Err(why) => Err(why),
        }
    }));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// Runs seeds on as many threads as there are cores; gives the failures.
fn simulate_all(seeds: std::ops::Range<u64>) -> (Coverage, Vec<(u64, String)>) {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let mine = seeds.clone().filter(move |seed| seed % threads == thread);
                scope.spawn(move || simulate_each(mine))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut all = (Coverage::default(), Vec::new());
    for (coverage, failures) in parts {
        all.0.add(&coverage);
        all.1.extend(failures);
    }
    all.1.sort();
    all
}

fn simulate_each(seeds: impl Iterator<Item = u64>) -> (Coverage, Vec<(u64, String)>) {
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    for seed in seeds {
        match simulate(seed, None, Sabotage::None, false) {
            Ok((met, _)) => coverage.add(&met),
            Err(why) => {
                eprintln!("seed {seed}: {why}");
                failures.push((seed, why));
            }
        }
    }
    (coverage, failures)
}

fn shown(seed: u64) -> String {
    let Err(text) = simulate(seed, None, Sabotage::None, true) else { return String::new() };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

fn assert_none(failures: &[(u64, String)]) {
    let Some((seed, why)) = failures.first() else { return };
    panic!(
        "{} seeds failed; the first:\n{}\nseed {seed}: {why}\nreplay with: KGIT_SIM_SEED={seed} \
         cargo test --test simulation replay -- --nocapture",
        failures.len(),
        shown(*seed)
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let (coverage, failures) = simulate_all(0..BUDGET);
    assert_none(&failures);
    assert!(coverage.met.len() > 100, "too little was met:\n{}", coverage.table());
}

#[test]
fn what_was_found_once_stays_mended() {
    for (name, seed) in REGRESSIONS {
        if let Err(why) = simulate(*seed, None, Sabotage::None, false) {
            panic!("{name} (seed {seed}) is back: {why}\n{}", shown(*seed));
        }
    }
}

#[test]
fn one_seed_is_one_history() {
    let first = simulate(3, None, Sabotage::None, true).unwrap().1;
    let second = simulate(3, None, Sabotage::None, true).unwrap().1;
    assert_eq!(first, second);
}

/// As many seeds as `KGIT_SIM_SEEDS` says; without it, this has nothing to do.
#[test]
fn as_many_seeds_as_asked() {
    let Some(count) = number("KGIT_SIM_SEEDS") else { return };
    let from = number("KGIT_SIM_FROM").unwrap_or(0);
    let (coverage, failures) = simulate_all(from..from + count);
    eprintln!("{}", coverage.table());
    assert_none(&failures);
}

/// The seed in `KGIT_SIM_SEED`, told line by line; without it, this has nothing to do.
#[test]
fn replay() {
    let Some(seed) = number("KGIT_SIM_SEED") else { return };
    match simulate(seed, None, Sabotage::None, true) {
        Ok((coverage, lines)) => println!("{lines}\n{}", coverage.table()),
        Err(why) => panic!("{why}"),
    }
}

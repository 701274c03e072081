//! Many runs: those of every test run, those that found something once, and as many more as
//! somebody wants.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::coverage::Coverage;
use crate::weather::Pace;
use crate::{Case, simulate};

/// Seeds of the default run: what two cores do in some seconds.
const BUDGET: u64 = 40;
/// And of those that last for hours.
const LONG_BUDGET: u64 = 2;

/// Lines of the trace that a failure shows.
const SHOWN_LINES: usize = 60;
/// Failures of a long run that are told in full; the rest is counted by what was broken.
const SHOWN_FAILURES: usize = 20;
/// How often a long run says how far it is.
const TOLD_EVERY: u64 = 500;

/// Seeds that found a bug once, by its name, and the hours that the run lasts. What a seed means
/// changes with the generators here, so a bug that is easily told gets a test of its own as well,
/// where it was.
const REGRESSIONS: &[(&str, u64, u64)] = &[
    ("a change that came in a later wave than before waited for itself", 154, 0),
    ("what the brakes held was forgotten for what waited for its turn", 284, 0),
    ("a revision that none may be beside grew beside others when it was scaled", 581, 0),
    ("an older order of a pod that was kept held again after two power failures", 20214, 12),
    ("an old pod of a set kept the new one away that it was kept for", 40010, 12),
    ("a forecast went through the slots of CronJobs by the thousand", 50165, 12),
    ("a claim that was only kept for its data held up the waves behind it", 50944, 12),
    ("a set waited for an old pod that failed while those of another revision served", 132605, 11),
    ("a pod that was told to be gone ran again for a restored master", 141907, 11),
];

/// The same from before repos had waves, hooks, ReplicaSets and pods that move: these seeds are
/// other histories by now, as good as any. That what they found does not come back is seen to by
/// the checks and by tests elsewhere, not by these numbers.
const EARLIER: &[(&str, u64, u64)] = &[
    ("any observation let go what the brakes held", 6, 0),
    ("a late complete report made running pods gone", 23, 0),
    ("a rollout lost an available pod instead of one that was not yet", 76, 0),
    ("a pull behind a step that failed was never begun", 3324, 0),
    ("the pods of a pruned Deployment were waited for by nobody", 90, 0),
    ("a pod whose node's clock was ahead did not count as available", 15, 0),
    ("pods came to a tainted node and left it without end", 30, 0),
    ("a pod that nobody had told to end was taken for gone", 62, 0),
    ("a pod was moved to a new node that its Deployment could not spare", 65, 0),
    ("an end that a restored master had forgotten was never told again", 213, 0),
    ("what a node can take was lost with the master's data", 283, 0),
];

/// Runs seeds on as many threads as are asked for; gives the failures.
fn simulate_all(seeds: Range<u64>, pace: Pace, threads: u64) -> (Coverage, Vec<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let begun = Instant::now();
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| simulate_each(&next, &seeds, pace, begun)))
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

fn simulate_each(
    next: &AtomicU64,
    seeds: &Range<u64>,
    pace: Pace,
    begun: Instant,
) -> (Coverage, Vec<(u64, String)>) {
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end {
            return (coverage, failures);
        }
        match simulate(Case::of(seed, pace)) {
            Ok((met, _)) => coverage.add(&met),
            Err(why) => {
                eprintln!("seed {seed}: {why}");
                failures.push((seed, why));
            }
        }
        let done = seed + 1 - seeds.start;
        if done.is_multiple_of(TOLD_EVERY) {
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!("{done} seeds in {seconds:.0} s, {:.1} a second", done as f64 / seconds);
        }
    }
}

fn shown(seed: u64, pace: Pace) -> String {
    let case = Case { traced: true, ..Case::of(seed, pace) };
    let Err(text) = simulate(case) else { return String::new() };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

fn assert_none(failures: &[(u64, String)], pace: Pace) {
    let Some((seed, why)) = failures.first() else { return };
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for (_, why) in failures {
        let kind: String = why.chars().filter(|it| !it.is_ascii_digit()).take(60).collect();
        *kinds.entry(kind).or_default() += 1;
    }
    let all: Vec<String> =
        failures.iter().take(SHOWN_FAILURES).map(|it| it.0.to_string()).collect();
    panic!(
        "{} seeds failed ({}): {kinds:#?}\nthe first:\n{}\nseed {seed}: {why}\nreplay with: \
         KGIT_SIM_SEED={seed} KGIT_SIM_HOURS={} cargo test --test simulation replay -- --nocapture",
        failures.len(),
        all.join(" "),
        shown(*seed, pace),
        pace.hours,
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let (coverage, failures) = simulate_all(0..BUDGET, Pace::DENSE, cores());
    assert_none(&failures, Pace::DENSE);
    assert!(coverage.met.len() > 100, "too little was met:\n{}", coverage.table());
}

#[test]
fn no_hours_of_faults_break_a_promise() {
    let pace = Pace::of_hours(4);
    let (coverage, failures) = simulate_all(0..LONG_BUDGET, pace, cores());
    assert_none(&failures, pace);
    assert!(coverage.hours_that_count > 0, "no hour counts:\n{}", coverage.table());
}

#[test]
fn what_was_found_once_stays_mended() {
    for (name, seed, hours) in REGRESSIONS.iter().chain(EARLIER) {
        let pace = Pace::of_hours(*hours);
        if let Err(why) = simulate(Case::of(*seed, pace)) {
            panic!("{name} (seed {seed}) is back: {why}\n{}", shown(*seed, pace));
        }
    }
}

#[test]
fn one_seed_is_one_history() {
    let case = || Case { traced: true, ..Case::of(3, Pace::DENSE) };
    assert_eq!(simulate(case()).unwrap().1, simulate(case()).unwrap().1);
}

/// As many seeds as `KGIT_SIM_SEEDS` says; without it, this has nothing to do.
#[test]
fn as_many_seeds_as_asked() {
    let Some(count) = number("KGIT_SIM_SEEDS") else { return };
    let from = number("KGIT_SIM_FROM").unwrap_or(0);
    let pace = Pace::of_hours(number("KGIT_SIM_HOURS").unwrap_or(0));
    let threads = number("KGIT_SIM_THREADS").unwrap_or_else(cores);
    let begun = Instant::now();
    let (coverage, failures) = simulate_all(from..from + count, pace, threads);
    let seconds = begun.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    eprintln!("{count} seeds in {seconds:.0} s on {threads} threads: {rate:.2} runs a second");
    eprintln!("{}", coverage.table());
    assert_none(&failures, pace);
}

/// The seed in `KGIT_SIM_SEED`, told line by line; without it, this has nothing to do.
#[test]
fn replay() {
    let Some(seed) = number("KGIT_SIM_SEED") else { return };
    let pace = Pace::of_hours(number("KGIT_SIM_HOURS").unwrap_or(0));
    match simulate(Case { traced: true, ..Case::of(seed, pace) }) {
        Ok((coverage, lines)) => println!("{lines}\n{}", coverage.table()),
        Err(why) => panic!("{why}"),
    }
}

//! Simulation: the real master core with the real store, real agent cores with their journals,
//! and between them a link, engines and a repo in memory, in virtual time. One seed decides
//! everything. Checks run after every happening; then all faults end, and the cluster has to come
//! to rest within a bounded time.
//!
//! `KGIT_SIM_SEED=N [KGIT_SIM_HOURS=H] cargo test --test simulation replay -- --nocapture` shows
//! one run; `KGIT_SIM_SEEDS=N [KGIT_SIM_FROM=M] [KGIT_SIM_HOURS=H] [KGIT_SIM_THREADS=T] cargo test
//! --profile simulation --test simulation as_many -- --nocapture` makes as many as one likes, of so
//! many hours each (without: a quarter of an hour, packed with events).
//!
//! What is not covered: the worker's tasks, timers and probe attempts, and HTTP. Their part is
//! played by `process`, `calls` and `cluster` here.

#![allow(clippy::disallowed_methods, reason = "tests read their settings and make directories")]

mod agent;
mod bites;
mod broken_worlds;
mod calls;
mod chaos;
mod checks;
mod cluster;
mod coverage;
mod disk;
mod happening;
mod hours;
mod item;
mod link;
mod many;
mod master;
mod misfortune;
mod people;
mod process;
mod random;
mod repo;
mod rest;
mod text;
mod trace;
mod turns;
mod weather;
mod words;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kgit::domain::plan::Waiting;

use crate::cluster::Cluster;
use crate::coverage::Coverage;
use crate::happening::Sabotage;
use crate::weather::{Pace, Weather};

/// The longest that a healed cluster may take: the longest back-off is 5 minutes, a pod that was
/// told to end may wait for its node, and a job may fail three times more.
const TO_REST: Duration = Duration::from_secs(1800);

/// And for each node of a fleet: a DaemonSet may roll over them one by one, and pull its image.
const TO_REST_A_NODE: Duration = Duration::from_secs(15);

/// How often it is asked whether it is at rest, and whether something waits for approval.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// One run.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    pace: Pace,
    /// `None`: as the seed says.
    weather: Option<Weather>,
    sabotage: Sabotage,
    traced: bool,
}

impl Case {
    fn of(seed: u64, pace: Pace) -> Self {
        Self { seed, pace, weather: None, sabotage: Sabotage::None, traced: false }
    }
}

fn said(waiting: &Waiting) -> String {
    format!("{} waits for {}", waiting.object, waiting.for_what)
}

fn run(cluster: &mut Cluster) -> Result<(), String> {
    let end = cluster.chaos_ends();
    while cluster.step(end)? {}
    cluster.coverage.hours_that_count = cluster.hours.that_count(cluster.now);
    cluster.audit_is_sound()?;
    if cluster.sabotage == Sabotage::TampersWithAudit {
        assert_eq!(cluster.master.tamper(), 1, "there is an entry to tamper with");
    }
    cluster.heal()?;
    let nodes = u32::try_from(cluster.agents.len()).unwrap_or(u32::MAX);
    let deadline = cluster.now.after(TO_REST + TO_REST_A_NODE * nodes);
    loop {
        let ask = cluster.now.after(ASK_EVERY);
        while cluster.step(ask)? {}
        cluster.approve();
        let rest = cluster.at_rest();
        if rest.is_ok() {
            break;
        }
        if cluster.now > deadline {
            let waits: Vec<String> = cluster.waits.values().flatten().map(said).collect();
            return rest.map_err(|why| format!("never at rest: {why}; {}", waits.join("; ")));
        }
    }
    cluster.audit_is_sound()?;
    cluster.coverage.virtual_seconds = cluster.now.since(cluster.start).as_secs();
    Ok(())
}

/// One run; on failure its promise, and the end of its trace if it was traced.
fn simulate(case: Case) -> Result<(Coverage, String), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let Case { seed, pace, weather, sabotage, traced } = case;
        let mut cluster = Cluster::new(seed, weather, pace, traced);
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

//! The checks bite: promises broken on purpose are noticed, by a history with a broken part in it.

use std::time::Duration;

use crate::happening::Sabotage;
use crate::weather::{Fault, Pace, Weather};
use crate::{Case, simulate};

/// Seeds that a broken variant gets: not every history meets what it breaks.
const TRIES: u64 = 16;

fn calm(seed: u64, sabotage: Sabotage) -> Case {
    let weather = Some(Weather::calm());
    Case { weather, sabotage, ..Case::of(seed, Pace::DENSE) }
}

fn noticed(sabotage: Sabotage, words: &str) {
    let found = (0..TRIES).find_map(|seed| {
        let why = simulate(calm(seed, sabotage)).err()?;
        why.contains(words).then_some(why)
    });
    assert!(found.is_some(), "{sabotage:?} is not noticed");
}

#[test]
fn without_sabotage_nothing_is_noticed() {
    for seed in 0..TRIES {
        simulate(calm(seed, Sabotage::None)).unwrap();
    }
}

#[test]
fn a_journal_that_is_not_synced_is_noticed() {
    let weather = Weather {
        faults: vec![Fault::PowerFails],
        call: 60,
        lasts: Duration::from_secs(600),
        ..Weather::calm()
    };
    let found = (0..TRIES).find_map(|seed| {
        let weather = Some(weather.clone());
        let why = simulate(Case { weather, ..calm(seed, Sabotage::SyncsNothing) }).err()?;
        why.contains("agent can't start").then_some(why)
    });
    assert!(found.is_some(), "nobody misses what was not synced");
}

#[test]
fn an_agent_that_does_not_stop_what_may_run_elsewhere_is_noticed() {
    let weather = Weather {
        faults: vec![Fault::LinkCut],
        change: 0,
        lasts: Duration::from_secs(3600),
        ..Weather::calm()
    };
    let found = (0..4 * TRIES).find_map(|seed| {
        let weather = Some(weather.clone());
        simulate(Case { weather: weather.clone(), ..calm(seed, Sabotage::None) }).unwrap();
        let why = simulate(Case { weather, ..calm(seed, Sabotage::IgnoresFence) }).err()?;
        why.contains("the master saw it gone").then_some(why)
    });
    assert!(found.is_some(), "nobody misses what was to be stopped");
}

#[test]
fn a_claim_on_two_nodes_is_noticed() {
    noticed(Sabotage::SharesClaims, "is in use by");
}

#[test]
fn a_doubled_container_is_noticed() {
    noticed(Sabotage::DoublesContainers, "two containers");
}

#[test]
fn an_agent_that_ignores_stop_is_noticed() {
    noticed(Sabotage::IgnoresStop, "never at rest");
}

#[test]
fn an_agent_that_loses_reports_is_noticed() {
    noticed(Sabotage::LosesReports, "never at rest");
}

#[test]
fn a_removed_volume_is_noticed() {
    noticed(Sabotage::RemovesVolumes, "was removed from");
}

#[test]
fn a_container_of_a_pod_that_is_gone_is_noticed() {
    noticed(Sabotage::StartsWhatIsGone, "runs");
}

#[test]
fn a_tampered_audit_is_noticed() {
    noticed(Sabotage::TampersWithAudit, "does not verify");
}

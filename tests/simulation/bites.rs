//! The checks bite: promises broken on purpose are noticed.

use crate::cluster::Sabotage;
use crate::simulate;
use crate::weather::Weather;

/// Seeds that a broken variant gets: not every history meets what it breaks.
const TRIES: u64 = 8;

fn noticed(sabotage: Sabotage, words: &str) {
    let all: Vec<String> = (0..TRIES)
        .filter_map(|seed| simulate(seed, Some(Weather::calm()), sabotage, false).err())
        .collect();
    assert!(all.iter().any(|why| why.contains(words)), "{sabotage:?} gives only {all:?}");
}

#[test]
fn without_sabotage_nothing_is_noticed() {
    for seed in 0..TRIES {
        simulate(seed, Some(Weather::calm()), Sabotage::None, false).unwrap();
    }
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
fn a_removed_volume_is_noticed() {
    noticed(Sabotage::RemovesVolumes, "was removed from");
}

//! Whole rollouts, step by step, and single decisions.

use std::sync::Arc;

use insta::assert_snapshot;

use super::*;
use crate::domain::resource::{IntOrPercent, Strategy};
use crate::domain::selector::Selector;
use crate::domain::template::PodTemplate;

/// Surge and unavailable, as a manifest has them.
const BOUNDS: [(&str, &str); 9] = [
    ("25%", "25%"),
    ("1", "0"),
    ("0", "1"),
    ("0", "0"),
    ("100%", "0"),
    ("0", "100%"),
    ("50%", "50%"),
    ("3", "3"),
    ("1%", "1%"),
];
const REPLICAS: [u32; 8] = [0, 1, 2, 3, 4, 5, 10, 14];

/// How the pods of the new revision come up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    AtOnce,
    OneByOne,
    Never,
}

fn number(text: &str) -> IntOrPercent {
    match text.strip_suffix('%') {
        Some(percent) => IntOrPercent::Percent(percent.parse().unwrap()),
        None => IntOrPercent::Int(text.parse().unwrap()),
    }
}

fn bounds(replicas: u32, (surge, unavailable): (&str, &str)) -> Bounds {
    let strategy =
        Strategy::RollingUpdate { max_surge: number(surge), max_unavailable: number(unavailable) };
    Bounds::of(&DeploymentSpec {
        replicas,
        selector: Selector::default(),
        template: Arc::new(PodTemplate::default()),
        strategy,
        min_ready_seconds: 0,
        revision_history_limit: 10,
        progress_deadline_seconds: 600,
        paused: false,
    })
}

/// A rollout from its beginning until nothing moves: `old+new` after each scaling. That it keeps
/// within its bounds is checked on the way.
fn walk(wanted: u32, bounds: Bounds, broken: u32, coming: Coming) -> String {
    let mut old = set(wanted, wanted - broken);
    let mut new = set(0, 0);
    let mut path = vec![format!("{}+{}", old.replicas, new.replicas)];
    loop {
        let before = (old, new);
        let available = old.available + new.available;
        new.replicas = new_size(wanted, bounds, new, &[old]);
        if (old, new) == before {
            old.replicas = old_sizes(wanted, bounds, new, &[old])[0];
            // Those that are not available go first.
            old.available = old.available.min(old.replicas);
        }
        if (old, new) == before {
            let missing = new.replicas - new.available;
            new.available += match coming {
                Coming::AtOnce => missing,
                Coming::OneByOne => missing.min(1),
                Coming::Never => 0,
            };
        } else {
            path.push(format!("{}+{}", old.replicas, new.replicas));
            assert!(old.replicas + new.replicas <= wanted + bounds.surge, "{path:?}");
            let least = (wanted - bounds.unavailable).min(available);
            assert!(old.available + new.available >= least, "{path:?}");
        }
        if (old, new) == before {
            return path.join(" ");
        }
    }
}

/// A line for each size and each pair of bounds.
fn walks(sizes: &[u32], broken: impl Fn(u32) -> u32, coming: Coming) -> String {
    let mut lines = Vec::new();
    for written in BOUNDS {
        for &wanted in sizes {
            let bounds = bounds(wanted, written);
            let path = walk(wanted, bounds, broken(wanted), coming);
            lines.push(format!("{wanted} by {} {}: {path}", written.0, written.1));
        }
    }
    lines.join("\n")
}

#[test]
fn rollouts_whose_pods_come_up_at_once() {
    assert_snapshot!(walks(&REPLICAS, |_| 0, Coming::AtOnce), @"
    0 by 25% 25%: 0+0
    1 by 25% 25%: 1+0 1+1 0+1
    2 by 25% 25%: 2+0 2+1 1+1 1+2 0+2
    3 by 25% 25%: 3+0 3+1 2+1 2+2 1+2 1+3 0+3
    4 by 25% 25%: 4+0 4+1 3+1 3+2 1+2 1+4 0+4
    5 by 25% 25%: 5+0 5+2 4+2 4+3 1+3 1+5 0+5
    10 by 25% 25%: 10+0 10+3 8+3 8+5 3+5 3+10 0+10
    14 by 25% 25%: 14+0 14+4 11+4 11+7 4+7 4+14 0+14
    0 by 1 0: 0+0
    1 by 1 0: 1+0 1+1 0+1
    2 by 1 0: 2+0 2+1 1+1 1+2 0+2
    3 by 1 0: 3+0 3+1 2+1 2+2 1+2 1+3 0+3
    4 by 1 0: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 1 0: 5+0 5+1 4+1 4+2 3+2 3+3 2+3 2+4 1+4 1+5 0+5
    10 by 1 0: 10+0 10+1 9+1 9+2 8+2 8+3 7+3 7+4 6+4 6+5 5+5 5+6 4+6 4+7 3+7 3+8 2+8 2+9 1+9 1+10 0+10
    14 by 1 0: 14+0 14+1 13+1 13+2 12+2 12+3 11+3 11+4 10+4 10+5 9+5 9+6 8+6 8+7 7+7 7+8 6+8 6+9 5+9 5+10 4+10 4+11 3+11 3+12 2+12 2+13 1+13 1+14 0+14
    0 by 0 1: 0+0
    1 by 0 1: 1+0 0+0 0+1
    2 by 0 1: 2+0 1+0 1+1 0+1 0+2
    3 by 0 1: 3+0 2+0 2+1 1+1 1+2 0+2 0+3
    4 by 0 1: 4+0 3+0 3+1 2+1 2+2 1+2 1+3 0+3 0+4
    5 by 0 1: 5+0 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4 0+5
    10 by 0 1: 10+0 9+0 9+1 8+1 8+2 7+2 7+3 6+3 6+4 5+4 5+5 4+5 4+6 3+6 3+7 2+7 2+8 1+8 1+9 0+9 0+10
    14 by 0 1: 14+0 13+0 13+1 12+1 12+2 11+2 11+3 10+3 10+4 9+4 9+5 8+5 8+6 7+6 7+7 6+7 6+8 5+8 5+9 4+9 4+10 3+10 3+11 2+11 2+12 1+12 1+13 0+13 0+14
    0 by 0 0: 0+0
    1 by 0 0: 1+0 0+0 0+1
    2 by 0 0: 2+0 1+0 1+1 0+1 0+2
    3 by 0 0: 3+0 2+0 2+1 1+1 1+2 0+2 0+3
    4 by 0 0: 4+0 3+0 3+1 2+1 2+2 1+2 1+3 0+3 0+4
    5 by 0 0: 5+0 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4 0+5
    10 by 0 0: 10+0 9+0 9+1 8+1 8+2 7+2 7+3 6+3 6+4 5+4 5+5 4+5 4+6 3+6 3+7 2+7 2+8 1+8 1+9 0+9 0+10
    14 by 0 0: 14+0 13+0 13+1 12+1 12+2 11+2 11+3 10+3 10+4 9+4 9+5 8+5 8+6 7+6 7+7 6+7 6+8 5+8 5+9 4+9 4+10 3+10 3+11 2+11 2+12 1+12 1+13 0+13 0+14
    0 by 100% 0: 0+0
    1 by 100% 0: 1+0 1+1 0+1
    2 by 100% 0: 2+0 2+2 0+2
    3 by 100% 0: 3+0 3+3 0+3
    4 by 100% 0: 4+0 4+4 0+4
    5 by 100% 0: 5+0 5+5 0+5
    10 by 100% 0: 10+0 10+10 0+10
    14 by 100% 0: 14+0 14+14 0+14
    0 by 0 100%: 0+0
    1 by 0 100%: 1+0 0+0 0+1
    2 by 0 100%: 2+0 0+0 0+2
    3 by 0 100%: 3+0 0+0 0+3
    4 by 0 100%: 4+0 0+0 0+4
    5 by 0 100%: 5+0 0+0 0+5
    10 by 0 100%: 10+0 0+0 0+10
    14 by 0 100%: 14+0 0+0 0+14
    0 by 50% 50%: 0+0
    1 by 50% 50%: 1+0 1+1 0+1
    2 by 50% 50%: 2+0 2+1 1+1 1+2 0+2
    3 by 50% 50%: 3+0 3+2 2+2 2+3 0+3
    4 by 50% 50%: 4+0 4+2 2+2 2+4 0+4
    5 by 50% 50%: 5+0 5+3 3+3 3+5 0+5
    10 by 50% 50%: 10+0 10+5 5+5 5+10 0+10
    14 by 50% 50%: 14+0 14+7 7+7 7+14 0+14
    0 by 3 3: 0+0
    1 by 3 3: 1+0 1+1 0+1
    2 by 3 3: 2+0 2+2 0+2
    3 by 3 3: 3+0 3+3 0+3
    4 by 3 3: 4+0 4+3 1+3 1+4 0+4
    5 by 3 3: 5+0 5+3 2+3 2+5 0+5
    10 by 3 3: 10+0 10+3 7+3 7+6 1+6 1+10 0+10
    14 by 3 3: 14+0 14+3 11+3 11+6 5+6 5+12 0+12 0+14
    0 by 1% 1%: 0+0
    1 by 1% 1%: 1+0 1+1 0+1
    2 by 1% 1%: 2+0 2+1 1+1 1+2 0+2
    3 by 1% 1%: 3+0 3+1 2+1 2+2 1+2 1+3 0+3
    4 by 1% 1%: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 1% 1%: 5+0 5+1 4+1 4+2 3+2 3+3 2+3 2+4 1+4 1+5 0+5
    10 by 1% 1%: 10+0 10+1 9+1 9+2 8+2 8+3 7+3 7+4 6+4 6+5 5+5 5+6 4+6 4+7 3+7 3+8 2+8 2+9 1+9 1+10 0+10
    14 by 1% 1%: 14+0 14+1 13+1 13+2 12+2 12+3 11+3 11+4 10+4 10+5 9+5 9+6 8+6 8+7 7+7 7+8 6+8 6+9 5+9 5+10 4+10 4+11 3+11 3+12 2+12 2+13 1+13 1+14 0+14
    ");
}

#[test]
fn rollouts_whose_pods_come_up_one_by_one() {
    assert_snapshot!(walks(&[1, 2, 3, 4, 5], |_| 0, Coming::OneByOne), @"
    1 by 25% 25%: 1+0 1+1 0+1
    2 by 25% 25%: 2+0 2+1 1+1 1+2 0+2
    3 by 25% 25%: 3+0 3+1 2+1 2+2 1+2 1+3 0+3
    4 by 25% 25%: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 25% 25%: 5+0 5+2 4+2 4+3 3+3 3+4 2+4 2+5 1+5 0+5
    1 by 1 0: 1+0 1+1 0+1
    2 by 1 0: 2+0 2+1 1+1 1+2 0+2
    3 by 1 0: 3+0 3+1 2+1 2+2 1+2 1+3 0+3
    4 by 1 0: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 1 0: 5+0 5+1 4+1 4+2 3+2 3+3 2+3 2+4 1+4 1+5 0+5
    1 by 0 1: 1+0 0+0 0+1
    2 by 0 1: 2+0 1+0 1+1 0+1 0+2
    3 by 0 1: 3+0 2+0 2+1 1+1 1+2 0+2 0+3
    4 by 0 1: 4+0 3+0 3+1 2+1 2+2 1+2 1+3 0+3 0+4
    5 by 0 1: 5+0 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4 0+5
    1 by 0 0: 1+0 0+0 0+1
    2 by 0 0: 2+0 1+0 1+1 0+1 0+2
    3 by 0 0: 3+0 2+0 2+1 1+1 1+2 0+2 0+3
    4 by 0 0: 4+0 3+0 3+1 2+1 2+2 1+2 1+3 0+3 0+4
    5 by 0 0: 5+0 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4 0+5
    1 by 100% 0: 1+0 1+1 0+1
    2 by 100% 0: 2+0 2+2 1+2 0+2
    3 by 100% 0: 3+0 3+3 2+3 1+3 0+3
    4 by 100% 0: 4+0 4+4 3+4 2+4 1+4 0+4
    5 by 100% 0: 5+0 5+5 4+5 3+5 2+5 1+5 0+5
    1 by 0 100%: 1+0 0+0 0+1
    2 by 0 100%: 2+0 0+0 0+2
    3 by 0 100%: 3+0 0+0 0+3
    4 by 0 100%: 4+0 0+0 0+4
    5 by 0 100%: 5+0 0+0 0+5
    1 by 50% 50%: 1+0 1+1 0+1
    2 by 50% 50%: 2+0 2+1 1+1 1+2 0+2
    3 by 50% 50%: 3+0 3+2 2+2 2+3 1+3 0+3
    4 by 50% 50%: 4+0 4+2 2+2 2+4 1+4 0+4
    5 by 50% 50%: 5+0 5+3 3+3 3+5 2+5 1+5 0+5
    1 by 3 3: 1+0 1+1 0+1
    2 by 3 3: 2+0 2+2 0+2
    3 by 3 3: 3+0 3+3 0+3
    4 by 3 3: 4+0 4+3 1+3 1+4 0+4
    5 by 3 3: 5+0 5+3 2+3 2+5 1+5 0+5
    1 by 1% 1%: 1+0 1+1 0+1
    2 by 1% 1%: 2+0 2+1 1+1 1+2 0+2
    3 by 1% 1%: 3+0 3+1 2+1 2+2 1+2 1+3 0+3
    4 by 1% 1%: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 1% 1%: 5+0 5+1 4+1 4+2 3+2 3+3 2+3 2+4 1+4 1+5 0+5
    ");
}

#[test]
fn rollouts_whose_pods_never_come_up_stop_with_enough_of_the_old_ones() {
    assert_snapshot!(walks(&REPLICAS, |_| 0, Coming::Never), @"
    0 by 25% 25%: 0+0
    1 by 25% 25%: 1+0 1+1
    2 by 25% 25%: 2+0 2+1
    3 by 25% 25%: 3+0 3+1
    4 by 25% 25%: 4+0 4+1 3+1 3+2
    5 by 25% 25%: 5+0 5+2 4+2 4+3
    10 by 25% 25%: 10+0 10+3 8+3 8+5
    14 by 25% 25%: 14+0 14+4 11+4 11+7
    0 by 1 0: 0+0
    1 by 1 0: 1+0 1+1
    2 by 1 0: 2+0 2+1
    3 by 1 0: 3+0 3+1
    4 by 1 0: 4+0 4+1
    5 by 1 0: 5+0 5+1
    10 by 1 0: 10+0 10+1
    14 by 1 0: 14+0 14+1
    0 by 0 1: 0+0
    1 by 0 1: 1+0 0+0 0+1
    2 by 0 1: 2+0 1+0 1+1
    3 by 0 1: 3+0 2+0 2+1
    4 by 0 1: 4+0 3+0 3+1
    5 by 0 1: 5+0 4+0 4+1
    10 by 0 1: 10+0 9+0 9+1
    14 by 0 1: 14+0 13+0 13+1
    0 by 0 0: 0+0
    1 by 0 0: 1+0 0+0 0+1
    2 by 0 0: 2+0 1+0 1+1
    3 by 0 0: 3+0 2+0 2+1
    4 by 0 0: 4+0 3+0 3+1
    5 by 0 0: 5+0 4+0 4+1
    10 by 0 0: 10+0 9+0 9+1
    14 by 0 0: 14+0 13+0 13+1
    0 by 100% 0: 0+0
    1 by 100% 0: 1+0 1+1
    2 by 100% 0: 2+0 2+2
    3 by 100% 0: 3+0 3+3
    4 by 100% 0: 4+0 4+4
    5 by 100% 0: 5+0 5+5
    10 by 100% 0: 10+0 10+10
    14 by 100% 0: 14+0 14+14
    0 by 0 100%: 0+0
    1 by 0 100%: 1+0 0+0 0+1
    2 by 0 100%: 2+0 0+0 0+2
    3 by 0 100%: 3+0 0+0 0+3
    4 by 0 100%: 4+0 0+0 0+4
    5 by 0 100%: 5+0 0+0 0+5
    10 by 0 100%: 10+0 0+0 0+10
    14 by 0 100%: 14+0 0+0 0+14
    0 by 50% 50%: 0+0
    1 by 50% 50%: 1+0 1+1
    2 by 50% 50%: 2+0 2+1 1+1 1+2
    3 by 50% 50%: 3+0 3+2 2+2 2+3
    4 by 50% 50%: 4+0 4+2 2+2 2+4
    5 by 50% 50%: 5+0 5+3 3+3 3+5
    10 by 50% 50%: 10+0 10+5 5+5 5+10
    14 by 50% 50%: 14+0 14+7 7+7 7+14
    0 by 3 3: 0+0
    1 by 3 3: 1+0 1+1 0+1
    2 by 3 3: 2+0 2+2 0+2
    3 by 3 3: 3+0 3+3 0+3
    4 by 3 3: 4+0 4+3 1+3 1+4
    5 by 3 3: 5+0 5+3 2+3 2+5
    10 by 3 3: 10+0 10+3 7+3 7+6
    14 by 3 3: 14+0 14+3 11+3 11+6
    0 by 1% 1%: 0+0
    1 by 1% 1%: 1+0 1+1
    2 by 1% 1%: 2+0 2+1
    3 by 1% 1%: 3+0 3+1
    4 by 1% 1%: 4+0 4+1
    5 by 1% 1%: 5+0 5+1
    10 by 1% 1%: 10+0 10+1
    14 by 1% 1%: 14+0 14+1
    ");
}

#[test]
fn rollouts_away_from_a_revision_that_is_half_down() {
    assert_snapshot!(walks(&[1, 2, 4, 5, 10], |wanted| wanted.div_ceil(2), Coming::AtOnce), @"
    1 by 25% 25%: 1+0 1+1 0+1
    2 by 25% 25%: 2+0 2+1 1+1 1+2 0+2
    4 by 25% 25%: 4+0 4+1 3+1 3+2 1+2 1+4 0+4
    5 by 25% 25%: 5+0 5+2 4+2 4+3 1+3 1+5 0+5
    10 by 25% 25%: 10+0 10+3 8+3 8+5 3+5 3+10 0+10
    1 by 1 0: 1+0 1+1 0+1
    2 by 1 0: 2+0 2+1 1+1 1+2 0+2
    4 by 1 0: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 1 0: 5+0 5+1 4+1 4+2 3+2 3+3 2+3 2+4 1+4 1+5 0+5
    10 by 1 0: 10+0 10+1 9+1 9+2 8+2 8+3 7+3 7+4 6+4 6+5 5+5 5+6 4+6 4+7 3+7 3+8 2+8 2+9 1+9 1+10 0+10
    1 by 0 1: 1+0 0+0 0+1
    2 by 0 1: 2+0 1+0 1+1 0+1 0+2
    4 by 0 1: 4+0 3+0 3+1 2+1 2+2 1+2 1+3 0+3 0+4
    5 by 0 1: 5+0 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4 0+5
    10 by 0 1: 10+0 9+0 9+1 8+1 8+2 7+2 7+3 6+3 6+4 5+4 5+5 4+5 4+6 3+6 3+7 2+7 2+8 1+8 1+9 0+9 0+10
    1 by 0 0: 1+0 0+0 0+1
    2 by 0 0: 2+0 1+0 1+1 0+1 0+2
    4 by 0 0: 4+0 3+0 3+1 2+1 2+2 1+2 1+3 0+3 0+4
    5 by 0 0: 5+0 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4 0+5
    10 by 0 0: 10+0 9+0 9+1 8+1 8+2 7+2 7+3 6+3 6+4 5+4 5+5 4+5 4+6 3+6 3+7 2+7 2+8 1+8 1+9 0+9 0+10
    1 by 100% 0: 1+0 1+1 0+1
    2 by 100% 0: 2+0 2+2 0+2
    4 by 100% 0: 4+0 4+4 0+4
    5 by 100% 0: 5+0 5+5 0+5
    10 by 100% 0: 10+0 10+10 0+10
    1 by 0 100%: 1+0 0+0 0+1
    2 by 0 100%: 2+0 0+0 0+2
    4 by 0 100%: 4+0 0+0 0+4
    5 by 0 100%: 5+0 0+0 0+5
    10 by 0 100%: 10+0 0+0 0+10
    1 by 50% 50%: 1+0 1+1 0+1
    2 by 50% 50%: 2+0 2+1 1+1 1+2 0+2
    4 by 50% 50%: 4+0 4+2 2+2 2+4 0+4
    5 by 50% 50%: 5+0 5+3 3+3 3+5 0+5
    10 by 50% 50%: 10+0 10+5 5+5 5+10 0+10
    1 by 3 3: 1+0 1+1 0+1
    2 by 3 3: 2+0 2+2 0+2
    4 by 3 3: 4+0 4+3 1+3 1+4 0+4
    5 by 3 3: 5+0 5+3 2+3 2+5 0+5
    10 by 3 3: 10+0 10+3 7+3 7+6 1+6 1+10 0+10
    1 by 1% 1%: 1+0 1+1 0+1
    2 by 1% 1%: 2+0 2+1 1+1 1+2 0+2
    4 by 1% 1%: 4+0 4+1 3+1 3+2 2+2 2+3 1+3 1+4 0+4
    5 by 1% 1%: 5+0 5+1 4+1 4+2 3+2 3+3 2+3 2+4 1+4 1+5 0+5
    10 by 1% 1%: 10+0 10+1 9+1 9+2 8+2 8+3 7+3 7+4 6+4 6+5 5+5 5+6 4+6 4+7 3+7 3+8 2+8 2+9 1+9 1+10 0+10
    ");
}

#[test]
fn rollouts_away_from_a_revision_that_is_down() {
    assert_snapshot!(walks(&[1, 2, 4, 5, 10], |wanted| wanted, Coming::Never), @"
    1 by 25% 25%: 1+0 1+1
    2 by 25% 25%: 2+0 2+1
    4 by 25% 25%: 4+0 4+1 3+1 3+2
    5 by 25% 25%: 5+0 5+2 4+2 4+3
    10 by 25% 25%: 10+0 10+3 8+3 8+5
    1 by 1 0: 1+0 1+1
    2 by 1 0: 2+0 2+1
    4 by 1 0: 4+0 4+1
    5 by 1 0: 5+0 5+1
    10 by 1 0: 10+0 10+1
    1 by 0 1: 1+0 0+0 0+1
    2 by 0 1: 2+0 1+0 1+1
    4 by 0 1: 4+0 3+0 3+1
    5 by 0 1: 5+0 4+0 4+1
    10 by 0 1: 10+0 9+0 9+1
    1 by 0 0: 1+0 0+0 0+1
    2 by 0 0: 2+0 1+0 1+1
    4 by 0 0: 4+0 3+0 3+1
    5 by 0 0: 5+0 4+0 4+1
    10 by 0 0: 10+0 9+0 9+1
    1 by 100% 0: 1+0 1+1
    2 by 100% 0: 2+0 2+2
    4 by 100% 0: 4+0 4+4
    5 by 100% 0: 5+0 5+5
    10 by 100% 0: 10+0 10+10
    1 by 0 100%: 1+0 0+0 0+1
    2 by 0 100%: 2+0 0+0 0+2
    4 by 0 100%: 4+0 0+0 0+4
    5 by 0 100%: 5+0 0+0 0+5
    10 by 0 100%: 10+0 0+0 0+10
    1 by 50% 50%: 1+0 1+1
    2 by 50% 50%: 2+0 2+1 1+1 1+2
    4 by 50% 50%: 4+0 4+2 2+2 2+4
    5 by 50% 50%: 5+0 5+3 3+3 3+5
    10 by 50% 50%: 10+0 10+5 5+5 5+10
    1 by 3 3: 1+0 1+1 0+1
    2 by 3 3: 2+0 2+2 0+2
    4 by 3 3: 4+0 4+3 1+3 1+4
    5 by 3 3: 5+0 5+3 2+3 2+5
    10 by 3 3: 10+0 10+3 7+3 7+6
    1 by 1% 1%: 1+0 1+1
    2 by 1% 1%: 2+0 2+1
    4 by 1% 1%: 4+0 4+1
    5 by 1% 1%: 5+0 5+1
    10 by 1% 1%: 10+0 10+1
    ");
}

fn set(replicas: u32, available: u32) -> Set {
    Set { replicas, available, max_replicas: 0 }
}

const QUARTER_OF_10: Bounds = Bounds { surge: 3, unavailable: 2 };

#[test]
fn the_new_revision_grows_into_the_surge() {
    let check = |new, old: &[Set], expected| {
        assert_eq!(new_size(10, QUARTER_OF_10, new, old), expected);
    };
    check(set(0, 0), &[set(10, 10)], 3);
    check(set(3, 0), &[set(8, 8)], 5);
    check(set(5, 3), &[set(8, 8)], 5);
    check(set(0, 0), &[], 10);
    check(set(12, 12), &[], 10);
}

#[test]
fn old_revisions_shrink_by_what_is_available_beyond_the_minimum() {
    let check = |new, old: &[Set], expected: &[u32]| {
        assert_eq!(old_sizes(10, QUARTER_OF_10, new, old), expected);
    };
    check(set(3, 0), &[set(10, 10)], &[8]);
    check(set(5, 3), &[set(8, 8)], &[5]);
    check(set(10, 10), &[set(3, 3)], &[0]);
    check(set(5, 0), &[set(8, 8)], &[8]);
    // What never came up goes first, the oldest first.
    check(set(3, 3), &[set(2, 0), set(8, 8)], &[0, 5]);
    check(set(5, 0), &[set(8, 5)], &[8]);
}

#[test]
fn a_change_of_scale_in_mid_rollout_is_shared_out_in_proportion() {
    let sized = |replicas| Set { replicas, available: replicas, max_replicas: 13 };
    // Upstream's documented example: 10 → 15 with 8 old and 5 new, surge 3.
    assert_eq!(proportional(15, 3, &[sized(8), sized(5)]), [11, 7]);
    assert_eq!(proportional(0, 0, &[sized(8), sized(5)]), [0, 0]);
    assert_eq!(proportional(10, 3, &[sized(8), sized(5)]), [8, 5]);
    // In proportion to what was allowed, though not all of it was there; else to what is there.
    assert_eq!(proportional(20, 3, &[sized(8), sized(3)]), [18, 5]);
    assert_eq!(proportional(20, 3, &[set(8, 8), set(3, 3)]), [17, 6]);
}

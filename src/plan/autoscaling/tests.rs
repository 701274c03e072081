//! What figures come to, alone and after what was before.

use super::*;
use crate::domain::autoscaling::ScalingPolicy;

const HALF: MetricTarget = MetricTarget::Utilization(50);

fn ready(usage: u64) -> Sample {
    Sample { state: SampleState::Ready(usage), request: 100 }
}

const UNREADY: Sample = Sample { state: SampleState::Unready, request: 100 };
const MISSING: Sample = Sample { state: SampleState::Missing, request: 100 };

fn of(count: usize, sample: Sample) -> Vec<Sample> {
    vec![sample; count]
}

/// A target, how many pods there are, and what each uses of the 100 that it asks for, `u` and `m`
/// for one that is not ready or has no figure: how many it comes to. What stands there was worked
/// out apart from this code, by upstream's `GetResourceReplicas`.
const WISHES: &str = include_str!("wishes.txt");

#[test]
fn each_figure_counts_as_it_does_upstream() {
    for line in WISHES.lines() {
        let (given, expected) = line.split_once(" > ").unwrap();
        let (head, pods) = given.split_once(": ").unwrap();
        let (target, current) = head.split_once("% ").unwrap();
        let sample = |word: &str| match word {
            "u" => UNREADY,
            "m" => MISSING,
            _ => ready(word.parse().unwrap()),
        };
        let samples: Vec<Sample> = pods.split(' ').filter(|it| *it != "-").map(sample).collect();
        let target = MetricTarget::Utilization(target.parse().unwrap());
        let found = wish(current.parse().unwrap(), target, &samples);
        let found = found.map_or("-".to_owned(), |wish| wish.replicas.to_string());
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn utilization_is_brought_to_its_target() {
    let check = |samples: &[Sample], expected: Option<u32>| {
        let current = u32::try_from(samples.len()).unwrap();
        let found = wish(current, HALF, samples).map(|wish| wish.replicas);
        assert_eq!(found, expected, "{samples:?}");
    };
    check(&[], None);
    check(&of(3, MISSING), None);
    check(&of(3, UNREADY), None);
    // Within a tenth of the target nothing is done. A tenth more is just beyond it, as
    // upstream's floats have it too.
    check(&of(4, ready(55)), Some(5));
    for usage in 45..=54 {
        check(&of(4, ready(usage)), Some(4));
    }
    check(&of(4, ready(44)), Some(4));
    check(&of(4, ready(37)), Some(3));
    check(&of(4, ready(56)), Some(5));
    check(&of(4, ready(100)), Some(8));
    check(&of(4, ready(101)), Some(9));
    check(&of(4, ready(250)), Some(20));
    check(&of(4, ready(0)), Some(0));
    check(&[ready(100), ready(0)], Some(2));
    check(&[ready(90), ready(30)], Some(3));
}

#[test]
fn what_is_not_known_holds_the_change_back() {
    let check = |samples: Vec<Sample>, expected: u32| {
        let current = u32::try_from(samples.len()).unwrap();
        assert_eq!(wish(current, HALF, &samples).unwrap().replicas, expected, "{samples:?}");
    };
    let with = |count, sample, more: &[Sample]| [of(count, sample), more.to_vec()].concat();
    // Up: missing and unready ones count as idle.
    check(with(3, ready(100), &[MISSING]), 6);
    check(with(3, ready(100), &[UNREADY]), 6);
    check(with(1, ready(100), &[UNREADY, UNREADY]), 3);
    check(with(1, ready(60), &[MISSING]), 2);
    // Down: missing ones count as busy; unready ones do not count.
    check(with(3, ready(10), &[MISSING]), 3);
    check(with(3, ready(10), &[UNREADY]), 1);
    check(with(1, ready(40), &[MISSING, MISSING, MISSING]), 4);
    check(with(3, ready(50), &[MISSING]), 4);
    // One that is not ready is neither busy nor idle where the others do little; one without
    // figures is idle where they do much.
    check(with(3, ready(46), &[UNREADY]), 4);
    check(with(3, ready(71), &[MISSING]), 4);
}

#[test]
fn a_number_that_is_not_that_of_the_pods_found_goes_neither_back_nor_forth() {
    let check = |current, samples: &[Sample], expected: u32| {
        assert_eq!(wish(current, HALF, samples).unwrap().replicas, expected, "{samples:?}");
    };
    // What is known of all goes by itself.
    check(5, &of(2, ready(60)), 3);
    check(1, &of(4, ready(25)), 2);
    // What is not known of all turns no growth into less and no shrinking into more.
    check(9, &[ready(100), ready(100), ready(100), MISSING], 9);
    check(1, &[ready(20), ready(20), ready(20), MISSING], 1);
}

#[test]
fn an_average_value_needs_no_requests() {
    let sample = |usage| Sample { state: SampleState::Ready(usage), request: 0 };
    let target = MetricTarget::AverageValue(100);
    let found = wish(2, target, &[sample(150), sample(250)]).unwrap();
    assert_eq!(found.replicas, 4);
    assert_eq!(found.value, MetricValue { average: 200, utilization: None });
    assert_eq!(wish(2, HALF, &[sample(150), sample(250)]), None);
}

fn rules(
    stabilization_seconds: u32,
    select: PolicySelect,
    changes: &[PolicyChange],
) -> ScalingRules {
    let policy = |change: &PolicyChange| ScalingPolicy { change: *change, period_seconds: 15 };
    let policies = changes.iter().map(policy).collect();
    ScalingRules { stabilization_seconds, select, policies }
}

fn second(number: i64) -> Timestamp {
    Timestamp(1_000_000 + number * 1000)
}

#[test]
fn the_highest_wish_of_the_window_delays_going_down() {
    let up = rules(0, PolicySelect::Max, &[]);
    let down = rules(300, PolicySelect::Max, &[]);
    let check = |current, wishes: &[(i64, u32)], now, expected| {
        let wishes: Vec<_> = wishes.iter().map(|(at, it)| (second(*at), *it)).collect();
        let past = Past { recommendations: &wishes, changes: &[] };
        assert_eq!(stabilized(current, (&up, &down), past, second(now)), expected, "{wishes:?}");
    };
    check(5, &[(0, 5)], 0, 5);
    check(5, &[(0, 9)], 0, 9);
    check(5, &[(0, 2)], 0, 2);
    check(5, &[(0, 5), (15, 2)], 15, 5);
    check(5, &[(0, 5), (299, 2)], 299, 5);
    check(5, &[(0, 5), (300, 2)], 300, 2);
    check(5, &[(0, 3), (15, 2)], 15, 3);
    check(5, &[(0, 8), (15, 2)], 15, 5);
    check(5, &[(0, 2), (15, 7)], 15, 7);
}

#[test]
fn the_lowest_wish_of_the_window_delays_going_up() {
    let up = rules(60, PolicySelect::Max, &[]);
    let down = rules(0, PolicySelect::Max, &[]);
    let wishes = [(second(0), 4), (second(30), 9), (second(45), 6)];
    let at = |now, newest: usize| {
        let past = Past { recommendations: &wishes[..newest], changes: &[] };
        stabilized(4, (&up, &down), past, second(now))
    };
    assert_eq!(at(30, 2), 4);
    assert_eq!(at(45, 3), 4);
    assert_eq!(at(61, 3), 6);
}

#[test]
fn policies_bound_what_one_period_may_change() {
    use PolicyChange::{Percent, Pods};
    let up = |current, select, policies: &[PolicyChange], changes: &[(Timestamp, i64)]| {
        let past = Past { recommendations: &[], changes };
        ceiling(current, &rules(0, select, policies), past, second(100))
    };
    let both = [Pods(4), Percent(100)];
    assert_eq!(up(1, PolicySelect::Max, &both, &[]), 5);
    assert_eq!(up(10, PolicySelect::Max, &both, &[]), 20);
    assert_eq!(up(10, PolicySelect::Min, &both, &[]), 14);
    assert_eq!(up(10, PolicySelect::Disabled, &both, &[]), 10);
    assert_eq!(up(3, PolicySelect::Max, &[Percent(10)], &[]), 4);
    // Four were added ten seconds ago, so the period began with one.
    assert_eq!(up(5, PolicySelect::Max, &both, &[(second(90), 4)]), 5);
    assert_eq!(up(5, PolicySelect::Max, &both, &[(second(80), 4)]), 10);
    assert_eq!(up(5, PolicySelect::Max, &both, &[(second(85), 4)]), 10);
    assert_eq!(up(5, PolicySelect::Max, &both, &[(second(90), -3)]), 16);
    let down = |current, select, policies: &[PolicyChange], changes: &[(Timestamp, i64)]| {
        let past = Past { recommendations: &[], changes };
        floor(current, &rules(0, select, policies), past, second(100))
    };
    assert_eq!(down(10, PolicySelect::Max, &[Percent(100)], &[]), 0);
    assert_eq!(down(10, PolicySelect::Max, &[Pods(2), Percent(50)], &[]), 5);
    assert_eq!(down(10, PolicySelect::Min, &[Pods(2), Percent(50)], &[]), 8);
    assert_eq!(down(10, PolicySelect::Disabled, &[Percent(100)], &[]), 10);
    assert_eq!(down(5, PolicySelect::Max, &[Percent(10)], &[]), 4);
    assert_eq!(down(8, PolicySelect::Max, &[Pods(2)], &[(second(95), -2)]), 8);
}

//! The arithmetic of autoscaling: figures in, a number of pods out.
//!
//! Source: kubernetes-rules "HorizontalPodAutoscaler"; upstream's
//! `podautoscaler/{replica_calculator,horizontal}.go`.

use std::time::Duration;

use kgit_protocol::time::Timestamp;

use crate::domain::autoscaling::{
    MetricTarget, MetricValue, PolicyChange, PolicySelect, ScalingRules,
};

/// How far the average may be from the target before anything is done: a tenth.
const TOLERANCE: f64 = 0.1;

/// One pod, as far as one metric goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub state: SampleState,
    /// What its containers ask for; 0 if they ask for nothing.
    pub request: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleState {
    /// Ready, and it uses this much.
    Ready(u64),
    /// There is a figure, but it does not tell how the pod does once it serves.
    Unready,
    /// There is none.
    Missing,
}

/// What a metric asks for, and the average that it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub replicas: u32,
    pub value: MetricValue,
}

/// How many pods a metric wishes for. `None`: there are no figures to go by.
pub fn wish(current: u32, target: MetricTarget, samples: &[Sample]) -> Option<Wish> {
    let ready: Vec<(u64, u64)> = samples.iter().filter_map(ready_figures).collect();
    let found = Ratio::of(&ready, target)?;
    let hold = Some(Wish { replicas: current, value: found.value });
    let unready = samples.iter().filter(|it| it.state == SampleState::Unready);
    let missing = samples.iter().filter(|it| it.state == SampleState::Missing);
    let up_with_unready = found.ratio > 1.0 && unready.clone().next().is_some();
    if !up_with_unready && missing.clone().next().is_none() {
        if found.is_tolerable() {
            return hold;
        }
        return Some(Wish { replicas: scaled(found.ratio, ready.len()), value: found.value });
    }
    let mut figures = ready;
    // What is not known is taken to be what holds the change back.
    figures.extend(missing.filter_map(|it| Some((assumed(found.ratio, target, it)?, it.request))));
    if up_with_unready {
        figures.extend(unready.map(|it| (0, it.request)));
    }
    let careful = Ratio::of(&figures, target)?;
    let flipped = (found.ratio < 1.0) != (careful.ratio < 1.0);
    let replicas = scaled(careful.ratio, figures.len());
    let back =
        (careful.ratio < 1.0 && replicas > current) || (careful.ratio > 1.0 && replicas < current);
    if careful.is_tolerable() || flipped || back {
        return hold;
    }
    Some(Wish { replicas, value: found.value })
}

fn ready_figures(sample: &Sample) -> Option<(u64, u64)> {
    match sample.state {
        SampleState::Ready(usage) => Some((usage, sample.request)),
        SampleState::Unready | SampleState::Missing => None,
    }
}

/// A pod without a figure counts as using all that it asks for when there seem to be too many, and
/// as using nothing when there seem to be too few.
fn assumed(ratio: f64, target: MetricTarget, sample: &Sample) -> Option<u64> {
    match target {
        _ if ratio > 1.0 => Some(0),
        _ if ratio >= 1.0 => None,
        MetricTarget::Utilization(percent) => {
            Some(sample.request.saturating_mul(u64::from(percent.max(100))) / 100)
        }
        MetricTarget::AverageValue(value) => Some(value),
    }
}

/// What is used, as a multiple of what is aimed at.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    ratio: f64,
    value: MetricValue,
}

#[allow(clippy::cast_precision_loss, reason = "figures of machines are far below 2^52")]
impl Ratio {
    /// Of `(usage, request)` pairs.
    fn of(figures: &[(u64, u64)], target: MetricTarget) -> Option<Self> {
        let used: u64 = figures.iter().map(|(usage, _)| usage).sum();
        let asked: u64 = figures.iter().map(|(_, request)| request).sum();
        let average = used.checked_div(figures.len() as u64)?;
        let percent = (used * 100).checked_div(asked).and_then(|it| u32::try_from(it).ok());
        let ratio = match target {
            MetricTarget::Utilization(aim) => f64::from(percent?) / f64::from(aim.max(1)),
            MetricTarget::AverageValue(aim) => average as f64 / aim.max(1) as f64,
        };
        let utilization = match target {
            MetricTarget::Utilization(_) => percent,
            MetricTarget::AverageValue(_) => None,
        };
        Some(Self { ratio, value: MetricValue { average, utilization } })
    }

    fn is_tolerable(self) -> bool {
        (1.0 - self.ratio).abs() <= TOLERANCE
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of pods; a float that is too large saturates"
)]
fn scaled(ratio: f64, pods: usize) -> u32 {
    (ratio * pods as f64).ceil() as u32
}

/// What happened before, as far as it holds back what happens now.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// What was wished for, with this time's wish.
    pub recommendations: &'a [(Timestamp, u32)],
    /// By how much the number changed.
    pub changes: &'a [(Timestamp, i64)],
}

/// The number after stabilisation: the least that was wished for within the window of going up,
/// the most within that of going down.
pub fn stabilized(
    current: u32,
    rules: (&ScalingRules, &ScalingRules),
    past: Past<'_>,
    now: Timestamp,
) -> u32 {
    let within = |seconds: u32| {
        past.recommendations.iter().filter(move |(at, _)| is_within(*at, seconds, now))
    };
    let newest = past.recommendations.last().map_or(current, |(_, wish)| *wish);
    let up = within(rules.0.stabilization_seconds).map(|it| it.1).min().unwrap_or(newest);
    let down = within(rules.1.stabilization_seconds).map(|it| it.1).max().unwrap_or(newest);
    current.max(up.min(newest)).min(down.max(newest))
}

/// A wish of this very moment counts, however short the window.
fn is_within(at: Timestamp, seconds: u32, now: Timestamp) -> bool {
    at == now || now.since(at) < Duration::from_secs(seconds.into())
}

/// The highest number that the policies of going up allow now.
pub fn ceiling(current: u32, rules: &ScalingRules, past: Past<'_>, now: Timestamp) -> u32 {
    let allowed = rules.policies.iter().map(|policy| {
        let start = started_from(current, past, policy.period_seconds, now);
        match policy.change {
            PolicyChange::Pods(pods) => start.saturating_add(u64::from(pods)),
            PolicyChange::Percent(percent) => (start * (100 + u64::from(percent))).div_ceil(100),
        }
    });
    let allowed = match rules.select {
        PolicySelect::Max => allowed.max(),
        PolicySelect::Min => allowed.min(),
        PolicySelect::Disabled => None,
    };
    let allowed = allowed.map_or(current, |it| u32::try_from(it).unwrap_or(u32::MAX));
    allowed.max(current)
}

/// The lowest number that the policies of going down allow now.
pub fn floor(current: u32, rules: &ScalingRules, past: Past<'_>, now: Timestamp) -> u32 {
    let allowed = rules.policies.iter().map(|policy| {
        let start = started_from(current, past, policy.period_seconds, now);
        match policy.change {
            PolicyChange::Pods(pods) => start.saturating_sub(u64::from(pods)),
            PolicyChange::Percent(percent) => start * u64::from(100 - percent.min(100)) / 100,
        }
    });
    let allowed = match rules.select {
        PolicySelect::Max => allowed.min(),
        PolicySelect::Min => allowed.max(),
        PolicySelect::Disabled => None,
    };
    let allowed = allowed.map_or(current, |it| u32::try_from(it).unwrap_or(u32::MAX));
    allowed.min(current)
}

/// The number at the start of a period that ends now.
fn started_from(current: u32, past: Past<'_>, seconds: u32, now: Timestamp) -> u64 {
    let period = Duration::from_secs(seconds.into());
    let recent = past.changes.iter().filter(|(at, _)| now.since(*at) < period);
    let changed: i64 = recent.map(|(_, by)| by).sum();
    u64::try_from(i64::from(current) - changed).unwrap_or(0)
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                stabilized(current, (&up, &down), past, second(now)),
                expected,
                "{wishes:?}"
            );
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
}

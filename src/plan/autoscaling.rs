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
mod tests;

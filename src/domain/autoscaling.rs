//! What decides how many pods there are, and which of them come first: autoscalers, disruption
//! budgets, priorities.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kgit_protocol::ids::PodUid;
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::{PodUsage, USAGE_PERIOD_SECONDS};
use serde::{Deserialize, Serialize};

use crate::domain::key::ObjectKey;
use crate::domain::resource::IntOrPercent;
use crate::domain::selector::Selector;

/// HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoscalerSpec {
    pub target: ObjectKey,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub metrics: Vec<ResourceMetric>,
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceMetric {
    pub resource: MeasuredResource,
    /// `None`: all containers of the pod together.
    pub container: Option<String>,
    pub target: MetricTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MeasuredResource {
    Cpu,
    Memory,
}

impl MeasuredResource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// How old figures may be: four that did not come are more than a hiccup.
pub const STALE_AFTER: Duration = Duration::from_secs(4 * USAGE_PERIOD_SECONDS as u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricTarget {
    /// Percent of what the pods request.
    Utilization(u32),
    /// Of each pod: millicores, or bytes.
    AverageValue(u64),
}

/// How fast an autoscaler may go one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingRules {
    pub stabilization_seconds: u32,
    pub select: PolicySelect,
    pub policies: Vec<ScalingPolicy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicySelect {
    /// The policy that allows the most.
    Max,
    Min,
    /// Never this way.
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    pub change: PolicyChange,
    pub period_seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyChange {
    Pods(u32),
    Percent(u32),
}

/// PodDisruptionBudget: how many of its pods may be away on purpose at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisruptionBudgetSpec {
    /// `None` selects nothing.
    pub selector: Option<Selector>,
    pub bound: DisruptionBound,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`.
    pub unhealthy_may_always_go: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisruptionBound {
    MinAvailable(IntOrPercent),
    MaxUnavailable(IntOrPercent),
}

/// Priority classes that are there without a manifest. Source: upstream's
/// `apis/scheduling/helpers.go`.
pub const BUILT_IN_PRIORITIES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
/// What is above is the system's own.
pub const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityClassSpec {
    pub value: i32,
    pub global_default: bool,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    pub description: String,
}

/// What a HorizontalPodAutoscaler remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoscalerState {
    pub observed_generation: u64,
    /// `None` until the first figures are in: the manifest's replicas count.
    pub desired: Option<u32>,
    pub current: u32,
    pub last_scale: Option<Timestamp>,
    /// When it was last worked out.
    pub evaluated: Option<Timestamp>,
    /// The newest figures of the target's pods.
    pub usages: BTreeMap<PodUid, PodUsage>,
    /// The target's pods that were seen ready.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub served: BTreeSet<PodUid>,
    /// What was wished for within the longest stabilisation window, oldest first.
    pub recommendations: Vec<(Timestamp, u32)>,
    /// Changes of scale within the longest policy period, oldest first.
    pub changes: Vec<(Timestamp, i64)>,
    /// Each metric's average, in the order of the spec; `None`: no figures.
    pub metrics: Vec<Option<MetricValue>>,
    /// Why it can't scale, if it can't.
    pub trouble: Option<String>,
    /// `TooFewReplicas`, `TooManyReplicas`, or what else held it back.
    pub limited: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricValue {
    /// Of each pod on average: millicores, or bytes.
    pub average: u64,
    /// Percent of the request.
    pub utilization: Option<u32>,
}

//! What pods and nodes use of their machine, as the engine measures it.
//!
//! Figures are told every [`USAGE_PERIOD_SECONDS`] and never repeated: the next ones say more. None
//! of them is part of an observation, since those are kept, and figures change all the time.

use serde::{Deserialize, Serialize};

use crate::ids::{BootId, PodUid};
use crate::time::Timestamp;

/// How often an agent measures and tells. Source: an autoscaler looks every 15 s by default.
pub const USAGE_PERIOD_SECONDS: u32 = 15;

/// `POST /agent/v1/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub version: u32,
    pub boot: BootId,
    pub node: NodeUsage,
    #[serde(default)]
    pub pods: Vec<PodUsage>,
}

/// Of the machine as a whole, kgit's pods and everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    pub at: Timestamp,
    /// Over the time since the last measurement: thousandths of a core.
    pub cpu_millis: u64,
    /// What could not be given to a new process without swapping.
    pub memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    pub uid: PodUid,
    pub at: Timestamp,
    /// Over how long the cpu figures were taken.
    pub window_seconds: u32,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    pub name: String,
    /// On average over the window: thousandths of a core.
    pub cpu_millis: u64,
    /// The working set: what is in use less the cached files that could be dropped.
    pub memory_bytes: u64,
}

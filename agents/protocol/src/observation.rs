//! What an agent saw. "Unknown" is a value; absence says nothing.

use serde::{Deserialize, Serialize};

use crate::directory::ServiceName;
use crate::ids::{Attempt, PodUid};
use crate::time::Timestamp;

/// The state of one pod as its agent last saw it. Complete: it replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodObservation {
    pub uid: PodUid,
    pub phase: PodPhase,
    /// Why, in one CamelCase word, where the phase alone does not say.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
    /// All containers ready, as far as this node knows.
    pub ready: bool,
    #[serde(default)]
    pub ready_since: Option<Timestamp>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub init_containers: Vec<ContainerObservation>,
    #[serde(default)]
    pub containers: Vec<ContainerObservation>,
    /// What was changed behind kgit's back and put back, newest last; at most
    /// [`MAX_DRIFTS`], numbered on without end so that each is told once.
    #[serde(default)]
    pub drifts: Vec<Drift>,
    /// TCP ports that a service leads to and that nothing in the ready pod listens on.
    #[serde(default)]
    pub silent_ports: Vec<u16>,
}

impl PodObservation {
    /// Init containers first, in order.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerObservation> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// One that tells the phase alone.
    pub fn bare(uid: PodUid, phase: PodPhase) -> Self {
        Self {
            uid,
            phase,
            reason: None,
            message: None,
            ready: false,
            ready_since: None,
            started_at: None,
            init_containers: Vec::new(),
            containers: Vec::new(),
            drifts: Vec::new(),
            silent_ports: Vec::new(),
        }
    }
}

/// How many drifts an observation carries: enough to name a burst, bounded whatever happens.
pub const MAX_DRIFTS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    /// The engine does not answer, so nothing is known.
    Unknown,
    /// Every container of the pod was seen to be gone: its address and volumes are free.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerObservation {
    pub name: String,
    pub attempt: Attempt,
    pub state: ContainerState,
    /// How the attempt before ended.
    #[serde(default)]
    pub last: Option<Termination>,
    pub restarts: u32,
    pub ready: bool,
    /// Past its startup probe.
    pub started: bool,
    #[serde(default)]
    pub container_id: Option<String>,
    /// What the image's name resolved to: a repo digest, or the image id of a local build.
    #[serde(default)]
    pub image_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Waiting { reason: String, message: Option<String> },
    Running { started_at: Timestamp },
    Terminated(Termination),
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    pub exit_code: i64,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `DeadlineExceeded`, …
    pub reason: String,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    #[serde(default)]
    pub container_id: Option<String>,
}

/// Something of kgit's that was changed by somebody else, and was put back by the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Counts up within the pod.
    pub number: u64,
    pub at: Timestamp,
    /// The container's name in the pod, or empty for the pod's network.
    pub container: String,
    pub kind: DriftKind,
    /// What was seen, in words.
    pub seen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DriftKind {
    Removed,
    /// Stopped or killed by somebody, not by itself.
    Stopped,
    Paused,
    /// Its configuration is not the one that was ordered.
    Changed,
    NetworkLost,
    ImageLost,
}

/// Something worth telling a person, with Kubernetes' reasons (`Pulled`, `BackOff`, …).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEvent {
    pub uid: PodUid,
    pub at: Timestamp,
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// `spec.containers{name}`, when it concerns one container.
    #[serde(default)]
    pub field_path: Option<String>,
}

/// The node itself, as its agent last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeObservation {
    pub capacity: Capacity,
    #[serde(default)]
    pub conditions: Vec<NodeCondition>,
    #[serde(default)]
    pub facts: NodeFacts,
    /// What keeps services from working as written on this node.
    #[serde(default)]
    pub service_troubles: Vec<ServiceTrouble>,
}

/// Why a service does not work as written on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceTrouble {
    pub service: ServiceName,
    /// One CamelCase word: `PortInUse`, …
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub pods: u32,
    #[serde(default)]
    pub disk_bytes: u64,
}

/// Whether the node's engine answers.
pub const ENGINE_READY: &str = "DockerReady";
/// Whether the bridge that pods are on is there.
pub const NETWORK_READY: &str = "PodNetworkReady";

impl NodeObservation {
    /// What keeps the node from running any pod.
    pub fn failure(&self) -> Option<&NodeCondition> {
        let needed = |kind: &str| matches!(kind, ENGINE_READY | NETWORK_READY);
        self.conditions.iter().find(|it| needed(&it.kind) && it.status == Some(false))
    }
}

/// [`ENGINE_READY`], [`NETWORK_READY`], `DiskPressure`, … The master adds `Ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCondition {
    pub kind: String,
    /// `None` is "unknown".
    pub status: Option<bool>,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    pub hostname: String,
    pub addresses: Vec<String>,
    pub os_image: String,
    pub kernel: String,
    pub architecture: String,
    pub engine: String,
    pub engine_api: String,
    pub agent: String,
    pub boot_id: String,
    /// hostPath prefixes that the node allows.
    #[serde(default)]
    pub allowed_paths: Vec<String>,
}

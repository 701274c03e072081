//! What a pod is to be, before it is decided: references to ConfigMaps, Secrets and claims are
//! still names here. [`kgit_protocol::pod::PodSpec`] is what comes of it for one pod.
//!
//! Defaults are filled in and named ports are numbers by the time a template exists.

use std::collections::{BTreeMap, BTreeSet};

use kgit_protocol::ids::Digest;
use kgit_protocol::pod::{
    ContainerPort, ContainerSecurity, Handler, HostAlias, HostPathKind, PodSecurity, Probe,
    PullPolicy, Resources, RestartPolicy,
};
use serde::{Deserialize, Serialize};

use crate::domain::selector::{Labels, NodeTerm, Selector};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodTemplate {
    pub labels: Labels,
    pub annotations: Labels,
    pub init_containers: Vec<ContainerTemplate>,
    pub containers: Vec<ContainerTemplate>,
    pub volumes: Vec<VolumeTemplate>,
    pub restart_policy: RestartPolicy,
    pub termination_grace_seconds: u32,
    pub active_deadline_seconds: Option<u32>,
    pub placement: Placement,
    pub network: PodNetworking,
    pub security: PodSecurity,
    pub image_pull_secrets: Vec<String>,
    pub share_process_namespace: bool,
}

/// Where the pod may run, and where it would rather.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub node_name: Option<String>,
    pub node_selector: Labels,
    /// Any of these must match (requiredDuringScheduling node affinity).
    pub node_affinity: Vec<NodeTerm>,
    pub tolerations: Vec<Toleration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_nodes: Vec<PreferredNodes>,
    /// Each must hold: a pod like that runs in the same domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_affinity: Vec<PodTerm>,
    /// Each must hold: no pod like that runs in the same domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_anti_affinity: Vec<PodTerm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_pods: Vec<PreferredPods>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadConstraint>,
    /// The name of a PriorityClass; empty: the default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub priority_class: String,
    /// `preemptionPolicy`, where the pod says it itself; true: `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_preempts: Option<bool>,
}

/// A wish among nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferredNodes {
    /// 1 to 100.
    pub weight: i32,
    pub term: NodeTerm,
}

/// A wish to be near pods, or away from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferredPods {
    /// 1 to 100; negative: away from them.
    pub weight: i32,
    pub term: PodTerm,
}

/// Pods, and the domain in which they count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodTerm {
    /// `None` selects nothing.
    pub selector: Option<Selector>,
    /// With `namespace_selector`, the namespaces in which pods count; neither: the pod's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// Labels that the pods share with this one, or do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_label_keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatch_label_keys: Vec<String>,
    /// The nodes' label whose values are the domains.
    pub topology_key: String,
}

/// How evenly pods are to lie over the domains of a topology.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpreadConstraint {
    pub max_skew: u32,
    pub topology_key: String,
    /// `DoNotSchedule`; else `ScheduleAnyway`.
    pub hard: bool,
    /// `None` selects nothing.
    pub selector: Option<Selector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_domains: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_label_keys: Vec<String>,
    /// `nodeAffinityPolicy: Ignore`: nodes count that the pod may not run on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignores_affinity: bool,
    /// `nodeTaintsPolicy: Honor`: nodes do not count whose taints it does not tolerate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub honors_taints: bool,
}

impl Placement {
    /// Asks about other pods, or is asked about by them.
    pub fn minds_pods(&self) -> bool {
        !(self.pod_affinity.is_empty()
            && self.pod_anti_affinity.is_empty()
            && self.preferred_pods.is_empty())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toleration {
    /// Empty: any key.
    pub key: String,
    /// `None`: any value (`Exists`).
    pub value: Option<String>,
    /// `None`: any effect.
    pub effect: Option<String>,
    /// For how long; `None`: for ever.
    pub seconds: Option<u32>,
}

/// What a node has against pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taint<'a> {
    pub key: &'a str,
    pub value: &'a str,
    pub effect: &'a str,
}

/// Effects of taints, as they are written.
pub mod effect {
    pub const NO_SCHEDULE: &str = "NoSchedule";
    pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
    pub const NO_EXECUTE: &str = "NoExecute";
}

/// What a node that is not heard of is to the pods on it.
pub const UNREACHABLE: Taint<'_> =
    Taint { key: "node.kubernetes.io/unreachable", value: "", effect: effect::NO_EXECUTE };

/// What a node is to the pods on it whose engine or pod network fails.
pub const NOT_READY: Taint<'_> =
    Taint { key: "node.kubernetes.io/not-ready", value: "", effect: effect::NO_EXECUTE };

/// What a cordon is to pods.
pub const CORDONED: Taint<'_> =
    Taint { key: "node.kubernetes.io/unschedulable", value: "", effect: effect::NO_SCHEDULE };

/// How long a pod that says nothing else stays on a node that is not heard of, or not ready. Kubernetes
/// adds such tolerations to every pod.
pub const DEFAULT_TOLERATION_SECONDS: u32 = 300;

impl Toleration {
    pub fn tolerates(&self, taint: &Taint<'_>) -> bool {
        (self.key.is_empty() || self.key == taint.key)
            && self.value.as_deref().is_none_or(|value| value == taint.value)
            && self.effect.as_deref().is_none_or(|effect| effect == taint.effect)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworking {
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub host_aliases: Vec<HostAlias>,
    /// `ClusterFirst`, `Default`, `None`, `ClusterFirstWithHostNet`.
    pub dns_policy: String,
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub dns_options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTemplate {
    pub name: String,
    pub image: String,
    pub pull_policy: PullPolicy,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    pub env_from: Vec<EnvFrom>,
    pub env: Vec<EnvTemplate>,
    pub ports: Vec<ContainerPort>,
    pub mounts: Vec<MountTemplate>,
    pub resources: Resources,
    pub liveness: Option<Probe>,
    pub readiness: Option<Probe>,
    pub startup: Option<Probe>,
    pub post_start: Option<Handler>,
    pub pre_stop: Option<Handler>,
    pub security: ContainerSecurity,
    pub stdin: bool,
    pub tty: bool,
    pub sidecar: bool,
    pub termination_message_path: String,
    pub termination_message_from_logs: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountTemplate {
    pub volume: String,
    pub path: String,
    pub sub_path: Option<String>,
    /// With `$(VAR)` in it; decided like an env value.
    pub sub_path_expr: Option<String>,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvTemplate {
    pub name: String,
    pub value: EnvSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvSource {
    /// May contain `$(VAR)` and `$$`.
    Literal(String),
    ConfigMapKey {
        name: String,
        key: String,
        optional: bool,
    },
    SecretKey {
        name: String,
        key: String,
        optional: bool,
    },
    Downward(DownwardField),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFrom {
    pub prefix: String,
    pub source: ConfigRef,
    pub optional: bool,
}

/// A ConfigMap or a Secret of the pod's own namespace. Written as one string, `ConfigMap/name`:
/// it is the key of maps, and JSON has no other keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ConfigRef {
    ConfigMap(String),
    Secret(String),
}

impl From<ConfigRef> for String {
    fn from(reference: ConfigRef) -> Self {
        match reference {
            ConfigRef::ConfigMap(name) => format!("ConfigMap/{name}"),
            ConfigRef::Secret(name) => format!("Secret/{name}"),
        }
    }
}

impl TryFrom<String> for ConfigRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("ConfigMap", name)) => Ok(Self::ConfigMap(name.to_owned())),
            Some(("Secret", name)) => Ok(Self::Secret(name.to_owned())),
            _ => Err(format!("`{text}` is neither ConfigMap/name nor Secret/name")),
        }
    }
}

/// A value that the pod learns about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownwardField {
    /// `metadata.name`, `status.podIP`, `metadata.labels['x']`, …
    Field(String),
    /// `limits.cpu`, … of a container, divided and rounded up.
    Resource { container: Option<String>, resource: String, divisor: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeTemplate {
    pub name: String,
    pub source: VolumeTemplateSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeTemplateSource {
    EmptyDir {
        memory: bool,
        size_limit_bytes: Option<u64>,
    },
    HostPath {
        path: String,
        kind: HostPathKind,
    },
    Claim {
        name: String,
        read_only: bool,
    },
    /// configMap, secret, downwardAPI and projected volumes.
    Projected {
        default_mode: u32,
        sources: Vec<Projection>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Projection {
    Config {
        source: ConfigRef,
        /// `None`: every key, under its own name.
        items: Option<Vec<ProjectedKey>>,
        optional: bool,
    },
    Downward {
        path: String,
        mode: Option<u32>,
        field: DownwardField,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectedKey {
    pub key: String,
    pub path: String,
    pub mode: Option<u32>,
}

/// The content of one ConfigMap or Secret: bytes in base64, under sorted keys.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigContent {
    pub entries: BTreeMap<String, String>,
    /// Which of them are a ConfigMap's `binaryData`: only ever files.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub binary: BTreeSet<String>,
}

impl std::fmt::Debug for ConfigContent {
    /// Keys only: the values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl PodTemplate {
    /// The digest by which two templates are the same revision.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a template has only string keys"))
    }

    /// Init containers first, in order.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerTemplate> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// The claims that the pod mounts.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeTemplateSource::Claim { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Every ConfigMap and Secret whose content the pod runs with, sorted, each once.
    pub fn configs(&self) -> Vec<ConfigRef> {
        let env = self.all_containers().flat_map(|container| {
            let from = container.env_from.iter().map(|from| from.source.clone());
            let keys = container.env.iter().filter_map(|env| match &env.value {
                EnvSource::ConfigMapKey { name, .. } => Some(ConfigRef::ConfigMap(name.clone())),
                EnvSource::SecretKey { name, .. } => Some(ConfigRef::Secret(name.clone())),
                EnvSource::Literal(_) | EnvSource::Downward(_) => None,
            });
            from.chain(keys)
        });
        let files = self.volumes.iter().flat_map(|volume| match &volume.source {
            VolumeTemplateSource::Projected { sources, .. } => sources.as_slice(),
            _ => &[],
        });
        let files = files.filter_map(|projection| match projection {
            Projection::Config { source, .. } => Some(source.clone()),
            Projection::Downward { .. } => None,
        });
        let mut configs: Vec<_> = env.chain(files).collect();
        configs.sort();
        configs.dedup();
        configs
    }
}

//! A pod, fully decided: nothing in here is looked up, defaulted or chosen by the agent.
//!
//! Durations end in their unit. Where a field has Kubernetes' name it has Kubernetes' meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    pub hostname: String,
    /// What follows the hostname in its whole name; `None`: it has no such name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Assigned by the plan from the node's pod range; `None` on the host's network.
    pub address: Option<Ipv4Addr>,
    #[serde(default)]
    pub host_network: bool,
    #[serde(default)]
    pub host_pid: bool,
    #[serde(default)]
    pub host_ipc: bool,
    #[serde(default)]
    pub share_process_namespace: bool,
    pub dns: Dns,
    #[serde(default)]
    pub host_aliases: Vec<HostAlias>,
    /// In order; those with `sidecar` keep running.
    #[serde(default)]
    pub init_containers: Vec<ContainerSpec>,
    pub containers: Vec<ContainerSpec>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    pub restart_policy: RestartPolicy,
    pub termination_grace_seconds: u32,
    /// Counted from the pod's start; when it passes, the pod fails with `DeadlineExceeded`.
    #[serde(default)]
    pub active_deadline_seconds: Option<u32>,
    #[serde(default)]
    pub security: PodSecurity,
    /// From the pod's imagePullSecrets. The node's own logins are tried as well.
    #[serde(default)]
    pub registry_logins: Vec<RegistryLogin>,
    /// The pod may be moved while its node is cut off: counted from when the agent sent its last
    /// request that was answered, the agent stops it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_after_seconds: Option<u32>,
}

impl PodSpec {
    /// Init containers first, in order.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init_containers.iter().chain(&self.containers)
    }

    pub fn container(&self, name: &str) -> Option<&ContainerSpec> {
        self.all_containers().find(|container| container.name == name)
    }

    /// The digest of the spec's canonical JSON (fields in declaration order, maps sorted).
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a PodSpec has only string keys"))
    }
}

/// What goes into the pod's `/etc/resolv.conf`. Empty `nameservers` = the host's own file, unless
/// the cluster's server is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// The node's server for the cluster's names comes first, and the host's search domains come
    /// after `searches`. Where the node can't have such a server, the host's own is used.
    #[serde(default)]
    pub cluster: bool,
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostAlias {
    pub ip: String,
    pub hostnames: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    pub pull_policy: PullPolicy,
    /// Kubernetes' `command`: replaces the image's entrypoint when not empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Kubernetes' `args`: replaces the image's command when not empty.
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub working_dir: Option<String>,
    #[serde(default)]
    pub env: Vec<EnvVar>,
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub liveness: Option<Probe>,
    #[serde(default)]
    pub readiness: Option<Probe>,
    #[serde(default)]
    pub startup: Option<Probe>,
    #[serde(default)]
    pub post_start: Option<Handler>,
    #[serde(default)]
    pub pre_stop: Option<Handler>,
    #[serde(default)]
    pub security: ContainerSecurity,
    #[serde(default)]
    pub stdin: bool,
    #[serde(default)]
    pub tty: bool,
    /// An init container with restartPolicy Always.
    #[serde(default)]
    pub sidecar: bool,
    /// The file that the container may leave its last words in; read when it ends.
    #[serde(default = "default_termination_message_path")]
    pub termination_message_path: String,
    /// Fall back on the log's tail when that file is empty and the container failed.
    #[serde(default)]
    pub termination_message_from_logs: bool,
}

fn default_termination_message_path() -> String {
    "/dev/termination-log".to_owned()
}

/// One environment variable. The value may come from a Secret, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerPort {
    #[serde(default)]
    pub name: Option<String>,
    pub port: u16,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    pub host_port: Option<u16>,
    #[serde(default)]
    pub host_ip: Option<String>,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// The name of one of the pod's volumes.
    pub volume: String,
    pub path: String,
    #[serde(default)]
    pub sub_path: Option<String>,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    #[serde(default)]
    pub cpu_request_millis: Option<u64>,
    #[serde(default)]
    pub cpu_limit_millis: Option<u64>,
    #[serde(default)]
    pub memory_request_bytes: Option<u64>,
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    pub handler: Handler,
    pub initial_delay_seconds: u32,
    pub period_seconds: u32,
    pub timeout_seconds: u32,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

/// What a probe or a lifecycle hook does. Ports are numbers by now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Handler {
    Exec {
        command: Vec<String>,
    },
    Http {
        host: Option<String>,
        port: u16,
        path: String,
        https: bool,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: Option<String>,
        port: u16,
    },
    Sleep {
        seconds: u32,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodSecurity {
    #[serde(default)]
    pub fs_group: Option<i64>,
    #[serde(default)]
    pub supplemental_groups: Vec<i64>,
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

/// The pod's and the container's securityContext, already merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerSecurity {
    #[serde(default)]
    pub privileged: bool,
    #[serde(default)]
    pub run_as_user: Option<i64>,
    #[serde(default)]
    pub run_as_group: Option<i64>,
    #[serde(default)]
    pub run_as_non_root: bool,
    #[serde(default)]
    pub read_only_root: bool,
    #[serde(default)]
    pub allow_privilege_escalation: Option<bool>,
    #[serde(default)]
    pub add_capabilities: Vec<String>,
    #[serde(default)]
    pub drop_capabilities: Vec<String>,
    /// `RuntimeDefault`, `Unconfined` or `Localhost/<file>`.
    #[serde(default)]
    pub seccomp: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    pub registry: String,
    pub username: String,
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.username, self.registry)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    EmptyDir {
        memory: bool,
        size_limit_bytes: Option<u64>,
    },
    /// Subject to the node's own policy.
    HostPath {
        path: String,
        kind: HostPathKind,
    },
    /// From ConfigMaps, Secrets, the downward API and projections of them.
    Files {
        files: Vec<File>,
        /// Kept out of the disk's reach where the node can (tmpfs).
        secret: bool,
    },
    /// A provisioned claim: a Docker volume, made on first use, removed only by an explicit order.
    Docker {
        volume: String,
        driver: String,
        options: BTreeMap<String, String>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostPathKind {
    /// No check; Docker's bind would create a folder, so the agent creates it.
    #[default]
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

/// A file of a volume. It may come from a Secret, so `Debug` shows no content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Relative to the volume's root, with no `..` in it.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Base64.
    pub content: String,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:o})", self.path, self.mode)
    }
}

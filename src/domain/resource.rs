//! One object of a manifest, lowered: the small types that decisions are made from, the places
//! of its fields, and the original for showing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use kgit_protocol::directory::TrafficPolicy;
use kgit_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::domain::autoscaling::{AutoscalerSpec, DisruptionBudgetSpec, PriorityClassSpec};
use crate::domain::diagnostic::Place;
use crate::domain::key::ObjectKey;
use crate::domain::manifest::Manifest;
use crate::domain::selector::{Labels, NodeTerm, Selector};
use crate::domain::template::{ConfigContent, PodTemplate};
use crate::domain::workload::{CronJobSpec, DaemonSetSpec, FailureRule, StatefulSetSpec};

/// The storage class that is there without a manifest, and the default one unless a manifest
/// says otherwise: Docker volumes on the node that the pod is placed on.
pub const BUILT_IN_CLASS: &str = "kgit-local";
/// What provisions the volumes of that class.
pub const PROVISIONER: &str = "kgit.dev/docker-volume";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub key: ObjectKey,
    pub labels: Labels,
    pub annotations: Labels,
    pub spec: Spec,
    /// Where its document starts.
    pub place: Place,
    pub references: Vec<Reference>,
    /// The manifest as it was written; `status` and server-side metadata dropped. For
    /// showing and for naming changed fields, never for deciding.
    pub manifest: Manifest,
    /// Of `manifest`: two resources with one digest say the same.
    pub digest: Digest,
    /// Known while the file is at hand; not recorded.
    #[serde(skip)]
    pub fields: Arc<FieldPlaces>,
}

/// Where each field of a manifest stands. Paths are JSON pointers (`/spec/replicas`).
///
/// A manifest has dozens of fields and a repo thousands of manifests, so the pointers themselves
/// are not kept: a field is found by the hash of its pointer. Two of one object's pointers with
/// one hash (chances of 1 in 2^64 a pair) would share a place, and nothing else depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPlaces {
    /// Sorted by hash: `(hash, line, column)`.
    places: Box<[(u64, u32, u32)]>,
}

impl FieldPlaces {
    /// The place of the field, or of the nearest parent that has one.
    pub fn nearest(&self, pointer: &str) -> Option<(u32, u32)> {
        let mut pointer = pointer;
        loop {
            let hash = pointer_hash(pointer);
            if let Ok(at) = self.places.binary_search_by_key(&hash, |place| place.0) {
                let (_, line, column) = self.places[at];
                return Some((line, column));
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

impl<'p> FromIterator<(&'p str, (u32, u32))> for FieldPlaces {
    fn from_iter<I: IntoIterator<Item = (&'p str, (u32, u32))>>(fields: I) -> Self {
        fields.into_iter().map(|(pointer, place)| (pointer_hash(pointer), place)).collect()
    }
}

impl FromIterator<(u64, (u32, u32))> for FieldPlaces {
    /// By [`pointer_hash`].
    fn from_iter<I: IntoIterator<Item = (u64, (u32, u32))>>(fields: I) -> Self {
        let fields = fields.into_iter().map(|(hash, (line, column))| (hash, line, column));
        let mut places: Vec<_> = fields.collect();
        places.sort_unstable();
        Self { places: places.into_boxed_slice() }
    }
}

/// What a field's pointer is known by in [`FieldPlaces`]: FNV-1a, the same on every machine.
pub fn pointer_hash(pointer: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    pointer.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// The annotations that kgit acts on.
pub mod annotation {
    /// `"false"`: a changed ConfigMap or Secret does not roll the pods.
    pub const ROLL_ON_CONFIG: &str = "kgit.dev/roll-on-config";
    /// `Kind/name` or `Kind/namespace/name`, comma-separated: wait until these are healthy.
    pub const DEPENDS_ON: &str = "kgit.dev/depends-on";
    /// Of a pod template: seconds after which a node that is cut off stops the pod, so that it can
    /// be replaced elsewhere though it must not run twice.
    pub const FENCE_AFTER: &str = "kgit.dev/fence-after-seconds";
    /// `"false"`: never removed because its manifest is gone.
    pub const PRUNE: &str = "kgit.dev/prune";
    /// Those that kgit acts on, and those that it writes and that may be copied from what it shows.
    pub const ALL: [&str; 9] = [
        ROLL_ON_CONFIG,
        DEPENDS_ON,
        PRUNE,
        FENCE_AFTER,
        "kgit.dev/sync-wave",
        "kgit.dev/hook",
        "kgit.dev/hook-delete-policy",
        "kgit.dev/commit",
        "kgit.dev/source",
    ];
    /// `Prune=false` among comma-separated options means the same.
    pub const ARGO_SYNC_OPTIONS: &str = "argocd.argoproj.io/sync-options";
}

/// A shorter [`annotation::FENCE_AFTER`] would stop pods because of a restart of the master.
pub const LEAST_FENCE_SECONDS: u32 = 300;

/// "This object needs that one", with the field that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub to: ObjectKey,
    pub kind: ReferenceKind,
    /// JSON pointer of the field.
    pub field: String,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReferenceKind {
    /// Must exist (and, for a claim, be bindable) before the object's pods start.
    Needs,
    /// As `Needs`, but may be absent (`optional: true`, a service account's secret, …).
    Optional,
    /// `kgit.dev/depends-on`: must be healthy first.
    DependsOn,
    /// An autoscaler decides this object's number of pods.
    Scales,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spec {
    Namespace,
    StorageClass(StorageClassSpec),
    PersistentVolume(PersistentVolumeSpec),
    ConfigMap(ConfigContent),
    Secret(SecretSpec),
    PersistentVolumeClaim(ClaimSpec),
    Service(ServiceSpec),
    Pod(Arc<PodTemplate>),
    /// Of a ReplicationController too.
    ReplicaSet(ReplicaSetSpec),
    Deployment(DeploymentSpec),
    StatefulSet(StatefulSetSpec),
    DaemonSet(DaemonSetSpec),
    Job(JobSpec),
    CronJob(CronJobSpec),
    Autoscaler(AutoscalerSpec),
    DisruptionBudget(DisruptionBudgetSpec),
    PriorityClass(PriorityClassSpec),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageClassSpec {
    pub provisioner: String,
    pub is_default: bool,
    pub parameters: BTreeMap<String, String>,
    pub reclaim: ReclaimPolicy,
    pub binding: BindingMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindingMode {
    Immediate,
    WaitForFirstConsumer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReclaimPolicy {
    Retain,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AccessMode {
    ReadWriteOnce,
    ReadOnlyMany,
    ReadWriteMany,
    ReadWriteOncePod,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentVolumeSpec {
    pub capacity_bytes: u64,
    pub access_modes: Vec<AccessMode>,
    /// Empty: belongs to no class.
    pub class: String,
    pub reclaim: ReclaimPolicy,
    pub block: bool,
    /// Pre-bound: `(namespace, name)` of a claim.
    pub claim: Option<(String, String)>,
    pub source: PersistentSource,
    /// Any of these must match the node (`nodeAffinity.required`); empty: any node.
    pub node_affinity: Vec<NodeTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PersistentSource {
    /// hostPath and local volumes.
    HostPath { path: String, kind: kgit_protocol::pod::HostPathKind },
    /// An NFS export, mounted through Docker's `local` driver.
    Nfs { server: String, path: String, read_only: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    pub request_bytes: u64,
    pub access_modes: Vec<AccessMode>,
    /// `None`: the default class. `Some("")`: no class.
    pub class: Option<String>,
    pub volume_name: Option<String>,
    pub selector: Option<Selector>,
    pub block: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    pub kind: String,
    pub content: ConfigContent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    pub kind: String,
    /// `None`: no selector, so no endpoints of kgit's making.
    pub selector: Option<Labels>,
    pub ports: Vec<ServicePort>,
    pub headless: bool,
    /// The cluster address asked for.
    #[serde(default)]
    pub cluster_ip: Option<Ipv4Addr>,
    pub external_name: Option<String>,
    #[serde(default)]
    pub external_ips: Vec<Ipv4Addr>,
    /// `sessionAffinity: ClientIP`, and for how long.
    #[serde(default)]
    pub affinity_seconds: Option<u32>,
    #[serde(default)]
    pub publish_not_ready: bool,
    #[serde(default)]
    pub internal_traffic: TrafficPolicy,
    #[serde(default)]
    pub external_traffic: TrafficPolicy,
    /// `allocateLoadBalancerNodePorts: false`.
    #[serde(default)]
    pub without_node_ports: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    pub name: Option<String>,
    pub port: u16,
    pub protocol: kgit_protocol::pod::Protocol,
    pub target: TargetPort,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetPort {
    Number(u16),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSetSpec {
    pub replicas: u32,
    pub selector: Selector,
    pub min_ready_seconds: u32,
    pub template: Arc<PodTemplate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    pub replicas: u32,
    pub selector: Selector,
    pub template: Arc<PodTemplate>,
    pub strategy: Strategy,
    pub min_ready_seconds: u32,
    pub revision_history_limit: u32,
    pub progress_deadline_seconds: u32,
    pub paused: bool,
}

impl DeploymentSpec {
    /// How many pods a rollout may have too many and too few: ceil(%) and floor(%); both 0 → one
    /// too few; at most `replicas`. `None`: it does not roll.
    pub fn bounds(&self) -> Option<(u32, u32)> {
        let Strategy::RollingUpdate { max_surge, max_unavailable } = self.strategy else {
            return None;
        };
        let surge = max_surge.of_rounding_up(self.replicas);
        let unavailable = match max_unavailable.of_rounding_down(self.replicas) {
            0 if surge == 0 => 1,
            number => number,
        };
        Some((surge, unavailable.min(self.replicas)))
    }

    /// With how many pods it counts as available. Source: `MinAvailable` of upstream's
    /// `deployment_util.go`.
    pub fn least_available(&self) -> u32 {
        self.replicas - self.bounds().map_or(0, |(_, unavailable)| unavailable)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    Recreate,
    RollingUpdate { max_surge: IntOrPercent, max_unavailable: IntOrPercent },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntOrPercent {
    Int(u32),
    Percent(u32),
}

impl IntOrPercent {
    /// The number it stands for, of `total`, a fraction rounded up.
    pub fn of_rounding_up(self, total: u32) -> u32 {
        match self {
            Self::Int(number) => number,
            Self::Percent(percent) => scaled(percent, total, 99),
        }
    }

    /// The number it stands for, of `total`, a fraction rounded down.
    pub fn of_rounding_down(self, total: u32) -> u32 {
        match self {
            Self::Int(number) => number,
            Self::Percent(percent) => scaled(percent, total, 0),
        }
    }
}

fn scaled(percent: u32, total: u32, add: u64) -> u32 {
    u32::try_from((u64::from(percent) * u64::from(total) + add) / 100).unwrap_or(u32::MAX)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// `None` with `parallelism`: any success completes (a work queue).
    pub completions: Option<u32>,
    pub parallelism: u32,
    pub backoff_limit: u32,
    /// Of an Indexed job: how often one index may fail.
    #[serde(default)]
    pub backoff_limit_per_index: Option<u32>,
    /// More failed indexes than this end the job.
    #[serde(default)]
    pub max_failed_indexes: Option<u32>,
    /// `podFailurePolicy`: the first rule that fits a failed pod says what its failure means.
    #[serde(default)]
    pub failure_rules: Vec<FailureRule>,
    pub active_deadline_seconds: Option<u32>,
    pub ttl_seconds_after_finished: Option<u32>,
    pub indexed: bool,
    pub suspend: bool,
    pub template: Arc<PodTemplate>,
}

impl Resource {
    /// The template of the pods that it starts, if it starts any.
    pub fn template(&self) -> Option<&Arc<PodTemplate>> {
        match &self.spec {
            Spec::Pod(template) => Some(template),
            Spec::ReplicaSet(spec) => Some(&spec.template),
            Spec::Deployment(spec) => Some(&spec.template),
            Spec::StatefulSet(spec) => Some(&spec.template),
            Spec::DaemonSet(spec) => Some(&spec.template),
            Spec::Job(spec) => Some(&spec.template),
            Spec::CronJob(spec) => Some(&spec.job.template),
            Spec::Namespace
            | Spec::StorageClass(_)
            | Spec::PersistentVolume(_)
            | Spec::ConfigMap(_)
            | Spec::Secret(_)
            | Spec::PersistentVolumeClaim(_)
            | Spec::Service(_)
            | Spec::Autoscaler(_)
            | Spec::DisruptionBudget(_)
            | Spec::PriorityClass(_) => None,
        }
    }

    /// False where an annotation forbids removal with the manifest.
    pub fn may_be_pruned(&self) -> bool {
        let forbidden = self.annotations.get(annotation::PRUNE).is_some_and(|v| v == "false")
            || self
                .annotations
                .get(annotation::ARGO_SYNC_OPTIONS)
                .is_some_and(|v| v.split(',').any(|option| option.trim() == "Prune=false"));
        !forbidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surge_rounds_up_and_unavailable_rounds_down() {
        let quarter = IntOrPercent::Percent(25);
        assert_eq!((quarter.of_rounding_up(3), quarter.of_rounding_down(3)), (1, 0));
        assert_eq!((quarter.of_rounding_up(10), quarter.of_rounding_down(10)), (3, 2));
        assert_eq!((quarter.of_rounding_up(0), quarter.of_rounding_down(0)), (0, 0));
    }

    #[test]
    fn a_field_without_a_place_has_its_parents() {
        let fields = FieldPlaces::from_iter([("/spec", (3, 1)), ("/kind", (2, 1))]);
        assert_eq!(fields.nearest("/spec/replicas"), Some((3, 1)));
        assert_eq!(fields.nearest("/data/x"), None);
    }
}

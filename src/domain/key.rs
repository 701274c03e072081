//! What an object is called: kind, namespace, name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The kinds that kgit records. The order is the order in which independent objects are listed:
/// what others stand on comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Namespace,
    PriorityClass,
    StorageClass,
    PersistentVolume,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Service,
    Pod,
    ReplicationController,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    ControllerRevision,
    Node,
}

impl Kind {
    pub const ALL: [Self; 20] = [
        Self::Namespace,
        Self::PriorityClass,
        Self::StorageClass,
        Self::PersistentVolume,
        Self::ConfigMap,
        Self::Secret,
        Self::PersistentVolumeClaim,
        Self::Service,
        Self::Pod,
        Self::ReplicationController,
        Self::ReplicaSet,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::CronJob,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
        Self::ControllerRevision,
        Self::Node,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::PriorityClass => "PriorityClass",
            Self::StorageClass => "StorageClass",
            Self::PersistentVolume => "PersistentVolume",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::ReplicationController => "ReplicationController",
            Self::ReplicaSet => "ReplicaSet",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::ControllerRevision => "ControllerRevision",
            Self::Node => "Node",
        }
    }

    /// The apiVersion that kgit reads and shows.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Namespace
            | Self::PersistentVolume
            | Self::ConfigMap
            | Self::Secret
            | Self::PersistentVolumeClaim
            | Self::Service
            | Self::Pod
            | Self::ReplicationController
            | Self::Node => "v1",
            Self::PriorityClass => "scheduling.k8s.io/v1",
            Self::StorageClass => "storage.k8s.io/v1",
            Self::ReplicaSet
            | Self::Deployment
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::ControllerRevision => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
            Self::HorizontalPodAutoscaler => "autoscaling/v2",
            Self::PodDisruptionBudget => "policy/v1",
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Self::Namespace
                | Self::PriorityClass
                | Self::StorageClass
                | Self::PersistentVolume
                | Self::Node
        )
    }

    /// Holds data that a disappearing manifest must never take with it.
    pub fn holds_data(self) -> bool {
        matches!(self, Self::PersistentVolume | Self::PersistentVolumeClaim)
    }

    /// Starts pods.
    pub fn is_workload(self) -> bool {
        matches!(
            self,
            Self::Pod
                | Self::ReplicationController
                | Self::ReplicaSet
                | Self::Deployment
                | Self::StatefulSet
                | Self::DaemonSet
                | Self::Job
                | Self::CronJob
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Names one object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    pub kind: Kind,
    /// Empty for kinds that have none.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The least of all; no object has it.
    pub fn first() -> Self {
        let nothing: Arc<str> = Arc::default();
        Self { kind: Kind::ALL[0], namespace: Arc::clone(&nothing), name: nothing }
    }

    /// The namespace is dropped where the kind has none.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Another object of the same namespace.
    #[must_use]
    pub fn sibling(&self, kind: Kind, name: &str) -> Self {
        Self::new(kind, &self.namespace, name)
    }

    /// Reads what [`fmt::Display`] writes: `Kind/namespace/name` or `Kind/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        let kind: Kind = kind.parse().ok()?;
        match (kind.is_namespaced(), rest.split_once('/')) {
            (true, Some((namespace, name))) => Some(Self::new(kind, namespace, name)),
            (false, None) => Some(Self::new(kind, "", rest)),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

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
    StorageClass,
    PersistentVolume,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Service,
    Pod,
    ReplicaSet,
    Deployment,
    Job,
    Node,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Namespace,
        Self::StorageClass,
        Self::PersistentVolume,
        Self::ConfigMap,
        Self::Secret,
        Self::PersistentVolumeClaim,
        Self::Service,
        Self::Pod,
        Self::ReplicaSet,
        Self::Deployment,
        Self::Job,
        Self::Node,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::StorageClass => "StorageClass",
            Self::PersistentVolume => "PersistentVolume",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::ReplicaSet => "ReplicaSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
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
            | Self::Node => "v1",
            Self::StorageClass => "storage.k8s.io/v1",
            Self::ReplicaSet | Self::Deployment => "apps/v1",
            Self::Job => "batch/v1",
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::StorageClass | Self::PersistentVolume | Self::Node)
    }

    /// Holds data that a disappearing manifest must never take with it.
    pub fn holds_data(self) -> bool {
        matches!(self, Self::PersistentVolume | Self::PersistentVolumeClaim)
    }

    /// Starts pods.
    pub fn is_workload(self) -> bool {
        matches!(self, Self::Pod | Self::ReplicaSet | Self::Deployment | Self::Job)
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

//! The resource types that are served: their names in paths, on command lines and in discovery.

use crate::domain::key::Kind;

/// What a resource type shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// Rows of the World.
    Recorded(Kind),
    /// What is behind a service, in the older form.
    Endpoints,
    EndpointSlice,
    /// When a node was last heard of.
    Lease,
    /// What was told about an object.
    Event,
    /// What nodes use, of `metrics.k8s.io`.
    NodeMetrics,
    /// What pods use.
    PodMetrics,
    /// Whether the master's parts work.
    ComponentStatus,
    /// One run of the loop, from the audit log.
    Reconcile,
    /// What is waited for, and deletions that are held.
    Plan,
    /// Where manifests come from.
    Source,
}

#[derive(Debug, PartialEq, Eq)]
pub struct ResourceType {
    pub noun: Noun,
    /// Empty: the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short: &'static [&'static str],
    pub namespaced: bool,
    /// Listed by `get all`.
    pub in_all: bool,
}

const fn core(
    kind: Kind,
    names: (&'static str, &'static str),
    short: &'static [&'static str],
) -> ResourceType {
    recorded(kind, "", names, short)
}

const fn recorded(
    kind: Kind,
    group: &'static str,
    (plural, singular): (&'static str, &'static str),
    short: &'static [&'static str],
) -> ResourceType {
    let namespaced = !matches!(
        kind,
        Kind::Namespace
            | Kind::PriorityClass
            | Kind::StorageClass
            | Kind::PersistentVolume
            | Kind::Node
    );
    let in_all = matches!(
        kind,
        Kind::Pod
            | Kind::ReplicationController
            | Kind::Service
            | Kind::DaemonSet
            | Kind::Deployment
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::HorizontalPodAutoscaler
            | Kind::CronJob
            | Kind::Job
    );
    let name = match kind {
        Kind::Namespace => "Namespace",
        Kind::PriorityClass => "PriorityClass",
        Kind::ReplicationController => "ReplicationController",
        Kind::StatefulSet => "StatefulSet",
        Kind::DaemonSet => "DaemonSet",
        Kind::CronJob => "CronJob",
        Kind::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        Kind::PodDisruptionBudget => "PodDisruptionBudget",
        Kind::ControllerRevision => "ControllerRevision",
        Kind::StorageClass => "StorageClass",
        Kind::PersistentVolume => "PersistentVolume",
        Kind::ConfigMap => "ConfigMap",
        Kind::Secret => "Secret",
        Kind::PersistentVolumeClaim => "PersistentVolumeClaim",
        Kind::Service => "Service",
        Kind::Pod => "Pod",
        Kind::ReplicaSet => "ReplicaSet",
        Kind::Deployment => "Deployment",
        Kind::Job => "Job",
        Kind::Node => "Node",
    };
    ResourceType {
        noun: Noun::Recorded(kind),
        group,
        version: "v1",
        kind: name,
        plural,
        singular,
        short,
        namespaced,
        in_all,
    }
}

/// Of Kubernetes' own, without a manifest and a row of its own.
const fn derived(
    noun: Noun,
    group: &'static str,
    kind: &'static str,
    (plural, singular): (&'static str, &'static str),
    short: &'static [&'static str],
) -> ResourceType {
    ResourceType {
        noun,
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short,
        namespaced: true,
        in_all: false,
    }
}

const fn own(
    noun: Noun,
    kind: &'static str,
    (plural, singular): (&'static str, &'static str),
) -> ResourceType {
    ResourceType {
        noun,
        group: "kgit.dev",
        version: "v1",
        kind,
        plural,
        singular,
        short: &[],
        namespaced: false,
        in_all: false,
    }
}

/// In the order in which discovery lists them.
pub static SERVED: [ResourceType; 30] = [
    ResourceType {
        namespaced: false,
        ..derived(
            Noun::ComponentStatus,
            "",
            "ComponentStatus",
            ("componentstatuses", "componentstatus"),
            &["cs"],
        )
    },
    core(Kind::ConfigMap, ("configmaps", "configmap"), &["cm"]),
    derived(Noun::Endpoints, "", "Endpoints", ("endpoints", "endpoints"), &["ep"]),
    derived(Noun::Event, "", "Event", ("events", "event"), &["ev"]),
    core(Kind::Namespace, ("namespaces", "namespace"), &["ns"]),
    core(Kind::Node, ("nodes", "node"), &["no"]),
    core(
        Kind::PersistentVolumeClaim,
        ("persistentvolumeclaims", "persistentvolumeclaim"),
        &["pvc"],
    ),
    core(Kind::PersistentVolume, ("persistentvolumes", "persistentvolume"), &["pv"]),
    core(Kind::Pod, ("pods", "pod"), &["po"]),
    core(Kind::ReplicationController, ("replicationcontrollers", "replicationcontroller"), &["rc"]),
    core(Kind::Secret, ("secrets", "secret"), &[]),
    core(Kind::Service, ("services", "service"), &["svc"]),
    recorded(Kind::ControllerRevision, "apps", ("controllerrevisions", "controllerrevision"), &[]),
    recorded(Kind::DaemonSet, "apps", ("daemonsets", "daemonset"), &["ds"]),
    recorded(Kind::Deployment, "apps", ("deployments", "deployment"), &["deploy"]),
    recorded(Kind::ReplicaSet, "apps", ("replicasets", "replicaset"), &["rs"]),
    recorded(Kind::StatefulSet, "apps", ("statefulsets", "statefulset"), &["sts"]),
    ResourceType {
        version: "v2",
        ..recorded(
            Kind::HorizontalPodAutoscaler,
            "autoscaling",
            ("horizontalpodautoscalers", "horizontalpodautoscaler"),
            &["hpa"],
        )
    },
    recorded(Kind::CronJob, "batch", ("cronjobs", "cronjob"), &["cj"]),
    recorded(Kind::Job, "batch", ("jobs", "job"), &[]),
    derived(Noun::Lease, "coordination.k8s.io", "Lease", ("leases", "lease"), &[]),
    derived(
        Noun::EndpointSlice,
        "discovery.k8s.io",
        "EndpointSlice",
        ("endpointslices", "endpointslice"),
        &[],
    ),
    recorded(
        Kind::PodDisruptionBudget,
        "policy",
        ("poddisruptionbudgets", "poddisruptionbudget"),
        &["pdb"],
    ),
    recorded(
        Kind::PriorityClass,
        "scheduling.k8s.io",
        ("priorityclasses", "priorityclass"),
        &["pc"],
    ),
    recorded(Kind::StorageClass, "storage.k8s.io", ("storageclasses", "storageclass"), &["sc"]),
    ResourceType {
        namespaced: false,
        version: "v1beta1",
        ..derived(Noun::NodeMetrics, "metrics.k8s.io", "NodeMetrics", ("nodes", "node"), &[])
    },
    ResourceType {
        version: "v1beta1",
        ..derived(Noun::PodMetrics, "metrics.k8s.io", "PodMetrics", ("pods", "pod"), &[])
    },
    own(Noun::Plan, "Plan", ("plans", "plan")),
    own(Noun::Reconcile, "Reconcile", ("reconciles", "reconcile")),
    own(Noun::Source, "Source", ("sources", "source")),
];

impl ResourceType {
    /// `apps/v1`, and `v1` for the core group.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of its group and version.
    pub fn root(&self) -> String {
        match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// The path that lists it: in one namespace, or everywhere.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = self.root();
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{root}/namespaces/{namespace}/{}", self.plural)
            }
            _ => format!("{root}/{}", self.plural),
        }
    }
}

/// The type behind a path's parts.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static ResourceType> {
    SERVED.iter().find(|ty| (ty.group, ty.version, ty.plural) == (group, version, plural))
}

/// The type of a kind that the World records.
pub fn of_kind(kind: Kind) -> &'static ResourceType {
    let noun = Noun::Recorded(kind);
    SERVED.iter().find(|ty| ty.noun == noun).expect("every kind is served; a test holds it")
}

/// The type that somebody means by a word: `po`, `pod`, `Pods`, `deployments.apps`.
pub fn by_word(word: &str) -> Option<&'static ResourceType> {
    let word = word.to_lowercase();
    let (name, group) = word.split_once('.').unwrap_or((&word, ""));
    SERVED.iter().find(|ty| {
        let named = ty.plural == name || ty.singular == name || ty.short.contains(&name);
        let group_fits = match (group, ty.group) {
            ("", _) => true,
            // `v1.apps`, as `deployments.v1.apps` leaves it, names the version as well.
            (given, own) => given == own || given.strip_prefix("v1.") == Some(own),
        };
        named && group_fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_world_is_served_under_its_own_api_version() {
        for kind in Kind::ALL {
            let ty = of_kind(kind);
            assert_eq!((ty.kind, ty.api_version()), (kind.as_str(), kind.api_version().into()));
            assert_eq!(ty.namespaced, kind.is_namespaced());
        }
    }

    #[test]
    fn words_find_the_type_that_people_mean() {
        let kind = |word| by_word(word).map(|ty| ty.kind);
        assert_eq!(kind("po"), Some("Pod"));
        assert_eq!(kind("Deployments.apps"), Some("Deployment"));
        assert_eq!(kind("deployments.v1.apps"), Some("Deployment"));
        assert_eq!(kind("reconciles.kgit.dev"), Some("Reconcile"));
        assert_eq!(kind("pods.apps"), None);
        assert_eq!(kind("ingress"), None);
    }
}

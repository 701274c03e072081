//! One object: from its part of the tree to a [`Resource`].

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler as AutoscalerV1;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    Secret, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::domain::diagnostic::{Place, Severity};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::manifest::Manifest;
use crate::domain::resource::{Reference, Resource, Spec};
use crate::domain::stage;
use crate::manifest::decode::decode;
use crate::manifest::findings::Findings;
use crate::manifest::json;
use crate::manifest::lower::meta::{DEFAULT_NAMESPACE, Meta, metadata};
use crate::manifest::lower::pod::Restarts;
use crate::manifest::lower::{
    Object, autoscaler, config, daemon_set, job, pod, policy, service, stateful_set, storage,
    workload,
};
use crate::manifest::path::Path;
use crate::manifest::tree::{Node, Span};

/// Keys and values of one object. Kubernetes stores 1.5 MiB at most, which holds fewer in practice;
/// the published types take a hundred times the room of their text.
const MAX_VALUES: usize = 50_000;

/// A document that names an object of kgit's.
#[derive(Clone, Debug)]
pub struct Defined {
    pub key: ObjectKey,
    pub place: Place,
    /// `None` if there are errors in it.
    pub resource: Option<Arc<Resource>>,
}

/// Reads an object of a kind that kgit runs. `None` if it can't be told which object it is.
pub fn object<'t>(root: &Node<'t>, kind: Kind, findings: &mut Findings<'t>) -> Option<Defined> {
    let before = findings.errors();
    let key = key(root, kind, findings)?;
    let place = findings.place(root.span);
    if root.values() > MAX_VALUES {
        let message = format!("this {kind} has more than {MAX_VALUES} values");
        let hint = Some("Kubernetes would not store it either; split it up".to_owned());
        findings.push(Severity::Error, header(root), "too-complex", message, hint);
        return Some(Defined { key, place, resource: None });
    }
    let read = spec(root, &key, findings);
    let resource = read.filter(|_| findings.errors() == before).map(|(meta, spec, references)| {
        let (manifest, fields) = json::manifest(root);
        let manifest = Manifest::of(&manifest);
        Arc::new(Resource {
            key: key.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            spec,
            place: place.clone(),
            references,
            digest: manifest.digest(),
            manifest,
            fields: Arc::new(fields),
        })
    });
    Some(Defined { key, place, resource })
}

/// The object's name and namespace, from the tree: they must be known even where the rest of the
/// document can't be read.
fn key(root: &Node<'_>, kind: Kind, findings: &mut Findings<'_>) -> Option<ObjectKey> {
    let metadata = root.get("metadata");
    let text = |key| metadata.and_then(|metadata| metadata.get(key)).and_then(Node::as_text);
    let generated = || Some(format!("{}{}", text("generateName")?, hook_suffix(metadata?)?));
    let written = text("name").filter(|name| !name.is_empty()).map(str::to_owned);
    let Some(name) = written.or_else(generated) else {
        unnamed(root, kind, findings);
        return None;
    };
    let namespace = text("namespace").filter(|namespace| !namespace.is_empty());
    Some(ObjectKey::new(kind, namespace.unwrap_or(DEFAULT_NAMESPACE), &name))
}

/// What a hook's generated name ends in. One of its runs exists at a time, so it is always the
/// same.
fn hook_suffix(metadata: &Node<'_>) -> Option<String> {
    let annotations = metadata.get("annotations")?;
    let value = |key: &str| annotations.get(key).and_then(Node::as_text);
    let written = stage::PREFIXES.iter().find_map(|it| value(&format!("{it}{}", stage::HOOK)));
    let written = written.or_else(|| value(stage::HELM_HOOK))?;
    Some(stage::parts(written).next()?.to_lowercase())
}

fn unnamed(root: &Node<'_>, kind: Kind, findings: &mut Findings<'_>) {
    let path = Path::ROOT.key("metadata");
    let name = path.key("name");
    let found = name.find(root);
    if found.complete && !found.node.is_empty() {
        let hint = Some("quote it".to_owned());
        let message = "`metadata.name` must be text";
        return findings.push(Severity::Error, found.value, "wrong-type", message, hint);
    }
    let generated = path.key("generateName").find(root).complete;
    let hint = generated.then_some(
        "`generateName` makes a new object each time; kgit needs one name, except of a hook",
    );
    let message = format!("this {kind} has no `metadata.name`");
    let span = if found.place == root.span { header(root) } else { found.place };
    findings.push(Severity::Error, span, "invalid-value", message, hint.map(str::to_owned));
}

/// Where to point at when a document as a whole is meant: its kind.
fn header(root: &Node<'_>) -> Span {
    root.entry("kind").map_or(root.span, |entry| entry.key_span)
}

type Read = (Meta, Spec, Vec<Reference>);

/// Decodes and lowers. `None` if the document is too broken for either.
fn spec<'t>(root: &Node<'t>, key: &ObjectKey, findings: &mut Findings<'t>) -> Option<Read> {
    match key.kind {
        Kind::Namespace => read(root, key, findings, |_, _: &Namespace, _| Some(Spec::Namespace)),
        Kind::StorageClass => read(root, key, findings, |object, it: &StorageClass, meta| {
            Some(Spec::StorageClass(storage::storage_class(object, it, &meta.annotations)))
        }),
        Kind::PersistentVolume => {
            read(root, key, findings, |object, it: &PersistentVolume, meta| {
                let spec = required(object, it.spec.as_ref())?;
                Some(Spec::PersistentVolume(storage::volume(object, spec, &meta.annotations)))
            })
        }
        Kind::ConfigMap => read(root, key, findings, |object, it: &ConfigMap, _| {
            Some(Spec::ConfigMap(config::config_map(object, it)))
        }),
        Kind::Secret => read(root, key, findings, |object, it: &Secret, _| {
            Some(Spec::Secret(config::secret(object, it)))
        }),
        Kind::PersistentVolumeClaim => {
            read(root, key, findings, |object, it: &PersistentVolumeClaim, meta| {
                let spec = required(object, it.spec.as_ref())?;
                Some(Spec::PersistentVolumeClaim(storage::claim(object, spec, &meta.annotations)))
            })
        }
        Kind::Service => read(root, key, findings, |object, it: &Service, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::Service(service::service(object, spec)))
        }),
        Kind::Pod => read(root, key, findings, |object, it: &Pod, _| {
            let spec = required(object, it.spec.as_ref())?;
            let path = Path::ROOT.key("spec");
            Some(Spec::Pod(Arc::new(pod::pod(object, &path, &it.metadata, spec, Restarts::Any))))
        }),
        Kind::ReplicaSet => read(root, key, findings, |object, it: &ReplicaSet, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::ReplicaSet(workload::replica_set(object, spec)))
        }),
        Kind::Deployment => read(root, key, findings, |object, it: &Deployment, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::Deployment(workload::deployment(object, spec)))
        }),
        Kind::Job => read(root, key, findings, |object, it: &Job, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::Job(job::job(object, &Path::ROOT.key("spec"), spec)))
        }),
        Kind::CronJob => read(root, key, findings, |object, it: &CronJob, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::CronJob(job::cron_job(object, &key.name, spec)))
        }),
        Kind::HorizontalPodAutoscaler if is_v1(root) => {
            read(root, key, findings, |object, it: &AutoscalerV1, _| {
                let spec = required(object, it.spec.as_ref())?;
                Some(Spec::Autoscaler(autoscaler::autoscaler_v1(object, spec)))
            })
        }
        Kind::HorizontalPodAutoscaler => {
            read(root, key, findings, |object, it: &HorizontalPodAutoscaler, _| {
                let spec = required(object, it.spec.as_ref())?;
                Some(Spec::Autoscaler(autoscaler::autoscaler(object, spec)))
            })
        }
        Kind::ReplicationController => {
            read(root, key, findings, |object, it: &ReplicationController, _| {
                let spec = required(object, it.spec.as_ref())?;
                Some(Spec::ReplicaSet(workload::replication_controller(object, spec)))
            })
        }
        Kind::StatefulSet => read(root, key, findings, |object, it: &StatefulSet, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::StatefulSet(stateful_set::stateful_set(object, &key.name, spec)))
        }),
        Kind::DaemonSet => read(root, key, findings, |object, it: &DaemonSet, _| {
            let spec = required(object, it.spec.as_ref())?;
            Some(Spec::DaemonSet(daemon_set::daemon_set(object, spec)))
        }),
        Kind::PriorityClass => read(root, key, findings, |object, it: &PriorityClass, _| {
            Some(Spec::PriorityClass(policy::priority_class(object, key, it)))
        }),
        Kind::PodDisruptionBudget => {
            read(root, key, findings, |object, it: &PodDisruptionBudget, _| {
                let spec = required(object, it.spec.as_ref())?;
                Some(Spec::DisruptionBudget(policy::disruption_budget(object, spec)))
            })
        }
        // Not among the kinds that documents are read for.
        Kind::Node | Kind::ControllerRevision => None,
    }
}

/// The older version, which knows of cpu alone.
fn is_v1(root: &Node<'_>) -> bool {
    root.get("apiVersion").and_then(Node::as_text) == Some("autoscaling/v1")
}

fn read<'t, T>(
    root: &Node<'t>,
    key: &ObjectKey,
    findings: &mut Findings<'t>,
    lower: impl FnOnce(&mut Object<'_, 't>, &T, &Meta) -> Option<Spec>,
) -> Option<Read>
where
    T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    let mut poisoned = Vec::new();
    let written: T = decode(root, findings, &mut poisoned)?;
    let namespace = key.namespace.clone();
    let references = Vec::new();
    let mut object =
        Object { root, findings, poisoned: &poisoned, references, namespace, errors: 0 };
    let meta = metadata(&mut object, key, written.metadata());
    let spec = lower(&mut object, &written, &meta);
    (object.errors == 0).then_some(())?;
    Some((meta, spec?, object.references))
}

fn required<'a, T>(object: &mut Object<'_, '_>, spec: Option<&'a T>) -> Option<&'a T> {
    if spec.is_none() {
        object.required(&Path::ROOT.key("spec"));
    }
    spec
}

//! One consistent sight of the World, and the objects that are seen in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::Usage;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::Waits;
use crate::domain::service::of_the_api;
use crate::domain::world::World;
use crate::kube::resource_type::{Noun, ResourceType};
use crate::kube::{
    autoscaler, config, cron_job, daemon_set, deployment, endpoints, event, job, lease, metrics,
    namespace, node, pod, policy, replica_set, revision, service, stateful_set, storage,
};

/// What objects are shown from.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub world: &'a World,
    pub waits: &'a Waits,
    pub now: Timestamp,
    pub secrets: SecretValues,
    pub heard: Heard<'a>,
}

/// What is known of nodes beside the World.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// When each was last heard of, since the master started.
    pub heartbeats: &'a imbl::OrdMap<NodeName, Timestamp>,
    /// How long after that it counts as lost.
    pub lease_seconds: u32,
    /// What each and its pods used last.
    pub usages: &'a imbl::OrdMap<NodeName, Arc<Usage>>,
}

/// Whether the reader may see the values of Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretValues {
    Shown,
    Masked,
}

/// An object as readers see it, `apiVersion` and `kind` included.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: ShownKey,
    /// The highest version of the rows that it is shown from.
    pub version: u64,
    pub object: Value,
}

/// Names an object within its resource type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShownKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Shown {
    /// Puts the pieces together and fills in `apiVersion` and `kind`.
    pub fn new(key: &ObjectKey, version: u64, mut object: Value) -> Self {
        object["apiVersion"] = json!(key.kind.api_version());
        object["kind"] = json!(key.kind.as_str());
        let key = ShownKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(&key.name) };
        Self { key, version, object }
    }
}

/// The rows behind a resource type, by their keys, in the order in which lists show them.
/// `None` lists every namespace. Nouns that are not of the World have none.
pub fn keys(seen: &Seen<'_>, noun: Noun, namespace: Option<&str>) -> Vec<ObjectKey> {
    let inside = |key: &&ObjectKey| namespace.is_none_or(|wanted| *key.namespace == *wanted);
    let world = seen.world;
    let objects = |kind| {
        let of_kind = move |key: &&ObjectKey| key.kind == kind;
        world.objects.keys().filter(of_kind).filter(inside).cloned().collect::<Vec<_>>()
    };
    match noun {
        Noun::Recorded(Kind::Pod) => world.pods.keys().filter(inside).cloned().collect(),
        Noun::Recorded(kind @ (Kind::ReplicaSet | Kind::ReplicationController)) => {
            let of_kind = |key: &&ObjectKey| key.kind == kind;
            world.replica_sets.keys().filter(of_kind).filter(inside).cloned().collect()
        }
        Noun::Recorded(Kind::ControllerRevision) => {
            world.revisions.keys().filter(inside).cloned().collect()
        }
        Noun::Recorded(Kind::Node) => world.nodes.keys().cloned().collect(),
        Noun::Recorded(Kind::Service) => {
            let mut all = objects(Kind::Service);
            all.extend(api_key(world).filter(|key| inside(&key)));
            all.sort();
            all
        }
        Noun::Endpoints | Noun::EndpointSlice => {
            world.services.keys().filter(inside).cloned().collect()
        }
        Noun::Recorded(Kind::Namespace) => namespace::keys(world),
        Noun::Recorded(Kind::StorageClass) => storage::class_keys(world),
        Noun::Recorded(Kind::PersistentVolume) => storage::volume_keys(world),
        Noun::Recorded(
            kind @ (Kind::ConfigMap
            | Kind::Secret
            | Kind::PersistentVolumeClaim
            | Kind::Deployment
            | Kind::Job
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::CronJob
            | Kind::HorizontalPodAutoscaler
            | Kind::PodDisruptionBudget),
        ) => objects(kind),
        Noun::Recorded(Kind::PriorityClass) => policy::class_keys(world),
        Noun::Lease => match namespace {
            None | Some(lease::NAMESPACE) => world.nodes.keys().cloned().collect(),
            Some(_) => Vec::new(),
        },
        Noun::Event => event::keys(seen, namespace),
        Noun::NodeMetrics => metrics::keys(seen, Kind::Node, namespace),
        Noun::PodMetrics => metrics::keys(seen, Kind::Pod, namespace),
        Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => Vec::new(),
    }
}

/// What is shown of the row under `key`: one object, none if there is no such row, and for
/// events as many as were told.
pub fn of_row(seen: &Seen<'_>, noun: Noun, key: &ObjectKey) -> Vec<Shown> {
    let shown = match noun {
        Noun::Recorded(kind) if kind != key.kind => None,
        Noun::Recorded(Kind::Namespace) => namespace::show(seen, key),
        Noun::Recorded(Kind::StorageClass) => storage::show_class(seen, key),
        Noun::Recorded(Kind::PersistentVolume) => storage::show_volume(seen, key),
        Noun::Recorded(Kind::PersistentVolumeClaim) => storage::show_claim(seen, key),
        Noun::Recorded(Kind::ConfigMap) => config::show_config_map(seen, key),
        Noun::Recorded(Kind::Secret) => config::show_secret(seen, key),
        Noun::Recorded(Kind::Service) => service::show(seen, key),
        Noun::Recorded(Kind::Pod) => pod::show(seen, key),
        Noun::Recorded(Kind::ReplicaSet | Kind::ReplicationController) => {
            replica_set::show(seen, key)
        }
        Noun::Recorded(Kind::StatefulSet) => stateful_set::show(seen, key),
        Noun::Recorded(Kind::DaemonSet) => daemon_set::show(seen, key),
        Noun::Recorded(Kind::ControllerRevision) => revision::show(seen, key),
        Noun::Recorded(Kind::PriorityClass) => policy::show_class(seen, key),
        Noun::Recorded(Kind::PodDisruptionBudget) => policy::show_budget(seen, key),
        Noun::Recorded(Kind::Deployment) => deployment::show(seen, key),
        Noun::Recorded(Kind::Job) => job::show(seen, key),
        Noun::Recorded(Kind::CronJob) => cron_job::show(seen, key),
        Noun::Recorded(Kind::HorizontalPodAutoscaler) => autoscaler::show(seen, key),
        Noun::Recorded(Kind::Node) => node::show(seen, key),
        Noun::Endpoints => endpoints::show(seen, key),
        Noun::EndpointSlice => endpoints::show_slice(seen, key),
        Noun::Lease => lease::show(seen, key),
        Noun::Event => return event::show(seen, key),
        Noun::NodeMetrics => metrics::show_node(seen, key),
        Noun::PodMetrics => metrics::show_pod(seen, key),
        Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => None,
    };
    shown.into_iter().collect()
}

/// The object of that name, if there is one.
pub fn get(seen: &Seen<'_>, ty: &ResourceType, namespace: &str, name: &str) -> Option<Shown> {
    match ty.noun {
        Noun::Recorded(kind) => of_row(seen, ty.noun, &ObjectKey::new(kind, namespace, name)).pop(),
        Noun::Endpoints => endpoints::show(seen, &ObjectKey::new(Kind::Service, namespace, name)),
        Noun::EndpointSlice => {
            let rows = keys(seen, ty.noun, Some(namespace)).into_iter();
            let mut slices = rows.filter_map(|key| endpoints::show_slice(seen, &key));
            slices.find(|shown| *shown.key.name == *name)
        }
        Noun::Lease if namespace == lease::NAMESPACE => {
            lease::show(seen, &ObjectKey::new(Kind::Node, "", name))
        }
        Noun::Lease => None,
        Noun::NodeMetrics => metrics::show_node(seen, &ObjectKey::new(Kind::Node, "", name)),
        Noun::PodMetrics => metrics::show_pod(seen, &ObjectKey::new(Kind::Pod, namespace, name)),
        Noun::Event => {
            let rows = event::keys(seen, Some(namespace)).into_iter();
            let mut events = rows.flat_map(|key| event::show(seen, &key));
            events.find(|shown| *shown.key.name == *name)
        }
        Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => None,
    }
}

/// The rows of a resource type that a change of the row under `key` may show in.
pub fn rows_touched(noun: Noun, key: &ObjectKey) -> Option<ObjectKey> {
    match noun {
        Noun::Recorded(Kind::Namespace) => {
            let name = if key.kind == Kind::Namespace { &key.name } else { &key.namespace };
            (!name.is_empty()).then(|| ObjectKey::new(Kind::Namespace, "", name))
        }
        Noun::Recorded(kind) => (kind == key.kind).then(|| key.clone()),
        Noun::Endpoints | Noun::EndpointSlice => match key.kind {
            Kind::Service => Some(key.clone()),
            // The API is reached through the nodes.
            Kind::Node => Some(of_the_api()),
            _ => None,
        },
        Noun::Lease => (key.kind == Kind::Node).then(|| key.clone()),
        Noun::Event => Some(key.clone()),
        Noun::NodeMetrics | Noun::PodMetrics => None,
        Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => None,
    }
}

/// The API's own service, once it has an address; it has no manifest.
fn api_key(world: &World) -> Option<ObjectKey> {
    let key = of_the_api();
    (world.services.contains_key(&key) && !world.objects.contains_key(&key)).then_some(key)
}

/// Every namespace that is named by an object.
pub fn namespaces(world: &World) -> BTreeSet<Arc<str>> {
    let keys = world.objects.keys().chain(world.pods.keys());
    keys.filter(|key| !key.namespace.is_empty()).map(|key| Arc::clone(&key.namespace)).collect()
}

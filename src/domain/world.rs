//! The World: everything that is recorded, as one value that is cheap to copy.
//!
//! The maps are persistent, so that a forecast, a reader of the API and the loop each hold a
//! World of their own at no cost. It changes only by [`Effect`]s; the store writes the same ones.

use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::OrdMap;
use kgit_protocol::ids::{ClusterId, Digest, NodeName, PodUid};
use kgit_protocol::pod::Protocol;
use serde::{Deserialize, Serialize};

use crate::domain::autoscaling::AutoscalerState;
use crate::domain::index::{Index, Label};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::load::Load;
use crate::domain::node::Node;
use crate::domain::record::{
    Applied, BudgetState, ClaimState, CronJobState, DaemonSetState, DeploymentState, EventLog,
    JobState, Meta, Pod, Pruned, ReplicaSet, Revision, StatefulSetState, VolumeState,
};
use crate::domain::resource::Spec;
use crate::domain::selector::{Labels, Requirement, Selector, has_all};
use crate::domain::service::ServiceState;
use crate::domain::standing::Departed;

/// A row with the number of the transaction that last wrote it: its `resourceVersion`.
#[derive(Debug)]
pub struct Recorded<T> {
    pub version: u64,
    pub value: Arc<T>,
}

impl<T> Clone for Recorded<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, value: Arc::clone(&self.value) }
    }
}

/// One write of one row is equal to itself alone.
impl<T> PartialEq for Recorded<T> {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version && Arc::ptr_eq(&self.value, &other.value)
    }
}

impl<T> std::ops::Deref for Recorded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

pub type Rows<T> = OrdMap<ObjectKey, Recorded<T>>;

#[derive(Clone, Debug)]
pub struct World {
    pub cluster: ClusterId,
    /// The cluster's own key: what is derived from secret values is derived with it.
    pub masking_key: Arc<[u8]>,
    /// The number of the last transaction.
    pub version: u64,
    pub meta: Arc<Meta>,
    pub objects: Rows<Applied>,
    pub pruned: Rows<Pruned>,
    pub deployments: Rows<DeploymentState>,
    pub replica_sets: Rows<ReplicaSet>,
    pub jobs: Rows<JobState>,
    pub stateful_sets: Rows<StatefulSetState>,
    pub daemon_sets: Rows<DaemonSetState>,
    pub revisions: Rows<Revision>,
    pub cron_jobs: Rows<CronJobState>,
    pub autoscalers: Rows<AutoscalerState>,
    pub budgets: Rows<BudgetState>,
    pub services: Rows<ServiceState>,
    pub claims: Rows<ClaimState>,
    pub volumes: Rows<VolumeState>,
    pub pods: Rows<Pod>,
    pub nodes: Rows<Node>,
    /// By [`departed_key`].
    pub departed: Rows<Departed>,
    pub events: Rows<EventLog>,
    index: Index,
}

/// One row of some table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    Object(Arc<Applied>),
    Pruned(Arc<Pruned>),
    Deployment(Arc<DeploymentState>),
    ReplicaSet(Arc<ReplicaSet>),
    Job(Arc<JobState>),
    StatefulSet(Arc<StatefulSetState>),
    DaemonSet(Arc<DaemonSetState>),
    Revision(Arc<Revision>),
    CronJob(Arc<CronJobState>),
    Autoscaler(Arc<AutoscalerState>),
    Budget(Arc<BudgetState>),
    Service(Arc<ServiceState>),
    Claim(Arc<ClaimState>),
    Volume(Arc<VolumeState>),
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    Departed(Arc<Departed>),
    Events(Arc<EventLog>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    Object,
    Pruned,
    Deployment,
    ReplicaSet,
    Job,
    StatefulSet,
    DaemonSet,
    Revision,
    CronJob,
    Autoscaler,
    Budget,
    Service,
    Claim,
    Volume,
    Pod,
    Node,
    Departed,
    Events,
}

impl Table {
    pub const ALL: [Self; 18] = [
        Self::Object,
        Self::Pruned,
        Self::Deployment,
        Self::ReplicaSet,
        Self::Job,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Revision,
        Self::CronJob,
        Self::Autoscaler,
        Self::Budget,
        Self::Service,
        Self::Claim,
        Self::Volume,
        Self::Pod,
        Self::Node,
        Self::Departed,
        Self::Events,
    ];
}

/// The one way in which the World changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Meta(Arc<Meta>),
    Put(ObjectKey, Record),
    Remove(ObjectKey, Table),
}

impl Record {
    pub fn table(&self) -> Table {
        match self {
            Self::Object(_) => Table::Object,
            Self::Pruned(_) => Table::Pruned,
            Self::Deployment(_) => Table::Deployment,
            Self::ReplicaSet(_) => Table::ReplicaSet,
            Self::Job(_) => Table::Job,
            Self::StatefulSet(_) => Table::StatefulSet,
            Self::DaemonSet(_) => Table::DaemonSet,
            Self::Revision(_) => Table::Revision,
            Self::CronJob(_) => Table::CronJob,
            Self::Autoscaler(_) => Table::Autoscaler,
            Self::Budget(_) => Table::Budget,
            Self::Service(_) => Table::Service,
            Self::Claim(_) => Table::Claim,
            Self::Volume(_) => Table::Volume,
            Self::Pod(_) => Table::Pod,
            Self::Node(_) => Table::Node,
            Self::Departed(_) => Table::Departed,
            Self::Events(_) => Table::Events,
        }
    }
}

/// The key under which a node's row stands.
pub fn node_key(name: &NodeName) -> ObjectKey {
    ObjectKey::new(Kind::Node, "", name.as_str())
}

/// The key under which a machine that is no member any more stands: names may be given again.
pub fn departed_key(key_digest: &Digest) -> ObjectKey {
    ObjectKey::new(Kind::Node, "", key_digest.as_str())
}

impl World {
    pub fn new(cluster: ClusterId, masking_key: Arc<[u8]>) -> Self {
        Self {
            cluster,
            masking_key,
            version: 0,
            meta: Arc::default(),
            objects: Rows::new(),
            pruned: Rows::new(),
            deployments: Rows::new(),
            replica_sets: Rows::new(),
            jobs: Rows::new(),
            stateful_sets: Rows::new(),
            daemon_sets: Rows::new(),
            revisions: Rows::new(),
            cron_jobs: Rows::new(),
            autoscalers: Rows::new(),
            budgets: Rows::new(),
            services: Rows::new(),
            claims: Rows::new(),
            volumes: Rows::new(),
            pods: Rows::new(),
            nodes: Rows::new(),
            departed: Rows::new(),
            events: Rows::new(),
            index: Index::default(),
        }
    }

    /// Carries out one effect, as part of transaction `version`.
    pub fn apply(&mut self, effect: &Effect, version: u64) {
        self.version = self.version.max(version);
        match effect {
            Effect::Meta(meta) => self.meta = Arc::clone(meta),
            Effect::Put(key, record) => self.put(key, record, version),
            Effect::Remove(key, table) => self.remove(key, *table),
        }
    }

    fn put(&mut self, key: &ObjectKey, record: &Record, version: u64) {
        self.unindex(key, record.table());
        match record {
            Record::Object(value) => insert(&mut self.objects, key, value, version),
            Record::Pruned(value) => insert(&mut self.pruned, key, value, version),
            Record::Deployment(value) => insert(&mut self.deployments, key, value, version),
            Record::ReplicaSet(value) => insert(&mut self.replica_sets, key, value, version),
            Record::Job(value) => insert(&mut self.jobs, key, value, version),
            Record::StatefulSet(value) => insert(&mut self.stateful_sets, key, value, version),
            Record::DaemonSet(value) => insert(&mut self.daemon_sets, key, value, version),
            Record::Revision(value) => insert(&mut self.revisions, key, value, version),
            Record::CronJob(value) => insert(&mut self.cron_jobs, key, value, version),
            Record::Autoscaler(value) => insert(&mut self.autoscalers, key, value, version),
            Record::Budget(value) => insert(&mut self.budgets, key, value, version),
            Record::Service(value) => insert(&mut self.services, key, value, version),
            Record::Claim(value) => insert(&mut self.claims, key, value, version),
            Record::Volume(value) => insert(&mut self.volumes, key, value, version),
            Record::Pod(value) => insert(&mut self.pods, key, value, version),
            Record::Node(value) => insert(&mut self.nodes, key, value, version),
            Record::Departed(value) => insert(&mut self.departed, key, value, version),
            Record::Events(value) => insert(&mut self.events, key, value, version),
        }
        self.reindex(key, record);
    }

    fn remove(&mut self, key: &ObjectKey, table: Table) {
        self.unindex(key, table);
        match table {
            Table::Object => drop(self.objects.remove(key)),
            Table::Pruned => drop(self.pruned.remove(key)),
            Table::Deployment => drop(self.deployments.remove(key)),
            Table::ReplicaSet => drop(self.replica_sets.remove(key)),
            Table::Job => drop(self.jobs.remove(key)),
            Table::StatefulSet => drop(self.stateful_sets.remove(key)),
            Table::DaemonSet => drop(self.daemon_sets.remove(key)),
            Table::Revision => drop(self.revisions.remove(key)),
            Table::CronJob => drop(self.cron_jobs.remove(key)),
            Table::Autoscaler => drop(self.autoscalers.remove(key)),
            Table::Budget => drop(self.budgets.remove(key)),
            Table::Service => drop(self.services.remove(key)),
            Table::Claim => drop(self.claims.remove(key)),
            Table::Volume => drop(self.volumes.remove(key)),
            Table::Pod => drop(self.pods.remove(key)),
            Table::Node => drop(self.nodes.remove(key)),
            Table::Departed => drop(self.departed.remove(key)),
            Table::Events => drop(self.events.remove(key)),
        }
    }

    /// One row, whichever table it is in.
    pub fn row(&self, key: &ObjectKey, table: Table) -> Option<Record> {
        fn of<T>(rows: &Rows<T>, key: &ObjectKey, wrap: fn(Arc<T>) -> Record) -> Option<Record> {
            rows.get(key).map(|row| wrap(Arc::clone(&row.value)))
        }
        match table {
            Table::Object => of(&self.objects, key, Record::Object),
            Table::Pruned => of(&self.pruned, key, Record::Pruned),
            Table::Deployment => of(&self.deployments, key, Record::Deployment),
            Table::ReplicaSet => of(&self.replica_sets, key, Record::ReplicaSet),
            Table::Job => of(&self.jobs, key, Record::Job),
            Table::StatefulSet => of(&self.stateful_sets, key, Record::StatefulSet),
            Table::DaemonSet => of(&self.daemon_sets, key, Record::DaemonSet),
            Table::Revision => of(&self.revisions, key, Record::Revision),
            Table::CronJob => of(&self.cron_jobs, key, Record::CronJob),
            Table::Autoscaler => of(&self.autoscalers, key, Record::Autoscaler),
            Table::Budget => of(&self.budgets, key, Record::Budget),
            Table::Service => of(&self.services, key, Record::Service),
            Table::Claim => of(&self.claims, key, Record::Claim),
            Table::Volume => of(&self.volumes, key, Record::Volume),
            Table::Pod => of(&self.pods, key, Record::Pod),
            Table::Node => of(&self.nodes, key, Record::Node),
            Table::Departed => of(&self.departed, key, Record::Departed),
            Table::Events => of(&self.events, key, Record::Events),
        }
    }

    /// The pods of a ReplicaSet, a Job or a Pod manifest.
    pub fn pods_of<'a>(
        &'a self,
        owner: &ObjectKey,
    ) -> impl Iterator<Item = &'a Recorded<Pod>> + use<'a> {
        self.index.pods_by_owner.members(owner).filter_map(|key| self.pods.get(key))
    }

    /// What the pods of an object have as their owner: its revisions, and itself.
    pub fn pod_owners(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let sets = self.sets_of(key).map(|set| set.key.clone());
        sets.filter(|set| set != key).chain(std::iter::once(key.clone())).collect()
    }

    pub fn pods_on<'a>(
        &'a self,
        node: &NodeName,
    ) -> impl Iterator<Item = &'a Recorded<Pod>> + use<'a> {
        self.index.pods_by_node.members(&node_key(node)).filter_map(|key| self.pods.get(key))
    }

    /// What the pods of a node that have not ended ask for together; `None`: there are none.
    pub fn load_of(&self, node: &NodeName) -> Option<&Load> {
        self.index.loads.get(node)
    }

    /// Pods with a seat that mind which pods are near them.
    pub fn minding_pods(&self) -> impl Iterator<Item = &Recorded<Pod>> {
        self.index.minding.iter().filter_map(|key| self.pods.get(key))
    }

    /// Pods without a node for which room is being made on this one.
    pub fn promised_to<'a>(
        &'a self,
        node: &NodeName,
    ) -> impl Iterator<Item = &'a Recorded<Pod>> + use<'a> {
        self.index.promised.members(node).filter_map(|key| self.pods.get(key))
    }

    /// Whether room is being made for any pod anywhere.
    pub fn has_promises(&self) -> bool {
        !self.index.promised.is_empty()
    }

    /// Nodes that are being drained or filled.
    pub fn moving_nodes(&self) -> impl Iterator<Item = &ObjectKey> {
        self.index.moving.iter()
    }

    /// Nodes that may run what no record tells of.
    pub fn doubtful_nodes(&self) -> impl Iterator<Item = &Recorded<Node>> {
        self.index.doubtful.iter().filter_map(|key| self.nodes.get(key))
    }

    /// The lowest priority of any placed pod.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.index.priorities.get_min().map(|(priority, _)| *priority)
    }

    /// The pods of a namespace that a selector selects.
    pub fn pods_selected<'a>(
        &'a self,
        namespace: &Arc<str>,
        selector: &'a Selector,
    ) -> Vec<&'a Recorded<Pod>> {
        let of_one_label = selector.requirements.iter().find_map(Requirement::only_label);
        let selected = |pod: &&Recorded<Pod>| selector.matches(&pod.labels);
        match of_one_label {
            None => self.pods_in(namespace).filter(selected).collect(),
            Some((key, value)) => {
                let label = Label::new(namespace, key, value);
                let keys = self.index.pods_by_label.members(&label);
                keys.filter_map(|key| self.pods.get(key)).filter(selected).collect()
            }
        }
    }

    /// The pods of a namespace.
    pub fn pods_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Recorded<Pod>> {
        let (first, namespace) = (ObjectKey::new(Kind::Pod, namespace, ""), Arc::clone(namespace));
        let rows = self.pods.range(first..);
        rows.take_while(move |(key, _)| key.namespace == namespace).map(|(_, row)| row)
    }

    pub fn pods_with_claim<'a>(
        &'a self,
        claim: &ObjectKey,
    ) -> impl Iterator<Item = &'a Recorded<Pod>> + use<'a> {
        self.index.pods_by_claim.members(claim).filter_map(|key| self.pods.get(key))
    }

    /// The pods of a namespace that have all of these labels.
    pub fn pods_labelled<'a>(
        &'a self,
        namespace: &Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Recorded<Pod>> + use<'a> {
        let smallest = self.index.pods_by_label.smallest(Label::all(namespace, labels));
        let candidates = smallest.into_iter().flat_map(|it| self.index.pods_by_label.members(&it));
        candidates.filter_map(|key| self.pods.get(key)).filter(|pod| has_all(&pod.labels, labels))
    }

    /// The services whose selector matches these labels.
    pub fn services_selecting<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        let named = Label::all(namespace, labels);
        let keys = named.flat_map(|label| self.index.services_by_label.members(&label));
        keys.filter(move |key| {
            let spec = self.objects.get(*key).map(|applied| &applied.resource.spec);
            let selector = match spec {
                Some(Spec::Service(spec)) => spec.selector.as_ref(),
                _ => None,
            };
            selector.is_some_and(|selector| has_all(labels, selector))
        })
    }

    /// The service that has this cluster address.
    pub fn service_at(&self, address: Ipv4Addr) -> Option<&ObjectKey> {
        self.index.service_addresses.get(&address)
    }

    /// The service that has this port on every node.
    pub fn service_on(&self, node_port: u16, protocol: Protocol) -> Option<&ObjectKey> {
        self.index.node_ports.get(&(node_port, protocol))
    }

    /// The ReplicaSets of a Deployment, or the one of a ReplicaSet manifest.
    pub fn sets_of<'a>(
        &'a self,
        owner: &ObjectKey,
    ) -> impl Iterator<Item = &'a Recorded<ReplicaSet>> + use<'a> {
        self.index.sets_by_owner.members(owner).filter_map(|key| self.replica_sets.get(key))
    }

    /// The applied objects that refer to `target`.
    pub fn referrers<'a>(
        &'a self,
        target: &ObjectKey,
    ) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        self.index.referrers.members(target)
    }

    /// The manifests' objects of one kind, in order of namespace and name.
    pub fn objects_of(&self, kind: Kind) -> impl Iterator<Item = &Recorded<Applied>> {
        let rows = self.objects.range(ObjectKey::new(kind, "", "")..);
        rows.take_while(move |(key, _)| key.kind == kind).map(|(_, row)| row)
    }

    /// The same in one namespace.
    pub fn objects_in<'a>(
        &'a self,
        kind: Kind,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = &'a Recorded<Applied>> + use<'a> {
        let (first, namespace) = (ObjectKey::new(kind, namespace, ""), Arc::clone(namespace));
        let rows = self.objects.range(first..);
        rows.take_while(move |(key, _)| key.kind == kind && key.namespace == namespace)
            .map(|(_, row)| row)
    }

    /// The revisions of a StatefulSet or a DaemonSet.
    pub fn revisions_of<'a>(
        &'a self,
        owner: &ObjectKey,
    ) -> impl Iterator<Item = &'a Recorded<Revision>> + use<'a> {
        self.index.revisions_by_owner.members(owner).filter_map(|key| self.revisions.get(key))
    }

    /// The objects that were made for another one: Jobs of a CronJob, claims of a StatefulSet.
    pub fn made_for<'a>(
        &'a self,
        owner: &ObjectKey,
    ) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        self.index.objects_by_owner.members(owner)
    }

    /// How many pods a workload is to have: what its autoscaler decided, if it has one that did,
    /// and else what its manifest says.
    pub fn replicas_of(&self, workload: &ObjectKey, written: u32) -> u32 {
        self.scaled_by(workload).map_or(written, |(_, desired)| desired)
    }

    /// The autoscaler that decided a workload's number of pods, and the number.
    pub fn scaled_by(&self, workload: &ObjectKey) -> Option<(&ObjectKey, u32)> {
        let key = self.autoscaler_of(workload)?;
        Some((key, self.autoscalers.get(key)?.desired?))
    }

    /// The autoscaler of a workload; of several, the first counts.
    pub fn autoscaler_of(&self, workload: &ObjectKey) -> Option<&ObjectKey> {
        self.referrers(workload).find(|key| {
            let spec = self.objects.get(*key).map(|row| &row.resource.spec);
            matches!(spec, Some(Spec::Autoscaler(spec)) if spec.target == *workload)
        })
    }

    /// The pods that have no node yet.
    pub fn unplaced(&self) -> impl Iterator<Item = &Recorded<Pod>> {
        self.index.unplaced.iter().filter_map(|key| self.pods.get(key))
    }

    pub fn pod_by_uid(&self, uid: &PodUid) -> Option<&Recorded<Pod>> {
        self.pods.get(self.index.pod_by_uid.get(uid)?)
    }

    /// The object that a pod exists for: its Deployment, StatefulSet, Job, or its own manifest.
    pub fn workload_of(&self, pod: &Pod) -> ObjectKey {
        match self.replica_sets.get(&pod.owner) {
            Some(set) => set.owner.clone(),
            None => pod.owner.clone(),
        }
    }

    fn unindex(&mut self, key: &ObjectKey, table: Table) {
        match table {
            Table::Object => {
                if let Some(old) = self.objects.get(key) {
                    self.index.drop_object(key, old);
                }
            }
            Table::Pod => {
                if let Some(old) = self.pods.get(key) {
                    self.index.drop_pod(key, old);
                }
            }
            Table::ReplicaSet => {
                if let Some(old) = self.replica_sets.get(key) {
                    self.index.drop_set(key, old);
                }
            }
            Table::Revision => {
                if let Some(old) = self.revisions.get(key) {
                    self.index.drop_revision(key, old);
                }
            }
            Table::Node => self.index.drop_node(key),
            Table::Service => {
                if let Some(old) = self.services.get(key) {
                    self.index.drop_service(old);
                }
            }
            _ => {}
        }
    }

    fn reindex(&mut self, key: &ObjectKey, record: &Record) {
        match record {
            Record::Object(new) => self.index.add_object(key, new),
            Record::Pod(new) => self.index.add_pod(key, new),
            Record::ReplicaSet(new) => self.index.add_set(key, new),
            Record::Revision(new) => self.index.add_revision(key, new),
            Record::Service(new) => self.index.add_service(key, new),
            Record::Node(new) => self.index.add_node(key, new),
            _ => {}
        }
    }
}

fn insert<T>(rows: &mut Rows<T>, key: &ObjectKey, value: &Arc<T>, version: u64) {
    rows.insert(key.clone(), Recorded { version, value: Arc::clone(value) });
}

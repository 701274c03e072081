//! Ways to find rows of the World by what is in them. Derived from the rows; never stored.

use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use kgit_protocol::directory::ServiceAddress;
use kgit_protocol::ids::NodeName;
use kgit_protocol::ids::PodUid;
use kgit_protocol::pod::Protocol;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::load::{Load, requests};
use crate::domain::node::Node;
use crate::domain::record::{Applied, Pod, ReplicaSet, Revision};
use crate::domain::resource::{Resource, Spec};
use crate::domain::selector::Labels;
use crate::domain::service::ServiceState;
use crate::domain::world::node_key;

#[derive(Clone, Debug, Default)]
pub struct Index {
    pub pods_by_owner: Groups<ObjectKey>,
    pub pods_by_node: Groups<ObjectKey>,
    pub pods_by_claim: Groups<ObjectKey>,
    pub pods_by_label: Groups<Label>,
    pub sets_by_owner: Groups<ObjectKey>,
    pub revisions_by_owner: Groups<ObjectKey>,
    /// Objects that no manifest made, by what they were made for.
    pub objects_by_owner: Groups<ObjectKey>,
    pub referrers: Groups<ObjectKey>,
    /// Under the first label of each one's selector.
    pub services_by_label: Groups<Label>,
    pub service_addresses: OrdMap<Ipv4Addr, ObjectKey>,
    pub node_ports: OrdMap<(u16, Protocol), ObjectKey>,
    pub unplaced: OrdSet<ObjectKey>,
    pub pod_by_uid: OrdMap<PodUid, ObjectKey>,
    /// What the pods of a node that have not ended ask for together.
    pub loads: OrdMap<NodeName, Load>,
    /// Pods with a seat that mind which pods are near them.
    pub minding: OrdSet<ObjectKey>,
    /// Pods without a node for which room is being made, by where.
    pub promised: Groups<NodeName>,
    /// How many placed pods there are of each priority.
    pub priorities: OrdMap<i32, usize>,
    /// Nodes that are being drained or filled.
    pub moving: OrdSet<ObjectKey>,
    /// Nodes that may run what no record tells of.
    pub doubtful: OrdSet<ObjectKey>,
}

/// Rows that have something in common, by what that is.
pub type Groups<K> = OrdMap<K, OrdSet<ObjectKey>>;

/// A label in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    namespace: Arc<str>,
    key: String,
    value: String,
}

impl Label {
    pub fn new(namespace: &Arc<str>, key: &str, value: &str) -> Self {
        let (key, value) = (key.to_owned(), value.to_owned());
        Self { namespace: Arc::clone(namespace), key, value }
    }

    pub fn all<'a>(
        namespace: &'a Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = Self> + use<'a> {
        labels.iter().map(|(key, value)| Self {
            namespace: Arc::clone(namespace),
            key: key.clone(),
            value: value.clone(),
        })
    }
}

impl Index {
    pub fn add_object(&mut self, key: &ObjectKey, applied: &Applied) {
        let resource = &applied.resource;
        if let Some(owner) = &applied.owner {
            join(&mut self.objects_by_owner, owner, key);
        }
        for reference in &resource.references {
            join(&mut self.referrers, &reference.to, key);
        }
        if let Some(label) = selecting_label(key, resource) {
            join(&mut self.services_by_label, &label, key);
        }
    }

    pub fn drop_object(&mut self, key: &ObjectKey, applied: &Applied) {
        let resource = &applied.resource;
        if let Some(owner) = &applied.owner {
            leave(&mut self.objects_by_owner, owner, key);
        }
        for reference in &resource.references {
            leave(&mut self.referrers, &reference.to, key);
        }
        if let Some(label) = selecting_label(key, resource) {
            leave(&mut self.services_by_label, &label, key);
        }
    }

    pub fn add_pod(&mut self, key: &ObjectKey, pod: &Pod) {
        join(&mut self.pods_by_owner, &pod.owner, key);
        if let Some(node) = pod.node() {
            join(&mut self.pods_by_node, &node_key(node), key);
            if !pod.is_finished() {
                let load = self.loads.entry(node.clone()).or_default();
                load.add(&requests(&pod.template));
            }
            *self.priorities.entry(pod.priority).or_default() += 1;
        }
        if pod.placed.is_none() {
            self.unplaced.insert(key.clone());
        }
        if pod.seat().is_some() && pod.template.placement.minds_pods() {
            self.minding.insert(key.clone());
        }
        if let Some(node) = pod.promised() {
            join(&mut self.promised, node, key);
        }
        for claim in claims(key, pod) {
            join(&mut self.pods_by_claim, &claim, key);
        }
        for label in Label::all(&key.namespace, &pod.labels) {
            join(&mut self.pods_by_label, &label, key);
        }
        self.pod_by_uid.insert(pod.uid.clone(), key.clone());
    }

    pub fn drop_pod(&mut self, key: &ObjectKey, pod: &Pod) {
        leave(&mut self.pods_by_owner, &pod.owner, key);
        self.unplaced.remove(key);
        self.minding.remove(key);
        if let Some(node) = pod.node() {
            leave(&mut self.pods_by_node, &node_key(node), key);
            self.unload(node, pod);
            self.forget_priority(pod.priority);
        }
        if let Some(node) = pod.promised() {
            leave(&mut self.promised, node, key);
        }
        for claim in claims(key, pod) {
            leave(&mut self.pods_by_claim, &claim, key);
        }
        for label in Label::all(&key.namespace, &pod.labels) {
            leave(&mut self.pods_by_label, &label, key);
        }
        self.pod_by_uid.remove(&pod.uid);
    }

    fn unload(&mut self, node: &NodeName, pod: &Pod) {
        if pod.is_finished() {
            return;
        }
        let Some(load) = self.loads.get_mut(node) else { return };
        load.take(&requests(&pod.template));
        if load.pods == 0 {
            self.loads.remove(node);
        }
    }

    fn forget_priority(&mut self, priority: i32) {
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
    }

    pub fn add_node(&mut self, key: &ObjectKey, node: &Node) {
        if node.drain.is_some() || node.filling.is_some() {
            self.moving.insert(key.clone());
        }
        if node.doubt.is_some() {
            self.doubtful.insert(key.clone());
        }
    }

    pub fn drop_node(&mut self, key: &ObjectKey) {
        self.moving.remove(key);
        self.doubtful.remove(key);
    }

    pub fn add_set(&mut self, key: &ObjectKey, set: &ReplicaSet) {
        join(&mut self.sets_by_owner, &set.owner, key);
    }

    pub fn drop_set(&mut self, key: &ObjectKey, set: &ReplicaSet) {
        leave(&mut self.sets_by_owner, &set.owner, key);
    }

    pub fn add_revision(&mut self, key: &ObjectKey, revision: &Revision) {
        join(&mut self.revisions_by_owner, &revision.owner, key);
    }

    pub fn drop_revision(&mut self, key: &ObjectKey, revision: &Revision) {
        leave(&mut self.revisions_by_owner, &revision.owner, key);
    }

    pub fn add_service(&mut self, key: &ObjectKey, state: &ServiceState) {
        if let ServiceAddress::Cluster(address) = state.service.address {
            self.service_addresses.insert(address, key.clone());
        }
        for port in node_ports(state) {
            self.node_ports.insert(port, key.clone());
        }
    }

    pub fn drop_service(&mut self, state: &ServiceState) {
        if let ServiceAddress::Cluster(address) = state.service.address {
            self.service_addresses.remove(&address);
        }
        for port in node_ports(state) {
            self.node_ports.remove(&port);
        }
    }
}

fn claims<'a>(key: &'a ObjectKey, pod: &'a Pod) -> impl Iterator<Item = ObjectKey> + use<'a> {
    pod.template.claims().map(|claim| key.sibling(Kind::PersistentVolumeClaim, claim))
}

fn node_ports(state: &ServiceState) -> impl Iterator<Item = (u16, Protocol)> + use<'_> {
    let ports = state.service.ports.iter();
    ports.filter_map(|port| Some((port.node_port?, port.protocol)))
}

fn selecting_label(key: &ObjectKey, resource: &Resource) -> Option<Label> {
    let Spec::Service(spec) = &resource.spec else { return None };
    Label::all(&key.namespace, spec.selector.as_ref()?).next()
}

/// Each member of a group.
pub fn members<'a, K: Ord>(
    groups: &'a Groups<K>,
    group: &K,
) -> impl Iterator<Item = &'a ObjectKey> + use<'a, K> {
    groups.get(group).into_iter().flat_map(|members| members.iter())
}

fn join<K: Ord + Clone>(groups: &mut Groups<K>, group: &K, member: &ObjectKey) {
    groups.entry(group.clone()).or_default().insert(member.clone());
}

fn leave<K: Ord + Clone>(groups: &mut Groups<K>, group: &K, member: &ObjectKey) {
    if let Some(members) = groups.get_mut(group) {
        members.remove(member);
        if members.is_empty() {
            groups.remove(group);
        }
    }
}

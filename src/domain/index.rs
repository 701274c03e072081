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

/// Rows that have something in common, by what that is. One ordered set of all: most groups have a few
/// members, and a node of a tree has room for dozens.
#[derive(Clone, Debug)]
pub struct Groups<K: Ord>(OrdSet<(K, ObjectKey)>);

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
            self.objects_by_owner.join(owner, key);
        }
        for reference in &resource.references {
            self.referrers.join(&reference.to, key);
        }
        if let Some(label) = selecting_label(key, resource) {
            self.services_by_label.join(&label, key);
        }
    }

    pub fn drop_object(&mut self, key: &ObjectKey, applied: &Applied) {
        let resource = &applied.resource;
        if let Some(owner) = &applied.owner {
            self.objects_by_owner.leave(owner, key);
        }
        for reference in &resource.references {
            self.referrers.leave(&reference.to, key);
        }
        if let Some(label) = selecting_label(key, resource) {
            self.services_by_label.leave(&label, key);
        }
    }

    pub fn add_pod(&mut self, key: &ObjectKey, pod: &Pod) {
        self.pods_by_owner.join(&pod.owner, key);
        if let Some(node) = pod.node() {
            self.pods_by_node.join(&node_key(node), key);
            if !pod.is_over() {
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
            self.promised.join(node, key);
        }
        for claim in claims(key, pod) {
            self.pods_by_claim.join(&claim, key);
        }
        for label in Label::all(&key.namespace, &pod.labels) {
            self.pods_by_label.join(&label, key);
        }
        self.pod_by_uid.insert(pod.uid.clone(), key.clone());
    }

    pub fn drop_pod(&mut self, key: &ObjectKey, pod: &Pod) {
        self.pods_by_owner.leave(&pod.owner, key);
        self.unplaced.remove(key);
        self.minding.remove(key);
        if let Some(node) = pod.node() {
            self.pods_by_node.leave(&node_key(node), key);
            self.unload(node, pod);
            self.forget_priority(pod.priority);
        }
        if let Some(node) = pod.promised() {
            self.promised.leave(node, key);
        }
        for claim in claims(key, pod) {
            self.pods_by_claim.leave(&claim, key);
        }
        for label in Label::all(&key.namespace, &pod.labels) {
            self.pods_by_label.leave(&label, key);
        }
        self.pod_by_uid.remove(&pod.uid);
    }

    fn unload(&mut self, node: &NodeName, pod: &Pod) {
        if pod.is_over() {
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
        self.sets_by_owner.join(&set.owner, key);
    }

    pub fn drop_set(&mut self, key: &ObjectKey, set: &ReplicaSet) {
        self.sets_by_owner.leave(&set.owner, key);
    }

    pub fn add_revision(&mut self, key: &ObjectKey, revision: &Revision) {
        self.revisions_by_owner.join(&revision.owner, key);
    }

    pub fn drop_revision(&mut self, key: &ObjectKey, revision: &Revision) {
        self.revisions_by_owner.leave(&revision.owner, key);
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

impl<K: Ord> Default for Groups<K> {
    fn default() -> Self {
        Self(OrdSet::new())
    }
}

impl<K: Ord + Clone> Groups<K> {
    /// Each member of a group, in order.
    pub fn members<'a>(&'a self, group: &K) -> impl Iterator<Item = &'a ObjectKey> + use<'a, K> {
        let first = (group.clone(), ObjectKey::first());
        let group = group.clone();
        let rest = self.0.range::<_, (K, ObjectKey)>(first..);
        rest.take_while(move |(of, _)| *of == group).map(|(_, member)| member)
    }

    /// The one of these groups that has the fewest members, found in as many steps as it has.
    pub fn smallest(&self, groups: impl IntoIterator<Item = K>) -> Option<K> {
        let walks = groups.into_iter().map(|group| (self.members(&group), group));
        let mut walks: Vec<_> = walks.collect();
        while !walks.is_empty() {
            if let Some(over) = walks.iter_mut().position(|(walk, _)| walk.next().is_none()) {
                return Some(walks.swap_remove(over).1);
            }
        }
        None
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn join(&mut self, group: &K, member: &ObjectKey) {
        self.0.insert((group.clone(), member.clone()));
    }

    fn leave(&mut self, group: &K, member: &ObjectKey) {
        self.0.remove(&(group.clone(), member.clone()));
    }
}

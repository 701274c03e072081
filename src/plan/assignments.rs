//! What each node is to run, as the agents are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::assignment::{AssignmentSet, Order, PodAssignment, Stamp, content_digest};
use kgit_protocol::ids::{Digest, NodeName, PodUid};

use crate::domain::epoch;
use crate::domain::node::Node;
use crate::domain::record::Pod;
use crate::domain::world::{Record, World, node_key};
use crate::plan::draft::Draft;

/// The whole set of a node, under the stamp that was issued for it. One that has not said yet what
/// it runs goes on with that.
pub fn for_node(world: &World, name: &NodeName) -> Option<AssignmentSet> {
    let node = world.nodes.get(&node_key(name))?;
    if node.is_unheard() {
        let (pods, remove_volumes) = (BTreeMap::new(), Vec::new());
        let stamp = node.issued.clone();
        return Some(AssignmentSet { stamp, pods, remove_volumes, keep_others: true });
    }
    let pods = ordered(world, name).into_iter().filter_map(|(uid, pod)| {
        let placed = pod.placed.as_ref()?;
        let assignment = PodAssignment {
            uid: uid.clone(),
            namespace: pod.key.namespace.to_string(),
            name: pod.key.name.to_string(),
            order: order(pod),
            digest: placed.digest.clone(),
            spec: (*placed.spec).clone(),
        };
        Some((uid.clone(), assignment))
    });
    Some(AssignmentSet {
        stamp: node.issued.clone(),
        pods: pods.collect(),
        remove_volumes: node.remove_volumes.clone(),
        keep_others: world.meta.restored,
    })
}

fn ordered<'a>(world: &'a World, name: &NodeName) -> BTreeMap<&'a PodUid, &'a Pod> {
    world.pods_on(name).map(|row| (&row.uid, &*row.value)).collect()
}

fn order(pod: &Pod) -> Order {
    match pod.deletion {
        None => Order::Run,
        Some(deletion) => Order::Stop { grace_seconds: deletion.grace_seconds },
    }
}

/// Gives every node whose set changed in this tick a new stamp, in the same transaction.
pub fn issue(draft: &mut Draft<'_>) {
    for name in std::mem::take(&mut draft.nodes) {
        let key = node_key(&name);
        let Some(node) = draft.world.nodes.get(&key).map(|row| Arc::clone(&row.value)) else {
            continue;
        };
        let digest = digest(&draft.world, &node);
        let epoch = draft.world.meta.epoch;
        if node.issued.digest == digest && node.issued.epoch == epoch {
            continue;
        }
        let generation = node.issued.generation.next();
        let issued = Stamp { epoch, generation, digest };
        let node = Node { issued, ..(*node).clone() };
        draft.note(&key, Record::Node(Arc::new(node)));
    }
}

fn digest(world: &World, node: &Node) -> Digest {
    if node.is_unheard() {
        return epoch::go_on_digest();
    }
    let pods = ordered(world, &node.name);
    let parts = pods.iter().filter_map(|(uid, pod)| {
        pod.placed.as_ref().map(|placed| (*uid, order(pod), &placed.digest))
    });
    content_digest(parts, &node.remove_volumes, world.meta.restored)
}

/// The digest of the set of a node that is to run nothing.
pub fn empty_digest() -> Digest {
    content_digest(std::iter::empty(), &[], false)
}

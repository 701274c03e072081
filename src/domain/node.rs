//! A machine that pods run on: what it told of itself, and what was ordered about it.

use std::collections::{BTreeMap, BTreeSet};

use kgit_protocol::assignment::{PodNetwork, Stamp};
use kgit_protocol::ids::{BootId, Digest, NodeName, PodUid};
use kgit_protocol::observation::NodeObservation;
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::selector::Labels;
use crate::domain::template::{CORDONED, NOT_READY, Taint, UNREACHABLE};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: NodeName,
    pub uid: String,
    pub joined: Timestamp,
    pub labels: Labels,
    pub unschedulable: bool,
    pub network: PodNetwork,
    pub observed: NodeObservation,
    /// Whether it was heard of within its lease; `None`: unknown, nothing heard since the master's own start.
    #[serde(rename = "ready")]
    pub heard: Option<bool>,
    #[serde(rename = "ready_since")]
    pub heard_since: Timestamp,
    /// Since when its engine or its pod network fails it, as it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Timestamp>,
    /// Addresses of the pod range given out so far; the next search starts behind.
    pub next_address: u32,
    /// The newest set issued to it.
    pub issued: Stamp,
    /// Reports up to here are recorded.
    pub boot: Option<BootId>,
    pub sequence: u64,
    /// SHA-256 of its public key: its identity.
    pub key_digest: Digest,
    /// Docker volumes that it was ordered to remove and has not yet.
    pub remove_volumes: Vec<String>,
    /// Labels that were set by order, over those that it joined with; `None`: taken away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label_orders: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<NodeTaint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// When it joined, while pods may still move to it from fuller nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filling: Option<Timestamp>,
    /// Declared dead: by whom, and when. Nothing runs there, whatever was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<Fence>,
    /// What a master that was restored does not know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// What a node may run that no record tells of, since the records are older than its orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doubt {
    /// It has not told what it runs yet. `known` is the newest set on record for it.
    Unheard { known: Stamp },
    /// It runs these pods, which are not on record.
    Runs(BTreeSet<PodUid>),
}

/// A taint that was set by order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTaint {
    pub key: String,
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// What pods tolerate for some time counts from here.
    pub since: Timestamp,
}

/// An order to clear a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub by: String,
    pub since: Timestamp,
    /// Instead of the pods' own grace periods.
    pub grace_seconds: Option<u32>,
    /// Pods may go though they keep data in an emptyDir.
    pub delete_empty_dirs: bool,
    /// Pods may go that nobody replaces.
    pub force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub by: String,
    pub at: Timestamp,
}

impl NodeTaint {
    pub fn as_taint(&self) -> Taint<'_> {
        Taint { key: &self.key, value: &self.value, effect: &self.effect }
    }
}

impl Node {
    /// A machine that has just joined, and of which no more is known.
    pub fn new(
        name: NodeName,
        uid: String,
        joined: Timestamp,
        network: PodNetwork,
        key_digest: Digest,
        issued: Stamp,
    ) -> Self {
        Self {
            name,
            uid,
            joined,
            labels: Labels::new(),
            unschedulable: false,
            network,
            observed: NodeObservation::default(),
            heard: None,
            heard_since: joined,
            failing: None,
            next_address: 0,
            issued,
            boot: None,
            sequence: 0,
            key_digest,
            remove_volumes: Vec::new(),
            label_orders: BTreeMap::new(),
            taints: Vec::new(),
            drain: None,
            filling: None,
            fenced: None,
            doubt: None,
        }
    }

    /// Whether it has not told yet what it runs since the master was restored.
    pub fn is_unheard(&self) -> bool {
        matches!(self.doubt, Some(Doubt::Unheard { .. }))
    }

    /// What the node has against pods, and since when: what was ordered, and what follows from
    /// its state.
    pub fn all_taints(&self) -> impl Iterator<Item = (Taint<'_>, Timestamp)> {
        let own = self.taints.iter().map(|taint| (taint.as_taint(), taint.since));
        let cordoned = self.unschedulable.then_some((CORDONED, self.joined));
        own.chain(self.lost()).chain(cordoned)
    }

    /// What it is to the pods on it, and since when, while it can't run them or nobody knows whether it does.
    pub fn lost(&self) -> Option<(Taint<'static>, Timestamp)> {
        match (self.heard, self.failing) {
            (Some(false), _) => Some((UNREACHABLE, self.heard_since)),
            (Some(true), Some(since)) => Some((NOT_READY, since)),
            (Some(true), None) | (None, _) => None,
        }
    }

    /// Whether pods can be given to it; `None`: not known yet.
    pub fn is_ready(&self) -> Option<bool> {
        self.heard.map(|heard| heard && self.failing.is_none())
    }

    /// Since when that is as it is.
    pub fn ready_since(&self) -> Timestamp {
        self.lost().map_or(self.heard_since, |(_, since)| since)
    }
}

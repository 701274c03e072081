//! Orders: what a node is to run. A set is complete: what is not in it is to be removed.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, Epoch, Generation, PodUid, hex};
use crate::pod::PodSpec;

/// Everything one node is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    pub stamp: Stamp,
    pub pods: BTreeMap<PodUid, PodAssignment>,
    /// Docker volumes of provisioned claims that somebody explicitly ordered to be removed. A
    /// volume is never removed because it is missing from something.
    #[serde(default)]
    pub remove_volumes: Vec<String>,
    /// The master knows less than it once did (it was restored from a backup): pods that the node
    /// has and the set lacks are to be left alone until somebody confirms.
    #[serde(default)]
    pub keep_others: bool,
}

/// Names one assignment set: which life of the master issued it, its number, and its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub epoch: Epoch,
    pub generation: Generation,
    /// [`AssignmentSet::content_digest`] of the set.
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAssignment {
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
    pub order: Order,
    /// [`PodSpec::digest`] as the master computed it. An older agent, which drops fields it does
    /// not know, must not compute it again: it would get another.
    pub digest: Digest,
    pub spec: PodSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Run,
    /// Drain, TERM, wait, KILL, remove; then report the pod gone.
    Stop {
        grace_seconds: u32,
    },
}

/// The way from one set to another, for a node that has the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Applies to the set with this stamp and to no other.
    pub base: Stamp,
    pub next: Stamp,
    pub changed: Vec<PodAssignment>,
    pub removed: Vec<PodUid>,
    #[serde(default)]
    pub remove_volumes: Vec<String>,
    #[serde(default)]
    pub keep_others: bool,
}

/// A node's bridge: chosen by the agent free of the host's routes at first start, then fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    pub range: Ipv4Net,
}

impl AssignmentSet {
    /// The digest of everything in the set but its stamp.
    pub fn content_digest(&self) -> Digest {
        content_digest(
            self.pods.values().map(|pod| (&pod.uid, pod.order, &pod.digest)),
            &self.remove_volumes,
            self.keep_others,
        )
    }

    /// The way from this set to `next`.
    pub fn delta_to(&self, next: &Self) -> Delta {
        let changed = next
            .pods
            .iter()
            .filter(|(uid, pod)| self.pods.get(*uid) != Some(*pod))
            .map(|(_, pod)| pod.clone())
            .collect();
        let removed =
            self.pods.keys().filter(|uid| !next.pods.contains_key(*uid)).cloned().collect();
        Delta {
            base: self.stamp.clone(),
            next: next.stamp.clone(),
            changed,
            removed,
            remove_volumes: next.remove_volumes.clone(),
            keep_others: next.keep_others,
        }
    }

    /// The set that `delta` leads to. `None` if the delta is for another base or does not lead
    /// where its stamp says; the caller then asks for the whole set.
    pub fn apply(&self, delta: &Delta) -> Option<Self> {
        if delta.base != self.stamp {
            return None;
        }
        let mut pods = self.pods.clone();
        for uid in &delta.removed {
            pods.remove(uid);
        }
        for pod in &delta.changed {
            pods.insert(pod.uid.clone(), pod.clone());
        }
        let next = Self {
            stamp: delta.next.clone(),
            pods,
            remove_volumes: delta.remove_volumes.clone(),
            keep_others: delta.keep_others,
        };
        (next.content_digest() == next.stamp.digest).then_some(next)
    }
}

/// The digest of a set's content, from each pod's uid, order and spec digest, in uid order.
pub fn content_digest<'a>(
    pods: impl Iterator<Item = (&'a PodUid, Order, &'a Digest)>,
    remove_volumes: &[String],
    keep_others: bool,
) -> Digest {
    let mut hash = Sha256::new();
    for (uid, order, digest) in pods {
        let order = match order {
            Order::Run => "run".to_owned(),
            Order::Stop { grace_seconds } => format!("stop {grace_seconds}"),
        };
        hash.update(format!("{uid} {order} {digest}\n"));
    }
    for volume in remove_volumes {
        hash.update(format!("remove {volume}\n"));
    }
    if keep_others {
        hash.update("keep others\n");
    }
    Digest::new(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Generation};

    fn set(generation: u64, volumes: &[&str]) -> AssignmentSet {
        let mut set = AssignmentSet {
            stamp: Stamp {
                epoch: Epoch(1),
                generation: Generation(generation),
                digest: Digest::new(""),
            },
            pods: BTreeMap::new(),
            remove_volumes: volumes.iter().map(|volume| (*volume).to_owned()).collect(),
            keep_others: false,
        };
        set.stamp.digest = set.content_digest();
        set
    }

    #[test]
    fn a_delta_leads_from_its_base_and_from_nowhere_else() {
        let (first, second, third) = (set(1, &[]), set(2, &["a"]), set(3, &["b"]));
        let delta = first.delta_to(&second);
        assert_eq!(first.apply(&delta), Some(second));
        assert_eq!(third.apply(&delta), None);
    }

    #[test]
    fn a_delta_that_does_not_lead_where_it_says_is_refused() {
        let first = set(1, &[]);
        let mut delta = first.delta_to(&set(2, &["a"]));
        delta.remove_volumes.push("b".to_owned());
        assert_eq!(first.apply(&delta), None);
    }
}

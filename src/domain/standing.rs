//! What a machine with a key is to the cluster: a member, one that was, or nobody on record.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::assignment::{AssignmentSet, Stamp};
use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::world::{World, departed_key, node_key};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Member,
    /// It was a member, and left or was taken out.
    Departed(Arc<Departed>),
    /// No record tells of it.
    Unknown,
}

/// A machine that was a member, and may come back without knowing that it is none any more. Stands
/// under the digest of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    pub node: NodeName,
    pub at: Timestamp,
    /// Of the last set for it, which orders nothing to run.
    pub issued: Stamp,
}

impl Standing {
    pub fn of(world: &World, node: &NodeName, key_digest: &Digest) -> Self {
        let member = world.nodes.get(&node_key(node));
        if member.is_some_and(|node| node.key_digest == *key_digest) {
            return Self::Member;
        }
        match world.departed.get(&departed_key(key_digest)) {
            Some(departed) => Self::Departed(Arc::clone(&departed.value)),
            None => Self::Unknown,
        }
    }

    /// A set that orders nothing, for one that is no member any more and may not know it.
    pub fn dismissal(&self, have: Option<&Stamp>) -> Option<AssignmentSet> {
        match self {
            Self::Departed(departed) => departed.dismissal(have),
            Self::Member | Self::Unknown => None,
        }
    }
}

impl Departed {
    fn dismissal(&self, have: Option<&Stamp>) -> Option<AssignmentSet> {
        let place = |stamp: &Stamp| (stamp.epoch, stamp.generation);
        let stamp = match have {
            Some(have) if have.digest == self.issued.digest => return None,
            // Given by a master whose record was lost since.
            Some(have) if place(have) >= place(&self.issued) => Stamp {
                epoch: have.epoch,
                generation: have.generation.next(),
                digest: self.issued.digest.clone(),
            },
            Some(_) | None => self.issued.clone(),
        };
        let (pods, remove_volumes) = (BTreeMap::new(), Vec::new());
        Some(AssignmentSet { stamp, pods, remove_volumes, keep_others: false })
    }
}

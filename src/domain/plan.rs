//! A plan: what to do now, why, and what is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::observation::DriftKind;
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::change::FieldChange;
use crate::domain::desired::Commit;
use crate::domain::diagnostic::Place;
use crate::domain::key::ObjectKey;
use crate::domain::world::Effect;

/// What a tick decides. Its only effect is one transaction: all the effects, or none.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order in which they are to be carried out.
    pub steps: Vec<Step>,
    /// What the steps do to the World, in order, and between them the bookkeeping that nobody
    /// needs a reason for: counts, conditions, progress marks.
    pub effects: Vec<Effect>,
    /// For each object that was planned: what it waits for, perhaps nothing.
    pub waits: BTreeMap<ObjectKey, Vec<Waiting>>,
    /// For each object that was planned: when it must be planned again even if nothing happens.
    pub wakes: BTreeMap<ObjectKey, Option<Timestamp>>,
}

/// What every object waits for; cheap to copy.
pub type Waits = imbl::OrdMap<ObjectKey, Vec<Waiting>>;

/// Which objects a tick has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Manifests that may differ from what is recorded.
    pub manifests: BTreeSet<ObjectKey>,
    /// Recorded objects whose surroundings changed.
    pub objects: BTreeSet<ObjectKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub said: Said,
    /// From the nearest to the root. Never empty.
    pub reasons: Vec<Reason>,
}

/// What a step does, in the words that people and programs read: `kgit diff`, the audit and the
/// API show this value and nothing else. Two steps with equal `Said`s are the same step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Said {
    pub verb: Verb,
    pub object: ObjectKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// `3 → 5`, a revision, an address: what the verb alone leaves open.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// A manifest's object, a revision or a pod comes into being.
    Create,
    Update,
    Scale,
    /// A pod that was made without a node gets one.
    Place,
    Bind,
    Provision,
    /// The same object comes back within its undo window.
    Restore,
    /// The manifest is gone; the object and its data stay.
    Retain,
    /// A pod is told to end.
    Stop,
    Delete,
    /// The agent put back what somebody else changed.
    Repair,
    /// A Job reached its end.
    Finish,
    /// The undo window ended.
    Forget,
}

/// Why a step is taken. The values of Secrets never get in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Reason {
    /// A commit made or changed the manifest.
    Commit {
        commit: Arc<Commit>,
        place: Place,
        changes: Vec<FieldChange>,
    },
    /// A commit removed the manifest that stood at `place`.
    ManifestGone {
        commit: Arc<Commit>,
        place: Place,
    },
    /// A revision replaces another.
    Rollout {
        deployment: ObjectKey,
        revision: u64,
    },
    /// There are fewer or more pods than wanted.
    Count {
        owner: ObjectKey,
        wanted: u32,
        found: u32,
    },
    /// The content of a ConfigMap or Secret changed.
    Config {
        config: ObjectKey,
    },
    Drift {
        pod: ObjectKey,
        container: String,
        kind: DriftKind,
        seen: String,
        at: Timestamp,
    },
    /// A pod ended by itself.
    PodEnded {
        pod: ObjectKey,
        reason: String,
    },
    /// The node said that the pod is gone from it.
    PodGone {
        pod: ObjectKey,
    },
    /// A pod needs it.
    NeededBy {
        object: ObjectKey,
    },
    Node {
        node: NodeName,
        what: String,
    },
    Approved {
        by: String,
    },
    Ordered {
        by: String,
    },
    /// An autoscaler found that another number of pods is needed.
    Autoscaled {
        by: ObjectKey,
        what: String,
    },
    /// A pod of higher priority needs the room.
    Preempted {
        by: ObjectKey,
        priority: i32,
    },
    /// A CronJob's time has come.
    Schedule {
        cron_job: ObjectKey,
        slot: Timestamp,
    },
    /// A limit of time or number was reached.
    Limit {
        what: String,
    },
}

/// Something that is waited for, and what happens when it takes too long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Waiting {
    pub object: ObjectKey,
    /// `2 of 3 pods to become ready`.
    pub for_what: String,
    pub kind: WaitKind,
    /// When `consequence` comes true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    pub consequence: String,
    /// Set if what is missing is a node for one of the object's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<Unplaced>,
}

/// A pod that fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unplaced {
    pub pod: ObjectKey,
    /// One line that counts nodes per reason.
    pub because: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitKind {
    /// Expected to end by itself.
    Progress,
    /// Somebody has to do something: approve, fix a manifest, make room.
    Blocked,
}

impl Dirty {
    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.objects.is_empty()
    }

    pub fn extend(&mut self, other: Self) {
        self.manifests.extend(other.manifests);
        self.objects.extend(other.objects);
    }
}

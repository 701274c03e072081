//! What is recorded: the rows of the World. Each is constant in size for a live object; what
//! grows with time is the audit log alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::Ipv4Net;
use kgit_protocol::ids::{Digest, Epoch, NodeName, PodUid};
use kgit_protocol::observation::{PodObservation, PodPhase};
use kgit_protocol::pod::PodSpec;
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::change::FieldChange;
use crate::domain::desired::{Commit, Settings};
use crate::domain::key::ObjectKey;
use crate::domain::resource::Resource;
use crate::domain::selector::Labels;
use crate::domain::stage::Sync;
use crate::domain::template::{ConfigContent, ConfigRef, PodTemplate};
use crate::domain::world::Record;

/// How many field changes an object remembers as the cause of what follows from it.
pub const MAX_CAUSE_CHANGES: usize = 16;

/// What is true of the cluster as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub epoch: Epoch,
    /// Bumped when a pruned object's undo window ends, and when data is removed on order, so that a
    /// later object of the same name is another one: uids derive from it.
    pub incarnation: u64,
    /// The last commit that was accepted, whole or in part.
    pub accepted: Option<Arc<Commit>>,
    /// The brakes in force: those of the last accepted commit.
    pub settings: Settings,
    /// Deletions that the brakes hold, until approved or until the manifests are back.
    pub held: Option<Held>,
    /// The master found itself restored from a backup: removals wait for a confirmation.
    pub restored: bool,
    /// Until when a restored master listens for nodes that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listens_until: Option<Timestamp>,
    /// Where services get their addresses: chosen at the master's first start, then fixed.
    #[serde(default)]
    pub service_range: Option<Ipv4Net>,
    /// `kgit suspend`: by whom. Nothing is planned from new commits.
    pub suspended: Option<String>,
    /// The commit on its way through waves and hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Sync>,
}

/// Deletions that wait for `kgit approve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Names exactly this set of deletions; an approval of another set does not count.
    pub plan: String,
    pub objects: Vec<ObjectKey>,
    pub reason: String,
    /// Whether an approval lifts the brake; what else does, `reason` says.
    #[serde(default)]
    pub approvable: bool,
    pub since: Timestamp,
    pub commit: Arc<Commit>,
    /// By whom, once it is.
    pub approved: Option<String>,
}

/// A manifest's object in the form that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub resource: Arc<Resource>,
    pub uid: String,
    pub created: Timestamp,
    /// When a commit last changed it.
    #[serde(default)]
    pub changed: Timestamp,
    /// Bumped with each change of the spec.
    pub generation: u64,
    /// The commit that last changed it, and what it changed (at most [`MAX_CAUSE_CHANGES`]).
    pub commit: Arc<Commit>,
    pub changes: Vec<FieldChange>,
    /// How many pods were made for it; their names and uids derive from this.
    pub counter: u64,
    /// Its manifest is gone, but it holds data (or forbids pruning), so it stays.
    pub retained: Option<Timestamp>,
    /// The object that it was made for, where no manifest made it: the CronJob of a Job, the
    /// StatefulSet of a claim. Its end is its owner's to decide, not a commit's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectKey>,
    /// Its owner wants it away: it goes once its pods are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Timestamp>,
}

/// An object whose manifest is gone, for as long as the undo window lasts: when the manifest
/// comes back, the same object comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    pub applied: Arc<Applied>,
    pub at: Timestamp,
    pub commit: Arc<Commit>,
    /// What was recorded along with it and comes back with it: its state, its revisions.
    #[serde(default)]
    pub rows: Vec<(ObjectKey, Record)>,
}

/// What a Deployment remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentState {
    pub observed_generation: u64,
    /// The highest revision given out.
    pub revision: u64,
    pub collisions: u64,
    /// When the rollout last got ahead; for the progress deadline.
    pub progressed: Timestamp,
    pub deadline_exceeded: bool,
    /// The newest revision was available as a whole once: the progress deadline is over for it, whatever
    /// becomes of its pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_out: bool,
    /// `None`: not looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    pub status: ReplicaStatus,
}

/// Whether enough pods are available, and since when that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    pub enough: bool,
    pub since: Timestamp,
}

/// Counts, as Kubernetes shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub replicas: u32,
    pub updated: u32,
    pub ready: u32,
    pub available: u32,
}

/// One revision of a Deployment, or a ReplicaSet of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSet {
    pub key: ObjectKey,
    pub uid: String,
    /// The Deployment, or the ReplicaSet's own manifest.
    pub owner: ObjectKey,
    pub created: Timestamp,
    pub template: Arc<PodTemplate>,
    /// Of the template and of the config contents that roll it.
    pub revision_digest: Digest,
    /// The value of the `pod-template-hash` label; empty for a ReplicaSet of its own.
    pub hash: String,
    /// The contents that this revision's pods run with, so that an old revision stays what it was.
    pub configs: BTreeMap<ConfigRef, Arc<ConfigContent>>,
    pub revision: u64,
    /// Earlier numbers of the same revision.
    pub revision_history: Vec<u64>,
    pub replicas: u32,
    /// The Deployment's replicas, and those plus surge, when this was last scaled: by them a
    /// scaling in mid-rollout is told from the rollout itself, and shared out in proportion.
    pub desired: u32,
    pub max_replicas: u32,
    pub min_ready_seconds: u32,
    /// How many pods were made for it.
    pub counter: u64,
    pub status: ReplicaStatus,
}

/// What a Job remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    pub started: Option<Timestamp>,
    pub succeeded: u32,
    pub failed: u32,
    pub active: u32,
    pub ready: u32,
    /// Failures since the last success; the retry delay grows with it.
    pub failures_in_row: u32,
    pub last_failure: Option<Timestamp>,
    /// Indexes of an Indexed job that are done.
    pub succeeded_indexes: Vec<u32>,
    /// Indexes that failed too often, or for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_indexes: Vec<u32>,
    /// How often each index failed, and when last, where that is counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub index_failures: BTreeMap<u32, (u32, Timestamp)>,
    /// How many of them the policy ignores.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ignored: BTreeMap<u32, u32>,
    /// A pod failed in a way that ends the job, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    pub finished: Option<JobFinish>,
    /// Of the template that it ran; a change after the finish is a plan step that says so.
    pub template_digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFinish {
    pub at: Timestamp,
    pub succeeded: bool,
    /// `BackoffLimitExceeded`, `DeadlineExceeded`, `PodFailurePolicy`, `FailedIndexes`,
    /// `MaxFailedIndexesExceeded`, or empty.
    pub reason: String,
}

/// One revision of a StatefulSet or a DaemonSet: a ControllerRevision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub key: ObjectKey,
    pub uid: String,
    pub owner: ObjectKey,
    pub created: Timestamp,
    pub number: u64,
    pub template: Arc<PodTemplate>,
    /// Of the template and of the config contents that roll it.
    pub revision_digest: Digest,
    /// The value of the `controller-revision-hash` label, without the owner's name.
    pub hash: String,
    /// The contents that this revision's pods run with.
    pub configs: BTreeMap<ConfigRef, Arc<ConfigContent>>,
}

/// What a StatefulSet remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatefulSetState {
    pub observed_generation: u64,
    pub collisions: u64,
    /// Names of revisions: the one that all pods have or had, and the one that they are to get.
    pub current_revision: String,
    pub update_revision: String,
    pub status: ReplicaStatus,
    /// Pods of the current revision.
    pub current: u32,
}

/// What a DaemonSet remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSetState {
    pub observed_generation: u64,
    pub collisions: u64,
    /// Nodes that are to run a pod.
    pub desired: u32,
    /// Of those, the ones that have one.
    pub current: u32,
    /// Pods on nodes that are not to run one.
    pub misscheduled: u32,
    pub updated: u32,
    pub ready: u32,
    pub available: u32,
    /// Where pods failed: the delay before the next one grows with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<NodeName, Failures>,
}

/// Failures of a DaemonSet's pods on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// In a row.
    pub count: u32,
    /// When the last one was cleared away.
    pub last: Timestamp,
}

/// What a CronJob remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronJobState {
    /// The slot of the newest Job that was started or skipped for good.
    pub last_schedule: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    /// Its Jobs that have not ended.
    pub active: Vec<ObjectKey>,
}

/// What a PodDisruptionBudget comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    pub observed_generation: u64,
    /// How many pods there are to be.
    pub expected: u32,
    pub healthy: u32,
    /// How many have to stay healthy.
    pub desired: u32,
    /// How many may go on purpose now.
    pub allowed: u32,
}

/// A claim's binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimState {
    pub phase: ClaimPhase,
    /// The PersistentVolume's name.
    pub volume: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimPhase {
    Pending,
    Bound,
    Lost,
}

/// A volume's binding, and for a provisioned one the volume itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeState {
    pub phase: VolumePhase,
    /// The claim that it is bound to, with the uid that makes a later claim of that name another.
    pub claim: Option<(ObjectKey, String)>,
    /// The node that its data is on: for a hostPath the one where it was first used.
    pub node: Option<NodeName>,
    pub provisioned: Option<Provisioned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumePhase {
    Available,
    Bound,
    Released,
    /// An explicit order to remove it is under way.
    Removing,
}

/// A PersistentVolume that kgit made for a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    pub uid: String,
    pub created: Timestamp,
    pub class: String,
    pub capacity_bytes: u64,
    pub access_modes: Vec<crate::domain::resource::AccessMode>,
    pub reclaim: crate::domain::resource::ReclaimPolicy,
    pub docker_volume: String,
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub key: ObjectKey,
    pub uid: PodUid,
    /// The ReplicaSet, StatefulSet, DaemonSet or Job, or the Pod's own manifest.
    pub owner: ObjectKey,
    pub created: Timestamp,
    pub labels: Labels,
    pub annotations: Labels,
    pub template: Arc<PodTemplate>,
    /// Of the template and of the config contents that it runs with.
    pub revision_digest: Digest,
    /// Of an Indexed job; the ordinal of a StatefulSet's pod.
    pub index: Option<u32>,
    /// The node that it is for, and that no other node will do for: of a DaemonSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<NodeName>,
    /// Its end is part of its Job's counts already.
    pub counted: bool,
    /// `None`: not placed yet.
    pub placed: Option<Placed>,
    pub deletion: Option<Deletion>,
    /// `None`: nothing was seen yet.
    pub observed: Option<Arc<PodObservation>>,
    /// Drifts up to this number are in the audit.
    pub drifts_told: u64,
    /// Of its PriorityClass when it was made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Waits for room to become free, never makes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_preempts: bool,
    /// The node on which pods of lower priority make way for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nominated: Option<NodeName>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub node: NodeName,
    pub at: Timestamp,
    pub spec: Arc<PodSpec>,
    /// [`PodSpec::digest`] of `spec`.
    pub digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub at: Timestamp,
    pub grace_seconds: u32,
    #[serde(default, skip_serializing_if = "EndedBy::is_workload")]
    pub by: EndedBy,
}

/// For whose sake a pod is told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedBy {
    /// Its own workload's.
    #[default]
    Workload,
    /// A person's, who ordered it.
    Order,
    /// Its node's, or a pod's of higher priority.
    Disruption,
}

impl EndedBy {
    fn is_workload(&self) -> bool {
        *self == Self::Workload
    }
}

/// How many different events an object keeps; the oldest give way.
pub const MAX_EVENTS: usize = 16;

/// What was told about one object, newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLog {
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub warning: bool,
    pub reason: String,
    pub message: String,
    pub field_path: Option<String>,
    pub component: String,
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u32,
}

impl EventLog {
    /// The log with one more event; an equal one is counted up instead. `first` and `count` of
    /// `event` are set here.
    #[must_use]
    pub fn with(&self, event: Event) -> Self {
        let mut events = self.events.clone();
        let same = events.iter().position(|old| {
            (old.warning, &old.reason, &old.message, &old.field_path)
                == (event.warning, &event.reason, &event.message, &event.field_path)
        });
        let merged = match same.map(|index| events.remove(index)) {
            Some(old) => Event { first: old.first, count: old.count + 1, ..event },
            None => event,
        };
        events.push(merged);
        if events.len() > MAX_EVENTS {
            events.remove(0);
        }
        Self { events }
    }
}

impl Pod {
    pub fn phase(&self) -> PodPhase {
        self.observed.as_ref().map_or(PodPhase::Pending, |observed| observed.phase)
    }

    pub fn node(&self) -> Option<&NodeName> {
        self.placed.as_ref().map(|placed| &placed.node)
    }

    /// The node on which room is being made for it, while it has none.
    pub fn promised(&self) -> Option<&NodeName> {
        self.nominated.as_ref().filter(|_| self.placed.is_none())
    }

    /// The node that it is on, or on which room is being made for it.
    pub fn seat(&self) -> Option<&NodeName> {
        self.node().or(self.promised())
    }

    /// Ready to serve, and meant to.
    pub fn is_ready(&self) -> bool {
        self.deletion.is_none() && self.serves()
    }

    /// Ready to serve, whether or not it is meant to for much longer.
    pub fn serves(&self) -> bool {
        self.phase() == PodPhase::Running
            && self.observed.as_ref().is_some_and(|observed| observed.ready)
    }

    /// Nothing of it runs any more: its address leads nowhere, and what it took is free.
    pub fn is_over(&self) -> bool {
        self.is_finished() || self.phase() == PodPhase::Gone
    }

    /// Ready for at least `min_ready_seconds`. Where nothing is to pass, no clocks are compared: the
    /// node's may be ahead of the master's.
    pub fn is_available(&self, min_ready_seconds: u32, now: Timestamp) -> bool {
        let long_enough = || self.available_at(min_ready_seconds).is_some_and(|at| at <= now);
        self.is_ready() && (min_ready_seconds == 0 || long_enough())
    }

    /// When it becomes available if it stays ready.
    pub fn available_at(&self, min_ready_seconds: u32) -> Option<Timestamp> {
        let since = self.observed.as_ref()?.ready_since?;
        Some(since.after(std::time::Duration::from_secs(u64::from(min_ready_seconds))))
    }

    /// Ended for good: will not run again under this uid.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase(), PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Neither finished nor on its way out.
    pub fn is_active(&self) -> bool {
        self.deletion.is_none() && !self.is_finished()
    }
}

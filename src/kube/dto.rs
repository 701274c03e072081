//! The documents of kgit's own endpoints, `/kgit/v1/…`. The version stands in the path and in
//! each document; readers tolerate fields that they do not know.

use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::audit::{AuditedStep, Entry, Trigger};
use crate::domain::desired::Commit;
use crate::domain::diagnostic::Diagnostic;
use crate::domain::key::ObjectKey;
use crate::domain::node_order::NodeOrder;
use crate::domain::plan::Waiting;
use crate::domain::token::Role;

/// The version of all documents in here.
pub const VERSION: u32 = 1;

/// `GET status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub version: u32,
    pub cluster: String,
    /// kgit's own version.
    pub master: String,
    pub now: Timestamp,
    pub source: SourceStatus,
    /// The commit that is in force.
    pub accepted: Option<Commit>,
    pub suspended_by: Option<String>,
    /// The master was restored from a backup and removes nothing until told.
    pub restored: bool,
    /// What it does not know of its nodes since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    pub reconciling: Option<u64>,
    /// Why nothing can be recorded at the moment, and so nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    pub held: Option<HeldDeletions>,
    /// The commit on its way through waves and hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
    pub nodes: Vec<NodeLine>,
    pub objects: Vec<ObjectLine>,
    pub waits: Vec<Waiting>,
    pub errors: usize,
    pub warnings: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub kind: String,
    pub location: String,
    pub branch: Option<String>,
    /// The newest commit that was read.
    pub commit: Option<Commit>,
    pub error: Option<String>,
    pub checked: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// What the stages behind wait for: `PreSync`, `wave 2`; empty while deletions are waited for.
    pub stage: String,
    /// Somebody has to look.
    pub failed: bool,
    /// Objects whose change is still to come.
    pub pending: Vec<ObjectKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldDeletions {
    /// What to give to `kgit approve`.
    pub plan: String,
    pub objects: Vec<String>,
    pub reason: String,
    pub approved_by: Option<String>,
    /// Whether an approval lets them go ahead; otherwise only the manifests can.
    #[serde(default)]
    pub approvable: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeLine {
    pub name: String,
    pub ready: Option<bool>,
    /// `cordoned`, `drained` or `fenced`, where no pods are to go there by order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    pub pods: usize,
    pub heard_of: Option<Timestamp>,
}

/// A workload, claim or other object with a health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectLine {
    pub object: ObjectKey,
    pub health: Health,
    /// `2/3 ready`, `Bound`.
    pub detail: String,
    /// Where its manifest stands.
    pub place: String,
    /// Its manifest is gone; it is kept since.
    pub retained: Option<Timestamp>,
}

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    Healthy,
    Suspended,
    Progressing,
    Missing,
    Degraded,
    Unknown,
}

/// `POST diff`: a tree on the caller's disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiffRequest {
    pub version: u32,
    #[serde(default)]
    pub files: Vec<UploadedFile>,
    /// Everything is in `files`; what is not is gone.
    #[serde(default)]
    pub complete: bool,
    #[serde(default)]
    pub removed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadedFile {
    pub path: String,
    /// Base64.
    pub content: String,
}

/// The answer: what would happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiffAnswer {
    pub version: u32,
    pub steps: Vec<AuditedStep>,
    pub waits: Vec<Waiting>,
    /// Deletions that a brake holds: what an approval would let happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<ObjectKey>,
    /// Changes that wait for a wave or a hook which failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<ObjectKey>,
    pub diagnostics: Vec<Diagnostic>,
    pub changes: usize,
    /// All of it, for people.
    pub text: String,
}

/// `GET audit/reconciles`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconciles {
    pub version: u32,
    pub reconciles: Vec<ReconcileLine>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReconcileLine {
    pub reconcile: u64,
    pub at: Timestamp,
    pub trigger: Trigger,
    pub steps: u32,
    /// Steps that were not in the forecast.
    pub deviations: u32,
    pub state: String,
}

/// `GET audit/entries`, `GET audit/reconciles/{n}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entries {
    pub version: u32,
    pub entries: Vec<Entry>,
}

/// `GET audit/verify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    pub version: u32,
    pub entries: u64,
    pub head: Option<AuditHead>,
    pub witnesses: Vec<WitnessLine>,
    /// Empty: the log is whole.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WitnessLine {
    pub node: String,
    pub head: AuditHead,
    pub agrees: bool,
}

/// `GET why/{kind}/{namespace}/{name}`: the steps that made the object what it is, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    pub version: u32,
    pub object: ObjectKey,
    /// The objects that it exists for, nearest first.
    pub owners: Vec<ObjectKey>,
    pub steps: Vec<WhyStep>,
    pub waits: Vec<Waiting>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyStep {
    pub reconcile: u64,
    pub at: Timestamp,
    pub trigger: Trigger,
    pub step: AuditedStep,
}

/// `GET tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    pub version: u32,
    pub tokens: Vec<TokenLine>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLine {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    pub uses_left: Option<u32>,
    pub revoked: bool,
}

/// `POST tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRequest {
    pub version: u32,
    pub name: String,
    pub role: Role,
    pub valid_seconds: Option<u64>,
    pub uses: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenCreated {
    pub version: u32,
    pub id: String,
    /// The only time that it is shown.
    pub token: String,
}

/// `POST approve`, `POST prune`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub version: u32,
    #[serde(default)]
    pub plan: String,
    #[serde(default)]
    pub objects: Vec<String>,
}

/// `POST nodes/{name}/orders`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRequest {
    pub version: u32,
    #[serde(flatten)]
    pub order: NodeOrder,
}

/// The answer to an order: what was done, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub version: u32,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

/// `GET diagnostics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    pub version: u32,
    pub diagnostics: Vec<Diagnostic>,
}

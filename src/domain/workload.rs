//! What StatefulSets, DaemonSets and CronJobs are to be.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::manifest::Manifest;
use crate::domain::resource::{ClaimSpec, IntOrPercent, JobSpec};
use crate::domain::selector::{Labels, Selector};
use crate::domain::template::PodTemplate;

/// Pods with names, volumes and an order of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatefulSetSpec {
    pub replicas: u32,
    pub selector: Selector,
    /// The headless service that its pods are found under; may be empty.
    pub service: String,
    pub template: Arc<PodTemplate>,
    /// `podManagementPolicy: Parallel`: no pod waits for another.
    pub parallel: bool,
    pub update: StatefulUpdate,
    pub min_ready_seconds: u32,
    pub revision_history_limit: u32,
    pub claims: Vec<ClaimTemplate>,
    pub retention: ClaimRetention,
    /// The ordinal of its first pod.
    pub first_ordinal: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatefulUpdate {
    OnDelete,
    /// Pods below `partition` keep the revision that they have.
    RollingUpdate {
        partition: u32,
        max_unavailable: IntOrPercent,
    },
}

/// A claim that each pod of a StatefulSet gets of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTemplate {
    pub name: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub spec: ClaimSpec,
    /// As it was written, for showing the claims made from it.
    pub manifest: Manifest,
}

/// `persistentVolumeClaimRetentionPolicy`; true: `Delete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRetention {
    pub delete_when_deleted: bool,
    pub delete_when_scaled: bool,
}

/// One pod on every node that can take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSetSpec {
    pub selector: Selector,
    pub template: Arc<PodTemplate>,
    pub update: DaemonUpdate,
    pub min_ready_seconds: u32,
    pub revision_history_limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonUpdate {
    OnDelete,
    RollingUpdate { max_surge: IntOrPercent, max_unavailable: IntOrPercent },
}

/// The condition of a pod that was told to end for its node, or for a pod of higher priority.
pub const DISRUPTED: &str = "DisruptionTarget";

/// What the failure of a Job's pod means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRule {
    pub action: FailureAction,
    pub exit_codes: Option<ExitCodes>,
    /// Types of pod conditions that are true of it.
    pub conditions: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    FailJob,
    FailIndex,
    /// It is started again and counts for nothing.
    Ignore,
    Count,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitCodes {
    /// `None`: any container.
    pub container: Option<String>,
    /// `In`; else `NotIn`.
    pub inside: bool,
    pub values: Vec<i32>,
}

/// Jobs at times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronJobSpec {
    /// As it was written: five fields, or `@daily` and the like.
    pub schedule: String,
    /// IANA name; `None`: UTC.
    pub zone: Option<String>,
    pub starting_deadline_seconds: Option<u32>,
    pub concurrency: ConcurrencyPolicy,
    pub suspend: bool,
    pub successful_history_limit: u32,
    pub failed_history_limit: u32,
    pub job: JobSpec,
    pub job_labels: Labels,
    pub job_annotations: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConcurrencyPolicy {
    Allow,
    Forbid,
    Replace,
}

/// What the pods of a Job are labelled with. The short forms are the older ones; scripts select by
/// both.
pub fn labels_of_job(name: &str, uid: &str) -> Labels {
    let labels = [
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
        ("controller-uid", uid),
        ("job-name", name),
    ];
    labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

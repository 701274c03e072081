//! The audit log's entries: every reconcile, from what set it off to how it ended, and every order.

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::desired::Commit;
use crate::domain::plan::{Reason, Said};

/// The steps of one reconcile that are written out in full. What is beyond is counted and covered
/// by a digest, so that a reconcile costs a bounded number of bytes.
pub const MAX_STEPS_LISTED: usize = 500;

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub sequence: u64,
    pub at: Timestamp,
    /// The reconcile that it belongs to: the sequence of its `Triggered` entry. Its own, where it
    /// belongs to none: an order, a restore.
    pub reconcile: u64,
    pub body: Body,
    /// Keyed digest of the body; it stays when the body is redacted.
    pub body_digest: Digest,
    /// Of everything above and of the entry before.
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Body {
    Triggered {
        by: Trigger,
        forecast: Vec<Said>,
    },
    Planned {
        steps: Vec<AuditedStep>,
        beyond: u32,
    },
    /// What agents reported of steps and what was ordered meanwhile, in words:
    /// `Pod/default/web-1 running on a`.
    Outcome {
        lines: Vec<String>,
    },
    Finished {
        steps: u32,
        deviations: u32,
        missing: Vec<Said>,
        waiting: Vec<String>,
        superseded: bool,
    },
    /// Older entries were removed by an explicit order; the chain goes on from here.
    Anchor {
        removed_through: u64,
        last_digest: Digest,
        by: String,
    },
    /// What the limits left out of the reconcile's entries, counted and covered by a digest of
    /// its words. Written by the store, right before `Finished`.
    Omitted {
        steps: u32,
        lines: u32,
        digest: Digest,
    },
    /// The text of an older entry was taken out by an explicit order; its digests stay.
    Redaction {
        sequence: u64,
        by: String,
    },
    /// The record was restored from a backup; what came after this entry's predecessor is lost.
    Restored {
        by: String,
    },
    /// An order of somebody that set no reconcile off.
    Ordered {
        by: String,
        what: String,
    },
    /// Stands where the text of an entry was, before it was redacted.
    Redacted,
}

/// How many steps the entries of a reconcile tell of, and how many of these were not forecast.
pub fn steps_of(entries: &[Entry]) -> (u32, u32) {
    entries
        .iter()
        .map(|entry| entry.body.steps())
        .fold((0, 0), |all, one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)))
}

impl Body {
    /// How many steps it tells of, and how many of these no forecast had; beyond what is listed,
    /// deviations are not known.
    pub fn steps(&self) -> (u32, u32) {
        let Self::Planned { steps, beyond } = self else { return (0, 0) };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let deviations = steps.iter().filter(|step| step.deviation.is_some()).count();
        (number(steps.len()).saturating_add(*beyond), number(deviations))
    }

    /// The word that the entry is tagged with.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Triggered { .. } => "triggered",
            Self::Planned { .. } => "planned",
            Self::Outcome { .. } => "outcome",
            Self::Finished { .. } => "finished",
            Self::Anchor { .. } => "anchor",
            Self::Omitted { .. } => "omitted",
            Self::Redaction { .. } => "redaction",
            Self::Restored { .. } => "restored",
            Self::Ordered { .. } => "ordered",
            Self::Redacted => "redacted",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "trigger", rename_all = "kebab-case")]
pub enum Trigger {
    Commit {
        commit: Commit,
    },
    Drift {
        what: String,
    },
    Node {
        node: String,
        what: String,
    },
    Timer {
        what: String,
    },
    Approval {
        by: String,
        what: String,
    },
    Api {
        by: String,
        what: String,
    },
    /// Something that an agent saw: a pod ended, a container failed.
    Observation {
        what: String,
    },
    Start,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedStep {
    #[serde(flatten)]
    pub said: Said,
    pub reasons: Vec<Reason>,
    /// Not in the forecast: the observation or order that caused it, else why it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<String>,
}

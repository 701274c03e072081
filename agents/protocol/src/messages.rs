//! The requests an agent makes of the master and the answers it gets. Everything is JSON over
//! HTTPS, dialled by the agent. Identity comes from the client certificate; only [`Join`] goes
//! without one.
//!
//! | request                          | body → answer                                |
//! | -------------------------------- | -------------------------------------------- |
//! | `POST /agent/v1/join`            | [`Join`] → [`Joined`]                        |
//! | `POST /agent/v1/renew`           | [`Renew`] → [`Joined`]                       |
//! | `POST /agent/v1/pull`            | [`Pull`] → [`Pulled`] (long poll)            |
//! | `POST /agent/v1/report`          | [`Report`] → [`Acknowledged`]                |
//! | `POST /agent/v1/heartbeat`       | [`Heartbeat`] → [`Lease`]                    |
//! | `POST /agent/v1/usage`           | [`crate::usage::Usage`] → nothing            |
//! | `GET /agent/v1/tunnel`           | an upgrade; [`crate::stream`] tells the rest |
//! | `POST /agent/v1/leave`           | [`Leave`] → nothing                          |

use serde::{Deserialize, Serialize};

use crate::assignment::{AssignmentSet, Delta, PodNetwork, Stamp};
use crate::directory::DirectoryChange;
use crate::ids::{BootId, ClusterId, Digest, NodeName};
use crate::observation::{NodeObservation, PodEvent, PodObservation};
use crate::time::Timestamp;

/// In the path of every request, and in every message that an agent sends; the master refuses a
/// version that it does not know, and answers in the one that it was asked in.
pub const PROTOCOL_VERSION: u32 = 1;

/// A node asks to become part of the cluster; or to be so again, with its certificate, since the
/// master said that it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    pub version: u32,
    /// The secret half of the join token; empty where the certificate is to do.
    pub token: String,
    pub node: NodeName,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// A PKCS#10 request in PEM, signed with the key that the agent made for itself.
    pub certificate_request: String,
    pub network: PodNetwork,
}

/// A node asks for a new certificate for the same key; the old one may have run out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    pub version: u32,
    pub node: NodeName,
    pub certificate_request: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub cluster: ClusterId,
    pub node: NodeName,
    /// PEM, the node's own certificate.
    pub certificate: String,
    /// PEM, the cluster's CA.
    pub authority: String,
}

/// "Give me what I am to run, if it is not what I have."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    pub version: u32,
    /// `None` on a node that never had a set.
    pub have: Option<Stamp>,
    /// The version of the directory that the node has.
    #[serde(default)]
    pub directory: Option<Digest>,
    /// How long the master may hold the request open.
    pub wait_seconds: u32,
    /// The newest audit head this agent was ever given: its testimony.
    #[serde(default)]
    pub audit_witness: Option<AuditHead>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    pub orders: Orders,
    /// `None`: what you have is current.
    #[serde(default)]
    pub directory: Option<DirectoryChange>,
    #[serde(default)]
    pub audit_head: Option<AuditHead>,
    /// The master's clock, for telling a person how far the two have drifted.
    #[serde(default)]
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Orders {
    /// What you have is current.
    Unchanged,
    Set(AssignmentSet),
    Delta(Delta),
}

/// The end of the audit chain at some moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuditHead {
    /// Which life of the chain: when it was last restored from a backup; zero if it never was,
    /// and in what an older kgit says.
    #[serde(default)]
    pub restored: Timestamp,
    /// A restored backup goes on with the numbers that it has.
    pub sequence: u64,
    pub digest: Digest,
}

impl AuditHead {
    /// Of a later life, or further on in the same one.
    pub fn is_after(&self, other: &Self) -> bool {
        (self.restored, self.sequence) > (other.restored, other.sequence)
    }
}

/// What changed on the node. Repeated with the same sequence until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    pub boot: BootId,
    pub sequence: u64,
    /// The set that these observations were made under.
    pub applied: Option<Stamp>,
    /// The version of the directory that traffic on the node goes by.
    #[serde(default)]
    pub directory: Option<Digest>,
    #[serde(default)]
    pub node: Option<NodeObservation>,
    #[serde(default)]
    pub pods: Vec<PodObservation>,
    #[serde(default)]
    pub events: Vec<PodEvent>,
    /// Ordered volumes that are gone now.
    #[serde(default)]
    pub volumes_removed: Vec<String>,
    /// `pods` is all there is on the node: pods that the master knows of and that are not in it
    /// do not exist there. Sent first after each start of the agent.
    #[serde(default)]
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    pub sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub version: u32,
    pub boot: BootId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The node counts as not ready this long after its last heartbeat.
    pub seconds: u32,
}

/// The node leaves the cluster: its pods are stopped and removed already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    pub version: u32,
}

/// Any refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One CamelCase word for programs.
    pub reason: String,
    /// What to tell a person, with what to do next.
    pub message: String,
}

//! Everything that can happen to the master. A closed set: what is not here can't happen.

use std::sync::Arc;

use ipnet::Ipv4Net;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{BootId, Digest, NodeName};
use kgit_protocol::messages::{AuditHead, Join, Report};
use kgit_protocol::usage::Usage;
use tokio::sync::oneshot;

use crate::domain::desired::{Commit, TreeChange};
use crate::domain::key::ObjectKey;
use crate::domain::node_order::NodeOrder;
use crate::domain::token::TokenOrder;

#[derive(Debug)]
pub enum Event {
    /// The source delivered a commit: how its tree differs from the last one delivered.
    Source {
        commit: Arc<Commit>,
        change: TreeChange,
    },
    /// The source can't be read; what was read last stays in force.
    SourceFailed {
        error: String,
    },
    /// It can be read again, and nothing in it changed.
    SourceRecovered,
    /// The range that services get their addresses from; the first one said is kept for good.
    ServiceRange {
        range: Ipv4Net,
    },
    /// A node asks to join; what it shows for it was checked, its key's digest taken from its
    /// request.
    Join {
        join: Box<Join>,
        key_digest: Digest,
        credential: Credential,
        reply: Reply<()>,
    },
    /// A node says what set it has; the answer waits in the view.
    Pull {
        node: NodeName,
        have: Option<Stamp>,
        witness: Option<AuditHead>,
    },
    Report {
        node: NodeName,
        report: Box<Report>,
        reply: Reply<u64>,
    },
    Heartbeat {
        node: NodeName,
        boot: BootId,
    },
    /// What a node's pods use of it.
    Usage {
        node: NodeName,
        usage: Arc<Usage>,
    },
    Leave {
        node: NodeName,
        reply: Reply<()>,
    },
    /// Somebody approves the deletions that are held under this plan's name.
    Approve {
        plan: String,
        by: String,
        reply: Reply<String>,
    },
    /// Somebody orders retained objects, and their data, to be removed.
    RemoveRetained {
        objects: Vec<ObjectKey>,
        by: String,
        reply: Reply<Vec<ObjectKey>>,
    },
    /// New commits are to wait.
    Suspend {
        by: String,
        reply: Reply<()>,
    },
    Resume {
        by: String,
        reply: Reply<()>,
    },
    /// Forget everything a node's name stands for, so that another machine can take it.
    ResetNode {
        node: NodeName,
        by: String,
        reply: Reply<()>,
    },
    /// Cordon, drain, label, taint, fence or remove a node.
    Node {
        node: NodeName,
        order: NodeOrder,
        by: String,
        reply: Reply<String>,
    },
    /// Somebody orders a pod to end that a workload made; `grace_seconds` instead of its own.
    EndPod {
        pod: ObjectKey,
        grace_seconds: Option<u32>,
        by: String,
        reply: Reply<()>,
    },
    Token {
        order: TokenOrder,
        by: String,
        reply: Reply<()>,
    },
    /// Somebody is about to work inside a pod: it is to be written down first.
    Entered {
        by: String,
        what: String,
        reply: Reply<()>,
    },
    /// Remove audit entries up to a sequence; an anchor takes their place.
    RemoveAudit {
        through: u64,
        by: String,
        reply: Reply<u64>,
    },
    /// Some deadline has come; the loop knows which.
    Timer,
    Shutdown,
}

/// What a node that asks to join has to show for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token, and what its use costs it: that is spent in the transaction that records the
    /// node, so that a crash costs neither or both.
    Token(Option<TokenOrder>),
    /// The key that a member of this name joined with: it asks again.
    Key,
    /// A certificate of this cluster for its name and key.
    Certificate,
}

/// Where the answer goes; a caller that went away is nobody's error.
pub type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// The loop refuses an order: why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: &'static str,
    pub message: String,
}

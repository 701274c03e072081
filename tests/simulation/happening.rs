//! Everything that can happen in the simulated cluster, and what travels between its parts.

use kgit_agent::decide::outcome::Note;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::messages::{AuditHead, Pulled, Report};
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::Usage;

#[derive(Debug)]
pub enum Happening {
    MasterStarts,
    MasterTurns {
        life: u64,
    },
    SourceDelivers {
        life: u64,
    },
    StoreWorks,
    AtMaster {
        node: usize,
        life: u64,
        id: u64,
        request: Request,
    },
    AtAgent {
        node: usize,
        life: u64,
        id: u64,
        answer: Answer,
    },
    AgentStarts {
        node: usize,
    },
    AgentLooks {
        node: usize,
        life: u64,
    },
    AgentCalls {
        node: usize,
        life: u64,
        pod: PodUid,
    },
    AgentSends {
        node: usize,
        life: u64,
        what: Sends,
    },
    TimedOut {
        node: usize,
        life: u64,
        id: u64,
    },
    Fetched {
        node: usize,
        life: u64,
        pod: PodUid,
        container: String,
        image: String,
        attempt: Attempt,
    },
    HookEnds {
        node: usize,
        life: u64,
        pod: PodUid,
        note: Note,
    },
    Probes {
        node: usize,
        life: u64,
        key: (String, u8),
    },
    ProcessEnds {
        node: usize,
        id: String,
        started_at: Timestamp,
        code: i64,
    },
    EngineBack {
        node: usize,
    },
    LinkBack {
        node: usize,
    },
    RegistryBack {
        node: usize,
    },
    DiskFreed {
        node: usize,
    },
    /// Somebody takes a node out that will not come back.
    NodeRemoved {
        node: usize,
    },
    /// A machine that was given up for dead comes back.
    NodeReturns {
        node: usize,
    },
    BackupTaken,
    LoadChanges,
    Chaos,
}

impl Happening {
    /// The node where it happens, if it is at one, and whether it needs the agent's process.
    pub fn node(&self) -> Option<(usize, bool)> {
        match self {
            Self::AtAgent { node, .. }
            | Self::AgentLooks { node, .. }
            | Self::AgentCalls { node, .. }
            | Self::AgentSends { node, .. }
            | Self::TimedOut { node, .. }
            | Self::Fetched { node, .. }
            | Self::HookEnds { node, .. }
            | Self::Probes { node, .. } => Some((*node, true)),
            Self::AgentStarts { node }
            | Self::ProcessEnds { node, .. }
            | Self::EngineBack { node }
            | Self::LinkBack { node }
            | Self::RegistryBack { node }
            | Self::DiskFreed { node }
            | Self::NodeReturns { node } => Some((*node, false)),
            Self::MasterStarts
            | Self::MasterTurns { .. }
            | Self::SourceDelivers { .. }
            | Self::StoreWorks
            | Self::AtMaster { .. }
            | Self::NodeRemoved { .. }
            | Self::BackupTaken
            | Self::LoadChanges
            | Self::Chaos => None,
        }
    }

    /// Whether it may have changed an engine other than the one where it happens.
    pub fn is_anywhere(&self) -> bool {
        matches!(self, Self::Chaos)
    }
}

#[derive(Clone, Debug)]
pub enum Request {
    Pull { have: Option<Stamp>, witness: Option<AuditHead> },
    Report(Box<Report>),
    Heartbeat,
    Usage(Box<Usage>),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Pulled(Box<Pulled>),
    Acknowledged(u64),
    Lease,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    Pull,
    Report,
    Beat,
    /// Told once, and never again.
    Usage,
}

/// A promise broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    DoublesContainers,
    IgnoresStop,
    RemovesVolumes,
    StartsWhatIsGone,
    LosesReports,
    TampersWithAudit,
    /// The agents' disks keep nothing that they say they do.
    SyncsNothing,
    /// The agents do not know that they are cut off.
    IgnoresFence,
    /// A container of a pod with a claim is started on another node too.
    SharesClaims,
}

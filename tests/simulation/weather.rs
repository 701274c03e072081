//! What goes wrong in a run, and how often. Each seed has a weather of its own: some kinds of
//! faults and not others, so that every mixture is met, and quiet ones leave time for rollouts.

use crate::random::Random;

/// Everything that is done to the cluster from outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    MasterDies,
    /// Before its transaction is through: nothing of the turn is on disk.
    MasterDiesBeforeCommit,
    /// After it: on disk, and nobody was told.
    MasterDiesAfterCommit,
    StoreFails,
    AgentDies,
    AgentDiesBeforeCall,
    AgentDiesAfterCall,
    AgentDiesBetweenJournalAndWork,
    HostReboots,
    EngineRestarts,
    EngineHangs,
    CallFails,
    LinkCut,
    /// What the agent sends arrives, the answers do not.
    AnswersLost,
    MessageLost,
    MessageDoubled,
    MessageLate,
    ContainerKilled,
    ContainerRemoved,
    ContainerPaused,
    ProcessCrashes,
    ProbeFails,
    ImageGone,
    NetworkGone,
    RegistryDown,
    IgnoresTerm,
}

impl Fault {
    pub const ALL: [Self; 26] = [
        Self::MasterDies,
        Self::MasterDiesBeforeCommit,
        Self::MasterDiesAfterCommit,
        Self::StoreFails,
        Self::AgentDies,
        Self::AgentDiesBeforeCall,
        Self::AgentDiesAfterCall,
        Self::AgentDiesBetweenJournalAndWork,
        Self::HostReboots,
        Self::EngineRestarts,
        Self::EngineHangs,
        Self::CallFails,
        Self::LinkCut,
        Self::AnswersLost,
        Self::MessageLost,
        Self::MessageDoubled,
        Self::MessageLate,
        Self::ContainerKilled,
        Self::ContainerRemoved,
        Self::ContainerPaused,
        Self::ProcessCrashes,
        Self::ProbeFails,
        Self::ImageGone,
        Self::NetworkGone,
        Self::RegistryDown,
        Self::IgnoresTerm,
    ];

    /// Those that strike by themselves now and then; the others strike at a message, a
    /// transaction or a call.
    pub fn strikes_alone(self) -> bool {
        !matches!(
            self,
            Self::MasterDiesBeforeCommit
                | Self::MasterDiesAfterCommit
                | Self::AgentDiesBeforeCall
                | Self::AgentDiesAfterCall
                | Self::AgentDiesBetweenJournalAndWork
                | Self::MessageLost
                | Self::MessageDoubled
                | Self::MessageLate
                | Self::ProbeFails
        )
    }
}

#[derive(Clone, Debug)]
pub struct Weather {
    pub faults: Vec<Fault>,
    /// Chances in a thousand.
    pub message: u32,
    pub call: u32,
    pub commit: u32,
    /// Of a chaos event to be a commit of the repo rather than a fault.
    pub change: u32,
    pub chaos_events: usize,
}

impl Weather {
    pub fn of(random: &mut Random) -> Self {
        let share = random.pick(&[0, 250, 500, 1000]);
        let faults = Fault::ALL.into_iter().filter(|_| random.permille(share)).collect();
        Self {
            faults,
            message: random.pick(&[5, 30, 150]),
            call: random.pick(&[5, 20, 60]),
            commit: random.pick(&[2, 10, 40]),
            change: random.pick(&[200, 400, 600]),
            chaos_events: 15 + random.below(45),
        }
    }

    /// No fault at all, for tests of single things.
    pub fn calm() -> Self {
        Self { faults: Vec::new(), message: 0, call: 0, commit: 0, change: 1000, chaos_events: 12 }
    }

    /// Whether a fault that strikes at something strikes now.
    pub fn strikes(&self, fault: Fault, random: &mut Random) -> bool {
        let chance = match fault {
            Fault::MessageLost | Fault::MessageDoubled | Fault::MessageLate => self.message,
            Fault::MasterDiesBeforeCommit | Fault::MasterDiesAfterCommit => self.commit,
            _ => self.call,
        };
        self.faults.contains(&fault) && random.permille(chance)
    }
}

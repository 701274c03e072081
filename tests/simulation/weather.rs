//! What goes wrong in a run, and how often. Each seed has a weather of its own: some kinds of
//! faults and not others, so that every mixture is met, and quiet ones leave time for rollouts.

use std::time::Duration;

use crate::random::Random;

/// Everything that is done to the cluster from outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    MasterDies,
    /// Before its transaction is through: nothing of the turn is on disk.
    MasterDiesBeforeCommit,
    /// After it: on disk, and nobody was told.
    MasterDiesAfterCommit,
    MasterRestored,
    MasterClockSteps,
    StoreFails,
    AgentDies,
    AgentDiesBeforeCall,
    AgentDiesAfterCall,
    AgentDiesBetweenJournalAndWork,
    /// It does nothing for a while, and then goes on where it was.
    AgentHangs,
    AgentClockSteps,
    AgentClockDrifts,
    HostReboots,
    /// The power goes while the journal is being written.
    PowerFails,
    /// Never to come back.
    HostDies,
    DiskFull,
    EngineRestarts,
    EngineAway,
    /// Calls do not return for a while.
    EngineHangs,
    CallFails,
    LinkCut,
    /// What the agent sends arrives, the answers do not.
    AnswersLost,
    /// What the agent asks does not arrive; what it had asked before is answered.
    RequestsLost,
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
    PullSlow,
    PullFails,
    IgnoresTerm,
}

impl Fault {
    pub const ALL: [Self; 38] = [
        Self::MasterDies,
        Self::MasterDiesBeforeCommit,
        Self::MasterDiesAfterCommit,
        Self::MasterRestored,
        Self::MasterClockSteps,
        Self::StoreFails,
        Self::AgentDies,
        Self::AgentDiesBeforeCall,
        Self::AgentDiesAfterCall,
        Self::AgentDiesBetweenJournalAndWork,
        Self::AgentHangs,
        Self::AgentClockSteps,
        Self::AgentClockDrifts,
        Self::HostReboots,
        Self::PowerFails,
        Self::HostDies,
        Self::DiskFull,
        Self::EngineRestarts,
        Self::EngineAway,
        Self::EngineHangs,
        Self::CallFails,
        Self::LinkCut,
        Self::AnswersLost,
        Self::RequestsLost,
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
        Self::PullSlow,
        Self::PullFails,
        Self::IgnoresTerm,
    ];

    /// Those that strike by themselves now and then; the others strike at a message, a
    /// transaction, a call or a write.
    pub fn strikes_alone(self) -> bool {
        !matches!(
            self,
            Self::MasterDiesBeforeCommit
                | Self::MasterDiesAfterCommit
                | Self::AgentDiesBeforeCall
                | Self::AgentDiesAfterCall
                | Self::AgentDiesBetweenJournalAndWork
                | Self::PowerFails
                | Self::PullSlow
                | Self::PullFails
        ) && !self.is_small()
    }

    /// Such as happen by the dozen, and make no hour a hard one.
    pub fn is_small(self) -> bool {
        matches!(
            self,
            Self::MessageLost | Self::MessageDoubled | Self::MessageLate | Self::ProbeFails
        )
    }
}

/// How fast things come, and how often anybody looks though nothing happened. Long runs leave out
/// what only repeats: an engine in memory tells of every change, so looking at it anew finds one
/// seldom, and a pull that is held longer is answered as soon as there is something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub resync: Duration,
    pub poll: Duration,
    pub probe_seconds: u32,
    /// All agents' heartbeats come together, so that the master turns once for all.
    pub beats_together: bool,
    pub hours: u64,
}

impl Pace {
    /// As in life, for a quarter of an hour or so.
    pub const DENSE: Self = Self {
        resync: Duration::from_secs(5),
        poll: Duration::from_secs(25),
        probe_seconds: 5,
        beats_together: false,
        hours: 0,
    };

    pub fn of_hours(hours: u64) -> Self {
        if hours == 0 {
            return Self::DENSE;
        }
        Self {
            resync: Duration::from_secs(120),
            poll: Duration::from_secs(600),
            probe_seconds: 60,
            beats_together: true,
            hours,
        }
    }

    /// Until the next thing goes wrong or is committed.
    pub fn between(&self, random: &mut Random) -> Duration {
        match (self.hours, random.below(20)) {
            (0, 0..8) | (_, 0..6) => random.millis(0, 2_000),
            (0, 8..16) | (_, 6..10) => random.millis(2_000, 15_000),
            (0, 16..19) => random.millis(15_000, 70_000),
            (0, _) => random.millis(70_000, 420_000),
            (_, 10..12) => random.millis(15_000, 300_000),
            (_, _) => random.millis(300_000, 900_000),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Weather {
    pub faults: Vec<Fault>,
    /// Chances in a thousand.
    pub message: u32,
    pub call: u32,
    pub commit: u32,
    /// Of a chaos event to be somebody's doing (a commit, an order) rather than a fault.
    pub change: u32,
    /// How long all this goes on.
    pub lasts: Duration,
}

impl Weather {
    pub fn of(random: &mut Random, pace: &Pace) -> Self {
        let share = match pace.hours {
            0 => random.pick(&[0, 250, 500, 1000]),
            _ => random.pick(&[250, 500, 1000]),
        };
        let faults = Fault::ALL.into_iter().filter(|_| random.permille(share)).collect();
        let dense = random.millis(300_000, 1_500_000);
        let long = Duration::from_secs(pace.hours * 3600);
        Self {
            faults,
            message: random.pick(&[5, 30, 150]),
            call: random.pick(if long.is_zero() { &[5, 20, 60] } else { &[1, 4, 15] }),
            commit: random.pick(if long.is_zero() { &[2, 10, 40] } else { &[0, 1, 3] }),
            change: random.pick(if long.is_zero() { &[200, 400, 600] } else { &[300, 400, 500] }),
            lasts: if pace.hours == 0 { dense } else { long },
        }
    }

    /// No fault at all, for tests of single things.
    pub fn calm() -> Self {
        let (message, call, commit) = (0, 0, 0);
        let lasts = Duration::from_secs(300);
        Self { faults: Vec::new(), message, call, commit, change: 1000, lasts }
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

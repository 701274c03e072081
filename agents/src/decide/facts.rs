//! What the agent remembers of a pod beyond what the engine shows: attempts, back-off, how
//! containers ended, what it did itself. The journal keeps it; it is bounded by the pod's spec.

use std::collections::BTreeMap;
use std::time::Duration;

use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::ids::Attempt;
use kgit_protocol::observation::{Drift, DriftKind, MAX_DRIFTS, Termination};
use kgit_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What Kubernetes gives a pod that says nothing, for pods whose spec was never seen.
const DEFAULT_GRACE_SECONDS: u32 = 30;

/// Equal drifts this close together are one.
const SAME_DRIFT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFacts {
    pub namespace: String,
    pub name: String,
    /// When this agent was first told of the pod.
    pub since: Timestamp,
    pub grace_seconds: u32,
    /// By name; the pause container's is empty.
    pub containers: BTreeMap<String, ContainerFacts>,
    /// The pause container that the members were started in.
    pub sandbox: Option<Sandbox>,
    pub drifts: Vec<Drift>,
    pub drift_count: u64,
    /// Set once and for good: the pod is over.
    pub outcome: Option<PodOutcome>,
    pub ready_since: Option<Timestamp>,
    /// Why the pod's volumes or network can't be prepared, for now.
    pub trouble: Option<Trouble>,
    /// Everything of the pod was seen to be gone.
    pub gone: bool,
    /// Stopped for good: the node was cut off for as long as the pod allows, or its end was told.
    #[serde(default)]
    pub fenced: bool,
    /// Traffic is being led elsewhere, so that the pod can be stopped.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// Ports that services lead to and nothing listens on.
    #[serde(default)]
    pub silent_ports: Vec<u16>,
}

/// The time between the end of new connections and the first signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub since: Timestamp,
    /// When no more connections were led to the pod.
    pub done: Option<Timestamp>,
}

/// One life of the pause container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: String,
    pub started_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodOutcome {
    Succeeded,
    Failed { reason: Option<String>, message: Option<String> },
}

/// Something failed that will be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub reason: String,
    pub message: String,
    pub failures: u32,
    pub retry_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// The newest container ever ordered, or seen, for this name.
    pub attempt: Attempt,
    pub id: Option<String>,
    pub image: Option<String>,
    pub phase: Phase,
    pub restarts: u32,
    /// How the attempt before this one ended.
    pub last: Option<Termination>,
    /// Exits in a row that count for the restart back-off.
    pub crashes: u32,
    /// Not to be started before.
    pub start_after: Option<Timestamp>,
    pub stop: Option<Stop>,
    /// Stopped on purpose by whom runs the node, who will start the agent again.
    #[serde(default)]
    pub taken_down: bool,
    pub touched: Option<Touched>,
    pub image_pull: ImagePull,
    pub trouble: Option<Trouble>,
    pub post_start: HookState,
    pub probes: ProbeFacts,
    /// The hash in force when the newest container was ordered.
    pub spec: String,
}

/// How far the newest attempt has come, as far as was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Never,
    /// To be made and started; may exist or not.
    Ordered,
    Running {
        started_at: Timestamp,
    },
    Ended {
        termination: Termination,
        /// It did not end by itself, so it starts again at once, whatever the policy says.
        again: bool,
    },
}

/// This agent is ending the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub why: StopWhy,
    pub since: Timestamp,
    pub grace_seconds: u32,
    pub pre_stop: HookState,
    pub terminated: bool,
    /// When KILL was last ordered: it is repeated, since an engine may lose it.
    pub killed_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopWhy {
    /// The pod is to go.
    Ending,
    /// The pod ran past its deadline.
    Deadline,
    /// A liveness or startup probe, or the postStart hook, failed.
    Unhealthy,
    /// It is not what was ordered; the right one takes its place.
    Changed,
}

/// Somebody else did something to the container through the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    pub id: String,
    pub at: Timestamp,
    pub kind: DriftKind,
    pub seen: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookState {
    #[default]
    NotRun,
    Running,
    Done,
    Failed(String),
}

/// How fetching the image stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePull {
    /// In flight now; a restarted agent begins again.
    pub running: bool,
    /// The engine said that it does not have the image.
    pub missing: bool,
    /// The attempt that it was last fetched for, where it is to be fetched for each.
    pub fetched_for: Option<Attempt>,
    pub trouble: Option<Trouble>,
}

/// Probe results of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFacts {
    pub startup: Tally,
    pub liveness: Tally,
    pub readiness: Tally,
}

/// Results in a row, and the verdict they led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub successes: u32,
    pub failures: u32,
    pub verdict: Option<bool>,
}

impl PodFacts {
    /// Takes note of who the pod is; the first time also of when.
    pub fn begin(&mut self, assignment: Option<&PodAssignment>, now: Timestamp) {
        if self.since == Timestamp::default() {
            self.since = now;
            self.grace_seconds = DEFAULT_GRACE_SECONDS;
        }
        if let Some(pod) = assignment {
            self.namespace.clone_from(&pod.namespace);
            self.name.clone_from(&pod.name);
            self.grace_seconds = pod.spec.termination_grace_seconds;
        }
    }

    pub fn container(&mut self, name: &str) -> &mut ContainerFacts {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// Notes that something was changed by somebody else. What lasts until it is repaired is
    /// noted once, since a repair may take more than one look.
    pub fn drifted(&mut self, at: Timestamp, container: &str, kind: DriftKind, seen: String) {
        let lasts = matches!(kind, DriftKind::Paused | DriftKind::NetworkLost);
        let told = lasts
            && self.drifts.iter().any(|drift| {
                drift.container == container
                    && drift.kind == kind
                    && at.since(drift.at) < SAME_DRIFT
            });
        if told {
            return;
        }
        self.drift_count += 1;
        self.drifts.push(Drift {
            number: self.drift_count,
            at,
            container: container.to_owned(),
            kind,
            seen,
        });
        let excess = self.drifts.len().saturating_sub(MAX_DRIFTS);
        self.drifts.drain(..excess);
    }

    /// Drops what was in flight in a process that is no more.
    pub fn forget_in_flight(&mut self) {
        for container in self.containers.values_mut() {
            container.image_pull.running = false;
            if container.post_start == HookState::Running {
                // At least once, as Kubernetes has it.
                container.post_start = HookState::NotRun;
            }
            if let Some(stop) = &mut container.stop
                && stop.pre_stop == HookState::Running
            {
                stop.pre_stop = HookState::NotRun;
            }
        }
        self.forget_signals();
    }

    /// A signal that was to be sent may not have been: it is sent again.
    pub fn forget_signals(&mut self) {
        for stop in self.containers.values_mut().filter_map(|container| container.stop.as_mut()) {
            stop.terminated = false;
        }
    }
}

impl ContainerFacts {
    /// Goes on to the next container for this name.
    pub fn renew(&mut self) {
        if let Phase::Ended { termination, .. } = &self.phase {
            self.last = Some(termination.clone());
            self.restarts += 1;
        }
        self.attempt = self.attempt.next();
        self.fresh();
    }

    /// Forgets what concerned the container before, and orders one with the attempt as it is.
    pub fn fresh(&mut self) {
        self.phase = Phase::Ordered;
        self.id = None;
        self.stop = None;
        self.taken_down = false;
        self.touched = None;
        self.trouble = None;
        self.start_after = None;
        self.post_start = HookState::NotRun;
        self.probes = ProbeFacts::default();
        self.image_pull.trouble = None;
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    pub fn termination(&self) -> Option<&Termination> {
        match &self.phase {
            Phase::Ended { termination, .. } => Some(termination),
            Phase::Never | Phase::Ordered | Phase::Running { .. } => None,
        }
    }

    /// Ended by itself with success.
    pub fn succeeded(&self) -> bool {
        matches!(&self.phase, Phase::Ended { termination, again: false } if termination.exit_code == 0)
    }
}

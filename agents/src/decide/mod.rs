//! What to do about one pod: pure. From what is ordered, what the engine shows and what was
//! noted before, to steps and an observation.
//!
//! [`facts`] is what is remembered, [`absorb`] folds what was seen into it, [`run`] and [`end`]
//! choose steps, [`probing`] counts probe results, [`status`] words the observation. What
//! deliberately does not live here: carrying out a step, the clock, the engine.
//!
//! Invariants: a step that makes a container is emitted only when no living container of the
//! same pod and name was seen, and the facts name its attempt before the step is carried out.

pub mod absorb;
pub mod end;
pub mod facts;
pub mod outcome;
pub mod probing;
pub mod restart;
pub mod run;
pub mod status;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::observation::{PodEvent, PodObservation};
use kgit_protocol::pod::{ContainerSpec, Handler};
use kgit_protocol::time::Timestamp;

use crate::decide::facts::{HookState, PodFacts};
use crate::decide::outcome::Teller;
use crate::decide::probing::ProbeTarget;
use crate::runtime::Seen;

/// How often a pod is looked at again though nothing is waited for: a net under lost events.
pub const RESYNC: Duration = Duration::from_secs(60);

/// One thing to do, in order; after a failure the rest of the list is dropped and all is decided
/// anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fetch the image, apart from the pod's other steps; the outcome is noted when it is there.
    Pull {
        container: String,
        image: String,
        attempt: Attempt,
    },
    /// Prepare volumes, make (or adopt) the container and start it.
    Start {
        container: String,
        attempt: Attempt,
        sandbox: Option<String>,
    },
    /// Start one that was made before.
    Resume {
        container: String,
        id: String,
    },
    /// Ask it to end: the signal that its image wants, else TERM.
    Terminate {
        id: String,
    },
    Kill {
        id: String,
    },
    Unpause {
        id: String,
    },
    Remove {
        id: String,
    },
    /// Put it back on the node's network.
    Attach {
        id: String,
    },
    /// Run a lifecycle hook, apart from the pod's other steps.
    Hook {
        container: String,
        id: String,
        hook: Hook,
        handler: Handler,
    },
    /// Read the last words of a container that ended.
    LastWords {
        container: String,
        id: String,
        attempt: Attempt,
    },
    /// The containers are gone: remove what the pod left in the agent's directories.
    Clean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    PostStart,
    PreStop,
}

/// What one pod's decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub uid: &'a PodUid,
    /// `None`: not in the set, so to be removed.
    pub assignment: Option<&'a PodAssignment>,
    /// The expected keyed hashes, by container name.
    pub hashes: &'a BTreeMap<String, String>,
    /// The pod's containers, in any order.
    pub seen: &'a [&'a Seen],
    /// Whether a service leads to the pod: then traffic is led elsewhere before it is stopped.
    pub served: bool,
    /// Exits in this window were the engine's (or host's) restart, not the containers' own.
    pub outage: Option<Outage>,
    /// For how long the master gave no answer; `None`: it gave none since the host started.
    pub cut_off: Option<Duration>,
    pub now: Timestamp,
}

/// A time in which the engine was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    pub from: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub steps: Vec<Step>,
    pub observation: PodObservation,
    pub events: Vec<PodEvent>,
    pub probes: Vec<ProbeTarget>,
    /// When to decide again though nothing happens.
    pub wake: Option<Timestamp>,
}

/// Collects one decision.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub input: Input<'a>,
    pub steps: Vec<Step>,
    pub events: Vec<PodEvent>,
    pub wake: Option<Timestamp>,
}

impl Draft<'_> {
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Asks to be woken at `at`, or earlier if something else asks for that.
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub fn tell(&mut self, warning: bool, reason: &str, container: &str, message: String) {
        let Input { uid, now, .. } = self.input;
        let mut teller = Teller { uid, now, events: &mut self.events };
        teller.tell(warning, reason, container, message);
    }
}

/// Decides about one pod and notes in `facts` what was learned and what is about to be done.
/// The facts must be durable before the steps are carried out.
pub fn decide(input: Input<'_>, facts: &mut PodFacts) -> Decision {
    let fence = input.assignment.filter(|pod| is_running(pod)).and_then(|pod| fence(pod, &input));
    // The end of a pod that may stop by itself counts for the master, whoever ordered it: one that
    // was restored since may order the pod to run before it hears of that.
    facts.fenced |= fence.is_some_and(|left| left.is_zero() || facts.gone);
    let stopped = input.assignment.filter(|pod| facts.fenced && is_running(pod)).map(stopped);
    let input = Input { assignment: stopped.as_ref().or(input.assignment), ..input };
    let mut decision = decide_as_ordered(input, facts);
    if let Some(left) = fence.filter(|_| !facts.fenced) {
        let due = input.now.after(left);
        decision.wake = Some(decision.wake.map_or(due, |wake| wake.min(due)));
    }
    decision
}

fn is_running(pod: &PodAssignment) -> bool {
    matches!(pod.order, Order::Run)
}

/// How long the pod may still run while the node is cut off; `None`: as long as it likes.
fn fence(pod: &PodAssignment, input: &Input<'_>) -> Option<Duration> {
    let allowed = Duration::from_secs(pod.spec.fence_after_seconds?.into());
    // After a start of the host nobody knows for how long it was away.
    Some(input.cut_off.map_or(Duration::ZERO, |cut_off| allowed.saturating_sub(cut_off)))
}

/// It may run elsewhere by the time that the master is heard again, so it never runs here again.
fn stopped(pod: &PodAssignment) -> PodAssignment {
    let grace_seconds = pod.spec.termination_grace_seconds;
    PodAssignment { order: Order::Stop { grace_seconds }, ..pod.clone() }
}

fn decide_as_ordered(input: Input<'_>, facts: &mut PodFacts) -> Decision {
    let mut draft = Draft { input, steps: Vec::new(), events: Vec::new(), wake: None };
    if facts.gone && input.assignment.is_some_and(|pod| matches!(pod.order, Order::Run)) {
        // Ordered anew after it was seen to be gone: nothing of its former life counts.
        *facts = PodFacts::default();
    }
    facts.begin(input.assignment, input.now);
    absorb::absorb(&mut draft, facts);
    match input.assignment {
        Some(pod) if matches!(pod.order, Order::Run) && facts.outcome.is_none() => {
            facts.drain = None;
            run::run(&mut draft, facts, pod);
        }
        Some(pod) if matches!(pod.order, Order::Run) => end::settle(&mut draft, facts, pod),
        Some(_) | None => end::remove(&mut draft, facts, input.assignment),
    }
    // What is done apart can't fail, and the facts say already that it is under way: it goes first,
    // or the failure of another step would drop it, and nobody would begin it again.
    draft.steps.sort_by_key(|step| !matches!(step, Step::Pull { .. } | Step::Hook { .. }));
    let observation = status::observe(&mut draft, facts);
    let probes = probing::targets(input.assignment, facts);
    Decision { steps: draft.steps, observation, events: draft.events, probes, wake: draft.wake }
}

/// Notes that all that runs of a pod is about to be stopped on purpose, by whom runs this node.
pub fn take_down(input: Input<'_>, facts: &mut PodFacts) {
    let mut draft = Draft { input, steps: Vec::new(), events: Vec::new(), wake: None };
    absorb::absorb(&mut draft, facts);
    for container in facts.containers.values_mut() {
        container.taken_down = container.is_running();
    }
}

/// The pod's containers with their roles, init containers first.
pub(crate) fn members(pod: &PodAssignment) -> impl Iterator<Item = (&ContainerSpec, Role)> {
    let init = pod
        .spec
        .init_containers
        .iter()
        .map(|spec| (spec, if spec.sidecar { Role::Sidecar } else { Role::Init }));
    init.chain(pod.spec.containers.iter().map(|spec| (spec, Role::Main)))
}

/// A container's part in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    Sidecar,
    Main,
}

/// Whether a pause container holds the pod's namespaces: only where there is something to share.
pub fn needs_pause(pod: &PodAssignment) -> bool {
    let several = pod.spec.containers.len() + pod.spec.init_containers.len() > 1;
    (several && !pod.spec.host_network) || pod.spec.share_process_namespace
}

/// The next step of a hook that must have run before something else happens.
pub(crate) fn hook_is_over(state: &HookState) -> bool {
    matches!(state, HookState::Done | HookState::Failed(_))
}

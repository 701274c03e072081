//! Steps for a pod that is to end: preStop, TERM, wait, KILL; sidecars last and in reverse; the
//! pause container after them; then removal.

use std::time::Duration;

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::pod::ContainerSpec;
use kgit_protocol::time::Timestamp;

use crate::decide::facts::{
    ContainerFacts, Drain, HookState, Phase, PodFacts, PodOutcome, Stop, StopWhy,
};
use crate::decide::{Draft, Hook, Role, Step, hook_is_over, members};
use crate::runtime::{PAUSE, RunState, Seen};

/// What a container has left when its preStop hook took all of the grace period.
const AFTER_PRE_STOP: Duration = Duration::from_secs(2);
/// How long after a KILL it is repeated.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// How long a stop waits for traffic to be led elsewhere.
const DRAIN: Duration = Duration::from_secs(2);
/// A connection that was led to the pod just before arrives within this.
const ARRIVAL: Duration = Duration::from_millis(200);
/// How soon to look again at what the engine is removing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Ends everything of a pod that is over, and keeps the dead containers for their logs.
pub(crate) fn settle(draft: &mut Draft<'_>, facts: &mut PodFacts, pod: &PodAssignment) {
    let grace = pod.spec.termination_grace_seconds;
    if is_draining(draft, facts, grace) {
        return;
    }
    let why = match &facts.outcome {
        Some(PodOutcome::Failed { reason: Some(reason), .. }) if reason == "DeadlineExceeded" => {
            StopWhy::Deadline
        }
        _ => StopWhy::Ending,
    };
    if stop_members(draft, facts, Some(pod), grace, why) == Members::Dead {
        for seen in draft.input.seen {
            let leftover = seen.identity.container == PAUSE || seen.state == RunState::Created;
            if leftover {
                draft.steps.push(Step::Remove { id: seen.id.clone() });
            }
        }
        facts.containers.remove(PAUSE);
    }
}

/// Ends and removes everything of the pod.
pub(crate) fn remove(draft: &mut Draft<'_>, facts: &mut PodFacts, pod: Option<&PodAssignment>) {
    if facts.gone && draft.input.seen.is_empty() {
        return;
    }
    let grace = match pod.map(|pod| pod.order) {
        Some(Order::Stop { grace_seconds }) => grace_seconds,
        Some(Order::Run) | None => facts.grace_seconds,
    };
    if is_draining(draft, facts, grace) {
        return;
    }
    if stop_members(draft, facts, pod, grace, StopWhy::Ending) == Members::Alive {
        return;
    }
    // Removed by this agent: its absence is nobody's doing.
    facts.containers.remove(PAUSE);
    if draft.input.seen.is_empty() {
        facts.gone = true;
        return draft.push(Step::Clean);
    }
    facts.gone = false;
    for seen in draft.input.seen {
        let step = Step::Remove { id: seen.id.clone() };
        if !draft.steps.contains(&step) {
            draft.steps.push(step);
        }
    }
    draft.wake_at(draft.input.now.after(LOOK_AGAIN));
}

/// Whether the pod still waits for the end of new connections before anything of it is stopped.
fn is_draining(draft: &mut Draft<'_>, facts: &mut PodFacts, grace: u32) -> bool {
    let now = draft.input.now;
    let alive = draft.input.seen.iter().any(|seen| seen.state.is_alive());
    let begun = facts.containers.values().any(|container| {
        container.stop.as_ref().is_some_and(|stop| stop.why != StopWhy::Unhealthy)
    });
    // No grace means no waiting at all.
    if !draft.input.served || !alive || begun || grace == 0 {
        return false;
    }
    let drain = facts.drain.get_or_insert(Drain { since: now, done: None });
    let until = match drain.done {
        Some(done) => done.after(ARRIVAL),
        None => drain.since.after(DRAIN),
    };
    if now >= until {
        return false;
    }
    draft.wake_at(until);
    true
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    Alive,
    Dead,
}

/// Stops all but the pause container: the main ones together, then the sidecars one by one, the
/// last first.
fn stop_members(
    draft: &mut Draft<'_>,
    facts: &mut PodFacts,
    pod: Option<&PodAssignment>,
    grace: u32,
    why: StopWhy,
) -> Members {
    let alive: Vec<&Seen> = draft
        .input
        .seen
        .iter()
        .copied()
        .filter(|seen| seen.identity.container != PAUSE && seen.state.is_alive())
        .collect();
    let is_sidecar = |seen: &&&Seen| {
        pod.is_some_and(|pod| {
            members(pod)
                .any(|(spec, role)| role == Role::Sidecar && spec.name == seen.identity.container)
        })
    };
    let (sidecars, main): (Vec<&Seen>, Vec<&Seen>) =
        alive.iter().copied().partition(|seen| is_sidecar(&seen));
    let now_stopping = if main.is_empty() { last_sidecar(&sidecars, pod) } else { main };
    for seen in &now_stopping {
        let name = seen.identity.container.as_str();
        let spec =
            pod.and_then(|pod| members(pod).map(|(spec, _)| spec).find(|spec| spec.name == name));
        stop_one(draft, facts, seen, spec, grace, why);
    }
    if alive.is_empty() { Members::Dead } else { Members::Alive }
}

fn last_sidecar<'a>(sidecars: &[&'a Seen], pod: Option<&PodAssignment>) -> Vec<&'a Seen> {
    let Some(pod) = pod else { return sidecars.to_vec() };
    let place = |seen: &Seen| {
        pod.spec.init_containers.iter().position(|spec| spec.name == seen.identity.container)
    };
    sidecars.iter().copied().max_by_key(|seen| place(seen)).into_iter().collect()
}

fn stop_one(
    draft: &mut Draft<'_>,
    facts: &mut PodFacts,
    seen: &Seen,
    spec: Option<&ContainerSpec>,
    grace: u32,
    why: StopWhy,
) {
    let now = draft.input.now;
    let name = seen.identity.container.as_str();
    let container = facts.container(name);
    if container.id.as_deref() != Some(&seen.id) {
        // A double; absorb has ordered its removal.
        return;
    }
    match &mut container.stop {
        Some(stop) => {
            stop.why = why;
            stop.grace_seconds = stop.grace_seconds.min(grace);
        }
        None => {
            begin_stop(container, now, grace, why);
            draft.tell(false, "Killing", name, format!("Stopping container {name}"));
        }
    }
    advance_stop(draft, facts.container(name), spec);
}

pub(crate) fn begin_stop(
    container: &mut ContainerFacts,
    now: Timestamp,
    grace_seconds: u32,
    why: StopWhy,
) {
    container.stop = Some(Stop {
        why,
        since: now,
        grace_seconds,
        pre_stop: HookState::NotRun,
        terminated: false,
        killed_at: None,
    });
}

/// The next thing to do about a container that is being stopped.
pub(crate) fn advance_stop(
    draft: &mut Draft<'_>,
    container: &mut ContainerFacts,
    spec: Option<&ContainerSpec>,
) {
    let now = draft.input.now;
    let (Some(id), Some(stop)) = (container.id.clone(), container.stop.as_mut()) else { return };
    if !matches!(container.phase, Phase::Running { .. }) {
        return;
    }
    let grace_ends = stop.since.after(Duration::from_secs(u64::from(stop.grace_seconds)));
    let hook = spec.and_then(|spec| spec.pre_stop.as_ref().map(|hook| (spec, hook)));
    if let Some((spec, handler)) = hook
        && !hook_is_over(&stop.pre_stop)
        && now < grace_ends
    {
        if stop.pre_stop == HookState::NotRun {
            stop.pre_stop = HookState::Running;
            let (container, handler) = (spec.name.clone(), handler.clone());
            draft.push(Step::Hook { container, id, hook: Hook::PreStop, handler });
        }
        return draft.wake_at(grace_ends);
    }
    if !stop.terminated && stop.grace_seconds > 0 {
        stop.terminated = true;
        draft.push(Step::Terminate { id: id.clone() });
    }
    let after_hook = hook.is_some() && stop.grace_seconds > 0;
    let kill_at = if after_hook { grace_ends.after(AFTER_PRE_STOP) } else { grace_ends };
    kill_when_due(draft, stop, id, kill_at);
}

fn kill_when_due(draft: &mut Draft<'_>, stop: &mut Stop, id: String, kill_at: Timestamp) {
    let now = draft.input.now;
    let next = stop.killed_at.map_or(kill_at, |before| before.after(KILL_AGAIN));
    if now < next {
        return draft.wake_at(next);
    }
    stop.killed_at = Some(now);
    draft.push(Step::Kill { id });
    draft.wake_at(now.after(KILL_AGAIN));
}

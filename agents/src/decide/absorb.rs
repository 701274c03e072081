//! Folds what the engine shows into the facts: what started, what ended and by whose hand.

use std::time::Duration;

use kgit_protocol::ids::Attempt;
use kgit_protocol::observation::{DriftKind, Termination};
use kgit_protocol::time::Timestamp;

use crate::decide::facts::{
    ContainerFacts, Phase, PodFacts, ProbeFacts, Sandbox, StopWhy, Touched,
};
use crate::decide::restart::{RECOVERED_AFTER, restart_delay, runs_again};
use crate::decide::{Draft, Step, members};
use crate::runtime::{Exit, PAUSE, RunState, Seen};

/// A signal that somebody sent explains an exit up to this much later: `docker stop` waits 10 s
/// between its two signals, and each is told of.
const SIGNAL_EXPLAINS: Duration = Duration::from_secs(30);
/// What Kubernetes writes for a container that vanished.
const VANISHED_CODE: i64 = 137;

/// Folds all of the pod's containers into `facts`; emits the steps that clear away doubles, what
/// is half-removed, and the dead beyond the newest two of a name.
pub(crate) fn absorb(draft: &mut Draft<'_>, facts: &mut PodFacts) {
    let mut names: Vec<String> = facts.containers.keys().cloned().collect();
    for seen in draft.input.seen {
        if !names.contains(&seen.identity.container) {
            names.push(seen.identity.container.clone());
        }
    }
    names.sort();
    for name in names {
        let newest = clear_others(draft, &name);
        absorb_one(draft, facts, &name, newest);
    }
    note_sandbox(draft, facts);
}

/// The newest container of this name. Older ones that live are removed: there must never be
/// two. Of the dead, the one before the newest is kept for `logs --previous`.
fn clear_others<'a>(draft: &mut Draft<'a>, name: &str) -> Option<&'a Seen> {
    let mut all: Vec<&Seen> =
        draft.input.seen.iter().copied().filter(|seen| seen.identity.container == name).collect();
    all.sort_by(|a, b| (b.identity.attempt, &b.id).cmp(&(a.identity.attempt, &a.id)));
    let newest = all.first().copied();
    for (age, seen) in all.iter().enumerate().skip(1) {
        let keep = age == 1 && name != PAUSE && matches!(seen.state, RunState::Exited(_));
        if !keep {
            draft.push(Step::Remove { id: seen.id.clone() });
        }
    }
    newest
}

fn absorb_one(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str, newest: Option<&Seen>) {
    let Some(seen) = newest else { return absorb_absence(draft, facts, name) };
    let container = facts.container(name);
    if seen.identity.attempt < container.attempt {
        // The newest that was ordered is not there; what is there is an older one.
        return absorb_older(draft, facts, name, seen);
    }
    if container.id.as_deref() != Some(&seen.id) {
        adopt(container, seen);
    }
    container.image = Some(seen.image.clone());
    match &seen.state {
        RunState::Created => {}
        RunState::Running { started_at } => absorb_running(draft, facts, name, *started_at),
        RunState::Paused { started_at } => {
            absorb_running(draft, facts, name, *started_at);
            let now = draft.input.now;
            facts.drifted(now, name, DriftKind::Paused, "paused by somebody".to_owned());
            draft.push(Step::Unpause { id: seen.id.clone() });
        }
        RunState::Exited(exit) => absorb_exit(draft, facts, name, seen, exit),
        RunState::Removing => {
            draft.push(Step::Remove { id: seen.id.clone() });
            absorb_absence(draft, facts, name);
        }
    }
}

/// The journal was behind, or the engine made the container just before the agent died.
fn adopt(container: &mut ContainerFacts, seen: &Seen) {
    if seen.identity.attempt > container.attempt {
        container.attempt = seen.identity.attempt;
        container.restarts = u32::try_from(seen.identity.attempt.0).unwrap_or(u32::MAX);
        container.phase = Phase::Ordered;
    }
    container.id = Some(seen.id.clone());
    if container.spec.is_empty() {
        container.spec.clone_from(&seen.identity.spec);
    }
}

fn absorb_running(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str, started_at: Timestamp) {
    let now = draft.input.now;
    let container = facts.container(name);
    container.trouble = None;
    container.taken_down = false;
    container.image_pull.missing = false;
    let restarted_by_somebody = match container.phase {
        Phase::Running { started_at: before } => before != started_at,
        Phase::Ended { .. } => true,
        Phase::Never | Phase::Ordered => false,
    };
    container.phase = Phase::Running { started_at };
    if restarted_by_somebody {
        container.probes = ProbeFacts::default();
        container.touched = None;
        container.restarts += 1;
        let seen = "restarted by somebody".to_owned();
        facts.drifted(now, name, DriftKind::Stopped, seen);
    }
}

/// The container ended. Says why once, and by when it may start again.
fn absorb_exit(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str, seen: &Seen, exit: &Exit) {
    let container = facts.container(name);
    if matches!(container.phase, Phase::Ended { .. }) {
        return;
    }
    let taken_down = std::mem::take(&mut container.taken_down);
    let own = container.stop.is_some() || taken_down;
    let touched = container.touched.take().filter(|touched| explains(touched, seen, exit));
    let drift = match touched {
        _ if own => None,
        Some(touched) => Some(touched.seen),
        None if engine_restarted(draft, name, exit) => Some("ended with the engine".to_owned()),
        None => None,
    };
    let mut termination = termination(seen, exit);
    let why = container.stop.as_ref().map(|stop| stop.why);
    if why == Some(StopWhy::Deadline) {
        termination.reason = "DeadlineExceeded".to_owned();
    }
    let again = drift.is_some() || taken_down || why == Some(StopWhy::Changed);
    if !again {
        count_crash(container, exit);
    } else {
        container.start_after = None;
    }
    container.phase = Phase::Ended { termination, again };
    draft.push(Step::LastWords {
        container: name.to_owned(),
        id: seen.id.clone(),
        attempt: seen.identity.attempt,
    });
    if let Some(what) = drift {
        facts.drifted(draft.input.now, name, DriftKind::Stopped, what);
    }
}

fn explains(touched: &Touched, seen: &Seen, exit: &Exit) -> bool {
    touched.id == seen.id && exit.finished_at.since(touched.at) <= SIGNAL_EXPLAINS
}

/// Whether the engine took the container along. Where a success ends the container for good, a
/// success is a success, also when the engine went away just then.
fn engine_restarted(draft: &Draft<'_>, name: &str, exit: &Exit) -> bool {
    let Some(away) = draft.input.outage else { return false };
    let completed = exit.code == 0 && !restarts_after_success(draft, name);
    !completed && exit.finished_at >= away.from && exit.finished_at <= away.until
}

fn restarts_after_success(draft: &Draft<'_>, name: &str) -> bool {
    let Some(pod) = draft.input.assignment else { return false };
    name == PAUSE
        || members(pod)
            .any(|(spec, role)| spec.name == name && runs_again(pod.spec.restart_policy, role, 0))
}

fn count_crash(container: &mut ContainerFacts, exit: &Exit) {
    let ran = exit.started_at.map(|start| exit.finished_at.since(start)).unwrap_or_default();
    if ran >= RECOVERED_AFTER {
        container.crashes = 0;
    }
    container.crashes = container.crashes.saturating_add(1);
    container.start_after = Some(exit.finished_at.after(restart_delay(container.crashes)));
}

fn termination(seen: &Seen, exit: &Exit) -> Termination {
    let reason = if exit.out_of_memory {
        "OOMKilled"
    } else if !exit.error.is_empty() && exit.started_at.is_none() {
        "ContainerCannotRun"
    } else if exit.code == 0 {
        "Completed"
    } else {
        "Error"
    };
    Termination {
        exit_code: exit.code,
        reason: reason.to_owned(),
        message: (!exit.error.is_empty()).then(|| exit.error.clone()),
        started_at: exit.started_at,
        finished_at: Some(exit.finished_at),
        container_id: Some(seen.id.clone()),
    }
}

/// Nothing is left of the newest attempt, an older container lies about.
fn absorb_older(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str, seen: &Seen) {
    if seen.state.is_alive() || matches!(seen.state, RunState::Created | RunState::Removing) {
        draft.push(Step::Remove { id: seen.id.clone() });
    }
    absorb_absence(draft, facts, name);
}

/// No container of this name. Fine if none was running; else somebody removed it.
fn absorb_absence(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str) {
    let now = draft.input.now;
    let container = facts.container(name);
    let Phase::Running { started_at } = container.phase else {
        if container.phase == Phase::Ordered {
            container.id = None;
        }
        return;
    };
    let taken_down = std::mem::take(&mut container.taken_down);
    let own = container.stop.is_some();
    let termination = Termination {
        exit_code: VANISHED_CODE,
        reason: "ContainerStatusUnknown".to_owned(),
        message: Some("the container could not be found when it ended".to_owned()),
        started_at: Some(started_at),
        finished_at: Some(now),
        container_id: container.id.take(),
    };
    container.phase = Phase::Ended { termination, again: !own };
    container.touched = None;
    container.start_after = None;
    if !own && !taken_down {
        facts.drifted(now, name, DriftKind::Removed, "removed by somebody".to_owned());
    }
}

/// Notes which life of the pause container the pod is in, where it has just begun.
fn note_sandbox(draft: &Draft<'_>, facts: &mut PodFacts) {
    let alive =
        draft.input.seen.iter().filter(|seen| seen.identity.container == PAUSE).find_map(|seen| {
            match seen.state {
                RunState::Running { started_at } | RunState::Paused { started_at } => {
                    Some(Sandbox { id: seen.id.clone(), started_at })
                }
                RunState::Created | RunState::Exited(_) | RunState::Removing => None,
            }
        });
    let untouched = facts
        .containers
        .iter()
        .filter(|(name, _)| name.as_str() != PAUSE)
        .all(|(_, member)| member.phase == Phase::Never);
    if untouched && alive.is_some() {
        facts.sandbox = alive;
    }
}

/// The attempt after the newest that was ever seen or ordered.
pub(crate) fn next_attempt(container: &ContainerFacts) -> Attempt {
    match container.phase {
        Phase::Never => container.attempt,
        Phase::Ordered | Phase::Running { .. } | Phase::Ended { .. } => container.attempt.next(),
    }
}

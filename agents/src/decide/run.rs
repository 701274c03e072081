//! Steps for a pod that is to run: its pause container, init containers in order, sidecars, then
//! the rest; restarts; images; what probes and drift ask for.

use std::time::Duration;

use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::observation::DriftKind;
use kgit_protocol::pod::{ContainerSpec, PullPolicy};

use crate::decide::absorb::next_attempt;
use crate::decide::end::{advance_stop, begin_stop, settle};
use crate::decide::facts::{
    ContainerFacts, HookState, Phase, PodFacts, PodOutcome, StopWhy, Trouble,
};
use crate::decide::restart::{retry_delay, runs_again};
use crate::decide::{Draft, Hook, Role, Step, hook_is_over, members, needs_pause, probing};
use crate::runtime::{PAUSE, RunState, Seen};

/// Whether the pod may go on to its next container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

pub(crate) fn run(draft: &mut Draft<'_>, facts: &mut PodFacts, pod: &PodAssignment) {
    facts.outcome = verdict(draft, facts, pod);
    if facts.outcome.is_some() {
        return settle(draft, facts, pod);
    }
    watch_deadline(draft, facts, pod);
    let sandbox = if needs_pause(pod) {
        match ensure_pause(draft, facts, pod) {
            Some(id) => Some(id),
            None => return,
        }
    } else {
        None
    };
    let started_before =
        pod.spec.containers.iter().any(|spec| has_started(facts.container(&spec.name)));
    for (spec, role) in members(pod) {
        let gate = ensure(draft, facts, pod, spec, role, sandbox.as_deref());
        if gate == Gate::Closed && role != Role::Main && !started_before {
            return;
        }
    }
}

/// Whether a main container was started since the pod's last beginning: then what comes before it
/// has had its turn, and what becomes of a sidecar holds it back no more.
fn has_started(container: &ContainerFacts) -> bool {
    match container.phase {
        Phase::Never | Phase::Ended { again: true, .. } => false,
        Phase::Ordered | Phase::Running { .. } | Phase::Ended { again: false, .. } => true,
    }
}

/// How the pod ended, if it did.
fn verdict(draft: &Draft<'_>, facts: &PodFacts, pod: &PodAssignment) -> Option<PodOutcome> {
    let deadline = pod.spec.active_deadline_seconds.map(|s| Duration::from_secs(u64::from(s)));
    if deadline.is_some_and(|limit| draft.input.now.since(facts.since) >= limit) {
        return Some(PodOutcome::Failed {
            reason: Some("DeadlineExceeded".to_owned()),
            message: Some("pod was active on the node longer than the specified deadline".into()),
        });
    }
    let mut failed = false;
    for (spec, role) in members(pod) {
        let ended = facts.containers.get(&spec.name).map(|container| &container.phase);
        let over = match ended {
            Some(Phase::Ended { termination, again: false }) => {
                let code = termination.exit_code;
                (!runs_again(pod.spec.restart_policy, role, code)).then_some(code)
            }
            _ => None,
        };
        match (role, over) {
            (Role::Sidecar, _) | (Role::Init, Some(0) | None) => {}
            (Role::Init, Some(_)) => return Some(failure()),
            (Role::Main, None) => return None,
            (Role::Main, Some(code)) => failed |= code != 0,
        }
    }
    Some(if failed { failure() } else { PodOutcome::Succeeded })
}

fn failure() -> PodOutcome {
    PodOutcome::Failed { reason: None, message: None }
}

fn watch_deadline(draft: &mut Draft<'_>, facts: &PodFacts, pod: &PodAssignment) {
    if let Some(seconds) = pod.spec.active_deadline_seconds {
        draft.wake_at(facts.since.after(Duration::from_secs(u64::from(seconds))));
    }
}

/// The id of the pause container, once it runs and no member is left in an older life of it.
fn ensure_pause(
    draft: &mut Draft<'_>,
    facts: &mut PodFacts,
    pod: &PodAssignment,
) -> Option<String> {
    let now = draft.input.now;
    let pause = facts.container(PAUSE).clone();
    if let Phase::Running { started_at } = pause.phase {
        let id = pause.id.clone()?;
        let same = facts
            .sandbox
            .as_ref()
            .is_some_and(|sandbox| sandbox.id == id && sandbox.started_at == started_at);
        if !same && clear_members(draft, facts) {
            return None;
        }
        facts.sandbox = Some(crate::decide::facts::Sandbox { id: id.clone(), started_at });
        if let Some(seen) = seen_by_name(draft, PAUSE) {
            check_address(draft, facts, pod, PAUSE, seen);
        }
        return Some(id);
    }
    if clear_members(draft, facts) {
        return None;
    }
    if let Phase::Ended { again: false, .. } = pause.phase {
        facts.drifted(now, PAUSE, DriftKind::Stopped, "the pod's sandbox ended".to_owned());
    }
    start(draft, facts, PAUSE, None);
    None
}

/// Removes the members of a sandbox that is no more: they are left with only `lo`, or with
/// nothing. Whether there was anything to do.
fn clear_members(draft: &mut Draft<'_>, facts: &mut PodFacts) -> bool {
    let mut cleared = false;
    for seen in draft.input.seen {
        let name = &seen.identity.container;
        if name != PAUSE && (seen.state.is_alive() || seen.state == RunState::Created) {
            draft.steps.push(Step::Remove { id: seen.id.clone() });
            cleared = true;
        }
    }
    for (name, member) in &mut facts.containers {
        if name != PAUSE && member.phase != Phase::Never {
            // Init containers run again in a new sandbox, as in Kubernetes.
            end_with_sandbox(member, draft.input.now);
        }
    }
    cleared
}

fn end_with_sandbox(member: &mut ContainerFacts, now: kgit_protocol::time::Timestamp) {
    let termination = match &member.phase {
        Phase::Ended { termination, .. } => termination.clone(),
        Phase::Never | Phase::Ordered | Phase::Running { .. } => {
            kgit_protocol::observation::Termination {
                exit_code: 137,
                reason: "Error".to_owned(),
                message: Some("the pod's sandbox ended".to_owned()),
                started_at: None,
                finished_at: Some(now),
                container_id: member.id.clone(),
            }
        }
    };
    member.phase = Phase::Ended { termination, again: true };
    member.start_after = None;
    member.stop = None;
}

/// Brings one member to where it should be.
fn ensure(
    draft: &mut Draft<'_>,
    facts: &mut PodFacts,
    pod: &PodAssignment,
    spec: &ContainerSpec,
    role: Role,
    sandbox: Option<&str>,
) -> Gate {
    let name = spec.name.as_str();
    let container = facts.container(name);
    match container.phase.clone() {
        Phase::Never | Phase::Ordered => {
            if image_ready(draft, facts, spec) {
                start(draft, facts, name, sandbox);
            }
            Gate::Closed
        }
        Phase::Running { .. } => {
            watch(draft, facts, pod, spec);
            let up = role == Role::Sidecar && probing::is_started(spec, facts.container(name));
            if up { Gate::Open } else { Gate::Closed }
        }
        Phase::Ended { termination, again } => {
            if role == Role::Init && !again && termination.exit_code == 0 {
                return Gate::Open;
            }
            let restart = again || runs_again(pod.spec.restart_policy, role, termination.exit_code);
            if restart && is_due(draft, facts, name) && image_ready(draft, facts, spec) {
                start(draft, facts, name, sandbox);
            }
            Gate::Closed
        }
    }
}

/// Whether the restart back-off has passed.
fn is_due(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str) -> bool {
    match facts.container(name).start_after {
        Some(at) if at > draft.input.now => {
            draft.wake_at(at);
            false
        }
        _ => true,
    }
}

/// Orders the start of a container, unless a failure before makes it wait.
fn start(draft: &mut Draft<'_>, facts: &mut PodFacts, name: &str, sandbox: Option<&str>) {
    let now = draft.input.now;
    let of_pod = facts.trouble.as_ref().map(|trouble| trouble.retry_at);
    let own = facts.container(name).trouble.as_ref().map(|trouble| trouble.retry_at);
    let waits = of_pod.max(own);
    if let Some(at) = waits
        && at > now
    {
        return draft.wake_at(at);
    }
    let hash = draft.input.hashes.get(name).cloned().unwrap_or_default();
    let container = facts.container(name);
    match container.phase {
        Phase::Never => container.fresh(),
        // The trouble is kept: the next failure counts on from it.
        Phase::Ordered => {}
        Phase::Running { .. } | Phase::Ended { .. } => container.renew(),
    }
    container.spec = hash;
    let attempt = container.attempt;
    let made = seen_by_name(draft, name)
        .filter(|seen| seen.identity.attempt == attempt && seen.state == RunState::Created);
    let step = match made {
        Some(seen) if seen.identity.spec == facts.container(name).spec => {
            Step::Resume { container: name.to_owned(), id: seen.id.clone() }
        }
        Some(seen) => Step::Remove { id: seen.id.clone() },
        None => {
            Step::Start { container: name.to_owned(), attempt, sandbox: sandbox.map(str::to_owned) }
        }
    };
    draft.push(step);
}

/// Whether the image is there as its policy wants it; else sees to that.
fn image_ready(draft: &mut Draft<'_>, facts: &mut PodFacts, spec: &ContainerSpec) -> bool {
    let now = draft.input.now;
    let container = facts.container(&spec.name);
    let attempt = match container.phase {
        Phase::Ordered => container.attempt,
        Phase::Never | Phase::Running { .. } | Phase::Ended { .. } => next_attempt(container),
    };
    let pull = &mut container.image_pull;
    let wanted = match spec.pull_policy {
        PullPolicy::Always => pull.missing || pull.fetched_for != Some(attempt),
        PullPolicy::IfNotPresent => pull.missing,
        PullPolicy::Never => {
            if pull.missing {
                note_never_pull(draft, container, spec);
            }
            return true;
        }
    };
    if !wanted {
        return true;
    }
    if let Some(trouble) = &mut pull.trouble
        && trouble.retry_at > now
    {
        let at = trouble.retry_at;
        draft.wake_at(at);
        return false;
    }
    if !pull.running {
        pull.running = true;
        let (container, image) = (spec.name.clone(), spec.image.clone());
        draft.push(Step::Pull { container, image, attempt });
    }
    false
}

fn note_never_pull(draft: &Draft<'_>, container: &mut ContainerFacts, spec: &ContainerSpec) {
    let failures = container.trouble.as_ref().map_or(0, |trouble| trouble.failures);
    container.image_pull.missing = false;
    container.trouble = Some(Trouble {
        reason: "ErrImageNeverPull".to_owned(),
        message: format!(
            "container image {:?} is not present with pull policy of Never",
            spec.image
        ),
        failures: failures + 1,
        retry_at: draft.input.now.after(retry_delay(failures + 1)),
    });
}

/// Sees to a container that runs.
fn watch(draft: &mut Draft<'_>, facts: &mut PodFacts, pod: &PodAssignment, spec: &ContainerSpec) {
    let name = spec.name.as_str();
    if facts.container(name).stop.is_none() {
        look_for_faults(draft, facts, pod, spec);
    }
    if facts.container(name).stop.is_some() {
        return advance_stop(draft, facts.container(name), Some(spec));
    }
    run_post_start(draft, facts.container(name), spec);
    if let Some(seen) = seen_by_name(draft, name)
        && !needs_pause(pod)
    {
        check_address(draft, facts, pod, name, seen);
    }
}

/// Begins to stop a container that is not what was ordered, or not well.
fn look_for_faults(
    draft: &mut Draft<'_>,
    facts: &mut PodFacts,
    pod: &PodAssignment,
    spec: &ContainerSpec,
) {
    let now = draft.input.now;
    let name = spec.name.as_str();
    let grace = pod.spec.termination_grace_seconds;
    if let Some(fault) = change_of(draft, facts, name) {
        if fault == Fault::Tampered {
            let seen = "its configuration was changed by somebody".to_owned();
            facts.drifted(now, name, DriftKind::Changed, seen);
        }
        draft.tell(
            false,
            "Killing",
            name,
            format!("Container {name} is not as ordered, will be replaced"),
        );
        return begin_stop(facts.container(name), now, grace, StopWhy::Changed);
    }
    let container = facts.container(name);
    let unhealthy = probing::failed(spec, container);
    let hook_failed = matches!(container.post_start, HookState::Failed(_));
    if let Some(probe) = unhealthy {
        let message = format!("Container {name} failed {probe} probe, will be restarted");
        draft.tell(false, "Killing", name, message);
    } else if hook_failed {
        draft.tell(true, "FailedPostStartHook", name, format!("PostStart hook of {name} failed"));
    }
    if unhealthy.is_some() || hook_failed {
        begin_stop(container, now, grace, StopWhy::Unhealthy);
    }
}

#[derive(PartialEq, Eq)]
enum Fault {
    /// The order changed.
    Outdated,
    /// Somebody changed it.
    Tampered,
}

fn change_of(draft: &Draft<'_>, facts: &mut PodFacts, name: &str) -> Option<Fault> {
    let container = facts.container(name);
    if container.touched.as_ref().is_some_and(|touched| touched.kind == DriftKind::Changed) {
        container.touched = None;
        return Some(Fault::Tampered);
    }
    let expected = draft.input.hashes.get(name)?;
    let seen = seen_by_name(draft, name)?;
    if seen.identity.spec == *expected {
        return None;
    }
    Some(if container.spec == seen.identity.spec { Fault::Outdated } else { Fault::Tampered })
}

fn run_post_start(draft: &mut Draft<'_>, container: &mut ContainerFacts, spec: &ContainerSpec) {
    let Some(handler) = &spec.post_start else { return };
    let Some(id) = container.id.clone() else { return };
    if container.post_start == HookState::NotRun && !hook_is_over(&container.post_start) {
        container.post_start = HookState::Running;
        draft.push(Step::Hook {
            container: spec.name.clone(),
            id,
            hook: Hook::PostStart,
            handler: handler.clone(),
        });
    }
}

/// A running container that lost its place on the bridge is put back.
fn check_address(
    draft: &mut Draft<'_>,
    facts: &mut PodFacts,
    pod: &PodAssignment,
    name: &str,
    seen: &Seen,
) {
    let Some(wanted) = pod.spec.address else { return };
    if pod.spec.host_network || !seen.state.is_alive() || seen.address == Some(wanted) {
        return;
    }
    let what = match seen.address {
        Some(other) => format!("has the address {other} instead of {wanted}"),
        None => "cut off from the pod network".to_owned(),
    };
    facts.drifted(draft.input.now, name, DriftKind::NetworkLost, what);
    draft.push(Step::Attach { id: seen.id.clone() });
}

fn seen_by_name<'a>(draft: &Draft<'a>, name: &str) -> Option<&'a Seen> {
    draft
        .input
        .seen
        .iter()
        .copied()
        .filter(|seen| seen.identity.container == name)
        .max_by_key(|seen| (seen.identity.attempt, seen.id.as_str()))
}

//! Words a pod's observation from its facts, as Kubernetes words it.

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::observation::{ContainerObservation, ContainerState, PodObservation, PodPhase};
use kgit_protocol::pod::{ContainerSpec, RestartPolicy};

use crate::decide::facts::{ContainerFacts, Phase, PodFacts, PodOutcome};
use crate::decide::restart::runs_again;
use crate::decide::{Draft, Role, members, probing};
use crate::runtime::PAUSE;

pub(crate) fn observe(draft: &mut Draft<'_>, facts: &mut PodFacts) -> PodObservation {
    let now = draft.input.now;
    let pod = draft.input.assignment;
    let ready = pod.is_some_and(|pod| is_ready(facts, pod));
    facts.ready_since = match (ready, facts.ready_since) {
        (true, None) => Some(now),
        (true, since) => since,
        (false, _) => None,
    };
    let (phase, reason, message) = phase(facts, pod);
    PodObservation {
        uid: draft.input.uid.clone(),
        phase,
        reason,
        message,
        ready,
        ready_since: facts.ready_since,
        started_at: Some(facts.since),
        init_containers: containers(draft, facts, |role| role != Role::Main),
        containers: containers(draft, facts, |role| role == Role::Main),
        drifts: facts.drifts.clone(),
        silent_ports: if ready { facts.silent_ports.clone() } else { Vec::new() },
    }
}

/// Whether all of its containers are, whatever is to become of the pod.
pub(crate) fn is_ready(facts: &PodFacts, pod: &PodAssignment) -> bool {
    !facts.gone
        && facts.outcome.is_none()
        && members(pod).filter(|(_, role)| *role != Role::Init).all(|(spec, _)| {
            facts
                .containers
                .get(&spec.name)
                .is_some_and(|container| probing::is_ready(spec, container))
        })
}

fn phase(
    facts: &PodFacts,
    pod: Option<&PodAssignment>,
) -> (PodPhase, Option<String>, Option<String>) {
    if facts.gone {
        return (PodPhase::Gone, None, None);
    }
    match &facts.outcome {
        Some(PodOutcome::Succeeded) => return (PodPhase::Succeeded, None, None),
        Some(PodOutcome::Failed { reason, message }) => {
            return (PodPhase::Failed, reason.clone(), message.clone());
        }
        None => {}
    }
    let sandbox = facts.containers.get(PAUSE).and_then(|pause| pause.trouble.as_ref());
    let trouble = facts.trouble.as_ref().or(sandbox);
    let reason = trouble.map(|trouble| trouble.reason.clone());
    let message = trouble.map(|trouble| trouble.message.clone());
    let begun = pod.is_none_or(|pod| has_begun(facts, pod));
    (if begun { PodPhase::Running } else { PodPhase::Pending }, reason, message)
}

/// Every container has run at least once, and at least one was not just ordered.
fn has_begun(facts: &PodFacts, pod: &PodAssignment) -> bool {
    pod.spec.containers.iter().all(|spec| {
        facts.containers.get(&spec.name).is_some_and(|container| match container.phase {
            Phase::Never => false,
            Phase::Ordered => container.last.is_some(),
            Phase::Running { .. } | Phase::Ended { .. } => true,
        })
    })
}

fn containers(
    draft: &Draft<'_>,
    facts: &PodFacts,
    wanted: impl Fn(Role) -> bool,
) -> Vec<ContainerObservation> {
    let Some(pod) = draft.input.assignment else { return Vec::new() };
    members(pod)
        .filter(|(_, role)| wanted(*role))
        .map(|(spec, role)| container(draft, facts, pod, spec, role))
        .collect()
}

fn container(
    draft: &Draft<'_>,
    facts: &PodFacts,
    pod: &PodAssignment,
    spec: &ContainerSpec,
    role: Role,
) -> ContainerObservation {
    let blank = ContainerFacts::default();
    let noted = facts.containers.get(&spec.name).unwrap_or(&blank);
    let running = matches!(pod.order, Order::Run) && facts.outcome.is_none();
    let policy = running.then_some(pod.spec.restart_policy);
    let state = state(draft, facts, pod, noted, spec, role, policy);
    let waits_to_restart = matches!(state, ContainerState::Waiting { .. });
    let last = match noted.termination() {
        Some(termination) if waits_to_restart => Some(termination.clone()),
        _ => noted.last.clone(),
    };
    let init_done = role == Role::Init && noted.succeeded();
    ContainerObservation {
        name: spec.name.clone(),
        attempt: noted.attempt,
        state,
        last,
        restarts: noted.restarts,
        ready: init_done || (running && probing::is_ready(spec, noted)),
        started: probing::is_started(spec, noted),
        container_id: noted.id.clone(),
        image_id: noted.image.clone(),
    }
}

fn state(
    draft: &Draft<'_>,
    facts: &PodFacts,
    pod: &PodAssignment,
    noted: &ContainerFacts,
    spec: &ContainerSpec,
    role: Role,
    policy: Option<RestartPolicy>,
) -> ContainerState {
    match &noted.phase {
        Phase::Running { started_at } => ContainerState::Running { started_at: *started_at },
        Phase::Ended { termination, again } => {
            let code = termination.exit_code;
            let restarts = policy.is_some_and(|policy| *again || runs_again(policy, role, code));
            if !restarts {
                return ContainerState::Terminated(termination.clone());
            }
            let backs_off = noted.start_after.is_some_and(|at| at > draft.input.now);
            image_trouble(draft, noted).unwrap_or_else(|| match backs_off {
                true => backing_off(pod, spec, noted),
                false => creating(facts, pod, noted, role),
            })
        }
        Phase::Never | Phase::Ordered => {
            image_trouble(draft, noted).unwrap_or_else(|| creating(facts, pod, noted, role))
        }
    }
}

fn image_trouble(draft: &Draft<'_>, noted: &ContainerFacts) -> Option<ContainerState> {
    let trouble = noted.image_pull.trouble.as_ref()?;
    // Kubernetes shows the error first and the back-off while it waits.
    let (reason, message) = if trouble.failures > 1 && trouble.retry_at > draft.input.now {
        ("ImagePullBackOff", format!("Back-off pulling image: {}", trouble.message))
    } else {
        (trouble.reason.as_str(), trouble.message.clone())
    };
    Some(waiting(reason, Some(message)))
}

fn backing_off(
    pod: &PodAssignment,
    spec: &ContainerSpec,
    noted: &ContainerFacts,
) -> ContainerState {
    let seconds = crate::decide::restart::restart_delay(noted.crashes).as_secs();
    let message = format!(
        "back-off {seconds}s restarting failed container={} pod={}_{}",
        spec.name, pod.name, pod.namespace
    );
    waiting("CrashLoopBackOff", Some(message))
}

fn creating(
    facts: &PodFacts,
    pod: &PodAssignment,
    noted: &ContainerFacts,
    role: Role,
) -> ContainerState {
    if let Some(trouble) = &noted.trouble {
        return waiting(&trouble.reason, Some(trouble.message.clone()));
    }
    let initialising = role == Role::Main
        && pod.spec.init_containers.iter().filter(|spec| !spec.sidecar).any(|spec| {
            facts.containers.get(&spec.name).is_none_or(|container| !container.succeeded())
        });
    waiting(if initialising { "PodInitializing" } else { "ContainerCreating" }, None)
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message }
}

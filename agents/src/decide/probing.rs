//! Counting probe results, and which probes are to run. Pure; `crate::probes` makes them.
//!
//! Kubernetes' rules: until a first result readiness counts as failed, liveness as passed,
//! startup as unknown; the others wait for startup; an error of the probe itself is discarded; a
//! liveness or startup failure holds until the container is a new one.

use std::net::Ipv4Addr;

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::pod::{ContainerSpec, Probe};
use kgit_protocol::time::Timestamp;

use crate::decide::facts::{ContainerFacts, HookState, Phase, PodFacts, Tally};
use crate::decide::members;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// A probe to be made again and again for as long as this target is in a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    pub container: String,
    /// The container's id: another container is another target.
    pub id: String,
    pub kind: ProbeKind,
    pub probe: Probe,
    /// `None`: the host itself.
    pub address: Option<Ipv4Addr>,
    /// The initial delay counts from here.
    pub started_at: Timestamp,
}

/// Counts one result.
pub fn count(container: &mut ContainerFacts, probe: &Probe, kind: ProbeKind, success: bool) {
    let tally = match kind {
        ProbeKind::Startup => &mut container.probes.startup,
        ProbeKind::Liveness => &mut container.probes.liveness,
        ProbeKind::Readiness => &mut container.probes.readiness,
    };
    let holds = tally.verdict == Some(false) && kind != ProbeKind::Readiness;
    if holds {
        return;
    }
    if success {
        tally.failures = 0;
        tally.successes = tally.successes.saturating_add(1);
        if tally.successes >= probe.success_threshold.max(1) {
            tally.verdict = Some(true);
        }
    } else {
        tally.successes = 0;
        tally.failures = tally.failures.saturating_add(1);
        if tally.failures >= probe.failure_threshold.max(1) {
            tally.verdict = Some(false);
        }
    }
}

/// Past its startup probe and its postStart hook.
pub(crate) fn is_started(spec: &ContainerSpec, container: &ContainerFacts) -> bool {
    let probed = spec.startup.is_none() || container.probes.startup.verdict == Some(true);
    let hooked = spec.post_start.is_none() || container.post_start == HookState::Done;
    container.is_running() && probed && hooked
}

pub(crate) fn is_ready(spec: &ContainerSpec, container: &ContainerFacts) -> bool {
    let probed = spec.readiness.is_none() || container.probes.readiness.verdict == Some(true);
    is_started(spec, container) && probed
}

/// The probe that demands an end of the container, if one does.
pub(crate) fn failed(spec: &ContainerSpec, container: &ContainerFacts) -> Option<&'static str> {
    let no = |tally: &Tally| tally.verdict == Some(false);
    if spec.startup.is_some() && no(&container.probes.startup) {
        return Some("startup");
    }
    (spec.liveness.is_some() && no(&container.probes.liveness)).then_some("liveness")
}

/// The probes to be made. While a pod ends, only readiness goes on.
pub(crate) fn targets(pod: Option<&PodAssignment>, facts: &PodFacts) -> Vec<ProbeTarget> {
    let Some(pod) = pod else { return Vec::new() };
    let mut targets = Vec::new();
    for (spec, _) in members(pod) {
        let Some(container) = facts.containers.get(&spec.name) else { continue };
        let Phase::Running { started_at } = container.phase else { continue };
        let Some(id) = container.id.clone() else { continue };
        let ending = !matches!(pod.order, Order::Run) || container.stop.is_some();
        for (kind, probe) in wanted(spec, container, ending) {
            targets.push(ProbeTarget {
                container: spec.name.clone(),
                id: id.clone(),
                kind,
                probe: probe.clone(),
                address: if pod.spec.host_network { None } else { pod.spec.address },
                started_at,
            });
        }
    }
    targets
}

fn wanted<'a>(
    spec: &'a ContainerSpec,
    container: &ContainerFacts,
    ending: bool,
) -> Vec<(ProbeKind, &'a Probe)> {
    let readiness = spec.readiness.as_ref().map(|probe| (ProbeKind::Readiness, probe));
    let starting = spec.startup.is_some() && container.probes.startup.verdict != Some(true);
    match (ending, starting) {
        (true, true) => Vec::new(),
        (true, false) => readiness.into_iter().collect(),
        (false, true) => {
            spec.startup.as_ref().map(|probe| (ProbeKind::Startup, probe)).into_iter().collect()
        }
        (false, false) => {
            let liveness = spec.liveness.as_ref().map(|probe| (ProbeKind::Liveness, probe));
            liveness.into_iter().chain(readiness).collect()
        }
    }
}

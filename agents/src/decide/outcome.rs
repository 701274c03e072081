//! Folds the outcomes of steps, hooks and probes into the facts.

use std::time::Duration;

use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::observation::{DriftKind, PodEvent, Termination};
use kgit_protocol::pod::{PodSpec, Probe};
use kgit_protocol::time::Timestamp;

use crate::decide::Hook;
use crate::decide::facts::{HookState, Phase, PodFacts, PodOutcome, Touched, Trouble};
use crate::decide::probing::{self, ProbeKind};
use crate::decide::restart::{restart_delay, retry_delay};
use crate::runtime::PAUSE;

/// What Docker and Kubernetes give for a container that can't be started.
const CANNOT_START_CODE: i64 = 128;
/// The first retry comes soon: what fails to start often waits for something that is on its way.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Something that happened to one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Started {
        container: String,
        id: String,
    },
    ImageMissing {
        container: String,
    },
    Pulled {
        container: String,
        attempt: Attempt,
        told: PullTold,
    },
    PullFailed {
        container: String,
        message: String,
    },
    /// The command can't be run: counts as an exit.
    CannotRun {
        container: String,
        message: String,
    },
    /// Making or starting it failed; to be tried again.
    StartFailed {
        container: String,
        reason: &'static str,
        message: String,
    },
    /// The pod's volumes can't be prepared; to be tried again.
    PrepareFailed {
        reason: String,
        message: String,
    },
    /// The node's policy forbids it, for good.
    Refused {
        message: String,
    },
    HookEnded {
        container: String,
        id: String,
        hook: Hook,
        result: Result<(), String>,
    },
    Probed {
        container: String,
        id: String,
        kind: ProbeKind,
        probe: Probe,
        result: ProbeResult,
    },
    LastWords {
        container: String,
        attempt: Attempt,
        message: String,
    },
    Touched {
        container: String,
        touched: Touched,
    },
    /// The name of the container's image was taken away; `put_back` if it has it again.
    ImageLost {
        container: String,
        image: String,
        put_back: Result<(), String>,
    },
    /// The pod takes more than it may, so it ends.
    Evicted {
        message: String,
    },
    /// A volume that should have existed had to be made anew.
    VolumeLost {
        volume: String,
    },
    /// No more connections are led to the pod.
    Drained,
    /// Ports that services lead to, and that nothing in the pod listens on.
    SilentPorts(Vec<u16>),
}

/// What is worth telling about a pull that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullTold {
    Fetched(String),
    /// The registry was out of reach, so the image that is there serves.
    UsedLocal(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Success,
    Failure(String),
    /// It could not be made, which says nothing about the container. Source: `doProbe` of
    /// kubelet's `prober/worker.go`.
    Error(String),
}

/// Folds `note` into `facts`; what is worth telling goes into `events`. `spec` is the pod's, as long
/// as it is assigned.
pub fn fold(
    uid: &PodUid,
    spec: Option<&PodSpec>,
    facts: &mut PodFacts,
    note: Note,
    now: Timestamp,
    events: &mut Vec<PodEvent>,
) {
    let mut teller = Teller { uid, now, events };
    match note {
        Note::Started { container, id } => {
            let image = spec.and_then(|spec| spec.container(&container));
            let image = image.map(|container| container.image.as_str());
            started(&mut teller, facts, &container, id, image);
        }
        Note::ImageMissing { container } => facts.container(&container).image_pull.missing = true,
        Note::Pulled { container, attempt, told } => {
            pulled(&mut teller, facts, &container, attempt, told);
        }
        Note::PullFailed { container, message } => {
            pull_failed(&mut teller, facts, &container, message);
        }
        Note::CannotRun { container, message } => {
            teller.tell(true, "Failed", &container, message.clone());
            cannot_run(facts, &container, message, now);
        }
        Note::StartFailed { container, reason, message } => {
            teller.tell(true, "Failed", &container, message.clone());
            let noted = facts.container(&container);
            noted.trouble = Some(soon(noted.trouble.as_ref(), reason, message, now));
        }
        Note::PrepareFailed { reason, message } => {
            teller.tell(true, &reason, PAUSE, message.clone());
            facts.trouble = Some(soon(facts.trouble.as_ref(), &reason, message, now));
        }
        Note::Refused { message } => refused(&mut teller, facts, message),
        Note::HookEnded { container, id, hook, result } => {
            hook_ended(&mut teller, facts, &container, &id, hook, result);
        }
        Note::Probed { container, id, kind, probe, result } => {
            let noted = facts.container(&container);
            if noted.id.as_deref() == Some(id.as_str()) {
                match result {
                    ProbeResult::Success => probing::count(noted, &probe, kind, true),
                    ProbeResult::Failure(_) => probing::count(noted, &probe, kind, false),
                    ProbeResult::Error(_) => {}
                }
                unhealthy(&mut teller, &container, kind, &result);
            }
        }
        Note::LastWords { container, attempt, message } => {
            last_words(facts, &container, attempt, message);
        }
        Note::Touched { container, touched } => {
            let noted = facts.container(&container);
            if noted.stop.is_none() && noted.id.as_deref() == Some(touched.id.as_str()) {
                noted.touched = Some(touched);
            }
        }
        Note::ImageLost { container, image, put_back } => {
            image_lost(facts, &container, &image, put_back, now);
        }
        Note::Evicted { message } => evicted(&mut teller, facts, message),
        Note::VolumeLost { volume } => volume_lost(&mut teller, facts, &volume),
        Note::Drained => {
            if let Some(drain) = &mut facts.drain {
                drain.done.get_or_insert(now);
            }
        }
        Note::SilentPorts(ports) => facts.silent_ports = ports,
    }
}

/// Words events about one pod at one moment.
pub(super) struct Teller<'a> {
    pub(super) uid: &'a PodUid,
    pub(super) now: Timestamp,
    pub(super) events: &'a mut Vec<PodEvent>,
}

impl Teller<'_> {
    /// [`PAUSE`] for what concerns the pod as a whole.
    pub(super) fn tell(&mut self, warning: bool, reason: &str, container: &str, message: String) {
        let field_path = (container != PAUSE).then(|| format!("spec.containers{{{container}}}"));
        self.events.push(PodEvent {
            uid: self.uid.clone(),
            at: self.now,
            warning,
            reason: reason.to_owned(),
            message,
            field_path,
        });
    }
}

fn started(
    teller: &mut Teller<'_>,
    facts: &mut PodFacts,
    name: &str,
    id: String,
    image: Option<&str>,
) {
    let noted = facts.container(name);
    let was_here = noted.image_pull.fetched_for != Some(noted.attempt);
    if let Some(image) = image.filter(|_| was_here) {
        let message = format!("Container image {image:?} already present on machine");
        teller.tell(false, "Pulled", name, message);
    }
    if name != PAUSE {
        teller.tell(false, "Created", name, format!("Created container: {name}"));
        teller.tell(false, "Started", name, format!("Started container {name}"));
    }
    facts.container(name).id = Some(id);
    facts.trouble = None;
}

fn pulled(
    teller: &mut Teller<'_>,
    facts: &mut PodFacts,
    name: &str,
    attempt: Attempt,
    told: PullTold,
) {
    match told {
        PullTold::Fetched(what) => teller.tell(false, "Pulled", name, what),
        PullTold::UsedLocal(what) => teller.tell(true, "PulledLocally", name, what),
    }
    let pull = &mut facts.container(name).image_pull;
    pull.running = false;
    pull.missing = false;
    pull.fetched_for = Some(attempt);
    pull.trouble = None;
}

fn pull_failed(teller: &mut Teller<'_>, facts: &mut PodFacts, name: &str, message: String) {
    teller.tell(true, "Failed", name, message.clone());
    let pull = &mut facts.container(name).image_pull;
    pull.running = false;
    let delay = retry_delay(failures(pull.trouble.as_ref()) + 1);
    let retry_at = teller.now.after(delay);
    pull.trouble = Some(again(pull.trouble.as_ref(), "ErrImagePull", message, retry_at));
}

fn refused(teller: &mut Teller<'_>, facts: &mut PodFacts, message: String) {
    teller.tell(true, "NodePolicy", PAUSE, message.clone());
    facts.outcome =
        Some(PodOutcome::Failed { reason: Some("NodePolicy".to_owned()), message: Some(message) });
}

fn unhealthy(teller: &mut Teller<'_>, name: &str, kind: ProbeKind, result: &ProbeResult) {
    let (what, message) = match result {
        ProbeResult::Success => return,
        ProbeResult::Failure(message) => ("failed", message),
        ProbeResult::Error(message) => ("errored", message),
    };
    let text = format!("{} probe {what}: {message}", capitalised(kind.word()));
    teller.tell(true, "Unhealthy", name, text);
}

fn last_words(facts: &mut PodFacts, name: &str, attempt: Attempt, message: String) {
    let noted = facts.container(name);
    match &mut noted.phase {
        Phase::Ended { termination, .. } if noted.attempt == attempt => {
            termination.message = Some(message);
        }
        Phase::Never | Phase::Ordered | Phase::Running { .. } | Phase::Ended { .. } => {
            if let Some(last) = &mut noted.last
                && noted.attempt == attempt.next()
            {
                last.message = Some(message);
            }
        }
    }
}

/// The running container is none the worse for it; what matters is its next start.
fn image_lost(
    facts: &mut PodFacts,
    name: &str,
    image: &str,
    put_back: Result<(), String>,
    now: Timestamp,
) {
    if !facts.container(name).is_running() {
        return;
    }
    let then = match put_back {
        Ok(()) => "named again from the running container's".to_owned(),
        Err(error) => format!("to be fetched when the container starts again ({error})"),
    };
    let text = format!("the image {image} was removed by somebody; {then}");
    facts.drifted(now, name, DriftKind::ImageLost, text);
}

fn evicted(teller: &mut Teller<'_>, facts: &mut PodFacts, message: String) {
    if facts.outcome.is_some() || facts.gone {
        return;
    }
    teller.tell(true, "Evicted", PAUSE, message.clone());
    facts.outcome =
        Some(PodOutcome::Failed { reason: Some("Evicted".to_owned()), message: Some(message) });
}

fn volume_lost(teller: &mut Teller<'_>, facts: &mut PodFacts, volume: &str) {
    let text = format!(
        "the data of volume {volume} is lost: it was removed behind kgit's back, and an empty \
         one took its place"
    );
    teller.tell(true, "VolumeLost", PAUSE, text.clone());
    facts.drifted(teller.now, PAUSE, DriftKind::Removed, text);
}

fn failures(trouble: Option<&Trouble>) -> u32 {
    trouble.map_or(0, |trouble| trouble.failures)
}

fn again(before: Option<&Trouble>, reason: &str, message: String, retry_at: Timestamp) -> Trouble {
    Trouble { reason: reason.to_owned(), message, failures: failures(before) + 1, retry_at }
}

fn soon(before: Option<&Trouble>, reason: &str, message: String, now: Timestamp) -> Trouble {
    let delay = match failures(before) {
        0 => FIRST_RETRY,
        more => retry_delay(more).min(Duration::from_secs(60)),
    };
    again(before, reason, message, now.after(delay))
}

fn cannot_run(facts: &mut PodFacts, name: &str, message: String, now: Timestamp) {
    let container = facts.container(name);
    container.crashes = container.crashes.saturating_add(1);
    container.start_after = Some(now.after(restart_delay(container.crashes)));
    let termination = Termination {
        exit_code: CANNOT_START_CODE,
        reason: "ContainerCannotRun".to_owned(),
        message: Some(message),
        started_at: None,
        finished_at: Some(now),
        container_id: container.id.clone(),
    };
    container.phase = Phase::Ended { termination, again: false };
}

fn hook_ended(
    teller: &mut Teller<'_>,
    facts: &mut PodFacts,
    name: &str,
    id: &str,
    hook: Hook,
    result: Result<(), String>,
) {
    if let Err(message) = &result {
        let reason = match hook {
            Hook::PostStart => "FailedPostStartHook",
            Hook::PreStop => "FailedPreStopHook",
        };
        teller.tell(true, reason, name, message.clone());
    }
    let container = facts.container(name);
    if container.id.as_deref() != Some(id) {
        return;
    }
    let state = match result {
        Ok(()) => HookState::Done,
        Err(message) => HookState::Failed(message),
    };
    match (hook, &mut container.stop) {
        (Hook::PostStart, _) => container.post_start = state,
        (Hook::PreStop, Some(stop)) => stop.pre_stop = state,
        (Hook::PreStop, None) => {}
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

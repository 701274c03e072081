//! Folds the outcomes of steps, hooks and probes into the facts.

use std::time::Duration;

use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::observation::{DriftKind, PodEvent, Termination};
use kgit_protocol::pod::Probe;
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
    /// A volume that should have existed had to be made anew.
    VolumeLost {
        volume: String,
    },
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
}

/// Folds `note` into `facts`; what is worth telling goes into `events`.
pub fn fold(
    uid: &PodUid,
    facts: &mut PodFacts,
    note: Note,
    now: Timestamp,
    events: &mut Vec<PodEvent>,
) {
    let mut tell = |warning: bool, reason: &str, container: &str, message: String| {
        let field_path = (!container.is_empty()).then(|| format!("spec.containers{{{container}}}"));
        let (uid, reason) = (uid.clone(), reason.to_owned());
        events.push(PodEvent { uid, at: now, warning, reason, message, field_path });
    };
    match note {
        Note::Started { container, id } => {
            if container != PAUSE {
                tell(false, "Started", &container, format!("Started container {container}"));
            }
            let noted = facts.container(&container);
            noted.id = Some(id);
            facts.trouble = None;
        }
        Note::ImageMissing { container } => facts.container(&container).image_pull.missing = true,
        Note::Pulled { container, attempt, told } => {
            match told {
                PullTold::Fetched(what) => tell(false, "Pulled", &container, what),
                PullTold::UsedLocal(what) => tell(true, "PulledLocally", &container, what),
            }
            let pull = &mut facts.container(&container).image_pull;
            pull.running = false;
            pull.missing = false;
            pull.fetched_for = Some(attempt);
            pull.trouble = None;
        }
        Note::PullFailed { container, message } => {
            tell(true, "Failed", &container, message.clone());
            let pull = &mut facts.container(&container).image_pull;
            pull.running = false;
            let delay = retry_delay(failures(pull.trouble.as_ref()) + 1);
            pull.trouble =
                Some(again(pull.trouble.as_ref(), "ErrImagePull", message, now.after(delay)));
        }
        Note::CannotRun { container, message } => {
            tell(true, "Failed", &container, message.clone());
            cannot_run(facts, &container, message, now);
        }
        Note::StartFailed { container, reason, message } => {
            tell(true, "Failed", &container, message.clone());
            let noted = facts.container(&container);
            noted.trouble = Some(soon(noted.trouble.as_ref(), reason, message, now));
        }
        Note::PrepareFailed { reason, message } => {
            tell(true, "FailedMount", "", message.clone());
            facts.trouble = Some(soon(facts.trouble.as_ref(), &reason, message, now));
        }
        Note::Refused { message } => {
            tell(true, "NodePolicy", "", message.clone());
            facts.outcome = Some(PodOutcome::Failed {
                reason: Some("NodePolicy".to_owned()),
                message: Some(message),
            });
        }
        Note::HookEnded { container, id, hook, result } => {
            if let Err(message) = &result {
                let reason = match hook {
                    Hook::PostStart => "FailedPostStartHook",
                    Hook::PreStop => "FailedPreStopHook",
                };
                tell(true, reason, &container, message.clone());
            }
            hook_ended(facts, &container, &id, hook, result);
        }
        Note::Probed { container, id, kind, probe, result } => {
            if let ProbeResult::Failure(message) = &result {
                let text = format!("{} probe failed: {message}", capitalised(kind.word()));
                tell(true, "Unhealthy", &container, text);
            }
            let noted = facts.container(&container);
            if noted.id.as_deref() == Some(id.as_str()) {
                probing::count(noted, &probe, kind, result == ProbeResult::Success);
            }
        }
        Note::LastWords { container, attempt, message } => {
            let noted = facts.container(&container);
            match &mut noted.phase {
                Phase::Ended { termination, .. } if noted.attempt == attempt => {
                    termination.message = Some(message);
                }
                _ if noted.attempt == attempt.next() => {
                    if let Some(last) = &mut noted.last {
                        last.message = Some(message);
                    }
                }
                _ => {}
            }
        }
        Note::Touched { container, touched } => {
            let noted = facts.container(&container);
            if noted.stop.is_none() && noted.id.as_deref() == Some(touched.id.as_str()) {
                noted.touched = Some(touched);
            }
        }
        Note::VolumeLost { volume } => {
            let text = format!(
                "the data of volume {volume} is lost: it was removed behind kgit's back, and an \
                 empty one took its place"
            );
            tell(true, "VolumeLost", "", text.clone());
            facts.drifted(now, "", DriftKind::Removed, text);
        }
    }
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

fn hook_ended(facts: &mut PodFacts, name: &str, id: &str, hook: Hook, result: Result<(), String>) {
    let container = facts.container(name);
    if container.id.as_deref() != Some(id) {
        return;
    }
    let state = match result {
        Ok(()) => HookState::Done,
        Err(message) => HookState::Failed(message),
    };
    match hook {
        Hook::PostStart => container.post_start = state,
        Hook::PreStop => {
            if let Some(stop) = &mut container.stop {
                stop.pre_stop = state;
            }
        }
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

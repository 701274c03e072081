//! A pod's steps as the single calls that they make to the engine, so that anything can happen
//! between any two of them. Mirrors `worker/carry_out.rs`.

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt as _;
use kgit_agent::decide::outcome::Note;
use kgit_agent::decide::{Hook, Step};
use kgit_agent::node::Node;
use kgit_agent::runtime::sim::Sim;
use kgit_agent::runtime::{PAUSE, Runtime as _, RuntimeError, Scope, VolumeOrder};
use kgit_agent::spec::{member_order, pause_order};
use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::pod::VolumeSource;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Volumes {
        container: String,
    },
    Create {
        container: String,
        attempt: Attempt,
        sandbox: Option<String>,
    },
    /// `None`: the container that was just made.
    Run {
        container: String,
        id: Option<String>,
    },
    Terminate(String),
    Kill(String),
    Unpause(String),
    Remove(String),
    Attach(String),
    Clean,
    /// Done apart from the others; what they lead to comes later.
    Pull {
        container: String,
        image: String,
        attempt: Attempt,
    },
    Hook {
        container: String,
        id: String,
        hook: Hook,
    },
    LastWords,
}

impl Call {
    pub fn of(step: Step) -> Vec<Self> {
        match step {
            Step::Pull { container, image, attempt } => {
                vec![Self::Pull { container, image, attempt }]
            }
            Step::Start { container, attempt, sandbox } => vec![
                Self::Volumes { container: container.clone() },
                Self::Create { container: container.clone(), attempt, sandbox },
                Self::Run { container, id: None },
            ],
            Step::Resume { container, id } => vec![Self::Run { container, id: Some(id) }],
            Step::Terminate { id } => vec![Self::Terminate(id)],
            Step::Kill { id } => vec![Self::Kill(id)],
            Step::Unpause { id } => vec![Self::Unpause(id)],
            Step::Remove { id } => vec![Self::Remove(id)],
            Step::Attach { id } => vec![Self::Attach(id)],
            Step::Hook { container, id, hook, .. } => vec![Self::Hook { container, id, hook }],
            Step::LastWords { .. } => vec![Self::LastWords],
            Step::Clean => vec![Self::Clean],
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Volumes { .. } => "volumes",
            Self::Create { .. } => "create",
            Self::Run { .. } => "start",
            Self::Terminate(_) => "terminate",
            Self::Kill(_) => "kill",
            Self::Unpause(_) => "unpause",
            Self::Remove(_) => "remove",
            Self::Attach(_) => "attach",
            Self::Clean => "clean",
            Self::Pull { .. } => "pull",
            Self::Hook { .. } => "hook",
            Self::LastWords => "last words",
        }
    }
}

/// One pod's calls and what they need to know, as of when they were decided.
#[derive(Debug)]
pub struct Job {
    pub pod: Option<PodAssignment>,
    hashes: BTreeMap<String, String>,
    pub calls: VecDeque<Call>,
    made: Option<String>,
}

/// What came of one call.
#[derive(Debug)]
pub enum Outcome {
    Done(Option<Note>),
    /// Nothing more of this job is to be done, and it did not fail.
    Over(Option<Note>),
    Failed(Option<Note>),
}

impl Job {
    pub fn new(node: &Node, uid: &PodUid, calls: VecDeque<Call>) -> Self {
        let pod = node.pod(uid).cloned();
        let names = calls.iter().filter_map(|call| match call {
            Call::Create { container, .. } => Some(container.clone()),
            _ => None,
        });
        let hashes = names.map(|name| (name.clone(), node.hash(uid, &name))).collect();
        Self { pod, hashes, calls, made: None }
    }

    /// Leaves out what is left of a start that can't go on; the pod's next step is another matter.
    pub fn skip_start(&mut self) {
        let of_start =
            |next: &Call| matches!(next, Call::Create { .. } | Call::Run { id: None, .. });
        while self.calls.front().is_some_and(of_start) {
            self.calls.pop_front();
        }
    }

    /// Makes one call.
    pub fn make(&mut self, call: &Call, engine: &Sim, scope: &Scope) -> Outcome {
        let result = match call {
            Call::Volumes { container } => return self.volumes(container, engine),
            Call::Create { container, attempt, sandbox } => {
                return self.create(container, *attempt, sandbox.as_deref(), engine, scope);
            }
            Call::Run { container, id } => return self.run(container, id.clone(), engine),
            Call::Terminate(id) => now(engine.terminate(id)),
            Call::Kill(id) => now(engine.kill(id)),
            Call::Unpause(id) => now(engine.unpause(id)),
            Call::Remove(id) => now(engine.remove(id)),
            Call::Attach(id) => match self.pod.as_ref().and_then(|pod| pod.spec.address) {
                Some(address) => now(engine.attach(id, address)),
                None => Ok(()),
            },
            Call::Clean | Call::LastWords | Call::Pull { .. } | Call::Hook { .. } => Ok(()),
        };
        match result {
            Ok(()) => Outcome::Done(None),
            Err(_) => Outcome::Failed(None),
        }
    }

    fn volumes(&self, container: &str, engine: &Sim) -> Outcome {
        let Some(pod) = &self.pod else { return Outcome::Over(None) };
        for volume in &pod.spec.volumes {
            let VolumeSource::Docker { volume: name, driver, options } = &volume.source else {
                continue;
            };
            let (driver, options) = (driver.clone(), options.clone());
            let order = VolumeOrder { name: name.clone(), driver, options };
            if let Err(error) = now(engine.ensure_volume(&order)) {
                let message = format!("volume {name}: {error}");
                return Outcome::Failed(Some(Note::PrepareFailed {
                    reason: "FailedMount".to_owned(),
                    message,
                }));
            }
        }
        if container == PAUSE && now(engine.ensure_pause_image()).is_err() {
            let (reason, message) = ("FailedMount".to_owned(), "pause image".to_owned());
            return Outcome::Failed(Some(Note::PrepareFailed { reason, message }));
        }
        Outcome::Done(None)
    }

    fn create(
        &mut self,
        container: &str,
        attempt: Attempt,
        sandbox: Option<&str>,
        engine: &Sim,
        scope: &Scope,
    ) -> Outcome {
        let Some(pod) = &self.pod else { return Outcome::Over(None) };
        let hash = self.hashes.get(container).cloned().unwrap_or_default();
        let order = if container == PAUSE {
            pause_order(scope, pod, attempt, hash, "pause".to_owned(), Vec::new())
        } else {
            let mut all = pod.spec.init_containers.iter().chain(&pod.spec.containers);
            let Some(spec) = all.find(|spec| spec.name == container) else {
                return Outcome::Over(None);
            };
            member_order(scope, pod, spec, attempt, hash, sandbox, Vec::new())
        };
        match now(engine.create(&order)) {
            Ok(id) => {
                self.made = Some(id);
                Outcome::Done(None)
            }
            Err(RuntimeError::NoSuchImage(_)) => {
                Outcome::Over(Some(Note::ImageMissing { container: container.to_owned() }))
            }
            Err(error) => start_failed(container, "CreateContainerError", &error),
        }
    }

    fn run(&mut self, container: &str, id: Option<String>, engine: &Sim) -> Outcome {
        let Some(id) = id.or(self.made.take()) else { return Outcome::Over(None) };
        match now(engine.start(&id)) {
            Ok(()) => Outcome::Done(Some(Note::Started { container: container.to_owned(), id })),
            Err(RuntimeError::CannotRun(message)) => {
                let container = container.to_owned();
                Outcome::Failed(Some(Note::CannotRun { container, message }))
            }
            Err(error) => start_failed(container, "RunContainerError", &error),
        }
    }
}

fn start_failed(container: &str, reason: &'static str, error: &RuntimeError) -> Outcome {
    if matches!(error, RuntimeError::Unavailable(_) | RuntimeError::Gone(_)) {
        return Outcome::Failed(None);
    }
    let reason =
        if matches!(error, RuntimeError::AddressInUse(_)) { "AddressInUse" } else { reason };
    let container = container.to_owned();
    Outcome::Failed(Some(Note::StartFailed { container, reason, message: error.to_string() }))
}

/// The engine in memory answers at once.
pub fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the engine in memory answers at once")
}

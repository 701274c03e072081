//! Carries out one pod's steps, in order; stops at the first that fails. Each outcome is told to
//! the loop, and then that the pod is free to be decided about again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use kgit_protocol::assignment::PodAssignment;
use kgit_protocol::ids::{Attempt, PodUid};
use kgit_protocol::pod::{ContainerSpec, Handler};
use kgit_protocol::stream::LogRequest;

use crate::decide::outcome::Note;
use crate::decide::{Hook, Step};
use crate::node::Node;
use crate::probes;
use crate::runtime::{ContainerOrder, PAUSE, Runtime, RuntimeError, Seccomp};
use crate::spec::{
    check_non_root, localhost_profile, member_order, pause_order, root_depends_on_image,
};
use crate::volumes::VolumeError;
use crate::worker::{Input, Shared, images};

/// What Kubernetes takes from the end of a log as last words.
const LAST_LINES: u64 = 80;
const LAST_LINES_BYTES: u64 = 2048;

/// One pod's steps and what they need to know.
#[derive(Debug)]
pub struct PodWork {
    pub uid: PodUid,
    pub pod: Option<PodAssignment>,
    pub hashes: BTreeMap<String, String>,
    pub steps: Vec<Step>,
}

impl PodWork {
    pub fn new(node: &Node, uid: PodUid, steps: Vec<Step>) -> Self {
        let pod = node.pod(&uid).cloned();
        let names = steps.iter().filter_map(|step| match step {
            Step::Start { container, .. } => Some(container.clone()),
            _ => None,
        });
        let hashes = names.map(|name| (name.clone(), node.hash(&uid, &name))).collect();
        Self { uid, pod, hashes, steps }
    }

    fn spec(&self, container: &str) -> Option<&ContainerSpec> {
        self.pod.as_ref()?.spec.container(container)
    }
}

/// Why a step failed. Trouble that decisions need to know of was noted already.
#[derive(Debug)]
struct Failed;

pub async fn carry_out<R: Runtime>(shared: Arc<Shared<R>>, job: PodWork) {
    let mut failed = false;
    {
        // The semaphore is never closed.
        let _slot = shared.in_flight.acquire().await;
        for step in &job.steps {
            if one(&shared, &job, step).await.is_err() {
                failed = true;
                break;
            }
        }
    }
    // The loop ends before its tasks only when the agent stops.
    let _ = shared.inputs.send(Input::Finished { pod: job.uid, failed }).await;
}

async fn note<R>(shared: &Shared<R>, uid: &PodUid, note: Note) {
    let _ = shared.inputs.send(Input::Note(uid.clone(), note)).await;
}

async fn one<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    step: &Step,
) -> Result<(), Failed> {
    let runtime = &shared.runtime;
    let result = match step {
        Step::Pull { container, image, attempt } => {
            pull_apart(shared, job, container, image, *attempt);
            return Ok(());
        }
        Step::Hook { container, id, hook, handler } => {
            hook_apart(shared, job, container, id, *hook, handler);
            return Ok(());
        }
        Step::LastWords { container, id, attempt } => {
            last_words(shared, job, container, id, *attempt).await;
            return Ok(());
        }
        Step::Start { container, attempt, sandbox } => {
            return start(shared, job, container, *attempt, sandbox.as_deref()).await;
        }
        Step::Resume { container, id } => return run(shared, job, container, id).await,
        Step::Clean => {
            return shared.places.clean(runtime, &job.uid).await.map_err(|error| {
                tracing::warn!(pod = %job.uid, %error, "the pod's folders can't be removed");
                Failed
            });
        }
        Step::Terminate { id } => runtime.terminate(id).await,
        Step::Kill { id } => runtime.kill(id).await,
        Step::Unpause { id } => runtime.unpause(id).await,
        Step::Remove { id } => runtime.remove(id).await,
        Step::Attach { id } => match job.pod.as_ref().and_then(|pod| pod.spec.address) {
            Some(address) => runtime.attach(id, address).await,
            None => Ok(()),
        },
    };
    result.map_err(|error| {
        tracing::warn!(pod = %job.uid, ?step, %error, "step failed");
        Failed
    })
}

async fn start<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    container: &str,
    attempt: Attempt,
    sandbox: Option<&str>,
) -> Result<(), Failed> {
    let order = match order(shared, job, container, attempt, sandbox).await {
        Ok(Some(order)) => order,
        Ok(None) => return Ok(()),
        Err(error) => {
            note(shared, &job.uid, prepare_failed(error)).await;
            return Err(Failed);
        }
    };
    let order = match secured(shared, job, container, order).await {
        Ok(Some(order)) => order,
        Ok(None) => return Ok(()),
        Err((reason, error)) => {
            start_failed(shared, job, container, reason, error).await;
            return Err(Failed);
        }
    };
    match shared.runtime.create(&order).await {
        Ok(id) => run(shared, job, container, &id).await,
        Err(RuntimeError::NoSuchImage(_)) => {
            let missing = Note::ImageMissing { container: container.to_owned() };
            note(shared, &job.uid, missing).await;
            Ok(())
        }
        Err(error) => {
            start_failed(shared, job, container, "CreateContainerError", error).await;
            Err(Failed)
        }
    }
}

/// Completes and checks what the node and the image have a say in. `None`: the image is missing,
/// which was noted.
async fn secured<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    container: &str,
    mut order: ContainerOrder,
) -> Result<Option<ContainerOrder>, (&'static str, RuntimeError)> {
    let (Some(pod), Some(spec)) = (&job.pod, job.spec(container)) else { return Ok(Some(order)) };
    let refused = |reason: &'static str| move |text| (reason, RuntimeError::Refused(text));
    if let Some(file) = localhost_profile(spec) {
        let text = shared.places.seccomp_profile(file).map_err(refused("CreateContainerError"))?;
        order.seccomp = Seccomp::Profile(text);
    }
    let mut user = String::new();
    if root_depends_on_image(spec) {
        let found = shared.runtime.image(&spec.image).await;
        match found.map_err(|error| ("CreateContainerConfigError", error))? {
            Some(image) => user = image.user.unwrap_or_default(),
            None => {
                let missing = Note::ImageMissing { container: container.to_owned() };
                note(shared, &job.uid, missing).await;
                return Ok(None);
            }
        }
    }
    check_non_root(pod, spec, &user).map_err(refused("CreateContainerConfigError"))?;
    Ok(Some(order))
}

async fn run<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    container: &str,
    id: &str,
) -> Result<(), Failed> {
    match shared.runtime.start(id).await {
        Ok(()) => {
            let started = Note::Started { container: container.to_owned(), id: id.to_owned() };
            note(shared, &job.uid, started).await;
            Ok(())
        }
        Err(RuntimeError::CannotRun(message)) => {
            let failed = Note::CannotRun { container: container.to_owned(), message };
            note(shared, &job.uid, failed).await;
            Err(Failed)
        }
        Err(error) => {
            start_failed(shared, job, container, "RunContainerError", error).await;
            Err(Failed)
        }
    }
}

async fn start_failed<R>(
    shared: &Shared<R>,
    job: &PodWork,
    container: &str,
    reason: &'static str,
    error: RuntimeError,
) {
    tracing::debug!(pod = %job.uid, container, %error, "start failed");
    if matches!(error, RuntimeError::Unavailable(_) | RuntimeError::Gone(_)) {
        // Says nothing about the container; it is tried again when the engine shows itself.
        return;
    }
    let reason =
        if matches!(error, RuntimeError::AddressInUse(_)) { "AddressInUse" } else { reason };
    let container = container.to_owned();
    note(shared, &job.uid, Note::StartFailed { container, reason, message: error.to_string() })
        .await;
}

fn prepare_failed(error: VolumeError) -> Note {
    match error {
        VolumeError::Refused(refusal) => Note::Refused { message: refusal.to_string() },
        VolumeError::Engine { volume, error } => Note::PrepareFailed {
            reason: "FailedMount".to_owned(),
            message: format!("volume {volume}: {error}"),
        },
        VolumeError::Folder(path, error) => Note::PrepareFailed {
            reason: "FailedMount".to_owned(),
            message: format!("{}: {error}", path.display()),
        },
        other @ VolumeError::Failed { .. } => {
            Note::PrepareFailed { reason: "FailedMount".to_owned(), message: other.to_string() }
        }
    }
}

/// Prepares the pod's volumes and words the order. `None`: the pod is no longer ordered.
async fn order<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    container: &str,
    attempt: Attempt,
    sandbox: Option<&str>,
) -> Result<Option<ContainerOrder>, VolumeError> {
    let Some(pod) = &job.pod else { return Ok(None) };
    let hash = job.hashes.get(container).cloned().unwrap_or_default();
    let prepared = shared.places.prepare(&shared.runtime, pod).await?;
    for volume in &prepared.lost {
        note(shared, &job.uid, Note::VolumeLost { volume: volume.clone() }).await;
    }
    if container == PAUSE {
        let image = shared
            .runtime
            .ensure_pause_image()
            .await
            .map_err(|error| VolumeError::Engine { volume: "pause image".to_owned(), error })?;
        return Ok(Some(pause_order(&shared.scope, pod, attempt, hash, image, Vec::new())));
    }
    let Some(spec) = job.spec(container) else { return Ok(None) };
    let mounts = shared.places.mounts(&shared.runtime, pod, spec, attempt, &prepared).await?;
    Ok(Some(member_order(&shared.scope, pod, spec, attempt, hash, sandbox, mounts)))
}

fn pull_apart<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    container: &str,
    image: &str,
    attempt: Attempt,
) {
    let (shared, uid) = (Arc::clone(shared), job.uid.clone());
    let (container, image) = (container.to_owned(), image.to_owned());
    let always = job.spec(&container).map(|spec| spec.pull_policy);
    let logins = job.pod.as_ref().map(|pod| pod.spec.registry_logins.clone()).unwrap_or_default();
    tokio::spawn(async move {
        let pulled = images::fetch(&shared, &image, always, &logins).await;
        let outcome = match pulled {
            Ok(told) => Note::Pulled { container, attempt, told },
            Err(message) => Note::PullFailed { container, message },
        };
        note(&shared, &uid, outcome).await;
    });
}

fn hook_apart<R: Runtime>(
    shared: &Arc<Shared<R>>,
    job: &PodWork,
    container: &str,
    id: &str,
    hook: Hook,
    handler: &Handler,
) {
    let (shared, uid) = (Arc::clone(shared), job.uid.clone());
    let (container, id, handler) = (container.to_owned(), id.to_owned(), handler.clone());
    let address = job.pod.as_ref().and_then(|pod| pod.spec.address);
    tokio::spawn(async move {
        let result = probes::run_hook(&shared.runtime, &id, address, &handler).await;
        note(&shared, &uid, Note::HookEnded { container, id, hook, result }).await;
    });
}

/// Reads what a container that ended left to say: its own file, or its log's tail if it asked
/// for that. Nothing said is nothing noted.
async fn last_words<R: Runtime>(
    shared: &Shared<R>,
    job: &PodWork,
    container: &str,
    id: &str,
    attempt: Attempt,
) {
    let words = match shared.places.last_words(&job.uid, container, attempt) {
        Some(words) => Some(words),
        None if job.spec(container).is_some_and(|spec| spec.termination_message_from_logs) => {
            log_tail(shared, &job.uid, container, id).await
        }
        None => None,
    };
    if let Some(message) = words {
        let container = container.to_owned();
        note(shared, &job.uid, Note::LastWords { container, attempt, message }).await;
    }
}

async fn log_tail<R: Runtime>(
    shared: &Shared<R>,
    uid: &PodUid,
    container: &str,
    id: &str,
) -> Option<String> {
    let request = LogRequest {
        pod: uid.clone(),
        container: container.to_owned(),
        follow: false,
        previous: false,
        timestamps: false,
        tail_lines: Some(LAST_LINES),
        since: None,
        limit_bytes: Some(LAST_LINES_BYTES),
    };
    let mut lines = shared.runtime.logs(id, &request).await.ok()?;
    let mut bytes = Vec::new();
    while let Some(Ok(line)) = lines.next().await {
        bytes.extend_from_slice(&line);
    }
    let words = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!words.is_empty()).then_some(words)
}

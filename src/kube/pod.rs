//! Pods: what runs, where, and how it is.

use kgit_protocol::observation::{ContainerObservation, ContainerState, PodPhase, Termination};
use kgit_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::selector::Labels;
use crate::domain::template::{ContainerTemplate, DEFAULT_TOLERATION_SECONDS, Taint};
use crate::domain::world::{Recorded, World, node_key};
use crate::kube::json::{default, object, put, put_list, without_nulls};
use crate::kube::metadata::{Metadata, uid_of, with_origin};
use crate::kube::seen::{Seen, Shown};
use crate::kube::template;

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let pod = seen.world.pods.get(key)?;
    // A bare pod's.
    let manifest = seen.world.objects.get(key);
    let version = manifest.map_or(0, |applied| applied.version).max(pod.version);
    let annotations = match manifest {
        Some(applied) => with_origin(pod.annotations.clone(), applied),
        None => pod.annotations.clone(),
    };
    let shown = json!({
        "metadata": metadata(seen.world, pod, version, &annotations),
        "spec": spec(seen.world, pod),
        "status": status(seen, pod),
    });
    Some(Shown::new(key, version, shown))
}

fn metadata(world: &World, pod: &Recorded<Pod>, version: u64, annotations: &Labels) -> Value {
    let metadata = Metadata::new(&pod.key, pod.uid.as_str(), version, pod.created)
        .with_labels(&pod.labels)
        .with_annotations(annotations)
        .with(
            "deletionTimestamp",
            pod.deletion.map(|deletion| {
                let grace = std::time::Duration::from_secs(deletion.grace_seconds.into());
                deletion.at.after(grace).to_string()
            }),
        )
        .with("deletionGracePeriodSeconds", pod.deletion.map(|deletion| deletion.grace_seconds));
    match pod.owner.kind {
        // A pod with a manifest of its own belongs to nobody.
        Kind::Pod => metadata.build(),
        _ => metadata
            .with("generateName", Some(format!("{}-", pod.owner.name)))
            .with_owner(&pod.owner, uid_of(world, &pod.owner))
            .build(),
    }
}

/// What a node that is not ready, or not heard of, does to the pods on it.
const NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const NO_EXECUTE: &str = "NoExecute";

fn spec(world: &World, pod: &Pod) -> Value {
    let mut spec = template::pod_spec(world, &world.workload_of(pod), &pod.template);
    let fields = object(&mut spec);
    put(fields, "nodeName", pod.node().map(|node| node.as_str()));
    default(fields, "enableServiceLinks", true);
    let policy = if pod.never_preempts { "Never" } else { "PreemptLowerPriority" };
    fields.insert("preemptionPolicy".to_owned(), json!(policy));
    fields.insert("priority".to_owned(), json!(pod.priority));
    let mut tolerations = fields.remove("tolerations").unwrap_or_else(|| json!([]));
    if let Some(all) = tolerations.as_array_mut() {
        all.extend(default_tolerations(pod));
    }
    fields.insert("tolerations".to_owned(), tolerations);
    spec
}

/// How long the pod stays on a node that is not heard of, unless it says so itself: what
/// Kubernetes adds to every pod, and what goes here without being added.
fn default_tolerations(pod: &Pod) -> impl Iterator<Item = Value> {
    let own = &pod.template.placement.tolerations;
    let missing = move |key: &&str| {
        let taint = Taint { key, value: "", effect: NO_EXECUTE };
        !own.iter().any(|it| it.tolerates(&taint))
    };
    NODE_TAINTS.iter().copied().filter(missing).map(|key| {
        json!({
            "key": key,
            "operator": "Exists",
            "effect": NO_EXECUTE,
            "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
        })
    })
}

fn status(seen: &Seen<'_>, pod: &Pod) -> Value {
    let observed = pod.observed.as_deref();
    let mut status = Map::new();
    status.insert("phase".to_owned(), json!(phase_name(pod.phase())));
    let nominated = pod.promised().map(|node| node.as_str());
    put(&mut status, "nominatedNodeName", nominated);
    status.insert("qosClass".to_owned(), json!(qos(pod)));
    put(&mut status, "reason", observed.and_then(|observed| observed.reason.clone()));
    put(&mut status, "message", observed.and_then(|observed| observed.message.clone()));
    let started = observed.and_then(|observed| observed.started_at);
    let started = started.or(pod.placed.as_ref().map(|placed| placed.at));
    put(&mut status, "startTime", started.map(|at| at.to_string()));
    addresses(seen.world, pod, &mut status);
    status.insert("conditions".to_owned(), Value::Array(conditions(seen, pod)));
    if pod.placed.is_some() && !is_refused(pod) {
        let seen_init = observed.map_or(&[][..], |observed| &observed.init_containers);
        let init = statuses(&pod.template.init_containers, seen_init, "PodInitializing");
        put_list(&mut status, "initContainerStatuses", init);
        let waiting = match pod.template.init_containers.is_empty() {
            true => "ContainerCreating",
            false => "PodInitializing",
        };
        let seen_main = observed.map_or(&[][..], |observed| &observed.containers);
        let main = statuses(&pod.template.containers, seen_main, waiting);
        put_list(&mut status, "containerStatuses", main);
    }
    Value::Object(status)
}

/// The node never made its containers: there is nothing to say of them, as when a kubelet refuses.
fn is_refused(pod: &Pod) -> bool {
    pod.phase() == PodPhase::Failed
        && pod.observed.as_deref().is_some_and(|seen| {
            let all = seen.containers.iter().chain(&seen.init_containers);
            seen.reason.is_some() && all.clone().all(|container| container.container_id.is_none())
        })
}

fn phase_name(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
        // Of a pod that is gone nothing more will be known; its row goes next.
        PodPhase::Unknown | PodPhase::Gone => "Unknown",
    }
}

fn addresses(world: &World, pod: &Pod, status: &mut Map<String, Value>) {
    let Some(placed) = &pod.placed else { return };
    let host = world.nodes.get(&node_key(&placed.node));
    let host = host.and_then(|node| node.observed.facts.addresses.first().cloned());
    let own = match placed.spec.address {
        Some(address) => Some(address.to_string()),
        None => host.clone(),
    };
    if let Some(host) = host {
        status.insert("hostIPs".to_owned(), json!([{"ip": host}]));
        status.insert("hostIP".to_owned(), json!(host));
    }
    let runs = pod.observed.as_ref().is_some_and(|observed| observed.started_at.is_some());
    if let Some(own) = own.filter(|_| runs) {
        status.insert("podIPs".to_owned(), json!([{"ip": own}]));
        status.insert("podIP".to_owned(), json!(own));
    }
}

/// BestEffort without requests or limits, Guaranteed if all have equal ones, else Burstable.
fn qos(pod: &Pod) -> &'static str {
    let all: Vec<_> = pod.template.all_containers().map(|container| &container.resources).collect();
    let none = all.iter().all(|r| {
        r.cpu_request_millis.is_none()
            && r.cpu_limit_millis.is_none()
            && r.memory_request_bytes.is_none()
            && r.memory_limit_bytes.is_none()
    });
    let equal = all.iter().all(|r| {
        let cpu = r.cpu_limit_millis.is_some()
            && r.cpu_request_millis.is_none_or(|request| Some(request) == r.cpu_limit_millis);
        let memory = r.memory_limit_bytes.is_some()
            && r.memory_request_bytes.is_none_or(|request| Some(request) == r.memory_limit_bytes);
        cpu && memory
    });
    match (none, equal) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

struct Condition {
    kind: &'static str,
    holds: bool,
    since: Timestamp,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn new(kind: &'static str, holds: bool, since: Timestamp) -> Self {
        Self { kind, holds, since, reason: "", message: String::new() }
    }

    fn because(mut self, reason: &'static str, message: String) -> Self {
        if !self.holds {
            (self.reason, self.message) = (reason, message);
        }
        self
    }

    fn build(self) -> Value {
        let mut shown = json!({
            "type": self.kind,
            "status": if self.holds { "True" } else { "False" },
            "lastProbeTime": Value::Null,
            "lastTransitionTime": self.since.to_string(),
        });
        let reason = Some(self.reason).filter(|reason| !reason.is_empty());
        put(object(&mut shown), "reason", reason);
        let message = Some(self.message).filter(|message| !message.is_empty());
        put(object(&mut shown), "message", message);
        without_nulls(shown)
    }
}

fn conditions(seen: &Seen<'_>, pod: &Pod) -> Vec<Value> {
    let Some(placed) = &pod.placed else {
        let scheduled = Condition::new("PodScheduled", false, pod.created)
            .because("Unschedulable", unplaced_because(seen, pod));
        return vec![scheduled.build()];
    };
    let observed = pod.observed.as_deref();
    let start = observed.and_then(|observed| observed.started_at).unwrap_or(placed.at);
    let completed = pod.phase() == PodPhase::Succeeded;
    let initialized = initialized(pod);
    let ready = pod.phase() == PodPhase::Running && observed.is_some_and(|o| o.ready);
    let ready_since = observed.and_then(|observed| observed.ready_since).unwrap_or(start);
    let (reason, message) = match completed {
        true => ("PodCompleted", String::new()),
        false => ("ContainersNotReady", not_ready(pod)),
    };
    let waiting = incomplete(pod);
    let has_network = observed.is_some_and(|observed| observed.started_at.is_some());
    let list = [
        Condition::new("PodReadyToStartContainers", has_network && !pod.is_finished(), start),
        Condition::new("Initialized", initialized, start)
            .because("ContainersNotInitialized", waiting),
        Condition::new("Ready", ready, ready_since).because(reason, message.clone()),
        Condition::new("ContainersReady", ready, ready_since).because(reason, message),
        Condition::new("PodScheduled", true, placed.at),
    ];
    list.map(Condition::build).into()
}

/// Why the pod has no node, from what its workload waits for.
fn unplaced_because(seen: &Seen<'_>, pod: &Pod) -> String {
    let waits = seen.waits.get(&seen.world.workload_of(pod)).into_iter().flatten();
    let unplaced = waits.filter_map(|waiting| waiting.unplaced.as_ref());
    let reasons = unplaced.filter(|unplaced| unplaced.pod == pod.key).map(|u| u.because.as_str());
    reasons.collect::<Vec<_>>().join("; ")
}

fn initialized(pod: &Pod) -> bool {
    let observed = pod.observed.as_deref();
    let done = |container: &ContainerObservation| match &container.state {
        ContainerState::Terminated(end) => end.exit_code == 0,
        ContainerState::Running { .. } => container.started,
        ContainerState::Waiting { .. } | ContainerState::Unknown => false,
    };
    let of = &pod.template.init_containers;
    of.is_empty()
        || matches!(pod.phase(), PodPhase::Running | PodPhase::Succeeded)
        || observed.is_some_and(|observed| {
            observed.init_containers.len() == of.len() && observed.init_containers.iter().all(done)
        })
}

fn not_ready(pod: &Pod) -> String {
    let observed = pod.observed.as_deref().map_or(&[][..], |observed| &observed.containers);
    let is_ready = |name: &str| observed.iter().any(|seen| seen.name == name && seen.ready);
    let names = pod.template.containers.iter().map(|container| container.name.as_str());
    let unready: Vec<_> = names.filter(|name| !is_ready(name)).collect();
    format!("containers with unready status: [{}]", unready.join(" "))
}

fn incomplete(pod: &Pod) -> String {
    let observed = pod.observed.as_deref().map_or(&[][..], |observed| &observed.init_containers);
    let is_done = |name: &str| {
        observed.iter().any(|seen| {
            seen.name == name
                && matches!(&seen.state, ContainerState::Terminated(end) if end.exit_code == 0)
        })
    };
    let names = pod.template.init_containers.iter().map(|container| container.name.as_str());
    let waiting: Vec<_> = names.filter(|name| !is_done(name)).collect();
    format!("containers with incomplete status: [{}]", waiting.join(" "))
}

/// One status for each container of the template, whether it was seen yet or not.
fn statuses(
    templates: &[ContainerTemplate],
    observed: &[ContainerObservation],
    waiting: &str,
) -> Vec<Value> {
    let show = |template: &ContainerTemplate| match observed
        .iter()
        .find(|seen| seen.name == template.name)
    {
        Some(seen) => container_status(template, seen),
        None => json!({
            "name": template.name,
            "image": template.image,
            "imageID": "",
            "ready": false,
            "started": false,
            "restartCount": 0,
            "lastState": {},
            "state": {"waiting": {"reason": waiting}},
        }),
    };
    templates.iter().map(show).collect()
}

fn container_status(template: &ContainerTemplate, seen: &ContainerObservation) -> Value {
    let id = seen.container_id.as_ref().map(|id| format!("docker://{id}"));
    let last = seen.last.as_ref().map_or(json!({}), |end| json!({"terminated": ended(end)}));
    let state = match &seen.state {
        ContainerState::Waiting { reason, message } => {
            without_nulls(json!({"waiting": {"reason": reason, "message": message}}))
        }
        ContainerState::Running { started_at } => {
            json!({"running": {"startedAt": started_at.to_string()}})
        }
        ContainerState::Terminated(end) => json!({"terminated": ended(end)}),
        ContainerState::Unknown => json!({"waiting": {"reason": "Unknown"}}),
    };
    let mut status = json!({
        "name": template.name,
        "image": template.image,
        "imageID": seen.image_id.as_deref().unwrap_or_default(),
        "ready": seen.ready,
        "started": seen.started,
        "restartCount": seen.restarts,
        "lastState": last,
        "state": state,
    });
    put(object(&mut status), "containerID", id);
    status
}

fn ended(end: &Termination) -> Value {
    let mut shown = Map::new();
    shown.insert("exitCode".to_owned(), json!(end.exit_code));
    shown.insert("reason".to_owned(), json!(end.reason));
    put(&mut shown, "message", end.message.clone());
    // What never started would show as started in the year 1 by clients that know no absence.
    let started_at = end.started_at.or(end.finished_at);
    put(&mut shown, "startedAt", started_at.map(|at| at.to_string()));
    put(&mut shown, "finishedAt", end.finished_at.map(|at| at.to_string()));
    let id = end.container_id.as_ref().map(|id| format!("docker://{id}"));
    put(&mut shown, "containerID", id);
    Value::Object(shown)
}

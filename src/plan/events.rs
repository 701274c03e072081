//! Kubernetes' events for what the plan does, with the reasons and texts that people know.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::time::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Plan, Reason, Step, Verb};
use crate::domain::record::{Event, EventLog};
use crate::domain::world::{Effect, Record, World};
use crate::plan::evict::HAS_TAINT;

/// The event logs that a plan's steps add to. `world` is the one after the plan.
pub fn of_plan(world: &World, plan: &Plan, now: Timestamp) -> Vec<Effect> {
    let mut logs: BTreeMap<ObjectKey, EventLog> = BTreeMap::new();
    let sizes = first_sizes(plan);
    for step in &plan.steps {
        for (object, event) in events(world, step, &sizes, now) {
            let log = logs.entry(object.clone()).or_insert_with(|| {
                world.events.get(&object).map(|row| (*row.value).clone()).unwrap_or_default()
            });
            *log = log.with(event);
        }
    }
    logs.into_iter().map(|(key, log)| Effect::Put(key, Record::Events(Arc::new(log)))).collect()
}

/// How large each set is by the first effect that concerns it.
fn first_sizes(plan: &Plan) -> BTreeMap<&ObjectKey, u32> {
    let sets = plan.effects.iter().rev().filter_map(|effect| match effect {
        Effect::Put(key, Record::ReplicaSet(set)) => Some((key, set.replicas)),
        _ => None,
    });
    sets.collect()
}

fn events(
    world: &World,
    step: &Step,
    sizes: &BTreeMap<&ObjectKey, u32>,
    now: Timestamp,
) -> Vec<(ObjectKey, Event)> {
    let object = &step.said.object;
    let event = |reason: &str, message: String, component: &str| Event {
        warning: false,
        reason: reason.to_owned(),
        message,
        field_path: None,
        component: component.to_owned(),
        first: now,
        last: now,
        count: 1,
    };
    match (step.said.verb, object.kind) {
        (Verb::Create | Verb::Place, Kind::Pod) => pod_made(world, step, &event),
        (Verb::Stop, Kind::Pod) => pod_stopped(world, step, &event),
        (Verb::Create, Kind::PersistentVolumeClaim) => claim_made(world, object, &event),
        (Verb::Scale, Kind::ReplicaSet) => set_scaled(world, step, &event),
        (Verb::Scale, Kind::HorizontalPodAutoscaler) => target_scaled(step, &event),
        (Verb::Create, Kind::ReplicaSet) => {
            let size = sizes.get(object).copied().unwrap_or(0);
            set_made(world, object, size, &event)
        }
        (Verb::Finish, Kind::Job) => job_ended(world, step, &event),
        (Verb::Create | Verb::Delete, Kind::Job) => job_made(world, step, &event),
        _ => Vec::new(),
    }
}

fn pod_stopped(
    world: &World,
    step: &Step,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let object = &step.said.object;
    let mut events = Vec::new();
    if let Some(owner) = owner_of(world, object) {
        let message = pod_words(&owner, object, "Deleted pod", "delete");
        let component = controller(owner.kind);
        events.push((owner, event("SuccessfulDelete", message, component)));
    }
    match step.reasons.first() {
        Some(Reason::Preempted { by, .. }) => {
            let by = world.pods.get(by).map_or(by.to_string(), |pod| pod.uid.to_string());
            let node = step.said.node.as_ref().map(|node| format!(" on node {node}"));
            let message = format!("Preempted by pod {by}{}", node.unwrap_or_default());
            events.push((object.clone(), event("Preempted", message, "default-scheduler")));
        }
        Some(Reason::Node { what, .. }) if what.starts_with(HAS_TAINT) => {
            let message = format!("Marking for deletion Pod {}/{}", object.namespace, object.name);
            let component = "taint-eviction-controller";
            events.push((object.clone(), event("TaintManagerEviction", message, component)));
        }
        _ => {}
    }
    events
}

fn pod_made(
    world: &World,
    step: &Step,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let object = &step.said.object;
    let mut events = Vec::new();
    if let (Verb::Create, Some(owner)) = (step.said.verb, owner_of(world, object)) {
        let component = controller(owner.kind);
        let message = pod_words(&owner, object, "Created pod", "create");
        events.push((owner, event("SuccessfulCreate", message, component)));
    }
    if let Some(node) = &step.said.node {
        let message =
            format!("Successfully assigned {}/{} to {node}", object.namespace, object.name);
        events.push((object.clone(), event("Scheduled", message, "default-scheduler")));
    }
    events
}

/// A StatefulSet has words of its own. Source: `StatefulPodControl.recordPodEvent`.
fn pod_words(owner: &ObjectKey, pod: &ObjectKey, common: &str, verb: &str) -> String {
    match owner.kind {
        Kind::StatefulSet => {
            format!("{verb} Pod {} in StatefulSet {} successful", pod.name, owner.name)
        }
        _ => format!("{common}: {}", pod.name),
    }
}

/// A claim that a StatefulSet made. Source: `StatefulPodControl.recordClaimEvent`.
fn claim_made(
    world: &World,
    claim: &ObjectKey,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let owner = world.objects.get(claim).and_then(|applied| applied.owner.clone());
    let Some(owner) = owner.filter(|owner| owner.kind == Kind::StatefulSet) else {
        return Vec::new();
    };
    let ordinal = claim.name.rsplit_once('-').map_or("", |(_, ordinal)| ordinal);
    let message = format!(
        "create Claim {} Pod {}-{ordinal} in StatefulSet {} success",
        claim.name, owner.name, owner.name
    );
    vec![(owner, event("SuccessfulCreate", message, controller(Kind::StatefulSet)))]
}

/// A new revision starts with some pods already.
fn set_made(
    world: &World,
    object: &ObjectKey,
    size: u32,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let Some(set) = world.replica_sets.get(object) else { return Vec::new() };
    if set.owner == *object || size == 0 {
        return Vec::new();
    }
    let message = format!("Scaled up replica set {} from 0 to {size}", object.name);
    vec![(set.owner.clone(), event("ScalingReplicaSet", message, "deployment-controller"))]
}

fn set_scaled(
    world: &World,
    step: &Step,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let object = &step.said.object;
    let Some(set) = world.replica_sets.get(object) else { return Vec::new() };
    let Some((from, to)) = step.said.detail.split_once(" → ") else { return Vec::new() };
    let (from, to): (u32, u32) = (from.parse().unwrap_or(0), to.parse().unwrap_or(0));
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {} from {from} to {to}", object.name);
    vec![(set.owner.clone(), event("ScalingReplicaSet", message, "deployment-controller"))]
}

/// Upstream's event, with the figures in its reason.
fn target_scaled(
    step: &Step,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let Some((_, size)) = step.said.detail.split_once(" → ") else { return Vec::new() };
    let why = step.reasons.iter().find_map(|reason| match reason {
        Reason::Autoscaled { what, .. } => Some(what.as_str()),
        _ => None,
    });
    let message = format!("New size: {size}; reason: {}", why.unwrap_or_default());
    let told = event("SuccessfulRescale", message, "horizontal-pod-autoscaler");
    vec![(step.said.object.clone(), told)]
}

fn job_ended(
    world: &World,
    step: &Step,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let object = &step.said.object;
    let complete = step.said.detail == "complete";
    let (reason, message) = match complete {
        true => ("Completed", "Job completed".to_owned()),
        false => ("Failed", step.said.detail.clone()),
    };
    let ended = Event { warning: !complete, ..event(reason, message, "job-controller") };
    let mut events = vec![(object.clone(), ended)];
    if let Some(cron_job) = made_for(world, object) {
        let condition = if complete { "Complete" } else { "Failed" };
        let message = format!("Saw completed job: {}, condition: {condition}", object.name);
        events.push((cron_job, event("SawCompletedJob", message, "cronjob-controller")));
    }
    events
}

/// A CronJob made a Job, or cleared one away.
fn job_made(
    world: &World,
    step: &Step,
    event: &dyn Fn(&str, String, &str) -> Event,
) -> Vec<(ObjectKey, Event)> {
    let object = &step.said.object;
    let Some(cron_job) = made_for(world, object) else { return Vec::new() };
    let (reason, done) = match step.said.verb {
        Verb::Create => ("SuccessfulCreate", "Created"),
        _ => ("SuccessfulDelete", "Deleted"),
    };
    let message = format!("{done} job {}", object.name);
    vec![(cron_job, event(reason, message, "cronjob-controller"))]
}

fn made_for(world: &World, object: &ObjectKey) -> Option<ObjectKey> {
    world.objects.get(object)?.owner.clone()
}

fn owner_of(world: &World, pod: &ObjectKey) -> Option<ObjectKey> {
    let owner = world.pods.get(pod)?.owner.clone();
    (owner.kind != Kind::Pod).then_some(owner)
}

fn controller(kind: Kind) -> &'static str {
    match kind {
        Kind::Job => "job-controller",
        Kind::StatefulSet => "statefulset-controller",
        Kind::DaemonSet => "daemonset-controller",
        Kind::ReplicationController => "replication-controller",
        _ => "replicaset-controller",
    }
}

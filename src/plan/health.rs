//! How an object is, by the health table of kubernetes-rules ("Health"; Argo CD's rules).

use kgit_protocol::observation::{ContainerObservation, ContainerState, PodPhase};
use kgit_protocol::pod::RestartPolicy;
use serde::{Deserialize, Serialize};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::{ClaimPhase, Pod};
use crate::domain::resource::{Resource, Spec};
use crate::domain::workload::{DaemonSetSpec, DaemonUpdate, StatefulSetSpec, StatefulUpdate};
use crate::domain::world::World;
use crate::plan::deployment::is_complete;

/// The worst wins: the order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    Healthy,
    Suspended,
    Progressing,
    Missing,
    Degraded,
    Unknown,
}

pub fn health(world: &World, key: &ObjectKey) -> Health {
    let Some(applied) = world.objects.get(key) else { return Health::Missing };
    match &applied.resource.spec {
        Spec::Deployment(_) => deployment(world, key, &applied.resource, applied.generation),
        Spec::ReplicaSet(spec) => match world.replica_sets.get(key) {
            Some(set) if set.status.available >= world.replicas_of(key, spec.replicas) => {
                Health::Healthy
            }
            _ => Health::Progressing,
        },
        Spec::Job(spec) => match world.jobs.get(key).and_then(|job| job.finished.clone()) {
            Some(finish) if finish.succeeded => Health::Healthy,
            Some(_) => Health::Degraded,
            None if spec.suspend => Health::Suspended,
            None => Health::Progressing,
        },
        Spec::Pod(_) => world.pods.get(key).map_or(Health::Progressing, |pod| pod_health(pod)),
        Spec::PersistentVolumeClaim(_) => match world.claims.get(key).map(|claim| claim.phase) {
            Some(ClaimPhase::Bound) => Health::Healthy,
            Some(ClaimPhase::Lost) => Health::Degraded,
            Some(ClaimPhase::Pending) | None => Health::Progressing,
        },
        Spec::Namespace
        | Spec::StorageClass(_)
        | Spec::PersistentVolume(_)
        | Spec::ConfigMap(_)
        | Spec::Secret(_)
        | Spec::DisruptionBudget(_)
        | Spec::PriorityClass(_) => Health::Healthy,
        Spec::Autoscaler(_) => match world.autoscalers.get(key) {
            Some(state) if state.trouble.is_none() => Health::Healthy,
            _ => Health::Progressing,
        },
        Spec::StatefulSet(spec) => stateful_set(world, key, spec, applied.generation),
        Spec::DaemonSet(spec) => daemon_set(world, key, spec, applied.generation),
        Spec::CronJob(spec) if spec.suspend => Health::Suspended,
        Spec::CronJob(_) => Health::Healthy,
        Spec::Service(spec) if spec.kind == "LoadBalancer" => {
            let reached = world.services.get(key).is_some_and(|state| !state.ingress.is_empty());
            if reached { Health::Healthy } else { Health::Progressing }
        }
        Spec::Service(_) => Health::Healthy,
    }
}

fn deployment(world: &World, key: &ObjectKey, resource: &Resource, generation: u64) -> Health {
    let (Spec::Deployment(spec), Some(state)) = (&resource.spec, world.deployments.get(key)) else {
        return Health::Progressing;
    };
    if spec.paused {
        return Health::Suspended;
    }
    if state.observed_generation < generation {
        return Health::Progressing;
    }
    if state.deadline_exceeded {
        return Health::Degraded;
    }
    match is_complete(world.replicas_of(key, spec.replicas), state.status) {
        true => Health::Healthy,
        false => Health::Progressing,
    }
}

fn stateful_set(world: &World, key: &ObjectKey, spec: &StatefulSetSpec, generation: u64) -> Health {
    let Some(state) = world.stateful_sets.get(key) else { return Health::Progressing };
    let replicas = world.replicas_of(key, spec.replicas);
    if state.observed_generation < generation || state.status.ready < replicas {
        return Health::Progressing;
    }
    match spec.update {
        StatefulUpdate::RollingUpdate { partition, .. }
            if state.status.updated < replicas.saturating_sub(partition) =>
        {
            Health::Progressing
        }
        StatefulUpdate::RollingUpdate { .. } | StatefulUpdate::OnDelete => Health::Healthy,
    }
}

fn daemon_set(world: &World, key: &ObjectKey, spec: &DaemonSetSpec, generation: u64) -> Health {
    let Some(state) = world.daemon_sets.get(key) else { return Health::Progressing };
    if state.observed_generation < generation {
        return Health::Progressing;
    }
    match spec.update {
        DaemonUpdate::OnDelete => Health::Healthy,
        DaemonUpdate::RollingUpdate { .. }
            if state.updated.min(state.available) < state.desired =>
        {
            Health::Progressing
        }
        DaemonUpdate::RollingUpdate { .. } => Health::Healthy,
    }
}

pub fn pod_health(pod: &Pod) -> Health {
    if pod.deletion.is_some() {
        return Health::Progressing;
    }
    let always = pod.template.restart_policy == RestartPolicy::Always;
    match pod.phase() {
        PodPhase::Succeeded => Health::Healthy,
        PodPhase::Failed => Health::Degraded,
        PodPhase::Unknown => Health::Unknown,
        PodPhase::Pending | PodPhase::Gone if always && is_failing(pod) => Health::Degraded,
        PodPhase::Pending | PodPhase::Gone => Health::Progressing,
        PodPhase::Running if !always => Health::Progressing,
        PodPhase::Running if pod.is_ready() => Health::Healthy,
        PodPhase::Running if is_failing(pod) => Health::Degraded,
        PodPhase::Running => Health::Progressing,
    }
}

/// A container waits on an error or in back-off, or ended before and is not ready.
fn is_failing(pod: &Pod) -> bool {
    containers(pod).any(|container| match &container.state {
        ContainerState::Waiting { .. } => trouble(&container.state).is_some(),
        ContainerState::Terminated(end) => end.exit_code != 0,
        ContainerState::Running { .. } | ContainerState::Unknown => {
            !container.ready && container.last.is_some()
        }
    })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerObservation> {
    pod.observed.iter().flat_map(|observed| observed.all_containers())
}

/// The error or back-off that a container waits on.
fn trouble(state: &ContainerState) -> Option<&str> {
    let ContainerState::Waiting { reason, .. } = state else { return None };
    let is_trouble = reason.starts_with("Err")
        || reason.ends_with("BackOff")
        || reason.ends_with("Error")
        || reason == "InvalidImageName";
    is_trouble.then_some(reason)
}

/// The few words that explain the health of an object: `2/3 ready`, `Bound`.
pub fn detail(world: &World, key: &ObjectKey) -> String {
    let Some(applied) = world.objects.get(key) else { return "not there yet".to_owned() };
    match &applied.resource.spec {
        Spec::Deployment(spec) => {
            let ready = world.deployments.get(key).map_or(0, |state| state.status.ready);
            format!("{ready}/{} ready", world.replicas_of(key, spec.replicas))
        }
        Spec::ReplicaSet(spec) => {
            let ready = world.replica_sets.get(key).map_or(0, |set| set.status.ready);
            format!("{ready}/{} ready", world.replicas_of(key, spec.replicas))
        }
        Spec::StatefulSet(spec) => {
            let ready = world.stateful_sets.get(key).map_or(0, |state| state.status.ready);
            format!("{ready}/{} ready", world.replicas_of(key, spec.replicas))
        }
        Spec::DaemonSet(_) => {
            let state = world.daemon_sets.get(key);
            let (ready, desired) = state.map_or((0, 0), |state| (state.ready, state.desired));
            format!("{ready}/{desired} ready")
        }
        Spec::Job(spec) => match world.jobs.get(key).and_then(|job| job.finished.as_ref()) {
            Some(finish) if finish.succeeded => "complete".to_owned(),
            Some(finish) => format!("failed: {}", finish.reason),
            None if spec.suspend => "suspended".to_owned(),
            None => "running".to_owned(),
        },
        Spec::Pod(_) => world.pods.get(key).map_or("not there yet".to_owned(), |pod| state(pod)),
        Spec::PersistentVolumeClaim(_) => {
            let phase = world.claims.get(key).map_or(ClaimPhase::Pending, |claim| claim.phase);
            format!("{phase:?}")
        }
        Spec::Namespace
        | Spec::StorageClass(_)
        | Spec::PersistentVolume(_)
        | Spec::ConfigMap(_)
        | Spec::Secret(_)
        | Spec::Autoscaler(_)
        | Spec::DisruptionBudget(_)
        | Spec::PriorityClass(_)
        | Spec::Service(_) => String::new(),
        Spec::CronJob(spec) if spec.suspend => "suspended".to_owned(),
        Spec::CronJob(_) => cron_job(world, key),
    }
}

/// Why the pods of an object are not ready, by the first that says so: `CrashLoopBackOff`.
pub fn trouble_of(world: &World, key: &ObjectKey) -> Option<String> {
    let owners = world.pod_owners(key).into_iter();
    let mut pods = owners.flat_map(|owner| world.pods_of(&owner)).filter(|pod| pod.is_active());
    pods.find_map(|pod| trouble_in(pod).map(str::to_owned))
}

fn trouble_in(pod: &Pod) -> Option<&str> {
    containers(pod).find_map(|container| trouble(&container.state))
}

fn cron_job(world: &World, key: &ObjectKey) -> String {
    let Some(state) = world.cron_jobs.get(key) else { return String::new() };
    let last = match state.last_schedule {
        Some(slot) => format!("last {slot}"),
        None => "not run yet".to_owned(),
    };
    match state.active.len() {
        0 => last,
        active => format!("{last}, {active} running"),
    }
}

fn state(pod: &Pod) -> String {
    if pod.deletion.is_some() {
        return "terminating".to_owned();
    }
    match (pod.phase(), trouble_in(pod)) {
        (PodPhase::Pending | PodPhase::Running, Some(reason)) => reason.to_owned(),
        (PodPhase::Running, None) if pod.is_ready() => "ready".to_owned(),
        (phase, _) => format!("{phase:?}").to_lowercase(),
    }
}

/// The objects of a kind that have a health worth counting.
pub fn counts_for_health(kind: Kind) -> bool {
    kind.is_workload() || kind == Kind::PersistentVolumeClaim
}

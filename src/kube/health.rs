//! How an object is, in one word. The rules are in the guide's "Health"; they read the object as
//! it is shown, so that everybody who sees it can check them.

use serde_json::Value;

use crate::domain::key::Kind;
use crate::kube::dto::Health;
use crate::kube::json::{flag, items, number, text};

/// The health of a shown object and the few words that explain it. `None`: the kind has none.
pub fn of(kind: Kind, object: &Value) -> Option<(Health, String)> {
    match kind {
        Kind::Deployment => Some(deployment(object)),
        Kind::ReplicaSet => Some(replica_set(object)),
        Kind::Job => Some(job(object)),
        Kind::Pod => Some(pod(object)),
        Kind::PersistentVolumeClaim => Some(claim(object)),
        Kind::Namespace
        | Kind::StorageClass
        | Kind::PersistentVolume
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::Service
        | Kind::Node => None,
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|c| text(c, "/type") == kind)
}

fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

fn deployment(object: &Value) -> (Health, String) {
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let wanted = number(object, "/spec/replicas");
    let detail = format!("{}/{wanted} ready", count("readyReplicas"));
    let stale = count("observedGeneration") < number(object, "/metadata/generation");
    let reason = condition(object, "Progressing").map_or("", |c| text(c, "/reason"));
    let updated = count("updatedReplicas");
    let moving =
        updated < wanted || count("replicas") > updated || count("availableReplicas") < updated;
    let health = if flag(object, "/spec/paused") {
        Health::Suspended
    } else if stale {
        Health::Progressing
    } else if reason == "ProgressDeadlineExceeded" {
        Health::Degraded
    } else if moving {
        Health::Progressing
    } else {
        Health::Healthy
    };
    (health, detail)
}

fn replica_set(object: &Value) -> (Health, String) {
    let (ready, wanted) =
        (number(object, "/status/readyReplicas"), number(object, "/spec/replicas"));
    let health = if ready < wanted { Health::Progressing } else { Health::Healthy };
    (health, format!("{ready}/{wanted} ready"))
}

fn job(object: &Value) -> (Health, String) {
    if holds(object, "Failed") {
        let reason = condition(object, "Failed").map_or("", |c| text(c, "/reason"));
        return (Health::Degraded, format!("failed: {reason}"));
    }
    if holds(object, "Complete") {
        return (Health::Healthy, "complete".to_owned());
    }
    match flag(object, "/spec/suspend") {
        true => (Health::Suspended, "suspended".to_owned()),
        false => (Health::Progressing, "running".to_owned()),
    }
}

fn claim(object: &Value) -> (Health, String) {
    let phase = text(object, "/status/phase");
    let health = match phase {
        "Bound" => Health::Healthy,
        "Lost" => Health::Degraded,
        _ => Health::Progressing,
    };
    (health, phase.to_owned())
}

fn pod(object: &Value) -> (Health, String) {
    if !text(object, "/metadata/deletionTimestamp").is_empty() {
        return (Health::Progressing, "terminating".to_owned());
    }
    let always = text(object, "/spec/restartPolicy") == "Always";
    let init = items(object, "/status/initContainerStatuses");
    let statuses = || init.iter().chain(items(object, "/status/containerStatuses"));
    let trouble = statuses().find_map(|status| {
        let reason = text(status, "/state/waiting/reason");
        let is_trouble = reason.ends_with("BackOff")
            || reason.starts_with("Err")
            || reason.ends_with("Error")
            || reason == "InvalidImageName";
        is_trouble.then(|| reason.to_owned())
    });
    let ended_before = statuses().any(|s| s.pointer("/lastState/terminated").is_some());
    match (text(object, "/status/phase"), trouble) {
        ("Failed", _) => (Health::Degraded, "failed".to_owned()),
        ("Succeeded", _) => (Health::Healthy, "succeeded".to_owned()),
        ("Unknown", _) => (Health::Unknown, "unknown".to_owned()),
        (_, Some(reason)) if always => (Health::Degraded, reason),
        ("Running", _) if holds(object, "Ready") && always => (Health::Healthy, "ready".to_owned()),
        ("Running", _) if always && ended_before => (Health::Degraded, "restarted".to_owned()),
        (phase, _) => (Health::Progressing, phase.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn health(kind: Kind, object: Value) -> Health {
        of(kind, &object).unwrap().0
    }

    #[test]
    fn a_deployment_is_healthy_when_everything_is_updated_and_available() {
        let status = json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        let done = json!({"spec": {"replicas": 2}, "status": status});
        assert_eq!(health(Kind::Deployment, done.clone()), Health::Healthy);
        let mut paused = done.clone();
        paused["spec"]["paused"] = json!(true);
        assert_eq!(health(Kind::Deployment, paused), Health::Suspended);
        let mut late = done.clone();
        late["status"]["updatedReplicas"] = json!(1);
        assert_eq!(health(Kind::Deployment, late.clone()), Health::Progressing);
        late["status"]["conditions"] = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
        assert_eq!(health(Kind::Deployment, late), Health::Degraded);
    }

    #[test]
    fn a_pod_that_backs_off_is_degraded_and_one_on_its_way_out_is_progressing() {
        let waiting = json!([{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
        let mut pod = json!({
            "spec": {"restartPolicy": "Always"},
            "status": {"phase": "Pending", "containerStatuses": waiting},
        });
        assert_eq!(health(Kind::Pod, pod.clone()), Health::Degraded);
        pod["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(health(Kind::Pod, pod), Health::Progressing);
    }
}

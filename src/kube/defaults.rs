//! The defaults that the Kubernetes API fills in. Source: `pkg/apis/*/v1/defaults.go`.
//!
//! For showing: decisions are made from the lowered types, which have defaults of their own.

use serde_json::{Map, Value, json};

use crate::kube::json::{child, default, object};

type Fields = Map<String, Value>;

/// Calls `change` with each object of a list in a field.
fn each(parent: &mut Fields, field: &str, mut change: impl FnMut(&mut Fields)) {
    if let Some(Value::Array(items)) = parent.get_mut(field) {
        items.iter_mut().map(object).for_each(&mut change);
    }
}

/// Calls `change` with the object in a field, if it is there.
fn within(parent: &mut Fields, field: &str, change: impl FnOnce(&mut Fields)) {
    if let Some(value @ Value::Object(_)) = parent.get_mut(field) {
        change(object(value));
    }
}

/// `spec` of a pod or of a pod template.
pub fn pod_spec(spec: &mut Fields) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    each(spec, "initContainers", container);
    each(spec, "containers", container);
    each(spec, "volumes", volume);
}

fn container(container: &mut Fields) {
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    default(container, "imagePullPolicy", policy);
    default(container, "resources", json!({}));
    within(container, "resources", requests_from_limits);
    each(container, "ports", |port| default(port, "protocol", "TCP"));
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, field, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for field in ["postStart", "preStop"] {
            within(lifecycle, field, handler);
        }
    });
    each(container, "env", |env| within(env, "valueFrom", field_ref));
}

/// Always if the tag is `latest` or absent.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or_default();
    match (digest, last.split_once(':')) {
        (Some(_), _) => "IfNotPresent",
        (None, None | Some((_, "latest"))) => "Always",
        (None, Some(_)) => "IfNotPresent",
    }
}

fn requests_from_limits(resources: &mut Fields) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = child(resources, "requests");
    for (resource, limit) in limits {
        default(requests, &resource, limit);
    }
}

fn probe(probe: &mut Fields) {
    default(probe, "timeoutSeconds", 1);
    default(probe, "periodSeconds", 10);
    default(probe, "successThreshold", 1);
    default(probe, "failureThreshold", 3);
    handler(probe);
}

fn handler(handler: &mut Fields) {
    within(handler, "httpGet", |get| {
        default(get, "path", "/");
        default(get, "scheme", "HTTP");
    });
}

fn field_ref(holder: &mut Fields) {
    within(holder, "fieldRef", |field| default(field, "apiVersion", "v1"));
    within(holder, "resourceFieldRef", |field| default(field, "divisor", "0"));
}

fn volume(volume: &mut Fields) {
    within(volume, "hostPath", |path| default(path, "type", ""));
    for field in ["configMap", "secret", "projected", "downwardAPI"] {
        within(volume, field, |source| default(source, "defaultMode", 0o644));
    }
    within(volume, "downwardAPI", |source| each(source, "items", field_ref));
    within(volume, "projected", |source| {
        each(source, "sources", |part| {
            within(part, "downwardAPI", |source| each(source, "items", field_ref));
        });
    });
    // A volume that names no source is an empty directory.
    if volume.len() == 1 && volume.contains_key("name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

fn template(spec: &mut Fields) {
    within(spec, "template", |template| pod_spec(child(template, "spec")));
}

pub fn replica_set_spec(spec: &mut Fields) {
    default(spec, "replicas", 1);
    template(spec);
}

pub fn deployment_spec(spec: &mut Fields) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = child(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        let rolling = child(strategy, "rollingUpdate");
        default(rolling, "maxSurge", "25%");
        default(rolling, "maxUnavailable", "25%");
    }
    template(spec);
}

pub fn stateful_set_spec(spec: &mut Fields) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    let strategy = child(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        default(child(strategy, "rollingUpdate"), "partition", 0);
    }
    each(spec, "volumeClaimTemplates", |claim| {
        default(claim, "apiVersion", "v1");
        default(claim, "kind", "PersistentVolumeClaim");
        claim_spec(child(claim, "spec"));
    });
    template(spec);
}

pub fn daemon_set_spec(spec: &mut Fields) {
    default(spec, "revisionHistoryLimit", 10);
    let strategy = child(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        let rolling = child(strategy, "rollingUpdate");
        default(rolling, "maxSurge", 0);
        default(rolling, "maxUnavailable", 1);
    }
    template(spec);
}

pub fn job_spec(spec: &mut Fields) {
    if !spec.contains_key("parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let per_index = spec.contains_key("backoffLimitPerIndex");
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let judged = spec.contains_key("podFailurePolicy");
    default(spec, "podReplacementPolicy", if judged { "Failed" } else { "TerminatingOrFailed" });
    template(spec);
}

pub fn cron_job_spec(spec: &mut Fields) {
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    within(spec, "jobTemplate", |template| within(template, "spec", job_spec));
}

pub fn service_spec(spec: &mut Fields) {
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    each(spec, "ports", |port| {
        default(port, "protocol", "TCP");
        let own = port.get("port").cloned().unwrap_or_default();
        default(port, "targetPort", own);
    });
    if spec.get("type").and_then(Value::as_str) != Some("ExternalName") {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    if let Some("NodePort" | "LoadBalancer") = spec.get("type").and_then(Value::as_str) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
}

pub fn volume_spec(spec: &mut Fields) {
    default(spec, "persistentVolumeReclaimPolicy", "Retain");
    default(spec, "volumeMode", "Filesystem");
    within(spec, "hostPath", |path| default(path, "type", ""));
}

pub fn claim_spec(spec: &mut Fields) {
    default(spec, "volumeMode", "Filesystem");
}

pub fn storage_class(class: &mut Fields) {
    default(class, "reclaimPolicy", "Delete");
    default(class, "volumeBindingMode", "Immediate");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untagged_or_latest_image_is_always_pulled() {
        for image in ["nginx", "nginx:latest", "host:5000/nginx", "host:5000/nginx:latest"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["nginx:1.27", "host:5000/nginx:1", "nginx@sha256:0", "nginx:latest@sha256:0"]
        {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }

    #[test]
    fn a_recreate_strategy_gets_no_rolling_update() {
        let mut spec = json!({"strategy": {"type": "Recreate"}});
        deployment_spec(object(&mut spec));
        assert_eq!(spec["strategy"], json!({"type": "Recreate"}));
    }
}

//! Workloads that run pods to their end, and what they run with, made by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;
use serde_json::json;

use crate::domain::autoscaling::{
    AutoscalerSpec, AutoscalerState, DisruptionBound, DisruptionBudgetSpec, MeasuredResource,
    MetricTarget, MetricValue, PolicySelect, PriorityClassSpec, ResourceMetric, ScalingRules,
};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::{CronJobState, ReplicaSet, ReplicaStatus};
use crate::domain::resource::{IntOrPercent, JobSpec, SecretSpec, Spec};
use crate::domain::selector::{Labels, Selector};
use crate::domain::template::ConfigContent;
use crate::domain::workload::{ConcurrencyPolicy, CronJobSpec};
use crate::domain::world::Record;
use crate::kube::fixture::{Made, NOW, THEN, labels, template, template_json};

pub(super) fn cron_job() -> Vec<Made> {
    let key = ObjectKey::new(Kind::CronJob, "default", "tick");
    let job = ObjectKey::new(Kind::Job, "default", "migrate");
    let state = CronJobState {
        last_schedule: Some(Timestamp(NOW.0 - 90_000)),
        last_success: None,
        active: vec![job],
    };
    let spec = CronJobSpec {
        schedule: "*/5 * * * *".to_owned(),
        zone: Some("Europe/Berlin".to_owned()),
        starting_deadline_seconds: None,
        concurrency: ConcurrencyPolicy::Allow,
        suspend: false,
        successful_history_limit: 3,
        failed_history_limit: 1,
        job: JobSpec::default(),
        job_labels: Labels::new(),
        job_annotations: Labels::new(),
    };
    let template = json!({"spec": {"template": template_json("tick", "busybox:1")}});
    let manifest = json!({"metadata": {"name": "tick"}, "spec": {
        "schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", "jobTemplate": template,
    }});
    vec![
        Made::Object(key.clone(), Box::new(Spec::CronJob(spec)), manifest),
        Made::Row(key, Record::CronJob(Arc::new(state))),
    ]
}

pub(super) fn job() -> Made {
    let key = ObjectKey::new(Kind::Job, "default", "migrate");
    Made::Object(
        key,
        Box::new(Spec::Job(JobSpec {
            completions: Some(1),
            parallelism: 1,
            backoff_limit: 6,
            template: template("migrate", "busybox:1"),
            ..JobSpec::default()
        })),
        json!({"metadata": {"name": "migrate"}, "spec": {
            "template": template_json("migrate", "busybox:1"),
        }}),
    )
}

pub(super) fn autoscaler() -> Vec<Made> {
    let key = ObjectKey::new(Kind::HorizontalPodAutoscaler, "default", "web");
    let rules = |stabilization_seconds| ScalingRules {
        stabilization_seconds,
        select: PolicySelect::Max,
        policies: Vec::new(),
    };
    let metric = |resource, target| ResourceMetric { resource, container: None, target };
    let spec = AutoscalerSpec {
        target: ObjectKey::new(Kind::Deployment, "default", "web"),
        min_replicas: 2,
        max_replicas: 5,
        metrics: vec![
            metric(MeasuredResource::Cpu, MetricTarget::Utilization(50)),
            metric(MeasuredResource::Memory, MetricTarget::AverageValue(64 << 20)),
        ],
        scale_up: rules(0),
        scale_down: rules(300),
    };
    let state = AutoscalerState {
        current: 3,
        metrics: vec![Some(MetricValue { average: 12, utilization: Some(12) }), None],
        ..AutoscalerState::default()
    };
    vec![
        Made::Object(key.clone(), Box::new(Spec::Autoscaler(spec)), json!({})),
        Made::Row(key, Record::Autoscaler(Arc::new(state))),
    ]
}

/// A ReplicationController, and what bounds and ranks pods.
pub(super) fn others() -> Vec<Made> {
    let old = ObjectKey::new(Kind::ReplicationController, "default", "old");
    let set = ReplicaSet {
        key: old.clone(),
        uid: "uid-of-old".to_owned(),
        owner: old.clone(),
        created: THEN,
        template: template("old", "old:1"),
        revision_digest: Digest::of(b"old"),
        hash: String::new(),
        configs: BTreeMap::new(),
        revision: 1,
        revision_history: Vec::new(),
        replicas: 2,
        desired: 2,
        max_replicas: 2,
        min_ready_seconds: 0,
        counter: 2,
        status: ReplicaStatus { replicas: 2, updated: 2, ready: 1, available: 1 },
    };
    let budget = DisruptionBudgetSpec {
        selector: Some(Selector::from_labels(&labels("web"))),
        bound: DisruptionBound::MinAvailable(IntOrPercent::Int(2)),
        unhealthy_may_always_go: false,
    };
    let class = PriorityClassSpec {
        value: 1000,
        global_default: false,
        never_preempts: false,
        description: "what has to run".to_owned(),
    };
    let key = |kind, name| ObjectKey::new(kind, "default", name);
    vec![
        Made::Row(old, Record::ReplicaSet(Arc::new(set))),
        Made::Object(
            key(Kind::PodDisruptionBudget, "web"),
            Box::new(Spec::DisruptionBudget(budget)),
            json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 2}}),
        ),
        Made::Object(
            key(Kind::PriorityClass, "first"),
            Box::new(Spec::PriorityClass(class)),
            json!({"metadata": {"name": "first"}, "value": 1000}),
        ),
    ]
}

pub(super) fn configs() -> Vec<Made> {
    let content = |key: &str, base64: &str| ConfigContent {
        entries: BTreeMap::from([(key.to_owned(), base64.to_owned())]),
        ..ConfigContent::default()
    };
    let settings = ObjectKey::new(Kind::ConfigMap, "default", "settings");
    let password = ObjectKey::new(Kind::Secret, "default", "password");
    let secret = SecretSpec { kind: "Opaque".to_owned(), content: content("word", "aHVudGVyMg==") };
    vec![
        Made::Object(settings, Box::new(Spec::ConfigMap(content("mode", "ZmFzdA=="))), json!({})),
        Made::Object(password, Box::new(Spec::Secret(secret)), json!({})),
    ]
}

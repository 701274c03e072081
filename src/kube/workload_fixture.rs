//! Workloads that run pods to their end, made by hand.

use std::sync::Arc;

use kgit_protocol::time::Timestamp;
use serde_json::json;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::CronJobState;
use crate::domain::resource::{JobSpec, Spec};
use crate::domain::selector::Labels;
use crate::domain::workload::{ConcurrencyPolicy, CronJobSpec};
use crate::domain::world::Record;
use crate::kube::fixture::{Made, NOW, template, template_json};

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

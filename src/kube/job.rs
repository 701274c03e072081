//! Jobs.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::record::{Applied, JobFinish, JobState};
use crate::domain::workload::labels_of_job;
use crate::kube::deployment::template_cells;
use crate::kube::json::{child, flag, items, number, object, put, put_list, text};
use crate::kube::metadata::{Metadata, uid_of};
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Status"),
    Column::text("Completions"),
    Column::text("Duration"),
    Column::text("Age"),
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let state = seen.world.jobs.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let none = JobState::default();
    let state = state.map_or(&none, |state| &*state.value);
    let mut spec = applied.resource.manifest.at("/spec").unwrap_or_default();
    let spec_fields = object(&mut spec);
    defaults::job_spec(spec_fields);
    let selector = child(child(spec_fields, "selector"), "matchLabels");
    selector.insert("batch.kubernetes.io/controller-uid".to_owned(), json!(applied.uid));
    let labels = child(child(child(spec_fields, "template"), "metadata"), "labels");
    for (label, value) in labels_of_job(&key.name, &applied.uid) {
        labels.insert(label, json!(value));
    }
    let suspended = flag(&spec, "/suspend");
    let mut metadata = metadata(seen, key, applied, version);
    if applied.resource.labels.is_empty() {
        // Source: `SetDefaults_Job`.
        metadata["labels"] = spec["template"]["metadata"]["labels"].clone();
    }
    let shown = json!({
        "metadata": metadata,
        "spec": spec,
        "status": status(state, suspended),
    });
    Some(Shown::new(key, version, shown))
}

fn metadata(seen: &Seen<'_>, key: &ObjectKey, applied: &Applied, version: u64) -> Value {
    let metadata = Metadata::of_applied(key, applied, version)
        .with("deletionTimestamp", applied.deletion.map(|at| at.to_string()));
    match &applied.owner {
        Some(owner) => metadata.with_owner(owner, uid_of(seen.world, owner)).build(),
        None => metadata.build(),
    }
}

fn status(state: &JobState, suspended: bool) -> Value {
    let mut status = json!({"ready": state.ready, "uncountedTerminatedPods": {}});
    let fields = object(&mut status);
    put(fields, "startTime", state.started.map(|at| at.to_string()));
    let counts =
        [("active", state.active), ("succeeded", state.succeeded), ("failed", state.failed)];
    for (field, count) in counts {
        put(fields, field, (count > 0).then_some(count));
    }
    if !state.succeeded_indexes.is_empty() {
        put(fields, "completedIndexes", Some(ranges(&state.succeeded_indexes)));
    }
    if !state.failed_indexes.is_empty() {
        put(fields, "failedIndexes", Some(ranges(&state.failed_indexes)));
    }
    let finished = state.finished.as_ref();
    let completed = finished.filter(|finish| finish.succeeded).map(|finish| finish.at.to_string());
    put(fields, "completionTime", completed);
    let conditions = match (finished, suspended) {
        (Some(finish), _) => finished_conditions(finish),
        (None, true) => vec![json!({
            "type": "Suspended", "status": "True", "reason": "JobSuspended",
            "message": "Job suspended",
        })],
        (None, false) => Vec::new(),
    };
    put_list(fields, "conditions", conditions);
    status
}

/// `0,2-4`: sorted numbers as upstream writes them.
fn ranges(sorted: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in sorted {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => ranges.push((number, number)),
        }
    }
    let texts = ranges.iter().map(|(start, end)| match end - start {
        0 => start.to_string(),
        1 => format!("{start},{end}"),
        _ => format!("{start}-{end}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

fn finished_conditions(finish: &JobFinish) -> Vec<Value> {
    let at = finish.at.to_string();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastProbeTime": at, "lastTransitionTime": at,
        })
    };
    let (reason, message) = match (finish.succeeded, finish.reason.as_str()) {
        (true, _) => ("CompletionsReached", "Reached expected number of succeeded pods"),
        (false, "BackoffLimitExceeded") => {
            ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        }
        (false, "DeadlineExceeded") => {
            ("DeadlineExceeded", "Job was active longer than specified deadline")
        }
        (false, "PodFailurePolicy") => (
            "PodFailurePolicy",
            "A pod failed in a way at which the pod failure policy ends the job",
        ),
        (false, "FailedIndexes") => ("FailedIndexes", "Job has failed indexes"),
        (false, "MaxFailedIndexesExceeded") => (
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        ),
        (false, other) => (other, ""),
    };
    let (early, late) = if finish.succeeded {
        ("SuccessCriteriaMet", "Complete")
    } else {
        ("FailureTarget", "Failed")
    };
    vec![condition(early, reason, message), condition(late, reason, message)]
}

pub fn cells(job: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![
        json!(text(job, "/metadata/name")),
        json!(state(job)),
        json!(completions(job)),
        json!(duration(job, now)),
        json!(human::age(text(job, "/metadata/creationTimestamp"), now)),
    ];
    cells.extend(template_cells(job));
    cells
}

fn state(job: &Value) -> &'static str {
    let has = |kind: &str| {
        let mut conditions = items(job, "/status/conditions").iter();
        conditions.any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
    };
    let known = ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"];
    known.into_iter().find(|kind| has(kind)).unwrap_or("Running")
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded");
    let parallelism = number(job, "/spec/parallelism");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = Timestamp::parse(text(job, "/status/startTime")) else {
        return String::new();
    };
    let end = Timestamp::parse(text(job, "/status/completionTime")).unwrap_or(now);
    human::duration((end.0 - start.0) / 1000)
}

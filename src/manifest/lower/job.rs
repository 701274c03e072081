//! What runs pods to their end: Jobs, and CronJobs that make them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    CronJobSpec as WrittenCronJob, JobSpec as WrittenJob, PodFailurePolicyRule,
};

use crate::domain::resource::JobSpec;
use crate::domain::schedule::Schedule;
use crate::domain::workload::{
    ConcurrencyPolicy, CronJobSpec, DISRUPTED, ExitCodes, FailureAction, FailureRule,
};
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::pod::{Restarts, template_at};
use crate::manifest::lower::workload::at_most_pods;
use crate::manifest::path::Path;

/// Source: `SetDefaults_Job`.
const DEFAULT_BACKOFF_LIMIT: u32 = 6;
/// Source: `SetDefaults_CronJob`.
const DEFAULT_SUCCESSFUL_HISTORY: u32 = 3;
const DEFAULT_FAILED_HISTORY: u32 = 1;
/// A Job's name is the CronJob's, a dash, and minutes since the epoch. Source: `ValidateCronJob`.
const MAX_CRON_JOB_NAME: usize = 52;

/// A Job's spec, at `path`.
pub fn job(object: &mut Object<'_, '_>, path: &Path<'_>, written: &WrittenJob) -> JobSpec {
    if written.selector.is_some() && written.manual_selector != Some(true) {
        let hint = Some("leave it out: a Job chooses its own pods".to_owned());
        object.error_with_hint(&path.key("selector"), "a Job's selector is not yours to set", hint);
    }
    let mut optional =
        |key: &str, value: Option<i64>, least| object.optional_count(&path.key(key), value, least);
    let parallelism = optional("parallelism", written.parallelism.map(i64::from), 0);
    let completions = optional("completions", written.completions.map(i64::from), 0);
    let active_deadline_seconds =
        optional("activeDeadlineSeconds", written.active_deadline_seconds, 1);
    let ttl = written.ttl_seconds_after_finished.map(i64::from);
    let ttl_seconds_after_finished = optional("ttlSecondsAfterFinished", ttl, 0);
    let per_index = written.backoff_limit_per_index.map(i64::from);
    let backoff_limit_per_index = optional("backoffLimitPerIndex", per_index, 0);
    let max_failed = written.max_failed_indexes.map(i64::from);
    let max_failed_indexes = optional("maxFailedIndexes", max_failed, 0);
    let parallelism = parallelism.map(|n| at_most_pods(object, &path.key("parallelism"), n));
    let completions = completions.map(|n| at_most_pods(object, &path.key("completions"), n));
    let indexed = indexed(object, path, written, completions);
    let backoff = written.backoff_limit.map(i64::from);
    // Each index has a limit of its own then.
    let default =
        backoff_limit_per_index.map_or(DEFAULT_BACKOFF_LIMIT, |_| i32::MAX.unsigned_abs());
    JobSpec {
        // Neither given: one pod, once. Only parallelism given: a work queue.
        completions: completions.or(parallelism.is_none().then_some(1)),
        parallelism: parallelism.unwrap_or(1),
        backoff_limit: object.count(&path.key("backoffLimit"), backoff, default, 0),
        backoff_limit_per_index,
        max_failed_indexes,
        failure_rules: failure_rules(object, path, written),
        active_deadline_seconds,
        ttl_seconds_after_finished,
        indexed,
        suspend: written.suspend.unwrap_or(false),
        template: Arc::new(template_at(
            object,
            &path.key("template"),
            &written.template,
            Restarts::NotAlways,
        )),
    }
}

fn indexed(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenJob,
    completions: Option<u32>,
) -> bool {
    let modes = [("NonIndexed", false), ("Indexed", true)];
    let mode = written.completion_mode.as_deref();
    let indexed = object.choice(&path.key("completionMode"), mode, false, &modes);
    if indexed && completions.is_none() {
        object.error(&path.key("completions"), "is required where the mode is `Indexed`");
    }
    if !indexed {
        let of_indexes = [
            ("backoffLimitPerIndex", written.backoff_limit_per_index.is_some()),
            ("maxFailedIndexes", written.max_failed_indexes.is_some()),
        ];
        for (key, _) in of_indexes.iter().filter(|(_, given)| *given) {
            object.error(&path.key(key), "has a meaning only where the mode is `Indexed`");
        }
    } else if written.max_failed_indexes.is_some() && written.backoff_limit_per_index.is_none() {
        object.error(&path.key("maxFailedIndexes"), "needs `backoffLimitPerIndex`");
    }
    indexed
}

fn failure_rules(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenJob,
) -> Vec<FailureRule> {
    let Some(policy) = &written.pod_failure_policy else { return Vec::new() };
    let at = path.key("podFailurePolicy");
    let pod = written.template.spec.as_ref();
    if pod.and_then(|pod| pod.restart_policy.as_deref()) != Some("Never") {
        object.error(&at, "needs the pod template's `restartPolicy` to be `Never`");
    }
    each(&at, "rules", Some(&policy.rules), |at, rule| {
        Some(failure_rule(object, at, rule, written))
    })
}

fn failure_rule(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodFailurePolicyRule,
    job: &WrittenJob,
) -> FailureRule {
    let actions = [
        ("FailJob", FailureAction::FailJob),
        ("FailIndex", FailureAction::FailIndex),
        ("Ignore", FailureAction::Ignore),
        ("Count", FailureAction::Count),
    ];
    let at = path.key("action");
    object.filled(&at, &written.action);
    let action = object.choice(&at, Some(&written.action), FailureAction::Count, &actions);
    if action == FailureAction::FailIndex && job.backoff_limit_per_index.is_none() {
        object.error(&at, "`FailIndex` needs `backoffLimitPerIndex`");
    }
    let exit_codes = written.on_exit_codes.as_ref().map(|codes| {
        let at = path.key("onExitCodes");
        let operators = [("In", true), ("NotIn", false)];
        let operator = Some(codes.operator.as_str());
        if codes.values.is_empty() {
            object.required(&at.key("values"));
        }
        ExitCodes {
            container: codes.container_name.clone(),
            inside: object.choice(&at.key("operator"), operator, true, &operators),
            values: codes.values.clone(),
        }
    });
    let written = written.on_pod_conditions.as_deref();
    if exit_codes.is_some() != written.is_none_or(<[_]>::is_empty) {
        object.error(path, "needs one of `onExitCodes` and `onPodConditions`");
    }
    let conditions = each(path, "onPodConditions", written, |at, condition| {
        // Source: `SetDefaults_PodFailurePolicyOnPodConditionsPattern`.
        let status = condition.status.as_str();
        if condition.type_ == DISRUPTED && matches!(status, "" | "True") {
            return Some(condition.type_.clone());
        }
        let message = format!("no pod gets it: pods have `{DISRUPTED}`, with the status `True`");
        object.warn(at, "no-effect", message);
        None
    });
    FailureRule { action, exit_codes, conditions }
}

pub fn cron_job(object: &mut Object<'_, '_>, name: &str, written: &WrittenCronJob) -> CronJobSpec {
    let path = Path::ROOT.key("spec");
    if name.len() > MAX_CRON_JOB_NAME {
        let message = format!("must have at most {MAX_CRON_JOB_NAME} characters");
        object.error(&Path::ROOT.key("metadata").key("name"), message);
    }
    let zone = written.time_zone.clone();
    // One mistake is told where it is made: a zone's at the zone.
    if let Err(why) = Schedule::parse("@daily", zone.as_deref()) {
        let hint = "an IANA name, such as `Europe/Berlin` or `Etc/UTC`".to_owned();
        object.error_with_hint(&path.key("timeZone"), why, Some(hint));
    }
    if let Err(why) = Schedule::parse(&written.schedule, None) {
        object.error(&path.key("schedule"), format!("`{}`: {why}", written.schedule));
    }
    let policies = [
        ("Allow", ConcurrencyPolicy::Allow),
        ("Forbid", ConcurrencyPolicy::Forbid),
        ("Replace", ConcurrencyPolicy::Replace),
    ];
    let policy = written.concurrency_policy.as_deref();
    let policy_at = path.key("concurrencyPolicy");
    let template = path.key("jobTemplate");
    let meta = written.job_template.metadata.clone().unwrap_or_default();
    let empty = WrittenJob::default();
    if written.job_template.spec.is_none() {
        object.required(&template.key("spec"));
    }
    let job_spec = written.job_template.spec.as_ref().unwrap_or(&empty);
    let mut history = |key: &str, written: Option<i32>, default| {
        object.count(&path.key(key), written.map(i64::from), default, 0)
    };
    CronJobSpec {
        schedule: written.schedule.clone(),
        zone,
        successful_history_limit: history(
            "successfulJobsHistoryLimit",
            written.successful_jobs_history_limit,
            DEFAULT_SUCCESSFUL_HISTORY,
        ),
        failed_history_limit: history(
            "failedJobsHistoryLimit",
            written.failed_jobs_history_limit,
            DEFAULT_FAILED_HISTORY,
        ),
        starting_deadline_seconds: starting_deadline(object, &path, written),
        concurrency: object.choice(&policy_at, policy, ConcurrencyPolicy::Allow, &policies),
        suspend: written.suspend.unwrap_or(false),
        job: job(object, &template.key("spec"), job_spec),
        job_labels: meta.labels.unwrap_or_default(),
        job_annotations: meta.annotations.unwrap_or_default(),
    }
}

/// One that no slot ever meets is told.
fn starting_deadline(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenCronJob,
) -> Option<u32> {
    let at = path.key("startingDeadlineSeconds");
    let seconds = object.optional_count(&at, written.starting_deadline_seconds, 0)?;
    let period = Schedule::parse(&written.schedule, None).ok().and_then(|it| it.period());
    let least = period.unwrap_or(Duration::from_secs(1));
    if Duration::from_secs(seconds.into()) < least {
        let message = format!("is less than {} s: no Job is ever started", least.as_secs());
        object.warn(&at, "never-runs", message);
    }
    Some(seconds)
}

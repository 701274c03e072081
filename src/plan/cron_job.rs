//! CronJobs: a Job for the newest slot that is due, and the finished ones cleared away.
//!
//! Source: upstream's `cronjob/cronjob_controllerv2.go`. A Job's name is made of its slot, so that
//! no slot is ever run twice.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::time::Timestamp;
use serde_json::json;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::manifest::Manifest;
use crate::domain::plan::{Reason, Verb, WaitKind, Waiting};
use crate::domain::record::{Applied, CronJobState, JobState};
use crate::domain::resource::{Resource, Spec};
use crate::domain::schedule::Schedule;
use crate::domain::workload::{ConcurrencyPolicy, CronJobSpec};
use crate::domain::world::{Effect, Record};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::{dissolve, names};

/// The slot that a Job was made for, in the CronJob's zone. Upstream's name.
const SLOT_ANNOTATION: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub fn plan_cron_job(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::CronJob(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let before = draft.world.cron_jobs.get(key).map(|row| Arc::clone(&row.value));
    let state = before.as_deref().cloned().unwrap_or_default();
    let mut cron = CronJob { key, applied: &applied, spec, state };
    cron.run(draft);
    if before.as_deref() != Some(&cron.state) {
        draft.note(key, Record::CronJob(Arc::new(cron.state)));
    }
}

struct CronJob<'a> {
    key: &'a ObjectKey,
    applied: &'a Arc<Applied>,
    spec: &'a CronJobSpec,
    state: CronJobState,
}

/// One of its Jobs, as far as it is concerned.
struct Made {
    key: ObjectKey,
    created: Timestamp,
    state: JobState,
}

impl CronJob<'_> {
    fn run(&mut self, draft: &mut Draft<'_>) {
        self.count(draft);
        self.trim_history(draft);
        if self.spec.suspend {
            return;
        }
        let schedule = match Schedule::parse(&self.spec.schedule, self.spec.zone.as_deref()) {
            Ok(schedule) => schedule,
            Err(why) => return draft.blocked(self.key, why, "no job is started"),
        };
        let done = self.state.last_schedule.unwrap_or(self.applied.created);
        if let Some(next) = schedule.upcoming(done, draft.now) {
            draft.wake(self.key, next);
        }
        let earliest = self.earliest(draft.now);
        if let Some(missed) = schedule.missed(earliest, draft.now) {
            self.start(draft, missed.newest);
            self.count(draft);
        }
    }

    /// Slots up to here are done with, or too late to start.
    fn earliest(&self, now: Timestamp) -> Timestamp {
        let done = self.state.last_schedule.unwrap_or(self.applied.created);
        let Some(seconds) = self.spec.starting_deadline_seconds else { return done };
        done.max(Timestamp(now.0.saturating_sub(i64::from(seconds) * 1000)))
    }

    /// Its Jobs that are not on their way out, oldest first.
    fn jobs(&self, draft: &Draft<'_>) -> Vec<Made> {
        let world = &draft.world;
        let keys = world.made_for(self.key).filter(|key| key.kind == Kind::Job);
        let rows = keys.filter_map(|key| Some((key, world.objects.get(key)?)));
        let mut jobs: Vec<Made> = rows
            .filter(|(_, row)| row.deletion.is_none())
            .map(|(key, row)| {
                let state = world.jobs.get(key).map(|row| (*row.value).clone());
                Made { key: key.clone(), created: row.created, state: state.unwrap_or_default() }
            })
            .collect();
        jobs.sort_by_key(|job| (job.created, job.key.clone()));
        jobs
    }

    fn count(&mut self, draft: &Draft<'_>) {
        let jobs = self.jobs(draft);
        let succeeded = jobs.iter().filter_map(|job| job.state.finished.as_ref());
        let newest = succeeded.filter(|finish| finish.succeeded).map(|finish| finish.at).max();
        self.state.last_success = self.state.last_success.max(newest);
        let running = jobs.into_iter().filter(|job| job.state.finished.is_none());
        self.state.active = running.map(|job| job.key).collect();
    }

    fn trim_history(&self, draft: &mut Draft<'_>) {
        let limits = [
            (true, "successfulJobsHistoryLimit", self.spec.successful_history_limit),
            (false, "failedJobsHistoryLimit", self.spec.failed_history_limit),
        ];
        for (succeeded, field, limit) in limits {
            let mut ended = self.jobs(draft);
            ended.retain(|job| {
                job.state.finished.as_ref().is_some_and(|finish| finish.succeeded == succeeded)
            });
            ended.sort_by_key(|job| Reverse(job.created));
            for job in ended.iter().skip(limit as usize) {
                let what = format!("{field} {limit}");
                dissolve::begin(draft, &job.key, vec![Reason::Limit { what }]);
            }
        }
    }

    fn start(&mut self, draft: &mut Draft<'_>, slot: Timestamp) {
        let name = format!("{}-{}", self.key.name, slot.0.div_euclid(60_000));
        let key = self.key.sibling(Kind::Job, &name);
        // The lock: this slot had its Job, whatever became of it.
        if draft.world.objects.contains_key(&key) {
            self.state.last_schedule = Some(slot);
            return;
        }
        match self.spec.concurrency {
            ConcurrencyPolicy::Forbid if !self.state.active.is_empty() => {
                return self.wait_for_active(draft, slot);
            }
            ConcurrencyPolicy::Replace => self.replace(draft, slot),
            ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Allow => {}
        }
        self.state.last_schedule = Some(slot);
        self.make(draft, key, slot);
    }

    fn wait_for_active(&self, draft: &mut Draft<'_>, slot: Timestamp) {
        let deadline = self.spec.starting_deadline_seconds;
        let deadline = deadline.map(|it| slot.after(Duration::from_secs(it.into())));
        if let Some(deadline) = deadline {
            draft.wake(self.key, deadline.after(Duration::from_millis(1)));
        }
        draft.wait(Waiting {
            object: self.key.clone(),
            for_what: format!(
                "{} to end, before the slot of {slot} (Forbid)",
                self.state.active[0]
            ),
            kind: WaitKind::Progress,
            deadline,
            consequence: match deadline {
                Some(_) => "the slot is skipped (startingDeadlineSeconds)".to_owned(),
                None => "a later slot takes its place".to_owned(),
            },
            unplaced: None,
        });
    }

    fn replace(&self, draft: &mut Draft<'_>, slot: Timestamp) {
        for active in &self.state.active {
            let reasons = vec![self.due(slot), commit_reason(self.applied)];
            dissolve::begin(draft, active, reasons);
        }
    }

    fn due(&self, slot: Timestamp) -> Reason {
        Reason::Schedule { cron_job: self.key.clone(), slot }
    }

    fn make(&self, draft: &mut Draft<'_>, key: ObjectKey, slot: Timestamp) {
        let resource = self.resource(&key, slot);
        let applied = Applied {
            uid: names::owned_uid(&self.applied.uid, &key.name),
            created: draft.now,
            changed: draft.now,
            generation: 1,
            commit: Arc::clone(&self.applied.commit),
            changes: Vec::new(),
            counter: 0,
            retained: None,
            owner: Some(self.key.clone()),
            deletion: None,
            resource: Arc::new(resource),
        };
        let reasons = vec![self.due(slot), commit_reason(self.applied)];
        let effect = Effect::Put(key.clone(), Record::Object(Arc::new(applied)));
        draft.step(said(Verb::Create, &key), reasons, vec![effect]);
    }

    /// The Job as a manifest would say it, standing where the CronJob's does.
    fn resource(&self, key: &ObjectKey, slot: Timestamp) -> Resource {
        let own = &self.applied.resource;
        let mut annotations = self.spec.job_annotations.clone();
        annotations.insert(SLOT_ANNOTATION.to_owned(), self.in_zone(slot));
        let spec = own.manifest.at("/spec/jobTemplate/spec");
        let manifest = Manifest::of(&json!({
            "apiVersion": key.kind.api_version(),
            "kind": key.kind.as_str(),
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": self.spec.job_labels,
                "annotations": annotations,
            },
            "spec": spec,
        }));
        Resource {
            key: key.clone(),
            labels: self.spec.job_labels.clone(),
            annotations,
            spec: Spec::Job(self.spec.job.clone()),
            place: own.place.clone(),
            references: own.references.clone(),
            digest: manifest.digest(),
            manifest,
            fields: Arc::default(),
        }
    }

    fn in_zone(&self, slot: Timestamp) -> String {
        let zone = self.spec.zone.as_deref().unwrap_or("UTC");
        match slot.to_jiff().in_tz(zone) {
            Ok(zoned) => zoned.timestamp().display_with_offset(zoned.offset()).to_string(),
            Err(_) => slot.to_string(),
        }
    }
}

//! Jobs: pods that run to their end, as many as asked for, with a growing delay after failures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::observation::PodPhase;
use kgit_protocol::pod::RestartPolicy;
use kgit_protocol::time::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Said, Verb, WaitKind, Waiting};
use crate::domain::record::{Applied, EndedBy, JobFinish, JobState, Pod};
use crate::domain::resource::{JobSpec, Spec};
use crate::domain::selector::Labels;
use crate::domain::template::PodTemplate;
use crate::domain::workload::{FailureAction, labels_of_job};
use crate::domain::world::{Effect, Record};
use crate::plan::config::{Needs, needs, revision_digest};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::evict::evict;
use crate::plan::pods::{self, NewPod};
use crate::plan::replicas::pods_of;
use crate::plan::{depends, dissolve, job_failure, job_index, names, refresh, replicas};

/// Delay before the first retry; doubled with each failure in a row, up to the limit.
const RETRY_DELAY: Duration = Duration::from_secs(10);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(600);

pub fn plan_job(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::Job(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    if applied.deletion.is_some() {
        return dissolve::go_on(draft, key);
    }
    let state = draft.world.jobs.get(key).map(|row| (*row.value).clone()).unwrap_or_default();
    Job { key, applied: &applied, spec, state, restarts: 0 }.run(draft);
}

struct Job<'a> {
    key: &'a ObjectKey,
    applied: &'a Arc<Applied>,
    spec: &'a JobSpec,
    state: JobState,
    /// Of the containers of its running pods, one more than the limit allows for being at it.
    restarts: u32,
}

impl Job<'_> {
    fn run(&mut self, draft: &mut Draft<'_>) {
        let before = self.state.clone();
        // Whoever leaves its node failed by that, and is counted before another one is made.
        if self.state.finished.is_none() && !self.spec.suspend {
            evict(draft, self.key, &pods_of(&draft.world, self.key));
        }
        self.count_ends(draft);
        self.keep_to_range();
        pods::follow(draft, self.key, &pods_of(&draft.world, self.key));
        self.restarts = self.restarts(draft);
        // What is recorded is from before whatever set this tick off.
        self.state.active = self.active_count(draft);
        if self.state.finished.is_some() {
            self.rest(draft);
        } else if let Some(finish) = self.finish(draft.now) {
            self.end(draft, finish);
        } else {
            self.advance(draft);
        }
        self.note(draft, &before);
    }

    /// Each pod's end is counted once, in the same step of the record as the count.
    fn count_ends(&mut self, draft: &mut Draft<'_>) {
        for pod in pods_of(&draft.world, self.key) {
            if pod.counted || !self.has_ended(&pod) {
                continue;
            }
            if pod.phase() == PodPhase::Succeeded {
                self.count_success(&pod);
            } else {
                self.count_failure(&pod, draft.now);
            }
            let counted = Pod { counted: true, ..(*pod).clone() };
            draft.note(&pod.key, Record::Pod(Arc::new(counted)));
        }
    }

    /// One that the job itself told to end (it is suspended, outdated) proves nothing. One that
    /// was told to from outside failed by that; where a policy asks how, once it is over. Source:
    /// `isPodFailed` of upstream's `job_controller.go`.
    fn has_ended(&self, pod: &Pod) -> bool {
        match pod.deletion.map(|deletion| deletion.by) {
            None => pod.is_over(),
            Some(EndedBy::Workload) => false,
            Some(EndedBy::Order | EndedBy::Disruption) => {
                self.spec.failure_rules.is_empty() || pod.is_over()
            }
        }
    }

    fn count_failure(&mut self, pod: &Pod, now: Timestamp) {
        let (action, what) = job_failure::judge(&self.spec.failure_rules, pod);
        match action {
            // It does not count, and yet the next one is not made at once. Source: upstream's
            // `newBackoffRecord` takes all failed pods.
            FailureAction::Ignore => return self.ignore_failure(pod, now),
            FailureAction::FailJob => {
                self.state.failing.get_or_insert(what);
            }
            FailureAction::FailIndex => self.fail_index(pod.index),
            FailureAction::Count => {}
        }
        self.state.failed += 1;
        self.delay_next(pod, now);
        if let (Some(limit), Some(index)) = (self.spec.backoff_limit_per_index, pod.index)
            && self.failures_of(index) > limit
        {
            self.fail_index(Some(index));
        }
    }

    fn ignore_failure(&mut self, pod: &Pod, now: Timestamp) {
        if let Some(index) = pod.index {
            *self.state.ignored.entry(index).or_insert(0) += 1;
        }
        self.delay_next(pod, now);
    }

    /// Where each index has a limit of its own, it has a delay of its own as well.
    fn delay_next(&mut self, pod: &Pod, now: Timestamp) {
        match pod.index.filter(|_| self.spec.backoff_limit_per_index.is_some()) {
            Some(index) => {
                let failures = self.state.index_failures.entry(index).or_insert((0, now));
                *failures = (failures.0 + 1, now);
            }
            None => {
                self.state.failures_in_row += 1;
                self.state.last_failure = Some(now);
            }
        }
    }

    /// How often pods of an index failed, without what the policy ignores.
    fn failures_of(&self, index: u32) -> u32 {
        let all = self.state.index_failures.get(&index).map_or(0, |(failures, _)| *failures);
        all.saturating_sub(self.state.ignored.get(&index).copied().unwrap_or(0))
    }

    fn fail_index(&mut self, index: Option<u32>) {
        let failed = &mut self.state.failed_indexes;
        if let Some(index) = index.filter(|index| !failed.contains(index)) {
            failed.push(index);
            failed.sort_unstable();
        }
    }

    fn count_success(&mut self, pod: &Pod) {
        self.state.failures_in_row = 0;
        match pod.index {
            Some(index) if self.state.succeeded_indexes.contains(&index) => {}
            Some(index) => {
                self.state.succeeded_indexes.push(index);
                self.state.succeeded_indexes.sort_unstable();
                self.state.succeeded += 1;
            }
            None => self.state.succeeded += 1,
        }
    }

    /// Indexes beyond `completions` are no part of the job, whatever became of them when it was
    /// larger. Source: `parseIndexesFromString` of upstream's `indexed_job_utils.go`.
    fn keep_to_range(&mut self) {
        let Some(all) = self.spec.completions.filter(|_| self.spec.indexed) else { return };
        if self.state.finished.is_some() {
            return;
        }
        let state = &mut self.state;
        state.succeeded_indexes.retain(|index| *index < all);
        state.failed_indexes.retain(|index| *index < all);
        state.index_failures.retain(|index, _| *index < all);
        state.ignored.retain(|index, _| *index < all);
        state.succeeded = u32::try_from(state.succeeded_indexes.len()).unwrap_or(u32::MAX);
    }

    /// How the job ends now, if it does. activeDeadlineSeconds beats backoffLimit.
    fn finish(&self, now: Timestamp) -> Option<JobFinish> {
        let ended = |succeeded, reason: &str| {
            Some(JobFinish { at: now, succeeded, reason: reason.to_owned() })
        };
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            return ended(false, "DeadlineExceeded");
        }
        if self.state.failing.is_some() {
            return ended(false, "PodFailurePolicy");
        }
        if self.is_given_up() {
            return ended(false, "BackoffLimitExceeded");
        }
        let failed_indexes = self.failed_indexes();
        if self.spec.max_failed_indexes.is_some_and(|most| failed_indexes > most) {
            return ended(false, "MaxFailedIndexesExceeded");
        }
        let enough = match self.spec.completions {
            Some(completions) if failed_indexes > 0 => {
                let all = self.state.succeeded + failed_indexes >= completions;
                return if all { ended(false, "FailedIndexes") } else { None };
            }
            Some(completions) => self.state.succeeded >= completions,
            // A work queue is done when one succeeded and none is left.
            None => self.state.succeeded > 0 && self.state.active == 0,
        };
        if enough { ended(true, "") } else { None }
    }

    fn failed_indexes(&self) -> u32 {
        u32::try_from(self.state.failed_indexes.len()).unwrap_or(u32::MAX)
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds?;
        Some(self.state.started?.after(Duration::from_secs(seconds.into())))
    }

    /// It failed more often than its limit allows. Of containers that are restarted in place,
    /// reaching the limit is enough, unless it is 0: upstream's `pastBackoffLimitOnFailure`.
    fn is_given_up(&self) -> bool {
        let limit = self.spec.backoff_limit;
        self.state.failed > limit || self.restarts >= limit.max(1)
    }

    /// Failures of containers that are restarted in place (restartPolicy OnFailure).
    fn restarts(&self, draft: &Draft<'_>) -> u32 {
        if self.spec.template.restart_policy != RestartPolicy::OnFailure {
            return 0;
        }
        let pods = self.active(draft);
        let observed = pods.iter().filter_map(|pod| pod.observed.as_ref());
        observed.flat_map(|it| it.all_containers()).map(|container| container.restarts).sum()
    }

    fn end(&mut self, draft: &mut Draft<'_>, finish: JobFinish) {
        let detail = match finish.succeeded {
            true => "complete".to_owned(),
            false => format!("failed: {}", finish.reason),
        };
        let why = format!(
            "{} succeeded, {} failed of {} completions, backoffLimit {}",
            self.state.succeeded,
            self.state.failed,
            self.spec.completions.unwrap_or(1),
            self.spec.backoff_limit
        );
        let why = self.state.failing.clone().unwrap_or(why);
        if !finish.succeeded {
            // What it ends before their time has failed. Source: `trackJobStatusAndRemoveFinalizers`
            // of upstream's `job_controller.go`.
            self.state.failed += self.active_count(draft);
        }
        self.state.finished = Some(finish);
        self.state.template_digest = Some(self.spec.template.digest());
        let record = Record::Job(Arc::new(self.state.clone()));
        draft.step(
            Said { detail, ..said(Verb::Finish, self.key) },
            vec![Reason::Limit { what: why }, commit_reason(self.applied)],
            vec![Effect::Put(self.key.clone(), record)],
        );
        for pod in pods_of(&draft.world, self.key).iter().filter(|pod| pod.is_active()) {
            pods::stop(draft, pod, vec![Reason::Limit { what: "the job ended".to_owned() }]);
        }
    }

    /// A finished job is not run again; its pods stay for their logs until it is removed.
    fn rest(&mut self, draft: &mut Draft<'_>) {
        let ran = self.state.template_digest.as_ref();
        if ran.is_some_and(|digest| *digest != self.spec.template.digest()) {
            self.start_again(draft);
            self.advance(draft);
            return;
        }
        for pod in pods_of(&draft.world, self.key).iter().filter(|pod| pod.is_active()) {
            pods::stop(draft, pod, vec![Reason::Limit { what: "the job ended".to_owned() }]);
        }
    }

    /// Kubernetes refuses a changed template; here it is another job of the same name, and the
    /// plan says so.
    fn start_again(&mut self, draft: &mut Draft<'_>) {
        for pod in pods_of(&draft.world, self.key) {
            pods::stop(draft, &pod, vec![commit_reason(self.applied)]);
        }
        self.state = JobState::default();
        let words = Said {
            detail: "its template changed: it runs again".into(),
            ..said(Verb::Update, self.key)
        };
        let record = Record::Job(Arc::new(self.state.clone()));
        draft.step(
            words,
            vec![commit_reason(self.applied)],
            vec![Effect::Put(self.key.clone(), record)],
        );
    }

    fn advance(&mut self, draft: &mut Draft<'_>) {
        if self.spec.suspend {
            for pod in self.active(draft) {
                pods::stop(draft, &pod, vec![commit_reason(self.applied)]);
            }
            // The time in which it did not run is not held against it.
            self.state.started = None;
            return;
        }
        if let Some(deadline) = self.deadline() {
            draft.wake(self.key, deadline);
        }
        self.shrink(draft);
        match needs(&draft.world, self.key, &self.spec.template, &self.applied.resource) {
            Ok(needs) => self.go_on(draft, &needs),
            Err(why) => draft.blocked(self.key, why, "no pod is started"),
        }
    }

    fn go_on(&mut self, draft: &mut Draft<'_>, needs: &Needs) {
        // What runs to its end is not begun anew because of a config: only the next pod has it all.
        let digest = revision_digest(&draft.world, &self.spec.template, &Needs::default());
        refresh::pods(draft, self.key, &digest, needs);
        self.stop_outdated(draft, &digest);
        for pod in pods_of(&draft.world, self.key).iter().filter(|pod| pod.placed.is_none()) {
            pods::place_pending(draft, pod, &needs.configs);
        }
        if self.state.started.is_none() && depends::held(draft, self.key, &self.applied.resource) {
            return;
        }
        self.state.started.get_or_insert(draft.now);
        if let Some(deadline) = self.deadline() {
            draft.wake(self.key, deadline);
        }
        let wanted = self.wanted(self.active_count(draft));
        let found = u32::try_from(self.in_place(draft).len()).unwrap_or(u32::MAX);
        if found < wanted {
            self.grow(draft, wanted - found, found, &digest, needs);
        }
        self.wait(draft);
    }

    /// Pods without an index that is part of the job go, and as many others as are too
    /// many. Source: `activePodsForRemoval` of upstream's `job_controller.go`.
    fn shrink(&self, draft: &mut Draft<'_>) {
        let active = self.active(draft);
        let found = u32::try_from(active.len()).unwrap_or(u32::MAX);
        let wanted = self.wanted(found);
        let has_no_index =
            |pod: &Arc<Pod>| pod.index.is_none() || pod.index >= self.spec.completions;
        let (mut surplus, rest): (Vec<_>, Vec<_>) =
            active.into_iter().partition(|pod| self.spec.indexed && has_no_index(pod));
        let more = (found.saturating_sub(wanted) as usize).saturating_sub(surplus.len());
        surplus.extend(replicas::first_to_go(draft, rest, 0).into_iter().take(more));
        for pod in surplus {
            let why = Reason::Count { owner: self.key.clone(), wanted, found };
            pods::stop(draft, &pod, vec![why, commit_reason(self.applied)]);
        }
    }

    /// Its pods that others are not made beside: those that are active and, where a policy asks
    /// how pods ended, those that have yet to. Source: upstream's `onlyReplaceFailedPods`.
    fn in_place(&self, draft: &Draft<'_>) -> Vec<Arc<Pod>> {
        let asks = !self.spec.failure_rules.is_empty();
        let mut pods = pods_of(&draft.world, self.key);
        pods.retain(|pod| pod.is_active() || (asks && !pod.is_over()));
        pods
    }

    /// Pods of an older template make room for the new one.
    fn stop_outdated(&self, draft: &mut Draft<'_>, digest: &kgit_protocol::ids::Digest) {
        for pod in self.active(draft) {
            if pod.revision_digest != *digest {
                pods::stop(draft, &pod, vec![commit_reason(self.applied)]);
            }
        }
    }

    fn active(&self, draft: &Draft<'_>) -> Vec<Arc<Pod>> {
        pods_of(&draft.world, self.key).into_iter().filter(|pod| pod.is_active()).collect()
    }

    fn active_count(&self, draft: &Draft<'_>) -> u32 {
        u32::try_from(self.active(draft).len()).unwrap_or(u32::MAX)
    }

    /// min(parallelism, completions − succeeded); a work queue starts none after a success.
    fn wanted(&self, found: u32) -> u32 {
        match self.spec.completions {
            Some(all) => {
                let done = self.state.succeeded + self.failed_indexes();
                self.spec.parallelism.min(all.saturating_sub(done))
            }
            None if self.state.succeeded > 0 => found,
            None => self.spec.parallelism,
        }
    }

    fn grow(
        &mut self,
        draft: &mut Draft<'_>,
        count: u32,
        found: u32,
        digest: &kgit_protocol::ids::Digest,
        needs: &Needs,
    ) {
        if let Some(retry) = self.retry_at().filter(|retry| *retry > draft.now) {
            draft.wait(Waiting {
                object: self.key.clone(),
                for_what: format!("the retry delay after {} failures", self.state.failures_in_row),
                kind: WaitKind::Progress,
                deadline: Some(retry),
                consequence: "the next pod is started".to_owned(),
                unplaced: None,
            });
            draft.wake(self.key, retry);
            return;
        }
        for _ in 0..count {
            let index = self.next_index(draft);
            if self.spec.indexed && index.is_none() {
                return;
            }
            let why = Reason::Count { owner: self.key.clone(), wanted: found + count, found };
            self.start_pod(draft, why, index, digest.clone(), needs);
        }
    }

    /// 10 s · 2^(f−1), at most 10 min, f = failures since the last success.
    fn retry_at(&self) -> Option<Timestamp> {
        let failures = self.state.failures_in_row;
        (failures > 0).then_some(())?;
        Some(retry_at(failures, self.state.last_failure?))
    }

    fn start_pod(
        &mut self,
        draft: &mut Draft<'_>,
        why: Reason,
        index: Option<u32>,
        digest: kgit_protocol::ids::Digest,
        needs: &Needs,
    ) {
        let Some(owner) = draft.world.objects.get(self.key).map(|row| (*row.value).clone()) else {
            return;
        };
        let counter = owner.counter + 1;
        let name = match index {
            Some(index) => job_index::pod_name(self.key, &owner.uid, counter, index),
            None => names::pod_name(self.key, &owner.uid, counter),
        };
        let counted = Applied { counter, ..owner.clone() };
        let new = NewPod {
            key: self.key.sibling(Kind::Pod, &name),
            owner: self.key.clone(),
            owner_uid: owner.uid,
            counter,
            extra_labels: self.labels(index),
            template: self.template(index),
            revision_digest: digest,
            index,
            pinned: None,
        };
        let reasons = vec![why, commit_reason(self.applied)];
        let effect = Effect::Put(self.key.clone(), Record::Object(Arc::new(counted)));
        pods::create(draft, new, &needs.configs, reasons, vec![effect]);
    }

    fn template(&self, index: Option<u32>) -> Arc<PodTemplate> {
        let Some(index) = index else { return Arc::clone(&self.spec.template) };
        let failures = self.spec.backoff_limit_per_index.map(|_| self.failures_of(index));
        Arc::new(job_index::own_template(&self.spec.template, self.key, index, failures))
    }

    fn labels(&self, index: Option<u32>) -> Labels {
        let mut labels = index.map(job_index::label).unwrap_or_default();
        labels.extend(labels_of_job(&self.key.name, &self.applied.uid));
        labels
    }

    /// The lowest index that is neither done nor under way, nor waiting out its delay.
    fn next_index(&self, draft: &mut Draft<'_>) -> Option<u32> {
        if !self.spec.indexed {
            return None;
        }
        let running = self.in_place(draft).into_iter().filter_map(|pod| pod.index);
        let done = self.state.succeeded_indexes.iter().chain(&self.state.failed_indexes).copied();
        let taken: BTreeSet<u32> = running.chain(done).collect();
        let free = (0..self.spec.completions.unwrap_or(1)).filter(|index| !taken.contains(index));
        let mut waking = Vec::new();
        let now = draft.now;
        let found = free.into_iter().find(|index| {
            let retry = self.state.index_failures.get(index).map(|it| retry_at(it.0, it.1));
            waking.extend(retry.filter(|at| *at > now));
            retry.is_none_or(|at| at <= now)
        });
        waking.into_iter().for_each(|at| draft.wake(self.key, at));
        found
    }

    fn wait(&self, draft: &mut Draft<'_>) {
        let for_what = match self.spec.completions {
            None if self.state.succeeded > 0 => {
                format!("{} pods of the work queue to end", self.active_count(draft))
            }
            completions => {
                let all = completions.unwrap_or(1);
                format!("{} of {all} completions", all.saturating_sub(self.state.succeeded))
            }
        };
        let deadline = self.deadline();
        let consequence = match deadline {
            Some(_) => "DeadlineExceeded: the job fails",
            None => "it goes on, and no newer commit waits for it",
        };
        draft.wait(Waiting {
            object: self.key.clone(),
            for_what,
            kind: WaitKind::Progress,
            deadline,
            consequence: consequence.to_owned(),
            unplaced: None,
        });
    }

    fn note(&mut self, draft: &mut Draft<'_>, before: &JobState) {
        let active = self.active(draft);
        self.state.active = self.active_count(draft);
        self.state.ready =
            u32::try_from(active.iter().filter(|pod| pod.is_ready()).count()).unwrap_or(u32::MAX);
        let recorded = draft.world.jobs.get(self.key).map(|row| (*row.value).clone());
        if recorded.as_ref() != Some(&self.state) && (recorded.is_some() || self.state != *before) {
            draft.note(self.key, Record::Job(Arc::new(self.state.clone())));
        }
        self.expire(draft);
    }

    /// ttlSecondsAfterFinished: the pods go; the Job's record stays as long as its manifest, so
    /// that it is not run again.
    fn expire(&self, draft: &mut Draft<'_>) {
        let (Some(finish), Some(ttl)) =
            (&self.state.finished, self.spec.ttl_seconds_after_finished)
        else {
            return;
        };
        let at = finish.at.after(Duration::from_secs(ttl.into()));
        if at > draft.now {
            draft.wake(self.key, at);
            return;
        }
        let reason = Reason::Limit { what: format!("ttlSecondsAfterFinished {ttl}") };
        if self.applied.owner.is_some() {
            return dissolve::begin(draft, self.key, vec![reason]);
        }
        for pod in pods_of(&draft.world, self.key) {
            pods::stop(draft, &pod, vec![reason.clone()]);
        }
    }
}

fn retry_at(failures: u32, last: Timestamp) -> Timestamp {
    let doublings = 2u32.saturating_pow(failures.saturating_sub(1));
    last.after(RETRY_DELAY.saturating_mul(doublings).min(MAX_RETRY_DELAY))
}

//! Deployments: one revision per template, rolled from the old ones to the new one.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::Digest;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Said, Verb, WaitKind, Waiting};
use crate::domain::record::{
    Applied, Availability, DeploymentState, Pod, ReplicaSet, ReplicaStatus,
};
use crate::domain::resource::{DeploymentSpec, Spec, Strategy};
use crate::domain::world::{Effect, Record, Table};
use crate::plan::config::{Needs, needs, revision_digest};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::rollout::{self, Bounds, Set};
use crate::plan::{autoscaler, config, depends, names, pods, refresh, replicas};

/// How often one tick goes around a rollout. Each round needs something that became available in
/// the one before, so this is never reached; it keeps a mistake from becoming a loop.
const MAX_ROUNDS: usize = 64;

/// How many earlier numbers a revision that was brought back again and again remembers: as many
/// as Kubernetes keeps revisions by default.
const MAX_EARLIER_NUMBERS: usize = 10;

pub fn plan_deployment(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::Deployment(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let replicas = draft.world.replicas_of(key, spec.replicas);
    let spec = &DeploymentSpec { replicas, ..spec.clone() };
    let scaled = autoscaler::reason(&draft.world, key);
    let mut rollout = Rollout { key, applied: &applied, spec, bounds: Bounds::of(spec), scaled };
    let digest = rollout.run(draft);
    rollout.note_state(draft, digest.as_ref());
}

struct Rollout<'a> {
    key: &'a ObjectKey,
    applied: &'a Arc<Applied>,
    spec: &'a DeploymentSpec,
    bounds: Bounds,
    /// Set if an autoscaler decides the number of pods.
    scaled: Option<Reason>,
}

impl Rollout<'_> {
    /// Gives the digest of the revision that is wanted, where that can be told.
    fn run(&mut self, draft: &mut Draft<'_>) -> Option<Digest> {
        let needs = match needs(&draft.world, self.key, &self.spec.template, &self.applied.resource)
        {
            Ok(needs) => needs,
            Err(why) => {
                draft.blocked(self.key, why, "the revision in force stays");
                self.settle(draft);
                return None;
            }
        };
        let digest = revision_digest(&draft.world, &self.spec.template, &needs);
        if let Some(set) = self.sets(draft).iter().find(|set| set.revision_digest == digest) {
            refresh::set(draft, set, &needs);
        }
        for _ in 0..MAX_ROUNDS {
            let before = draft.plan.steps.len();
            self.round(draft, &digest, &needs);
            self.settle(draft);
            if draft.plan.steps.len() == before {
                break;
            }
        }
        self.forget_history(draft, &digest);
        Some(digest)
    }

    /// One turn of upstream's sync loop.
    fn round(&self, draft: &mut Draft<'_>, digest: &Digest, needs: &Needs) {
        let new = self.sets(draft).into_iter().find(|set| set.revision_digest == *digest);
        // A departure from upstream: a commit that changes template and scale at once does not
        // first scale the revision that it is about to replace (docs/decisions/0006).
        if self.spec.paused || (new.is_some() && self.scale_changed(draft)) {
            self.share_out(draft, new.as_deref());
            return;
        }
        if new.is_none() && depends::held(draft, self.key, &self.applied.resource) {
            return;
        }
        match self.spec.strategy {
            Strategy::Recreate => self.recreate(draft, new, digest, needs),
            Strategy::RollingUpdate { .. } => self.roll(draft, new, digest, needs),
        }
    }

    /// By revision, oldest first.
    fn sets(&self, draft: &Draft<'_>) -> Vec<Arc<ReplicaSet>> {
        let mut sets: Vec<Arc<ReplicaSet>> =
            draft.world.sets_of(self.key).map(|row| Arc::clone(&row.value)).collect();
        sets.sort_by_key(|set| (set.revision, set.key.clone()));
        sets
    }

    fn old_sets(&self, draft: &Draft<'_>, digest: &Digest) -> Vec<Arc<ReplicaSet>> {
        self.sets(draft).into_iter().filter(|set| set.revision_digest != *digest).collect()
    }

    fn scale_changed(&self, draft: &Draft<'_>) -> bool {
        self.sets(draft).iter().any(|set| set.replicas > 0 && set.desired != self.spec.replicas)
    }

    /// Scaling: the only revision with pods takes it all; in mid-rollout every revision its share.
    fn share_out(&self, draft: &mut Draft<'_>, new: Option<&ReplicaSet>) {
        let mut active: Vec<Arc<ReplicaSet>> =
            self.sets(draft).into_iter().filter(|set| set.replicas > 0).collect();
        if active.len() <= 1 {
            let only =
                active.pop().map(|set| set.key.clone()).or_else(|| new.map(|s| s.key.clone()));
            let only = only.or_else(|| self.sets(draft).last().map(|set| set.key.clone()));
            if let Some(only) = only {
                self.scale_only(draft, &only);
            }
            return;
        }
        let surge = match self.spec.strategy {
            Strategy::Recreate => 0,
            Strategy::RollingUpdate { .. } => self.bounds.surge,
        };
        let total: u32 = active.iter().map(|set| set.replicas).sum();
        if self.spec.replicas.saturating_add(surge) >= total {
            active.sort_by_key(|set| (Reverse(set.replicas), Reverse(set.revision)));
        } else {
            active.sort_by_key(|set| (Reverse(set.replicas), set.revision));
        }
        let numbers: Vec<Set> = active.iter().map(|set| numbers(draft, set)).collect();
        let sizes = rollout::proportional(self.spec.replicas, surge, &numbers);
        for (set, size) in active.iter().zip(sizes) {
            self.scale(draft, &set.key, size);
        }
    }

    /// Scales the only revision that is to have pods. Beyond upstream, it grows beside no pods of
    /// others that are still there, where none may be together.
    fn scale_only(&self, draft: &mut Draft<'_>, only: &ObjectKey) {
        let replicas = draft.world.replica_sets.get(only).map_or(0, |set| set.replicas);
        let others = self.sets(draft).into_iter().filter(|set| set.key != *only);
        let left: Vec<Arc<Pod>> =
            others.flat_map(|set| replicas::pods_of(&draft.world, &set.key)).collect();
        let apart = self.spec.strategy == Strategy::Recreate && replicas < self.spec.replicas;
        match apart && !left.is_empty() {
            true => self.wait_for_the_old(draft, &left),
            false => self.scale(draft, only, self.spec.replicas),
        }
    }

    fn recreate(
        &self,
        draft: &mut Draft<'_>,
        new: Option<Arc<ReplicaSet>>,
        digest: &Digest,
        needs: &Needs,
    ) {
        let old = self.old_sets(draft, digest);
        for set in &old {
            self.scale(draft, &set.key, 0);
        }
        let left: Vec<Arc<Pod>> =
            old.iter().flat_map(|set| replicas::pods_of(&draft.world, &set.key)).collect();
        if !left.is_empty() {
            return self.wait_for_the_old(draft, &left);
        }
        let key = self.new_set(draft, new, digest, needs, self.spec.replicas);
        self.scale(draft, &key, self.spec.replicas);
    }

    fn wait_for_the_old(&self, draft: &mut Draft<'_>, left: &[Arc<Pod>]) {
        let (deadline, kind) = pods::ought_all_to_be_gone(left.iter().map(|pod| &**pod), draft.now);
        if kind == WaitKind::Progress {
            draft.wake(self.key, deadline);
        }
        draft.wait(Waiting {
            object: self.key.clone(),
            for_what: format!("{} pods of the old revision to be gone (Recreate)", left.len()),
            kind,
            deadline: Some(deadline),
            consequence: "the new revision is not started".to_owned(),
            unplaced: None,
        });
    }

    fn roll(
        &self,
        draft: &mut Draft<'_>,
        new: Option<Arc<ReplicaSet>>,
        digest: &Digest,
        needs: &Needs,
    ) {
        let old = self.old_sets(draft, digest);
        let old_numbers: Vec<Set> = old.iter().map(|set| numbers(draft, set)).collect();
        let new_numbers = new
            .as_deref()
            .map_or(Set { replicas: 0, available: 0, max_replicas: 0 }, |set| numbers(draft, set));
        let size = rollout::new_size(self.spec.replicas, self.bounds, new_numbers, &old_numbers);
        let key = self.new_set(draft, new, digest, needs, size);
        self.scale(draft, &key, size);
        let new_numbers = Set { replicas: size, ..new_numbers };
        let sizes = rollout::old_sizes(self.spec.replicas, self.bounds, new_numbers, &old_numbers);
        for (set, size) in old.iter().zip(sizes) {
            self.scale(draft, &set.key, size);
        }
    }

    /// The revision of this template: found, brought back under a new number, or made.
    fn new_set(
        &self,
        draft: &mut Draft<'_>,
        found: Option<Arc<ReplicaSet>>,
        digest: &Digest,
        needs: &Needs,
        size: u32,
    ) -> ObjectKey {
        let highest = self.sets(draft).iter().map(|set| set.revision).max().unwrap_or(0);
        let state = self.state(draft);
        let highest = highest.max(state.revision);
        match found {
            Some(set) if set.revision == highest => set.key.clone(),
            Some(set) => self.bring_back(draft, &set, highest + 1),
            None => self.make_set(draft, digest, needs, highest + 1, size, state.collisions),
        }
    }

    fn bring_back(&self, draft: &mut Draft<'_>, set: &ReplicaSet, revision: u64) -> ObjectKey {
        let mut renumbered = ReplicaSet { revision, ..set.clone() };
        renumbered.revision_history.push(set.revision);
        let beyond = renumbered.revision_history.len().saturating_sub(MAX_EARLIER_NUMBERS);
        renumbered.revision_history.drain(..beyond);
        let words = Said {
            detail: format!("revision {} is revision {revision} again", set.revision),
            ..said(Verb::Update, &set.key)
        };
        let effects = vec![
            Effect::Put(set.key.clone(), Record::ReplicaSet(Arc::new(renumbered))),
            self.revision_effect(draft, revision),
        ];
        draft.step(words, self.reasons(draft), effects);
        set.key.clone()
    }

    fn make_set(
        &self,
        draft: &mut Draft<'_>,
        digest: &Digest,
        needs: &Needs,
        revision: u64,
        size: u32,
        collisions: u64,
    ) -> ObjectKey {
        let hash = names::revision_hash(digest, collisions);
        let name = names::owned_name(self.key, &hash);
        let key = self.key.sibling(Kind::ReplicaSet, &name);
        let set = ReplicaSet {
            key: key.clone(),
            uid: names::owned_uid(&self.applied.uid, &name),
            owner: self.key.clone(),
            created: draft.now,
            template: Arc::clone(&self.spec.template),
            revision_digest: digest.clone(),
            hash,
            configs: needs.configs.clone(),
            revision,
            revision_history: Vec::new(),
            replicas: size,
            desired: self.spec.replicas,
            max_replicas: self.spec.replicas.saturating_add(self.bounds.surge),
            min_ready_seconds: self.spec.min_ready_seconds,
            counter: 0,
            status: ReplicaStatus::default(),
        };
        let words = Said { detail: format!("revision {revision}"), ..said(Verb::Create, &key) };
        let effects = vec![
            Effect::Put(key.clone(), Record::ReplicaSet(Arc::new(set))),
            self.revision_effect(draft, revision),
        ];
        let rolled_by = needs.reasons_to_roll(&draft.world, self.key, &self.spec.template);
        let reasons = if rolled_by.is_empty() { self.reasons(draft) } else { rolled_by };
        draft.step(words, reasons, effects);
        key
    }

    fn revision_effect(&self, draft: &Draft<'_>, revision: u64) -> Effect {
        let old = self.state(draft);
        let state = DeploymentState { revision, progressed: draft.now, rolled_out: false, ..old };
        Effect::Put(self.key.clone(), Record::Deployment(Arc::new(state)))
    }

    /// Scales a revision; what only its marks need is not a step.
    fn scale(&self, draft: &mut Draft<'_>, key: &ObjectKey, size: u32) {
        let Some(set) = draft.world.replica_sets.get(key).map(|row| Arc::clone(&row.value)) else {
            return;
        };
        let scaled = ReplicaSet {
            replicas: size,
            desired: self.spec.replicas,
            max_replicas: self.spec.replicas.saturating_add(self.bounds.surge),
            min_ready_seconds: self.spec.min_ready_seconds,
            ..(*set).clone()
        };
        if scaled == *set {
            return;
        }
        let record = Record::ReplicaSet(Arc::new(scaled));
        if set.replicas == size {
            draft.note(key, record);
            return;
        }
        let words =
            Said { detail: format!("{} → {size}", set.replicas), ..said(Verb::Scale, key) };
        draft.step(words, self.reasons(draft), vec![Effect::Put(key.clone(), record)]);
    }

    /// Brings every revision's pods to its number.
    fn settle(&self, draft: &mut Draft<'_>) {
        for set in self.sets(draft) {
            let mut reasons = Vec::new();
            if self.sets(draft).iter().filter(|set| set.replicas > 0).count() > 1 {
                let revision = self.state(draft).revision;
                reasons.push(Reason::Rollout { deployment: self.key.clone(), revision });
            }
            reasons.extend(self.reasons(draft));
            replicas::plan_set(draft, &set.key, &reasons);
        }
    }

    fn reasons(&self, draft: &Draft<'_>) -> Vec<Reason> {
        let last = config::last_change(&draft.world, self.applied, &self.spec.template);
        self.scaled.iter().cloned().chain(last).collect()
    }

    fn state(&self, draft: &Draft<'_>) -> DeploymentState {
        draft.world.deployments.get(self.key).map(|row| (*row.value).clone()).unwrap_or_default()
    }

    /// Old revisions beyond the limit are forgotten, once they have no pods.
    fn forget_history(&self, draft: &mut Draft<'_>, digest: &Digest) {
        let mut idle = self.old_sets(draft, digest);
        idle.retain(|set| set.replicas == 0 && draft.world.pods_of(&set.key).next().is_none());
        let limit = self.spec.revision_history_limit as usize;
        let beyond = idle.len().saturating_sub(limit);
        for set in &idle[..beyond] {
            let what = format!("revisionHistoryLimit {limit}");
            let gone = [Table::ReplicaSet, Table::Events];
            let effects = gone.map(|table| Effect::Remove(set.key.clone(), table)).to_vec();
            draft.step(said(Verb::Delete, &set.key), vec![Reason::Limit { what }], effects);
        }
    }

    /// Counts, progress and deadline; and what the rollout waits for.
    fn note_state(&self, draft: &mut Draft<'_>, wanted: Option<&Digest>) {
        let sets = self.sets(draft);
        let newest = match wanted.filter(|_| self.spec.paused) {
            // It is not made before the pause ends.
            Some(wanted) => sets.iter().find(|set| set.revision_digest == *wanted),
            None => sets.last(),
        };
        let newest = newest.map(|set| set.key.clone());
        let (mut status, mut new_available) = (ReplicaStatus::default(), 0);
        for set in &sets {
            let counts = replicas::count(&draft.world, set, draft.now);
            status.replicas += counts.replicas;
            status.ready += counts.ready;
            status.available += counts.available;
            if newest.as_ref() == Some(&set.key) {
                (status.updated, new_available) = (counts.replicas, counts.available);
            }
            if let Some(at) = replicas::next_available(&draft.world, set, draft.now) {
                draft.wake(self.key, at);
            }
        }
        let old = self.state(draft);
        let complete = is_complete(self.spec.replicas, status);
        let state = self.progressed(draft, old.clone(), status, complete);
        if !complete && !self.spec.paused {
            self.wait_for_rollout(draft, new_available, &state);
        }
        if state != old {
            draft.note(self.key, Record::Deployment(Arc::new(state)));
        }
    }

    fn progressed(
        &self,
        draft: &Draft<'_>,
        old: DeploymentState,
        status: ReplicaStatus,
        complete: bool,
    ) -> DeploymentState {
        let was = old.status;
        let changed = old.observed_generation != self.applied.generation;
        let old_pods = |status: ReplicaStatus| status.replicas.saturating_sub(status.updated);
        let ahead = changed
            || status.updated > was.updated
            || old_pods(status) < old_pods(was)
            || status.ready > was.ready
            || status.available > was.available;
        // Source: `DeploymentComplete` and `syncRolloutStatus` in pkg/controller/deployment.
        let rolled_out = complete || (old.rolled_out && status.replicas == status.updated);
        let fell_back = rolled_out && !complete && is_complete(self.spec.replicas, was);
        let progressed = if ahead || fell_back { draft.now } else { old.progressed };
        let deadline = progressed.after(self.deadline());
        let enough = status.available >= self.spec.least_available();
        let availability = old.availability.filter(|before| before.enough == enough);
        DeploymentState {
            observed_generation: self.applied.generation,
            status,
            progressed,
            deadline_exceeded: !rolled_out && !self.spec.paused && deadline <= draft.now,
            rolled_out,
            availability: availability.or(Some(Availability { enough, since: draft.now })),
            ..old
        }
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(u64::from(self.spec.progress_deadline_seconds))
    }

    fn wait_for_rollout(&self, draft: &mut Draft<'_>, new_available: u32, state: &DeploymentState) {
        let status = state.status;
        let deadline = state.progressed.after(self.deadline());
        let late = deadline <= draft.now;
        let of_what = if state.rolled_out { "pods" } else { "pods of the new revision" };
        let consequence = match (state.rolled_out, status.replicas > status.updated) {
            (true, _) => "its reconcile ends without it; it is still being tried",
            (false, true) => "ProgressDeadlineExceeded; the old revision keeps serving",
            (false, false) => "ProgressDeadlineExceeded; it is still being tried",
        };
        let missing = self.spec.replicas.saturating_sub(new_available);
        draft.wait(Waiting {
            object: self.key.clone(),
            for_what: format!("{missing} of {} {of_what} to be available", self.spec.replicas),
            kind: if late { WaitKind::Blocked } else { WaitKind::Progress },
            deadline: Some(deadline),
            consequence: consequence.to_owned(),
            unplaced: None,
        });
        if !late {
            draft.wake(self.key, deadline);
        }
    }
}

/// updated = total = available = replicas.
pub fn is_complete(replicas: u32, status: ReplicaStatus) -> bool {
    [status.updated, status.replicas, status.available].iter().all(|count| *count == replicas)
}

/// Counted afresh: what is recorded is from before whatever set this tick off.
fn numbers(draft: &Draft<'_>, set: &ReplicaSet) -> Set {
    Set {
        replicas: set.replicas,
        available: replicas::count(&draft.world, set, draft.now).available,
        max_replicas: set.max_replicas,
    }
}

/// A ReplicaSet with a manifest of its own: a set, and nothing that rolls it.
pub fn plan_replica_set(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::ReplicaSet(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let needs = match needs(&draft.world, key, &spec.template, &applied.resource) {
        Ok(needs) => needs,
        Err(why) => {
            draft.blocked(key, why, "its pods stay as they are");
            replicas::plan_set(draft, key, &[commit_reason(&applied)]);
            return wait_for_set(draft, key);
        }
    };
    if draft.world.replica_sets.get(key).is_none() && depends::held(draft, key, &applied.resource) {
        return;
    }
    let digest = revision_digest(&draft.world, &spec.template, &needs);
    refresh::pods(draft, key, &digest, &needs);
    let old = draft.world.replica_sets.get(key).map(|row| Arc::clone(&row.value));
    let wanted = draft.world.replicas_of(key, spec.replicas);
    let set = ReplicaSet {
        key: key.clone(),
        uid: applied.uid.clone(),
        owner: key.clone(),
        created: applied.created,
        template: Arc::clone(&spec.template),
        revision_digest: digest,
        hash: String::new(),
        configs: needs.configs,
        revision: 1,
        revision_history: Vec::new(),
        replicas: wanted,
        desired: wanted,
        max_replicas: wanted,
        min_ready_seconds: spec.min_ready_seconds,
        counter: old.as_ref().map_or(0, |old| old.counter),
        status: old.as_ref().map(|old| old.status).unwrap_or_default(),
    };
    if old.as_deref() != Some(&set) {
        draft.note(key, Record::ReplicaSet(Arc::new(set)));
    }
    let scaled = autoscaler::reason(&draft.world, key);
    let reasons: Vec<Reason> = scaled.into_iter().chain([commit_reason(&applied)]).collect();
    replicas::plan_set(draft, key, &reasons);
    wait_for_set(draft, key);
}

fn wait_for_set(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(set) = draft.world.replica_sets.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    if let Some(at) = replicas::next_available(&draft.world, &set, draft.now) {
        draft.wake(key, at);
    }
    let newest = replicas::pods_of(&draft.world, key).into_iter().max_by_key(|pod| pod.created);
    if let Some(newest) = newest.filter(|_| set.status.ready < set.replicas) {
        let missing = set.replicas - set.status.ready;
        let what = format!("{missing} of {} pods to be ready", set.replicas);
        pods::wait_for_pods(draft, key, what, &newest);
    }
}

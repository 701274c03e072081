//! What a commit will lead to: the tick, again and again, over a World in which everything that
//! was started becomes ready and everything that was stopped goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kgit_protocol::observation::{PodObservation, PodPhase};
use kgit_protocol::pod::RestartPolicy;
use kgit_protocol::time::Timestamp;

use crate::domain::desired::Desired;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Dirty, Said, Step, Verb, WaitKind, Waiting};
use crate::domain::record::Pod;
use crate::domain::world::{Effect, Record, World};
use crate::plan::{depends, replicas, tick};

/// Rounds of a forecast. A rolling update one pod at a time needs two for each pod.
const MAX_ROUNDS: usize = 20_000;
/// A workload's pods are counted each time so many more were made. Those of one that gets anywhere are made
/// once each, or twice.
const MADE_UNTIL_COUNTED: usize = 32;
const MADE_FOR_EACH: usize = 3;

#[derive(Debug)]
pub struct Forecast {
    /// The World at the end of it.
    pub world: World,
    /// In order. The stages of one object's scaling are one step.
    pub steps: Vec<Step>,
    /// What is still waited for at the end: these need somebody to do something.
    pub waits: Vec<Waiting>,
}

/// The forecast of everything.
pub fn forecast(world: &World, desired: &Desired, now: Timestamp) -> Forecast {
    forecast_of(world, desired, Dirty::everything(world, desired), now)
}

/// The forecast of what is dirty, and of what that touches.
pub fn forecast_of(world: &World, desired: &Desired, dirty: Dirty, now: Timestamp) -> Forecast {
    let mut run = Run::new(world.clone(), now);
    run.unsettled.extend(pods_about(world, &dirty));
    run.go(desired, dirty);
    Forecast {
        world: run.world,
        steps: joined(run.steps),
        waits: run.waits.into_values().flatten().collect(),
    }
}

struct Run {
    world: World,
    now: Timestamp,
    /// Pods whose fate is still open.
    unsettled: BTreeSet<ObjectKey>,
    waits: BTreeMap<ObjectKey, Vec<Waiting>>,
    wakes: BTreeMap<ObjectKey, Option<Timestamp>>,
    steps: Vec<Step>,
    /// How many pods were made for each owner.
    made: BTreeMap<ObjectKey, usize>,
    /// Owners for which many were.
    suspects: Vec<ObjectKey>,
}

impl Run {
    fn new(world: World, now: Timestamp) -> Self {
        Self {
            world,
            now,
            unsettled: BTreeSet::new(),
            waits: BTreeMap::new(),
            wakes: BTreeMap::new(),
            steps: Vec::new(),
            made: BTreeMap::new(),
            suspects: Vec::new(),
        }
    }

    fn go(&mut self, desired: &Desired, mut dirty: Dirty) {
        let began = self.now;
        for _ in 0..MAX_ROUNDS {
            let plan = tick(&self.world, desired, &dirty, self.now);
            for effect in &plan.effects {
                self.watch(effect);
                self.world.apply(effect, self.world.version + 1);
            }
            let is_foretold = |key: &ObjectKey| self.now == began || !goes_by_the_clock(key);
            self.waits.extend(plan.waits.into_iter().filter(|(key, _)| is_foretold(key)));
            self.wakes.extend(plan.wakes);
            self.steps.extend(plan.steps);
            dirty = Dirty { objects: self.pretend(), ..Dirty::default() };
            if dirty.is_empty() {
                dirty.objects = self.wake();
            }
            if dirty.is_empty() {
                return;
            }
            if let Some(owner) = self.goes_round() {
                return self.give_up(owner);
            }
        }
    }

    fn watch(&mut self, effect: &Effect) {
        if let Effect::Put(key, Record::Pod(pod)) = effect {
            self.unsettled.insert(key.clone());
            if !self.world.pods.contains_key(key) {
                let made = self.made.entry(pod.owner.clone()).or_default();
                *made += 1;
                if made.is_multiple_of(MADE_UNTIL_COUNTED) {
                    self.suspects.push(pod.owner.clone());
                }
            }
        }
    }

    /// A workload whose pods are made again and again: what comes next is more of the same.
    fn goes_round(&mut self) -> Option<ObjectKey> {
        let suspects = std::mem::take(&mut self.suspects);
        suspects.into_iter().find(|owner| {
            let there = self.world.pods_of(owner).count().max(1);
            self.made.get(owner).is_some_and(|made| *made > MADE_FOR_EACH * there)
        })
    }

    fn give_up(&mut self, owner: ObjectKey) {
        let wait = Waiting {
            for_what: "its pods to stay: they are made and told to end again and again".to_owned(),
            object: owner.clone(),
            kind: WaitKind::Blocked,
            deadline: None,
            consequence: "what else is to come can't be foretold".to_owned(),
            unplaced: None,
        };
        self.waits.entry(owner).or_default().push(wait);
    }

    /// What was started becomes ready, what was stopped goes; gives the workloads concerned.
    fn pretend(&mut self) -> BTreeSet<ObjectKey> {
        let mut touched = BTreeSet::new();
        if let Some(sync) = self.world.meta.sync.as_ref().filter(|sync| sync.open) {
            let hooks = sync.hooks.iter().map(|run| run.hook.clone());
            let concerned = sync.touched.iter().cloned().chain(hooks);
            self.unsettled.extend(pods_of(&self.world, concerned));
        }
        for key in std::mem::take(&mut self.unsettled) {
            let Some(pod) = self.world.pods.get(&key).map(|row| Arc::clone(&row.value)) else {
                continue;
            };
            let Some(next) = self.next(&pod) else { continue };
            touched.insert(self.world.workload_of(&pod));
            let old = pod;
            let pod = Pod { observed: Some(Arc::new(next)), ..(*old).clone() };
            touched.extend(depends::woken(&self.world, Some(&old), Some(&pod)));
            let effect = Effect::Put(key, Record::Pod(Arc::new(pod)));
            self.world.apply(&effect, self.world.version);
        }
        touched
    }

    fn next(&self, pod: &Pod) -> Option<PodObservation> {
        let seen = pod.observed.as_deref();
        let (phase, ready) = match (pod.deletion, pod.phase()) {
            (Some(_), PodPhase::Gone) => return None,
            (Some(_), _) => (PodPhase::Gone, false),
            (None, PodPhase::Succeeded | PodPhase::Failed) => return None,
            (None, _) if pod.placed.is_none() => return None,
            (None, _) if pod.template.restart_policy != RestartPolicy::Always => {
                (PodPhase::Succeeded, false)
            }
            (None, PodPhase::Running) if seen.is_some_and(|seen| seen.ready) => return None,
            (None, _) => (PodPhase::Running, true),
        };
        Some(PodObservation {
            ready,
            ready_since: ready.then_some(self.now),
            started_at: seen.and_then(|seen| seen.started_at).or(Some(self.now)),
            drifts: seen.map(|seen| seen.drifts.clone()).unwrap_or_default(),
            silent_ports: seen.map(|seen| seen.silent_ports.clone()).unwrap_or_default(),
            ..PodObservation::bare(pod.uid.clone(), phase)
        })
    }

    /// Nothing moves by itself any more: goes on to the next moment at which something will, as
    /// long as something is expected to.
    fn wake(&mut self) -> BTreeSet<ObjectKey> {
        self.wakes.retain(|key, _| !goes_by_the_clock(key));
        let expected = |key: &ObjectKey| {
            let waits = self.waits.get(key).map(Vec::as_slice).unwrap_or_default();
            waits.iter().any(|waiting| waiting.kind == WaitKind::Progress)
        };
        let next = self.wakes.iter().filter(|(key, _)| expected(key)).filter_map(|(_, at)| *at);
        let Some(next) = next.filter(|at| *at > self.now).min() else { return BTreeSet::new() };
        self.now = next;
        let due = self.wakes.iter().filter(|(_, at)| at.is_some_and(|at| at <= next));
        due.map(|(key, _)| key.clone()).collect()
    }
}

/// The slots of CronJobs and the figures of autoscalers come for ever, whatever is waited for. What
/// they bring at a later time is no part of what is planned now.
fn goes_by_the_clock(key: &ObjectKey) -> bool {
    matches!(key.kind, Kind::CronJob | Kind::HorizontalPodAutoscaler)
}

/// The live pods of the workloads that are dirty.
fn pods_about(world: &World, dirty: &Dirty) -> Vec<ObjectKey> {
    pods_of(world, dirty.objects.iter().chain(&dirty.manifests).cloned())
}

fn pods_of(world: &World, objects: impl Iterator<Item = ObjectKey>) -> Vec<ObjectKey> {
    let mut pods = Vec::new();
    for key in objects {
        for owner in world.pod_owners(&key) {
            pods.extend(replicas::pods_of(world, &owner).iter().map(|pod| pod.key.clone()));
        }
    }
    pods
}

/// Joins the stages of one set's scaling, at the place of the first; those that cancel out go.
fn joined(steps: Vec<Step>) -> Vec<Step> {
    let mut first: BTreeMap<ObjectKey, usize> = BTreeMap::new();
    let mut out: Vec<Step> = Vec::new();
    for step in steps {
        let object = step.said.object.clone();
        let earlier = first.get(&object).copied();
        match (step.said.verb, earlier) {
            (Verb::Scale, Some(at)) => {
                let from = ends(&out[at].said).0.to_owned();
                let to = ends(&step.said).1.to_owned();
                out[at].said.detail = format!("{from} → {to}");
            }
            (Verb::Scale, None) => {
                first.insert(object, out.len());
                out.push(step);
            }
            _ => out.push(step),
        }
    }
    out.retain(|step| step.said.verb != Verb::Scale || ends(&step.said).0 != ends(&step.said).1);
    out
}

fn ends(said: &Said) -> (&str, &str) {
    said.detail.split_once(" → ").unwrap_or(("", &said.detail))
}

#[cfg(test)]
mod tests {
    use kgit_protocol::ids::ClusterId;

    use super::*;
    use crate::plan::scheduler::tests::pod;

    /// Whether so many new pods of one owner are too many, of which so many stayed.
    fn goes_round(made: usize, stayed: usize) -> bool {
        let world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
        let mut run = Run::new(world, Timestamp(0));
        let owner = ObjectKey::new(Kind::ReplicaSet, "default", "web");
        for number in 0..made {
            let pod =
                Pod { owner: owner.clone(), ..pod(Some("a"), &format!("default/p{number}"), "") };
            let effect = Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod)));
            run.watch(&effect);
            // What is written again is not made again.
            if number < stayed {
                run.world.apply(&effect, 1);
                run.watch(&effect);
            }
        }
        run.goes_round().is_some()
    }

    #[test]
    fn pods_that_are_made_again_and_again_are_noticed() {
        assert!(!goes_round(31, 1));
        assert!(goes_round(32, 0));
        assert!(goes_round(32, 10));
        assert!(!goes_round(32, 11));
        assert!(!goes_round(320, 320));
    }
}

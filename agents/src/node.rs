//! The agent's core: everything it knows, and one synchronous step from what it sees to what it
//! does. No clock, no engine, no network: the worker and simulations drive it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kgit_protocol::assignment::{AssignmentSet, PodAssignment, Stamp};
use kgit_protocol::ids::PodUid;
use kgit_protocol::messages::Orders;
use kgit_protocol::observation::{ContainerState, PodEvent, PodObservation, PodPhase};
use kgit_protocol::time::Timestamp;

use crate::decide::facts::PodFacts;
use crate::decide::outcome::{Note, fold};
use crate::decide::probing::ProbeTarget;
use crate::decide::{Input, Outage, Step, decide, take_down};
use crate::runtime::{Seen, View};
use crate::spec::{SpecKey, hashes};

/// Events kept for the next report. More in one go is a storm, of which the newest matter.
const MAX_EVENTS: usize = 1000;

/// What the agent knows.
#[derive(Debug)]
pub struct Node {
    key: SpecKey,
    set: Option<AssignmentSet>,
    /// Pods of earlier sets that the master has lost and wants left alone: they go on.
    kept: BTreeMap<PodUid, PodAssignment>,
    hashes: BTreeMap<PodUid, BTreeMap<String, String>>,
    facts: BTreeMap<PodUid, PodFacts>,
    /// Pods whose steps are being carried out; they are not decided about meanwhile.
    busy: BTreeSet<PodUid>,
    reported: BTreeMap<PodUid, PodObservation>,
    /// Pods that services lead to.
    served: BTreeSet<PodUid>,
    events: Vec<PodEvent>,
    /// For how long the master gave no answer; `None`: it gave none since the host started.
    cut_off: Option<Duration>,
}

/// What became of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    Unchanged,
    /// These pods are new or different, or no longer there.
    Applied(BTreeSet<PodUid>),
    /// A delta for another base: the whole set is needed.
    NeedWhole,
    /// Older than what is being carried out: refused.
    Stale,
}

/// What one look led to.
#[derive(Clone, Debug, Default)]
pub struct Round {
    pub work: Vec<(PodUid, Vec<Step>)>,
    /// Observations that differ from the last ones.
    pub observations: Vec<PodObservation>,
    pub events: Vec<PodEvent>,
    /// All probes that are to be running now.
    pub probes: Vec<(PodUid, ProbeTarget)>,
    pub wake: Option<Timestamp>,
}

impl Node {
    /// Goes on from what the journal has.
    pub fn new(
        key: SpecKey,
        set: Option<AssignmentSet>,
        mut facts: BTreeMap<PodUid, PodFacts>,
    ) -> Self {
        facts.values_mut().for_each(PodFacts::forget_in_flight);
        let mut node = Self {
            key,
            set: None,
            kept: BTreeMap::new(),
            hashes: BTreeMap::new(),
            facts,
            busy: BTreeSet::new(),
            reported: BTreeMap::new(),
            served: BTreeSet::new(),
            events: Vec::new(),
            cut_off: Some(Duration::ZERO),
        };
        if let Some(set) = set {
            node.apply(set);
        }
        node
    }

    pub fn stamp(&self) -> Option<&Stamp> {
        self.set.as_ref().map(|set| &set.stamp)
    }

    pub fn set(&self) -> Option<&AssignmentSet> {
        self.set.as_ref()
    }

    pub fn pod(&self, uid: &PodUid) -> Option<&PodAssignment> {
        let ordered = self.set.as_ref().and_then(|set| set.pods.get(uid));
        ordered.or_else(|| self.kept.get(uid))
    }

    /// Pods that go on though the set lacks them, by the master's own wish.
    pub fn kept(&self) -> &BTreeMap<PodUid, PodAssignment> {
        &self.kept
    }

    /// Goes on with pods that were kept before the agent restarted. What the set has is as the set says: it
    /// may be newer.
    pub fn keep(&mut self, kept: BTreeMap<PodUid, PodAssignment>) {
        for (uid, pod) in kept {
            if self.set.as_ref().is_some_and(|set| set.pods.contains_key(&uid)) {
                continue;
            }
            self.hashes.insert(uid.clone(), hashes(&self.key, &pod));
            self.kept.insert(uid, pod);
        }
    }

    pub fn facts(&self) -> &BTreeMap<PodUid, PodFacts> {
        &self.facts
    }

    pub fn hash(&self, uid: &PodUid, container: &str) -> String {
        let of_pod = self.hashes.get(uid);
        of_pod.and_then(|hashes| hashes.get(container)).cloned().unwrap_or_default()
    }

    pub fn is_busy(&self, uid: &PodUid) -> bool {
        self.busy.contains(uid)
    }

    pub fn busy_count(&self) -> usize {
        self.busy.len()
    }

    /// Takes new orders.
    pub fn take(&mut self, orders: Orders) -> Taken {
        let next = match orders {
            Orders::Unchanged => return Taken::Unchanged,
            Orders::Set(set) if set.content_digest() != set.stamp.digest => {
                return Taken::NeedWhole;
            }
            Orders::Set(set) => set,
            Orders::Delta(delta) => match self.set.as_ref().and_then(|set| set.apply(&delta)) {
                Some(set) => set,
                None => return Taken::NeedWhole,
            },
        };
        if let Some(have) = self.stamp() {
            let (old, new) = (place(have), place(&next.stamp));
            if new < old {
                return Taken::Stale;
            }
            if *have == next.stamp {
                return Taken::Unchanged;
            }
        }
        Taken::Applied(self.apply(next))
    }

    fn apply(&mut self, next: AssignmentSet) -> BTreeSet<PodUid> {
        let empty = BTreeMap::new();
        let before = self.set.as_ref().map_or(&empty, |set| &set.pods);
        let mut changed: BTreeSet<PodUid> = next
            .pods
            .iter()
            .filter(|(uid, pod)| before.get(*uid) != Some(*pod))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &changed {
            self.hashes.insert(uid.clone(), hashes(&self.key, &next.pods[uid]));
        }
        let known = |uid: &PodUid| before.contains_key(uid);
        // Who orders it for the first time may not know what was told of it.
        self.reported.retain(|uid, _| known(uid) || !next.pods.contains_key(uid));
        changed.extend(before.keys().filter(|uid| !next.pods.contains_key(*uid)).cloned());
        if next.keep_others {
            let lost = before.iter().filter(|(uid, _)| !next.pods.contains_key(*uid));
            self.kept.extend(lost.map(|(uid, pod)| (uid.clone(), pod.clone())));
            self.kept.retain(|uid, _| !next.pods.contains_key(uid));
        } else {
            self.kept.clear();
        }
        let kept = &self.kept;
        self.hashes.retain(|uid, _| next.pods.contains_key(uid) || kept.contains_key(uid));
        self.set = Some(next);
        changed
    }

    /// Says for how long the master gave no answer, counted from when it was asked; `None`: it
    /// gave none since the host started.
    pub fn cut_off_for(&mut self, duration: Option<Duration>) {
        self.cut_off = duration;
    }

    /// Whether any pod is to be stopped when the node is cut off for long enough.
    pub fn may_be_fenced(&self) -> bool {
        let mut pods = self.set.iter().flat_map(|set| set.pods.values());
        pods.any(|pod| pod.spec.fence_after_seconds.is_some())
    }

    /// The pods that services lead to: they are drained before they are stopped.
    pub fn serve(&mut self, served: BTreeSet<PodUid>) {
        self.served = served;
    }

    /// Something happened to a pod.
    pub fn note(&mut self, uid: &PodUid, note: Note, now: Timestamp) {
        let Some(facts) = self.facts.get_mut(uid) else { return };
        let ordered = self.set.as_ref().and_then(|set| set.pods.get(uid));
        let spec = ordered.or_else(|| self.kept.get(uid)).map(|pod| &pod.spec);
        fold(uid, spec, facts, note, now, &mut self.events);
        let excess = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..excess);
    }

    /// Not all of a pod's steps were carried out: what follows a failure is dropped.
    pub fn failed(&mut self, uid: &PodUid) {
        if let Some(facts) = self.facts.get_mut(uid) {
            facts.forget_signals();
        }
    }

    /// A pod's steps are over, well or not.
    pub fn finish(&mut self, uid: &PodUid) {
        self.busy.remove(uid);
    }

    /// Decides about every pod that is not busy. Pods with steps in the round are busy until
    /// [`Node::finish`]. The facts must be durable before any step is carried out.
    pub fn decide(&mut self, view: &View, outage: Option<Outage>, now: Timestamp) -> Round {
        let mut round = Round { events: std::mem::take(&mut self.events), ..Round::default() };
        if self.set.is_none() {
            // Never told what to run: nothing is to be removed either.
            return round;
        }
        let mut by_pod: BTreeMap<&PodUid, Vec<&Seen>> = BTreeMap::new();
        for seen in &view.containers {
            by_pod.entry(&seen.identity.pod).or_default().push(seen);
        }
        for uid in self.pods_to_decide(&by_pod) {
            let seen = by_pod.get(&uid).map_or(&[][..], Vec::as_slice);
            self.decide_pod(&uid, seen, outage, now, &mut round);
        }
        round
    }

    fn pods_to_decide(&self, by_pod: &BTreeMap<&PodUid, Vec<&Seen>>) -> BTreeSet<PodUid> {
        let assigned = self.set.iter().flat_map(|set| set.pods.keys());
        assigned.chain(self.facts.keys()).chain(by_pod.keys().copied()).cloned().collect()
    }

    fn decide_pod(
        &mut self,
        uid: &PodUid,
        seen: &[&Seen],
        outage: Option<Outage>,
        now: Timestamp,
        round: &mut Round,
    ) {
        let none = BTreeMap::new();
        let ordered = self.set.as_ref().and_then(|set| set.pods.get(uid));
        let assignment = ordered.or_else(|| self.kept.get(uid));
        if assignment.is_none() && self.set.as_ref().is_some_and(|set| set.keep_others) {
            return self.tell_of_stranger(uid, seen, round);
        }
        let hashes = self.hashes.get(uid).unwrap_or(&none);
        let facts = self.facts.entry(uid.clone()).or_default();
        if self.busy.contains(uid) {
            let targets = crate::decide::probing::targets(assignment, facts);
            round.probes.extend(targets.into_iter().map(|target| (uid.clone(), target)));
            return;
        }
        let served = self.served.contains(uid);
        let cut_off = self.cut_off;
        let input = Input { uid, assignment, hashes, seen, served, outage, cut_off, now };
        let decision = decide(input, facts);
        let over = assignment.is_none() && facts.gone && decision.steps.is_empty();
        round.events.extend(decision.events);
        round.probes.extend(decision.probes.into_iter().map(|target| (uid.clone(), target)));
        round.wake = [round.wake, decision.wake].into_iter().flatten().min();
        if !decision.steps.is_empty() {
            self.busy.insert(uid.clone());
            round.work.push((uid.clone(), decision.steps));
        }
        if self.reported.get(uid) != Some(&decision.observation) {
            self.reported.insert(uid.clone(), decision.observation.clone());
            round.observations.push(decision.observation);
        }
        if over {
            self.facts.remove(uid);
            self.reported.remove(uid);
        }
    }

    /// A pod that nobody here has orders for, and that is to be left alone, is there all the same.
    fn tell_of_stranger(&mut self, uid: &PodUid, seen: &[&Seen], round: &mut Round) {
        if seen.iter().any(|seen| seen.state.is_alive()) && !self.reported.contains_key(uid) {
            let observation = PodObservation::bare(uid.clone(), PodPhase::Unknown);
            self.reported.insert(uid.clone(), observation.clone());
            round.observations.push(observation);
        }
    }

    /// Everything that `view` shows running is about to be stopped on purpose. What has ended
    /// by itself meanwhile is noted first: a finished job must not run again.
    pub fn take_down(&mut self, view: &View, now: Timestamp) {
        let all: Vec<PodUid> = self.facts.keys().cloned().collect();
        for uid in all {
            let seen: Vec<&Seen> =
                view.containers.iter().filter(|seen| seen.identity.pod == uid).collect();
            let ordered = self.set.as_ref().and_then(|set| set.pods.get(&uid));
            let assignment = ordered.or_else(|| self.kept.get(&uid));
            let none = BTreeMap::new();
            let hashes = self.hashes.get(&uid).unwrap_or(&none);
            let served = false;
            let (outage, cut_off) = (None, self.cut_off);
            let input =
                Input { uid: &uid, assignment, hashes, seen: &seen, served, outage, cut_off, now };
            if let Some(facts) = self.facts.get_mut(&uid) {
                take_down(input, facts);
            }
        }
    }

    /// Every pod as it was last seen, for a complete report.
    pub fn observations(&self) -> Vec<PodObservation> {
        self.reported.values().cloned().collect()
    }

    /// The engine does not answer: nothing is known of any pod that is not gone.
    pub fn unknown(&mut self) -> Vec<PodObservation> {
        let mut changed = Vec::new();
        for observation in self.reported.values_mut() {
            if matches!(observation.phase, PodPhase::Gone | PodPhase::Unknown) {
                continue;
            }
            observation.phase = PodPhase::Unknown;
            observation.reason = Some("EngineUnreachable".to_owned());
            observation.ready = false;
            let all = observation.init_containers.iter_mut().chain(&mut observation.containers);
            for container in all {
                container.state = ContainerState::Unknown;
                container.ready = false;
            }
            changed.push(observation.clone());
        }
        changed
    }
}

fn place(stamp: &Stamp) -> (u64, u64) {
    (stamp.epoch.0, stamp.generation.0)
}

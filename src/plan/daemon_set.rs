//! DaemonSets: one pod on every node that can take it.
//!
//! When an old pod is replaced is decided in `daemon_rolling`. A node that is not heard of takes no
//! part in any of this until it is: its pod stays as it is, and holds up no other node.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::ids::NodeName;
use kgit_protocol::observation::PodPhase;
use kgit_protocol::time::Timestamp;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::Node;
use crate::domain::plan::{Reason, WaitKind, Waiting};
use crate::domain::record::{Applied, DaemonSetState, Failures, Pod, Revision};
use crate::domain::resource::Spec;
use crate::domain::selector::Labels;
use crate::domain::template::{PodTemplate, Toleration};
use crate::domain::workload::DaemonSetSpec;
use crate::domain::world::{Effect, Record, node_key};
use crate::plan::config::{self, needs, revision_digest};
use crate::plan::daemon_rolling::{self, Act, Bounds, Spot, State};
use crate::plan::draft::{Draft, commit_reason};
use crate::plan::pods::{self, NewPod};
use crate::plan::replicas::{end_of, pods_of, refused};
use crate::plan::revisions::{self, HASH_LABEL, Owner};
use crate::plan::{depends, evict, names, refresh, scheduler};

/// The delay after a failed pod was cleared away, doubled with each further one. Source:
/// `failedPodsBackoff` of `daemon_controller.go`.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// After so long without a failure they are counted anew. Source: `flowcontrol.Backoff`.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * 15 * 60);

/// What every pod of a DaemonSet tolerates. Source: `AddOrUpdateDaemonPodTolerations`.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The same, on the host's network alone.
const TOLERATED_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

pub fn plan_daemon_set(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::DaemonSet(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let template = Arc::new(own_template(&spec.template));
    let state = draft.world.daemon_sets.get(key).map(|row| (*row.value).clone());
    let state = state.unwrap_or_default();
    Set { key, applied: &applied, spec, template, state }.run(draft);
}

fn own_template(template: &PodTemplate) -> PodTemplate {
    let mut own = template.clone();
    let on_host = template.network.host_network.then_some(TOLERATED_ON_HOST);
    for (key, effect) in TOLERATED.into_iter().chain(on_host) {
        own.placement.tolerations.push(Toleration {
            key: key.to_owned(),
            value: None,
            effect: Some(effect.to_owned()),
            seconds: None,
        });
    }
    own
}

struct Set<'a> {
    key: &'a ObjectKey,
    applied: &'a Applied,
    spec: &'a DaemonSetSpec,
    /// With what every pod of it tolerates.
    template: Arc<PodTemplate>,
    state: DaemonSetState,
}

/// A node that is to run a pod, and what it has.
struct Place {
    node: Arc<Node>,
    /// Oldest first; those that are on their way out too.
    pods: Vec<Arc<Pod>>,
}

impl Set<'_> {
    fn run(&mut self, draft: &mut Draft<'_>) {
        let before = self.state.clone();
        let all = pods_of(&draft.world, self.key);
        pods::follow(draft, self.key, &all);
        self.leave(draft);
        self.clear_ended(draft);
        evict::evict(draft, self.key, &pods_of(&draft.world, self.key));
        let update = self.update(draft);
        self.place(draft, update.as_deref());
        if let Some(update) = &update {
            self.settle(draft, update);
            self.roll(draft, update);
        }
        self.note_state(draft, update.as_deref(), &before);
    }

    fn last_change(&self, draft: &Draft<'_>) -> Vec<Reason> {
        config::last_change(&draft.world, self.applied, &self.spec.template)
    }

    fn owner(&self) -> Owner<'_> {
        let (key, applied, template) = (self.key, self.applied, &self.spec.template);
        Owner { key, applied, template, limit: self.spec.revision_history_limit }
    }

    /// The revision that pods are to have.
    fn update(&self, draft: &mut Draft<'_>) -> Option<Arc<Revision>> {
        let newest = revisions::all(&draft.world, self.key).pop();
        let resource = &self.applied.resource;
        let needs = match needs(&draft.world, self.key, &self.spec.template, resource) {
            Ok(needs) => needs,
            Err(why) => {
                draft.blocked(self.key, why, "the revision in force stays");
                return newest;
            }
        };
        let digest = revision_digest(&draft.world, &self.spec.template, &needs);
        refresh::pods(draft, self.key, &digest, &needs);
        let known = revisions::of_digest(&draft.world, self.key, &digest).is_some();
        if !known && depends::held(draft, self.key, resource) {
            return newest;
        }
        Some(revisions::wanted(draft, self.owner(), &digest, &needs))
    }

    fn is_eligible(&self, node: &Node) -> bool {
        scheduler::is_eligible(&self.template, node)
    }

    /// Pods leave nodes that are not to run one any more, or that are gone for good.
    fn leave(&self, draft: &mut Draft<'_>) {
        for pod in pods_of(&draft.world, self.key) {
            let Some(name) = pod.pinned.clone() else { continue };
            let node = draft.world.nodes.get(&node_key(&name));
            let what = match node {
                Some(node) if scheduler::may_stay(&self.template, node) => continue,
                Some(_) => "is not one that the pod may run on",
                None => "is not there any more",
            };
            let reason = Reason::Node { node: name, what: what.to_owned() };
            pods::stop(draft, &pod, vec![reason, commit_reason(self.applied)]);
        }
    }

    /// A pod that ended is replaced, after a delay that grows; one that its node refuses would be
    /// refused again, so it stays and is shown.
    fn clear_ended(&mut self, draft: &mut Draft<'_>) {
        for pod in pods_of(&draft.world, self.key) {
            let ended = pod.is_finished() && pod.deletion.is_none() && !refused(&pod);
            let (true, Some(node)) = (ended, pod.pinned.clone()) else { continue };
            let earlier = self.state.failures.get(&node).copied();
            let retry = earlier.map(|failures| failures.last.after(delay(failures.count)));
            if let Some(retry) = retry.filter(|retry| *retry > draft.now) {
                self.wait_for_retry(draft, &node, retry);
                continue;
            }
            if pod.phase() == PodPhase::Failed {
                let failures = failed_again(earlier, draft.now);
                self.state.failures.insert(node, failures);
            }
            let reason = Reason::PodEnded { pod: pod.key.clone(), reason: end_of(&pod) };
            pods::stop(draft, &pod, vec![reason]);
        }
        let nodes = draft.world.nodes.clone();
        self.state.failures.retain(|node, _| nodes.contains_key(&node_key(node)));
    }

    fn wait_for_retry(&self, draft: &mut Draft<'_>, node: &NodeName, retry: Timestamp) {
        draft.wait(Waiting {
            object: self.key.clone(),
            for_what: format!("the retry delay on node `{node}`, where its pods fail"),
            kind: WaitKind::Progress,
            deadline: Some(retry),
            consequence: "the next pod is started".to_owned(),
            unplaced: None,
        });
        draft.wake(self.key, retry);
    }

    fn place(&self, draft: &mut Draft<'_>, update: Option<&Revision>) {
        for pod in pods_of(&draft.world, self.key).iter().filter(|pod| pod.placed.is_none()) {
            let own = revisions::of_digest(&draft.world, self.key, &pod.revision_digest);
            if let Some(revision) = own.as_deref().or(update) {
                pods::place_pending(draft, pod, &revision.configs);
            }
        }
    }

    /// The nodes that are to run a pod and that are heard of.
    fn places(&self, draft: &Draft<'_>) -> Vec<Place> {
        let mut by_node: BTreeMap<NodeName, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods_of(&draft.world, self.key) {
            if let Some(node) = pod.pinned.clone() {
                by_node.entry(node).or_default().push(pod);
            }
        }
        let nodes = draft.world.nodes.values();
        let heard = nodes.filter(|node| is_heard(node) && self.is_eligible(node));
        heard
            .map(|row| {
                let mut pods = by_node.remove(&row.name).unwrap_or_default();
                pods.sort_by_key(|pod| (pod.created, pod.key.clone()));
                Place { node: Arc::clone(&row.value), pods }
            })
            .collect()
    }

    /// A pod for each node that has none, and no second one of the same revision.
    fn settle(&self, draft: &mut Draft<'_>, update: &Revision) {
        for place in self.places(draft) {
            if place.pods.is_empty() {
                let what = "has none of its pods".to_owned();
                let why = Reason::Node { node: place.node.name.clone(), what };
                self.make(draft, update, &place.node.name, why);
            }
            let is_new = |pod: &&Arc<Pod>| pod.revision_digest == update.revision_digest;
            let active: Vec<_> = place.pods.iter().filter(|pod| pod.is_active()).collect();
            let (mut new, mut old): (Vec<_>, Vec<_>) =
                active.into_iter().partition(|pod| is_new(pod));
            // The sort is stable: of two that serve, the older one stays.
            for pods in [&mut new, &mut old] {
                pods.sort_by_key(|pod| Reverse(self.rank(pod, draft.now)));
            }
            for extra in new.iter().skip(1).chain(old.iter().skip(1)) {
                let what = "has more than one of its pods".to_owned();
                let why = Reason::Node { node: place.node.name.clone(), what };
                pods::stop(draft, extra, vec![why]);
            }
        }
        self.wait_for_nodes(draft);
    }

    fn wait_for_nodes(&self, draft: &mut Draft<'_>) {
        let has_one = |node: &Node| {
            draft.world.pods_of(self.key).any(|pod| pod.pinned.as_ref() == Some(&node.name))
        };
        let nodes = draft.world.nodes.values();
        let lacking = nodes.filter(|it| self.is_eligible(it) && !is_heard(it) && !has_one(it));
        let for_what = |node: &Node| match (&node.fenced, node.heard) {
            (Some(_), Some(true)) => {
                format!("node `{}` to be uncordoned: it was fenced", node.name)
            }
            _ => format!("node `{}` to be heard of", node.name),
        };
        let waits: Vec<String> = lacking.map(|node| for_what(node)).collect();
        for for_what in waits {
            draft.blocked(self.key, for_what, "it runs no pod of this DaemonSet until then");
        }
    }

    fn roll(&self, draft: &mut Draft<'_>, update: &Revision) {
        let Some(bounds) = Bounds::of(self.spec.update, self.desired(draft)) else { return };
        let places = self.places(draft);
        let spots: Vec<Spot> = places.iter().map(|it| self.spot(draft, it, update)).collect();
        let number = update.number;
        let rollout = Reason::Rollout { deployment: self.key.clone(), revision: number };
        for act in daemon_rolling::next(bounds, &spots) {
            match act {
                Act::StartNew(index) => {
                    self.make(draft, update, &places[index].node.name, rollout.clone());
                }
                Act::StopOld(index) => {
                    let active = places[index].pods.iter().filter(|pod| pod.deletion.is_none());
                    let old = active.filter(|it| it.revision_digest != update.revision_digest);
                    for pod in old {
                        let mut reasons = vec![rollout.clone()];
                        reasons.extend(self.last_change(draft));
                        pods::stop(draft, pod, reasons);
                    }
                }
            }
        }
    }

    fn spot(&self, draft: &Draft<'_>, place: &Place, update: &Revision) -> Spot {
        let mut spot = Spot::default();
        for pod in &place.pods {
            let state = self.pod_state(pod, draft.now);
            let slot = match pod.revision_digest == update.revision_digest {
                true => &mut spot.new,
                false => &mut spot.old,
            };
            // One that ends says nothing beside one that runs.
            if slot.is_none_or(|other| other == State::Ending) {
                *slot = Some(state);
            }
        }
        spot
    }

    /// How much would be lost with a pod.
    fn rank(&self, pod: &Pod, now: Timestamp) -> u8 {
        match self.pod_state(pod, now) {
            State::Ending => 0,
            State::Unready => 1,
            State::Ready => 2,
            State::Available => 3,
        }
    }

    fn pod_state(&self, pod: &Pod, now: Timestamp) -> State {
        if pod.deletion.is_some() {
            State::Ending
        } else if pod.is_available(self.spec.min_ready_seconds, now) {
            State::Available
        } else if pod.is_ready() {
            State::Ready
        } else {
            State::Unready
        }
    }

    fn make(&self, draft: &mut Draft<'_>, update: &Revision, node: &NodeName, why: Reason) {
        let Some(owner) = draft.world.objects.get(self.key).map(|row| (*row.value).clone()) else {
            return;
        };
        let counter = owner.counter + 1;
        let name = names::pod_name(self.key, &owner.uid, counter);
        let counted = Applied { counter, ..owner.clone() };
        let template = match update.template == self.spec.template {
            true => Arc::clone(&self.template),
            // The revision in force, while what the new one needs is missing.
            false => Arc::new(own_template(&update.template)),
        };
        let new = NewPod {
            key: self.key.sibling(Kind::Pod, &name),
            owner: self.key.clone(),
            owner_uid: owner.uid,
            counter,
            extra_labels: Labels::from([(HASH_LABEL.to_owned(), update.hash.clone())]),
            template,
            revision_digest: update.revision_digest.clone(),
            index: None,
            pinned: Some(node.clone()),
        };
        let reasons = [vec![why], self.last_change(draft)].concat();
        let effect = Effect::Put(self.key.clone(), Record::Object(Arc::new(counted)));
        pods::create(draft, new, &update.configs, reasons, vec![effect]);
    }

    fn desired(&self, draft: &Draft<'_>) -> u32 {
        let nodes = draft.world.nodes.values();
        let eligible = nodes.filter(|node| self.is_eligible(node)).count();
        u32::try_from(eligible).unwrap_or(u32::MAX)
    }

    /// Source: `updateDaemonSetStatus`.
    fn note_state(
        &mut self,
        draft: &mut Draft<'_>,
        update: Option<&Revision>,
        before: &DaemonSetState,
    ) {
        self.count(draft, update);
        self.state.observed_generation = self.applied.generation;
        self.wait(draft);
        if self.state != *before || draft.world.daemon_sets.get(self.key).is_none() {
            let record = Record::DaemonSet(Arc::new(self.state.clone()));
            draft.note(self.key, record);
        }
        let used = update.map(|update| update.key.name.to_string()).unwrap_or_default();
        revisions::forget(draft, self.owner(), &[&used]);
    }

    fn count(&mut self, draft: &Draft<'_>, update: Option<&Revision>) {
        let state = &mut self.state;
        (state.desired, state.current, state.misscheduled) = (0, 0, 0);
        (state.updated, state.ready, state.available) = (0, 0, 0);
        let mut by_node: BTreeMap<Option<NodeName>, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in draft.world.pods_of(self.key).filter(|pod| pod.is_active()) {
            by_node.entry(pod.pinned.clone()).or_default().push(Arc::clone(&pod.value));
        }
        for node in draft.world.nodes.values() {
            let pods = by_node.remove(&Some(node.name.clone())).unwrap_or_default();
            if !scheduler::is_eligible(&self.template, node) {
                state.misscheduled += u32::from(!pods.is_empty());
                continue;
            }
            let any = |of: &dyn Fn(&Pod) -> bool| u32::from(pods.iter().any(|pod| of(pod)));
            let reachable = node.is_ready() != Some(false);
            state.desired += 1;
            state.current += u32::from(!pods.is_empty());
            state.updated += any(&|pod| {
                update.is_some_and(|update| update.revision_digest == pod.revision_digest)
            });
            state.ready += any(&|pod| reachable && pod.is_ready());
            let seconds = self.spec.min_ready_seconds;
            state.available += any(&|pod| reachable && pod.is_available(seconds, draft.now));
        }
    }

    fn wait(&self, draft: &mut Draft<'_>) {
        let pods = pods_of(&draft.world, self.key);
        let down = pods.iter().filter(|pod| {
            let is_there = pod.is_active() || (pod.deletion.is_none() && refused(pod));
            is_there && !pod.is_available(self.spec.min_ready_seconds, draft.now)
        });
        let (ready, unready): (Vec<_>, Vec<_>) = down.partition(|pod| pod.is_ready());
        let next = ready.iter().filter_map(|it| it.available_at(self.spec.min_ready_seconds)).min();
        if let Some(at) = next {
            draft.wait(Waiting {
                object: self.key.clone(),
                for_what: format!(
                    "{} pods to be ready for {} s",
                    ready.len(),
                    self.spec.min_ready_seconds
                ),
                kind: WaitKind::Progress,
                deadline: Some(at),
                consequence: "they count as available, and the others follow".to_owned(),
                unplaced: None,
            });
            draft.wake(self.key, at);
        }
        let placed = unready.iter().filter(|pod| pod.placed.is_some());
        if let Some(newest) = placed.max_by_key(|pod| (pod.created, pod.key.clone())) {
            let what = format!("{} of {} pods to be ready", unready.len(), self.state.desired);
            pods::wait_for_pods(draft, self.key, what, newest);
        }
    }
}

/// It has told what it can take, and is not lost.
fn is_heard(node: &Node) -> bool {
    node.is_ready() == Some(true) && node.observed.capacity.pods > 0 && node.fenced.is_none()
}

fn failed_again(earlier: Option<Failures>, now: Timestamp) -> Failures {
    let recent = earlier.filter(|failures| failures.last.after(FORGOTTEN_AFTER) > now);
    Failures { count: recent.map_or(0, |failures| failures.count).saturating_add(1), last: now }
}

fn delay(failures: u32) -> Duration {
    FIRST_DELAY.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_quarter_of_an_hour_and_is_forgotten_in_time() {
        let check = |failures, seconds| assert_eq!(delay(failures).as_secs(), seconds);
        check(1, 1);
        check(2, 2);
        check(5, 16);
        check(10, 512);
        check(11, 900);
        check(u32::MAX, 900);
        let at = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let twice = failed_again(Some(failed_again(None, at)), at);
        assert_eq!(twice.count, 2);
        assert_eq!(failed_again(Some(twice), at.after(FORGOTTEN_AFTER)).count, 1);
    }
}

//! What agents report, folded into the World. Pure; a report that says nothing new has no effect.

use std::collections::BTreeSet;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::Report;
use kgit_protocol::observation::{PodEvent, PodObservation, PodPhase};
use kgit_protocol::time::Timestamp;

use crate::domain::epoch;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::{Doubt, Node};
use crate::domain::record::{Event, EventLog, Pod};
use crate::domain::world::{Effect, Record, World, node_key};
use crate::plan::{depends, doubt, fence};

/// What a report comes to.
#[derive(Debug, Default)]
pub struct Folded {
    pub effects: Vec<Effect>,
    /// Objects to plan again.
    pub dirty: BTreeSet<ObjectKey>,
    /// In words, for the audit: what made a difference.
    pub said: Vec<String>,
}

/// Folds one report of `node`. Reports of an unknown node, and repeated ones, say nothing.
///
/// What a report lacks says nothing either, though it be complete: it may have been made before
/// the order to run a pod arrived, and come after the order to end it. A pod is gone when its
/// node says so, which it does of every pod in its orders.
pub fn fold(world: &World, node: &NodeName, report: &Report, now: Timestamp) -> Folded {
    let mut folded = Folded::default();
    let Some(row) = world.nodes.get(&node_key(node)) else { return folded };
    let repeated = row.boot.as_ref() == Some(&report.boot) && report.sequence <= row.sequence;
    if repeated {
        return folded;
    }
    for observation in &report.pods {
        fold_pod(&mut folded, world, node, observation);
    }
    for pod in doubt::missing(world, row, report) {
        folded.miss(world, pod);
    }
    fold_events(&mut folded, world, &report.events, now);
    fold_node(&mut folded, world, row, report, now);
    folded
}

fn fold_pod(folded: &mut Folded, world: &World, node: &NodeName, observation: &PodObservation) {
    let Some(pod) = world.pod_by_uid(&observation.uid) else { return };
    // Only the node that the pod is on may speak of it.
    if pod.node() != Some(node) || pod.observed.as_deref() == Some(observation) {
        return;
    }
    if !may_follow(pod.phase(), observation.phase) {
        return;
    }
    // Nobody ordered its end, so that was of other orders: of a master that was restored since.
    if observation.phase == PodPhase::Gone && pod.deletion.is_none() && !fence::stops(pod) {
        return;
    }
    folded.say(pod, observation);
    let observed = Pod { observed: Some(Arc::new(observation.clone())), ..(*pod.value).clone() };
    folded.put_pod(world, observed);
}

/// An end is an end: a late report of an earlier state does not undo it.
fn may_follow(old: PodPhase, new: PodPhase) -> bool {
    match old {
        PodPhase::Gone => new == PodPhase::Gone,
        PodPhase::Succeeded | PodPhase::Failed => matches!(new, PodPhase::Gone) || new == old,
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => true,
    }
}

fn fold_events(folded: &mut Folded, world: &World, events: &[PodEvent], now: Timestamp) {
    for event in events {
        let Some(pod) = world.pod_by_uid(&event.uid) else { continue };
        let event = Event {
            warning: event.warning,
            reason: event.reason.clone(),
            message: event.message.clone(),
            field_path: event.field_path.clone(),
            component: "kgit-agent".to_owned(),
            first: event.at,
            last: event.at.min(now),
            count: 1,
        };
        folded.add_event(world, &pod.key, event);
    }
}

fn fold_node(folded: &mut Folded, world: &World, node: &Node, report: &Report, now: Timestamp) {
    let observed = report.node.as_ref().filter(|observed| **observed != node.observed);
    let removed = node.remove_volumes.iter().any(|volume| report.volumes_removed.contains(volume));
    let doubt = doubt::after(world, node, report);
    let learnt = doubt != node.doubt;
    if observed.is_none() && !removed && !learnt && folded.effects.is_empty() {
        return;
    }
    // Said once: what is left of it after an approval is on its way out.
    let knows_more = node.is_unheard() && matches!(doubt, Some(Doubt::Runs(_)));
    if let Some(effect) = epoch::know_less(world).filter(|_| knows_more) {
        folded.effects.push(effect);
        // All of them are told to leave alone what is on no record.
        folded.dirty.extend(world.nodes.keys().cloned());
    }
    let (boot, sequence) = (Some(report.boot.clone()), report.sequence);
    let mut node = Node { boot, sequence, doubt, ..node.clone() };
    if let Some(observed) = observed {
        let troubled = node.observed.service_troubles.iter().map(|it| it.service.parts());
        folded.dirty.extend(
            troubled.map(|(namespace, name)| ObjectKey::new(Kind::Service, namespace, name)),
        );
        node.observed = observed.clone();
        folded.notice_failure(&mut node, now);
    }
    node.remove_volumes.retain(|volume| !report.volumes_removed.contains(volume));
    let key = node_key(&node.name);
    folded.dirty.extend((observed.is_some() || removed || learnt).then(|| key.clone()));
    folded.effects.push(Effect::Put(key, Record::Node(Arc::new(node))));
}

impl Folded {
    /// What became of the node's engine and its pod network.
    fn notice_failure(&mut self, node: &mut Node, now: Timestamp) {
        let failure = node.observed.failure();
        match (failure, node.failing) {
            (Some(failure), None) => {
                self.said.push(format!(
                    "node {} can't run pods: {}: {}",
                    node.name, failure.reason, failure.message
                ));
                node.failing = Some(now);
            }
            (None, Some(_)) => {
                self.said.push(format!("node {} can run pods again", node.name));
                node.failing = None;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn put_pod(&mut self, world: &World, pod: Pod) {
        let old = world.pods.get(&pod.key).map(|row| &*row.value);
        self.dirty.extend(depends::woken(world, old, Some(&pod)));
        self.dirty.insert(world.workload_of(&pod));
        self.effects.push(Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod))));
    }

    /// A pod that was ended in a life of the master that was lost.
    fn miss(&mut self, world: &World, pod: &Pod) {
        let observed = Some(Arc::new(PodObservation::bare(pod.uid.clone(), PodPhase::Gone)));
        self.put_pod(world, Pod { observed, ..pod.clone() });
    }

    fn say(&mut self, pod: &Pod, new: &PodObservation) {
        let old = pod.observed.as_ref();
        let was = old.map_or(PodPhase::Pending, |old| old.phase);
        let ready = (old.is_some_and(|old| old.ready), new.ready);
        let drifted = new.drifts.last().filter(|drift| drift.number > pod.drifts_told);
        let what = match (drifted, ready) {
            (Some(drift), _) => format!("{:?}: {}", drift.kind, drift.seen),
            (None, (false, true)) => "ready".to_owned(),
            (None, (true, false)) => "not ready".to_owned(),
            (None, _) if was != new.phase => format!("{:?}", new.phase),
            (None, _) => return,
        };
        self.said.push(format!("{} {what}", pod.key));
    }

    fn add_event(&mut self, world: &World, key: &ObjectKey, event: Event) {
        let pending = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Put(at, Record::Events(log)) if at == key => Some(Arc::clone(log)),
            _ => None,
        });
        let log = pending.or_else(|| world.events.get(key).map(|row| Arc::clone(&row.value)));
        let log: EventLog = log.as_deref().cloned().unwrap_or_default().with(event);
        self.effects.push(Effect::Put(key.clone(), Record::Events(Arc::new(log))));
    }
}

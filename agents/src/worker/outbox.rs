//! What waits to be reported: the newest of each thing, so that it is bounded by what there is,
//! however long the master is away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{BootId, Digest, PodUid};
use kgit_protocol::messages::{AuditHead, PROTOCOL_VERSION, Report};
use kgit_protocol::observation::{
    Capacity, ENGINE_READY, NETWORK_READY, NodeCondition, NodeObservation, PodEvent,
    PodObservation, ServiceTrouble,
};
use tokio::sync::Notify;

/// Events kept while the master is away; the newest matter.
const MAX_EVENTS: usize = 1000;
/// Events in one report.
const EVENTS_A_REPORT: usize = 200;

/// Shared by the loop, which fills it, and the reporter, which empties it.
#[derive(Debug)]
pub struct Outbox {
    boot: BootId,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    sequence: u64,
    applied: Option<Stamp>,
    pods: BTreeMap<PodUid, PodObservation>,
    complete: bool,
    events: Vec<PodEvent>,
    volumes_removed: BTreeSet<String>,
    node: NodeObservation,
    node_changed: bool,
    acknowledged_stamp: Option<Stamp>,
    directory: Option<Digest>,
    acknowledged_directory: Option<Digest>,
    witness: Option<AuditHead>,
}

impl Outbox {
    /// `applied` is what the journal holds: the orders that everything is done under until newer
    /// ones come.
    pub fn new(boot: BootId, applied: Option<Stamp>) -> Self {
        let waiting = Waiting { applied, ..Waiting::default() };
        Self { boot, waiting: Mutex::new(waiting), filled: Notify::new() }
    }

    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders were taken; true if they are the first of another life of the master. What was about
    /// to be told as complete was so under the orders of before.
    pub fn applied(&self, stamp: Stamp) -> bool {
        let mut waiting = self.lock();
        let anew = waiting.applied.as_ref().is_none_or(|before| before.epoch != stamp.epoch);
        waiting.complete &= !anew;
        waiting.applied = Some(stamp);
        self.filled.notify_one();
        anew
    }

    pub fn witness(&self, head: AuditHead) {
        self.lock().witness = Some(head);
    }

    /// The newest audit head that was given.
    pub fn witnessed(&self) -> Option<AuditHead> {
        self.lock().witness.clone()
    }

    pub fn observations(&self, pods: Vec<PodObservation>) {
        if pods.is_empty() {
            return;
        }
        self.lock().pods.extend(pods.into_iter().map(|pod| (pod.uid.clone(), pod)));
        self.filled.notify_one();
    }

    /// Everything that is on the node, and the node itself as far as it was looked at.
    pub fn complete(&self, pods: Vec<PodObservation>) {
        let mut waiting = self.lock();
        waiting.complete = true;
        waiting.node_changed |= waiting.node.capacity != Capacity::default();
        waiting.pods.extend(pods.into_iter().map(|pod| (pod.uid.clone(), pod)));
        self.filled.notify_one();
    }

    pub fn events(&self, events: Vec<PodEvent>) {
        if events.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        waiting.events.extend(events);
        let excess = waiting.events.len().saturating_sub(MAX_EVENTS);
        waiting.events.drain(..excess);
        self.filled.notify_one();
    }

    pub fn volumes_removed(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        self.lock().volumes_removed.extend(names);
        self.filled.notify_one();
    }

    /// The version of the directory that traffic goes by.
    pub fn directory(&self, digest: Digest) {
        self.lock().directory = Some(digest);
        self.filled.notify_one();
    }

    pub fn service_troubles(&self, troubles: Vec<ServiceTrouble>) {
        let mut waiting = self.lock();
        if waiting.node.service_troubles != troubles {
            waiting.node.service_troubles = troubles;
            waiting.node_changed = true;
            self.filled.notify_one();
        }
    }

    /// The node's capacity and facts; conditions and troubles are kept apart.
    pub fn node(&self, seen: NodeObservation) {
        let mut waiting = self.lock();
        let conditions = std::mem::take(&mut waiting.node.conditions);
        let service_troubles = std::mem::take(&mut waiting.node.service_troubles);
        let next = NodeObservation { conditions, service_troubles, ..seen };
        if waiting.node.capacity != next.capacity || waiting.node.facts != next.facts {
            waiting.node_changed = true;
            self.filled.notify_one();
        }
        waiting.node = next;
    }

    pub fn engine_ready(&self, ready: Result<(), String>) {
        self.condition(ENGINE_READY, ready, "EngineAnswers", "EngineUnreachable");
    }

    /// Whether that is news.
    pub fn network_ready(&self, ready: Result<(), String>) -> bool {
        self.note(NETWORK_READY, ready, "BridgeUp", "BridgeFailed")
    }

    /// `Ok` is the condition's good state, whatever its kind.
    pub fn condition(&self, kind: &str, state: Result<(), String>, good: &str, bad: &str) {
        self.note(kind, state, good, bad);
    }

    fn note(&self, kind: &str, state: Result<(), String>, good: &str, bad: &str) -> bool {
        let condition = NodeCondition {
            kind: kind.to_owned(),
            status: Some(state.is_ok() != (kind == "DiskPressure")),
            reason: if state.is_ok() { good } else { bad }.to_owned(),
            message: state.err().unwrap_or_default(),
        };
        let mut waiting = self.lock();
        let known = waiting.node.conditions.iter().position(|known| known.kind == kind);
        match known {
            Some(at) if waiting.node.conditions[at] == condition => return false,
            Some(at) => waiting.node.conditions[at] = condition,
            None => waiting.node.conditions.push(condition),
        }
        waiting.node_changed = true;
        self.filled.notify_one();
        true
    }

    /// Waits until there is something to report, and takes it.
    pub async fn next(&self) -> Report {
        loop {
            if let Some(report) = self.take() {
                return report;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Report> {
        let mut waiting = self.lock();
        let news = waiting.complete
            || waiting.node_changed
            || !waiting.pods.is_empty()
            || !waiting.events.is_empty()
            || !waiting.volumes_removed.is_empty()
            || waiting.applied != waiting.acknowledged_stamp
            || waiting.directory != waiting.acknowledged_directory;
        if !news {
            return None;
        }
        waiting.sequence += 1;
        let count = waiting.events.len().min(EVENTS_A_REPORT);
        Some(Report {
            version: PROTOCOL_VERSION,
            boot: self.boot.clone(),
            sequence: waiting.sequence,
            applied: waiting.applied.clone(),
            directory: waiting.directory.clone(),
            node: std::mem::take(&mut waiting.node_changed).then(|| waiting.node.clone()),
            pods: std::mem::take(&mut waiting.pods).into_values().collect(),
            events: waiting.events.drain(..count).collect(),
            volumes_removed: std::mem::take(&mut waiting.volumes_removed).into_iter().collect(),
            complete: std::mem::take(&mut waiting.complete),
        })
    }

    /// The master has the report.
    pub fn acknowledged(&self, report: &Report) {
        let mut waiting = self.lock();
        waiting.acknowledged_stamp.clone_from(&report.applied);
        waiting.acknowledged_directory.clone_from(&report.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kgit_protocol::ids::{Epoch, Generation};
    use kgit_protocol::observation::PodPhase;

    fn pod(uid: &str, phase: PodPhase) -> PodObservation {
        PodObservation::bare(uid.into(), phase)
    }

    /// A master that was restored from a backup may have lost what the node is like.
    #[tokio::test]
    async fn a_complete_report_tells_of_the_node_once_it_was_looked_at() {
        let outbox = Outbox::new("boot".into(), None);
        outbox.complete(Vec::new());
        assert_eq!(outbox.next().await.node, None);
        let capacity = Capacity { pods: 110, ..Capacity::default() };
        outbox.node(NodeObservation { capacity, ..NodeObservation::default() });
        assert!(outbox.next().await.node.is_some());
        outbox.complete(Vec::new());
        assert_eq!(outbox.next().await.node.map(|node| node.capacity.pods), Some(110));
    }

    /// What was complete under the orders of one life of the master is not so for the next.
    #[tokio::test]
    async fn a_complete_report_is_made_anew_for_a_master_of_another_epoch() {
        let stamp = |epoch| Stamp {
            epoch: Epoch(epoch),
            generation: Generation(1),
            digest: Digest::of(b""),
        };
        let outbox = Outbox::new("boot".into(), Some(stamp(0)));
        outbox.complete(Vec::new());
        assert!(!outbox.applied(stamp(0)));
        assert!(outbox.next().await.complete);
        outbox.complete(Vec::new());
        assert!(outbox.applied(stamp(5)));
        let report = outbox.next().await;
        assert_eq!((report.complete, report.applied), (false, Some(stamp(5))));
    }

    #[tokio::test]
    async fn only_the_newest_of_each_pod_is_reported_and_numbers_count_up() {
        let outbox = Outbox::new("boot".into(), None);
        outbox.observations(vec![pod("a", PodPhase::Pending), pod("b", PodPhase::Pending)]);
        outbox.observations(vec![pod("a", PodPhase::Running)]);
        let first = outbox.next().await;
        assert_eq!(first.sequence, 1);
        let phases: Vec<PodPhase> = first.pods.iter().map(|pod| pod.phase).collect();
        assert_eq!(phases, [PodPhase::Running, PodPhase::Pending]);
        assert!(outbox.take().is_none());
        outbox.engine_ready(Ok(()));
        outbox.engine_ready(Ok(()));
        assert_eq!(outbox.next().await.sequence, 2);
        assert!(outbox.take().is_none());
    }
}

//! A cluster in one process: the real core and the real store, a clock that the test turns, and
//! nodes whose agents do at once what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kgit::domain::audit::{Body, Entry};
use kgit::domain::desired::{Commit, FileContent, SourceFile, TreeChange};
use kgit::domain::diagnostic::Diagnostic;
use kgit::domain::epoch;
use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::node_order::NodeOrder;
use kgit::domain::plan::{Dirty, Step, Waiting};
use kgit::domain::record::{Meta, Pod};
use kgit::domain::world::{Effect, Table, World, node_key};
use kgit::master::core::Core;
use kgit::master::event::{Credential, Event, Refused};
use kgit::master::view::SourceStatus;
use kgit::plan::{assignments, forecast, text};
use kgit::store::Store;
use kgit_protocol::assignment::{AssignmentSet, PodNetwork, Stamp};
use kgit_protocol::ids::{BootId, ClusterId, Digest, Epoch, NodeName, PodUid};
use kgit_protocol::messages::{Join, Report};
use kgit_protocol::observation::{Capacity, NodeObservation, PodEvent, PodObservation};
use kgit_protocol::time::Timestamp;
use tokio::sync::oneshot;

use crate::agents::Behaviour;
use crate::promises::Turned;
use crate::told::Teller;

/// Turns after which a cluster that still moves is taken for one that never stops.
const MAX_TURNS: usize = 500;
/// More entries than one turn writes.
const ENTRIES_OF_A_TURN: u64 = 100;

pub struct Cluster {
    pub core: Core,
    pub store: Store,
    pub now: Timestamp,
    files: BTreeMap<String, String>,
    commits: u32,
    sequence: u64,
    /// What each node's agent was told to do differently than succeed, by pod name prefix.
    pub behaviour: BTreeMap<String, Behaviour>,
    /// Nodes that are cut off: nothing is heard of them, and they hear nothing.
    pub lost: BTreeSet<String>,
    /// Nodes that are heard of, and whose engines do not answer.
    pub failing: BTreeSet<String>,
    /// What was reported last.
    pub reported: BTreeMap<PodUid, PodObservation>,
    /// After how many turns it is seen to that none missed anything.
    pub checked_every: u32,
    turns: u32,
    told: Option<Teller>,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(told) = self.told.take().filter(|_| !std::thread::panicking()) {
            told.check();
        }
    }
}

impl Cluster {
    pub fn new(nodes: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        // Names derive from the cluster and its key, which are random in a store of its own.
        let world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
        let core = Core::new(world, SourceStatus::default(), now);
        let mut cluster = Self {
            core,
            store,
            now,
            files: BTreeMap::new(),
            commits: 0,
            sequence: 0,
            behaviour: BTreeMap::new(),
            lost: BTreeSet::new(),
            failing: BTreeSet::new(),
            reported: BTreeMap::new(),
            checked_every: 1,
            turns: 0,
            told: Teller::of_this_scenario(now),
            _dir: dir,
        };
        let range = "10.16.0.0/16".parse().unwrap();
        cluster.turn(vec![Event::ServiceRange { range }]);
        for (index, node) in nodes.iter().enumerate() {
            cluster.join(node, u8::try_from(index).unwrap());
        }
        cluster
    }

    pub fn join(&mut self, name: &str, index: u8) {
        self.join_with(name, &format!("10.77.{index}.0/24"));
    }

    /// Its pods get addresses of this range.
    pub fn join_with(&mut self, name: &str, range: &str) {
        self.ask_to_join(name, range, Credential::Token(None)).unwrap();
        let node = NodeObservation {
            capacity: Capacity {
                cpu_millis: 4000,
                memory_bytes: 8 << 30,
                pods: 110,
                disk_bytes: 1 << 40,
            },
            ..NodeObservation::default()
        };
        self.report(name, Some(node), Vec::new());
    }

    /// No more than that: the node says nothing of itself.
    pub fn ask_to_join(
        &mut self,
        name: &str,
        range: &str,
        credential: Credential,
    ) -> Result<(), Refused> {
        let (reply, mut answer) = oneshot::channel();
        let join = Join {
            version: 1,
            token: String::new(),
            node: NodeName::new(name),
            labels: BTreeMap::new(),
            certificate_request: String::new(),
            network: PodNetwork { range: range.parse().unwrap() },
        };
        let key_digest = Digest::of(name.as_bytes());
        self.turn(vec![Event::Join { join: Box::new(join), key_digest, credential, reply }]);
        answer.try_recv().unwrap()
    }

    /// `kgit agent leave` on the node.
    pub fn leave(&mut self, node: &str) {
        let (reply, _answer) = oneshot::channel();
        self.turn(vec![Event::Leave { node: NodeName::new(node), reply }]);
    }

    pub fn turn(&mut self, events: Vec<Event>) {
        let before = self.world();
        let turn = self.core.turn(events, self.now, &mut self.store);
        assert!(turn.failed.is_none(), "{:?}", turn.failed);
        let (after, now, reported) = (self.world(), self.now, &self.reported);
        Turned { before: &before, after: &after, now, reported }.check();
        if let Some(told) = &mut self.told {
            let from = self.store.audit_head().sequence.saturating_sub(ENTRIES_OF_A_TURN) + 1;
            let entries = self.store.reader().entries_from(from, usize::MAX).unwrap();
            let waits = self.core.view(&self.store).waits;
            let waits = waits.iter().map(|(key, waits)| (key.clone(), waits.clone())).collect();
            told.turn(now, (&before, &after), &entries, waits);
        }
        self.turns += 1;
        if self.turns.is_multiple_of(self.checked_every) {
            self.assert_nothing_was_missed();
        }
    }

    /// A turn looks at what is dirty alone; looking at everything finds nothing more to do, and
    /// nothing else to wait for.
    fn assert_nothing_was_missed(&self) {
        let view = self.core.view(&self.store);
        let Some(commit) = view.source.commit.clone() else { return };
        let desired = view.catalog.desired(commit);
        let everything = Dirty::everything(&view.world, &desired);
        let plan = kgit::plan::tick(&view.world, &desired, &everything, self.now);
        assert_eq!(render(&plan.steps), "", "a turn left something to do");
        // A commit that changes nothing is accepted with the next one that does.
        let mut left = plan.effects;
        left.retain(|effect| match effect {
            Effect::Meta(meta) => {
                let accepted = view.world.meta.accepted.clone();
                *view.world.meta != Meta { accepted, ..(**meta).clone() }
            }
            Effect::Put(..) | Effect::Remove(..) => true,
        });
        assert_eq!(left, [], "a turn left something to note");
        let waits = plan.waits.into_iter().filter(|(_, waits)| !waits.is_empty());
        let told = view.waits.iter().map(|(key, waits)| (key.clone(), waits.clone()));
        let (waits, told): (BTreeMap<_, _>, BTreeMap<_, _>) = (waits.collect(), told.collect());
        assert_eq!(told, waits, "a turn left something to tell, or not to tell any more");
    }

    pub fn report(
        &mut self,
        node: &str,
        about: Option<NodeObservation>,
        pods: Vec<PodObservation>,
    ) {
        self.report_all(node, about, pods, false);
    }

    /// The same; `complete` as an agent's first report is.
    pub fn report_all(
        &mut self,
        node: &str,
        about: Option<NodeObservation>,
        pods: Vec<PodObservation>,
        complete: bool,
    ) {
        self.report_whole(node, about, pods, complete, Vec::new());
    }

    /// The same, with events.
    pub fn report_whole(
        &mut self,
        node: &str,
        about: Option<NodeObservation>,
        pods: Vec<PodObservation>,
        complete: bool,
        events: Vec<PodEvent>,
    ) {
        self.sequence += 1;
        let node = NodeName::new(node);
        let (reply, _answer) = oneshot::channel();
        let report = Report {
            directory: None,
            version: 1,
            boot: BootId::new("boot"),
            sequence: self.sequence,
            applied: self.world().nodes.get(&node_key(&node)).map(|row| row.issued.clone()),
            node: about,
            pods,
            events,
            volumes_removed: Vec::new(),
            complete,
        };
        self.turn(vec![Event::Report { node, report: Box::new(report), reply }]);
    }

    /// The master's data is put back as it was a moment ago, and the master starts.
    pub fn restore(&mut self) {
        let mut world = self.world();
        let version = world.version + 1;
        let begun = epoch::begin(&world, Epoch(0), false, self.now);
        begun.iter().for_each(|effect| world.apply(effect, version));
        self.store.commit(version, &begun, &[]).unwrap();
        self.core = Core::new(world, SourceStatus::default(), self.now);
        let files = self.files.clone();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.commit(&files);
    }

    /// Writes (or, with an empty text, removes) files, and commits them.
    pub fn commit(&mut self, files: &[(&str, &str)]) {
        let event = self.commit_event(files);
        self.turn(vec![event]);
    }

    /// The master starts anew with the World that is on disk, and reads its source only after its first turn.
    pub fn restart_master(&mut self) {
        self.core = Core::new(self.world(), SourceStatus::default(), self.now);
        self.turn(Vec::new());
        let files = self.files.iter().map(|(path, text)| source_file(path, text));
        let change = TreeChange { upserted: files.collect(), removed: Vec::new() };
        let commit = Arc::new(self.newest_commit());
        self.turn(vec![Event::Source { commit, change }]);
    }

    fn commit_event(&mut self, files: &[(&str, &str)]) -> Event {
        self.commits += 1;
        let mut change = TreeChange::default();
        for (path, text) in files {
            if text.is_empty() {
                self.files.remove(*path);
                change.removed.push((*path).into());
            } else {
                self.files.insert((*path).to_owned(), (*text).to_owned());
                change.upserted.push(source_file(path, text));
            }
        }
        Event::Source { commit: Arc::new(self.newest_commit()), change }
    }

    fn newest_commit(&self) -> Commit {
        Commit {
            id: format!("{:040x}", self.commits),
            author: "Ann <ann@example.org>".to_owned(),
            at: self.now,
            summary: format!("change {}", self.commits),
        }
    }

    /// What `kgit diff` says of these files before they are committed.
    pub fn diff(&self, files: &[(&str, &str)]) -> String {
        let mut other = Self::forecast_base(self);
        let Event::Source { commit, change } = other.commit_event(files) else { unreachable!() };
        let view = self.core.view(&self.store);
        let mut catalog = view.catalog.clone();
        catalog.apply(&change);
        let desired = catalog.desired(commit);
        let forecast = forecast::forecast(&view.world, &desired, self.now);
        render(&forecast.steps) + &text::plan([], &forecast.waits)
    }

    fn forecast_base(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            core: self.core.clone(),
            store: Store::open(dir.path()).unwrap(),
            now: self.now,
            files: self.files.clone(),
            commits: self.commits,
            sequence: 0,
            behaviour: BTreeMap::new(),
            lost: BTreeSet::new(),
            failing: BTreeSet::new(),
            reported: BTreeMap::new(),
            checked_every: 1,
            turns: 0,
            told: None,
            _dir: dir,
        }
    }

    /// Lets the agents act and report, and the clock pass deadlines, until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..MAX_TURNS {
            if !self.agents_act() {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets time pass, and whatever was due happen.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        let nodes: Vec<NodeName> =
            self.core.view(&self.store).world.nodes.values().map(|n| n.name.clone()).collect();
        while let Some(wake) = self.core.next_wake().filter(|wake| *wake <= end) {
            self.now = wake.max(self.now);
            let beats = nodes
                .iter()
                .filter(|node| !self.lost.contains(node.as_str()))
                .map(|node| Event::Heartbeat { node: node.clone(), boot: BootId::new("boot") });
            self.turn(beats.collect());
            self.settle();
        }
        self.now = end;
        self.turn(vec![Event::Timer]);
    }

    pub fn objects(&self) -> usize {
        self.core.view(&self.store).world.objects.len()
    }

    /// The file in which an object of the namespace `default` stands, as far as it is on record.
    pub fn file_of(&self, kind: &str, name: &str) -> String {
        let view = self.core.view(&self.store);
        let wanted = format!("{kind}/default/{name}");
        let found = view.world.objects.iter().find(|(key, _)| key.to_string() == wanted);
        found.map(|(_, row)| row.resource.place.file.to_string()).unwrap_or_default()
    }

    /// The name of the plan that waits for approval.
    pub fn held(&self) -> Option<String> {
        self.core.view(&self.store).world.meta.held.as_ref().map(|held| held.plan.clone())
    }

    pub fn approve(&mut self, plan: &str) -> Result<String, Refused> {
        let (reply, mut answer) = oneshot::channel();
        self.turn(vec![Event::Approve { plan: plan.to_owned(), by: "ann".to_owned(), reply }]);
        answer.try_recv().unwrap()
    }

    /// `kgit prune` of retained objects, named `Kind/namespace/name` or `Kind/name`.
    pub fn prune(&mut self, objects: &[&str]) {
        self.try_prune(objects).unwrap();
    }

    /// The same, which may be refused.
    pub fn try_prune(&mut self, objects: &[&str]) -> Result<Vec<ObjectKey>, Refused> {
        let objects = objects.iter().map(|text| ObjectKey::parse(text).unwrap()).collect();
        let (reply, mut answer) = oneshot::channel();
        self.turn(vec![Event::RemoveRetained { objects, by: "ann".to_owned(), reply }]);
        answer.try_recv().unwrap()
    }

    /// `kubectl delete pod`.
    pub fn end_pod(&mut self, name: &str) -> Result<(), Refused> {
        let (reply, mut answer) = oneshot::channel();
        let pod = ObjectKey::new(Kind::Pod, "default", name);
        let by = "ann".to_owned();
        self.turn(vec![Event::EndPod { pod, grace_seconds: None, by, reply }]);
        answer.try_recv().unwrap()
    }

    /// `kgit node …`.
    pub fn order(&mut self, node: &str, order: NodeOrder) -> Result<String, Refused> {
        let (reply, mut answer) = oneshot::channel();
        let node = NodeName::new(node);
        self.turn(vec![Event::Node { node, order, by: "ann".to_owned(), reply }]);
        answer.try_recv().unwrap()
    }

    /// A node asks for its orders and says which it has.
    pub fn pull(&mut self, node: &str, have: Stamp) {
        let node = NodeName::new(node);
        self.turn(vec![Event::Pull { node, have: Some(have), witness: None }]);
    }

    /// What a node is told to run.
    pub fn orders(&self, node: &str) -> AssignmentSet {
        assignments::for_node(&self.world(), &NodeName::new(node)).unwrap()
    }

    pub fn world(&self) -> World {
        self.core.view(&self.store).world
    }

    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let view = self.core.view(&self.store);
        view.world.pods.values().map(|row| Arc::clone(&row.value)).collect()
    }

    /// What is wrong with the manifests, in words.
    pub fn diagnostics(&self) -> Vec<String> {
        let view = self.core.view(&self.store);
        let said = |it: &Diagnostic| {
            format!("{}:{}:{}: {}", it.place.file, it.place.line, it.place.column, it.message)
        };
        view.diagnostics.iter().map(said).collect()
    }

    pub fn waits(&self) -> Vec<String> {
        let line = |wait: Waiting| format!("{} waits for {}", wait.object, wait.for_what);
        self.all_waits().into_iter().map(line).collect()
    }

    pub fn all_waits(&self) -> Vec<Waiting> {
        self.core.view(&self.store).waits.values().flatten().cloned().collect()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.store.reader().entries_from(1, usize::MAX).unwrap()
    }

    /// What the last reconcile did, step by step, with its deviations.
    pub fn last_reconcile(&self) -> String {
        let entries = self.entries();
        let last = entries.last().map(|entry| entry.reconcile).unwrap_or(0);
        let mut lines = Vec::new();
        for entry in entries.iter().filter(|entry| entry.reconcile == last) {
            match &entry.body {
                Body::Planned { steps, .. } => {
                    lines.extend(steps.iter().map(|step| match &step.deviation {
                        None => text::said(&step.said),
                        Some(why) => format!("{}  DEVIATES: {why}", text::said(&step.said)),
                    }));
                }
                Body::Finished { deviations, missing, waiting, superseded, .. } => {
                    lines.push(format!(
                        "finished: {deviations} deviations, {} missing, superseded {superseded}",
                        missing.len()
                    ));
                    lines.extend(waiting.iter().cloned());
                }
                _ => {}
            }
        }
        lines.join("\n")
    }

    /// Every scenario ends so: planning again gives nothing, the audit verifies, and what is on
    /// disk is what is in memory.
    pub fn ends_quietly(&mut self) {
        self.settle();
        assert_eq!(self.diff(&[]), "", "planning again finds something to do");
        let report = self.store.reader().verify(&[]).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let loaded = self.store.load().unwrap();
        let held = &self.core.view(&self.store).world;
        let keys = |pods: &kgit::domain::world::Rows<Pod>| -> BTreeSet<ObjectKey> {
            pods.keys().cloned().collect()
        };
        assert_eq!(keys(&loaded.pods), keys(&held.pods));
        assert_eq!(loaded.version, held.version);
        let told_of_nothing: Vec<&ObjectKey> =
            held.events.keys().filter(|key| !is_there(held, key)).collect();
        assert!(told_of_nothing.is_empty(), "events of what is gone: {told_of_nothing:?}");
    }
}

fn source_file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), content: FileContent::Bytes(text.as_bytes().into()) }
}

fn is_there(world: &World, key: &ObjectKey) -> bool {
    let tables = [Table::Object, Table::Pruned, Table::ReplicaSet, Table::Pod, Table::Node];
    tables.iter().any(|table| world.row(key, *table).is_some())
}

fn render(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(|step| text::said(&step.said) + "\n").collect();
    lines.concat()
}

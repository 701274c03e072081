//! A plan in the making: the World as it will be once the steps so far are carried out, and those
//! steps.
//!
//! Every decision sees the effects of the ones before it, so that one tick goes as far as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::desired::Desired;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Plan, Reason, Said, Step, Verb, WaitKind, Waiting};
use crate::domain::record::{Applied, Pod};
use crate::domain::resource::{Resource, Spec};
use crate::domain::world::{Effect, Record, Table, World};
use crate::plan::scheduler::session::Session;
use crate::plan::{budget, depends, scheduler, services, stateful_set};

#[derive(Debug)]
pub struct Draft<'a> {
    pub world: World,
    pub desired: &'a Desired,
    pub now: Timestamp,
    pub plan: Plan,
    /// Objects that still have to be planned in this tick.
    pub queue: BTreeSet<ObjectKey>,
    /// How often each was in this tick so far.
    pub looks: BTreeMap<ObjectKey, u32>,
    /// Nodes whose set of pods changed.
    pub nodes: BTreeSet<NodeName>,
    /// What is known of places for pods, from the last one that was placed.
    pub places: Option<Session>,
    /// Pods without a place may have one now, or another reason to have none.
    others_moved: bool,
    version: u64,
}

impl<'a> Draft<'a> {
    pub fn new(world: &World, desired: &'a Desired, now: Timestamp) -> Self {
        Self {
            world: world.clone(),
            desired,
            now,
            plan: Plan::default(),
            queue: BTreeSet::new(),
            looks: BTreeMap::new(),
            nodes: BTreeSet::new(),
            places: None,
            others_moved: false,
            version: world.version + 1,
        }
    }

    /// Takes a step: carries out its effects on the World at hand, and lists it.
    pub fn step(&mut self, said: Said, reasons: Vec<Reason>, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out(effect);
        }
        self.plan.steps.push(Step { said, reasons });
    }

    /// Bookkeeping without a step of its own.
    pub fn note(&mut self, key: &ObjectKey, record: Record) {
        self.carry_out(Effect::Put(key.clone(), record));
    }

    pub fn note_effect(&mut self, effect: Effect) {
        self.carry_out(effect);
    }

    pub fn wait(&mut self, waiting: Waiting) {
        let waits = self.plan.waits.entry(waiting.object.clone()).or_default();
        // A rollout goes around several times in one tick; what it says last of a thing counts.
        match waits.iter_mut().find(|known| known.for_what == waiting.for_what) {
            Some(known) => *known = waiting,
            None => waits.push(waiting),
        }
    }

    /// Something that somebody has to do something about.
    pub fn blocked(&mut self, object: &ObjectKey, for_what: String, consequence: &str) {
        self.wait(Waiting {
            object: object.clone(),
            for_what,
            kind: WaitKind::Blocked,
            deadline: None,
            consequence: consequence.to_owned(),
            unplaced: None,
        });
    }

    /// Plan this object again at `at` at the latest.
    pub fn wake(&mut self, key: &ObjectKey, at: Timestamp) {
        let wake = self.plan.wakes.entry(key.clone()).or_insert(None);
        *wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// Forgets what an earlier look at this object found to wait for.
    pub fn start_over(&mut self, key: &ObjectKey) {
        self.plan.waits.insert(key.clone(), Vec::new());
        self.plan.wakes.insert(key.clone(), None);
    }

    fn carry_out(&mut self, effect: Effect) {
        self.touch(&effect);
        let before = self.pod_before(&effect);
        if let (Some(before), Effect::Put(_, Record::Pod(new))) = (&before, &effect) {
            self.note_move(before.as_deref(), new);
        }
        self.forget_places(&effect);
        self.world.apply(&effect, self.version);
        if let (Some(before), Some(places)) = (before, &mut self.places) {
            let new = match &effect {
                Effect::Put(_, Record::Pod(new)) => Some(&**new),
                _ => None,
            };
            places.changed(&self.world, before.as_deref(), new);
        }
        self.plan.effects.push(effect);
    }

    fn note_move(&mut self, before: Option<&Pod>, new: &Pod) {
        // One that takes the place promised to it counts for pods of higher priority only now, and
        // spreading does not count one that is to end.
        let position =
            |pod: &Pod| (pod.node().cloned(), pod.seat().cloned(), pod.deletion.is_some());
        self.others_moved |= before.map(position).unwrap_or_default() != position(new);
    }

    /// What this look at the object has said of a thing that it waits for.
    pub fn said_of(&self, object: &ObjectKey, for_what: &str) -> Option<&Waiting> {
        let waits = self.plan.waits.get(object)?;
        waits.iter().find(|waiting| waiting.for_what == for_what)
    }

    /// Queues what waits for a place, if other pods came or are to go since this was asked last.
    pub fn retry_the_unplaced(&mut self) -> bool {
        if std::mem::take(&mut self.others_moved) {
            let unplaced = self.world.unplaced().map(|pod| self.world.workload_of(pod));
            let workloads: Vec<ObjectKey> = unplaced.collect();
            self.queue.extend(workloads);
        }
        !self.queue.is_empty()
    }

    /// The pod that an effect changes, as it is; outer `None`: it changes none.
    fn pod_before(&self, effect: &Effect) -> Option<Option<Arc<Pod>>> {
        match effect {
            Effect::Put(key, Record::Pod(_)) | Effect::Remove(key, Table::Pod) => {
                Some(self.world.pods.get(key).map(|row| Arc::clone(&row.value)))
            }
            _ => None,
        }
    }

    /// What is known of places does not outlive a change of what nodes and namespaces are.
    fn forget_places(&mut self, effect: &Effect) {
        let outlives = match effect {
            Effect::Put(key, Record::Node(new)) => {
                let old = self.world.nodes.get(key);
                old.is_some_and(|old| scheduler::is_same_place(old, new))
            }
            Effect::Remove(_, Table::Node) => false,
            Effect::Put(key, Record::Object(_)) | Effect::Remove(key, Table::Object) => {
                key.kind != Kind::Namespace
            }
            _ => true,
        };
        if !outlives {
            self.places = None;
        }
    }

    /// Puts everything into the queue whose plan may depend on what the effect changes.
    fn touch(&mut self, effect: &Effect) {
        let (key, record) = match effect {
            Effect::Meta(_) => return,
            Effect::Put(key, record) => (key, Some(record)),
            Effect::Remove(key, _) => (key, None),
        };
        match (effect, record) {
            (_, Some(Record::Pod(new))) => self.touch_pods(key, Some(new)),
            (Effect::Remove(_, Table::Pod), _) => {
                self.touch_pods(key, None);
                // Room, an address or a volume may have become free.
                let waiting: Vec<ObjectKey> =
                    self.world.unplaced().map(|pod| self.world.workload_of(pod)).collect();
                self.queue.extend(waiting);
            }
            (_, Some(Record::Claim(_) | Record::Volume(_))) => {
                self.queue.insert(key.clone());
                self.touch_referrers(key);
            }
            (_, Some(Record::Object(new))) => self.touch_object(key, Some(&new.resource)),
            (Effect::Remove(_, Table::Object), _) => self.touch_object(key, None),
            (Effect::Remove(_, Table::Service), _) => {
                self.queue.extend(services::waiting(&self.world));
            }
            (Effect::Remove(_, Table::Volume), _) => {
                let state = self.world.volumes.get(key);
                let claim = state.and_then(|state| state.claim.clone());
                self.queue.extend(claim.map(|(claim, _)| claim));
            }
            (_, Some(Record::Autoscaler(_))) | (Effect::Remove(_, Table::Autoscaler), _) => {
                self.touch_scaled(key);
                self.touch_referrers(key);
            }
            // What it is to remove is part of its orders.
            (_, Some(Record::Node(new))) => {
                let old = self.world.nodes.get(key).map(|row| &row.remove_volumes);
                if old != Some(&new.remove_volumes) {
                    self.nodes.insert(new.name.clone());
                }
            }
            (_, Some(Record::Service(_))) => self.touch_referrers(key),
            // A drain may go on.
            (_, Some(Record::Budget(_))) | (Effect::Remove(_, Table::Budget), _) => {
                self.queue.extend(self.world.moving_nodes().cloned());
            }
            (_, Some(Record::Job(_))) => {
                self.touch_referrers(key);
                self.touch_owner(key);
            }
            (
                _,
                Some(
                    Record::Deployment(_)
                    | Record::ReplicaSet(_)
                    | Record::StatefulSet(_)
                    | Record::DaemonSet(_),
                ),
            ) => self.touch_referrers(key),
            _ => {}
        }
    }

    fn touch_object(&mut self, key: &ObjectKey, new: Option<&Resource>) {
        self.queue.insert(key.clone());
        self.touch_referrers(key);
        self.touch_owner(key);
        // Whose pods are minded may depend on its labels.
        self.others_moved |= key.kind == Kind::Namespace;
        if key.kind == Kind::Pod {
            // A set may want a pod of that name.
            self.queue.extend(stateful_set::named_by(&self.world, key));
        }
        let old = self.world.objects.get(key).map(|row| Arc::clone(&row.resource));
        for resource in new.into_iter().chain(old.as_deref()) {
            if let Spec::Autoscaler(spec) = &resource.spec {
                self.touch_size(&spec.target);
            }
            self.queue.extend(services::of_workload(&self.world, key, resource));
            self.touch_budgets(key, resource);
        }
    }

    fn touch_pods(&mut self, key: &ObjectKey, new: Option<&Pod>) {
        let old = self.world.pods.get(key).map(|row| Arc::clone(&row.value));
        self.queue.extend(depends::woken(&self.world, old.as_deref(), new));
        for pod in new.into_iter().chain(old.as_deref()) {
            self.touch_pod(pod);
        }
        // Whoever else wants a pod of that name.
        if old.is_none() || new.is_none() {
            self.queue.extend(stateful_set::named_by(&self.world, key));
            self.queue.extend(self.world.objects.contains_key(key).then(|| key.clone()));
        }
    }

    fn touch_pod(&mut self, pod: &Pod) {
        self.queue.insert(self.world.workload_of(pod));
        for claim in pod.template.claims() {
            let claim = pod.key.sibling(Kind::PersistentVolumeClaim, claim);
            let applied = self.world.objects.get(&claim);
            self.queue.extend(applied.and_then(|applied| applied.owner.clone()));
            self.queue.insert(claim);
        }
        if let Some(node) = pod.node() {
            self.nodes.insert(node.clone());
        }
    }

    /// What an autoscaler decides the size of.
    fn touch_scaled(&mut self, key: &ObjectKey) {
        let spec = self.world.objects.get(key).map(|row| row.resource.spec.clone());
        if let Some(Spec::Autoscaler(spec)) = spec {
            self.touch_size(&spec.target);
        }
    }

    /// What goes by the number of pods that a workload is to have: itself, and budgets.
    fn touch_size(&mut self, workload: &ObjectKey) {
        self.queue.insert(workload.clone());
        if let Some(row) = self.world.objects.get(workload).map(|row| Arc::clone(&row.resource)) {
            self.touch_budgets(workload, &row);
        }
    }

    fn touch_budgets(&mut self, workload: &ObjectKey, resource: &Resource) {
        let Some(template) = resource.template() else { return };
        let about = budget::about(&self.world, &workload.namespace, &template.labels);
        self.queue.extend(about);
    }

    /// What an object was made for may have to make another one.
    fn touch_owner(&mut self, key: &ObjectKey) {
        let owner = self.world.objects.get(key).and_then(|row| row.owner.clone());
        self.queue.extend(owner);
    }

    fn touch_referrers(&mut self, key: &ObjectKey) {
        let referrers: Vec<ObjectKey> = self.world.referrers(key).cloned().collect();
        self.queue.extend(referrers);
    }
}

/// "This commit, at this place, changed these fields."
pub fn commit_reason(applied: &Applied) -> Reason {
    Reason::Commit {
        commit: Arc::clone(&applied.commit),
        place: applied.resource.place.clone(),
        changes: applied.changes.clone(),
    }
}

/// A step's words.
pub fn said(verb: Verb, object: &ObjectKey) -> Said {
    Said { verb, object: object.clone(), node: None, detail: String::new() }
}

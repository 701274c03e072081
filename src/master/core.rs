//! The loop's state and its turn: events in, one transaction out. Synchronous, and without a
//! clock of its own, so that a simulation runs the very same code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use kgit_protocol::ids::{BootId, NodeName};
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::Usage;

use crate::domain::audit::Trigger;
use crate::domain::desired::Desired;
use crate::domain::diagnostic::Diagnostic;
use crate::domain::epoch;
use crate::domain::key::ObjectKey;
use crate::domain::node::Node;
use crate::domain::plan::{Dirty, Plan, Waiting};
use crate::domain::record::Meta;
use crate::domain::resource::ReferenceKind;
use crate::domain::world::{Effect, Record, Table, World, node_key};
use crate::graph;
use crate::manifest::catalog::Catalog;
use crate::master::agenda::Agenda;
use crate::master::batch::{Batch, Order};
use crate::master::event::{Event, Refused};
use crate::master::lease;
use crate::master::reconcile::{self, Reconcile};
use crate::master::view::{Committed, RowChange, SourceStatus, View};
use crate::plan;
use crate::store::Store;
use crate::store::audit::AuditDraft;
use crate::store::error::StoreError;

/// How long the loop waits before it tries a failed transaction again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Core {
    pub(super) world: World,
    pub(super) catalog: Catalog,
    pub(super) desired: Desired,
    pub(super) source: SourceStatus,
    pub(super) heartbeats: OrdMap<NodeName, Timestamp>,
    pub(super) usages: OrdMap<NodeName, Arc<Usage>>,
    /// The last report of each node that was folded in, so that a late one is told apart.
    pub(super) reports: BTreeMap<NodeName, (BootId, u64)>,
    cycles: Vec<Diagnostic>,
    diagnostics: Arc<Vec<Diagnostic>>,
    dirty: Dirty,
    agenda: Agenda,
    reconcile: Option<Reconcile>,
    started: Timestamp,
    /// When a failed transaction is tried again.
    retry: Option<Timestamp>,
    /// Why it failed.
    store_error: Option<Arc<str>>,
    /// The newest commit that was read in a turn that was taken back: it is not told again.
    unplanned: Option<Trigger>,
    /// A turn was through since the start.
    turned: bool,
}

/// What a turn gives back if the store can't take it. All of it is cheap to copy.
#[derive(Debug)]
struct Before {
    world: World,
    agenda: Agenda,
    reconcile: Option<Reconcile>,
}

/// What a turn leaves for the outside.
#[derive(Debug)]
pub struct Turn {
    /// A transaction was made.
    pub committed: Option<Committed>,
    /// The store could not take it; everything is as before, and will be tried again.
    pub failed: Option<StoreError>,
}

impl Core {
    /// Starts from what is recorded. Everything is looked at once.
    pub fn new(world: World, source: SourceStatus, now: Timestamp) -> Self {
        let mut core = Self {
            world,
            catalog: Catalog::default(),
            desired: Desired::default(),
            source,
            heartbeats: OrdMap::new(),
            usages: OrdMap::new(),
            reports: BTreeMap::new(),
            cycles: Vec::new(),
            diagnostics: Arc::default(),
            dirty: Dirty::default(),
            agenda: Agenda::default(),
            reconcile: None,
            started: now,
            retry: None,
            store_error: None,
            unplanned: None,
            turned: false,
        };
        for node in core.world.nodes.values() {
            core.agenda.leases.insert((now, node.name.clone()));
        }
        // Manifests wait for the source: what is not read yet is not gone.
        core.dirty.objects = Dirty::everything(&core.world, &Desired::default()).objects;
        core
    }

    /// Handles a batch of events, plans, and commits.
    pub fn turn(&mut self, events: Vec<Event>, now: Timestamp, store: &mut Store) -> Turn {
        let before = self.before();
        let mut batch = Batch::new(now);
        batch.dirty = std::mem::take(&mut self.dirty);
        batch.triggers.extend(self.unplanned.take());
        for event in events {
            self.handle(event, &mut batch, store);
        }
        if !self.turned {
            self.count_anew(&mut batch);
        }
        self.expire(&mut batch);
        let plan = self.plan(&mut batch);
        let mut audit = self.cut_short(&batch, store);
        audit.extend(self.audit(&batch, &plan));
        self.finish(before, batch, plan, audit, store)
    }

    /// When the loop must turn again even if nothing happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        // What is due was due in the turn that failed, too: it waits for the next try.
        if self.retry.is_some() {
            return self.retry;
        }
        let timer = self.agenda.timers.get_min().map(|(at, _)| *at);
        let lease = self.agenda.leases.get_min().map(|(at, _)| *at);
        [timer, lease, self.world.meta.listens_until].into_iter().flatten().min()
    }

    /// Applies effects as part of this turn's transaction.
    pub(super) fn apply(&mut self, batch: &mut Batch, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            // The first effect of a turn opens its transaction; the rest share its number.
            let version = match batch.effects.is_empty() {
                true => self.world.version + 1,
                false => self.world.version,
            };
            self.world.apply(&effect, version);
            batch.effects.push(effect);
        }
    }

    /// What follows from an explicit order, applied at once: what else this turn does must build on it.
    pub(super) fn carry_out_ordered(&mut self, batch: &mut Batch, plan: Plan) {
        self.apply(batch, plan.effects);
        batch.ordered.steps.extend(plan.steps);
        batch.ordered.waits.extend(plan.waits);
        batch.ordered.wakes.extend(plan.wakes);
    }

    /// How long a node has been away, or its engine has failed, is counted from the master's own
    /// start, since nobody listened before it: a node may have been heard by another master
    /// meanwhile, and its engine may work again.
    fn count_anew(&mut self, batch: &mut Batch) {
        let now = batch.now;
        let lost = self.world.nodes.iter().filter(|(_, node)| node.lost().is_some());
        let anew = lost.map(|(key, node)| {
            let heard_since = if node.heard == Some(false) { now } else { node.heard_since };
            let failing = node.failing.map(|_| now);
            let anew = Node { heard_since, failing, ..(*node.value).clone() };
            Effect::Put(key.clone(), Record::Node(Arc::new(anew)))
        });
        let meta = &self.world.meta;
        let listens = meta.listens_until.map(|_| Effect::Meta(Arc::new(epoch::listen(meta, now))));
        let anew: Vec<Effect> = anew.chain(listens).collect();
        self.apply(batch, anew);
    }

    /// Due timers, and nodes that were not heard of for too long.
    fn expire(&mut self, batch: &mut Batch) {
        if self.world.meta.listens_until.is_some_and(|until| until <= batch.now) {
            let meta = Meta { listens_until: None, ..(*self.world.meta).clone() };
            self.tell_all_nodes(batch, vec![Effect::Meta(Arc::new(meta))]);
            self.reconsider_held(batch);
        }
        while let Some((at, key)) = self.agenda.timers.get_min().cloned() {
            if at > batch.now {
                break;
            }
            self.agenda.timers.remove(&(at, key.clone()));
            self.agenda.wakes.remove(&key);
            batch.triggers.push(Trigger::Timer { what: key.to_string() });
            batch.mark([key]);
        }
        self.expire_leases(batch);
    }

    fn expire_leases(&mut self, batch: &mut Batch) {
        while let Some((at, name)) = self.agenda.leases.get_min().cloned() {
            if at > batch.now {
                break;
            }
            self.agenda.leases.remove(&(at, name.clone()));
            let Some(node) = self.world.nodes.get(&node_key(&name)).cloned() else { continue };
            let heard = self.heartbeats.get(&name).copied();
            let end = lease::runs_out(&node, heard, self.started, self.world.nodes.len());
            if end > batch.now {
                self.agenda.leases.insert((end, name));
            } else {
                self.set_heard(batch, &name, false);
            }
        }
    }

    /// Records that a node is heard of, or no longer.
    pub(super) fn set_heard(&mut self, batch: &mut Batch, name: &NodeName, heard: bool) {
        let key = node_key(name);
        let Some(node) = self.world.nodes.get(&key).map(|row| (*row.value).clone()) else { return };
        if node.heard == Some(heard) {
            return;
        }
        if heard {
            self.agenda.leases.insert((batch.now, name.clone()));
        }
        let what = if heard { "is heard of" } else { "is not heard of any more" };
        batch.seen.push(format!("node {name} {what}"));
        batch.triggers.push(Trigger::Node { node: name.to_string(), what: what.to_owned() });
        let node = Node { heard: Some(heard), heard_since: batch.now, ..node };
        self.apply(batch, [Effect::Put(key.clone(), Record::Node(Arc::new(node)))]);
        batch.mark([key]);
    }

    /// A new commit's catalog: what changed is dirty.
    pub(super) fn read(&mut self, batch: &mut Batch, changed: BTreeSet<ObjectKey>) {
        let depends = |desired: &Desired| {
            changed.iter().filter_map(|key| desired.objects.get(key)).any(|resource| {
                resource.references.iter().any(|r| r.kind == ReferenceKind::DependsOn)
            })
        };
        let commit = self.source.commit.clone().unwrap_or_default();
        let desired = self.catalog.desired(commit);
        let staged = !(self.desired.staged.is_empty() && desired.staged.is_empty());
        if depends(&self.desired) || depends(&desired) || staged {
            self.cycles = graph::cycles(&desired);
        }
        let mut diagnostics = self.catalog.diagnostics();
        diagnostics.extend(self.cycles.iter().cloned());
        diagnostics.sort_by(|a, b| (&a.place, &a.code).cmp(&(&b.place, &b.code)));
        self.diagnostics = Arc::new(diagnostics);
        self.desired = desired;
        batch.dirty.manifests.extend(changed);
        self.reconsider_held(batch);
        // A commit that changes nothing begins anew what an older one left unfinished.
        if let Some(sync) = self.world.meta.sync.as_ref().filter(|sync| sync.open) {
            batch.dirty.manifests.extend(sync.pending.iter().cloned());
            batch.dirty.objects.extend(sync.teller.iter().cloned());
        }
    }

    /// What the brakes hold is judged again: the manifests may be back, the file readable.
    pub(super) fn reconsider_held(&self, batch: &mut Batch) {
        if let Some(held) = &self.world.meta.held {
            batch.dirty.manifests.extend(held.objects.iter().cloned());
        }
    }

    fn plan(&mut self, batch: &mut Batch) -> Plan {
        let mut plan = batch.ordered.clone();
        if batch.dirty.is_empty() {
            return plan;
        }
        let ticked = plan::tick(&self.world, &self.desired, &batch.dirty, batch.now);
        plan.steps.extend(ticked.steps);
        plan.effects.extend(ticked.effects);
        plan.waits.extend(ticked.waits);
        plan.wakes.extend(ticked.wakes);
        plan
    }

    /// Ends what a master that died left unfinished: nobody goes on with it, since what is to be
    /// done is found anew.
    fn cut_short(&self, batch: &Batch, store: &Store) -> Vec<AuditDraft> {
        if self.turned {
            return Vec::new();
        }
        match store.newest_entries() {
            Ok(entries) => reconcile::cut_short(&entries, batch.now).into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "failed to read how the last reconcile ended");
                Vec::new()
            }
        }
    }

    fn audit(&mut self, batch: &Batch, plan: &Plan) -> Vec<AuditDraft> {
        let mut drafts = Vec::new();
        let by_commit =
            batch.triggers.iter().rfind(|trigger| matches!(trigger, Trigger::Commit { .. }));
        let held = self.holds_more(plan);
        if let Some(trigger) = by_commit {
            let forecast = self.forecast(batch);
            if !forecast.is_empty() || held {
                if let Some(open) = self.reconcile.take() {
                    drafts.extend(open.finish(&[], true, batch.now));
                }
                drafts.push(self.begin(trigger.clone(), &forecast, batch.now));
            }
        }
        if self.reconcile.is_none() && (!plan.steps.is_empty() || held) {
            let forecast = self.forecast(batch);
            drafts.push(self.begin(cause(batch), &forecast, batch.now));
        }
        let orders = reconcile::orders_within(batch, &drafts);
        if let Some(open) = &mut self.reconcile {
            // An order is the cause of what it has done, whatever the reconcile began with.
            let said = orders.iter().map(Order::to_string);
            let seen: Vec<String> = batch.seen.iter().cloned().chain(said).collect();
            drafts.extend(open.took(&plan.steps, &seen, batch.now));
        }
        let all = batch.orders.iter().cloned().chain(orders);
        drafts.extend(all.map(|order| reconcile::order(order, batch.now)));
        drafts
    }

    fn holds_more(&self, plan: &Plan) -> bool {
        let mut meta = plan.effects.iter().filter_map(|effect| match effect {
            Effect::Meta(meta) => Some(meta),
            _ => None,
        });
        let held = meta.next_back().and_then(|meta| meta.held.as_ref());
        let before = self.world.meta.held.as_ref();
        held.is_some() && held.map(|held| &held.plan) != before.map(|held| &held.plan)
    }

    fn forecast(&self, batch: &Batch) -> Vec<crate::domain::plan::Step> {
        let dirty = batch.dirty.clone();
        let ahead = plan::forecast::forecast_of(&self.world, &self.desired, dirty, batch.now).steps;
        batch.ordered.steps.iter().cloned().chain(ahead).collect()
    }

    fn begin(
        &mut self,
        trigger: Trigger,
        forecast: &[crate::domain::plan::Step],
        at: Timestamp,
    ) -> AuditDraft {
        let (reconcile, draft) = Reconcile::start(trigger, forecast, at);
        self.reconcile = Some(reconcile);
        draft
    }

    fn finish(
        &mut self,
        before: Before,
        mut batch: Batch,
        plan: Plan,
        mut audit: Vec<AuditDraft>,
        store: &mut Store,
    ) -> Turn {
        self.apply(&mut batch, plan.effects.iter().cloned());
        let events = plan::events::of_plan(&self.world, &plan, batch.now);
        self.apply(&mut batch, events);
        self.agenda.remember(&plan);
        if self.reconcile.is_some() && self.agenda.progressing.is_empty() {
            let waits: Vec<Waiting> = self.agenda.waits.values().flatten().cloned().collect();
            if let Some(open) = self.reconcile.take() {
                audit.extend(open.finish(&waits, false, batch.now));
            }
        }
        batch.effects = last_of_each(std::mem::take(&mut batch.effects));
        let version = self.world.version;
        // Testimony is kept, but it is no news to anybody.
        let news =
            !(batch.effects.is_empty() && batch.beside.tokens.is_empty() && audit.is_empty());
        let outcome = match news || !batch.beside.witnesses.is_empty() {
            true => store.commit_beside(version, &batch.effects, &batch.beside, &audit),
            false => Ok(()),
        };
        self.conclude(before, batch, outcome, news)
    }

    fn conclude(
        &mut self,
        before: Before,
        mut batch: Batch,
        outcome: Result<(), StoreError>,
        committed: bool,
    ) -> Turn {
        match outcome {
            Ok(()) => {
                self.retry = None;
                self.store_error = None;
                self.turned = true;
                let changes = self.changes(&before.world, &batch);
                batch.answers.into_iter().for_each(|answer| answer.give(Ok(())));
                let committed =
                    committed.then_some(Committed { version: self.world.version, changes });
                Turn { committed, failed: None }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                self.store_error = Some(format!("{error}{}", cause.unwrap_or_default()).into());
                let refused = Refused { reason: "StoreFailed", message: error.to_string() };
                let answers = std::mem::take(&mut batch.answers);
                self.take_back(before, batch);
                answers.into_iter().for_each(|answer| answer.give(Err(refused.clone())));
                Turn { committed: None, failed: Some(error) }
            }
        }
    }

    fn before(&self) -> Before {
        Before {
            world: self.world.clone(),
            agenda: self.agenda.clone(),
            reconcile: self.reconcile.clone(),
        }
    }

    /// Nothing of this turn happened, except that its work is still to be done. What was read of
    /// the source stays read, and who was heard of was heard of.
    fn take_back(&mut self, before: Before, batch: Batch) {
        let Before { world, agenda, reconcile } = before;
        self.world = world;
        self.agenda = agenda;
        self.reconcile = reconcile;
        for (node, last) in batch.reports.into_iter().rev() {
            match last {
                Some(last) => drop(self.reports.insert(node, last)),
                None => drop(self.reports.remove(&node)),
            }
        }
        self.dirty.extend(batch.dirty);
        let commit = |trigger: &Trigger| matches!(trigger, Trigger::Commit { .. });
        self.unplanned = batch.triggers.into_iter().rfind(commit);
        self.retry = Some(batch.now.after(RETRY_DELAY));
    }

    fn changes(&self, before: &World, batch: &Batch) -> Vec<RowChange> {
        let touched: BTreeSet<(Table, ObjectKey)> = batch
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Meta(_) => None,
                Effect::Put(key, record) => Some((record.table(), key.clone())),
                Effect::Remove(key, table) => Some((*table, key.clone())),
            })
            .collect();
        touched
            .into_iter()
            .map(|(table, key)| RowChange {
                table,
                before: before.row(&key, table),
                after: self.world.row(&key, table),
                key,
            })
            .collect()
    }

    /// What readers get to see.
    pub fn view(&self, store: &Store) -> View {
        View {
            world: self.world.clone(),
            catalog: self.catalog.clone(),
            source: Arc::new(self.source.clone()),
            diagnostics: Arc::clone(&self.diagnostics),
            waits: self.agenda.waits.clone(),
            heartbeats: self.heartbeats.clone(),
            usages: self.usages.clone(),
            reconciling: self.reconcile.as_ref().and_then(|_| store.newest_reconcile()),
            store_error: self.store_error.clone(),
        }
    }
}

/// A row that was written several times in a turn is written to disk once.
fn last_of_each(effects: Vec<Effect>) -> Vec<Effect> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Effect> = effects
        .into_iter()
        .rev()
        .filter(|effect| {
            seen.insert(match effect {
                Effect::Meta(_) => None,
                Effect::Put(key, record) => Some((record.table(), key.clone())),
                Effect::Remove(key, table) => Some((*table, key.clone())),
            })
        })
        .collect();
    kept.reverse();
    kept
}

/// What set a reconcile off that no commit did: what people did before what machines did.
fn cause(batch: &Batch) -> Trigger {
    let rank = |trigger: &Trigger| match trigger {
        Trigger::Commit { .. } => 0,
        Trigger::Approval { .. } | Trigger::Api { .. } => 1,
        Trigger::Drift { .. } => 2,
        Trigger::Observation { .. } => 3,
        Trigger::Node { .. } => 4,
        Trigger::Timer { .. } => 5,
        Trigger::Start => 6,
    };
    batch.triggers.iter().min_by_key(|trigger| rank(trigger)).cloned().unwrap_or(Trigger::Start)
}

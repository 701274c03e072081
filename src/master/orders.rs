//! What each event means: folded into the World, or handed to the store.

use std::sync::Arc;

use ipnet::Ipv4Net;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Epoch, NodeName};
use kgit_protocol::messages::{AuditHead, Report};
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::Usage;

use crate::domain::audit::Trigger;
use crate::domain::epoch;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::Doubt;
use crate::domain::plan::Dirty;
use crate::domain::record::{Held, Meta};
use crate::domain::service::of_the_api;
use crate::domain::world::{Effect, World, node_key};
use crate::master::batch::{Answer, Batch};
use crate::master::core::Core;
use crate::master::event::{Event, Refused, Reply};
use crate::master::tokens;
use crate::plan::{self, autoscaler, observe};
use crate::store::Store;
use crate::store::error::StoreError;

/// The plan that stands for "the backup that the master was restored from is good".
pub const RESTORED: &str = "restored";

impl Core {
    pub(super) fn handle(&mut self, event: Event, batch: &mut Batch, store: &mut Store) {
        match event {
            Event::Source { commit, change } => {
                let changed = self.catalog.apply(&change);
                let first = self.source.commit.is_none();
                self.source.commit = Some(Arc::clone(&commit));
                self.source.error = None;
                self.source.checked = batch.now;
                batch.triggers.push(Trigger::Commit { commit: (*commit).clone() });
                self.read(batch, changed);
                if first {
                    let all = Dirty::everything(&self.world, &self.desired);
                    batch.dirty.manifests.extend(all.manifests);
                }
            }
            Event::SourceFailed { error } => {
                self.source.error = Some(error);
                self.source.checked = batch.now;
            }
            Event::SourceRecovered => {
                self.source.error = None;
                self.source.checked = batch.now;
            }
            Event::ServiceRange { range } => self.settle_range(batch, range),
            Event::Join { join, key_digest, credential, reply } => {
                self.join(batch, &join, key_digest, credential, reply, store);
            }
            Event::Pull { node, have, witness } => self.pulled(batch, &node, have, witness),
            Event::Report { node, report, reply } => self.reported(batch, &node, &report, reply),
            Event::Heartbeat { node, .. } => self.heard(batch, &node),
            Event::Usage { node, usage } => self.measured(batch, &node, usage),
            Event::Leave { node, reply } => self.left(batch, &node, reply),
            Event::Approve { plan, by, reply } => self.approve(batch, plan, by, reply),
            Event::RemoveRetained { objects, by, reply } => {
                self.remove_retained(batch, &objects, by, reply);
            }
            Event::Suspend { by, reply } => self.suspend(batch, by, reply),
            Event::Resume { by, reply } => self.resume(batch, by, reply),
            Event::ResetNode { node, by, reply } => self.reset_node(batch, &node, by, reply),
            Event::Node { node, order, by, reply } => {
                self.order_node(batch, &node, order, by, reply);
            }
            Event::EndPod { pod, grace_seconds, by, reply } => {
                self.end_pod(batch, &pod, grace_seconds, by, reply);
            }
            Event::Token { order, by, reply } => {
                let what = tokens::text(&order);
                match tokens::add(order, batch, store) {
                    Ok(()) => {
                        batch.ordered_by(by, what);
                        batch.answers.push(Answer::Done(reply));
                    }
                    Err(refused) => drop(reply.send(Err(refused))),
                }
            }
            Event::Entered { by, what, reply } => {
                batch.ordered_by(by, what);
                batch.answers.push(Answer::Done(reply));
            }
            Event::RemoveAudit { through, by, reply } => {
                let outcome = store.remove_audit(through, batch.now, &by).map_err(refused);
                drop(reply.send(outcome.map(|()| through)));
            }
            Event::Timer | Event::Shutdown => {}
        }
    }

    fn settle_range(&mut self, batch: &mut Batch, range: Ipv4Net) {
        if self.world.meta.service_range.is_some() {
            return;
        }
        let meta = Meta { service_range: Some(range), ..(*self.world.meta).clone() };
        self.apply(batch, [Effect::Meta(Arc::new(meta))]);
        let services = self.world.objects_of(Kind::Service).map(|row| row.resource.key.clone());
        batch.mark(services.chain([of_the_api()]).collect::<Vec<_>>());
    }

    fn pulled(
        &mut self,
        batch: &mut Batch,
        name: &NodeName,
        have: Option<Stamp>,
        witness: Option<AuditHead>,
    ) {
        self.heard(batch, name);
        // One that can't be kept now comes again with the next pull.
        batch.beside.witnesses.extend(witness.map(|head| (name.clone(), head)));
        let Some(node) = self.world.nodes.get(&node_key(name)) else { return };
        let Some(have) = have else { return };
        if exceeds(&have, &node.issued) {
            return self.notice_restore(batch, name, have.epoch);
        }
        match &node.doubt {
            Some(Doubt::Unheard { known }) if exceeds(&have, known) => {
                self.notice_loss(batch, name);
            }
            Some(Doubt::Unheard { .. } | Doubt::Runs(_)) | None => {}
        }
    }

    /// An agent has orders that this master never gave: its data is an older copy that nobody
    /// told of. From now on its orders are of a new epoch, and nothing is removed until somebody
    /// confirms.
    fn notice_restore(&mut self, batch: &mut Batch, name: &NodeName, theirs: Epoch) {
        if theirs < self.world.meta.epoch && self.world.meta.restored {
            // Noticed already: the orders that this turn ends with are of a newer epoch.
            return;
        }
        batch.triggers.push(unknown_orders(name));
        let unplaced: Vec<ObjectKey> =
            self.world.unplaced().map(|pod| self.world.workload_of(pod)).collect();
        let begun = epoch::begin(&self.world, theirs, true, batch.now);
        self.tell_all_nodes(batch, begun);
        // Their pods are made anew.
        batch.mark(unplaced);
    }

    /// The backup that was restored was not the newest state: nothing is removed until somebody
    /// confirms.
    fn notice_loss(&mut self, batch: &mut Batch, name: &NodeName) {
        if let Some(effect) = epoch::know_less(&self.world) {
            batch.triggers.push(unknown_orders(name));
            self.tell_all_nodes(batch, vec![effect]);
        }
    }

    /// Applies what every node's orders depend on.
    pub(super) fn tell_all_nodes(&mut self, batch: &mut Batch, effects: Vec<Effect>) {
        self.apply(batch, effects);
        let nodes: Vec<ObjectKey> = self.world.nodes.keys().cloned().collect();
        batch.mark(nodes);
    }

    fn reported(&mut self, batch: &mut Batch, name: &NodeName, report: &Report, reply: Reply<u64>) {
        self.heard(batch, name);
        let late = self
            .reports
            .get(name)
            .is_some_and(|(boot, sequence)| *boot == report.boot && report.sequence <= *sequence);
        batch.answers.push(Answer::Number(reply, report.sequence));
        if late {
            return;
        }
        let last = self.reports.insert(name.clone(), (report.boot.clone(), report.sequence));
        batch.reports.push((name.clone(), last));
        let folded = observe::fold(&self.world, name, report, batch.now);
        for line in &folded.said {
            let what = line.clone();
            batch.triggers.push(match is_drift(line) {
                true => Trigger::Drift { what },
                false => Trigger::Observation { what },
            });
        }
        batch.seen.extend(folded.said);
        batch.mark(folded.dirty);
        let doubtful = self.world.doubtful_nodes().count();
        self.apply(batch, folded.effects);
        if self.world.doubtful_nodes().count() < doubtful {
            self.reconsider_held(batch);
        }
    }

    fn heard(&mut self, batch: &mut Batch, name: &NodeName) {
        self.heartbeats.insert(name.clone(), batch.now);
        self.set_heard(batch, name, true);
    }

    /// The newest figures are kept in memory for whoever asks; what an autoscaler goes by is
    /// recorded, so that a plan never depends on anything else.
    fn measured(&mut self, batch: &mut Batch, name: &NodeName, usage: Arc<Usage>) {
        if !self.world.nodes.contains_key(&node_key(name)) {
            return;
        }
        // The node's clock is not the master's.
        let usage = Arc::new(received(&usage, batch.now));
        let effects = autoscaler::fold(&self.world, name, &usage);
        batch.mark(effects.iter().filter_map(|effect| match effect {
            Effect::Put(key, _) => Some(key.clone()),
            Effect::Meta(_) | Effect::Remove(..) => None,
        }));
        self.apply(batch, effects);
        self.usages.insert(name.clone(), usage);
    }

    fn approve(&mut self, batch: &mut Batch, plan: String, by: String, reply: Reply<String>) {
        if plan == RESTORED && self.world.meta.restored {
            let meta = Meta { restored: false, ..(*self.world.meta).clone() };
            self.tell_all_nodes(batch, vec![Effect::Meta(Arc::new(meta))]);
            self.reconsider_held(batch);
            batch.triggers.push(Trigger::Approval { by, what: plan });
            batch.answers.push(Answer::Text(reply, "removals go on from here".to_owned()));
            return;
        }
        let Some(held) = self.world.meta.held.clone().filter(|held| held.plan == plan) else {
            let message = match &self.world.meta.held {
                Some(held) => format!("no plan `{plan}` waits for approval; `{}` does", held.plan),
                None => format!("no plan `{plan}` waits for approval; nothing does"),
            };
            drop(reply.send(Err(Refused { reason: "NoSuchPlan", message })));
            return;
        };
        if !held.approvable {
            let message = format!("plan `{plan}` can't be approved: {}", held.reason);
            drop(reply.send(Err(Refused { reason: "NotApprovable", message })));
            return;
        }
        let count = held.objects.len();
        let held = Held { approved: Some(by.clone()), ..held };
        let meta = Meta { held: Some(held), ..(*self.world.meta).clone() };
        self.apply(batch, [Effect::Meta(Arc::new(meta))]);
        self.reconsider_held(batch);
        batch.triggers.push(Trigger::Approval { by, what: plan });
        batch.answers.push(Answer::Text(reply, format!("{count} objects go")));
    }

    fn remove_retained(
        &mut self,
        batch: &mut Batch,
        objects: &[ObjectKey],
        by: String,
        reply: Reply<Vec<ObjectKey>>,
    ) {
        if let Some(refused) = not_retained(&self.world, objects) {
            return drop(reply.send(Err(refused)));
        }
        let (plan, removed) =
            plan::remove_retained(&self.world, &self.desired, objects, &by, batch.now);
        self.carry_out_ordered(batch, plan);
        batch.mark(removed.iter().cloned());
        // A claim whose data is lost has a manifest, and is made anew.
        batch.dirty.manifests.extend(removed.iter().cloned());
        let what = format!("removal of {}", named(&removed));
        batch.triggers.push(Trigger::Api { by, what });
        batch.answers.push(Answer::Objects(reply, removed));
    }

    fn suspend(&mut self, batch: &mut Batch, by: String, reply: Reply<()>) {
        if self.world.meta.suspended.is_none() {
            let meta = Meta { suspended: Some(by.clone()), ..(*self.world.meta).clone() };
            self.apply(batch, [Effect::Meta(Arc::new(meta))]);
        }
        batch.ordered_by(by, "that new commits wait".to_owned());
        batch.answers.push(Answer::Done(reply));
    }

    fn resume(&mut self, batch: &mut Batch, by: String, reply: Reply<()>) {
        if self.world.meta.suspended.is_some() {
            let meta = Meta { suspended: None, ..(*self.world.meta).clone() };
            self.apply(batch, [Effect::Meta(Arc::new(meta))]);
            if let Some(commit) = &self.source.commit {
                let all = Dirty::everything(&self.world, &self.desired);
                batch.dirty.manifests.extend(all.manifests);
                // What follows is the doing of the commit that waited.
                batch.triggers.push(Trigger::Commit { commit: (**commit).clone() });
            }
        }
        batch.ordered_by(by, "that commits no longer wait".to_owned());
        batch.answers.push(Answer::Done(reply));
    }
}

fn unknown_orders(node: &NodeName) -> Trigger {
    let what = "has orders that this master never gave: it was restored from a backup";
    Trigger::Node { node: node.to_string(), what: what.to_owned() }
}

fn exceeds(have: &Stamp, issued: &Stamp) -> bool {
    let (theirs, ours) = ((have.epoch, have.generation), (issued.epoch, issued.generation));
    theirs > ours || (theirs == ours && have.digest != issued.digest)
}

fn is_drift(line: &str) -> bool {
    ["Removed", "Stopped", "Paused", "Changed", "NetworkLost", "ImageLost"]
        .iter()
        .any(|kind| line.contains(&format!(" {kind}: ")))
}

fn refused(error: StoreError) -> Refused {
    Refused { reason: "StoreFailed", message: error.to_string() }
}

/// Figures, as of when they came.
fn received(usage: &Usage, now: Timestamp) -> Usage {
    let mut usage = usage.clone();
    usage.node.at = now;
    usage.pods.iter_mut().for_each(|pod| pod.at = now);
    usage
}

/// Objects in a few words: each has a step of its own in the log.
fn named(objects: &[ObjectKey]) -> String {
    match objects {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}

/// What of these objects is not there to be removed by an order, and what would remove it.
fn not_retained(world: &World, objects: &[ObjectKey]) -> Option<Refused> {
    let missing = objects.iter().any(|key| !world.objects.contains_key(key));
    let why = |key: &ObjectKey| {
        let Some(applied) = world.objects.get(key) else {
            return Some(format!("there is no {key}"));
        };
        if plan::may_be_given_up(world, applied) {
            return None;
        }
        if let Some(pod) = plan::pod_that_uses_lost(world, key) {
            return Some(format!("{key} is used by {}, which has to end first", pod.key));
        }
        match &applied.owner {
            Some(owner) => Some(format!("{key} is of {owner}, which uses it")),
            None => {
                Some(format!("{key} has a manifest, at {}; remove that", applied.resource.place))
            }
        }
    };
    let all: Vec<String> = objects.iter().filter_map(why).collect();
    let reason = if missing { "NotFound" } else { "NotRetained" };
    (!all.is_empty()).then(|| Refused { reason, message: all.join("; ") })
}

//! What each event means: folded into the World, or handed to the store.

use std::sync::Arc;

use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Digest, Generation, NodeName};
use kgit_protocol::messages::{AuditHead, Join, Report};
use kgit_protocol::observation::NodeObservation;

use crate::domain::audit::Trigger;
use crate::domain::key::ObjectKey;
use crate::domain::plan::Dirty;
use crate::domain::record::{Held, Meta, Node};
use crate::domain::world::{Effect, Record, Table, node_key};
use crate::master::batch::{Answer, Batch};
use crate::master::core::Core;
use crate::master::event::{Event, Refused, Reply};
use crate::plan::{self, assignments, observe};
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
            Event::Join { join, key_digest, spends, reply } => {
                if self.join(batch, &join, key_digest, reply) {
                    batch.tokens.extend(spends);
                }
            }
            Event::Pull { node, have, witness } => self.pulled(batch, &node, have, witness, store),
            Event::Report { node, report, reply } => self.reported(batch, &node, &report, reply),
            Event::Heartbeat { node, .. } => self.heard(batch, &node),
            Event::Leave { node, reply } => self.left(batch, &node, reply),
            Event::Approve { plan, by, reply } => self.approve(batch, plan, by, reply),
            Event::RemoveRetained { objects, by, reply } => {
                self.remove_retained(batch, &objects, by, reply);
            }
            Event::Suspend { by, reply } => self.suspend(batch, by, reply),
            Event::ResetNode { node, by, reply } => self.reset_node(batch, &node, by, reply),
            Event::Token { order, reply } => {
                batch.tokens.push(order);
                batch.answers.push(Answer::Done(reply));
            }
            Event::Backup { to, reply } => {
                let outcome = store.backup(&to).map(drop).map_err(refused);
                drop(reply.send(outcome));
            }
            Event::RemoveAudit { through, by, reply } => {
                let outcome = store.remove_audit(through, batch.now, &by).map_err(refused);
                drop(reply.send(outcome.map(|()| through)));
            }
            Event::Timer | Event::Shutdown => {}
        }
    }

    /// False if the node was refused.
    fn join(
        &mut self,
        batch: &mut Batch,
        join: &Join,
        key_digest: Digest,
        reply: Reply<()>,
    ) -> bool {
        let key = node_key(&join.node);
        let known = self.world.nodes.get(&key).map(|row| (*row.value).clone());
        let taken = known.as_ref().is_some_and(|node| {
            !node.key_digest.as_str().is_empty() && node.key_digest != key_digest
        });
        if taken {
            let message = format!(
                "a node `{0}` with another key is a member already; choose another name, or \
                 run `kgit node reset {0}` if it is gone for good",
                join.node
            );
            drop(reply.send(Err(Refused { reason: "NameTaken", message })));
            return false;
        }
        let node = match known {
            Some(node) => Node { labels: labels(join), network: join.network, key_digest, ..node },
            None => self.new_node(batch, join, key_digest),
        };
        self.apply(batch, [Effect::Put(key.clone(), Record::Node(Arc::new(node)))]);
        let what = "joined".to_owned();
        batch.triggers.push(Trigger::Node { node: join.node.to_string(), what });
        batch.mark([key]);
        batch.answers.push(Answer::Done(reply));
        true
    }

    fn new_node(&self, batch: &Batch, join: &Join, key_digest: Digest) -> Node {
        Node {
            name: join.node.clone(),
            uid: plan::node_uid(&self.world.cluster, &join.node),
            joined: batch.now,
            labels: labels(join),
            unschedulable: false,
            network: join.network,
            observed: NodeObservation::default(),
            ready: None,
            ready_since: batch.now,
            next_address: 0,
            issued: Stamp {
                epoch: self.world.meta.epoch,
                generation: Generation(0),
                digest: assignments::empty_digest(),
            },
            boot: None,
            sequence: 0,
            key_digest,
            remove_volumes: Vec::new(),
        }
    }

    fn pulled(
        &mut self,
        batch: &mut Batch,
        name: &NodeName,
        have: Option<Stamp>,
        witness: Option<AuditHead>,
        store: &mut Store,
    ) {
        self.heard(batch, name);
        if let Some(head) = witness {
            // A testimony that can't be kept now comes again with the next pull.
            if let Err(error) = store.witness(name, &head) {
                tracing::warn!(node = %name, %error, "failed to keep an agent's testimony");
            }
        }
        let Some(node) = self.world.nodes.get(&node_key(name)) else { return };
        if have.is_some_and(|have| exceeds(&have, &node.issued)) {
            self.notice_restore(batch, name);
        }
    }

    /// An agent has orders that this master never gave: it was restored from a backup. From now
    /// on its orders are of a new epoch, and nothing is removed until somebody confirms.
    fn notice_restore(&mut self, batch: &mut Batch, name: &NodeName) {
        if self.world.meta.restored {
            return;
        }
        let what = "has orders that this master never gave: it was restored from a backup";
        batch.triggers.push(Trigger::Node { node: name.to_string(), what: what.to_owned() });
        let meta = Meta {
            epoch: self.world.meta.epoch.next(),
            restored: true,
            ..(*self.world.meta).clone()
        };
        self.apply(batch, [Effect::Meta(Arc::new(meta))]);
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
        self.apply(batch, folded.effects);
    }

    fn heard(&mut self, batch: &mut Batch, name: &NodeName) {
        self.heartbeats.insert(name.clone(), batch.now);
        self.set_ready(batch, name, true);
    }

    /// The node's agent stopped and removed its pods before it said goodbye.
    fn left(&mut self, batch: &mut Batch, name: &NodeName, reply: Reply<()>) {
        self.forget_node(batch, name);
        batch.triggers.push(Trigger::Node { node: name.to_string(), what: "left".to_owned() });
        batch.answers.push(Answer::Done(reply));
    }

    fn forget_node(&mut self, batch: &mut Batch, name: &NodeName) {
        let pods: Vec<_> = self.world.pods_on(name).map(|row| Arc::clone(&row.value)).collect();
        let workloads: Vec<ObjectKey> =
            pods.iter().map(|pod| self.world.workload_of(pod)).collect();
        let mut effects = vec![Effect::Remove(node_key(name), Table::Node)];
        for pod in &pods {
            effects.push(Effect::Remove(pod.key.clone(), Table::Pod));
            effects.push(Effect::Remove(pod.key.clone(), Table::Events));
        }
        self.apply(batch, effects);
        self.heartbeats.remove(name);
        if let Some(last) = self.reports.remove(name) {
            batch.reports.push((name.clone(), Some(last)));
        }
        batch.mark(workloads);
    }

    fn approve(&mut self, batch: &mut Batch, plan: String, by: String, reply: Reply<String>) {
        if plan == RESTORED && self.world.meta.restored {
            let meta = Meta { restored: false, ..(*self.world.meta).clone() };
            self.apply(batch, [Effect::Meta(Arc::new(meta))]);
            let nodes: Vec<ObjectKey> = self.world.nodes.keys().cloned().collect();
            batch.mark(nodes);
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
        let (plan, removed) =
            plan::remove_retained(&self.world, &self.desired, objects, &by, batch.now);
        batch.ordered = plan;
        let what = format!("removal of {} retained objects", removed.len());
        batch.triggers.push(Trigger::Api { by, what });
        batch.answers.push(Answer::Objects(reply, removed));
    }

    fn suspend(&mut self, batch: &mut Batch, by: Option<String>, reply: Reply<()>) {
        let resumed = by.is_none() && self.world.meta.suspended.is_some();
        if self.world.meta.suspended != by {
            let meta = Meta { suspended: by, ..(*self.world.meta).clone() };
            self.apply(batch, [Effect::Meta(Arc::new(meta))]);
        }
        if let (true, Some(commit)) = (resumed, &self.source.commit) {
            let all = Dirty::everything(&self.world, &self.desired);
            batch.dirty.manifests.extend(all.manifests);
            // What follows is the doing of the commit that waited.
            batch.triggers.push(Trigger::Commit { commit: (**commit).clone() });
        }
        batch.answers.push(Answer::Done(reply));
    }

    fn reset_node(&mut self, batch: &mut Batch, name: &NodeName, by: String, reply: Reply<()>) {
        if !self.world.nodes.contains_key(&node_key(name)) {
            let message = format!("there is no node `{name}`");
            drop(reply.send(Err(Refused { reason: "NotFound", message })));
            return;
        }
        self.forget_node(batch, name);
        batch.triggers.push(Trigger::Api { by, what: format!("reset of node {name}") });
        batch.answers.push(Answer::Done(reply));
    }
}

fn labels(join: &Join) -> crate::domain::selector::Labels {
    let mut labels = join.labels.clone();
    labels.insert("kubernetes.io/hostname".to_owned(), join.node.to_string());
    labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    labels
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

//! Who is a member: how nodes join, come back and go, and what becomes of those that went.

use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Digest, Generation, NodeName};
use kgit_protocol::messages::Join;

use crate::domain::audit::Trigger;
use crate::domain::epoch;
use crate::domain::node::{Doubt, Node};
use crate::domain::selector::Labels;
use crate::domain::standing::Departed;
use crate::domain::world::{Effect, Record, Table, departed_key, node_key};
use crate::master::batch::{Answer, Batch};
use crate::master::core::Core;
use crate::master::event::{Credential, Refused, Reply};
use crate::master::nodes::with_orders;
use crate::master::tokens;
use crate::plan::{self, assignments};
use crate::store::Store;

/// How long it is remembered that a machine was a member: longer than its certificate is good for.
/// One that no record tells of was issued in what was lost.
const REMEMBERED: Duration = Duration::from_secs(2 * 366 * 24 * 3600);

impl Core {
    pub(super) fn join(
        &mut self,
        batch: &mut Batch,
        join: &Join,
        key_digest: Digest,
        credential: Credential,
        reply: Reply<()>,
        store: &Store,
    ) {
        let known = match self.admit(batch, join, &key_digest, &credential, store) {
            Ok(known) => known,
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        let key = node_key(&join.node);
        let mut what = "joined";
        if known.is_none() && credential == Credential::Certificate {
            let knows_less = epoch::know_less(&self.world);
            self.tell_all_nodes(batch, knows_less.into_iter().collect());
            what = "is a member by its certificate, and no record tells when it joined: the master \
                    was restored from a backup";
        }
        let node = match known {
            Some(node) => Node {
                labels: with_orders(labels(join), &node.label_orders),
                network: join.network,
                key_digest,
                ..node
            },
            None => self.new_node(batch, join, key_digest),
        };
        let departed = departed_key(&node.key_digest);
        self.apply(batch, [Effect::Put(key.clone(), Record::Node(Arc::new(node)))]);
        if self.world.departed.contains_key(&departed) {
            self.apply(batch, [Effect::Remove(departed, Table::Departed)]);
        }
        batch.triggers.push(Trigger::Node { node: join.node.to_string(), what: what.to_owned() });
        batch.mark([key]);
        batch.answers.push(Answer::Done(reply));
    }

    /// The node as it is known, if it is the same machine; another may not take its name.
    fn admit(
        &self,
        batch: &mut Batch,
        join: &Join,
        key_digest: &Digest,
        credential: &Credential,
        store: &Store,
    ) -> Result<Option<Node>, Refused> {
        let known = self.world.nodes.get(&node_key(&join.node)).map(|row| (*row.value).clone());
        let taken = known.as_ref().is_some_and(|node| {
            !node.key_digest.as_str().is_empty() && node.key_digest != *key_digest
        });
        if taken {
            let message = format!(
                "a node `{0}` with another key is a member already; choose another name, or \
                 run `kgit node reset {0}` if it is gone for good",
                join.node
            );
            return Err(Refused { reason: "NameTaken", message });
        }
        let departed = self.world.departed.contains_key(&departed_key(key_digest));
        match credential {
            Credential::Token(spends) => {
                spends.clone().map_or(Ok(()), |order| tokens::add(order, batch, store))?;
            }
            Credential::Key | Credential::Certificate if known.is_some() => {}
            Credential::Certificate if !departed => {}
            Credential::Key | Credential::Certificate => {
                let message = format!("node `{}` is no member of the cluster", join.node);
                let reason = if departed { "NodeRemoved" } else { "NotAMember" };
                return Err(Refused { reason, message });
            }
        }
        Ok(known)
    }

    fn new_node(&self, batch: &Batch, join: &Join, key_digest: Digest) -> Node {
        let epoch = self.world.meta.epoch;
        let departed = self.world.departed.get(&departed_key(&key_digest));
        let issued = match departed.filter(|departed| departed.issued.epoch == epoch) {
            // What it was told before it went must not look as if this master had forgotten it.
            Some(departed) => departed.issued.clone(),
            None => Stamp { epoch, generation: Generation(0), digest: assignments::empty_digest() },
        };
        let uid = plan::node_uid(&self.world.cluster, &join.node);
        let (name, network) = (join.node.clone(), join.network);
        let node = Node::new(name, uid, batch.now, network, key_digest, issued);
        // Only where the repo asks for it does anything move.
        let filling = self.world.meta.settings.rebalance_budget.map(|_| batch.now);
        // It may have been a member in what was lost.
        let known = node.issued.clone();
        let doubt = self.world.meta.restored.then_some(Doubt::Unheard { known });
        Node { labels: labels(join), filling, doubt, ..node }
    }

    /// The node's agent stopped and removed its pods before it said goodbye.
    pub(super) fn left(&mut self, batch: &mut Batch, name: &NodeName, reply: Reply<()>) {
        self.forget_node(batch, name);
        batch.triggers.push(Trigger::Node { node: name.to_string(), what: "left".to_owned() });
        batch.answers.push(Answer::Done(reply));
    }

    /// The node is a member no more. If it comes back, it is told to end what it runs.
    pub(super) fn forget_node(&mut self, batch: &mut Batch, name: &NodeName) {
        let Some(node) = self.world.nodes.get(&node_key(name)).cloned() else { return };
        self.forget_pods(batch, name);
        self.forget_departed(batch);
        let issued = Stamp {
            epoch: node.issued.epoch,
            generation: node.issued.generation.next(),
            digest: assignments::empty_digest(),
        };
        let departed = Departed { node: name.clone(), at: batch.now, issued };
        let departed =
            Effect::Put(departed_key(&node.key_digest), Record::Departed(Arc::new(departed)));
        // Another machine may have its name in what was lost, and is let in only now.
        let listens = node
            .doubt
            .as_ref()
            .map(|_| Effect::Meta(Arc::new(epoch::listen(&self.world.meta, batch.now))));
        let removed = Effect::Remove(node_key(name), Table::Node);
        self.apply(batch, [departed, removed].into_iter().chain(listens));
        self.heartbeats.remove(name);
        self.usages.remove(name);
        if let Some(last) = self.reports.remove(name) {
            batch.reports.push((name.clone(), Some(last)));
        }
        // Whose pods it had is not all: DaemonSets count nodes.
        batch.mark([node_key(name)]);
    }

    /// Those whose certificates have run out for long.
    fn forget_departed(&mut self, batch: &mut Batch) {
        let old = self.world.departed.iter();
        let old = old.filter(|(_, row)| row.at.after(REMEMBERED) <= batch.now);
        let old: Vec<Effect> =
            old.map(|(key, _)| Effect::Remove(key.clone(), Table::Departed)).collect();
        self.apply(batch, old);
    }

    pub(super) fn reset_node(
        &mut self,
        batch: &mut Batch,
        name: &NodeName,
        by: String,
        reply: Reply<()>,
    ) {
        let Some(node) = self.world.nodes.get(&node_key(name)) else {
            let message = format!("there is no node `{name}`");
            drop(reply.send(Err(Refused { reason: "NotFound", message })));
            return;
        };
        let instead = "`kgit agent leave` there takes it out for good, and a node that is lost can \
                       be reset once it is not ready";
        if let Err(refused) = self.must_be_lost(node, instead) {
            return drop(reply.send(Err(refused)));
        }
        self.forget_node(batch, name);
        batch.triggers.push(Trigger::Api { by, what: format!("reset of node {name}") });
        batch.answers.push(Answer::Done(reply));
    }
}

fn labels(join: &Join) -> Labels {
    let mut labels = join.labels.clone();
    labels.insert("kubernetes.io/hostname".to_owned(), join.node.to_string());
    labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    labels
}

//! What people order besides commits: about nodes, held plans, retained data, backups.

use std::collections::BTreeMap;
use std::time::Duration;

use kgit::domain::key::ObjectKey;
use kgit::domain::node_order::{NodeOrder, TaintOrder};
use kgit::domain::world::node_key;
use kgit::master::event::Event;
use kgit_protocol::ids::NodeName;
use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::happening::Happening;

/// What somebody orders, of these as many as chance will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    Cordon,
    Uncordon,
    Drain,
    NoSchedule,
    NoExecute,
    Untaint,
    Label,
    Join,
    Leave,
    Approve,
    Prune,
    Suspend,
    Resume,
}

impl Order {
    pub const ALL: [Self; 13] = [
        Self::Cordon,
        Self::Uncordon,
        Self::Drain,
        Self::NoSchedule,
        Self::NoExecute,
        Self::Untaint,
        Self::Label,
        Self::Join,
        Self::Leave,
        Self::Approve,
        Self::Prune,
        Self::Suspend,
        Self::Resume,
    ];
}

/// More machines than this above the first ones only make a run longer.
const MOST_JOINED: usize = 4;

const BY: &str = "ann";

impl Cluster {
    pub fn order_something(&mut self) {
        let nodes: Vec<usize> = self.members().map(|agent| agent.index).collect();
        if self.master.running.is_none() || nodes.is_empty() {
            return;
        }
        let (order, node) = (self.random.pick(&Order::ALL), self.random.pick(&nodes));
        self.say(|| format!("somebody orders {order:?}, n{node}"));
        *self.coverage.orders.entry(order).or_default() += 1;
        self.carry_out(order, node);
    }

    fn carry_out(&mut self, order: Order, node: usize) {
        let taint = |effect: &str, remove| NodeOrder::Taint {
            taints: vec![TaintOrder {
                key: "maintenance".to_owned(),
                value: String::new(),
                effect: (!effect.is_empty()).then(|| effect.to_owned()),
                remove,
            }],
        };
        match order {
            Order::Cordon => self.order_node(node, NodeOrder::Cordon),
            Order::Uncordon => self.order_node(node, NodeOrder::Uncordon),
            Order::Drain => {
                let force = self.random.permille(500);
                let grace_seconds = self.random.pick(&[None, Some(1), Some(60)]);
                let delete_empty_dirs = true;
                let drain = NodeOrder::Drain { grace_seconds, delete_empty_dirs, force };
                self.order_node(node, drain);
            }
            Order::NoSchedule => self.order_node(node, taint("NoSchedule", false)),
            Order::NoExecute => self.order_node(node, taint("NoExecute", false)),
            Order::Untaint => self.order_node(node, taint("", true)),
            Order::Label => {
                let value = self.random.pick(&[None, Some("ssd".to_owned())]);
                let labels = BTreeMap::from([("disk".to_owned(), value)]);
                self.order_node(node, NodeOrder::Label { labels });
            }
            Order::Join => {
                let first = self.agents.iter().filter(|agent| agent.dead || agent.left).count();
                if self.agents.len() < first + MOST_JOINED + 8 {
                    self.join();
                }
            }
            Order::Leave => self.leave(node),
            Order::Approve => self.approve(),
            Order::Prune => self.prune(),
            Order::Suspend => {
                let (reply, _) = oneshot::channel();
                self.tell_master(Event::Suspend { by: BY.to_owned(), reply });
            }
            Order::Resume => {
                let (reply, _) = oneshot::channel();
                self.tell_master(Event::Resume { by: BY.to_owned(), reply });
            }
        }
    }

    pub fn tell_master(&mut self, event: Event) {
        let Some(running) = &mut self.master.running else { return };
        running.inbox.push(event);
        self.wake_master(Duration::ZERO);
    }

    fn order_node(&mut self, node: usize, order: NodeOrder) {
        let (reply, _) = oneshot::channel();
        let node = self.agents[node].name.clone();
        self.tell_master(Event::Node { node, order, by: BY.to_owned(), reply });
    }

    /// `kgit agent leave`: the agent stops and removes what it has, and says goodbye. Where data
    /// would stay behind, nobody does that.
    fn leave(&mut self, node: usize) {
        let agent = &self.agents[node];
        let data = self.world.volumes.values().any(|it| it.node.as_ref() == Some(&agent.name));
        let heard = agent.process.is_some() && agent.link == Default::default();
        if data || !heard || self.members().count() < 6 || self.store_fails {
            return;
        }
        self.end_all(node, 143);
        let agent = &mut self.agents[node];
        agent.die();
        agent.left = true;
        agent.engine.world().containers.clear();
        let members = self.members().count();
        self.hours.members(self.now, members);
        self.at(Duration::ZERO, Happening::NodeRemoved { node });
    }

    /// Takes out a node that left or is dead, as often as it takes.
    pub fn take_out(&mut self, node: usize) {
        let name: NodeName = self.agents[node].name.clone();
        let agent = &self.agents[node];
        if !(agent.dead || agent.left) {
            return;
        }
        if !self.world.nodes.contains_key(&node_key(&name)) && self.master.running.is_some() {
            if agent.dead && !self.calm && self.random.permille(300) {
                let delay = self.random.millis(1_000, 1_800_000);
                self.at(delay, Happening::NodeReturns { node });
            }
            return;
        }
        self.at(Duration::from_secs(60), Happening::NodeRemoved { node });
        // A restored master may have data there that came after the backup was taken.
        if self.agents[node].left && self.restores == 0 {
            let (reply, _) = oneshot::channel();
            return self.tell_master(Event::Leave { node: name, reply });
        }
        self.checks.gives_up(&name);
        if self.random.permille(300) {
            self.order_node(node, NodeOrder::Fence);
        }
        self.order_node(node, NodeOrder::Remove);
    }

    /// Somebody approves what the brakes hold, and that a restored master goes on.
    pub fn approve(&mut self) {
        let restored = self.world.meta.restored.then(|| "restored".to_owned());
        let held = self.world.meta.held.as_ref().map(|held| held.plan.clone());
        for plan in restored.into_iter().chain(held) {
            let (reply, _) = oneshot::channel();
            self.say(|| format!("somebody approves {plan}"));
            self.tell_master(Event::Approve { plan, by: BY.to_owned(), reply });
        }
    }

    /// Somebody orders retained objects away, and their data.
    fn prune(&mut self) {
        let retained = self.world.objects.iter().filter(|(_, row)| row.retained.is_some());
        let objects: Vec<ObjectKey> = retained.map(|(key, _)| key.clone()).collect();
        if objects.is_empty() {
            return;
        }
        self.checks.orders_away(&objects);
        let (reply, _) = oneshot::channel();
        self.tell_master(Event::RemoveRetained { objects, by: BY.to_owned(), reply });
    }

    /// Nodes are open again, commits count, and who is not known may join again.
    pub fn undo_orders(&mut self) {
        let nodes: Vec<usize> = self.members().map(|agent| agent.index).collect();
        for node in nodes {
            self.agents[node].token = true;
            self.carry_out(Order::Uncordon, node);
            self.carry_out(Order::Untaint, node);
            // Data may be on any node that once had the label that its pods ask for.
            let labels = BTreeMap::from([("disk".to_owned(), Some("ssd".to_owned()))]);
            self.order_node(node, NodeOrder::Label { labels });
        }
        let (reply, _) = oneshot::channel();
        self.tell_master(Event::Resume { by: BY.to_owned(), reply });
    }

    pub fn take_backup(&mut self) {
        if self.master.running.is_some() && !self.store_fails && !self.calm {
            let path = self.dir.path().join("backup");
            self.master.backup(&path);
            self.backup = Some((path, self.world.clone()));
        }
        let delay = self.random.millis(300_000, 7_200_000);
        self.at(delay, Happening::BackupTaken);
    }

    /// The master's data is lost, and the last backup is put in its place.
    pub fn restore_master(&mut self) {
        let Some((path, world)) = self.backup.clone() else { return };
        self.kill_master();
        self.master.restore(&path, self.now);
        self.master.fail_store(self.store_fails);
        self.restores += 1;
        self.checks.forgets(&world);
    }
}

//! Orders about nodes: each one is a change of the node's row, in the turn's transaction; what
//! follows from it is planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::audit::Trigger;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::{Drain, Fence, Node, NodeTaint};
use crate::domain::node_order::{NodeOrder, TaintOrder};
use crate::domain::record::{ClaimPhase, ClaimState, Pod};
use crate::domain::selector::Labels;
use crate::domain::template::effect;
use crate::domain::world::{Effect, Record, Table, node_key};
use crate::manifest::lower::names::{is_key, is_label_value};
use crate::master::batch::{Answer, Batch};
use crate::master::core::Core;
use crate::master::event::{Refused, Reply};
use crate::plan::drain;

/// Labels and taints that a node may have by order: more is a mistake.
const MAX_ORDERED: usize = 256;
/// Pods named in a refusal; the rest is counted.
const MAX_NAMED: usize = 5;

impl Core {
    pub(super) fn order_node(
        &mut self,
        batch: &mut Batch,
        name: &NodeName,
        order: NodeOrder,
        by: String,
        reply: Reply<String>,
    ) {
        let what = format!("{order} of node {name}");
        match self.carry_out(batch, name, order, &by) {
            Err(refused) => drop(reply.send(Err(refused))),
            Ok(done) => {
                batch.mark([node_key(name)]);
                batch.triggers.push(Trigger::Api { by, what });
                batch.answers.push(Answer::Text(reply, done));
            }
        }
    }

    fn carry_out(
        &mut self,
        batch: &mut Batch,
        name: &NodeName,
        order: NodeOrder,
        by: &str,
    ) -> Result<String, Refused> {
        let node = self.world.nodes.get(&node_key(name)).map(|row| (*row.value).clone());
        let Some(node) = node else {
            return refuse("NotFound", format!("there is no node `{name}`"));
        };
        let done = match order {
            NodeOrder::Cordon => {
                self.put_node(batch, Node { unschedulable: true, ..node });
                format!("node {name} takes no new pods")
            }
            NodeOrder::Uncordon => {
                let open = Node { unschedulable: false, drain: None, fenced: None, ..node };
                self.put_node(batch, open);
                format!("node {name} takes pods")
            }
            NodeOrder::Drain { grace_seconds, delete_empty_dirs, force } => {
                let (by, since) = (by.to_owned(), batch.now);
                let drain = Drain { by, since, grace_seconds, delete_empty_dirs, force };
                self.may_drain(&node, &drain)?;
                self.put_node(batch, Node { unschedulable: true, drain: Some(drain), ..node });
                format!("node {name} takes no new pods, and those on it go as budgets allow")
            }
            NodeOrder::Label { labels } => {
                self.put_node(batch, labelled(node, labels)?);
                format!("node {name} is labelled")
            }
            NodeOrder::Taint { taints } => {
                let done = if taints.iter().all(|it| it.remove) { "untainted" } else { "tainted" };
                self.put_node(batch, tainted(node, taints, batch.now)?);
                format!("node {name} is {done}")
            }
            NodeOrder::Fence => self.fence(batch, node, by)?,
            NodeOrder::Remove => self.remove(batch, &node)?,
        };
        Ok(done)
    }

    fn put_node(&mut self, batch: &mut Batch, node: Node) {
        self.apply(batch, [Effect::Put(node_key(&node.name), Record::Node(Arc::new(node)))]);
    }

    /// What would lose something is asked for by name.
    fn may_drain(&self, node: &Node, drain: &Drain) -> Result<(), Refused> {
        let pods: Vec<Arc<Pod>> = drain::concerned(&self.world, node)
            .filter(|pod| pod.is_active() && pod.node() == Some(&node.name))
            .collect();
        let bare: Vec<&Arc<Pod>> =
            pods.iter().filter(|pod| pod.owner.kind == Kind::Pod && !drain.force).collect();
        let keeps = |pod: &&Arc<Pod>| drain::keeps_data(&pod.template) && !drain.delete_empty_dirs;
        let keeping: Vec<&Arc<Pod>> = pods.iter().filter(keeps).collect();
        let hindrances = [
            (bare, "no workload replaces them, and their end is only ordered with --force"),
            (
                keeping,
                "they keep data in an emptyDir, and it only goes with --delete-emptydir-data",
            ),
        ];
        let told = hindrances.iter().filter(|(pods, _)| !pods.is_empty());
        let told: Vec<_> = told.map(|(pods, why)| format!("{}: {why}", named(pods))).collect();
        match told.is_empty() {
            true => Ok(()),
            false => refuse("PodsWouldBeLost", told.join("; ")),
        }
    }

    /// Nothing of it is waited for any more. If it comes back it is told to stop what it has.
    fn fence(&mut self, batch: &mut Batch, node: Node, by: &str) -> Result<String, Refused> {
        self.must_be_lost(&node, "drain it instead")?;
        let name = node.name.clone();
        let count = self.forget_pods(batch, &name);
        let fenced = Some(Fence { by: by.to_owned(), at: batch.now });
        self.put_node(batch, Node { fenced, ..node });
        Ok(format!("node {name} counts as dead: {count} pods are replaced; `uncordon` ends it"))
    }

    fn remove(&mut self, batch: &mut Batch, node: &Node) -> Result<String, Refused> {
        self.must_be_lost(node, "`kgit agent leave` there takes it out")?;
        let lost: Vec<(ObjectKey, Option<String>)> = self
            .world
            .volumes
            .values()
            .filter(|state| state.node.as_ref() == Some(&node.name))
            .filter_map(|state| state.claim.clone())
            .filter_map(|(claim, _)| {
                Some((claim.clone(), self.world.claims.get(&claim)?.volume.clone()))
            })
            .collect();
        let count = lost.len();
        let effects = lost.iter().map(|(claim, volume)| {
            let state = ClaimState { phase: ClaimPhase::Lost, volume: volume.clone() };
            Effect::Put(claim.clone(), Record::Claim(Arc::new(state)))
        });
        let effects: Vec<Effect> = effects.collect();
        self.apply(batch, effects);
        batch.mark(lost.into_iter().map(|(claim, _)| claim));
        self.forget_node(batch, &node.name);
        Ok(format!("node {} is gone for good; {count} claims lost their data with it", node.name))
    }

    pub(super) fn must_be_lost(&self, node: &Node, instead: &str) -> Result<(), Refused> {
        if node.heard != Some(true) {
            return Ok(());
        }
        if !self.heartbeats.contains_key(&node.name) {
            let message = format!(
                "node `{}` was not heard of since the master started, and may come yet; try again \
                 once it is not ready",
                node.name
            );
            return refuse("NodeReady", message);
        }
        refuse("NodeReady", format!("node `{}` is heard of: {instead}", node.name))
    }

    /// Pods of a node that is given up are gone as far as anybody can know.
    pub(super) fn forget_pods(&mut self, batch: &mut Batch, name: &NodeName) -> usize {
        let pods: Vec<_> = self.world.pods_on(name).map(|row| Arc::clone(&row.value)).collect();
        let workloads: Vec<ObjectKey> =
            pods.iter().map(|pod| self.world.workload_of(pod)).collect();
        for pod in &pods {
            batch.mark(plan_woken(self, pod));
        }
        let effects: Vec<Effect> = pods
            .iter()
            .flat_map(|pod| {
                [Table::Pod, Table::Events].map(|it| Effect::Remove(pod.key.clone(), it))
            })
            .collect();
        self.apply(batch, effects);
        batch.mark(workloads);
        pods.len()
    }
}

/// Who is concerned by the end of a pod, besides its workload.
fn plan_woken(core: &Core, pod: &Pod) -> Vec<ObjectKey> {
    let mut woken = crate::plan::woken(&core.world, Some(pod), None);
    let claims = pod.template.claims();
    woken.extend(claims.map(|claim| pod.key.sibling(Kind::PersistentVolumeClaim, claim)));
    woken
}

fn refuse<T>(reason: &'static str, message: String) -> Result<T, Refused> {
    Err(Refused { reason, message })
}

fn named(pods: &[&Arc<Pod>]) -> String {
    let names = pods.iter().take(MAX_NAMED);
    let names = names.map(|pod| format!("`{}/{}`", pod.key.namespace, pod.key.name));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if pods.len() > MAX_NAMED {
        text.push_str(&format!(" and {} more", pods.len() - MAX_NAMED));
    }
    text
}

fn check_label(key: &str, value: &str) -> Result<(), Refused> {
    match is_key(key) && is_label_value(value) {
        true => Ok(()),
        false => refuse("Invalid", format!("`{key}={value}` is not a valid label or taint")),
    }
}

fn labelled(node: Node, orders: BTreeMap<String, Option<String>>) -> Result<Node, Refused> {
    for (key, value) in &orders {
        check_label(key, value.as_deref().unwrap_or_default())?;
    }
    let mut all = node.label_orders.clone();
    all.extend(orders);
    if all.len() > MAX_ORDERED {
        return refuse("TooMany", format!("a node has at most {MAX_ORDERED} labels by order"));
    }
    let labels = with_orders(node.labels.clone(), &all);
    Ok(Node { labels, label_orders: all, ..node })
}

/// The labels that a node joined with, and what was ordered since.
pub(super) fn with_orders(mut labels: Labels, orders: &BTreeMap<String, Option<String>>) -> Labels {
    for (key, value) in orders {
        match value {
            Some(value) => drop(labels.insert(key.clone(), value.clone())),
            None => drop(labels.remove(key)),
        }
    }
    labels
}

fn tainted(mut node: Node, orders: Vec<TaintOrder>, now: Timestamp) -> Result<Node, Refused> {
    for order in orders {
        check_label(&order.key, &order.value)?;
        let known = node.taints.iter().position(|taint| {
            taint.key == order.key && order.effect.as_ref().is_none_or(|it| *it == taint.effect)
        });
        if order.remove {
            if known.is_none() {
                return refuse("NotFound", format!("there is no such taint `{}`", order.key));
            }
            node.taints.retain(|taint| {
                taint.key != order.key
                    || order.effect.as_ref().is_some_and(|it| *it != taint.effect)
            });
            continue;
        }
        let effect = order.effect.clone().unwrap_or_default();
        let effects = [effect::NO_SCHEDULE, effect::PREFER_NO_SCHEDULE, effect::NO_EXECUTE];
        if !effects.contains(&effect.as_str()) {
            let message = format!("`{effect}` is not an effect: {}", effects.join(", "));
            return refuse("Invalid", message);
        }
        let taint = NodeTaint { key: order.key, value: order.value, effect, since: now };
        match known {
            // One that is there already keeps its time.
            Some(at) if node.taints[at].value == taint.value => {}
            Some(at) => node.taints[at] = taint,
            None if node.taints.len() == MAX_ORDERED => {
                return refuse("TooMany", format!("a node has at most {MAX_ORDERED} taints"));
            }
            None => node.taints.push(taint),
        }
    }
    Ok(node)
}

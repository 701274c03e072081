//! Room for a pod that fits nowhere: pods of lower priority make way for it. Source: upstream's
//! `scheduler/framework/preemption` and `plugins/defaultpreemption`.

use std::cmp::Reverse;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::plan::Reason;
use crate::domain::record::Pod;
use crate::domain::world::{Effect, Record, Table, World};
use crate::plan::budget;
use crate::plan::draft::Draft;
use crate::plan::pods;
use crate::plan::scheduler::Constraints;
use crate::plan::scheduler::session::Session;

/// Nodes that are tried out. Upstream's `minCandidateNodesAbsolute`; among as many, one that costs
/// little is found.
const MAX_TRIED: usize = 100;

/// Pods that are to go, and the node that this clears.
#[derive(Debug)]
pub struct Preemption {
    pub node: NodeName,
    victims: Vec<Arc<Pod>>,
}

/// The node that is cleared at the least cost, and of whom; `None` if that would not help.
pub fn choose(world: &World, pod: &Pod, constraints: &Constraints) -> Option<Preemption> {
    let lowest = world.lowest_priority()?;
    if pod.never_preempts || lowest >= pod.priority {
        return None;
    }
    let mut trial = world.clone();
    let mut session = Session::new(&trial, pod, constraints);
    let nodes = session.could_yield(&trial).into_iter();
    let nodes = nodes.filter(|node| lower(world, node, pod).next().is_some()).take(MAX_TRIED);
    let tried: Vec<_> = nodes
        .filter_map(|node| {
            let victims = victims(&mut trial, &mut session, &node, pod)?;
            Some((cost(world, &victims), Preemption { node, victims }))
        })
        .collect();
    tried.into_iter().min_by_key(|(cost, _)| *cost).map(|(_, chosen)| chosen)
}

fn lower<'w>(
    world: &'w World,
    node: &NodeName,
    pod: &Pod,
) -> impl Iterator<Item = Arc<Pod>> + use<'w> {
    let priority = pod.priority;
    let there = world.pods_on(node).filter(|other| !other.is_over());
    there.filter(move |other| other.priority < priority).map(|row| Arc::clone(&row.value))
}

/// The pods that have to go from a node: all of lower priority but those that can stay all the
/// same, those that a budget holds and those of higher priority before the others.
fn victims(
    trial: &mut World,
    session: &mut Session,
    node: &NodeName,
    pod: &Pod,
) -> Option<Vec<Arc<Pod>>> {
    let mut all: Vec<Arc<Pod>> = lower(trial, node, pod).collect();
    all.sort_by_key(|other| (Reverse(other.priority), since(other), other.key.clone()));
    let held = budget::violating(trial, &all);
    for other in &all {
        set_out(trial, session, other);
    }
    let fits = session.unfit(trial, node).is_empty();
    let (first, last): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|other| held.contains(&other.key));
    let mut victims = Vec::new();
    for other in first.into_iter().chain(last) {
        put_back(trial, session, &other);
        if fits && !session.unfit(trial, node).is_empty() {
            set_out(trial, session, &other);
            victims.push(other);
        }
    }
    for other in &victims {
        put_back(trial, session, other);
    }
    fits.then_some(victims)
}

fn set_out(trial: &mut World, session: &mut Session, pod: &Arc<Pod>) {
    trial.apply(&Effect::Remove(pod.key.clone(), Table::Pod), trial.version);
    session.changed(trial, Some(pod), None);
}

fn put_back(trial: &mut World, session: &mut Session, pod: &Arc<Pod>) {
    let back = Effect::Put(pod.key.clone(), Record::Pod(Arc::clone(pod)));
    trial.apply(&back, trial.version);
    session.changed(trial, None, Some(pod));
}

fn since(pod: &Pod) -> Option<Timestamp> {
    pod.placed.as_ref().map(|placed| placed.at)
}

/// Budgets overrun, the highest priority among those that go, the sum of priorities, their
/// number, and how long the eldest of the highest runs. Source: `pickOneNodeForPreemption`.
type Cost = (usize, i32, i64, usize, Reverse<Option<Timestamp>>);

fn cost(world: &World, victims: &[Arc<Pod>]) -> Cost {
    let overrun = budget::violating(world, victims).len();
    let highest = victims.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
    // Each counts for more than nothing, whatever its sign.
    let sum = victims.iter().map(|pod| i64::from(pod.priority) - i64::from(i32::MIN)).sum();
    let eldest =
        victims.iter().filter(|pod| pod.priority == highest).filter_map(|pod| since(pod)).min();
    (overrun, highest, sum, victims.len(), Reverse(eldest))
}

/// Tells the pods that make way to end.
pub fn carry_out(draft: &mut Draft<'_>, preemption: &Preemption, by: &Pod) {
    for victim in &preemption.victims {
        let reason = Reason::Preempted { by: by.key.clone(), priority: by.priority };
        pods::disrupt(draft, victim, reason);
    }
}

/// Pods on the node promised to `pod` that make way and are not gone yet.
pub fn under_way(world: &World, pod: &Pod) -> Vec<Arc<Pod>> {
    let Some(node) = pod.promised() else { return Vec::new() };
    lower(world, node, pod).filter(|other| other.deletion.is_some()).collect()
}

//! Two revisions of one set that keep each other from going on: a pod of the update finds no place
//! beside an old one, whose anti-affinity is about it, and the old one is kept because too many are
//! missing already.

use std::sync::Arc;

use crate::domain::record::Pod;
use crate::domain::world::{Effect, Record, Table, World};
use crate::plan::scheduler::session::Session;
use crate::plan::{pods, scheduler};

/// Whether `waiting`, which no node can take, is kept away by what `old` asks for, and has a place
/// once that is gone, with `successor`, which is made in its stead, beside it.
pub fn ends_without(world: &World, waiting: &Pod, old: &Pod, successor: &Pod) -> bool {
    // What it lacks may be something else than a node.
    if !scheduler::keeps_away(world, old, waiting) || seated(world, waiting).is_some() {
        return false;
    }
    let mut trial = world.clone();
    trial.apply(&Effect::Remove(old.key.clone(), Table::Pod), trial.version);
    let Some(waiting) = seated(&trial, waiting) else { return false };
    let taken = Effect::Put(waiting.key.clone(), Record::Pod(Arc::new(waiting)));
    trial.apply(&taken, trial.version);
    seated(&trial, successor).is_some()
}

/// The pod, with a node that can take it promised to it.
fn seated(world: &World, pod: &Pod) -> Option<Pod> {
    let constraints = pods::constraints(world, pod).ok()?;
    let node = Session::new(world, pod, &constraints).best(world)?.clone();
    Some(Pod { nominated: Some(node), ..pod.clone() })
}

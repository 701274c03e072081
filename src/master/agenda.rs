//! What the loop waits for, and when it looks again. Derived by ticks; never stored.

use imbl::{OrdMap, OrdSet};
use kgit_protocol::ids::NodeName;
use kgit_protocol::time::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::plan::{Plan, Waits};
use crate::master::reconcile::is_quiet;

/// Cheap to copy, since each turn of the loop may be taken back.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    pub waits: Waits,
    /// Objects that wait for something that is expected to happen.
    pub progressing: OrdSet<ObjectKey>,
    pub wakes: OrdMap<ObjectKey, Timestamp>,
    pub timers: OrdSet<(Timestamp, ObjectKey)>,
    /// When to look at a node's lease next; not before, since heartbeats only make it later.
    pub leases: OrdSet<(Timestamp, NodeName)>,
}

impl Agenda {
    /// Takes over what a plan says of waits and of when to look again.
    pub fn remember(&mut self, plan: &Plan) {
        for (key, waits) in &plan.waits {
            match waits.is_empty() {
                true => drop(self.waits.remove(key)),
                false => drop(self.waits.insert(key.clone(), waits.clone())),
            }
            match is_quiet(waits) {
                true => drop(self.progressing.remove(key)),
                false => drop(self.progressing.insert(key.clone())),
            }
        }
        for (key, wake) in &plan.wakes {
            if let Some(old) = self.wakes.remove(key) {
                self.timers.remove(&(old, key.clone()));
            }
            if let Some(at) = wake {
                self.wakes.insert(key.clone(), *at);
                self.timers.insert((*at, key.clone()));
            }
        }
    }
}

//! What one turn of the loop collects until its transaction: rows, token orders, answers that may
//! be given only once everything is on disk, and what set it all off.

use std::fmt;

use kgit_protocol::ids::{BootId, NodeName};
use kgit_protocol::time::Timestamp;

use crate::domain::audit::Trigger;
use crate::domain::key::ObjectKey;
use crate::domain::plan::{Dirty, Plan};
use crate::domain::world::Effect;
use crate::master::event::{Refused, Reply};
use crate::store::Beside;

#[derive(Debug)]
pub struct Batch {
    pub now: Timestamp,
    pub effects: Vec<Effect>,
    /// What is recorded beside the World's rows.
    pub beside: Beside,
    pub dirty: Dirty,
    pub answers: Vec<Answer>,
    /// What set this turn off, the weightiest first.
    pub triggers: Vec<Trigger>,
    /// What agents saw, in words.
    pub seen: Vec<String>,
    /// Nodes whose last report this turn replaced, with the one before: undone if the turn is.
    pub reports: Vec<(NodeName, Option<(BootId, u64)>)>,
    /// Orders that set no reconcile off themselves.
    pub orders: Vec<Order>,
    /// Steps that explicit orders already took; their effects are among `effects`.
    pub ordered: Plan,
}

impl Batch {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            effects: Vec::new(),
            beside: Beside::default(),
            dirty: Dirty::default(),
            answers: Vec::new(),
            triggers: Vec::new(),
            seen: Vec::new(),
            reports: Vec::new(),
            orders: Vec::new(),
            ordered: Plan::default(),
        }
    }

    /// Has an order recorded, whatever comes of it.
    pub fn ordered_by(&mut self, by: String, what: String) {
        self.orders.push(Order { by, what });
    }

    pub fn mark(&mut self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.dirty.objects.extend(keys);
    }
}

/// What somebody ordered, in words that go on after "ordered: ".
#[derive(Clone, Debug)]
pub struct Order {
    pub by: String,
    pub what: String,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ordered: {}", self.by, self.what)
    }
}

/// An answer that waits for the transaction.
#[derive(Debug)]
pub enum Answer {
    Done(Reply<()>),
    Number(Reply<u64>, u64),
    Text(Reply<String>, String),
    Objects(Reply<Vec<ObjectKey>>, Vec<ObjectKey>),
}

impl Answer {
    /// Gives the answer, or the refusal of everybody's transaction. Who asked may have gone.
    pub fn give(self, outcome: Result<(), Refused>) {
        match self {
            Self::Done(reply) => drop(reply.send(outcome)),
            Self::Number(reply, number) => drop(reply.send(outcome.map(|()| number))),
            Self::Text(reply, text) => drop(reply.send(outcome.map(|()| text))),
            Self::Objects(reply, objects) => drop(reply.send(outcome.map(|()| objects))),
        }
    }
}

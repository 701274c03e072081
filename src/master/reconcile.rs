//! A reconcile: from what set it off until nothing more is to be done. It holds the forecast that
//! was made at its start against the steps that are taken, for the audit.

use imbl::{OrdMap, Vector};
use kgit_protocol::time::Timestamp;

use crate::domain::audit::{AuditedStep, Body, Entry, MAX_STEPS_LISTED, Trigger, steps_of};
use crate::domain::plan::{Said, Step, Verb, WaitKind, Waiting};
use crate::master::batch::{Batch, Order};
use crate::plan::text;
use crate::store::audit::{AuditDraft, Belongs};

/// Lines of outcome that a reconcile keeps; what is beyond is counted.
const MAX_OUTCOME_LINES: usize = 200;

/// Cheap to copy, since each turn of the loop may be taken back.
#[derive(Clone, Debug)]
pub struct Reconcile {
    /// Steps that were forecast and not taken yet, with how often.
    expected: OrdMap<Said, u32>,
    steps: u32,
    deviations: u32,
    outcome: Vector<String>,
    beyond: u32,
}

impl Reconcile {
    /// Starts one, with the first entry of its record.
    pub fn start(trigger: Trigger, forecast: &[Step], at: Timestamp) -> (Self, AuditDraft) {
        let mut expected: OrdMap<Said, u32> = OrdMap::new();
        for step in forecast {
            *expected.entry(normal(&step.said)).or_insert(0) += 1;
        }
        let listed = forecast.iter().take(MAX_STEPS_LISTED).map(|step| step.said.clone());
        let body = Body::Triggered { by: trigger, forecast: listed.collect() };
        let reconcile =
            Self { expected, steps: 0, deviations: 0, outcome: Vector::new(), beyond: 0 };
        (reconcile, AuditDraft { at, reconcile: Belongs::New, body })
    }

    /// Records the steps of one tick, and what it came of; `None` if it took none.
    pub fn took(&mut self, steps: &[Step], seen: &[String], at: Timestamp) -> Option<AuditDraft> {
        for line in seen {
            if self.outcome.len() < MAX_OUTCOME_LINES {
                self.outcome.push_back(line.clone());
            } else {
                self.beyond += 1;
            }
        }
        if steps.is_empty() {
            return None;
        }
        let audited: Vec<AuditedStep> = steps.iter().map(|step| self.audited(step, seen)).collect();
        let beyond = audited.len().saturating_sub(MAX_STEPS_LISTED);
        let body = Body::Planned {
            steps: audited.into_iter().take(MAX_STEPS_LISTED).collect(),
            beyond: u32::try_from(beyond).unwrap_or(u32::MAX),
        };
        Some(AuditDraft { at, reconcile: Belongs::Newest, body })
    }

    fn audited(&mut self, step: &Step, seen: &[String]) -> AuditedStep {
        self.steps += 1;
        let said = normal(&step.said);
        let forecast = match self.expected.get_mut(&said) {
            // The stages of a scaling depend on the order in which pods become ready; its end is
            // what was forecast.
            Some(_) if said.verb == Verb::Scale => true,
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        };
        let deviation = (!forecast).then(|| {
            self.deviations += 1;
            cause(step, seen)
        });
        AuditedStep { said: step.said.clone(), reasons: step.reasons.clone(), deviation }
    }

    /// Ends it, with the last entries of its record.
    pub fn finish(self, waits: &[Waiting], superseded: bool, at: Timestamp) -> Vec<AuditDraft> {
        let draft = |body| AuditDraft { at, reconcile: Belongs::Newest, body };
        let mut drafts = Vec::new();
        let mut lines: Vec<String> = self.outcome.into_iter().collect();
        if self.beyond > 0 {
            lines.push(format!("and {} more", self.beyond));
        }
        if !lines.is_empty() {
            drafts.push(draft(Body::Outcome { lines }));
        }
        let missing = self
            .expected
            .into_iter()
            .filter(|(said, count)| *count > 0 && said.verb != Verb::Scale && !superseded)
            .map(|(said, _)| said);
        drafts.push(draft(Body::Finished {
            steps: self.steps,
            deviations: self.deviations,
            missing: missing.take(MAX_STEPS_LISTED).collect(),
            waiting: waits
                .iter()
                .take(MAX_OUTCOME_LINES)
                .map(|waiting| format!("{} waits for {}", waiting.object, waiting.for_what))
                .collect(),
            superseded,
        }));
        drafts
    }
}

/// What is behind a step that was not forecast: of what the tick came of, the line about its object,
/// else the newest one; else its own first reason.
fn cause(step: &Step, seen: &[String]) -> String {
    let name = format!("{} ", step.said.object);
    let about = seen.iter().rev().find(|line| line.starts_with(&name));
    match about.or(seen.last()) {
        Some(line) => line.clone(),
        None => step.reasons.first().map(text::because).unwrap_or_default(),
    }
}

/// The entry that ends a reconcile whose master died; `None` if it came to its end, or if nothing
/// of it is left.
pub fn cut_short(entries: &[Entry], at: Timestamp) -> Option<AuditDraft> {
    if entries.iter().any(|entry| matches!(entry.body, Body::Finished { .. })) {
        return None;
    }
    let (steps, deviations) = steps_of(entries);
    let body = Body::Finished {
        steps,
        deviations,
        missing: Vec::new(),
        waiting: Vec::new(),
        superseded: true,
    };
    (!entries.is_empty()).then_some(AuditDraft { at, reconcile: Belongs::Newest, body })
}

/// Who ordered what in a turn, but for the order that a reconcile is recorded to begin with.
pub fn orders_within(batch: &Batch, drafts: &[AuditDraft]) -> Vec<Order> {
    let begun = |trigger: &Trigger| {
        drafts
            .iter()
            .any(|draft| matches!(&draft.body, Body::Triggered { by, .. } if by == trigger))
    };
    let others = batch.triggers.iter().filter(|trigger| !begun(trigger));
    let orders = others.filter_map(|trigger| match trigger {
        Trigger::Approval { by, what } => {
            Some(Order { by: by.clone(), what: format!("approval of plan {what}") })
        }
        Trigger::Api { by, what } => Some(Order { by: by.clone(), what: what.clone() }),
        Trigger::Commit { .. }
        | Trigger::Drift { .. }
        | Trigger::Node { .. }
        | Trigger::Timer { .. }
        | Trigger::Observation { .. }
        | Trigger::Start => None,
    });
    orders.collect()
}

/// An entry of its own for an order: each says who gave it, even if nothing came of it.
pub fn order(order: Order, at: Timestamp) -> AuditDraft {
    let Order { by, what } = order;
    AuditDraft { at, reconcile: Belongs::New, body: Body::Ordered { by, what } }
}

/// A step as it is compared: the stages of a scaling are all the same step.
fn normal(said: &Said) -> Said {
    match said.verb {
        Verb::Scale => Said { detail: String::new(), ..said.clone() },
        _ => said.clone(),
    }
}

/// Nothing more will happen by itself: a tick goes as far as it can, so what is left is waits.
pub fn is_quiet<'a>(waits: impl IntoIterator<Item = &'a Waiting>) -> bool {
    waits.into_iter().all(|waiting| waiting.kind == WaitKind::Blocked)
}

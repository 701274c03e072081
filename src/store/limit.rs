//! What one reconcile may cost: a bounded number of bytes, whatever it did.
//!
//! Entries are cut to what fits; what is left out is counted and covered by a digest, which an
//! `Omitted` entry states right before `Finished`. Measured by the tests: a reconcile of eight
//! steps takes 4.2 KB, and one that never ends, with thousands of steps of long texts, stays
//! below [`MAX_RECONCILE_BYTES`], 520 KiB.

use kgit_protocol::ids::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::domain::audit::{Body, MAX_STEPS_LISTED};
use crate::domain::change::MAX_VALUE_CHARS;
use crate::domain::record::MAX_CAUSE_CHANGES;

/// Bytes of one entry's list. A step takes 300 to 800, so this is a hundred steps at a time.
const MAX_ENTRY_BYTES: usize = 64 << 10;

/// Bytes of all the steps and lines listed in one reconcile: 500 steps of the usual size.
const MAX_LISTED_BYTES: usize = 256 << 10;

/// An upper bound for everything that one reconcile leaves in the audit table: trigger, finish
/// and its two lists with an entry's bytes each, the listed steps and lines with the entry that
/// goes over, and 8 KiB for what surrounds them.
pub const MAX_RECONCILE_BYTES: usize = 4 * MAX_ENTRY_BYTES + MAX_LISTED_BYTES + (8 << 10);

/// Characters of one text in an entry; values are shorter already ([`MAX_VALUE_CHARS`]).
const MAX_TEXT_CHARS: usize = 2 * MAX_VALUE_CHARS;

/// What an entry takes besides its list: digests, times, the row. Counted with each, so that
/// many small entries are bounded as well.
const ENTRY_OVERHEAD_BYTES: usize = 300;

/// What a reconcile has used and what was left out of it so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) bytes: usize,
    pub(super) steps: usize,
    pub(super) omitted_steps: u32,
    pub(super) omitted_lines: u32,
    /// Of all omitted texts in order; empty while there is none.
    pub(super) omitted_digest: String,
}

impl Tally {
    pub(super) fn omitted(&self) -> Option<Body> {
        (self.omitted_steps + self.omitted_lines > 0).then(|| Body::Omitted {
            steps: self.omitted_steps,
            lines: self.omitted_lines,
            digest: Digest::new(self.omitted_digest.clone()),
        })
    }

    fn omit(&mut self, text: &str) {
        let chained = format!("{}\n{text}", self.omitted_digest);
        self.omitted_digest = Digest::of(chained.as_bytes()).to_string();
    }
}

/// The body as it is to be written. `None`: the limits leave nothing of it, and it is accounted
/// for in the tally.
pub(super) fn fit(body: &Body, tally: &mut Tally) -> serde_json::Result<Option<Value>> {
    let mut value = short(serde_json::to_value(body)?);
    match body {
        Body::Planned { .. } => return fit_planned(value, tally),
        Body::Outcome { .. } => return fit_outcome(value, tally),
        Body::Triggered { .. } => {
            let over = cut(list(&mut value, "forecast"), MAX_STEPS_LISTED, MAX_ENTRY_BYTES)?.1;
            omit_all(tally, &over)?;
            tally.omitted_steps += count(&over);
        }
        Body::Finished { .. } => {
            for name in ["missing", "waiting"] {
                let over = cut(list(&mut value, name), MAX_STEPS_LISTED, MAX_ENTRY_BYTES)?.1;
                omit_all(tally, &over)?;
                tally.omitted_lines += count(&over);
            }
        }
        Body::Anchor { .. }
        | Body::Omitted { .. }
        | Body::Redaction { .. }
        | Body::Restored { .. }
        | Body::Ordered { .. }
        | Body::Redacted => {}
    }
    Ok(Some(value))
}

fn fit_planned(mut value: Value, tally: &mut Tally) -> serde_json::Result<Option<Value>> {
    let most = MAX_STEPS_LISTED.saturating_sub(tally.steps);
    let (worth_it, over) = fit_list(list(&mut value, "steps"), tally, most)?;
    tally.steps += list(&mut value, "steps").len();
    tally.omitted_steps += count(&over);
    if let Some(beyond) = value.get_mut("beyond") {
        let told = beyond.as_u64().unwrap_or(0);
        *beyond = Value::from(told + u64::from(count(&over)));
    }
    Ok(worth_it.then_some(value))
}

fn fit_outcome(mut value: Value, tally: &mut Tally) -> serde_json::Result<Option<Value>> {
    let (worth_it, over) = fit_list(list(&mut value, "lines"), tally, MAX_STEPS_LISTED)?;
    tally.omitted_lines += count(&over);
    Ok(worth_it.then_some(value))
}

/// Cuts a list to what the reconcile has left; returns what was left out, and whether an entry
/// is still worth writing: one whose whole list is gone says nothing that the tally does not.
fn fit_list(
    items: &mut Vec<Value>,
    tally: &mut Tally,
    most: usize,
) -> serde_json::Result<(bool, Vec<Value>)> {
    let left = MAX_LISTED_BYTES.saturating_sub(tally.bytes);
    let (bytes, over) = cut(items, most, left.min(MAX_ENTRY_BYTES))?;
    omit_all(tally, &over)?;
    let worth_it = if over.is_empty() { left > 0 } else { !items.is_empty() };
    if worth_it {
        tally.bytes += bytes + ENTRY_OVERHEAD_BYTES;
    }
    Ok((worth_it, over))
}

/// Leaves the first items that fit; returns their bytes, and the others.
fn cut(
    items: &mut Vec<Value>,
    most: usize,
    most_bytes: usize,
) -> serde_json::Result<(usize, Vec<Value>)> {
    let mut bytes = 0;
    let mut fitting = 0;
    for item in items.iter().take(most) {
        let size = serde_json::to_string(item)?.len();
        if bytes + size > most_bytes {
            break;
        }
        bytes += size;
        fitting += 1;
    }
    Ok((bytes, items.split_off(fitting)))
}

fn omit_all(tally: &mut Tally, items: &[impl Serialize]) -> serde_json::Result<()> {
    for item in items {
        tally.omit(&serde_json::to_string(item)?);
    }
    Ok(())
}

fn count(items: &[Value]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

fn list<'a>(value: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    // The bodies are ours: each has its lists.
    match value.get_mut(name) {
        Some(Value::Array(items)) => items,
        _ => unreachable!("the body has a list `{name}`"),
    }
}

/// Every text cut to its limit, and every list inside of a step as well.
fn short(value: Value) -> Value {
    shorten(value, 0)
}

/// How deep the lists that have limits of their own lie: the body, its list, a step's parts.
const LIST_DEPTH: usize = 2;

fn shorten(value: Value, depth: usize) -> Value {
    match value {
        Value::String(text) => Value::String(cut_text(text)),
        Value::Array(mut items) => {
            if depth >= LIST_DEPTH {
                items.truncate(MAX_CAUSE_CHANGES);
            }
            Value::Array(items.into_iter().map(|item| shorten(item, depth + 1)).collect())
        }
        Value::Object(fields) => Value::Object(
            fields.into_iter().map(|(name, field)| (name, shorten(field, depth + 1))).collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn cut_text(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

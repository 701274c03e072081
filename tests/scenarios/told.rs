//! What every scenario tells: step by step with its reasons, what is recorded of each object,
//! what is waited for, and the events. Each scenario's story stands in `told/MODULE/TEST.txt`, so
//! that a change shows what it changes anywhere. `KGIT_BLESS=1` writes the stories anew.
//!
//! Times are seconds from the beginning. What a scenario checks itself is in its own lines; this
//! is about all the rest.
#![allow(
    clippy::disallowed_methods,
    reason = "stories are files, and told anew where the environment asks for it"
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kgit::domain::audit::{Body, Entry};
use kgit::domain::key::ObjectKey;
use kgit::domain::plan::{Reason, Waiting};
use kgit::domain::record::EventLog;
use kgit::domain::world::{Recorded, Rows, World};
use kgit::plan::{health, text};
use kgit_protocol::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Too long, random, or told by the scenario's own files.
const UNTOLD: [&str; 20] = [
    "accepted",
    "applied",
    "boot",
    "commit",
    "configs",
    "key",
    "key_digest",
    "name",
    "namespace",
    "network",
    "observed",
    "owner",
    "place",
    "resource",
    "rows",
    "sequence",
    "spec",
    "template",
    "uid",
    "usages",
];
/// Modules whose scenarios are made up anew with each run.
const RANDOM: [&str; 3] = ["crowds", "histories", "large_histories"];
/// Of a digest or another long word, enough to see that it is another one.
const WORD_LENGTH: usize = 40;
const SHOWN_OF_DIGEST: usize = 8;

thread_local! {
    /// How many clusters the scenario had so far.
    static TOLD: Cell<u32> = const { Cell::new(0) };
}

/// Listens to one cluster.
#[derive(Debug)]
pub struct Teller {
    file: PathBuf,
    begin: Timestamp,
    out: String,
    entries: u64,
    waits: BTreeMap<ObjectKey, Vec<Waiting>>,
}

impl Teller {
    /// `None` if the scenario is not one to be told.
    pub fn of_this_scenario(begin: Timestamp) -> Option<Self> {
        let thread = std::thread::current();
        let (module, test) = thread.name()?.split_once("::")?;
        if RANDOM.contains(&module) {
            return None;
        }
        let number = TOLD.replace(TOLD.get() + 1);
        let more = if number == 0 { String::new() } else { format!(".{}", number + 1) };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/told");
        let file = PathBuf::from(format!("{folder}/{module}/{test}{more}.txt"));
        Some(Self { file, begin, out: String::new(), entries: 0, waits: BTreeMap::new() })
    }

    /// After a turn: `entries` may be older ones too.
    pub fn turn(
        &mut self,
        now: Timestamp,
        (before, after): (&World, &World),
        entries: &[Entry],
        waits: BTreeMap<ObjectKey, Vec<Waiting>>,
    ) {
        let mut lines = Vec::new();
        for entry in entries.iter().filter(|entry| entry.sequence > self.entries) {
            self.entry(&entry.body, &mut lines);
        }
        self.entries = entries.iter().map(|entry| entry.sequence).fold(self.entries, u64::max);
        self.records(before, after, &mut lines);
        self.events(&before.events, &after.events, &mut lines);
        self.tell_waits(waits, &mut lines);
        if lines.is_empty() {
            return;
        }
        self.out.push_str(&format!("{}\n", self.since(now)));
        for line in lines {
            self.out.push_str(&format!("  {line}\n"));
        }
    }

    fn since(&self, moment: Timestamp) -> String {
        format!("+{}", moment.since(self.begin).as_secs_f64())
    }

    fn entry(&self, body: &Body, lines: &mut Vec<String>) {
        match body {
            Body::Planned { steps, .. } => {
                for step in steps {
                    lines.push(text::said(&step.said));
                    let reasons: Vec<String> = step.reasons.iter().map(because).collect();
                    lines.push(format!("  because {}", reasons.join("; ")));
                    lines.extend(step.deviation.iter().map(|why| format!("  DEVIATES: {why}")));
                }
            }
            Body::Outcome { lines: outcomes } => lines.extend(outcomes.iter().cloned()),
            Body::Finished { deviations, missing, waiting, superseded, .. } => {
                let word = if *superseded { "superseded" } else { "finished" };
                lines.push(format!("{word}, {deviations} deviations, {} missing", missing.len()));
                lines.extend(waiting.iter().map(|line| format!("  … {line}")));
            }
            Body::Ordered { by, what } => lines.push(format!("{by}: {what}")),
            _ => {}
        }
    }

    fn records(&self, before: &World, after: &World, lines: &mut Vec<String>) {
        self.row(
            "cluster",
            &flat(&*before.meta, self.begin),
            &flat(&*after.meta, self.begin),
            lines,
        );
        self.table("object", &before.objects, &after.objects, lines);
        self.table("pruned", &before.pruned, &after.pruned, lines);
        self.table("state", &before.deployments, &after.deployments, lines);
        self.table("set", &before.replica_sets, &after.replica_sets, lines);
        self.table("state", &before.jobs, &after.jobs, lines);
        self.table("state", &before.stateful_sets, &after.stateful_sets, lines);
        self.table("state", &before.daemon_sets, &after.daemon_sets, lines);
        self.table("revision", &before.revisions, &after.revisions, lines);
        self.table("state", &before.cron_jobs, &after.cron_jobs, lines);
        self.table("state", &before.autoscalers, &after.autoscalers, lines);
        self.table("state", &before.budgets, &after.budgets, lines);
        self.table("state", &before.services, &after.services, lines);
        self.table("claim", &before.claims, &after.claims, lines);
        self.table("volume", &before.volumes, &after.volumes, lines);
        self.table("pod", &before.pods, &after.pods, lines);
        self.table("node", &before.nodes, &after.nodes, lines);
        for key in after.objects.keys() {
            let (old, new) = (health_of(before, key), health_of(after, key));
            if old != new {
                lines.push(format!("{key} {new}"));
            }
        }
    }

    fn table<T: Serialize>(
        &self,
        name: &str,
        before: &Rows<T>,
        after: &Rows<T>,
        lines: &mut Vec<String>,
    ) {
        let flat = |row: Option<&Recorded<T>>| row.map(|row| flat(&*row.value, self.begin));
        let mut keys: Vec<&ObjectKey> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (old, new) = (before.get(key), after.get(key));
            if old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(&old.value, &new.value)) {
                continue;
            }
            let title = format!("{key} {name}");
            match (flat(old), flat(new)) {
                (old, Some(new)) => self.row(&title, &old.unwrap_or_default(), &new, lines),
                (_, None) => lines.push(format!("{title}: gone")),
            }
        }
    }

    fn row(
        &self,
        title: &str,
        old: &BTreeMap<String, String>,
        new: &BTreeMap<String, String>,
        lines: &mut Vec<String>,
    ) {
        let gone = old.keys().filter(|path| !new.contains_key(*path));
        let gone = gone.map(|path| format!("no {path}"));
        let other = new.iter().filter(|(path, value)| old.get(*path) != Some(value));
        let other = other.map(|(path, value)| format!("{path} {value}"));
        let changes: Vec<String> = other.chain(gone).collect();
        if !changes.is_empty() {
            lines.push(format!("{title}: {}", changes.join(", ")));
        }
    }

    fn events(&self, before: &Rows<EventLog>, after: &Rows<EventLog>, lines: &mut Vec<String>) {
        for (key, log) in after {
            let old = before.get(key);
            for event in
                log.events.iter().filter(|it| !old.is_some_and(|old| old.events.contains(it)))
            {
                let mark = if event.warning { "!" } else { "" };
                let count =
                    if event.count > 1 { format!(" ×{}", event.count) } else { String::new() };
                let place = event.field_path.as_deref().unwrap_or_default();
                lines.push(format!(
                    "{key} {place}{mark}{}: {} ({}){count}",
                    event.reason, event.message, event.component
                ));
            }
        }
    }

    fn tell_waits(&mut self, waits: BTreeMap<ObjectKey, Vec<Waiting>>, lines: &mut Vec<String>) {
        for waiting in waits.values().flatten() {
            let old = self.waits.get(&waiting.object);
            if old.is_some_and(|old| old.contains(waiting)) {
                continue;
            }
            let until =
                waiting.deadline.map_or_else(String::new, |at| format!(" {}", self.since(at)));
            let Waiting { object, for_what, kind, consequence, .. } = waiting;
            lines.push(format!("… {object} {kind:?} {for_what};{until} {consequence}"));
        }
        for (object, _) in
            self.waits.iter().filter(|(key, old)| !old.is_empty() && !waits.contains_key(key))
        {
            lines.push(format!("… {object} waits no more"));
        }
        self.waits = waits;
    }

    /// Compares with what was told before.
    pub fn check(&self) {
        if std::env::var_os("KGIT_BLESS").is_some() {
            std::fs::create_dir_all(self.file.parent().unwrap()).unwrap();
            return std::fs::write(&self.file, &self.out).unwrap();
        }
        let expected = std::fs::read_to_string(&self.file).unwrap_or_default();
        if expected == self.out {
            return;
        }
        let (line, old, new) = first_difference(&expected, &self.out);
        panic!(
            "{}:{line}: the story is another one (KGIT_BLESS=1 writes it anew)\n- {old}\n+ {new}",
            self.file.display()
        );
    }
}

fn first_difference<'a>(old: &'a str, new: &'a str) -> (usize, &'a str, &'a str) {
    let (mut old, mut new) = (old.lines(), new.lines());
    let mut line = 0;
    loop {
        line += 1;
        match (old.next(), new.next()) {
            (old, new) if old == new && old.is_some() => {}
            (old, new) => return (line, old.unwrap_or("the end"), new.unwrap_or("the end")),
        }
    }
}

/// Who committed is the same all the time.
fn because(reason: &Reason) -> String {
    text::because(reason).replace(" 0000000 by Ann <ann@example.org>", "")
}

fn health_of(world: &World, key: &ObjectKey) -> String {
    format!("is {:?} {}", health::health(world, key), health::detail(world, key))
}

/// The fields of a row that say something, by their path.
fn flat(row: &impl Serialize, begin: Timestamp) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    flatten("", &serde_json::to_value(row).unwrap(), begin, &mut out);
    out
}

fn flatten(path: &str, value: &Value, begin: Timestamp, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !UNTOLD.contains(&name.as_str()))
            {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, begin, out);
            }
        }
        Value::Array(all) if all.iter().any(|it| it.is_object() || it.is_array()) => {
            for (index, value) in all.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, begin, out);
            }
        }
        Value::Null | Value::Bool(false) => {}
        Value::Array(all) if all.is_empty() => {}
        Value::String(text) if text.is_empty() => {}
        Value::Number(number) if number.as_u64() == Some(0) => {}
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(i64::MAX);
            let text = if number >= begin.0 {
                format!("+{}", Timestamp(number).since(begin).as_secs_f64())
            } else {
                number.to_string()
            };
            out.insert(path.to_owned(), text);
        }
        Value::String(text)
            if text.len() > WORD_LENGTH && !text.contains(' ') && !text.contains('/') =>
        {
            out.insert(path.to_owned(), text.chars().take(SHOWN_OF_DIGEST).collect());
        }
        Value::String(text) => {
            out.insert(path.to_owned(), text.clone());
        }
        Value::Bool(true) | Value::Array(_) => {
            out.insert(path.to_owned(), value.to_string());
        }
    }
}

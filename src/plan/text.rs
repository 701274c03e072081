//! A plan as text: what `kgit diff`, a push and the audit print.

use std::fmt::Write as _;

use crate::domain::plan::{Reason, Said, Verb, Waiting};
use crate::domain::record::Held;

/// One step with its reasons, as people read it.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub said: &'a Said,
    pub reasons: &'a [Reason],
}

/// Field changes shown under a step; the rest is counted.
const MAX_FIELDS: usize = 8;

/// Held deletions that are listed; the rest is counted.
const HELD_LISTED: usize = 20;

/// The steps, numbered in order, each with its reasons; then what is waited for.
pub fn plan<'a>(steps: impl IntoIterator<Item = Line<'a>>, waits: &[Waiting]) -> String {
    let mut out = String::new();
    let mut shown: Vec<&Reason> = Vec::new();
    for (index, line) in steps.into_iter().enumerate() {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{:>3}. {}", index + 1, said(line.said));
        // What was told in full above is the same commit, the same rollout: told once.
        for reason in line.reasons {
            if !shown.contains(&reason) {
                reason_lines(&mut out, reason);
                shown.push(reason);
            }
        }
    }
    for waiting in waits {
        let _ = writeln!(out, "  … {} waits for {}", waiting.object, waiting.for_what);
        let _ = match waiting.deadline {
            Some(deadline) => writeln!(out, "      if not by {deadline}: {}", waiting.consequence),
            None => writeln!(out, "      until then: {}", waiting.consequence),
        };
    }
    out
}

/// `+ create  Pod/default/web-1 on a`.
pub fn said(said: &Said) -> String {
    let sign = match said.verb {
        Verb::Create | Verb::Restore | Verb::Provision => '+',
        Verb::Delete | Verb::Stop | Verb::Forget => '-',
        Verb::Update
        | Verb::Scale
        | Verb::Place
        | Verb::Bind
        | Verb::Retain
        | Verb::Repair
        | Verb::Finish => '~',
    };
    let mut text = format!("{sign} {:<9} {}", verb(said.verb), said.object);
    if !said.detail.is_empty() {
        let _ = write!(text, "  {}", said.detail);
    }
    if let Some(node) = &said.node {
        let _ = write!(text, "  on {node}");
    }
    text
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Update => "update",
        Verb::Scale => "scale",
        Verb::Place => "place",
        Verb::Bind => "bind",
        Verb::Provision => "provision",
        Verb::Restore => "restore",
        Verb::Retain => "retain",
        Verb::Stop => "stop",
        Verb::Delete => "delete",
        Verb::Repair => "repair",
        Verb::Finish => "finish",
        Verb::Forget => "forget",
    }
}

fn reason_lines(out: &mut String, reason: &Reason) {
    let _ = writeln!(out, "       because {}", because(reason));
    if let Reason::Commit { changes, .. } = reason {
        for change in changes.iter().take(MAX_FIELDS) {
            let _ = writeln!(out, "         {change}");
        }
        if changes.len() > MAX_FIELDS {
            let _ = writeln!(out, "         and {} more fields", changes.len() - MAX_FIELDS);
        }
    }
}

/// A reason in one line.
pub fn because(reason: &Reason) -> String {
    match reason {
        Reason::Commit { commit, place, .. } => {
            format!("{} ({place})", commit.said())
        }
        Reason::ManifestGone { commit, place } => {
            format!("its manifest is gone since {} (was {place})", commit.said())
        }
        Reason::Rollout { deployment, revision } => {
            format!("{deployment} rolls out revision {revision}")
        }
        Reason::Count { owner, wanted, found } => {
            format!("{owner} wants {wanted} pods and has {found}")
        }
        Reason::Config { config } => format!("the content of {config} changed"),
        Reason::Drift { container, seen, at, .. } if container.is_empty() => {
            format!("{seen} ({at})")
        }
        Reason::Drift { container, seen, at, .. } => {
            format!("container {container}: {seen} ({at})")
        }
        Reason::PodEnded { pod, reason } => format!("{pod} ended: {reason}"),
        Reason::PodGone { pod } => format!("{pod} is gone from its node"),
        Reason::NeededBy { object } => format!("{object} needs it"),
        Reason::Node { node, what } => format!("node {node} {what}"),
        Reason::Approved { by } => format!("{by} approved it"),
        Reason::Ordered { by } => format!("{by} ordered it"),
        Reason::Autoscaled { by, what } => format!("{by}: {what}"),
        Reason::Preempted { by, priority } => {
            format!("{by} of priority {priority} needs the room")
        }
        Reason::Schedule { cron_job, slot } => format!("{cron_job} is due at {slot}"),
        Reason::Limit { what } => what.clone(),
    }
}

/// The deletions that a brake holds, for people.
pub fn held(held: &Held) -> String {
    let count = held.objects.len();
    let mut out = format!("held, {count} to be deleted: {}\n", held.reason);
    for object in held.objects.iter().take(HELD_LISTED) {
        let fate = if object.kind.holds_data() { " (its data is kept)" } else { "" };
        out.push_str(&format!("  - {object}{fate}\n"));
    }
    if count > HELD_LISTED {
        out.push_str(&format!("  and {} more\n", count - HELD_LISTED));
    }
    if held.approvable {
        out.push_str(&format!("  `kgit approve {}` lets them go ahead\n", held.plan));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kgit_protocol::time::Timestamp;

    use super::*;
    use crate::domain::change::FieldChange;
    use crate::domain::diagnostic::Place;
    use crate::domain::key::{Kind, ObjectKey};

    #[test]
    fn of_many_fields_that_a_commit_changes_the_first_ones_are_named() {
        let told = |count: usize| {
            let change = |number| FieldChange {
                field: format!("f{number}"),
                old: None,
                new: None,
                place: None,
            };
            let changes = (1..=count).map(change).collect();
            let mut out = String::new();
            let (commit, place) = (Arc::default(), Place::new("web.yaml", 1, 1));
            reason_lines(&mut out, &Reason::Commit { commit, place, changes });
            out.lines().skip(8).map(str::trim).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(told(8), "f8: (none) → (none)");
        assert_eq!(told(10), "f8: (none) → (none), and 2 more fields");
    }

    #[test]
    fn of_many_deletions_that_are_held_the_first_ones_are_named() {
        let told = |count: usize| {
            let name = |index| ObjectKey::new(Kind::ConfigMap, "default", &format!("c{index:02}"));
            held(&Held {
                plan: "p1".to_owned(),
                objects: (1..=count).map(name).collect(),
                reason: "too many".to_owned(),
                approvable: true,
                since: Timestamp(0),
                commit: Arc::default(),
                approved: None,
            })
        };
        let last = |text: String| text.lines().skip(20).collect::<Vec<_>>().join("\n");
        assert_eq!(
            last(told(20)),
            "  - ConfigMap/default/c20\n  `kgit approve p1` lets them go ahead"
        );
        assert_eq!(
            last(told(22)),
            "  - ConfigMap/default/c20\n  and 2 more\n  `kgit approve p1` lets them go ahead"
        );
    }
}

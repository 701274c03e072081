//! `kgit status`.

use std::io::IsTerminal as _;

use clap::Args;
use kgit_protocol::time::Timestamp;

use crate::cli::context::{Context, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::domain::plan::Waiting;
use crate::domain::words::counted;
use crate::kube::dto::{ClusterStatus, Health, ObjectLine, SyncStatus};
use crate::kube::human;
use crate::kube::table::aligned;

/// Held deletions that are listed; `kgit diff` and `-o json` list more.
const HELD_LISTED: usize = 10;

/// Show the source, its commit, the health of everything, and what is waited for
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Exit with 1 if something is not healthy
    #[arg(long)]
    exit_code: bool,
}

pub async fn run(args: &StatusArgs, context: &Context) -> Result<Exit, CliError> {
    let status: ClusterStatus = context.client()?.get("/kgit/v1/status").await?;
    match context.for_programs() {
        true => context.print_json(&status)?,
        false => print(&text(&status))?,
    }
    let unwell = status.objects.iter().any(|line| line.health > Health::Suspended)
        || status.nodes.iter().any(|node| node.ready != Some(true))
        || status.sync.as_ref().is_some_and(|sync| sync.failed)
        || status.store_error.is_some()
        || status.source.error.is_some();
    Ok(if args.exit_code && unwell { Exit::Found } else { Exit::Success })
}

fn text(status: &ClusterStatus) -> String {
    let mut text = source(status);
    text.push_str(&findings(status));
    text.push('\n');
    text.push_str(&nodes(status));
    if !status.objects.is_empty() {
        text.push('\n');
        text.push_str(&objects(&status.objects));
    }
    text.push_str(&waits(&status.waits, status.now));
    text
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human::duration((now.0 - then.0) / 1000))
}

fn source(status: &ClusterStatus) -> String {
    let source = &status.source;
    let mut text = format!("Source:   {} {}", source.kind, source.location);
    if let Some(branch) = &source.branch {
        text.push_str(&format!(" ({branch})"));
    }
    text.push('\n');
    if let Some(commit) = &source.commit {
        let (short, summary) = (commit.short(), &commit.summary);
        text.push_str(&match commit.id.is_empty() {
            true => format!("Commit:   {summary}\n"),
            false => {
                let when = ago(commit.at, status.now);
                format!("Commit:   {short} {summary}, by {}, {when}\n", commit.author)
            }
        });
    }
    let failed = status.sync.as_ref().is_some_and(|sync| sync.failed);
    let state = match (&source.error, &status.suspended_by, status.reconciling) {
        _ if status.store_error.is_some() => {
            let error = status.store_error.as_deref().unwrap_or_default();
            format!("nothing can be recorded, so nothing is done: {error}")
        }
        (Some(error), _, _) => format!("the source can't be read: {error}"),
        (None, Some(by), _) => format!("suspended by {by}; `kgit resume` goes on"),
        // Also while the reconcile waits for pods that have longer than their stage.
        (None, None, _) if failed => status.sync.iter().map(sync).collect(),
        (None, None, Some(reconcile)) => format!("reconcile {reconcile} is under way"),
        (None, None, None) if status.held.is_some() => "deletions are held".to_owned(),
        (None, None, None) if status.sync.is_some() => status.sync.iter().map(sync).collect(),
        (None, None, None) if status.errors > 0 => "in sync, but for broken manifests".to_owned(),
        (None, None, None) => "in sync".to_owned(),
    };
    text.push_str(&format!("State:    {state}\n"));
    text
}

fn sync(sync: &SyncStatus) -> String {
    let behind = match sync.pending.len() {
        0 => String::new(),
        count => format!("; the changes of {count} objects wait for it"),
    };
    match (sync.failed, sync.stage.as_str()) {
        (true, stage) => format!("the sync failed at {stage}{behind}"),
        (false, "") => format!("deletions are under way{behind}"),
        (false, stage) => format!("the sync is at {stage}{behind}"),
    }
}

/// A line each of the first few, and how many more there are.
fn first(all: &[String], before: &str) -> String {
    let mut lines: String =
        all.iter().take(HELD_LISTED).map(|line| format!("{before}{line}\n")).collect();
    if all.len() > HELD_LISTED {
        lines.push_str(&format!("          and {} more\n", all.len() - HELD_LISTED));
    }
    lines
}

fn findings(status: &ClusterStatus) -> String {
    let mut text = String::new();
    if status.errors + status.warnings > 0 {
        let (errors, warnings) =
            (counted(status.errors, "error"), counted(status.warnings, "warning"));
        text.push_str(&format!(
            "Findings: {errors}, {warnings} in the manifests (`kgit check` lists them)\n"
        ));
    }
    if status.restored {
        text.push_str("Restored: the backup is older than what the agents were told; no object is removed until `kgit approve restored`\n");
    }
    text.push_str(&first(&status.doubts, "Doubt:    "));
    if let Some(held) = &status.held {
        let (count, reason) = (held.objects.len(), &held.reason);
        text.push_str(&format!("Held:     {count} deletions: {reason}\n"));
        text.push_str(&first(&held.objects, "          - "));
        text.push_str(&match held.approvable {
            true => format!("          `kgit approve {}` lets them go ahead\n", held.plan),
            false => "          nothing is removed until the manifests are repaired; `kgit down` stops everything\n".to_owned(),
        });
    }
    text
}

fn nodes(status: &ClusterStatus) -> String {
    let title = ["NODE", "STATUS", "PODS", "HEARD OF"].map(str::to_owned).to_vec();
    let line = |node: &crate::kube::dto::NodeLine| {
        let state = match node.ready {
            Some(true) => "Ready",
            Some(false) => "NotReady",
            None => "Unknown",
        };
        let closed = node.closed.iter().map(|closed| format!(", {closed}"));
        let state = format!("{state}{}", closed.collect::<String>());
        let heard = node.heard_of.map_or("-".to_owned(), |at| ago(at, status.now));
        vec![node.name.clone(), state, node.pods.to_string(), heard]
    };
    let lines: Vec<_> = [title].into_iter().chain(status.nodes.iter().map(line)).collect();
    aligned(&lines)
}

fn objects(objects: &[ObjectLine]) -> String {
    let title = ["OBJECT", "HEALTH", "", "MANIFEST"].map(str::to_owned).to_vec();
    let line = |line: &ObjectLine| {
        let detail = match line.retained {
            Some(_) => format!("{}, kept without a manifest", line.detail),
            None => line.detail.clone(),
        };
        vec![line.object.to_string(), format!("{:?}", line.health), detail, line.place.clone()]
    };
    let lines: Vec<_> = [title].into_iter().chain(objects.iter().map(line)).collect();
    coloured(&aligned(&lines))
}

/// The health in a colour, if standard output is a terminal that wants colours.
fn coloured(table: &str) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return table.to_owned();
    }
    let words = [("Healthy", 32), ("Progressing", 33), ("Degraded", 31), ("Missing", 31)];
    words.iter().fold(table.to_owned(), |text, (word, code)| {
        text.replace(&format!(" {word} "), &format!(" \u{1b}[{code}m{word}\u{1b}[0m "))
    })
}

/// Each wait, or those that are alike, in the order of the first ones.
fn grouped(all: &[Waiting]) -> Vec<Vec<&Waiting>> {
    let mut groups: Vec<Vec<&Waiting>> = Vec::new();
    for of_object in all.chunk_by(|one, other| one.object == other.object) {
        let first = groups.len();
        for waiting in of_object {
            match groups[first..].iter_mut().find(|group| are_alike(group[0], waiting)) {
                Some(group) => group.push(waiting),
                None => groups.push(vec![waiting]),
            }
        }
    }
    groups
}

/// Pods of one object that fit nowhere for one reason.
fn are_alike(one: &Waiting, other: &Waiting) -> bool {
    fn because(waiting: &Waiting) -> Option<&str> {
        match (&waiting.unplaced, waiting.deadline) {
            (Some(unplaced), None) => Some(&unplaced.because),
            _ => None,
        }
    }
    one.object == other.object && because(one).is_some() && because(one) == because(other)
}

fn waits(all: &[Waiting], now: Timestamp) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = "\nWaiting:\n".to_owned();
    for alike in grouped(all) {
        let waiting = alike[0];
        let for_what = match (&waiting.unplaced, alike.len()) {
            (Some(unplaced), 2..) => {
                format!("places for {} pods: {}", alike.len(), unplaced.because)
            }
            _ => waiting.for_what.clone(),
        };
        text.push_str(&format!("  {} waits for {for_what}", waiting.object));
        if let Some(deadline) = waiting.deadline {
            let when = match (deadline.0 - now.0) / 1000 {
                left @ 0.. => format!("in {}", human::duration(left)),
                over => format!("since {}", human::duration(-over)),
            };
            text.push_str(&format!("; {when}: {}", waiting.consequence));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::domain::key::{Kind, ObjectKey};
    use crate::domain::plan::{Unplaced, WaitKind};

    use super::*;

    fn unplaced(pod: &str, because: &str) -> Waiting {
        let key = |kind, name| ObjectKey::new(kind, "default", name);
        Waiting {
            object: key(Kind::Deployment, "web"),
            for_what: format!("a place for pod `{pod}`: {because}"),
            kind: WaitKind::Blocked,
            deadline: None,
            consequence: "the pod stays pending".to_owned(),
            unplaced: Some(Unplaced { pod: key(Kind::Pod, pod), because: because.to_owned() }),
        }
    }

    #[test]
    fn pods_that_fit_nowhere_for_one_reason_share_a_line() {
        let (cpu, memory) = ("0/1 nodes: 1 Insufficient cpu", "0/1 nodes: 1 Insufficient memory");
        let late = Waiting { deadline: Some(Timestamp(-60_000)), ..unplaced("f", cpu) };
        let all = [
            unplaced("a", cpu),
            unplaced("b", cpu),
            unplaced("c", memory),
            unplaced("d", cpu),
            late.clone(),
            late,
        ];
        insta::assert_snapshot!(waits(&all, Timestamp(0)), @"

        Waiting:
          Deployment/default/web waits for places for 3 pods: 0/1 nodes: 1 Insufficient cpu
          Deployment/default/web waits for a place for pod `c`: 0/1 nodes: 1 Insufficient memory
          Deployment/default/web waits for a place for pod `f`: 0/1 nodes: 1 Insufficient cpu; since 60s: the pod stays pending
          Deployment/default/web waits for a place for pod `f`: 0/1 nodes: 1 Insufficient cpu; since 60s: the pod stays pending
        ");
    }
}

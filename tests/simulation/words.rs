//! Events and changes in words, for the trace.

use std::collections::BTreeSet;

use kgit::domain::key::ObjectKey;
use kgit::domain::world::World;
use kgit::master::event::Event;

pub fn word(event: &Event) -> String {
    match event {
        Event::Report { node, report, .. } => {
            let pods: Vec<String> = report
                .pods
                .iter()
                .map(|pod| {
                    format!("{}={:?}{}", pod.uid, pod.phase, if pod.ready { "+" } else { "" })
                })
                .collect();
            let complete = if report.complete { " complete" } else { "" };
            format!("report {node} {}{complete} [{}]", report.sequence, pods.join(" "))
        }
        Event::Pull { node, have, .. } => {
            format!("pull {node} has {:?}", have.as_ref().map(|have| have.generation.0))
        }
        Event::Join { join, credential, .. } => format!("join {} with {credential:?}", join.node),
        Event::Heartbeat { node, .. } => format!("beat {node}"),
        Event::Source { commit, change } => format!(
            "commit {} (+{} -{})",
            commit.summary,
            change.upserted.len(),
            change.removed.len()
        ),
        other => format!("{other:?}").chars().take(60).collect(),
    }
}

/// Pods and nodes that a turn changed, in words.
pub fn differences(before: &World, after: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, pod) in &after.pods {
        let state = |pod: &kgit::domain::record::Pod| {
            let node = pod.node().map(ToString::to_string).unwrap_or_default();
            let ready = pod.is_ready();
            format!("on {node} {:?} ready={ready} stop={}", pod.phase(), pod.deletion.is_some())
        };
        let new = state(pod);
        match before.pods.get(key) {
            None => lines.push(format!("+ {key} {} {new}", pod.uid)),
            Some(old) if state(old) != new => lines.push(format!("~ {key} {} {new}", pod.uid)),
            Some(_) => {}
        }
    }
    let gone = before.pods.keys().filter(|key| !after.pods.contains_key(*key));
    lines.extend(gone.map(|key| format!("- {key}")));
    for (key, node) in &after.nodes {
        let old = before.nodes.get(key);
        if old.is_none_or(|old| old.is_ready() != node.is_ready() || old.issued != node.issued) {
            let generation = node.issued.generation;
            lines.push(format!("~ {key} ready={:?} generation {generation}", node.is_ready()));
        }
    }
    for (key, job) in &after.jobs {
        if before.jobs.get(key).is_none_or(|old| *old.value != *job.value) {
            lines.push(format!("~ {key} {:?}", job.value));
        }
    }
    if before.meta.sync != after.meta.sync
        && let Some(sync) = &after.meta.sync
    {
        let names = |keys: &BTreeSet<ObjectKey>| {
            let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
            names.join(" ")
        };
        let hooks: Vec<String> =
            sync.hooks.iter().map(|run| format!("{} {:?}", run.hook, run.state)).collect();
        lines.push(format!(
            "~ sync of {}, open {}: pending [{}], touched [{}], hooks [{}]",
            sync.commit.summary,
            sync.open,
            names(&sync.pending),
            names(&sync.touched),
            hooks.join(", ")
        ));
    }
    if before.meta.held != after.meta.held {
        let held = after.meta.held.as_ref();
        lines.push(format!("~ held: {:?}", held.map(|held| (&held.reason, &held.objects))));
    }
    let new = after.objects.keys().filter(|key| !before.objects.contains_key(*key));
    lines.extend(new.map(|key| format!("+ {key}")));
    let gone = before.objects.keys().filter(|key| !after.objects.contains_key(*key));
    lines.extend(gone.map(|key| format!("- {key}")));
    lines
}

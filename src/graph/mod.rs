//! The dependency graph: an order in which nothing comes before what it needs, and the cycles
//! that make such an order impossible.
//!
//! Edges come from the references of manifests. Waiting for health is the plan's.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasherDefault, DefaultHasher};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use crate::domain::desired::Desired;
use crate::domain::diagnostic::{Diagnostic, Severity};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{Reference, ReferenceKind, Resource};
use crate::domain::stage::{self, Phase, Stage};

/// Orders `keys` so that each comes after those of them that it refers to; what is independent is
/// in the order of kinds, namespaces and names. Members of a cycle come in that order too.
pub fn order<'a>(
    keys: impl IntoIterator<Item = &'a ObjectKey>,
    references: impl Fn(&ObjectKey) -> Vec<Reference>,
) -> Vec<ObjectKey> {
    let mut waiting: BTreeMap<ObjectKey, BTreeSet<ObjectKey>> = BTreeMap::new();
    let keys: BTreeSet<&ObjectKey> = keys.into_iter().collect();
    let mut dependants: BTreeMap<ObjectKey, Vec<ObjectKey>> = BTreeMap::new();
    for &key in &keys {
        let needs: BTreeSet<ObjectKey> = references(key)
            .into_iter()
            .map(|reference| reference.to)
            .filter(|to| to != key && keys.contains(to))
            .collect();
        for need in &needs {
            dependants.entry(need.clone()).or_default().push(key.clone());
        }
        waiting.insert(key.clone(), needs);
    }
    drain(waiting, &dependants)
}

fn drain(
    mut waiting: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    dependants: &BTreeMap<ObjectKey, Vec<ObjectKey>>,
) -> Vec<ObjectKey> {
    let mut free: BTreeSet<ObjectKey> =
        waiting.iter().filter(|(_, needs)| needs.is_empty()).map(|(key, _)| key.clone()).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    loop {
        // What is left when nothing is free is in a cycle; it is reported elsewhere, and goes on
        // in plain order here.
        let Some(next) = free.pop_first().or_else(|| waiting.keys().next().cloned()) else {
            return ordered;
        };
        waiting.remove(&next);
        for dependant in dependants.get(&next).into_iter().flatten() {
            if let Some(needs) = waiting.get_mut(dependant) {
                needs.remove(&next);
                if needs.is_empty() {
                    free.insert(dependant.clone());
                }
            }
        }
        ordered.push(next);
    }
}

/// Without a seed: the same input gives the same order.
type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// An error for each cycle, with its path, at the reference that closes it.
pub fn cycles(desired: &Desired) -> Vec<Diagnostic> {
    let mut found = circles(desired);
    found.extend(backwards(desired));
    found
}

/// What is needed comes in a later stage than what needs it: the one waits for the other, and the
/// stage for it.
fn backwards(desired: &Desired) -> Vec<Diagnostic> {
    if desired.staged.is_empty() {
        return Vec::new();
    }
    let all = desired.objects.values().flat_map(|resource| {
        let starts_pods = resource.template().is_some();
        let binding = move |reference: &&Reference| match reference.kind {
            ReferenceKind::DependsOn => true,
            ReferenceKind::Needs => starts_pods && holds_back(reference.to.kind),
            ReferenceKind::Optional | ReferenceKind::Scales => false,
        };
        resource.references.iter().filter(binding).map(move |reference| (resource, reference))
    });
    all.filter_map(|(resource, reference)| backward(desired, resource, reference)).collect()
}

/// The kinds without which no pod starts.
fn holds_back(kind: Kind) -> bool {
    matches!(kind, Kind::ConfigMap | Kind::Secret | Kind::PersistentVolumeClaim)
}

fn backward(desired: &Desired, resource: &Resource, reference: &Reference) -> Option<Diagnostic> {
    let needed = desired.objects.get(&reference.to)?;
    let (own, other) = (first_stage(resource)?, first_stage(needed)?);
    (own < other).then_some(())?;
    let (key, to) = (&resource.key, &reference.to);
    let message = format!(
        "these wait for each other: {key} ({own}) → {to} ({other}) → {key}, by their order"
    );
    let hint = format!("give {to} an earlier wave or phase, or {key} a later one");
    let diagnostic =
        Diagnostic::new(Severity::Error, reference.place.clone(), "dependency-cycle", message);
    Some(Diagnostic { hint: Some(hint), ..diagnostic })
}

/// `None` for what is made only when something failed, or never.
fn first_stage(resource: &Resource) -> Option<Stage> {
    let wave = stage::wave(&resource.annotations);
    let phase = match stage::hook(&resource.annotations) {
        None => Phase::Sync,
        Some(hook) => hook.phases.into_iter().filter(|it| *it != Phase::SyncFail).min()?,
    };
    Some(Stage { phase, wave })
}

fn circles(desired: &Desired) -> Vec<Diagnostic> {
    // Only `depends-on` can close a cycle: every other reference leads to a kind that refers to
    // nothing which starts pods.
    let starts: Vec<&ObjectKey> = desired
        .objects
        .iter()
        .filter(|(_, resource)| {
            resource.references.iter().any(|r| r.kind == ReferenceKind::DependsOn)
        })
        .map(|(key, _)| key)
        .collect();
    let mut graph: DiGraphMap<&ObjectKey, (), FixedHasher> = DiGraphMap::default();
    for &key in &starts {
        for reference in &desired.objects[key].references {
            graph.add_edge(key, &reference.to, ());
        }
    }
    let groups: Vec<Vec<&ObjectKey>> = tarjan_scc(&graph);
    groups
        .into_iter()
        .filter(|group| group.len() > 1 || graph.contains_edge(group[0], group[0]))
        .map(|group| report(desired, &group))
        .collect()
}

fn report(desired: &Desired, group: &[&ObjectKey]) -> Diagnostic {
    let mut group: Vec<&ObjectKey> = group.to_vec();
    group.sort();
    let path = path(desired, &group);
    let first = &desired.objects[group[0]];
    let closing = first.references.iter().find(|reference| group.contains(&&reference.to));
    let place = closing.map_or_else(|| first.place.clone(), |reference| reference.place.clone());
    let message = format!(
        "these wait for each other: {}",
        path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ")
    );
    Diagnostic {
        hint: Some("remove one `kgit.dev/depends-on` of the circle".to_owned()),
        ..Diagnostic::new(Severity::Error, place, "dependency-cycle", message)
    }
}

/// Follows the edges from the first member until one is met again.
fn path(desired: &Desired, group: &[&ObjectKey]) -> Vec<ObjectKey> {
    let mut path = vec![group[0].clone()];
    loop {
        let last = &path[path.len() - 1];
        let references = &desired.objects[last].references;
        let Some(next) = references.iter().find(|reference| group.contains(&&reference.to)) else {
            return path;
        };
        let met = path.contains(&next.to);
        path.push(next.to.clone());
        if met {
            return path;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnostic::Place;
    use crate::domain::key::Kind;

    fn key(kind: Kind, name: &str) -> ObjectKey {
        ObjectKey::new(kind, "default", name)
    }

    fn needs(to: ObjectKey) -> Reference {
        let place = Place::new("a.yaml", 1, 1);
        Reference { to, kind: ReferenceKind::DependsOn, field: String::new(), place }
    }

    #[test]
    fn what_is_needed_comes_first_and_the_rest_is_in_order_of_kind() {
        let (config, web, store) =
            (key(Kind::ConfigMap, "c"), key(Kind::Deployment, "a"), key(Kind::Deployment, "z"));
        let ordered = order([&web, &store, &config], |of| match &*of.name {
            "a" => vec![needs(key(Kind::Deployment, "z"))],
            _ => Vec::new(),
        });
        assert_eq!(ordered, [config, store, web]);
    }

    #[test]
    fn a_cycle_does_not_stop_the_rest() {
        let (one, two, three) =
            (key(Kind::Job, "1"), key(Kind::Job, "2"), key(Kind::Deployment, "3"));
        let ordered = order([&one, &two, &three], |of| match &*of.name {
            "1" => vec![needs(key(Kind::Job, "2"))],
            "2" => vec![needs(key(Kind::Job, "1"))],
            _ => Vec::new(),
        });
        assert_eq!(ordered, [three, one, two]);
    }
}

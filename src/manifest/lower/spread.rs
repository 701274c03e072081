//! How evenly pods are to lie over zones, racks and nodes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, TopologySpreadConstraint};

use crate::domain::template::SpreadConstraint;
use crate::manifest::lower::Object;
use crate::manifest::lower::affinity::{keys, topology_key};
use crate::manifest::lower::container::each;
use crate::manifest::lower::selector::label_selector;
use crate::manifest::path::Path;

const ANSWERS: [(&str, bool); 2] = [("DoNotSchedule", true), ("ScheduleAnyway", false)];
/// Whether nodes count that the pod may not run on.
const POLICIES: [(&str, bool); 2] = [("Honor", true), ("Ignore", false)];

pub fn constraints(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &PodSpec,
) -> Vec<SpreadConstraint> {
    let mut seen = BTreeSet::new();
    let written = written.topology_spread_constraints.as_deref();
    each(path, "topologySpreadConstraints", written, |at, it| {
        let constraint = constraint(object, at, it);
        if !seen.insert((constraint.topology_key.clone(), constraint.hard)) {
            let message = "a constraint of this kind on this `topologyKey` is there already";
            object.error(&at.key("topologyKey"), message);
        }
        Some(constraint)
    })
}

fn constraint(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &TopologySpreadConstraint,
) -> SpreadConstraint {
    topology_key(object, path, &written.topology_key);
    let unsatisfiable = path.key("whenUnsatisfiable");
    if written.when_unsatisfiable.is_empty() {
        object.required(&unsatisfiable);
    }
    let answer = Some(written.when_unsatisfiable.as_str());
    let hard = object.choice(&unsatisfiable, answer, true, &ANSWERS);
    let affinity = written.node_affinity_policy.as_deref();
    let affinity = object.choice(&path.key("nodeAffinityPolicy"), affinity, true, &POLICIES);
    let taints = written.node_taints_policy.as_deref();
    let taints = object.choice(&path.key("nodeTaintsPolicy"), taints, false, &POLICIES);
    let selector = written.label_selector.as_ref();
    let max_skew = Some(i64::from(written.max_skew));
    SpreadConstraint {
        max_skew: object.count(&path.key("maxSkew"), max_skew, 1, 1),
        topology_key: written.topology_key.clone(),
        hard,
        selector: selector.map(|it| label_selector(object, &path.key("labelSelector"), it)),
        min_domains: min_domains(object, path, written, hard),
        match_label_keys: keys(object, path, "matchLabelKeys", written.match_label_keys.as_deref()),
        ignores_affinity: !affinity,
        honors_taints: taints,
    }
}

fn min_domains(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &TopologySpreadConstraint,
    hard: bool,
) -> Option<u32> {
    let path = path.key("minDomains");
    if written.min_domains.is_some() && !hard {
        object.error(&path, "has a meaning only where `whenUnsatisfiable` is `DoNotSchedule`");
    }
    object.optional_count(&path, written.min_domains.map(i64::from), 1)
}

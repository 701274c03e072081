//! PodDisruptionBudgets: how many of their pods may go on purpose now. Source: upstream's
//! `controller/disruption/disruption.go` and `registry/core/pod/storage/eviction.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kgit_protocol::observation::PodPhase;

use crate::domain::autoscaling::{DisruptionBound, DisruptionBudgetSpec};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::{BudgetState, Pod};
use crate::domain::resource::{IntOrPercent, Spec};
use crate::domain::selector::Labels;
use crate::domain::world::{Record, World};
use crate::plan::draft::Draft;
use crate::plan::pods::is_reachable;

/// Records what a budget comes to, if that changed.
pub fn plan_budget(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key) else { return };
    let (generation, version) = (applied.generation, draft.world.budgets.get(key));
    let Some(state) = state(&draft.world, key) else { return };
    let state = BudgetState { observed_generation: generation, ..state };
    if version.map(|row| *row.value) != Some(state) {
        draft.note(key, Record::Budget(Arc::new(state)));
    }
}

/// What a budget comes to, from what is recorded now.
fn state(world: &World, key: &ObjectKey) -> Option<BudgetState> {
    let spec = spec_of(world, key)?;
    let pods: Vec<&Pod> = match &spec.selector {
        None => Vec::new(),
        Some(selector) => {
            let rows = world.pods_selected(&key.namespace, selector).into_iter();
            rows.map(|row| &*row.value).filter(|pod| !pod.is_over()).collect()
        }
    };
    let healthy = pods.iter().filter(|pod| is_healthy(world, pod)).count();
    let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
    let (expected, desired) = expectation(world, spec, &pods);
    let allowed = if expected == 0 { 0 } else { healthy.saturating_sub(desired) };
    Some(BudgetState { observed_generation: 0, expected, healthy, desired, allowed })
}

fn is_healthy(world: &World, pod: &Pod) -> bool {
    pod.is_ready() && is_reachable(world, pod)
}

/// How many pods there are to be, and how many of them have to stay.
fn expectation(world: &World, spec: &DisruptionBudgetSpec, pods: &[&Pod]) -> (u32, u32) {
    match spec.bound {
        DisruptionBound::MinAvailable(IntOrPercent::Int(least)) => {
            (u32::try_from(pods.len()).unwrap_or(u32::MAX), least)
        }
        DisruptionBound::MinAvailable(share) => {
            let scale = scale(world, pods);
            (scale, share.of_rounding_up(scale))
        }
        DisruptionBound::MaxUnavailable(most) => {
            let scale = scale(world, pods);
            (scale, scale.saturating_sub(most.of_rounding_up(scale)))
        }
    }
}

/// The sum of what the pods' workloads are to have. Pods of workloads without a number count as
/// they are found.
fn scale(world: &World, pods: &[&Pod]) -> u32 {
    let mut found: BTreeMap<ObjectKey, u32> = BTreeMap::new();
    for pod in pods {
        *found.entry(world.workload_of(pod)).or_default() += 1;
    }
    found.iter().map(|(workload, found)| replicas(world, workload).unwrap_or(*found)).sum()
}

fn replicas(world: &World, workload: &ObjectKey) -> Option<u32> {
    let written = match &world.objects.get(workload)?.resource.spec {
        Spec::Deployment(spec) => spec.replicas,
        Spec::ReplicaSet(spec) => spec.replicas,
        Spec::StatefulSet(spec) => spec.replicas,
        _ => return None,
    };
    Some(world.replicas_of(workload, written))
}

fn spec_of<'w>(world: &'w World, key: &ObjectKey) -> Option<&'w DisruptionBudgetSpec> {
    match &world.objects.get(key)?.value.resource.spec {
        Spec::DisruptionBudget(spec) => Some(spec),
        _ => None,
    }
}

/// The budgets of a namespace that select pods with these labels.
pub fn about(world: &World, namespace: &Arc<str>, labels: &Labels) -> Vec<ObjectKey> {
    let all = world.objects_in(Kind::PodDisruptionBudget, namespace);
    let selects = |spec: &Spec| match spec {
        Spec::DisruptionBudget(spec) => {
            spec.selector.as_ref().is_some_and(|selector| selector.matches(labels))
        }
        _ => false,
    };
    let about = all.filter(|row| selects(&row.resource.spec));
    about.map(|row| row.resource.key.clone()).collect()
}

/// The budgets that a change of a pod concerns.
pub fn woken(world: &World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<ObjectKey> {
    let counts = |pod: Option<&Pod>| {
        pod.map(|pod| (pod.is_ready(), pod.is_over(), pod.deletion.is_some(), pod.labels.clone()))
    };
    if counts(old) == counts(new) {
        return Vec::new();
    }
    let both = old.into_iter().chain(new);
    let keys = both.flat_map(|pod| about(world, &pod.key.namespace, &pod.labels));
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `Err` names the budget that keeps a pod where it is.
pub fn may_go(world: &World, pod: &Pod) -> Result<(), ObjectKey> {
    // What does not serve yet, or no more, is nobody's loss.
    if pod.placed.is_none() || pod.phase() == PodPhase::Pending || pod.is_over() {
        return Ok(());
    }
    for key in about(world, &pod.key.namespace, &pod.labels) {
        let (Some(spec), Some(state)) = (spec_of(world, &key), state(world, &key)) else {
            continue;
        };
        let enough = state.healthy >= state.desired && state.desired > 0;
        let free = !is_healthy(world, pod) && (spec.unhealthy_may_always_go || enough);
        if !free && state.allowed == 0 {
            return Err(key);
        }
    }
    Ok(())
}

/// Of pods that are to go together, those whose going a budget does not allow: it is given to
/// them in order.
pub fn violating(world: &World, pods: &[Arc<Pod>]) -> BTreeSet<ObjectKey> {
    let mut left: BTreeMap<ObjectKey, u32> = BTreeMap::new();
    let mut violating = BTreeSet::new();
    for pod in pods.iter().filter(|pod| pod.deletion.is_none()) {
        for key in about(world, &pod.key.namespace, &pod.labels) {
            let allowed = || state(world, &key).map_or(0, |state| state.allowed);
            let left = left.entry(key.clone()).or_insert_with(allowed);
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => drop(violating.insert(pod.key.clone())),
            }
        }
    }
    violating
}

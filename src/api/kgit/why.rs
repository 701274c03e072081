//! Why an object is what it is: the audit log, walked backwards from it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use crate::api::error::ApiError;
use crate::api::records::{Records, RecordsError};
use crate::api::state::Api;
use crate::domain::audit::{Body, Trigger};
use crate::domain::key::ObjectKey;
use crate::domain::world::{Table, World};
use crate::kube::dto::{VERSION, Why, WhyStep};
use crate::kube::resource_type::{Noun, by_word};
use crate::kube::status::Status;
use crate::master::view::View;

/// Steps that are shown: what made the object what it is stands at the top.
const MAX_STEPS: usize = 20;
/// Reconciles that are searched. An older cause is found by `kgit audit export`.
const MAX_RECONCILES: usize = 5000;
/// Reconciles that are read at a time.
const PAGE: usize = 200;

pub async fn why(
    State(api): State<Api>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
) -> Result<Json<Why>, ApiError> {
    let ty = by_word(&kind).ok_or_else(Status::no_such_path)?;
    let Noun::Recorded(kind) = ty.noun else {
        return Err(Status::bad_request(format!("nobody plans {}", ty.plural)).into());
    };
    let object = ObjectKey::new(kind, &namespace, &name);
    let view = api.master.view();
    let owners = owners(&view.world, &object);
    let subjects: Vec<_> = [&object].into_iter().chain(&owners).cloned().collect();
    let waits = subjects.iter().filter_map(|key| view.waits.get(key)).flatten().cloned();
    let waits: Vec<_> = waits.collect();
    let steps = api.read(move |records| steps(records, &subjects)).await?;
    if steps.is_empty() && waits.is_empty() && !is_there(&view, &object) {
        let message = format!("there is no {object}, and the audit log names no step about it");
        return Err(Status::new(404, "NotFound", message).into());
    }
    Ok(Json(Why { version: VERSION, object, owners, steps, waits }))
}

/// It is recorded, or a manifest stands for it whose turn has not come.
fn is_there(view: &View, object: &ObjectKey) -> bool {
    let is_recorded = |table: &Table| view.world.row(object, *table).is_some();
    Table::ALL.iter().any(is_recorded)
        || view.catalog.desired(Arc::default()).objects.contains_key(object)
}

/// What the object exists for, nearest first.
fn owners(world: &World, object: &ObjectKey) -> Vec<ObjectKey> {
    let mut owners = Vec::new();
    if let Some(pod) = world.pods.get(object) {
        owners.push(pod.owner.clone());
        owners.push(world.workload_of(pod));
    }
    if let Some(set) = world.replica_sets.get(object) {
        owners.push(set.owner.clone());
    }
    if let Some(revision) = world.revisions.get(object) {
        owners.push(revision.owner.clone());
    }
    owners.extend(world.objects.get(object).and_then(|applied| applied.owner.clone()));
    owners.dedup();
    owners.retain(|owner| owner != object);
    owners
}

fn steps(records: &dyn Records, subjects: &[ObjectKey]) -> Result<Vec<WhyStep>, RecordsError> {
    let (mut found, mut before, mut searched) = (Vec::new(), None, 0);
    while found.len() < MAX_STEPS && searched < MAX_RECONCILES {
        let page = records.reconciles(before, PAGE)?;
        let Some(last) = page.last() else { break };
        before = Some(last.reconcile);
        searched += page.len();
        for first in page {
            let Body::Triggered { by, .. } = first.body else { continue };
            found.extend(of_reconcile(records, first.reconcile, &by, subjects)?);
        }
    }
    found.truncate(MAX_STEPS);
    Ok(found)
}

fn of_reconcile(
    records: &dyn Records,
    reconcile: u64,
    trigger: &Trigger,
    subjects: &[ObjectKey],
) -> Result<Vec<WhyStep>, RecordsError> {
    let mut found = Vec::new();
    for entry in records.reconcile(reconcile)?.into_iter().rev() {
        let Body::Planned { steps, .. } = entry.body else { continue };
        let concerned = steps.into_iter().filter(|step| subjects.contains(&step.said.object));
        found.extend(concerned.map(|step| WhyStep {
            reconcile,
            at: entry.at,
            trigger: trigger.clone(),
            step,
        }));
    }
    Ok(found)
}

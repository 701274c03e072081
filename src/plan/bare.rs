//! Pods with a manifest of their own.

use std::sync::Arc;

use kgit_protocol::observation::PodPhase;

use crate::domain::key::ObjectKey;
use crate::domain::record::{Applied, Pod};
use crate::domain::resource::Spec;
use crate::domain::selector::Labels;
use crate::domain::world::{Effect, Record};
use crate::plan::config::{Needs, needs, revision_digest};
use crate::plan::draft::{Draft, commit_reason};
use crate::plan::pods::{self, NewPod};
use crate::plan::replicas::pods_of;
use crate::plan::{depends, dissolve, evict, refresh};

pub fn plan_pod(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::Pod(template) = &applied.resource.spec else { return };
    draft.start_over(key);
    if applied.deletion.is_some() {
        return dissolve::go_on(draft, key);
    }
    let found = pods_of(&draft.world, key);
    pods::follow(draft, key, &found);
    let needs = match needs(&draft.world, key, template, &applied.resource) {
        Ok(needs) => needs,
        Err(why) => return draft.blocked(key, why, "the pod is not started"),
    };
    let digest = revision_digest(&draft.world, template, &needs);
    refresh::pods(draft, key, &digest, &needs);
    match pods_of(&draft.world, key).first() {
        None => make(draft, key, &applied, &needs, digest),
        Some(pod) if pod.deletion.is_some() => {}
        Some(pod) if pod.revision_digest != digest => {
            // The name is taken until the old pod is gone, so the new one follows it.
            pods::stop(draft, pod, vec![commit_reason(&applied)]);
            if draft.world.pods.get(key).is_none() {
                make(draft, key, &applied, &needs, digest);
            }
        }
        Some(pod) if pod.placed.is_none() => pods::place_pending(draft, pod, &needs.configs),
        Some(pod) => {
            evict::leave_or_wait(draft, key, pod);
            wait_for_start(draft, key, pod);
        }
    }
}

fn make(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    applied: &Arc<Applied>,
    needs: &Needs,
    revision_digest: kgit_protocol::ids::Digest,
) {
    let Spec::Pod(template) = &applied.resource.spec else { return };
    if let Some(other) = draft.world.pods.get(key).map(|pod| pod.owner.clone()) {
        let for_what = format!("its name, which a pod of {other} has");
        return draft.blocked(key, for_what, "the pod is not started");
    }
    if depends::held(draft, key, &applied.resource) {
        return;
    }
    let counter = applied.counter + 1;
    let counted = Applied { counter, ..(**applied).clone() };
    let new = NewPod {
        key: key.clone(),
        owner: key.clone(),
        owner_uid: applied.uid.clone(),
        counter,
        extra_labels: Labels::new(),
        template: Arc::clone(template),
        revision_digest,
        index: None,
        pinned: None,
    };
    let effect = Effect::Put(key.clone(), Record::Object(Arc::new(counted)));
    pods::create(draft, new, &needs.configs, vec![commit_reason(applied)], vec![effect]);
}

fn wait_for_start(draft: &mut Draft<'_>, key: &ObjectKey, pod: &Pod) {
    if pod.is_ready() || pod.is_finished() {
        return;
    }
    let what = match pod.phase() {
        PodPhase::Pending => "to start",
        PodPhase::Unknown => "to be heard of: its engine does not answer",
        PodPhase::Running | PodPhase::Succeeded | PodPhase::Failed | PodPhase::Gone => {
            "to be ready"
        }
    };
    pods::wait_for_pods(draft, key, format!("the pod {what}"), pod);
}

//! Claims and volumes: which volume a claim is bound to. What a claim is to a pod lives in
//! `attach`.
//!
//! Source of the binding rules: kubernetes-rules "Claims" (`persistentvolume/index.go` upstream).

use std::sync::Arc;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{Applied, ClaimPhase, ClaimState, VolumePhase, VolumeState};
use crate::domain::resource::{
    BUILT_IN_CLASS, BindingMode, ClaimSpec, PROVISIONER, PersistentVolumeSpec, Spec,
    StorageClassSpec,
};
use crate::domain::world::{Effect, Record, World};
use crate::plan::draft::{Draft, commit_reason, said};

/// Plans one claim: gives it a state, and binds it if it can be bound without a pod.
pub fn plan_claim(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let Spec::PersistentVolumeClaim(spec) = &applied.resource.spec else { return };
    draft.start_over(key);
    let state = draft.world.claims.get(key).map(|row| (*row.value).clone());
    match state {
        Some(ClaimState { phase: ClaimPhase::Bound, volume: Some(volume) }) => {
            lose_if_gone(draft, key, &volume);
        }
        // Nothing gives it its data back, least of all another volume.
        Some(ClaimState { phase: ClaimPhase::Lost, volume: Some(volume) }) => {
            say_lost(draft, key, &volume);
        }
        _ => bind_or_wait(draft, key, &applied, spec),
    }
}

fn lose_if_gone(draft: &mut Draft<'_>, key: &ObjectKey, volume: &str) {
    if !draft.world.volumes.contains_key(&volume_key(volume)) {
        let lost = ClaimState { phase: ClaimPhase::Lost, volume: Some(volume.to_owned()) };
        draft.note(key, Record::Claim(Arc::new(lost)));
        say_lost(draft, key, volume);
    }
}

fn say_lost(draft: &mut Draft<'_>, key: &ObjectKey, volume: &str) {
    let what = format!(
        "PersistentVolume `{volume}`, which is gone (once no pod runs with it, `kgit prune {key}` \
         gives it up)"
    );
    draft.blocked(key, what, "its pods stay as they are");
}

fn bind_or_wait(draft: &mut Draft<'_>, key: &ObjectKey, applied: &Arc<Applied>, spec: &ClaimSpec) {
    if draft.world.claims.get(key).is_none() {
        let pending = ClaimState { phase: ClaimPhase::Pending, volume: None };
        draft.note(key, Record::Claim(Arc::new(pending)));
    }
    let class = class_of(&draft.world, spec);
    if waits_for_consumer(&draft.world, &class) && spec.volume_name.is_none() {
        return;
    }
    match find_volume(&draft.world, key, spec, &class) {
        Ok(volume) => bind(draft, key, &volume, commit_reason(applied)),
        Err(why) => draft.blocked(key, why, "its pods stay pending"),
    }
}

/// The class that a claim belongs to; empty for none.
pub fn class_of(world: &World, spec: &ClaimSpec) -> String {
    spec.class.clone().unwrap_or_else(|| default_class(world))
}

/// The class that the repo marks as default, else the built-in one.
fn default_class(world: &World) -> String {
    world
        .objects_of(Kind::StorageClass)
        .filter(|row| matches!(&row.resource.spec, Spec::StorageClass(class) if class.is_default))
        .map(|row| row.resource.key.name.to_string())
        .next()
        .unwrap_or_else(|| BUILT_IN_CLASS.to_owned())
}

pub fn class_spec<'a>(world: &'a World, class: &str) -> Option<&'a StorageClassSpec> {
    match &world.objects.get(&ObjectKey::new(Kind::StorageClass, "", class))?.value.resource.spec {
        Spec::StorageClass(spec) => Some(spec),
        _ => None,
    }
}

/// A class that kgit provisions makes the volume where the pod is: there is no other place for a
/// Docker volume to be, whatever its binding mode says.
fn waits_for_consumer(world: &World, class: &str) -> bool {
    match class_spec(world, class) {
        Some(spec) => {
            spec.binding == BindingMode::WaitForFirstConsumer || spec.provisioner == PROVISIONER
        }
        None => class == BUILT_IN_CLASS,
    }
}

/// True of a pending claim that is bound only once a pod of its has a place.
pub fn waits_for_first_consumer(world: &World, key: &ObjectKey) -> bool {
    let Some(applied) = world.objects.get(key) else { return false };
    let Spec::PersistentVolumeClaim(spec) = &applied.resource.spec else { return false };
    let pending = world.claims.get(key).is_none_or(|claim| claim.phase == ClaimPhase::Pending);
    pending && waits_for_consumer(world, &class_of(world, spec))
}

pub fn is_provisioned(world: &World, class: &str) -> bool {
    class_spec(world, class).map_or(class == BUILT_IN_CLASS, |spec| spec.provisioner == PROVISIONER)
}

pub fn volume_key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::PersistentVolume, "", name)
}

/// The smallest static volume that fits; one that is pre-bound to the claim wins. `Err` says what
/// was looked for and why what is there does not do.
fn find_volume(
    world: &World,
    key: &ObjectKey,
    spec: &ClaimSpec,
    class: &str,
) -> Result<String, String> {
    let fitting = fitting_volumes(world, key, spec, class)?;
    fitting.into_iter().next().ok_or_else(|| wanted(spec, class, &[]))
}

/// Every static volume that fits, the best first: pre-bound to the claim, then the smallest.
pub fn fitting_volumes(
    world: &World,
    key: &ObjectKey,
    spec: &ClaimSpec,
    class: &str,
) -> Result<Vec<String>, String> {
    let mut fitting: Vec<(bool, u64, &str)> = Vec::new();
    // Those of another class are the least likely to be what was meant.
    let mut misfits: Vec<(bool, String)> = Vec::new();
    for row in world.objects_of(Kind::PersistentVolume) {
        let volume = &row.resource.key;
        let Spec::PersistentVolume(offered) = &row.resource.spec else { continue };
        if spec.volume_name.as_ref().is_some_and(|name| **name != *volume.name) {
            continue;
        }
        match misfit(world, key, spec, class, volume, offered) {
            None => fitting.push((offered.claim.is_none(), offered.capacity_bytes, &volume.name)),
            Some(why) => misfits.push((offered.class != class, format!("`{}` {why}", volume.name))),
        }
    }
    fitting.sort();
    misfits.sort();
    let misfits: Vec<String> = misfits.into_iter().map(|(_, misfit)| misfit).collect();
    match fitting.is_empty() {
        true => Err(wanted(spec, class, &misfits)),
        false => Ok(fitting.into_iter().map(|(_, _, name)| name.to_owned()).collect()),
    }
}

/// The static volume that names the claim as the one that it is for.
pub fn kept_for(world: &World, key: &ObjectKey) -> Option<String> {
    let mut volumes = world.objects_of(Kind::PersistentVolume);
    let kept = volumes.find(|row| match &row.resource.spec {
        Spec::PersistentVolume(offered) => row.retained.is_none() && names(offered, key),
        _ => false,
    });
    kept.map(|row| row.resource.key.name.to_string())
}

fn names(offered: &PersistentVolumeSpec, key: &ObjectKey) -> bool {
    let named = offered.claim.as_ref();
    named.is_some_and(|(namespace, name)| (&**namespace, &**name) == (&*key.namespace, &*key.name))
}

fn wanted(spec: &ClaimSpec, class: &str, misfits: &[String]) -> String {
    /// More would make the line unreadable; the first ones show the pattern.
    const MISFITS_SHOWN: usize = 3;
    let class = if class.is_empty() { "no class".to_owned() } else { format!("class `{class}`") };
    let modes: Vec<String> = spec.access_modes.iter().map(|mode| format!("{mode:?}")).collect();
    let there = match (misfits, &spec.volume_name) {
        ([], None) => "there is no PersistentVolume".to_owned(),
        ([], Some(name)) => format!("there is no PersistentVolume `{name}`"),
        (some, _) => some[..some.len().min(MISFITS_SHOWN)].join(", "),
    };
    let size = readable_bytes(spec.request_bytes);
    format!("a PersistentVolume of {class} with {size} and {}: {there}", modes.join(", "))
}

fn misfit(
    world: &World,
    key: &ObjectKey,
    spec: &ClaimSpec,
    class: &str,
    volume: &ObjectKey,
    offered: &PersistentVolumeSpec,
) -> Option<String> {
    if offered.claim.is_some() && !names(offered, key) {
        return Some("is reserved for another claim".to_owned());
    }
    if let Some(state) = world.volumes.get(volume) {
        // A later claim of the same name is another one.
        let uid = world.objects.get(key).map(|row| row.uid.as_str());
        let owner = state.claim.as_ref();
        let is_retained = world.objects.get(volume).is_some_and(|row| row.retained.is_some());
        let ours = owner.is_some_and(|(claim, of)| claim == key && Some(of.as_str()) == uid);
        match state.phase {
            VolumePhase::Available if is_retained => {
                return Some("has no manifest any more".to_owned());
            }
            VolumePhase::Available => {}
            VolumePhase::Bound if ours => {}
            VolumePhase::Released if ours => {}
            VolumePhase::Bound => return Some("is bound to another claim".to_owned()),
            VolumePhase::Released => return Some("holds another claim's data".to_owned()),
            VolumePhase::Removing => return Some("is being removed".to_owned()),
        }
    }
    if offered.class != class {
        return Some(match offered.class.as_str() {
            "" => "belongs to no class".to_owned(),
            class => format!("is of class `{class}`"),
        });
    }
    if offered.capacity_bytes < spec.request_bytes {
        return Some(format!("has {}", readable_bytes(offered.capacity_bytes)));
    }
    if offered.block != spec.block {
        return Some("has another volumeMode".to_owned());
    }
    if !spec.access_modes.iter().all(|mode| offered.access_modes.contains(mode)) {
        return Some("lacks an access mode".to_owned());
    }
    let labels = world.objects.get(volume).map(|row| row.resource.labels.clone());
    let selected = spec.selector.as_ref().is_none_or(|s| s.matches(&labels.unwrap_or_default()));
    (!selected).then(|| "does not match the selector".to_owned())
}

/// `1Gi`, `500Mi`, or plain bytes where nothing rounder says the same.
pub fn readable_bytes(bytes: u64) -> String {
    [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

pub fn bind(draft: &mut Draft<'_>, key: &ObjectKey, volume: &str, reason: Reason) {
    let uid = draft.world.objects.get(key).map(|row| row.uid.clone()).unwrap_or_default();
    let old = draft.world.volumes.get(&volume_key(volume)).map(|row| (*row.value).clone());
    let state = VolumeState {
        phase: VolumePhase::Bound,
        claim: Some((key.clone(), uid)),
        node: old.as_ref().and_then(|old| old.node.clone()),
        provisioned: old.and_then(|old| old.provisioned),
    };
    let claim = ClaimState { phase: ClaimPhase::Bound, volume: Some(volume.to_owned()) };
    draft.step(
        Said { detail: format!("to {volume}"), ..said(Verb::Bind, key) },
        vec![reason],
        vec![
            Effect::Put(volume_key(volume), Record::Volume(Arc::new(state))),
            Effect::Put(key.clone(), Record::Claim(Arc::new(claim))),
        ],
    );
}

/// Gives a static volume a state of its own once it is offered.
pub fn offer(draft: &mut Draft<'_>, key: &ObjectKey) {
    if draft.world.volumes.contains_key(key) {
        return;
    }
    let available =
        VolumeState { phase: VolumePhase::Available, claim: None, node: None, provisioned: None };
    draft.note(key, Record::Volume(Arc::new(available)));
}

#[cfg(test)]
mod tests;

//! Claims and volumes: binding, provisioning, and what a bound volume is to a pod.
//!
//! Source of the binding rules: kubernetes-rules "Claims" (`persistentvolume/index.go` upstream).

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::pod::{HostPathKind, VolumeSource};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{
    Applied, ClaimPhase, ClaimState, Provisioned, VolumePhase, VolumeState,
};
use crate::domain::resource::{
    AccessMode, BUILT_IN_CLASS, BindingMode, ClaimSpec, PROVISIONER, PersistentSource,
    PersistentVolumeSpec, ReclaimPolicy, Spec, StorageClassSpec,
};
use crate::domain::world::{Effect, Record, World};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::names;
use crate::plan::scheduler::VolumeConstraint;

const DEFAULT_DRIVER: &str = "local";

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
    let what = format!("PersistentVolume `{volume}`, which is gone");
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

fn class_spec<'a>(world: &'a World, class: &str) -> Option<&'a StorageClassSpec> {
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

fn is_provisioned(world: &World, class: &str) -> bool {
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
    let mut fitting: Vec<(bool, u64, &str)> = Vec::new();
    let mut misfits: Vec<String> = Vec::new();
    for row in world.objects_of(Kind::PersistentVolume) {
        let volume = &row.resource.key;
        let Spec::PersistentVolume(offered) = &row.resource.spec else { continue };
        match misfit(world, key, spec, class, volume, offered) {
            None => fitting.push((offered.claim.is_none(), offered.capacity_bytes, &volume.name)),
            Some(why) => misfits.push(format!("`{}` {why}", volume.name)),
        }
    }
    fitting.sort();
    match fitting.first() {
        Some((_, _, name)) => Ok((*name).to_owned()),
        None => Err(wanted(spec, class, &misfits)),
    }
}

fn wanted(spec: &ClaimSpec, class: &str, misfits: &[String]) -> String {
    /// More would make the line unreadable; the first ones show the pattern.
    const MISFITS_SHOWN: usize = 3;
    let class = if class.is_empty() { "no class".to_owned() } else { format!("class `{class}`") };
    let modes: Vec<String> = spec.access_modes.iter().map(|mode| format!("{mode:?}")).collect();
    let there = match misfits {
        [] => "there is no PersistentVolume".to_owned(),
        some => some[..some.len().min(MISFITS_SHOWN)].join(", "),
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
    if spec.volume_name.as_ref().is_some_and(|name| **name != *volume.name) {
        return Some("is not the one named".to_owned());
    }
    let reserved = offered.claim.as_ref();
    if reserved
        .is_some_and(|(namespace, name)| (&**namespace, &**name) != (&*key.namespace, &*key.name))
    {
        return Some("is reserved for another claim".to_owned());
    }
    if let Some(state) = world.volumes.get(volume) {
        // A later claim of the same name is another one.
        let uid = world.objects.get(key).map(|row| row.uid.as_str());
        let owner = state.claim.as_ref();
        let ours = owner.is_some_and(|(claim, of)| claim == key && Some(of.as_str()) == uid);
        match state.phase {
            VolumePhase::Available => {}
            VolumePhase::Bound if ours => {}
            VolumePhase::Released if ours => {}
            VolumePhase::Bound => return Some("is bound to another claim".to_owned()),
            VolumePhase::Released => return Some("holds another claim's data".to_owned()),
            VolumePhase::Removing => return Some("is being removed".to_owned()),
        }
    }
    if offered.class != class {
        return Some(format!("is of class `{}`", offered.class));
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

fn bind(draft: &mut Draft<'_>, key: &ObjectKey, volume: &str, reason: Reason) {
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

/// Where a pod's claims allow it to run. `Err` says which claim is waited for.
pub fn constraints(
    world: &World,
    pod: &ObjectKey,
    claims: &[String],
) -> Result<Vec<VolumeConstraint>, String> {
    let mut constraints = Vec::new();
    for name in claims {
        let key = pod.sibling(Kind::PersistentVolumeClaim, name);
        let Some(applied) = world.objects.get(&key) else {
            return Err(format!("claim `{name}`, which does not exist"));
        };
        let Spec::PersistentVolumeClaim(spec) = &applied.resource.spec else { continue };
        constraints.extend(claim_constraint(world, &key, spec)?);
        constraints.extend(used_elsewhere(world, &key, pod, spec)?);
    }
    Ok(constraints)
}

fn claim_constraint(
    world: &World,
    key: &ObjectKey,
    spec: &ClaimSpec,
) -> Result<Option<VolumeConstraint>, String> {
    let state = world.claims.get(key);
    let Some(volume) = state.as_ref().and_then(|state| state.volume.as_ref()) else {
        let class = class_of(world, spec);
        return match is_provisioned(world, &class) && spec.volume_name.is_none() {
            true => Ok(None),
            false => find_volume(world, key, spec, &class)
                .map(|volume| volume_constraint(world, &volume))
                .map_err(|why| format!("claim `{}` to be bound, which needs {why}", key.name)),
        };
    };
    if state.is_some_and(|state| state.phase == ClaimPhase::Lost) {
        return Err(format!("claim `{}`, whose volume is lost", key.name));
    }
    Ok(volume_constraint(world, volume))
}

fn volume_constraint(world: &World, volume: &str) -> Option<VolumeConstraint> {
    let key = volume_key(volume);
    if let Some(node) = world.volumes.get(&key).and_then(|state| state.node.clone()) {
        return Some(VolumeConstraint::On(node));
    }
    match &world.objects.get(&key)?.resource.spec {
        Spec::PersistentVolume(spec) if !spec.node_affinity.is_empty() => {
            Some(VolumeConstraint::Matches(spec.node_affinity.clone()))
        }
        _ => None,
    }
}

/// ReadWriteOnce is one node, ReadWriteOncePod one pod. A pod counts until it is seen to be gone.
fn used_elsewhere(
    world: &World,
    key: &ObjectKey,
    pod: &ObjectKey,
    spec: &ClaimSpec,
) -> Result<Option<VolumeConstraint>, String> {
    let mut others = world
        .pods_with_claim(key)
        .filter(|other| other.key != *pod && other.placed.is_some() && !other.is_finished());
    let Some(other) = others.next() else { return Ok(None) };
    if spec.access_modes.contains(&AccessMode::ReadWriteOncePod) {
        return Err(format!("claim `{}`, which pod `{}` still uses", key.name, other.key.name));
    }
    let single = !spec
        .access_modes
        .iter()
        .any(|mode| matches!(mode, AccessMode::ReadWriteMany | AccessMode::ReadOnlyMany));
    Ok(if single { other.node().cloned().map(VolumeConstraint::On) } else { None })
}

/// Binds or provisions every claim of a pod that is being placed on `node`, and says what each is
/// to the pod's containers.
pub fn settle(
    draft: &mut Draft<'_>,
    pod: &ObjectKey,
    claims: &[String],
    node: &NodeName,
) -> Result<BTreeMap<String, VolumeSource>, String> {
    let mut sources = BTreeMap::new();
    for name in claims {
        let key = pod.sibling(Kind::PersistentVolumeClaim, name);
        let applied = draft.world.objects.get(&key).map(|row| Arc::clone(&row.value));
        let Some(applied) = applied else { return Err(format!("claim `{name}` to exist")) };
        let Spec::PersistentVolumeClaim(spec) = &applied.resource.spec else { continue };
        let bound = draft.world.claims.get(&key).and_then(|state| state.volume.clone());
        let volume = match bound {
            Some(volume) => volume,
            None => bind_for_pod(draft, &key, &applied, spec, pod, node)?,
        };
        pin(draft, &volume, node);
        let source = source_of(&draft.world, &volume)
            .ok_or_else(|| format!("PersistentVolume `{volume}` to exist"))?;
        sources.insert(name.clone(), source);
    }
    Ok(sources)
}

fn bind_for_pod(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    applied: &Arc<Applied>,
    spec: &ClaimSpec,
    pod: &ObjectKey,
    node: &NodeName,
) -> Result<String, String> {
    let class = class_of(&draft.world, spec);
    let reason = Reason::NeededBy { object: pod.clone() };
    if is_provisioned(&draft.world, &class) && spec.volume_name.is_none() {
        return Ok(provision(draft, key, applied, spec, &class, node, reason));
    }
    let volume = find_volume(&draft.world, key, spec, &class)?;
    bind(draft, key, &volume, reason);
    Ok(volume)
}

fn provision(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    applied: &Arc<Applied>,
    spec: &ClaimSpec,
    class: &str,
    node: &NodeName,
    reason: Reason,
) -> String {
    let name = format!("pvc-{}", applied.uid);
    let parameters = class_spec(&draft.world, class).map(|class| class.parameters.clone());
    let mut options = parameters.unwrap_or_default();
    let driver = options.remove("driver").unwrap_or_else(|| DEFAULT_DRIVER.to_owned());
    let reclaim =
        class_spec(&draft.world, class).map_or(ReclaimPolicy::Delete, |class| class.reclaim);
    let provisioned = Provisioned {
        uid: names::owned_uid(&applied.uid, "volume"),
        created: draft.now,
        class: class.to_owned(),
        capacity_bytes: spec.request_bytes,
        access_modes: spec.access_modes.clone(),
        reclaim,
        docker_volume: format!("kgit-{}-{name}", draft.world.cluster),
        driver,
        options,
    };
    let state = VolumeState {
        phase: VolumePhase::Bound,
        claim: Some((key.clone(), applied.uid.clone())),
        node: Some(node.clone()),
        provisioned: Some(provisioned),
    };
    let claim = ClaimState { phase: ClaimPhase::Bound, volume: Some(name.clone()) };
    draft.step(
        Said { node: Some(node.clone()), ..said(Verb::Provision, key) },
        vec![reason, commit_reason(applied)],
        vec![
            Effect::Put(volume_key(&name), Record::Volume(Arc::new(state))),
            Effect::Put(key.clone(), Record::Claim(Arc::new(claim))),
        ],
    );
    name
}

/// A hostPath volume belongs to the node that it was first used on.
fn pin(draft: &mut Draft<'_>, volume: &str, node: &NodeName) {
    let key = volume_key(volume);
    let Some(state) = draft.world.volumes.get(&key).map(|row| (*row.value).clone()) else { return };
    let local = draft.world.objects.get(&key).is_some_and(|row| {
        matches!(&row.resource.spec, Spec::PersistentVolume(spec)
            if matches!(spec.source, PersistentSource::HostPath { .. }))
    });
    if local && state.node.is_none() {
        let pinned = VolumeState { node: Some(node.clone()), ..state };
        draft.note(&key, Record::Volume(Arc::new(pinned)));
    }
}

fn source_of(world: &World, volume: &str) -> Option<VolumeSource> {
    let key = volume_key(volume);
    if let Some(provisioned) = world.volumes.get(&key).and_then(|row| row.provisioned.clone()) {
        return Some(VolumeSource::Docker {
            volume: provisioned.docker_volume,
            driver: provisioned.driver,
            options: provisioned.options,
        });
    }
    match &world.objects.get(&key)?.resource.spec {
        Spec::PersistentVolume(spec) => Some(static_source(world, volume, spec)),
        _ => None,
    }
}

fn static_source(world: &World, volume: &str, spec: &PersistentVolumeSpec) -> VolumeSource {
    match &spec.source {
        // A bound volume's folder is made if it is missing, as a bare hostPath's is.
        PersistentSource::HostPath { path, kind: HostPathKind::Unset } => {
            VolumeSource::HostPath { path: path.clone(), kind: HostPathKind::DirectoryOrCreate }
        }
        PersistentSource::HostPath { path, kind } => {
            VolumeSource::HostPath { path: path.clone(), kind: *kind }
        }
        PersistentSource::Nfs { server, path, read_only } => VolumeSource::Docker {
            volume: format!("kgit-{}-{volume}", world.cluster),
            driver: DEFAULT_DRIVER.to_owned(),
            options: BTreeMap::from([
                ("type".to_owned(), "nfs".to_owned()),
                ("o".to_owned(), format!("addr={server}{}", if *read_only { ",ro" } else { "" })),
                ("device".to_owned(), format!(":{path}")),
            ]),
        },
    }
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

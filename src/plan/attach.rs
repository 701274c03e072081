//! What a pod's claims are to it: where they let it run, and which volumes it gets there. Which
//! volume suits a claim at all is decided in `claims`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::ids::NodeName;
use kgit_protocol::pod::{HostPathKind, VolumeSource};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::Node;
use crate::domain::plan::{Reason, Said, Verb};
use crate::domain::record::{Applied, ClaimPhase, ClaimState, Provisioned};
use crate::domain::record::{VolumePhase, VolumeState};
use crate::domain::resource::{
    AccessMode, ClaimSpec, PersistentSource, PersistentVolumeSpec, ReclaimPolicy, Spec,
};
use crate::domain::world::{Effect, Record, World, node_key};
use crate::plan::claims::{self, volume_key};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::names;
use crate::plan::scheduler::{self, Choice, Choices, Constraints, VolumeConstraint};

const DEFAULT_DRIVER: &str = "local";

/// Where a pod's claims allow it to run. `Err` says which claim is waited for.
pub fn constraints(
    world: &World,
    pod: &ObjectKey,
    claims: &[String],
) -> Result<Constraints, String> {
    let mut constraints = Constraints::default();
    for name in claims {
        let key = pod.sibling(Kind::PersistentVolumeClaim, name);
        let Some(applied) = world.objects.get(&key) else {
            return Err(format!("claim `{name}`, which does not exist"));
        };
        let Spec::PersistentVolumeClaim(spec) = &applied.resource.spec else { continue };
        match bound(world, &key)? {
            Some(volume) => constraints.volumes.extend(volume_constraint(world, &volume)),
            None => constraints.choices.extend(choices(world, &key, spec)?),
        }
        constraints.volumes.extend(used_elsewhere(world, &key, pod, spec)?);
    }
    // Upstream's order: the claim that asks for the least chooses first, and takes the smallest.
    constraints.choices.sort_by_key(|of_claim| {
        let row = world.objects.get(&of_claim.claim);
        row.map(|row| match &row.resource.spec {
            Spec::PersistentVolumeClaim(spec) => spec.request_bytes,
            _ => 0,
        })
    });
    Ok(constraints)
}

/// The volume that a claim is bound to.
fn bound(world: &World, key: &ObjectKey) -> Result<Option<String>, String> {
    match world.claims.get(key).map(|row| &*row.value) {
        Some(ClaimState { phase: ClaimPhase::Lost, .. }) => {
            Err(format!("claim `{}`, whose volume is lost", key.name))
        }
        Some(state) => match state.volume.as_ref().and_then(|volume| left_with(world, volume)) {
            Some(node) => Err(format!(
                "claim `{}`, whose data is on node `{node}`, which is no member: it has it again \
                 under that name, or `kgit prune {key}` gives it up",
                key.name
            )),
            None => Ok(state.volume.clone()),
        },
        None => Ok(None),
    }
}

/// The node that has a volume, and left the cluster with it.
pub fn left_with<'a>(world: &'a World, volume: &str) -> Option<&'a NodeName> {
    let node = world.volumes.get(&volume_key(volume))?.value.node.as_ref()?;
    (!world.nodes.contains_key(&node_key(node))).then_some(node)
}

/// The static volumes that a claim can still be bound to; `None` if there is none and one is made
/// for it. Where one is kept for it, no other will do: an empty one would not be what was meant.
fn choices(world: &World, key: &ObjectKey, spec: &ClaimSpec) -> Result<Option<Choices>, String> {
    let class = claims::class_of(world, spec);
    let is_provisioned = claims::is_provisioned(world, &class);
    let kept = claims::kept_for(world, key).filter(|_| is_provisioned);
    let named = spec.volume_name.clone().or(kept);
    let or_made = is_provisioned && named.is_none();
    let wanted = ClaimSpec { volume_name: named, ..spec.clone() };
    let fitting = match claims::fitting_volumes(world, key, &wanted, &class) {
        Ok(fitting) => fitting,
        Err(_) if or_made => return Ok(None),
        Err(why) => return Err(format!("claim `{}` to be bound, which needs {why}", key.name)),
    };
    let choice = |volume: String| Choice { on: volume_constraint(world, &volume), volume };
    let volumes = fitting.into_iter().map(choice).collect();
    Ok(Some(Choices { claim: key.clone(), volumes, or_made }))
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
        .filter(|other| other.key != *pod && other.placed.is_some() && !other.is_over());
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

/// Whether a pod finds its data on other nodes too.
pub fn can_move(world: &World, attachments: &BTreeMap<String, Attachment>) -> bool {
    attachments.values().all(|attachment| {
        let volume = world.objects.get(&volume_key(&attachment.volume));
        volume.is_some_and(|volume| match &volume.resource.spec {
            Spec::PersistentVolume(spec) => matches!(spec.source, PersistentSource::Nfs { .. }),
            _ => false,
        })
    })
}

/// One claim of a pod that is about to be placed, and what it will be to the pod's containers.
#[derive(Debug)]
pub struct Attachment {
    claim: ObjectKey,
    volume: String,
    how: How,
    pub source: VolumeSource,
}

#[derive(Debug)]
enum How {
    Bound,
    Bind,
    Provision(Box<VolumeState>),
}

/// What every claim of a pod comes to on `node`, by the claim's name. Nothing is done yet.
pub fn attachments(
    draft: &Draft<'_>,
    pod: &ObjectKey,
    claims: &[String],
    constraints: &Constraints,
    node: &Node,
) -> Result<BTreeMap<String, Attachment>, String> {
    let world = &draft.world;
    let chosen = scheduler::choose(&constraints.choices, node)
        .ok_or_else(|| format!("a volume for every claim on node `{}`", node.name))?;
    let mut attachments = BTreeMap::new();
    for name in claims {
        let claim = pod.sibling(Kind::PersistentVolumeClaim, name);
        let Some(applied) = world.objects.get(&claim) else {
            return Err(format!("claim `{name}` to exist"));
        };
        let Spec::PersistentVolumeClaim(spec) = &applied.resource.spec else { continue };
        let (volume, how) = match (bound(world, &claim)?, chosen.get(&claim)) {
            (Some(volume), _) => (volume, How::Bound),
            (None, Some(volume)) => (volume.clone(), How::Bind),
            (None, None) => {
                let state = provisioned(draft, &claim, applied, spec, node);
                (volume_name(applied), How::Provision(Box::new(state)))
            }
        };
        let source = match &how {
            How::Provision(state) => state.provisioned.as_ref().map(docker_volume),
            How::Bound | How::Bind => source_of(world, &volume),
        };
        let source = source.ok_or_else(|| format!("PersistentVolume `{volume}` to exist"))?;
        attachments.insert(name.clone(), Attachment { claim, volume, how, source });
    }
    Ok(attachments)
}

/// Binds or provisions what is not bound yet, now that the pod is known to be placed on `node`.
pub fn attach(
    draft: &mut Draft<'_>,
    pod: &ObjectKey,
    attachments: BTreeMap<String, Attachment>,
    node: &Node,
) {
    for attachment in attachments.into_values() {
        let Attachment { claim, volume, how, .. } = attachment;
        let reason = Reason::NeededBy { object: pod.clone() };
        match how {
            How::Bound => {}
            How::Bind => claims::bind(draft, &claim, &volume, reason),
            How::Provision(state) => provision(draft, &claim, &volume, *state, reason),
        }
        pin(draft, &volume, node);
    }
}

fn volume_name(claim: &Applied) -> String {
    format!("pvc-{}", claim.uid)
}

fn provisioned(
    draft: &Draft<'_>,
    key: &ObjectKey,
    applied: &Applied,
    spec: &ClaimSpec,
    node: &Node,
) -> VolumeState {
    let class = claims::class_of(&draft.world, spec);
    let class_spec = claims::class_spec(&draft.world, &class);
    let mut options = class_spec.map(|class| class.parameters.clone()).unwrap_or_default();
    let driver = options.remove("driver").unwrap_or_else(|| DEFAULT_DRIVER.to_owned());
    let provisioned = Provisioned {
        uid: names::owned_uid(&applied.uid, "volume"),
        created: draft.now,
        capacity_bytes: spec.request_bytes,
        access_modes: spec.access_modes.clone(),
        reclaim: class_spec.map_or(ReclaimPolicy::Delete, |class| class.reclaim),
        docker_volume: format!("kgit-{}-{}", draft.world.cluster, volume_name(applied)),
        class,
        driver,
        options,
    };
    VolumeState {
        phase: VolumePhase::Bound,
        claim: Some((key.clone(), applied.uid.clone())),
        node: Some(node.name.clone()),
        provisioned: Some(provisioned),
    }
}

fn provision(
    draft: &mut Draft<'_>,
    key: &ObjectKey,
    volume: &str,
    state: VolumeState,
    reason: Reason,
) {
    let Some(applied) = draft.world.objects.get(key).map(|row| Arc::clone(&row.value)) else {
        return;
    };
    let claim = ClaimState { phase: ClaimPhase::Bound, volume: Some(volume.to_owned()) };
    draft.step(
        Said { node: state.node.clone(), ..said(Verb::Provision, key) },
        vec![reason, commit_reason(&applied)],
        vec![
            Effect::Put(volume_key(volume), Record::Volume(Arc::new(state))),
            Effect::Put(key.clone(), Record::Claim(Arc::new(claim))),
        ],
    );
}

/// A hostPath volume belongs to the node that it was first used on.
fn pin(draft: &mut Draft<'_>, volume: &str, node: &Node) {
    let key = volume_key(volume);
    let Some(state) = draft.world.volumes.get(&key).map(|row| (*row.value).clone()) else { return };
    let local = draft.world.objects.get(&key).is_some_and(|row| {
        matches!(&row.resource.spec, Spec::PersistentVolume(spec)
            if matches!(spec.source, PersistentSource::HostPath { .. }))
    });
    if local && state.node.is_none() {
        let pinned = VolumeState { node: Some(node.name.clone()), ..state };
        draft.note(&key, Record::Volume(Arc::new(pinned)));
    }
}

fn source_of(world: &World, volume: &str) -> Option<VolumeSource> {
    let key = volume_key(volume);
    if let Some(provisioned) = world.volumes.get(&key).and_then(|row| row.provisioned.as_ref()) {
        return Some(docker_volume(provisioned));
    }
    match &world.objects.get(&key)?.resource.spec {
        Spec::PersistentVolume(spec) => Some(static_source(world, volume, spec)),
        _ => None,
    }
}

fn docker_volume(provisioned: &Provisioned) -> VolumeSource {
    VolumeSource::Docker {
        volume: provisioned.docker_volume.clone(),
        driver: provisioned.driver.clone(),
        options: provisioned.options.clone(),
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

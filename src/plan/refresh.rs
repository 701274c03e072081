//! Contents that changed without rolling the pods: the files that running pods see are swapped
//! under them (the agent does it at once for all of a volume), and logins for registries are
//! renewed. Variables of the environment stay what they were until the pod is made anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use kgit_protocol::ids::Digest;
use kgit_protocol::pod::{PodSpec, Volume};

use crate::domain::key::ObjectKey;
use crate::domain::plan::{Said, Verb};
use crate::domain::record::{Placed, Pod, ReplicaSet};
use crate::domain::template::{ConfigRef, Projection, VolumeTemplate, VolumeTemplateSource};
use crate::domain::world::{Effect, Record, World, node_key};
use crate::plan::config::{Needs, config_key, config_reasons};
use crate::plan::draft::{Draft, said};
use crate::plan::replicas::pods_of;
use crate::plan::services;
use crate::plan::spec::{self, Configs, Decision};

/// Brings the pods of `owner` that have the revision `digest` up to what it needs now.
pub fn pods(draft: &mut Draft<'_>, owner: &ObjectKey, digest: &Digest, needs: &Needs) {
    for pod in pods_of(&draft.world, owner) {
        if pod.revision_digest == *digest && pod.deletion.is_none() {
            refresh(draft, &pod, &needs.configs);
        }
    }
}

/// The same for a revision of a Deployment: pods that it makes from now on get the contents too.
pub fn set(draft: &mut Draft<'_>, set: &ReplicaSet, needs: &Needs) {
    if set.configs != needs.configs {
        let renewed = ReplicaSet { configs: needs.configs.clone(), ..set.clone() };
        draft.note(&set.key, Record::ReplicaSet(Arc::new(renewed)));
    }
    pods(draft, &set.key, &set.revision_digest, needs);
}

fn refresh(draft: &mut Draft<'_>, pod: &Pod, configs: &Configs) {
    let Some(placed) = &pod.placed else { return };
    let Some((spec, volumes)) = refreshed(&draft.world, pod, placed, configs) else { return };
    let changed = changed(pod, &placed.spec, &volumes);
    let digest = spec.digest();
    let placed = Placed { spec: Arc::new(spec), digest, ..placed.clone() };
    let node = Some(placed.node.clone());
    let effect = Effect::Put(
        pod.key.clone(),
        Record::Pod(Arc::new(Pod { placed: Some(placed), ..pod.clone() })),
    );
    if changed.is_empty() {
        // A login: nothing that anybody in the pod can see.
        return draft.note_effect(effect);
    }
    let words =
        Said { detail: "its files, as it runs".to_owned(), node, ..said(Verb::Update, &pod.key) };
    let configs = changed.into_iter().map(|config| config_key(&pod.key, config));
    let reasons = configs.flat_map(|config| config_reasons(&draft.world, config)).collect();
    draft.step(words, reasons, vec![effect]);
}

/// The spec with what changed; `None` if nothing did, or if something is missing now.
fn refreshed(
    world: &World,
    pod: &Pod,
    placed: &Placed,
    configs: &Configs,
) -> Option<(PodSpec, Vec<Volume>)> {
    let node = world.nodes.get(&node_key(&placed.node))?;
    let decision = Decision {
        pod,
        configs,
        claims: &std::collections::BTreeMap::new(),
        node: &placed.node,
        node_address: node.observed.facts.addresses.first().map(String::as_str),
        address: placed.spec.address,
        api: world.meta.service_range.and_then(services::api_address),
    };
    let file_volumes = pod.template.volumes.iter().filter(|volume| holds_configs(volume));
    let volumes: Vec<Volume> = file_volumes
        .map(|volume| spec::volume(&decision, volume))
        .collect::<Result<_, _>>()
        .ok()?;
    let mut spec = (*placed.spec).clone();
    for volume in &volumes {
        if let Some(old) = spec.volumes.iter_mut().find(|old| old.name == volume.name) {
            old.clone_from(volume);
        }
    }
    spec.registry_logins = spec::registry_logins(&pod.template, configs);
    (spec != *placed.spec).then_some((spec, volumes))
}

fn holds_configs(volume: &VolumeTemplate) -> bool {
    configs_of(volume).next().is_some()
}

fn configs_of(volume: &VolumeTemplate) -> impl Iterator<Item = &ConfigRef> {
    let sources = match &volume.source {
        VolumeTemplateSource::Projected { sources, .. } => sources.as_slice(),
        VolumeTemplateSource::EmptyDir { .. }
        | VolumeTemplateSource::HostPath { .. }
        | VolumeTemplateSource::Claim { .. } => &[],
    };
    sources.iter().filter_map(|source| match source {
        Projection::Config { source, .. } => Some(source),
        Projection::Downward { .. } => None,
    })
}

/// The configs behind the volumes that are not as they were.
fn changed<'p>(pod: &'p Pod, old: &PodSpec, new: &[Volume]) -> BTreeSet<&'p ConfigRef> {
    let differs = |volume: &&VolumeTemplate| {
        let in_old = old.volumes.iter().find(|it| it.name == volume.name);
        let in_new = new.iter().find(|it| it.name == volume.name);
        in_new.is_some() && in_old != in_new
    };
    pod.template.volumes.iter().filter(differs).flat_map(configs_of).collect()
}

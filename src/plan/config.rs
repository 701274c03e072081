//! What a pod template depends on besides itself: the ConfigMaps and Secrets that it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_protocol::ids::{Digest, hex};
use sha2::{Digest as _, Sha256};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::plan::Reason;
use crate::domain::record::{Applied, ReplicaSet};
use crate::domain::resource::{ReferenceKind, Resource, Spec, annotation};
use crate::domain::template::{ConfigContent, ConfigRef, PodTemplate};
use crate::domain::world::World;
use crate::plan::draft::commit_reason;
use crate::plan::spec::Configs;

/// The contents that a template's pods run with.
#[derive(Debug, Default)]
pub struct Needs {
    pub configs: Configs,
    /// A change of these contents rolls the pods.
    rolls: bool,
}

/// Looks up everything that the template names. `Err` says what is missing.
pub fn needs(
    world: &World,
    owner: &ObjectKey,
    template: &PodTemplate,
    resource: &Resource,
) -> Result<Needs, String> {
    let mut configs = BTreeMap::new();
    for config in template.configs() {
        let key = config_key(owner, &config);
        match content(world, &key) {
            Some(content) => {
                configs.insert(config, content);
            }
            None if is_optional(resource, &key) => {}
            None => return Err(format!("{key}, which does not exist")),
        }
    }
    for secret in &template.image_pull_secrets {
        let config = ConfigRef::Secret(secret.clone());
        if let Some(content) = content(world, &config_key(owner, &config)) {
            configs.insert(config, content);
        }
    }
    Ok(Needs { configs, rolls: rolls(template, resource) })
}

fn is_optional(resource: &Resource, key: &ObjectKey) -> bool {
    let mut about = resource.references.iter().filter(|reference| reference.to == *key);
    about.all(|reference| reference.kind == ReferenceKind::Optional)
}

fn rolls(template: &PodTemplate, resource: &Resource) -> bool {
    let off = |labels: &crate::domain::selector::Labels| {
        labels.get(annotation::ROLL_ON_CONFIG).is_some_and(|value| value == "false")
    };
    !off(&resource.annotations) && !off(&template.annotations)
}

pub fn config_key(owner: &ObjectKey, config: &ConfigRef) -> ObjectKey {
    match config {
        ConfigRef::ConfigMap(name) => owner.sibling(Kind::ConfigMap, name),
        ConfigRef::Secret(name) => owner.sibling(Kind::Secret, name),
    }
}

fn content(world: &World, key: &ObjectKey) -> Option<Arc<ConfigContent>> {
    match &world.objects.get(key)?.resource.spec {
        Spec::ConfigMap(content) => Some(Arc::new(content.clone())),
        Spec::Secret(secret) => Some(Arc::new(secret.content.clone())),
        _ => None,
    }
}

impl Needs {
    /// The configs whose content is not the one that the owner's newest revision ran with, and the
    /// commits that changed them.
    pub fn reasons_to_roll(
        &self,
        world: &World,
        owner: &ObjectKey,
        template: &PodTemplate,
    ) -> Vec<Reason> {
        let newest: Option<Arc<ReplicaSet>> =
            world.sets_of(owner).max_by_key(|set| set.revision).map(|row| Arc::clone(&row.value));
        let Some(newest) = newest.filter(|newest| *newest.template == *template) else {
            return Vec::new();
        };
        self.reasons_since(world, owner, &newest.configs)
    }

    /// The configs whose content is not the one that it was, and the commits that changed them.
    pub fn reasons_since(&self, world: &World, owner: &ObjectKey, before: &Configs) -> Vec<Reason> {
        let changed = self
            .configs
            .iter()
            .filter(|(config, content)| before.get(*config).is_none_or(|old| old != *content));
        changed.flat_map(|(config, _)| config_reasons(world, config_key(owner, config))).collect()
    }
}

/// Why pods of the template are what they are now: the last change of their workload's manifest,
/// or of the content of a config that rolls them, if that came later.
pub fn last_change(world: &World, applied: &Applied, template: &PodTemplate) -> Vec<Reason> {
    if !rolls(template, &applied.resource) {
        return vec![commit_reason(applied)];
    }
    let configs = template.configs().into_iter();
    let rows = configs.filter_map(|it| world.objects.get(&config_key(&applied.resource.key, &it)));
    let later = rows.filter(|row| row.changed > applied.changed && is_of_content(&row.value));
    match later.max_by_key(|row| row.changed) {
        Some(row) => config_reasons(world, row.resource.key.clone()),
        None => vec![commit_reason(applied)],
    }
}

/// Whether the last change of a config was one of what it holds, or its coming.
fn is_of_content(config: &Applied) -> bool {
    let fields = ["data", "binaryData", "stringData"];
    let mut changes = config.changes.iter().map(|change| change.field.as_str());
    config.changes.is_empty() || changes.any(|it| fields.iter().any(|field| it.starts_with(field)))
}

/// A config's change, and the commit that made it, unless it is gone.
pub fn config_reasons(world: &World, config: ObjectKey) -> Vec<Reason> {
    let commit = world.objects.get(&config).map(|row| commit_reason(&row.value));
    std::iter::once(Reason::Config { config }).chain(commit).collect()
}

/// Two revisions with one digest are the same. It is keyed, since it shows in names and covers
/// the contents of Secrets.
pub fn revision_digest(world: &World, template: &PodTemplate, needs: &Needs) -> Digest {
    let mut hash = Sha256::new();
    hash.update(&world.masking_key);
    hash.update(template.digest().as_str());
    // Logins are how the image is fetched, not what runs.
    let logins: Vec<ConfigRef> =
        template.image_pull_secrets.iter().cloned().map(ConfigRef::Secret).collect();
    let counted =
        needs.configs.iter().filter(|(config, _)| needs.rolls && !logins.contains(config));
    for (config, content) in counted {
        hash.update(format!("\n{config:?}"));
        for (key, value) in &content.entries {
            let sign = if content.binary.contains(key) { '<' } else { '=' };
            hash.update(format!("\n{}:{key}{sign}{}:{value}", key.len(), value.len()));
        }
    }
    Digest::new(hex(&hash.finalize()))
}

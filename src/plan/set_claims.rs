//! The claims that StatefulSets make from their templates: one for each template and ordinal.
//!
//! They outlive the pods, and no manifest of theirs can disappear. What the set no longer needs is
//! retained until somebody orders it away; only `whenScaled: Delete` is such an order in itself
//! (docs/decisions/0010).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::manifest::Manifest;
use crate::domain::plan::{Reason, Verb};
use crate::domain::record::Applied;
use crate::domain::resource::{Resource, Spec};
use crate::domain::selector::{Labels, Operator};
use crate::domain::template::{PodTemplate, VolumeTemplate, VolumeTemplateSource};
use crate::domain::workload::{ClaimTemplate, StatefulSetSpec};
use crate::domain::world::{Effect, Record};
use crate::plan::draft::{Draft, commit_reason, said};
use crate::plan::{names, prune};

/// The set whose claims these are.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    pub key: &'a ObjectKey,
    pub applied: &'a Applied,
    pub spec: &'a StatefulSetSpec,
    /// The ordinals of its pods.
    pub range: (u32, u32),
}

/// The name of one claim. Source: `getPersistentVolumeClaimName`.
fn claim_name(template: &ClaimTemplate, set: &ObjectKey, ordinal: u32) -> String {
    format!("{}-{}-{ordinal}", template.name, set.name)
}

/// The volumes of one pod: its claims, and those of the template that no claim takes the place of.
pub fn volumes(
    spec: &StatefulSetSpec,
    template: &PodTemplate,
    set: &ObjectKey,
    ordinal: u32,
) -> Vec<VolumeTemplate> {
    let is_claim = |name: &str| spec.claims.iter().any(|claim| claim.name == name);
    let claims = spec.claims.iter().map(|claim| VolumeTemplate {
        name: claim.name.clone(),
        source: VolumeTemplateSource::Claim {
            name: claim_name(claim, set, ordinal),
            read_only: false,
        },
    });
    let others = template.volumes.iter().filter(|volume| !is_claim(&volume.name));
    claims.chain(others.cloned()).collect()
}

impl Claims<'_> {
    /// Makes the claims of a pod that is about to be made, where they are not there yet.
    pub fn make(&self, draft: &mut Draft<'_>, ordinal: u32) {
        for template in &self.spec.claims {
            let name = claim_name(template, self.key, ordinal);
            let key = self.key.sibling(Kind::PersistentVolumeClaim, &name);
            if draft.world.objects.contains_key(&key) {
                continue;
            }
            let applied = self.claim(draft, template, &key);
            let reasons =
                vec![Reason::NeededBy { object: self.key.clone() }, commit_reason(self.applied)];
            let effect = Effect::Put(key.clone(), Record::Object(Arc::new(applied)));
            draft.step(said(Verb::Create, &key), reasons, vec![effect]);
        }
    }

    fn claim(&self, draft: &Draft<'_>, template: &ClaimTemplate, key: &ObjectKey) -> Applied {
        let labels = self.labels(template);
        let manifest = Manifest::of(&json!({
            "apiVersion": key.kind.api_version(),
            "kind": key.kind.as_str(),
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": labels,
                "annotations": template.annotations,
            },
            "spec": template.manifest.at("/spec"),
        }));
        let resource = Resource {
            key: key.clone(),
            labels,
            annotations: template.annotations.clone(),
            spec: Spec::PersistentVolumeClaim(template.spec.clone()),
            place: self.applied.resource.place.clone(),
            references: Vec::new(),
            digest: manifest.digest(),
            manifest,
            fields: Arc::default(),
        };
        Applied {
            resource: Arc::new(resource),
            uid: names::object_uid(&draft.world.cluster, key, draft.world.meta.incarnation),
            created: draft.now,
            changed: draft.now,
            generation: 1,
            commit: Arc::clone(&self.applied.commit),
            changes: Vec::new(),
            counter: 0,
            retained: None,
            deletion: None,
            owner: Some(self.key.clone()),
        }
    }

    /// Source: `getPersistentVolumeClaims`: the template's, and those that the set selects by.
    fn labels(&self, template: &ClaimTemplate) -> Labels {
        let mut labels = template.labels.clone();
        for requirement in &self.spec.selector.requirements {
            if let (Operator::In, [value]) = (requirement.operator, &*requirement.values) {
                labels.insert(requirement.key.clone(), value.clone());
            }
        }
        labels
    }

    /// Takes back what is needed again, and decides about what is not needed any more.
    pub fn keep(&self, draft: &mut Draft<'_>) {
        let (first, end) = self.range;
        let wanted: BTreeSet<String> = (first..end)
            .flat_map(|ordinal| self.spec.claims.iter().map(move |it| (it, ordinal)))
            .map(|(template, ordinal)| claim_name(template, self.key, ordinal))
            .collect();
        let made: Vec<ObjectKey> = draft.world.made_for(self.key).cloned().collect();
        for claim in made.iter().filter(|key| key.kind == Kind::PersistentVolumeClaim) {
            let Some(applied) = draft.world.objects.get(claim).map(|row| Arc::clone(&row.value))
            else {
                continue;
            };
            match (wanted.contains(&*claim.name), applied.retained) {
                (true, Some(_)) => self.take_back(draft, claim, &applied),
                (false, None) => self.let_go(draft, claim, &applied),
                (true, None) | (false, Some(_)) => {}
            }
        }
    }

    fn take_back(&self, draft: &mut Draft<'_>, key: &ObjectKey, applied: &Applied) {
        let wanted = Applied { retained: None, ..applied.clone() };
        let reasons =
            vec![Reason::NeededBy { object: self.key.clone() }, commit_reason(self.applied)];
        let effect = Effect::Put(key.clone(), Record::Object(Arc::new(wanted)));
        draft.step(said(Verb::Restore, key), reasons, vec![effect]);
    }

    /// Once no pod uses it. Data goes only where the set was scaled and says so: a template that
    /// was renamed says nothing of the kind.
    fn let_go(&self, draft: &mut Draft<'_>, key: &ObjectKey, applied: &Arc<Applied>) {
        if draft.world.pods_with_claim(key).next().is_some() {
            return;
        }
        let scaled = self.spec.claims.iter().any(|template| {
            let name = key.name.strip_prefix(&*format!("{}-{}-", template.name, self.key.name));
            name.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
        });
        let policy = |text: &str| Reason::Limit {
            what: format!("persistentVolumeClaimRetentionPolicy.whenScaled is {text}"),
        };
        if scaled && self.spec.retention.delete_when_scaled {
            let reasons = vec![policy("Delete"), commit_reason(self.applied)];
            return prune::remove_data(draft, key, reasons);
        }
        let mut reasons = vec![commit_reason(self.applied)];
        if scaled {
            reasons.insert(0, policy("Retain"));
        }
        prune::retain(draft, key, applied, reasons);
    }
}

//! StatefulSets.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    StatefulSetPersistentVolumeClaimRetentionPolicy as WrittenRetention,
    StatefulSetSpec as WrittenSet, StatefulSetUpdateStrategy as WrittenStrategy,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::domain::key::Kind;
use crate::domain::manifest::Manifest;
use crate::domain::resource::{IntOrPercent, ReferenceKind};
use crate::domain::template::{VolumeTemplate, VolumeTemplateSource};
use crate::domain::workload::{ClaimRetention, ClaimTemplate, StatefulSetSpec, StatefulUpdate};
use crate::manifest::json;
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::names::Shape;
use crate::manifest::lower::pod::{Restarts, template_with};
use crate::manifest::lower::selector::{label_selector, must_match};
use crate::manifest::lower::storage::claim_at;
use crate::manifest::lower::workload::{is_zero, min_ready, replicas, revision_history, share};
use crate::manifest::path::Path;

/// The pods have the name in a label, with a revision's ten characters behind it, and a label
/// holds 63.
const MAX_NAME_CHARS: usize = 52;
/// The highest ordinal that leaves a name of that length within a hostname.
const MAX_ORDINAL: u32 = 999_999_999;
/// Source: `SetDefaults_StatefulSet`.
const DEFAULT_UNAVAILABLE: IntOrPercent = IntOrPercent::Int(1);

pub fn stateful_set(
    object: &mut Object<'_, '_>,
    name: &str,
    written: &WrittenSet,
) -> StatefulSetSpec {
    let path = Path::ROOT.key("spec");
    check_name(object, name);
    let claims = claims(object, written.volume_claim_templates.as_deref());
    let volumes: Vec<VolumeTemplate> = claims.iter().map(volume_of).collect();
    let template = template_with(
        object,
        &path.key("template"),
        &written.template,
        Restarts::AlwaysOnly,
        &volumes,
    );
    let selector = label_selector(object, &path.key("selector"), &written.selector);
    must_match(object, &path.key("selector"), &selector, &template.labels);
    let policies = [("OrderedReady", false), ("Parallel", true)];
    let policy = written.pod_management_policy.as_deref();
    let replicas = replicas(object, written.replicas);
    StatefulSetSpec {
        replicas,
        selector,
        service: service(object, written.service_name.as_deref()),
        template: Arc::new(template),
        parallel: object.choice(&path.key("podManagementPolicy"), policy, false, &policies),
        update: update(object, written.update_strategy.as_ref()),
        min_ready_seconds: min_ready(object, written.min_ready_seconds),
        revision_history_limit: revision_history(object, written.revision_history_limit),
        claims,
        retention: retention(object, written.persistent_volume_claim_retention_policy.as_ref()),
        first_ordinal: first_ordinal(object, written, replicas),
    }
}

fn check_name(object: &mut Object<'_, '_>, name: &str) {
    if name.len() > MAX_NAME_CHARS {
        let metadata = Path::ROOT.key("metadata");
        let message = format!(
            "`{name}` is too long: a StatefulSet's name has at most {MAX_NAME_CHARS} characters, \
             so that those of its pods are hostnames"
        );
        object.error(&metadata.key("name"), message);
    }
}

fn first_ordinal(object: &mut Object<'_, '_>, written: &WrittenSet, replicas: u32) -> u32 {
    let spec = Path::ROOT.key("spec");
    let path = spec.key("ordinals");
    let path = path.key("start");
    let start = written.ordinals.as_ref().and_then(|ordinals| ordinals.start).map(i64::from);
    let start = object.count(&path, start, 0, 0);
    if start > MAX_ORDINAL - replicas {
        object.error(&path, format!("{start} is out of range: no ordinal beyond {MAX_ORDINAL}"));
        return 0;
    }
    start
}

/// It need not be there: pods without it have no names in the DNS.
fn service(object: &mut Object<'_, '_>, written: Option<&str>) -> String {
    let spec = Path::ROOT.key("spec");
    let path = spec.key("serviceName");
    let Some(name) = written.filter(|name| !name.is_empty()) else { return String::new() };
    object.name(&path, name, Shape::Label);
    object.refer(Kind::Service, name, ReferenceKind::Optional, &path);
    name.to_owned()
}

fn update(object: &mut Object<'_, '_>, written: Option<&WrittenStrategy>) -> StatefulUpdate {
    let spec = Path::ROOT.key("spec");
    let path = spec.key("updateStrategy");
    let kind = written.and_then(|written| written.type_.as_deref());
    let kinds = [("RollingUpdate", true), ("OnDelete", false)];
    let rolling = object.choice(&path.key("type"), kind, true, &kinds);
    let settings = written.and_then(|written| written.rolling_update.as_ref());
    let at = path.key("rollingUpdate");
    if !rolling {
        if settings.is_some() {
            object.error(&at, "has no meaning where the type is `OnDelete`");
        }
        return StatefulUpdate::OnDelete;
    }
    let partition = settings.and_then(|settings| settings.partition).map(i64::from);
    let partition = object.count(&at.key("partition"), partition, 0, 0);
    let unavailable_at = at.key("maxUnavailable");
    let unavailable = settings.and_then(|settings| settings.max_unavailable.as_ref());
    let max_unavailable =
        unavailable.map_or(DEFAULT_UNAVAILABLE, |it| share(object, &unavailable_at, it));
    if is_zero(max_unavailable) {
        object.error(&unavailable_at, "may not be 0: nothing could ever be replaced");
    }
    if matches!(max_unavailable, IntOrPercent::Percent(percent) if percent > 100) {
        object.error(&unavailable_at, "must not be more than 100 %");
    }
    StatefulUpdate::RollingUpdate { partition, max_unavailable }
}

fn retention(object: &mut Object<'_, '_>, written: Option<&WrittenRetention>) -> ClaimRetention {
    let spec = Path::ROOT.key("spec");
    let path = spec.key("persistentVolumeClaimRetentionPolicy");
    let policies = [("Retain", false), ("Delete", true)];
    let mut policy = |key: &str, of: fn(&WrittenRetention) -> Option<&str>| {
        object.choice(&path.key(key), written.and_then(of), false, &policies)
    };
    let retention = ClaimRetention {
        delete_when_deleted: policy("whenDeleted", |it| it.when_deleted.as_deref()),
        delete_when_scaled: policy("whenScaled", |it| it.when_scaled.as_deref()),
    };
    if retention.delete_when_deleted {
        let message = "the claims are kept all the same: a manifest that disappears never takes \
                       data with it; `kgit prune` removes them";
        object.warn(&path.key("whenDeleted"), "no-effect", message);
    }
    retention
}

fn claims(
    object: &mut Object<'_, '_>,
    written: Option<&[PersistentVolumeClaim]>,
) -> Vec<ClaimTemplate> {
    let mut names = BTreeSet::new();
    each(&Path::ROOT.key("spec"), "volumeClaimTemplates", written, |at, it| {
        let claim = claim_template(object, at, it)?;
        if !names.insert(claim.name.clone()) {
            let message = format!("two claim templates are named `{}`", claim.name);
            let metadata = at.key("metadata");
            object.error(&metadata.key("name"), message);
        }
        Some(claim)
    })
}

fn claim_template(
    object: &mut Object<'_, '_>,
    at: &Path<'_>,
    written: &PersistentVolumeClaim,
) -> Option<ClaimTemplate> {
    let metadata = at.key("metadata");
    let name = written.metadata.name.clone().unwrap_or_default();
    object.name(&metadata.key("name"), &name, Shape::Label);
    let labels = written.metadata.labels.clone().unwrap_or_default();
    let annotations = written.metadata.annotations.clone().unwrap_or_default();
    object.labels(&metadata.key("labels"), &labels);
    object.annotations(&metadata.key("annotations"), &annotations);
    let Some(spec) = &written.spec else {
        object.required(&at.key("spec"));
        return None;
    };
    let spec = claim_at(object, at, spec, &annotations);
    let found = at.find(object.root);
    let (manifest, _) = json::manifest(found.node);
    Some(ClaimTemplate { name, labels, annotations, spec, manifest: Manifest::of(&manifest) })
}

/// What a claim template is to the containers: the claim's own name is known for each pod.
fn volume_of(claim: &ClaimTemplate) -> VolumeTemplate {
    let source = VolumeTemplateSource::Claim { name: claim.name.clone(), read_only: false };
    VolumeTemplate { name: claim.name.clone(), source }
}

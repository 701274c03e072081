//! What every object has: its name, its namespace, its labels, and what it waits for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{ReferenceKind, annotation};
use crate::domain::selector::Labels;
use crate::domain::stage;
use crate::manifest::findings::did_you_mean;
use crate::manifest::lower::Object;
use crate::manifest::lower::names::Shape;
use crate::manifest::path::Path;

/// Where objects land that name no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Namespaces that are there without a manifest.
pub const BUILT_IN_NAMESPACES: [&str; 4] =
    [DEFAULT_NAMESPACE, "kube-system", "kube-public", "kube-node-lease"];

#[derive(Debug, Default)]
pub struct Meta {
    pub labels: Labels,
    pub annotations: Labels,
}

/// The shape of a kind's names.
fn shape(kind: Kind) -> Shape {
    match kind {
        Kind::Namespace => Shape::Label,
        Kind::Service => Shape::Service,
        Kind::StorageClass
        | Kind::PersistentVolume
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::PersistentVolumeClaim
        | Kind::Pod
        | Kind::ReplicaSet
        | Kind::Deployment
        | Kind::Job
        | Kind::PriorityClass
        | Kind::ReplicationController
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::CronJob
        | Kind::HorizontalPodAutoscaler
        | Kind::PodDisruptionBudget
        | Kind::ControllerRevision
        | Kind::Node => Shape::Subdomain,
    }
}

/// Checks an object's metadata. The key was read before, from the same fields.
pub fn metadata(object: &mut Object<'_, '_>, key: &ObjectKey, meta: &ObjectMeta) -> Meta {
    let path = Path::ROOT.key("metadata");
    object.name(&path.key("name"), &key.name, shape(key.kind));
    namespace(object, key, meta);
    let labels = meta.labels.clone().unwrap_or_default();
    let annotations = meta.annotations.clone().unwrap_or_default();
    object.labels(&path.key("labels"), &labels);
    object.annotations(&path.key("annotations"), &annotations);
    depends_on(object, key, &annotations);
    stages(object, &annotations);
    Meta { labels, annotations }
}

fn namespace(object: &mut Object<'_, '_>, key: &ObjectKey, meta: &ObjectMeta) {
    let metadata = Path::ROOT.key("metadata");
    let path = metadata.key("namespace");
    let written = meta.namespace.as_deref().unwrap_or_default();
    if !key.kind.is_namespaced() {
        if !written.is_empty() {
            let message = format!("a {} belongs to no namespace", key.kind);
            object.warn(&path, "no-effect", message);
        }
        return;
    }
    if !written.is_empty() {
        object.name(&path, written, Shape::Label);
    }
    if !BUILT_IN_NAMESPACES.contains(&&*key.namespace) {
        let to = ObjectKey::new(Kind::Namespace, "", &key.namespace);
        object.refer_to(to, ReferenceKind::Needs, &path);
    }
}

fn depends_on(object: &mut Object<'_, '_>, key: &ObjectKey, annotations: &Labels) {
    let metadata = Path::ROOT.key("metadata");
    let parent = metadata.key("annotations");
    let path = parent.key(annotation::DEPENDS_ON);
    let Some(written) = annotations.get(annotation::DEPENDS_ON) else { return };
    for part in written.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match dependency(key, part) {
            Some(to) if to == *key => object.error(&path, "an object can't depend on itself"),
            Some(to) => object.refer_to(to, ReferenceKind::DependsOn, &path),
            None => object.error_with_hint(
                &path,
                format!("`{part}` names no object"),
                Some("write `Kind/name` or `Kind/namespace/name`".to_owned()),
            ),
        }
    }
}

/// What Argo CD runs when an application is deleted: a source as a whole is not, here.
const NEVER_RUN: [&str; 2] = ["PreDelete", "PostDelete"];
const SKIP: &str = "Skip";
const DELETE_POLICIES: [&str; 3] = ["BeforeHookCreation", "HookSucceeded", "HookFailed"];

/// Waves and hooks; what they say is read from the annotations again where it is needed.
fn stages(object: &mut Object<'_, '_>, annotations: &Labels) {
    let metadata = Path::ROOT.key("metadata");
    let parent = metadata.key("annotations");
    if let Some((name, written)) = stage::annotation(annotations, stage::WAVE)
        && written.trim().parse::<i32>().is_err()
    {
        let hint = Some("a whole number in quotes, such as \"-1\"".to_owned());
        object.error_with_hint(&parent.key(&name), format!("`{written}` is not a wave"), hint);
    }
    let phases = stage::Phase::WORDS.map(|(word, _)| word);
    let known: Vec<&str> = phases.into_iter().chain([SKIP]).chain(NEVER_RUN).collect();
    if let Some((name, written)) = stage::annotation(annotations, stage::HOOK) {
        words(object, &parent.key(&name), written, &known);
        if stage::parts(written).any(|part| NEVER_RUN.contains(&part)) {
            let message = "nothing deletes a source as a whole, so this hook never runs";
            object.warn(&parent.key(&name), "no-effect", message);
        }
    }
    if let Some((name, written)) = stage::annotation(annotations, stage::HOOK_DELETE_POLICY) {
        words(object, &parent.key(&name), written, &DELETE_POLICIES);
    }
}

fn words(object: &mut Object<'_, '_>, path: &Path<'_>, written: &str, known: &[&str]) {
    for word in stage::parts(written).filter(|word| !known.contains(word)) {
        let listed: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
        let message = format!("`{word}` is not one of {}", listed.join(", "));
        let hint = did_you_mean(word, known.iter().copied());
        object.error_with_hint(path, message, hint);
    }
}

/// `Kind/name` is of the object's own namespace.
fn dependency(key: &ObjectKey, text: &str) -> Option<ObjectKey> {
    ObjectKey::parse(text).or_else(|| {
        let (kind, name) = text.split_once('/')?;
        let kind: Kind = kind.parse().ok()?;
        let namespace = match &*key.namespace {
            "" => Arc::from(DEFAULT_NAMESPACE),
            _ => key.namespace.clone(),
        };
        (!name.contains('/')).then(|| ObjectKey::new(kind, &namespace, name))
    })
}

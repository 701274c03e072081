//! A container's environment.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};

use crate::domain::key::Kind;
use crate::domain::resource::ReferenceKind;
use crate::domain::template::{ConfigRef, DownwardField, EnvFrom, EnvSource, EnvTemplate};
use crate::manifest::findings::did_you_mean;
use crate::manifest::lower::Object;
use crate::manifest::lower::names::{is_config_key, is_env_name};
use crate::manifest::path::Path;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const VOLUME_FIELDS: [&str; 5] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];

/// Where a value of the downward API goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downward {
    Env,
    Volume,
}

pub fn how(optional: Option<bool>) -> ReferenceKind {
    match optional {
        Some(true) => ReferenceKind::Optional,
        _ => ReferenceKind::Needs,
    }
}

pub fn variable(object: &mut Object<'_, '_>, path: &Path<'_>, written: &EnvVar) -> EnvTemplate {
    if written.name.is_empty() {
        object.required(&path.key("name"));
    } else if !is_env_name(&written.name) {
        let message = format!("`{}` is not a valid name of a variable", written.name);
        object.error(&path.key("name"), message);
    }
    let literal = written.value.clone().unwrap_or_default();
    let value = match &written.value_from {
        None => EnvSource::Literal(literal),
        Some(from) => {
            let at = path.key("valueFrom");
            if !literal.is_empty() {
                object.error(&at, "a variable has either `value` or `valueFrom`");
            }
            value_from(object, &at, from).unwrap_or(EnvSource::Literal(literal))
        }
    };
    EnvTemplate { name: written.name.clone(), value }
}

fn value_from(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    from: &EnvVarSource,
) -> Option<EnvSource> {
    let given = [
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() != 1 {
        let known = "`configMapKeyRef`, `secretKeyRef`, `fieldRef` and `resourceFieldRef`";
        object.error(path, format!("needs exactly one of {known}"));
        return None;
    }
    if let Some(from) = &from.config_map_key_ref {
        let at = path.key("configMapKeyRef");
        let key = ConfigKey { kind: Kind::ConfigMap, name: &from.name, key: &from.key };
        key.check(object, &at, from.optional);
        let (name, key) = (from.name.clone(), from.key.clone());
        let optional = from.optional.unwrap_or(false);
        return Some(EnvSource::ConfigMapKey { name, key, optional });
    }
    if let Some(from) = &from.secret_key_ref {
        let at = path.key("secretKeyRef");
        let key = ConfigKey { kind: Kind::Secret, name: &from.name, key: &from.key };
        key.check(object, &at, from.optional);
        let (name, key) = (from.name.clone(), from.key.clone());
        let optional = from.optional.unwrap_or(false);
        return Some(EnvSource::SecretKey { name, key, optional });
    }
    if let Some(from) = &from.field_ref {
        return Some(EnvSource::Downward(field(object, path, from, Downward::Env)));
    }
    let from = from.resource_field_ref.as_ref()?;
    Some(EnvSource::Downward(resource(object, path, from, Downward::Env)))
}

/// One key of a ConfigMap or Secret.
struct ConfigKey<'a> {
    kind: Kind,
    name: &'a str,
    key: &'a str,
}

impl ConfigKey<'_> {
    fn check(&self, object: &mut Object<'_, '_>, path: &Path<'_>, optional: Option<bool>) {
        object.filled(&path.key("name"), self.name);
        if self.key.is_empty() {
            object.required(&path.key("key"));
        } else if !is_config_key(self.key) {
            object.error(&path.key("key"), format!("`{}` is not a valid key", self.key));
        }
        object.refer(self.kind, self.name, how(optional), &path.key("name"));
    }
}

/// A field of the pod itself, without the `fieldRef` in `path`.
pub fn field(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    from: &ObjectFieldSelector,
    goes: Downward,
) -> DownwardField {
    let known: &[&str] = match goes {
        Downward::Env => &ENV_FIELDS,
        Downward::Volume => &VOLUME_FIELDS,
    };
    let one_of_a_map = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|start| from.field_path.starts_with(start) && from.field_path.ends_with("']"));
    if !known.contains(&from.field_path.as_str()) && !one_of_a_map {
        let parent = path.key("fieldRef");
        let message = format!("`{}` is not a field that a pod learns here", from.field_path);
        let hint = did_you_mean(&from.field_path, known.iter().copied());
        object.error_with_hint(&parent.key("fieldPath"), message, hint);
    }
    DownwardField::Field(from.field_path.clone())
}

pub fn resource(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    from: &ResourceFieldSelector,
    goes: Downward,
) -> DownwardField {
    let path = path.key("resourceFieldRef");
    if !RESOURCES.contains(&from.resource.as_str()) {
        let message = format!("`{}` is not a resource that a pod learns", from.resource);
        let hint = did_you_mean(&from.resource, RESOURCES);
        object.error_with_hint(&path.key("resource"), message, hint);
    }
    let container = from.container_name.clone().filter(|name| !name.is_empty());
    if goes == Downward::Volume && container.is_none() {
        object.required(&path.key("containerName"));
    }
    let divisor = from.divisor.as_ref().map(|divisor| divisor.0.clone());
    // Kubernetes reads a zero as its default.
    let divisor = divisor.filter(|text| text != "0").unwrap_or_else(|| "1".to_owned());
    object.quantity(&path.key("divisor"), &divisor);
    DownwardField::Resource { container, resource: from.resource.clone(), divisor }
}

pub fn all_of(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    from: &EnvFromSource,
) -> Option<EnvFrom> {
    let prefix = from.prefix.clone().unwrap_or_default();
    if !prefix.is_empty() && !is_env_name(&prefix) {
        object.error(&path.key("prefix"), format!("`{prefix}` can't start a variable's name"));
    }
    let (kind, key, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(from), None) => (Kind::ConfigMap, "configMapRef", &from.name, from.optional),
        (None, Some(from)) => (Kind::Secret, "secretRef", &from.name, from.optional),
        _ => {
            object.error(path, "needs exactly one of `configMapRef` and `secretRef`");
            return None;
        }
    };
    let parent = path.key(key);
    object.filled(&parent.key("name"), name);
    object.refer(kind, name, how(optional), &parent.key("name"));
    let source = match kind {
        Kind::Secret => ConfigRef::Secret(name.clone()),
        _ => ConfigRef::ConfigMap(name.clone()),
    };
    Some(EnvFrom { prefix, source, optional: optional.unwrap_or(false) })
}

//! A pod's volumes.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Volume,
    VolumeProjection,
};
use kgit_protocol::pod::HostPathKind;

use crate::domain::key::Kind;
use crate::domain::resource::ReferenceKind;
use crate::domain::template::{
    ConfigRef, ProjectedKey, Projection, VolumeTemplate, VolumeTemplateSource,
};
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::env::{self, Downward, how};
use crate::manifest::lower::names::Shape;
use crate::manifest::path::Path;
use crate::manifest::tree::Value;

/// The permission bits of projected files. Source: `ConfigMapVolumeSourceDefaultMode`.
const DEFAULT_MODE: u32 = 0o644;
/// What kgit mounts. Every other source that exists is refused by its name.
const KNOWN_SOURCES: [&str; 7] = [
    "emptyDir",
    "hostPath",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "persistentVolumeClaim",
];
const HOST_PATH_KINDS: [(&str, HostPathKind); 7] = [
    ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
    ("Directory", HostPathKind::Directory),
    ("FileOrCreate", HostPathKind::FileOrCreate),
    ("File", HostPathKind::File),
    ("Socket", HostPathKind::Socket),
    ("CharDevice", HostPathKind::CharDevice),
    ("BlockDevice", HostPathKind::BlockDevice),
];

pub fn volume(object: &mut Object<'_, '_>, path: &Path<'_>, written: &Volume) -> VolumeTemplate {
    object.name(&path.key("name"), &written.name, Shape::Label);
    check_sources(object, path, &KNOWN_SOURCES);
    VolumeTemplate { name: written.name.clone(), source: source(object, path, written) }
}

/// Exactly one source, and one that kgit mounts.
pub fn check_sources(object: &mut Object<'_, '_>, path: &Path<'_>, known: &[&str]) {
    let found = path.find(object.root);
    let Value::Map(entries) = &found.node.value else { return };
    let sources = entries
        .iter()
        .filter(|entry| is_source(&entry.key) && !matches!(entry.value.value, Value::Null));
    for (index, entry) in sources.enumerate() {
        let at = path.key(&entry.key);
        if !known.contains(&entry.key.as_ref()) {
            let message = format!("kgit does not mount `{}` volumes", entry.key);
            let hint = "use a PersistentVolumeClaim, or a `hostPath` that the node allows";
            object.error_with_hint(&at, message, Some(hint.to_owned()));
        } else if index > 0 {
            object.error(&at, "a volume has exactly one source");
        }
    }
}

/// All sources that volumes and PersistentVolumes can have in Kubernetes.
fn is_source(key: &str) -> bool {
    KNOWN_SOURCES.contains(&key)
        || matches!(
            key,
            "awsElasticBlockStore"
                | "azureDisk"
                | "azureFile"
                | "cephfs"
                | "cinder"
                | "csi"
                | "ephemeral"
                | "fc"
                | "flexVolume"
                | "flocker"
                | "gcePersistentDisk"
                | "gitRepo"
                | "glusterfs"
                | "image"
                | "iscsi"
                | "local"
                | "nfs"
                | "photonPersistentDisk"
                | "portworxVolume"
                | "quobyte"
                | "rbd"
                | "scaleIO"
                | "storageos"
                | "vsphereVolume"
        )
}

fn source(object: &mut Object<'_, '_>, path: &Path<'_>, written: &Volume) -> VolumeTemplateSource {
    if let Some(host_path) = &written.host_path {
        let (path, kind) = self::host_path(object, &path.key("hostPath"), host_path);
        return VolumeTemplateSource::HostPath { path, kind };
    }
    if let Some(claim) = &written.persistent_volume_claim {
        let parent = path.key("persistentVolumeClaim");
        let at = parent.key("claimName");
        object.filled(&at, &claim.claim_name);
        object.refer(Kind::PersistentVolumeClaim, &claim.claim_name, ReferenceKind::Needs, &at);
        let read_only = claim.read_only.unwrap_or(false);
        return VolumeTemplateSource::Claim { name: claim.claim_name.clone(), read_only };
    }
    projected(object, path, written).unwrap_or_else(|| {
        // Kubernetes reads a volume without a source as an emptyDir.
        empty_dir(object, &path.key("emptyDir"), written.empty_dir.as_ref())
    })
}

fn empty_dir(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&EmptyDirVolumeSource>,
) -> VolumeTemplateSource {
    let medium = written.and_then(|written| written.medium.as_deref());
    let memory = object.choice(&path.key("medium"), medium, false, &[("Memory", true)]);
    let limit = written.and_then(|written| written.size_limit.as_ref());
    let size_limit_bytes = limit.and_then(|limit| object.bytes(&path.key("sizeLimit"), &limit.0));
    VolumeTemplateSource::EmptyDir { memory, size_limit_bytes }
}

pub fn host_path(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &HostPathVolumeSource,
) -> (String, HostPathKind) {
    let at = path.key("path");
    object.filled(&at, &written.path);
    if written.path.split('/').any(|part| part == "..") {
        object.error(&at, "must not contain `..`");
    } else if !written.path.is_empty() && !written.path.starts_with('/') {
        object.error(&at, format!("`{}` is not an absolute path", written.path));
    }
    let kind = written.type_.as_deref();
    let kind = object.choice(&path.key("type"), kind, HostPathKind::Unset, &HOST_PATH_KINDS);
    (written.path.clone(), kind)
}

fn projected(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &Volume,
) -> Option<VolumeTemplateSource> {
    let (key, mode, sources) = if let Some(from) = &written.config_map {
        let at = path.key("configMap");
        let source = ConfigRef::ConfigMap(from.name.clone());
        let sources = config(object, &at, "name", source, from.items.as_deref(), from.optional);
        ("configMap", from.default_mode, vec![sources])
    } else if let Some(from) = &written.secret {
        let at = path.key("secret");
        let source = ConfigRef::Secret(from.secret_name.clone().unwrap_or_default());
        let sources =
            config(object, &at, "secretName", source, from.items.as_deref(), from.optional);
        ("secret", from.default_mode, vec![sources])
    } else if let Some(from) = &written.downward_api {
        let at = path.key("downwardAPI");
        let sources =
            each(&at, "items", from.items.as_deref(), |at, item| downward(object, at, item));
        ("downwardAPI", from.default_mode, sources)
    } else {
        let from = written.projected.as_ref()?;
        let at = path.key("projected");
        let sources = each(&at, "sources", from.sources.as_deref(), |at, source| {
            Some(projection(object, at, source))
        });
        ("projected", from.default_mode, sources.into_iter().flatten().collect())
    };
    let parent = path.key(key);
    let default_mode = mode_bits(object, &parent.key("defaultMode"), mode).unwrap_or(DEFAULT_MODE);
    Some(VolumeTemplateSource::Projected { default_mode, sources })
}

fn projection(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &VolumeProjection,
) -> Vec<Projection> {
    let mut all = Vec::new();
    if let Some(from) = &written.config_map {
        let source = ConfigRef::ConfigMap(from.name.clone());
        let (at, items) = (path.key("configMap"), from.items.as_deref());
        all.push(config(object, &at, "name", source, items, from.optional));
    }
    if let Some(from) = &written.secret {
        let source = ConfigRef::Secret(from.name.clone());
        let (at, items) = (path.key("secret"), from.items.as_deref());
        all.push(config(object, &at, "name", source, items, from.optional));
    }
    if let Some(from) = &written.downward_api {
        let at = path.key("downwardAPI");
        let files =
            each(&at, "items", from.items.as_deref(), |at, item| downward(object, at, item));
        all.extend(files);
    }
    all
}

fn config(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    name_key: &str,
    source: ConfigRef,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Projection {
    let (kind, name) = match &source {
        ConfigRef::ConfigMap(name) => (Kind::ConfigMap, name),
        ConfigRef::Secret(name) => (Kind::Secret, name),
    };
    let at = path.key(name_key);
    object.filled(&at, name);
    object.refer(kind, name, how(optional), &at);
    let items = items.map(|items| {
        each(path, "items", Some(items), |at, item| {
            object.filled(&at.key("key"), &item.key);
            object.filled(&at.key("path"), &item.path);
            object.inner_path(&at.key("path"), &item.path);
            let mode = mode_bits(object, &at.key("mode"), item.mode);
            Some(ProjectedKey { key: item.key.clone(), path: item.path.clone(), mode })
        })
    });
    Projection::Config { source, items, optional: optional.unwrap_or(false) }
}

fn downward(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &DownwardAPIVolumeFile,
) -> Option<Projection> {
    object.filled(&path.key("path"), &written.path);
    object.inner_path(&path.key("path"), &written.path);
    let field = match (&written.field_ref, &written.resource_field_ref) {
        (Some(from), None) => env::field(object, path, from, Downward::Volume),
        (None, Some(from)) => env::resource(object, path, from, Downward::Volume),
        _ => {
            object.error(path, "needs exactly one of `fieldRef` and `resourceFieldRef`");
            return None;
        }
    };
    let mode = mode_bits(object, &path.key("mode"), written.mode);
    Some(Projection::Downward { path: written.path.clone(), mode, field })
}

fn mode_bits(object: &mut Object<'_, '_>, path: &Path<'_>, mode: Option<i32>) -> Option<u32> {
    let mode = mode?;
    match u32::try_from(mode) {
        Ok(bits) if bits <= 0o777 => Some(bits),
        _ => {
            let hint = "write it in octal with a leading zero, as `0644`";
            let message = format!("{mode} is not a file mode: 0 to 0777 (511)");
            object.error_with_hint(path, message, Some(hint.to_owned()));
            None
        }
    }
}

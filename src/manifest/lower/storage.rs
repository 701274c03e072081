//! PersistentVolumes, claims and storage classes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimSpec as WrittenClaim, PersistentVolumeSpec as WrittenVolume,
};
use k8s_openapi::api::storage::v1::StorageClass as WrittenClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kgit_protocol::pod::HostPathKind;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{
    AccessMode, BUILT_IN_CLASS, BindingMode, ClaimSpec, PROVISIONER, PersistentSource,
    PersistentVolumeSpec, ReclaimPolicy, ReferenceKind, StorageClassSpec,
};
use crate::domain::selector::Labels;
use crate::manifest::lower::Object;
use crate::manifest::lower::container::each;
use crate::manifest::lower::placement::node_selector_of;
use crate::manifest::lower::selector::label_selector;
use crate::manifest::lower::volume::{check_sources, host_path};
use crate::manifest::path::Path;

/// For classes whose volumes are all written by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const DEFAULT_CLASS_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";
/// What claims and volumes said before `storageClassName` existed; still read by Kubernetes.
const OLD_CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

const ACCESS_MODES: [(&str, AccessMode); 4] = [
    ("ReadWriteOnce", AccessMode::ReadWriteOnce),
    ("ReadOnlyMany", AccessMode::ReadOnlyMany),
    ("ReadWriteMany", AccessMode::ReadWriteMany),
    ("ReadWriteOncePod", AccessMode::ReadWriteOncePod),
];
const RECLAIM_POLICIES: [(&str, ReclaimPolicy); 2] =
    [("Retain", ReclaimPolicy::Retain), ("Delete", ReclaimPolicy::Delete)];
const VOLUME_MODES: [(&str, bool); 2] = [("Filesystem", false), ("Block", true)];
const BINDING_MODES: [(&str, BindingMode); 2] = [
    ("Immediate", BindingMode::Immediate),
    ("WaitForFirstConsumer", BindingMode::WaitForFirstConsumer),
];

pub fn storage_class(
    object: &mut Object<'_, '_>,
    written: &WrittenClass,
    annotations: &Labels,
) -> StorageClassSpec {
    let path = Path::ROOT.key("provisioner");
    match written.provisioner.as_str() {
        "" => object.required(&path),
        PROVISIONER | NO_PROVISIONER => {}
        other => {
            let message = format!("kgit does not provision volumes by `{other}`");
            let hint = format!("write `{PROVISIONER}` for Docker volumes on the pod's node");
            object.error_with_hint(&path, message, Some(hint));
        }
    }
    let reclaim = written.reclaim_policy.as_deref();
    let binding = written.volume_binding_mode.as_deref();
    StorageClassSpec {
        provisioner: written.provisioner.clone(),
        is_default: annotations.get(DEFAULT_CLASS_ANNOTATION).is_some_and(|it| it == "true"),
        parameters: written.parameters.clone().unwrap_or_default(),
        reclaim: object.choice(
            &Path::ROOT.key("reclaimPolicy"),
            reclaim,
            ReclaimPolicy::Delete,
            &RECLAIM_POLICIES,
        ),
        binding: object.choice(
            &Path::ROOT.key("volumeBindingMode"),
            binding,
            BindingMode::Immediate,
            &BINDING_MODES,
        ),
    }
}

pub fn volume(
    object: &mut Object<'_, '_>,
    written: &WrittenVolume,
    annotations: &Labels,
) -> PersistentVolumeSpec {
    let path = Path::ROOT.key("spec");
    check_sources(object, &path, &["hostPath", "local", "nfs"]);
    let reclaim = written.persistent_volume_reclaim_policy.as_deref();
    let reclaim_path = path.key("persistentVolumeReclaimPolicy");
    if reclaim.is_some_and(|it| it != "Retain") {
        let message = "kgit never removes the data of a volume that it did not make";
        object.warn(&reclaim_path, "no-effect", message);
    }
    let affinity = written.node_affinity.as_ref().and_then(|it| it.required.as_ref());
    let at = path.key("nodeAffinity");
    let claim = written.claim_ref.as_ref().and_then(|claim| {
        Some((claim.namespace.clone().unwrap_or_else(|| "default".into()), claim.name.clone()?))
    });
    PersistentVolumeSpec {
        capacity_bytes: storage(object, &path.key("capacity"), written.capacity.as_ref()),
        access_modes: access_modes(object, &path, written.access_modes.as_deref()),
        class: class(written.storage_class_name.as_ref(), annotations).unwrap_or_default(),
        reclaim: object.choice(&reclaim_path, reclaim, ReclaimPolicy::Retain, &RECLAIM_POLICIES),
        block: block(object, &path, written.volume_mode.as_deref()),
        claim,
        source: source(object, &path, written),
        node_affinity: affinity
            .map(|it| node_selector_of(object, &at.key("required"), it))
            .unwrap_or_default(),
    }
}

fn class(written: Option<&String>, annotations: &Labels) -> Option<String> {
    annotations.get(OLD_CLASS_ANNOTATION).or(written).cloned()
}

fn block(object: &mut Object<'_, '_>, path: &Path<'_>, written: Option<&str>) -> bool {
    object.choice(&path.key("volumeMode"), written, false, &VOLUME_MODES)
}

fn source(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenVolume,
) -> PersistentSource {
    if let Some(nfs) = &written.nfs {
        let at = path.key("nfs");
        object.filled(&at.key("server"), &nfs.server);
        object.filled(&at.key("path"), &nfs.path);
        let read_only = nfs.read_only.unwrap_or(false);
        return PersistentSource::Nfs {
            server: nfs.server.clone(),
            path: nfs.path.clone(),
            read_only,
        };
    }
    if let Some(local) = &written.local {
        let at = path.key("local");
        object.filled(&at.key("path"), &local.path);
        if written.node_affinity.is_none() {
            let message = "a local volume needs a `nodeAffinity` that says whose";
            object.error(&at, message);
        }
        let kind = HostPathKind::Directory;
        return PersistentSource::HostPath { path: local.path.clone(), kind };
    }
    if let Some(written) = &written.host_path {
        let (path, kind) = host_path(object, &path.key("hostPath"), written);
        return PersistentSource::HostPath { path, kind };
    }
    if !object.says_any_of(path, &["hostPath", "local", "nfs"]) {
        object.error(path, "a PersistentVolume needs one of `hostPath`, `local` and `nfs`");
    }
    PersistentSource::HostPath { path: String::new(), kind: HostPathKind::Unset }
}

pub fn claim(
    object: &mut Object<'_, '_>,
    written: &WrittenClaim,
    annotations: &Labels,
) -> ClaimSpec {
    claim_at(object, &Path::ROOT, written, annotations)
}

/// The claim that stands at `root`, its `spec` and `metadata` below that.
pub fn claim_at(
    object: &mut Object<'_, '_>,
    root: &Path<'_>,
    written: &WrittenClaim,
    annotations: &Labels,
) -> ClaimSpec {
    let path = root.key("spec");
    let resources = path.key("resources");
    let requests = written.resources.as_ref().and_then(|it| it.requests.as_ref());
    let class = class(written.storage_class_name.as_ref(), annotations);
    if let Some(class) = class.as_deref().filter(|class| *class != BUILT_IN_CLASS) {
        let to = ObjectKey::new(Kind::StorageClass, "", class);
        let metadata = root.key("metadata");
        let metadata = metadata.key("annotations");
        let at = match annotations.contains_key(OLD_CLASS_ANNOTATION) {
            true => metadata.key(OLD_CLASS_ANNOTATION),
            false => path.key("storageClassName"),
        };
        object.refer_to(to, ReferenceKind::Needs, &at);
    }
    let volume_name = written.volume_name.clone().filter(|name| !name.is_empty());
    if let Some(name) = &volume_name {
        let to = ObjectKey::new(Kind::PersistentVolume, "", name);
        object.refer_to(to, ReferenceKind::Optional, &path.key("volumeName"));
    }
    let selector = written.selector.as_ref();
    ClaimSpec {
        request_bytes: storage(object, &resources.key("requests"), requests),
        access_modes: access_modes(object, &path, written.access_modes.as_deref()),
        class,
        volume_name,
        selector: selector.map(|it| label_selector(object, &path.key("selector"), it)),
        block: block(object, &path, written.volume_mode.as_deref()),
    }
}

fn access_modes(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&[String]>,
) -> Vec<AccessMode> {
    if written.is_none_or(|modes| modes.is_empty()) {
        object.required(&path.key("accessModes"));
    }
    each(path, "accessModes", written, |at, mode| {
        Some(object.choice(at, Some(mode), AccessMode::ReadWriteOnce, &ACCESS_MODES))
    })
}

/// The `storage` among some resources: more than nothing.
fn storage(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&BTreeMap<String, Quantity>>,
) -> u64 {
    let path = path.key("storage");
    let Some(amount) = written.and_then(|resources| resources.get("storage")) else {
        object.required(&path);
        return 0;
    };
    let bytes = object.bytes(&path, &amount.0);
    if bytes == Some(0) {
        object.error(&path, "must be more than 0");
    }
    bytes.unwrap_or(0)
}

impl Object<'_, '_> {
    fn says_any_of(&self, path: &Path<'_>, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.says(&path.key(key)))
    }
}

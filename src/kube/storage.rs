//! StorageClasses, PersistentVolumes and PersistentVolumeClaims.

use kgit_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::{ClaimPhase, Provisioned, VolumePhase, VolumeState};
use crate::domain::resource::{AccessMode, BUILT_IN_CLASS, PROVISIONER, ReclaimPolicy, Spec};
use crate::domain::world::World;
use crate::kube::json::{default, items, object, put, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

const DEFAULT_CLASS_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";

pub const CLASS_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Provisioner"),
    Column::text("ReclaimPolicy"),
    Column::text("VolumeBindingMode"),
    Column::text("AllowVolumeExpansion"),
    Column::text("Age"),
];

pub const VOLUME_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Capacity"),
    Column::text("Access Modes"),
    Column::text("Reclaim Policy"),
    Column::text("Status"),
    Column::text("Claim"),
    Column::text("StorageClass"),
    Column::text("VolumeAttributesClass"),
    Column::text("Reason"),
    Column::text("Age"),
    Column::wide("VolumeMode"),
];

pub const CLAIM_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Status"),
    Column::text("Volume"),
    Column::text("Capacity"),
    Column::text("Access Modes"),
    Column::text("StorageClass"),
    Column::text("VolumeAttributesClass"),
    Column::text("Age"),
    Column::wide("VolumeMode"),
];

pub fn class_keys(world: &World) -> Vec<ObjectKey> {
    let built_in = ObjectKey::new(Kind::StorageClass, "", BUILT_IN_CLASS);
    let written = world.objects.keys().filter(|key| key.kind == Kind::StorageClass);
    let mut keys: Vec<_> = written.cloned().collect();
    if let Err(place) = keys.binary_search(&built_in) {
        keys.insert(place, built_in);
    }
    keys
}

pub fn show_class(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let Some(applied) = seen.world.objects.get(key) else {
        return (*key.name == *BUILT_IN_CLASS).then(|| built_in_class(seen.world, key));
    };
    let mut shown = applied.resource.manifest.value();
    shown["metadata"] = Metadata::of_applied(key, applied, applied.version).build();
    defaults::storage_class(object(&mut shown));
    Some(Shown::new(key, applied.version, shown))
}

/// It is the default unless a manifest's class says that it is.
fn built_in_class(world: &World, key: &ObjectKey) -> Shown {
    let other = world.objects.iter().any(|(_, applied)| {
        matches!(&applied.resource.spec, Spec::StorageClass(class) if class.is_default)
    });
    let annotations = match other {
        true => Default::default(),
        false => [(DEFAULT_CLASS_ANNOTATION.to_owned(), "true".to_owned())].into(),
    };
    let uid = format!("class-{}", world.cluster);
    let created = world.nodes.values().map(|node| node.joined).min().unwrap_or_default();
    let metadata = Metadata::new(key, &uid, 1, created).with_annotations(&annotations).build();
    let class = json!({
        "metadata": metadata,
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    Shown::new(key, 1, class)
}

/// The class that a claim without one gets.
fn default_class(world: &World) -> String {
    let written = world.objects.iter().find_map(|(key, applied)| match &applied.resource.spec {
        Spec::StorageClass(class) if class.is_default => Some(key.name.to_string()),
        _ => None,
    });
    written.unwrap_or_else(|| BUILT_IN_CLASS.to_owned())
}

/// Volumes with a manifest, and those that were made for a claim.
pub fn volume_keys(world: &World) -> Vec<ObjectKey> {
    let written = world.objects.keys().filter(|key| key.kind == Kind::PersistentVolume);
    let made = world.volumes.iter().filter(|(_, state)| state.provisioned.is_some());
    let mut keys: Vec<_> = written.cloned().chain(made.map(|(key, _)| key.clone())).collect();
    keys.sort();
    keys.dedup();
    keys
}

pub fn show_volume(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let state = seen.world.volumes.get(key);
    let state_version = state.map_or(0, |state| state.version);
    let state = state.map(|state| &*state.value);
    let (version, metadata, mut spec) = match seen.world.objects.get(key) {
        Some(applied) => {
            let version = applied.version.max(state_version);
            let spec = applied.resource.manifest.at("/spec").unwrap_or_default();
            (version, Metadata::of_applied(key, applied, version), spec)
        }
        None => {
            let made = state?.provisioned.as_ref()?;
            let metadata = Metadata::new(key, &made.uid, state_version, made.created);
            (state_version, metadata, provisioned_spec(made))
        }
    };
    defaults::volume_spec(object(&mut spec));
    if let Some((claim, uid)) = state.and_then(|state| state.claim.as_ref()) {
        spec["claimRef"] = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": uid,
        });
    }
    if let Some(node) = state.and_then(|state| state.node.as_ref()) {
        default(object(&mut spec), "nodeAffinity", node_affinity(node.as_str()));
    }
    let shown = json!({
        "metadata": metadata.build(),
        "spec": spec,
        "status": {"phase": volume_phase(state)},
    });
    Some(Shown::new(key, version, shown))
}

/// Where the data is, in the words in which Kubernetes says so.
fn node_affinity(node: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
}

fn volume_phase(state: Option<&VolumeState>) -> &'static str {
    match state.map(|state| state.phase) {
        None | Some(VolumePhase::Available) => "Available",
        Some(VolumePhase::Bound) => "Bound",
        Some(VolumePhase::Released | VolumePhase::Removing) => "Released",
    }
}

fn provisioned_spec(made: &Provisioned) -> Value {
    json!({
        "capacity": {"storage": human::bytes(made.capacity_bytes)},
        "accessModes": made.access_modes.iter().copied().map(mode_name).collect::<Vec<_>>(),
        "persistentVolumeReclaimPolicy": match made.reclaim {
            ReclaimPolicy::Retain => "Retain",
            ReclaimPolicy::Delete => "Delete",
        },
        "storageClassName": made.class,
        "csi": {
            "driver": PROVISIONER,
            "volumeHandle": made.docker_volume,
        },
    })
}

fn mode_name(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::ReadWriteOnce => "ReadWriteOnce",
        AccessMode::ReadOnlyMany => "ReadOnlyMany",
        AccessMode::ReadWriteMany => "ReadWriteMany",
        AccessMode::ReadWriteOncePod => "ReadWriteOncePod",
    }
}

pub fn show_claim(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let world = seen.world;
    let applied = world.objects.get(key)?;
    let state = world.claims.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let mut spec = applied.resource.manifest.at("/spec").unwrap_or_default();
    let fields = object(&mut spec);
    defaults::claim_spec(fields);
    let written = match &applied.resource.spec {
        Spec::PersistentVolumeClaim(spec) => spec.class.clone(),
        _ => None,
    };
    default(fields, "storageClassName", written.unwrap_or_else(|| default_class(world)));
    let volume = state.and_then(|state| state.volume.as_deref());
    put(fields, "volumeName", volume);
    let phase = state.map_or(ClaimPhase::Pending, |state| state.phase);
    let mut status = Map::new();
    status.insert("phase".to_owned(), json!(claim_phase(phase)));
    if phase == ClaimPhase::Bound
        && let Some(volume) = volume.and_then(|name| bound_volume(seen, name))
    {
        status.insert("accessModes".to_owned(), json!(items(&volume, "/spec/accessModes")));
        let capacity = volume.pointer("/spec/capacity").cloned();
        put(&mut status, "capacity", capacity);
    }
    let metadata = Metadata::of_applied(key, applied, version).build();
    let shown = json!({"metadata": metadata, "spec": spec, "status": status});
    Some(Shown::new(key, version, shown))
}

fn bound_volume(seen: &Seen<'_>, name: &str) -> Option<Value> {
    let key = ObjectKey::new(Kind::PersistentVolume, "", name);
    Some(show_volume(seen, &key)?.object)
}

fn claim_phase(phase: ClaimPhase) -> &'static str {
    match phase {
        ClaimPhase::Pending => "Pending",
        ClaimPhase::Bound => "Bound",
        ClaimPhase::Lost => "Lost",
    }
}

pub fn class_cells(class: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = class
        .pointer("/metadata/annotations")
        .is_some_and(|annotations| annotations[DEFAULT_CLASS_ANNOTATION] == "true");
    let name = text(class, "/metadata/name");
    let name = if is_default { format!("{name} (default)") } else { name.to_owned() };
    vec![
        json!(name),
        json!(text(class, "/provisioner")),
        json!(text(class, "/reclaimPolicy")),
        json!(text(class, "/volumeBindingMode")),
        json!(class.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or(false)),
        json!(human::age(text(class, "/metadata/creationTimestamp"), now)),
    ]
}

pub fn volume_cells(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match volume.pointer("/spec/claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
        None => String::new(),
    };
    vec![
        json!(text(volume, "/metadata/name")),
        json!(text(volume, "/spec/capacity/storage")),
        json!(short_modes(items(volume, "/spec/accessModes"))),
        json!(text(volume, "/spec/persistentVolumeReclaimPolicy")),
        json!(text(volume, "/status/phase")),
        json!(claim),
        json!(text(volume, "/spec/storageClassName")),
        json!("<unset>"),
        json!(text(volume, "/status/reason")),
        json!(human::age(text(volume, "/metadata/creationTimestamp"), now)),
        json!(text(volume, "/spec/volumeMode")),
    ]
}

pub fn claim_cells(claim: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(claim, "/metadata/name")),
        json!(text(claim, "/status/phase")),
        json!(text(claim, "/spec/volumeName")),
        json!(text(claim, "/status/capacity/storage")),
        json!(short_modes(items(claim, "/status/accessModes"))),
        json!(text(claim, "/spec/storageClassName")),
        json!("<unset>"),
        json!(human::age(text(claim, "/metadata/creationTimestamp"), now)),
        json!(text(claim, "/spec/volumeMode")),
    ]
}

/// `RWO,ROX,RWX,RWOP`, in that order.
fn short_modes(modes: &[Value]) -> String {
    let all = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let present = all.iter().filter(|(long, _)| modes.iter().any(|mode| mode == long));
    present.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

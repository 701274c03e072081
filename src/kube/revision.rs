//! ControllerRevisions: what `kubectl rollout history` and `undo` read of StatefulSets and
//! DaemonSets.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Revision;
use crate::domain::selector::Labels;
use crate::kube::human;
use crate::kube::json::{items, number, text, without_nulls};
use crate::kube::metadata::{Metadata, uid_of};
use crate::kube::resource_type;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::template;

/// The hash in the labels of revisions. Source: `history.ControllerRevisionHashLabel`.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// The same on those of DaemonSets. Source: `DefaultDaemonSetUniqueLabelKey`.
const DAEMON_HASH_LABEL: &str = "controller-revision-hash";

pub const COLUMNS: &[Column] =
    &[Column::name(), Column::text("Controller"), Column::number("Revision"), Column::text("Age")];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let revision = seen.world.revisions.get(key)?;
    let metadata = Metadata::new(key, &revision.uid, revision.version, revision.created)
        .with_labels(&labels(revision))
        .with_owner(&revision.owner, uid_of(seen.world, &revision.owner))
        .build();
    let annotations = &revision.template.annotations;
    let template = json!({
        "$patch": "replace",
        "metadata": without_nulls(json!({
            "creationTimestamp": null,
            "labels": revision.template.labels,
            "annotations": (!annotations.is_empty()).then_some(annotations),
        })),
        "spec": template::pod_spec(seen.world, &revision.owner, &revision.template),
    });
    let shown = json!({
        "metadata": metadata,
        "data": {"spec": {"template": template}},
        "revision": revision.number,
    });
    Some(Shown::new(key, revision.version, shown))
}

/// The template's labels, by which `kubectl` finds the revisions of a set.
fn labels(revision: &Revision) -> Labels {
    let mut labels = revision.template.labels.clone();
    labels.insert(HASH_LABEL.to_owned(), revision.hash.clone());
    if revision.owner.kind == Kind::DaemonSet {
        labels.insert(DAEMON_HASH_LABEL.to_owned(), revision.hash.clone());
    }
    labels
}

pub fn cells(revision: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(revision, "/metadata/name")),
        json!(controller(revision)),
        json!(number(revision, "/revision")),
        json!(human::age(text(revision, "/metadata/creationTimestamp"), now)),
    ]
}

/// `statefulset.apps/web`.
fn controller(revision: &Value) -> String {
    let Some(owner) = items(revision, "/metadata/ownerReferences").first() else {
        return "<none>".to_owned();
    };
    let kind = text(owner, "/kind").parse::<Kind>();
    let kind = kind.map_or_else(
        |()| text(owner, "/kind").to_lowercase(),
        |kind| {
            let ty = resource_type::of_kind(kind);
            format!("{}.{}", ty.singular, ty.group)
        },
    );
    format!("{kind}/{}", text(owner, "/name"))
}

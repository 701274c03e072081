//! Writes: refused, with the place where the object's manifest can be changed.

use axum::extract::{Extension, State};
use axum::http::{Method, Uri};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::kube::target::{Target, parse};
use crate::api::state::Api;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::world::World;
use crate::kube::resource_type::{Noun, ResourceType};
use crate::kube::status::Status;

pub async fn refuse(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    method: Method,
    uri: Uri,
) -> ApiError {
    // `…/deployments/web/scale` is a way to change the deployment.
    let whole = uri.path().rsplit_once('/').map_or("", |(whole, _)| whole);
    let Some(target) = parse(uri.path()).or_else(|| parse(whole)) else {
        return ApiError::from(Status::no_such_path());
    };
    let view = api.master.view();
    tracing::debug!(by = %caller.name, %method, path = uri.path(), "refused a write");
    let verb = match method {
        Method::POST => "create",
        Method::DELETE => "delete",
        _ => "change",
    };
    let from = &view.source.location;
    let status = match target {
        Target::Object { ty, name, .. } if ty.noun == Noun::Recorded(Kind::Node) => {
            let message = format!(
                "this API does not {verb} nodes: they are what their agents report; `kgit node \
                 cordon|uncordon|drain|label|taint {name}` orders what can be ordered"
            );
            Status::new(405, "MethodNotAllowed", message).about(ty.group, ty.plural, name)
        }
        Target::Object { ty, namespace, name }
            if let Some(key) = kept(&view.world, ty, namespace, name) =>
        {
            let message = format!(
                "this API does not {verb} objects; no manifest stands for this one any more: \
                 `kgit prune {key}` removes it, data and all"
            );
            Status::new(405, "MethodNotAllowed", message).about(ty.group, ty.plural, name)
        }
        Target::Object { ty, namespace, name } => {
            let place = place_of(&view.world, ty, namespace, name);
            let place = place.unwrap_or_else(|| format!("its manifest in {from}"));
            let message = format!(
                "this API does not {verb} objects; what runs follows Git: change {place}, then \
                 commit and push"
            );
            Status::new(405, "MethodNotAllowed", message).about(ty.group, ty.plural, name)
        }
        Target::Collection { ty, .. } => {
            let message = format!(
                "this API does not {verb} objects; what runs follows Git: add the manifest to \
                 {from}, then commit and push"
            );
            Status::new(405, "MethodNotAllowed", message).about(ty.group, ty.plural, "")
        }
        Target::Group(_) | Target::Version { .. } | Target::PodLog { .. } => Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    };
    ApiError::from(status)
}

/// The object, if it is kept without a manifest.
fn kept(world: &World, ty: &ResourceType, namespace: &str, name: &str) -> Option<ObjectKey> {
    let Noun::Recorded(kind) = ty.noun else { return None };
    let key = ObjectKey::new(kind, namespace, name);
    world.objects.get(&key)?.retained.as_ref()?;
    Some(key)
}

/// Where the manifest stands that the object comes from: its own, or its owner's.
fn place_of(world: &World, ty: &ResourceType, namespace: &str, name: &str) -> Option<String> {
    let Noun::Recorded(kind) = ty.noun else { return None };
    let key = ObjectKey::new(kind, namespace, name);
    let owner = match kind {
        Kind::Pod => world.pods.get(&key).map(|pod| world.workload_of(pod)),
        Kind::ReplicaSet => world.replica_sets.get(&key).map(|set| set.owner.clone()),
        Kind::ControllerRevision => world.revisions.get(&key).map(|it| it.owner.clone()),
        _ => None,
    };
    let applied = world.objects.get(&owner.unwrap_or(key))?;
    let resource = &applied.resource;
    Some(format!("{} of {} `{}`", resource.place, resource.key.kind, resource.key.name))
}

//! OpenAPI v3 for `kubectl explain` and for clients that check what they send: a document for each
//! group and version, with the published types as their schemas.

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, Secret, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::domain::key::Kind;
use crate::kube::discovery::MINOR;
use crate::kube::json::object;
use crate::kube::resource_type::{Noun, ResourceType, SERVED};

/// Where in a document the schemas are, and how they are referred to.
const SCHEMAS: &str = "/components/schemas";
/// Ties a schema or an operation to a kind.
const KIND: &str = "x-kubernetes-group-version-kind";

/// The groups and versions that have a document, as their paths name them: `apis/apps/v1`.
pub fn documents() -> Vec<String> {
    let mut paths: Vec<String> = SERVED.iter().map(document_of).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn document_of(ty: &ResourceType) -> String {
    ty.root().trim_start_matches('/').to_owned()
}

/// The document of that path. `None`: there is none.
pub fn document(path: &str) -> Option<Value> {
    let types: Vec<&ResourceType> = SERVED.iter().filter(|ty| document_of(ty) == path).collect();
    if types.is_empty() {
        return None;
    }
    let mut settings = SchemaSettings::openapi3();
    settings.definitions_path = SCHEMAS.into();
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    let mut named = Vec::new();
    for ty in types {
        named.push((schema(&mut generator, ty), ty));
        paths.insert(format!("{}/{{name}}", ty.path(Some("{namespace}"))), operations(ty));
    }
    let mut schemas: Map<String, Value> = generator.take_definitions(true);
    for (name, ty) in named {
        let schema = schemas.entry(name).or_insert_with(|| own_schema(ty));
        object(schema).insert(KIND.to_owned(), json!([kind(ty)]));
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "kgit", "version": format!("v1.{MINOR}.0")},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn kind(ty: &ResourceType) -> Value {
    json!({"group": ty.group, "version": ty.version, "kind": ty.kind})
}

/// Clients learn from this that the server checks the fields of a patch itself. It has no body:
/// with one, `kubectl` would work patches out from schemas, which lack what that takes.
fn operations(ty: &ResourceType) -> Value {
    let parameter = json!({"name": "fieldValidation", "in": "query", "schema": {"type": "string"}});
    json!({"patch": {KIND: kind(ty), "parameters": [parameter], "responses": {}}})
}

/// Has the type's schema, and all that it refers to, among the generator's; gives its name.
fn schema(generator: &mut SchemaGenerator, ty: &ResourceType) -> String {
    fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> String {
        generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }
    match ty.noun {
        Noun::Recorded(Kind::Namespace) => of::<Namespace>(generator),
        Noun::Recorded(Kind::PriorityClass) => of::<PriorityClass>(generator),
        Noun::Recorded(Kind::ReplicationController) => of::<ReplicationController>(generator),
        Noun::Recorded(Kind::StatefulSet) => of::<StatefulSet>(generator),
        Noun::Recorded(Kind::DaemonSet) => of::<DaemonSet>(generator),
        Noun::Recorded(Kind::CronJob) => of::<CronJob>(generator),
        Noun::Recorded(Kind::HorizontalPodAutoscaler) => of::<HorizontalPodAutoscaler>(generator),
        Noun::Recorded(Kind::PodDisruptionBudget) => of::<PodDisruptionBudget>(generator),
        Noun::Recorded(Kind::ControllerRevision) => of::<ControllerRevision>(generator),
        Noun::Recorded(Kind::StorageClass) => of::<StorageClass>(generator),
        Noun::Recorded(Kind::PersistentVolume) => of::<PersistentVolume>(generator),
        Noun::Recorded(Kind::ConfigMap) => of::<ConfigMap>(generator),
        Noun::Recorded(Kind::Secret) => of::<Secret>(generator),
        Noun::Recorded(Kind::PersistentVolumeClaim) => of::<PersistentVolumeClaim>(generator),
        Noun::Recorded(Kind::Service) => of::<Service>(generator),
        Noun::Recorded(Kind::Pod) => of::<Pod>(generator),
        Noun::Recorded(Kind::ReplicaSet) => of::<ReplicaSet>(generator),
        Noun::Recorded(Kind::Deployment) => of::<Deployment>(generator),
        Noun::Recorded(Kind::Job) => of::<Job>(generator),
        Noun::Recorded(Kind::Node) => of::<Node>(generator),
        Noun::Endpoints => of::<Endpoints>(generator),
        Noun::EndpointSlice => of::<EndpointSlice>(generator),
        Noun::Lease => of::<Lease>(generator),
        Noun::Event => of::<Event>(generator),
        Noun::ComponentStatus => of::<k8s_openapi::api::core::v1::ComponentStatus>(generator),
        Noun::NodeMetrics | Noun::PodMetrics => format!("io.k8s.metrics.v1beta1.{}", ty.kind),
        Noun::Reconcile | Noun::Plan | Noun::Source => format!("dev.kgit.v1.{}", ty.kind),
    }
}

/// kgit's own nouns, in outline.
fn own_schema(ty: &ResourceType) -> Value {
    let (about, spec, status) = match ty.noun {
        Noun::Reconcile => (
            "One run of the loop, from what triggered it until nothing is left to do.",
            "What triggered it: a commit, drift, a node, a timer, an approval or an order.",
            "How far it is: phase, number of steps, deviations from its forecast, and waits.",
        ),
        Noun::Plan => (
            "What is waited for now, and deletions that are held until somebody approves them.",
            "Of held deletions: the commit that they come from, and the objects.",
            "What is waited for, why, until when, and what happens then.",
        ),
        _ => (
            "Where manifests come from.",
            "Its type, location and branch.",
            "The newest commit that was read, when it was looked for, and what went wrong.",
        ),
    };
    let text = json!({"type": "string"});
    let part = |about: &str| json!({"type": "object", "description": about});
    json!({
        "type": "object",
        "description": about,
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": part("Name, uid, version, and since when it exists."),
            "spec": part(spec),
            "status": part(status),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_schema_and_every_reference_leads_to_one() {
        for path in documents() {
            let document = document(&path).unwrap();
            let schemas = document.pointer(SCHEMAS).unwrap().as_object().unwrap();
            for ty in SERVED.iter().filter(|ty| document_of(ty) == path) {
                let wanted = json!([kind(ty)]);
                let of_kind = schemas.values().find(|schema| schema[KIND] == wanted);
                let described = of_kind.unwrap()["description"].as_str().unwrap();
                assert!(!described.is_empty(), "{}", ty.kind);
            }
            let text = document.to_string();
            for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
                let (name, _) = reference.split_once('"').unwrap();
                assert!(schemas.contains_key(name), "{path}: {name}");
            }
        }
    }

    #[test]
    fn what_is_not_served_has_no_document() {
        assert_eq!(document("apis/apps/v2"), None);
    }
}

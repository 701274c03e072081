//! Which pod and which container are meant.

use serde_json::Value;

use crate::cli::error::CliError;
use crate::cli::object::{Where, one};
use crate::client::http::{Client, encoded};
use crate::kube::json::{fields, items, text};

/// The annotation with which a pod says which of its containers people mean.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The path of the pods of a namespace.
pub fn pods_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{}/pods", encoded(namespace))
}

/// The pod of that name, or one that the workload's or service's selector finds.
pub async fn pod(client: &Client, place: &Where, named: &str) -> Result<Value, CliError> {
    let namespace = place.namespace();
    let (kind, name) = named.split_once('/').unwrap_or(("pod", named));
    if matches!(kind, "pod" | "pods" | "po") {
        return Ok(client.get(&format!("{}/{}", pods_path(namespace), encoded(name))).await?);
    }
    let object = object(client, place, named).await?;
    let selector = encoded(&selector(&object));
    let path = format!("{}?labelSelector={selector}", pods_path(namespace));
    let pods: Value = client.get(&path).await?;
    let pods = items(&pods, "/items");
    let running = |pod: &&Value| text(pod, "/status/phase") == "Running";
    let chosen = pods.iter().find(running).or(pods.first()).ok_or_else(|| {
        CliError::usage(format!("{named} has no pods"), "`kgit describe` says why")
    })?;
    if pods.len() > 1 {
        eprintln!("{} pods; this is pod/{}", pods.len(), text(chosen, "/metadata/name"));
    }
    Ok(chosen.clone())
}

/// The object that is named as KIND/NAME.
pub async fn object(client: &Client, place: &Where, named: &str) -> Result<Value, CliError> {
    let (ty, name) = one(&[named.to_owned()])?;
    Ok(client.get(&format!("{}/{}", ty.path(Some(place.namespace())), encoded(&name))).await?)
}

/// A workload's selector, or a service's.
fn selector(object: &Value) -> String {
    let of_workload = fields(object, "/spec/selector/matchLabels");
    let of_service = fields(object, "/spec/selector");
    let labels = of_workload.chain(of_service);
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    labels.collect::<Vec<_>>().join(",")
}

/// The container that is meant: the one named, the one the pod's annotation names, the first.
pub fn container(pod: &Value, named: Option<&str>) -> String {
    if let Some(container) = named {
        return container.to_owned();
    }
    let names = items(pod, "/spec/containers").iter().map(|container| text(container, "/name"));
    let names: Vec<&str> = names.collect();
    let annotations = pod.pointer("/metadata/annotations");
    let preferred = annotations.and_then(|all| all[DEFAULT_CONTAINER].as_str());
    let chosen = preferred.filter(|name| names.contains(name)).or(names.first().copied());
    let chosen = chosen.unwrap_or_default();
    if names.len() > 1 {
        eprintln!("container `{chosen}` out of {}; -c names another", names.join(", "));
    }
    chosen.to_owned()
}

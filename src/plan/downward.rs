//! The downward API: what a pod can learn about itself.

use kgit_protocol::pod::Resources;

use crate::domain::selector::Labels;
use crate::domain::template::{ContainerTemplate, DownwardField};
use crate::plan::spec::Decision;

const MEBIBYTE: u64 = 1 << 20;

/// The value of a field, for `container` where the field names none. `Err` says what is wrong.
pub fn value(
    decision: &Decision<'_>,
    container: Option<&ContainerTemplate>,
    field: &DownwardField,
) -> Result<String, String> {
    match field {
        DownwardField::Field(path) => Ok(pod_field(decision, path)),
        DownwardField::Resource { container: name, resource, divisor } => {
            let named = name.as_ref().and_then(|name| {
                decision.pod.template.all_containers().find(|other| other.name == *name)
            });
            let container = named
                .or(container)
                .ok_or_else(|| format!("resourceFieldRef `{resource}` to name a container"))?;
            Ok(resource_field(&container.resources, resource, divisor))
        }
    }
}

/// Paths are checked when the manifest is read, so an unknown one can't be met here.
fn pod_field(decision: &Decision<'_>, path: &str) -> String {
    let pod = decision.pod;
    match path {
        "metadata.name" => pod.key.name.to_string(),
        "metadata.namespace" => pod.key.namespace.to_string(),
        "metadata.uid" => pod.uid.to_string(),
        "metadata.labels" => listed(&pod.labels),
        "metadata.annotations" => listed(&pod.annotations),
        "spec.nodeName" => decision.node.to_string(),
        "spec.serviceAccountName" => "default".to_owned(),
        "status.podIP" | "status.podIPs" => {
            decision.address.map_or_else(|| host_address(decision), |address| address.to_string())
        }
        "status.hostIP" | "status.hostIPs" => host_address(decision),
        other => subscript(other, "metadata.labels")
            .and_then(|key| pod.labels.get(key))
            .or_else(|| {
                subscript(other, "metadata.annotations").and_then(|key| pod.annotations.get(key))
            })
            .cloned()
            .unwrap_or_default(),
    }
}

fn host_address(decision: &Decision<'_>) -> String {
    decision.node_address.unwrap_or_default().to_owned()
}

fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// One `key="value"` a line, as Kubernetes writes it.
fn listed(labels: &Labels) -> String {
    let lines: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The quantity divided by the divisor, rounded up. Where no limit is set, Kubernetes gives the
/// node's allocatable; here it is 0, "no limit", since a pod's spec does not depend on a node's
/// size.
fn resource_field(resources: &Resources, resource: &str, divisor: &str) -> String {
    let divided = |amount: Option<u64>, unit: u64| amount.unwrap_or(0).div_ceil(unit.max(1));
    let (cpu_unit, memory_unit) = (cpu_divisor(divisor), memory_divisor(divisor));
    match resource {
        "limits.cpu" => divided(resources.cpu_limit_millis, cpu_unit),
        "requests.cpu" => divided(resources.cpu_request_millis, cpu_unit),
        "limits.memory" => divided(resources.memory_limit_bytes, memory_unit),
        "requests.memory" => divided(resources.memory_request_bytes, memory_unit),
        _ => 0,
    }
    .to_string()
}

fn cpu_divisor(divisor: &str) -> u64 {
    if divisor == "1m" { 1 } else { 1000 }
}

fn memory_divisor(divisor: &str) -> u64 {
    match divisor {
        "1k" => 1000,
        "1Ki" => 1 << 10,
        "1M" => 1_000_000,
        "1Mi" => MEBIBYTE,
        "1G" => 1_000_000_000,
        "1Gi" => 1 << 30,
        _ => 1,
    }
}

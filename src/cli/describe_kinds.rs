//! What `kgit describe` tells of each kind.

use serde_json::Value;

use crate::cli::describe::Told;
use crate::cli::describe_parts::{
    Row, conditions, containers, indented, plain, row, rows, selector, template, volumes,
};
use crate::kube::human;
use crate::kube::json::{fields, items, number, text};

/// A row of the text at a pointer.
fn at(title: &str, object: &Value, pointer: &str) -> Row {
    row(title, text(object, pointer))
}

fn moment_at(title: &str, object: &Value, pointer: &str) -> Row {
    row(title, human::moment(text(object, pointer)))
}

fn list_at(object: &Value, pointer: &str) -> String {
    items(object, pointer).iter().map(plain).collect::<Vec<_>>().join(",")
}

pub fn pod(object: &Value) -> Told {
    let node = match (text(object, "/spec/nodeName"), text(object, "/status/hostIP")) {
        ("", _) => "<none>".to_owned(),
        (node, host) => format!("{node}/{host}"),
    };
    let status = match text(object, "/metadata/deletionTimestamp") {
        "" => text(object, "/status/phase").to_owned(),
        until => format!("Terminating (until {})", human::moment(until)),
    };
    let mut lines = vec![
        row("Node", node),
        moment_at("Start Time", object, "/status/startTime"),
        row("Status", status),
        at("IP", object, "/status/podIP"),
        at("QoS Class", object, "/status/qosClass"),
    ];
    for (title, pointer) in [("Reason", "/status/reason"), ("Message", "/status/message")] {
        if !text(object, pointer).is_empty() {
            lines.push(at(title, object, pointer));
        }
    }
    let mut sections = String::new();
    let init = items(object, "/spec/initContainers");
    if !init.is_empty() {
        let statuses = items(object, "/status/initContainerStatuses");
        sections.push_str(&containers("Init Containers", init, statuses));
    }
    let statuses = items(object, "/status/containerStatuses");
    sections.push_str(&containers("Containers", items(object, "/spec/containers"), statuses));
    sections.push_str(&conditions(object));
    sections.push_str(&volumes(object, "/spec/volumes"));
    Told { rows: lines, sections }
}

pub fn deployment(object: &Value) -> Told {
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let replicas = format!(
        "{} desired | {} updated | {} total | {} available | {} unavailable",
        number(object, "/spec/replicas"),
        count("updatedReplicas"),
        count("replicas"),
        count("availableReplicas"),
        count("unavailableReplicas"),
    );
    let mut lines = vec![
        row("Selector", selector(object, "/spec/selector/matchLabels")),
        row("Replicas", replicas),
        at("StrategyType", object, "/spec/strategy/type"),
        row("MinReadySeconds", number(object, "/spec/minReadySeconds").to_string()),
    ];
    if let Some(rolling) = object.pointer("/spec/strategy/rollingUpdate") {
        let (down, up) = (plain(&rolling["maxUnavailable"]), plain(&rolling["maxSurge"]));
        lines.push(row("RollingUpdateStrategy", format!("{down} max unavailable, {up} max surge")));
    }
    Told { rows: lines, sections: format!("{}{}", template(object), conditions(object)) }
}

/// `selector_at` is where its plain labels stand.
pub fn replica_set(object: &Value, selector_at: &str) -> Told {
    let (current, desired) = (number(object, "/status/replicas"), number(object, "/spec/replicas"));
    let lines = vec![
        row("Selector", selector(object, selector_at)),
        row("Replicas", format!("{current} current / {desired} desired")),
        row("Ready", number(object, "/status/readyReplicas").to_string()),
    ];
    Told { rows: lines, sections: template(object) }
}

pub fn stateful_set(object: &Value) -> Told {
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let replicas = format!(
        "{} desired | {} total | {} ready | {} updated",
        number(object, "/spec/replicas"),
        count("replicas"),
        count("readyReplicas"),
        count("updatedReplicas"),
    );
    let claims = items(object, "/spec/volumeClaimTemplates").iter();
    let claims = claims.map(|claim| text(claim, "/metadata/name")).collect::<Vec<_>>().join(",");
    let mut lines = vec![
        row("Selector", selector(object, "/spec/selector/matchLabels")),
        row("Replicas", replicas),
        at("Service", object, "/spec/serviceName"),
        at("Pod Management", object, "/spec/podManagementPolicy"),
        at("Update Strategy", object, "/spec/updateStrategy/type"),
        at("Current Revision", object, "/status/currentRevision"),
        at("Update Revision", object, "/status/updateRevision"),
        row("Volume Claims", claims),
    ];
    if let Some(rolling) = object.pointer("/spec/updateStrategy/rollingUpdate") {
        lines.push(row("Partition", plain(&rolling["partition"])));
    }
    Told { rows: lines, sections: template(object) }
}

pub fn daemon_set(object: &Value) -> Told {
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let nodes = format!(
        "{} desired | {} with a pod | {} up to date | {} available | {} misscheduled",
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        count("numberMisscheduled"),
    );
    let mut lines = vec![
        row("Selector", selector(object, "/spec/selector/matchLabels")),
        row("Node-Selector", selector(object, "/spec/template/spec/nodeSelector")),
        row("Nodes", nodes),
        at("Update Strategy", object, "/spec/updateStrategy/type"),
    ];
    if let Some(rolling) = object.pointer("/spec/updateStrategy/rollingUpdate") {
        let (down, up) = (plain(&rolling["maxUnavailable"]), plain(&rolling["maxSurge"]));
        lines.push(row("RollingUpdateStrategy", format!("{down} max unavailable, {up} max surge")));
    }
    Told { rows: lines, sections: template(object) }
}

pub fn job(object: &Value) -> Told {
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let counts = format!(
        "{} Active ({} Ready) / {} Succeeded / {} Failed",
        count("active"),
        count("ready"),
        count("succeeded"),
        count("failed"),
    );
    let lines = vec![
        row("Selector", selector(object, "/spec/selector/matchLabels")),
        row("Parallelism", number(object, "/spec/parallelism").to_string()),
        row("Completions", number(object, "/spec/completions").to_string()),
        row("Backoff Limit", number(object, "/spec/backoffLimit").to_string()),
        moment_at("Start Time", object, "/status/startTime"),
        moment_at("Completed At", object, "/status/completionTime"),
        row("Pods Statuses", counts),
    ];
    Told { rows: lines, sections: format!("{}{}", template(object), conditions(object)) }
}

pub fn claim(object: &Value) -> Told {
    let lines = vec![
        at("StorageClass", object, "/spec/storageClassName"),
        at("Status", object, "/status/phase"),
        at("Volume", object, "/spec/volumeName"),
        at("Capacity", object, "/status/capacity/storage"),
        row("Access Modes", list_at(object, "/status/accessModes")),
        at("VolumeMode", object, "/spec/volumeMode"),
    ];
    Told { rows: lines, sections: String::new() }
}

pub fn volume(object: &Value) -> Told {
    let claim = match object.pointer("/spec/claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
        None => String::new(),
    };
    let lines = vec![
        at("StorageClass", object, "/spec/storageClassName"),
        at("Status", object, "/status/phase"),
        row("Claim", claim),
        at("Reclaim Policy", object, "/spec/persistentVolumeReclaimPolicy"),
        row("Access Modes", list_at(object, "/spec/accessModes")),
        at("VolumeMode", object, "/spec/volumeMode"),
        at("Capacity", object, "/spec/capacity/storage"),
    ];
    let mut sections = String::new();
    for (kind, pointer) in
        [("HostPath", "/spec/hostPath"), ("Local", "/spec/local"), ("CSI", "/spec/csi")]
    {
        if let Some(source) = object.pointer(pointer) {
            let mut facts = vec![row("Type", kind)];
            facts.extend(fields(source, "").map(|(field, value)| row(field, plain(value))));
            sections = format!("Source:\n{}", indented(&rows(&facts), "  "));
        }
    }
    Told { rows: lines, sections }
}

pub fn storage_class(object: &Value) -> Told {
    let lines = vec![
        at("Provisioner", object, "/provisioner"),
        row("Parameters", selector(object, "/parameters")),
        at("ReclaimPolicy", object, "/reclaimPolicy"),
        at("VolumeBindingMode", object, "/volumeBindingMode"),
    ];
    Told { rows: lines, sections: String::new() }
}

pub fn config_map(object: &Value) -> Told {
    let mut sections = "\nData\n====\n".to_owned();
    for (key, value) in fields(object, "/data") {
        sections.push_str(&format!("{key}:\n----\n{}\n\n", plain(value)));
    }
    for (key, value) in fields(object, "/binaryData") {
        sections.push_str(&format!("{key}: {}\n", size(value)));
    }
    Told { rows: Vec::new(), sections }
}

/// The values of Secrets are never told, only how long they are.
pub fn secret(object: &Value) -> Told {
    let data: Vec<Row> =
        fields(object, "/data").map(|(key, value)| row(key, size(value))).collect();
    let sections = format!("\nData\n====\n{}", rows(&data));
    Told { rows: vec![at("Type", object, "/type")], sections }
}

/// The size of what base64 stands for.
fn size(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    format!("{} bytes", text.len() / 4 * 3 - padding.min(2))
}

pub fn service(object: &Value) -> Told {
    let mut lines = vec![
        row("Selector", selector(object, "/spec/selector")),
        at("Type", object, "/spec/type"),
        at("IP", object, "/spec/clusterIP"),
    ];
    for port in items(object, "/spec/ports") {
        let name = Some(text(port, "/name")).filter(|name| !name.is_empty()).unwrap_or("<unset>");
        let protocol = text(port, "/protocol");
        lines.push(row("Port", format!("{name}  {}/{protocol}", number(port, "/port"))));
        lines.push(row("TargetPort", format!("{}/{protocol}", plain(&port["targetPort"]))));
        if number(port, "/nodePort") > 0 {
            let node_port = number(port, "/nodePort");
            lines.push(row("NodePort", format!("{name}  {node_port}/{protocol}")));
        }
    }
    lines.push(at("Session Affinity", object, "/spec/sessionAffinity"));
    Told { rows: lines, sections: String::new() }
}

pub fn node(object: &Value) -> Told {
    let taints = items(object, "/spec/taints").iter().map(|taint| {
        format!("{}={}:{}", text(taint, "/key"), text(taint, "/value"), text(taint, "/effect"))
    });
    let unschedulable = object.pointer("/spec/unschedulable").is_some_and(|flag| flag == true);
    let lines = vec![
        row("Taints", taints.collect::<Vec<_>>().join("\n")),
        row("Unschedulable", unschedulable.to_string()),
    ];
    let addresses = items(object, "/status/addresses").iter();
    let addresses = addresses.map(|address| at(text(address, "/type"), address, "/address"));
    let part = |title: &str, lines: &[Row]| format!("{title}:\n{}", indented(&rows(lines), "  "));
    let mut sections = conditions(object);
    sections.push_str(&part("Addresses", &addresses.collect::<Vec<_>>()));
    for (title, pointer) in [
        ("Capacity", "/status/capacity"),
        ("Allocatable", "/status/allocatable"),
        ("System Info", "/status/nodeInfo"),
    ] {
        let facts: Vec<Row> =
            fields(object, pointer).map(|(what, value)| row(what, plain(value))).collect();
        sections.push_str(&part(title, &facts));
    }
    sections.push_str(&rows(&[at("PodCIDR", object, "/spec/podCIDR")]));
    Told { rows: lines, sections }
}

//! `kgit describe`.

use clap::Args;
use serde_json::Value;

use crate::cli::context::{Context, print};
use crate::cli::describe_parts::{
    conditions, containers, events, labels, pairs, rows, template, volumes,
};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::{Where, one};
use crate::client::http::{Client, encoded};
use crate::kube::json::{fields, items, number, text};

/// Show an object in full, with its conditions and events
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// KIND NAME or KIND/NAME
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: &DescribeArgs, context: &Context) -> Result<Exit, CliError> {
    let client = context.client()?;
    let (ty, name) = one(&args.object)?;
    let path = format!("{}/{}", ty.path(Some(args.place.namespace())), encoded(&name));
    let object: Value = client.get(&path).await?;
    let told = told(&client, &object).await?;
    match context.for_programs() {
        true => context.print_json(&object)?,
        false => print(&described(&object, &told))?,
    }
    Ok(Exit::Success)
}

/// The events of the object.
async fn told(client: &Client, object: &Value) -> Result<Vec<Value>, CliError> {
    let selector = format!(
        "involvedObject.name={},involvedObject.kind={}",
        text(object, "/metadata/name"),
        text(object, "/kind")
    );
    let namespace = match text(object, "/metadata/namespace") {
        "" => "default",
        namespace => namespace,
    };
    let path =
        format!("/api/v1/namespaces/{namespace}/events?fieldSelector={}", encoded(&selector));
    let list: Value = client.get(&path).await?;
    Ok(items(&list, "/items").to_vec())
}

fn described(object: &Value, told: &[Value]) -> String {
    let mut shown = head(object);
    shown.push_str(&match text(object, "/kind") {
        "Pod" => pod(object),
        "Deployment" => deployment(object),
        "ReplicaSet" => replica_set(object),
        "Job" => job(object),
        "PersistentVolumeClaim" => claim(object),
        _ => rest(object),
    });
    shown.push_str(&events(told));
    shown
}

fn head(object: &Value) -> String {
    let mut lines = vec![("Name", text(object, "/metadata/name").to_owned())];
    if !text(object, "/metadata/namespace").is_empty() {
        lines.push(("Namespace", text(object, "/metadata/namespace").to_owned()));
    }
    lines.push(("CreationTimestamp", text(object, "/metadata/creationTimestamp").to_owned()));
    lines.push(("Labels", labels(object, "/metadata/labels")));
    lines.push(("Annotations", labels(object, "/metadata/annotations")));
    if let Some(owner) = items(object, "/metadata/ownerReferences").first() {
        lines.push(("Controlled By", format!("{}/{}", text(owner, "/kind"), text(owner, "/name"))));
    }
    rows(&lines)
}

fn pod(object: &Value) -> String {
    let node = match (text(object, "/spec/nodeName"), text(object, "/status/hostIP")) {
        ("", _) => "<none>".to_owned(),
        (node, host) => format!("{node}/{host}"),
    };
    let status = match text(object, "/metadata/deletionTimestamp") {
        "" => text(object, "/status/phase").to_owned(),
        since => format!("Terminating (until {since})"),
    };
    let mut lines = vec![
        ("Node", node),
        ("Start Time", text(object, "/status/startTime").to_owned()),
        ("Status", status),
        ("IP", text(object, "/status/podIP").to_owned()),
        ("QoS Class", text(object, "/status/qosClass").to_owned()),
    ];
    for (title, pointer) in [("Reason", "/status/reason"), ("Message", "/status/message")] {
        if !text(object, pointer).is_empty() {
            lines.push((title, text(object, pointer).to_owned()));
        }
    }
    let mut shown = rows(&lines);
    let init = items(object, "/spec/initContainers");
    if !init.is_empty() {
        let statuses = items(object, "/status/initContainerStatuses");
        shown.push_str(&containers("Init Containers", init, statuses));
    }
    let statuses = items(object, "/status/containerStatuses");
    shown.push_str(&containers("Containers", items(object, "/spec/containers"), statuses));
    shown.push_str(&conditions(object));
    shown.push_str(&volumes(object, "/spec/volumes", ""));
    shown
}

fn deployment(object: &Value) -> String {
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
        ("Selector", pairs(fields(object, "/spec/selector/matchLabels"), ",")),
        ("Replicas", replicas),
        ("StrategyType", text(object, "/spec/strategy/type").to_owned()),
        ("MinReadySeconds", number(object, "/spec/minReadySeconds").to_string()),
    ];
    if let Some(rolling) = object.pointer("/spec/strategy/rollingUpdate") {
        let amount = |field: &str| match &rolling[field] {
            Value::String(percent) => percent.clone(),
            other => other.to_string(),
        };
        let (down, up) = (amount("maxUnavailable"), amount("maxSurge"));
        lines.push(("RollingUpdateStrategy", format!("{down} max unavailable, {up} max surge")));
    }
    format!("{}{}{}", rows(&lines), template(object), conditions(object))
}

fn replica_set(object: &Value) -> String {
    let (current, desired) = (number(object, "/status/replicas"), number(object, "/spec/replicas"));
    let lines = [
        ("Selector", pairs(fields(object, "/spec/selector/matchLabels"), ",")),
        ("Replicas", format!("{current} current / {desired} desired")),
        ("Ready", number(object, "/status/readyReplicas").to_string()),
    ];
    format!("{}{}", rows(&lines), template(object))
}

fn job(object: &Value) -> String {
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let counts = format!(
        "{} Active ({} Ready) / {} Succeeded / {} Failed",
        count("active"),
        count("ready"),
        count("succeeded"),
        count("failed"),
    );
    let lines = [
        ("Parallelism", number(object, "/spec/parallelism").to_string()),
        ("Completions", number(object, "/spec/completions").to_string()),
        ("Start Time", text(object, "/status/startTime").to_owned()),
        ("Completed At", text(object, "/status/completionTime").to_owned()),
        ("Pods Statuses", counts),
    ];
    format!("{}{}{}", rows(&lines), template(object), conditions(object))
}

fn claim(object: &Value) -> String {
    let modes = items(object, "/status/accessModes").iter().filter_map(Value::as_str);
    rows(&[
        ("StorageClass", text(object, "/spec/storageClassName").to_owned()),
        ("Status", text(object, "/status/phase").to_owned()),
        ("Volume", text(object, "/spec/volumeName").to_owned()),
        ("Capacity", text(object, "/status/capacity/storage").to_owned()),
        ("Access Modes", modes.collect::<Vec<_>>().join(",")),
        ("VolumeMode", text(object, "/spec/volumeMode").to_owned()),
    ])
}

/// Everything but the metadata, as YAML.
fn rest(object: &Value) -> String {
    let mut bare = object.clone();
    let fields = crate::kube::json::object(&mut bare);
    for field in ["metadata", "apiVersion", "kind"] {
        fields.remove(field);
    }
    serde_yaml::to_string(&bare).unwrap_or_default()
}

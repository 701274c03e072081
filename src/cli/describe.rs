//! `kgit describe`: which parts each kind is told in.

use clap::Args;
use serde_json::Value;

use crate::cli::context::{Context, print};
use crate::cli::describe_kinds::{
    claim, config_map, daemon_set, deployment, job, node, pod, replica_set, secret, service,
    stateful_set, storage_class, volume,
};
use crate::cli::describe_parts::{Row, by_time, events, labels, nested, row, rows};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::{Where, one};
use crate::client::http::{Client, encoded};
use crate::kube::human;
use crate::kube::json::{items, text};

/// Show an object in full, with its conditions and events
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// KIND NAME or KIND/NAME
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
    #[command(flatten)]
    place: Where,
}

/// What is told of an object between its metadata and its events: rows that stand in one column
/// with those of the metadata, and sections of their own.
pub struct Told {
    pub rows: Vec<Row>,
    pub sections: String,
}

pub async fn run(args: &DescribeArgs, context: &Context) -> Result<Exit, CliError> {
    let client = context.client()?;
    let (ty, name) = one(&args.object)?;
    let path = format!("{}/{}", ty.path(Some(args.place.namespace())), encoded(&name));
    let object: Value = client.get(&path).await?;
    match context.for_programs() {
        true => context.print_json(&object)?,
        false => print(&described(&object, &told(&client, &object).await?))?,
    }
    Ok(Exit::Success)
}

/// The events of the object, oldest first.
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
    Ok(by_time(items(&list, "/items")))
}

fn described(object: &Value, told: &[Value]) -> String {
    let of_kind = match text(object, "/kind") {
        "Pod" => pod(object),
        "Deployment" => deployment(object),
        "ReplicaSet" => replica_set(object, "/spec/selector/matchLabels"),
        "ReplicationController" => replica_set(object, "/spec/selector"),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "Job" => job(object),
        "PersistentVolumeClaim" => claim(object),
        "PersistentVolume" => volume(object),
        "StorageClass" => storage_class(object),
        "ConfigMap" => config_map(object),
        "Secret" => secret(object),
        "Service" => service(object),
        "Node" => node(object),
        _ => rest(object),
    };
    let lines: Vec<Row> = head(object).into_iter().chain(of_kind.rows).collect();
    format!("{}{}{}", rows(&lines), of_kind.sections, events(told))
}

fn head(object: &Value) -> Vec<Row> {
    let mut lines = vec![row("Name", text(object, "/metadata/name"))];
    if !text(object, "/metadata/namespace").is_empty() {
        lines.push(row("Namespace", text(object, "/metadata/namespace")));
    }
    let created = human::moment(text(object, "/metadata/creationTimestamp"));
    lines.push(row("CreationTimestamp", created));
    lines.push(row("Labels", labels(object, "/metadata/labels", "=")));
    lines.push(row("Annotations", labels(object, "/metadata/annotations", ": ")));
    if let Some(owner) = items(object, "/metadata/ownerReferences").first() {
        let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
        lines.push(row("Controlled By", format!("{kind}/{name}")));
    }
    lines
}

/// Everything but the metadata, field by field.
fn rest(object: &Value) -> Told {
    let mut bare = object.clone();
    let fields = crate::kube::json::object(&mut bare);
    for field in ["metadata", "apiVersion", "kind"] {
        fields.remove(field);
    }
    Told { rows: Vec::new(), sections: nested(&bare, "") }
}

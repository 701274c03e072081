//! Services.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::kube::json::{default, fields, items, number, object, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Type"),
    Column::text("Cluster-IP"),
    Column::text("External-IP"),
    Column::text("Port(s)"),
    Column::text("Age"),
    Column::wide("Selector"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let mut spec = applied.resource.manifest.get("spec").cloned().unwrap_or_default();
    let spec_fields = object(&mut spec);
    defaults::service_spec(spec_fields);
    if let Some(address) = spec_fields.get("clusterIP").cloned() {
        default(spec_fields, "clusterIPs", json!([address]));
    }
    let shown = json!({
        "metadata": Metadata::of_applied(key, applied, applied.version).build(),
        "spec": spec,
        "status": {"loadBalancer": {}},
    });
    Some(Shown::new(key, applied.version, shown))
}

pub fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(text(service, "/metadata/name")),
        json!(text(service, "/spec/type")),
        json!(or_none(text(service, "/spec/clusterIP"))),
        json!(external(service)),
        json!(ports(service)),
        json!(human::age(text(service, "/metadata/creationTimestamp"), now)),
        json!(or_none(&selector(service))),
    ]
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn external(service: &Value) -> String {
    let listed = |pointer: &str| {
        let addresses = items(service, pointer).iter().filter_map(Value::as_str);
        addresses.collect::<Vec<_>>().join(",")
    };
    let given = listed("/spec/externalIPs");
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = items(service, "/status/loadBalancer/ingress").iter();
            let mut all: Vec<_> = ingress.map(|address| text(address, "/ip")).collect();
            all.extend((!given.is_empty()).then_some(given.as_str()));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => or_none(&given).to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let shown = items(service, "/spec/ports").iter().map(|port| {
        let (own, protocol) = (number(port, "/port"), text(port, "/protocol"));
        match number(port, "/nodePort") {
            0 => format!("{own}/{protocol}"),
            node_port => format!("{own}:{node_port}/{protocol}"),
        }
    });
    let shown = shown.collect::<Vec<_>>().join(",");
    or_none(&shown).to_owned()
}

fn selector(service: &Value) -> String {
    let pairs = fields(service, "/spec/selector");
    let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

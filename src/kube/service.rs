//! Services.

use kgit_protocol::directory::{Backend, Service, ServiceAddress};
use kgit_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::service::of_the_api;
use crate::kube::json::{default, fields, items, number, object, text};
use crate::kube::metadata::Metadata;
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human, namespace};

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
    let decided = seen.world.services.get(key);
    let (version, metadata, mut spec) = match seen.world.objects.get(key) {
        Some(applied) => {
            let version = decided.map_or(0, |row| row.version).max(applied.version);
            let spec = applied.resource.manifest.at("/spec").unwrap_or_default();
            (version, Metadata::of_applied(key, applied, version).build(), spec)
        }
        None => {
            let (uid, created) = identity(seen, key)?;
            let labels = [("component".to_owned(), "apiserver".to_owned())];
            let version = decided?.version;
            let metadata = Metadata::new(key, &uid, version, created).with_labels(&labels.into());
            (version, metadata.build(), json!({"ports": []}))
        }
    };
    let spec_fields = object(&mut spec);
    if let Some(state) = decided {
        put_decided(spec_fields, &state.service);
    }
    defaults::service_spec(spec_fields);
    if let Some(address) = spec_fields.get("clusterIP").cloned() {
        default(spec_fields, "clusterIPs", json!([address]));
    }
    let ingress = decided.map(|state| state.ingress.clone()).unwrap_or_default();
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
    let balancer = if ingress.is_empty() { json!({}) } else { json!({"ingress": ingress}) };
    let shown = json!({
        "metadata": metadata,
        "spec": spec,
        "status": {"loadBalancer": balancer},
    });
    Some(Shown::new(key, version, shown))
}

/// The uid of a service and since when it exists. The API's own has no manifest.
pub fn identity(seen: &Seen<'_>, key: &ObjectKey) -> Option<(String, Timestamp)> {
    match seen.world.objects.get(key) {
        Some(applied) => Some((applied.uid.clone(), applied.created)),
        None if *key == of_the_api() && seen.world.services.contains_key(key) => {
            let uid = format!("service-{}-{}", seen.world.cluster, key.name);
            Some((uid, namespace::created(seen.world)))
        }
        None => None,
    }
}

/// What was decided for the service, beside what its manifest says.
fn put_decided(spec: &mut Map<String, Value>, service: &Service) {
    match &service.address {
        ServiceAddress::Cluster(address) => {
            spec.insert("clusterIP".to_owned(), json!(address.to_string()));
        }
        ServiceAddress::Headless | ServiceAddress::ExternalName(_) => {}
    }
    if service.backend == Backend::Master {
        let ports = service
            .ports
            .iter()
            .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol}));
        spec.insert("ports".to_owned(), ports.collect());
        return;
    }
    let written = spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    for (written, decided) in written.zip(&service.ports) {
        if let Some(node_port) = decided.node_port {
            written["nodePort"] = json!(node_port);
        }
    }
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

//! What is behind services, as EndpointSlices and in the older form of Endpoints.

use kgit_protocol::directory::{Backend, Endpoint, ServicePort};
use kgit_protocol::ids::Digest;
use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::node::Node;
use crate::domain::service::{EndpointPod, ServiceState, of_the_api};
use crate::domain::world::{Recorded, World};
use crate::kube::human;
use crate::kube::json::{items, number, text};
use crate::kube::metadata::{Metadata, derived_uid};
use crate::kube::seen::{Seen, Shown, ShownKey};
use crate::kube::service;
use crate::kube::table::Column;

pub const COLUMNS: &[Column] = &[Column::name(), Column::text("Endpoints"), Column::text("Age")];

pub const SLICE_COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("AddressType"),
    Column::text("Ports"),
    Column::text("Endpoints"),
    Column::text("Age"),
];

/// The label that ties a slice to its service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// How many addresses a table names before it only counts them.
const NAMED: usize = 3;
/// Characters that tell a slice's name from its service's, as upstream generates them.
const SUFFIX_CHARS: usize = 5;
/// For each hexadecimal digit one of Kubernetes' letters for generated names: no vowels, so no words.
const LETTERS: &[u8; 16] = b"bcdfghjklmnpqrst";
/// Where a node listens for its pods on the API's behalf. One that finds the port taken listens at
/// another, which it does not tell; its kernel leads there all the same.
const NODE_API_PORT: u16 = 6443;

/// One port of a service and where an endpoint takes its traffic.
type Target<'a> = (&'a ServicePort, u16);

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let row = seen.world.services.get(key)?;
    let (uid, created) = service::identity(seen, key)?;
    let uid = derived_uid(&uid, 1);
    let version = version(seen.world, row);
    let subsets = match row.service.backend {
        Backend::Master => vec![subset_of_api(seen.world, row)],
        Backend::Endpoints(_) => subsets(row, &key.namespace),
    };
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": Metadata::new(key, &uid, version, created).build(),
        "subsets": subsets,
    });
    Some(Shown { key: shown_key(key, &key.name), version, object })
}

/// Of everything that an endpoint object is shown from.
fn version(world: &World, row: &Recorded<ServiceState>) -> u64 {
    match row.service.backend {
        Backend::Master => {
            world.nodes.values().map(|node| node.version).fold(row.version, u64::max)
        }
        Backend::Endpoints(_) => row.version,
    }
}

/// Pods reach the API through their own node, which carries it on to the master.
fn subset_of_api(world: &World, state: &ServiceState) -> Value {
    let of = |ready: bool| {
        let nodes = world.nodes.values().filter(move |node| is_ready(node) == ready);
        let address =
            |node: &Node| Some(json!({"ip": gateway(node)?.to_string(), "nodeName": node.name}));
        nodes.filter_map(|node| address(&node.value)).collect()
    };
    subset(&api_ports(state), of(true), of(false))
}

fn api_ports(state: &ServiceState) -> Vec<Target<'_>> {
    state.service.ports.iter().map(|port| (port, NODE_API_PORT)).collect()
}

fn is_ready(node: &Node) -> bool {
    node.is_ready() != Some(false)
}

/// A node's own address on its bridge.
fn gateway(node: &Node) -> Option<std::net::Ipv4Addr> {
    node.network.range.hosts().next()
}

/// Endpoints with equal ports share a subset, as upstream packs them.
fn subsets(state: &ServiceState, namespace: &str) -> Vec<Value> {
    let mut groups: Vec<(Vec<Target<'_>>, Vec<Value>, Vec<Value>)> = Vec::new();
    for (endpoint, pod) in state.endpoints() {
        let targets = targets(state, endpoint);
        if targets.is_empty() && !state.service.ports.is_empty() {
            continue;
        }
        let known = groups.iter().position(|(ports, ..)| *ports == targets);
        let at = known.unwrap_or_else(|| {
            groups.push((targets, Vec::new(), Vec::new()));
            groups.len() - 1
        });
        let mut address = json!({
            "ip": endpoint.address.to_string(),
            "nodeName": endpoint.node,
            "targetRef": target_ref(endpoint, pod, namespace),
        });
        if let Some(hostname) = &endpoint.hostname {
            address["hostname"] = json!(hostname);
        }
        let group = &mut groups[at];
        if endpoint.ready { group.1.push(address) } else { group.2.push(address) }
    }
    groups.into_iter().map(|(ports, ready, not_ready)| subset(&ports, ready, not_ready)).collect()
}

fn subset(ports: &[Target<'_>], ready: Vec<Value>, not_ready: Vec<Value>) -> Value {
    let mut subset = json!({});
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        if !addresses.is_empty() {
            subset[field] = json!(addresses);
        }
    }
    if !ports.is_empty() {
        subset["ports"] = ports.iter().map(port).collect();
    }
    subset
}

pub fn show_slice(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let row = seen.world.services.get(key)?;
    let (owner, created) = service::identity(seen, key)?;
    let name = slice_name(key, &owner);
    let labels = [
        (SERVICE_LABEL.to_owned(), key.name.to_string()),
        ("endpointslice.kubernetes.io/managed-by".to_owned(), "kgit".to_owned()),
    ];
    let uid = derived_uid(&owner, 2);
    let version = version(seen.world, row);
    let mut metadata = Metadata::new(key, &uid, version, created)
        .with_labels(&labels.into())
        .with_owner(key, Some(&owner))
        .build();
    metadata["name"] = json!(name);
    let (ports, endpoints) = match row.service.backend {
        Backend::Master => (api_ports(row), slice_of_api(seen.world)),
        Backend::Endpoints(_) => slice_of_pods(row, &key.namespace),
    };
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports.iter().map(port).collect::<Vec<_>>(),
    });
    Some(Shown { key: shown_key(key, &name), version, object })
}

fn slice_of_pods<'a>(state: &'a ServiceState, namespace: &str) -> (Vec<Target<'a>>, Vec<Value>) {
    let first = state.endpoints().next().map(|(endpoint, _)| targets(state, endpoint));
    let endpoints = state.endpoints();
    let shown = endpoints.map(|(endpoint, pod)| slice_endpoint(endpoint, pod, namespace));
    (first.unwrap_or_default(), shown.collect())
}

fn slice_of_api(world: &World) -> Vec<Value> {
    let endpoint = |node: &Node| {
        let ready = is_ready(node);
        Some(json!({
            "addresses": [gateway(node)?.to_string()],
            "conditions": {"ready": ready, "serving": ready, "terminating": false},
            "nodeName": node.name,
        }))
    };
    world.nodes.values().filter_map(|node| endpoint(&node.value)).collect()
}

/// The API's own has no suffix, as upstream.
fn slice_name(key: &ObjectKey, owner: &str) -> String {
    if *key == of_the_api() {
        return key.name.to_string();
    }
    let digest = Digest::of(owner.as_bytes());
    let digits = digest.as_str().chars().filter_map(|digit| digit.to_digit(16));
    let letters = digits.map(|digit| char::from(LETTERS[digit as usize]));
    format!("{}-{}", key.name, letters.take(SUFFIX_CHARS).collect::<String>())
}

fn slice_endpoint(endpoint: &Endpoint, pod: &EndpointPod, namespace: &str) -> Value {
    let mut shown = json!({
        "addresses": [endpoint.address.to_string()],
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": pod.terminating,
        },
        "nodeName": endpoint.node,
        "targetRef": target_ref(endpoint, pod, namespace),
    });
    if let Some(hostname) = &endpoint.hostname {
        shown["hostname"] = json!(hostname);
    }
    shown
}

fn targets<'a>(state: &'a ServiceState, endpoint: &Endpoint) -> Vec<Target<'a>> {
    let ports = state.service.ports.iter().zip(&endpoint.targets);
    ports.filter_map(|(port, target)| Some((port, (*target)?))).collect()
}

fn port((port, target): &Target<'_>) -> Value {
    json!({"name": port.name.as_deref().unwrap_or_default(), "port": target, "protocol": port.protocol})
}

fn target_ref(endpoint: &Endpoint, pod: &EndpointPod, namespace: &str) -> Value {
    json!({"kind": "Pod", "namespace": namespace, "name": pod.name, "uid": endpoint.pod})
}

fn shown_key(key: &ObjectKey, name: &str) -> ShownKey {
    ShownKey { namespace: key.namespace.clone(), name: name.into() }
}

pub fn cells(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(endpoints, "/subsets") {
        for address in items(subset, "/addresses") {
            let ip = text(address, "/ip");
            match items(subset, "/ports") {
                [] => all.push(ip.to_owned()),
                ports => all.extend(ports.iter().map(|p| format!("{ip}:{}", number(p, "/port")))),
            }
        }
    }
    vec![
        json!(text(endpoints, "/metadata/name")),
        json!(some_of(&all)),
        json!(human::age(text(endpoints, "/metadata/creationTimestamp"), now)),
    ]
}

pub fn slice_cells(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> =
        items(slice, "/ports").iter().map(|p| number(p, "/port").to_string()).collect();
    let addresses: Vec<String> = items(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "/addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    vec![
        json!(text(slice, "/metadata/name")),
        json!(text(slice, "/addressType")),
        json!(if ports.is_empty() { "<unset>".to_owned() } else { some_of(&ports) }),
        json!(if addresses.is_empty() { "<unset>".to_owned() } else { some_of(&addresses) }),
        json!(human::age(text(slice, "/metadata/creationTimestamp"), now)),
    ]
}

fn some_of(all: &[String]) -> String {
    match all.len() {
        0 => "<none>".to_owned(),
        count if count > NAMED => {
            format!("{} + {} more...", all[..NAMED].join(","), count - NAMED)
        }
        _ => all.join(","),
    }
}

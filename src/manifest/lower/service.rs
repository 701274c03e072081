//! Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ServicePort as WrittenPort, ServiceSpec as WrittenService};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kgit_protocol::directory::TrafficPolicy;
use kgit_protocol::pod::Protocol;

use crate::domain::resource::{ServicePort, ServiceSpec, TargetPort};
use crate::manifest::lower::Object;
use crate::manifest::lower::container::{PROTOCOLS, each};
use crate::manifest::lower::names::Shape;
use crate::manifest::path::Path;

const KINDS: [(&str, &str); 4] = [
    ("ClusterIP", "ClusterIP"),
    ("NodePort", "NodePort"),
    ("LoadBalancer", "LoadBalancer"),
    ("ExternalName", "ExternalName"),
];
/// Source: kubernetes-rules ("Services") and upstream's validation.
const AFFINITY_SECONDS: u32 = 10_800;
const AFFINITY_RANGE: std::ops::RangeInclusive<u32> = 1..=86_400;
/// Source: the default of `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

pub fn service(object: &mut Object<'_, '_>, written: &WrittenService) -> ServiceSpec {
    let path = Path::ROOT.key("spec");
    let kind = object.choice(&path.key("type"), written.type_.as_deref(), "ClusterIP", &KINDS);
    let headless = written.cluster_ip.as_deref() == Some("None");
    let external_name = written.external_name.clone().filter(|name| !name.is_empty());
    if kind == "ExternalName" {
        object.filled(&path.key("externalName"), external_name.as_deref().unwrap_or_default());
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        object.error(&path.key("clusterIP"), format!("a {kind} service can't be headless"));
    }
    let selector = written.selector.clone().filter(|selector| !selector.is_empty());
    object.labels(&path.key("selector"), &selector.clone().unwrap_or_default());
    let ports = ports(object, &path, written, kind);
    if ports.is_empty() && kind != "ExternalName" && !headless {
        object.required(&path.key("ports"));
    }
    if written.cluster_ip.is_none() && written.cluster_ips.as_ref().is_some_and(|it| !it.is_empty())
    {
        object.error(&path.key("clusterIPs"), "needs `clusterIP`, with the first of them");
    }
    let asked = written.cluster_ip.as_deref().filter(|text| !matches!(*text, "" | "None"));
    ServiceSpec {
        kind: kind.to_owned(),
        selector,
        ports,
        headless,
        cluster_ip: asked.and_then(|text| address(object, &path.key("clusterIP"), text)),
        external_name,
        external_ips: each(&path, "externalIPs", written.external_ips.as_deref(), |at, text| {
            address(object, at, text)
        }),
        affinity_seconds: affinity_seconds(object, &path, written),
        publish_not_ready: written.publish_not_ready_addresses == Some(true),
        internal_traffic: policy(object, &path, "internalTrafficPolicy", written),
        external_traffic: policy(object, &path, "externalTrafficPolicy", written),
        without_node_ports: written.allocate_load_balancer_node_ports == Some(false),
    }
}

fn address(object: &mut Object<'_, '_>, path: &Path<'_>, text: &str) -> Option<Ipv4Addr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        object.error(path, format!("`{text}` is not an IPv4 address"));
    }
    parsed
}

fn affinity_seconds(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenService,
) -> Option<u32> {
    let by_client = object.choice(
        &path.key("sessionAffinity"),
        written.session_affinity.as_deref(),
        false,
        &[("None", false), ("ClientIP", true)],
    );
    let config = written.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let Some(seconds) = seconds else { return by_client.then_some(AFFINITY_SECONDS) };
    let config = path.key("sessionAffinityConfig");
    if !by_client {
        object.error(&config, "it goes with `sessionAffinity: ClientIP`".to_owned());
        return None;
    }
    let client = config.key("clientIP");
    match u32::try_from(seconds).ok().filter(|seconds| AFFINITY_RANGE.contains(seconds)) {
        Some(seconds) => Some(seconds),
        None => {
            let (first, last) = (AFFINITY_RANGE.start(), AFFINITY_RANGE.end());
            let message = format!("{seconds} is out of range: {first} to {last} seconds");
            object.error(&client.key("timeoutSeconds"), message);
            None
        }
    }
}

fn policy(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    field: &'static str,
    written: &WrittenService,
) -> TrafficPolicy {
    let said = match field {
        "internalTrafficPolicy" => &written.internal_traffic_policy,
        _ => &written.external_traffic_policy,
    };
    let known = [("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)];
    object.choice(&path.key(field), said.as_deref(), TrafficPolicy::Cluster, &known)
}

fn ports(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenService,
    kind: &str,
) -> Vec<ServicePort> {
    let several = written.ports.as_ref().is_some_and(|ports| ports.len() > 1);
    let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
    each(path, "ports", written.ports.as_deref(), |at, it| {
        let port = port(object, at, it, kind);
        match &port.name {
            None if several => object.error_with_hint(
                &at.key("name"),
                "each port needs a name where there are several",
                None,
            ),
            Some(name) if !names.insert(name.clone()) => {
                object.error(&at.key("name"), format!("two ports are named `{name}`"));
            }
            _ => {}
        }
        if !taken.insert((port.port, port.protocol)) {
            object.error(&at.key("port"), format!("port {} is given twice", port.port));
        }
        Some(port)
    })
}

fn port(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &WrittenPort,
    kind: &str,
) -> ServicePort {
    let at = path.key("port");
    let port = match object.says(&at) {
        true => object.port(&at, i64::from(written.port)),
        false => {
            object.required(&at);
            1
        }
    };
    let name = written.name.clone().filter(|name| !name.is_empty());
    if let Some(name) = &name {
        object.name(&path.key("name"), name, Shape::Label);
    }
    let protocol = written.protocol.as_deref();
    let protocol = object.choice(&path.key("protocol"), protocol, Protocol::Tcp, &PROTOCOLS);
    let target = target(object, &path.key("targetPort"), written.target_port.as_ref(), port);
    let node_port = node_port(object, &path.key("nodePort"), written.node_port, kind);
    ServicePort { name, port, protocol, target, node_port }
}

fn target(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<&IntOrString>,
    port: u16,
) -> TargetPort {
    match written {
        None | Some(IntOrString::Int(0)) => TargetPort::Number(port),
        Some(IntOrString::Int(number)) => TargetPort::Number(object.port(path, i64::from(*number))),
        Some(IntOrString::String(name)) if name.is_empty() => TargetPort::Number(port),
        Some(IntOrString::String(name)) => {
            object.name(path, name, Shape::Port);
            TargetPort::Name(name.clone())
        }
    }
}

fn node_port(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: Option<i32>,
    kind: &str,
) -> Option<u16> {
    let written = written.filter(|port| *port != 0)?;
    let port = object.port(path, i64::from(written));
    if !matches!(kind, "NodePort" | "LoadBalancer") {
        let hint = Some("say `type: NodePort`".to_owned());
        object.error_with_hint(path, format!("a {kind} service has no node ports"), hint);
    } else if !NODE_PORTS.contains(&port) {
        let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
        object.error(path, format!("{port} is out of range: {first} to {last}"));
    }
    Some(port)
}

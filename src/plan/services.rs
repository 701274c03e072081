//! Services: an address, ports on the nodes, and the endpoints that there are now. Nodes carry
//! this out; what stands in a service's way is said.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use kgit_protocol::directory::{Backend, Service, ServiceAddress, ServicePort, TrafficPolicy};
use kgit_protocol::pod::Protocol;

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::resource::{Resource, ServiceSpec, Spec, TargetPort};
use crate::domain::selector::{Labels, has_all};
use crate::domain::service::{self, ServiceState, of_the_api};
use crate::domain::world::{Effect, Record, Table, World};
use crate::plan::draft::Draft;
use crate::plan::names;

/// Source: the default of `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;
/// The port of the API's own service, as everywhere.
pub const API_PORT: u16 = 443;
const REFUSED: &str = "connections to it are refused";

/// Brings what is recorded of a service to what its manifest, its pods and the nodes say.
pub fn plan_service(draft: &mut Draft<'_>, key: &ObjectKey) {
    draft.start_over(key);
    if *key == of_the_api() {
        return plan_api(draft, key);
    }
    let spec = draft.world.objects.get(key).and_then(|applied| match &applied.resource.spec {
        Spec::Service(spec) => Some(spec.clone()),
        _ => None,
    });
    let Some(spec) = spec else {
        if draft.world.services.contains_key(key) {
            draft.note_effect(Effect::Remove(key.clone(), Table::Service));
        }
        return;
    };
    let old = draft.world.services.get(key).map(|row| Arc::clone(&row.value));
    match decide(&draft.world, key, &spec, old.as_deref()) {
        Ok(state) => {
            if old.as_deref() != Some(&state) {
                draft.note(key, Record::Service(Arc::new(state)));
            }
            tell_troubles(draft, key, &spec);
        }
        Err(missing) => draft.blocked(key, missing, "it has no address"),
    }
}

/// The master's API, at the first address of the range.
fn plan_api(draft: &mut Draft<'_>, key: &ObjectKey) {
    let Some(address) = draft.world.meta.service_range.and_then(api_address) else { return };
    if draft.world.services.contains_key(key) {
        return;
    }
    let port = ServicePort {
        name: Some("https".to_owned()),
        protocol: Protocol::Tcp,
        port: API_PORT,
        node_port: None,
    };
    let service = Service {
        address: ServiceAddress::Cluster(address),
        ports: vec![port],
        backend: Backend::Master,
        affinity_seconds: None,
        publish_not_ready: false,
        external_addresses: Vec::new(),
        on_node_addresses: false,
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
    };
    let state = ServiceState { service, pods: Vec::new(), ingress: Vec::new() };
    draft.note(key, Record::Service(Arc::new(state)));
}

/// Where pods reach the API: the first address of the range, as upstream has it.
pub fn api_address(range: Ipv4Net) -> Option<Ipv4Addr> {
    range.hosts().next()
}

fn decide(
    world: &World,
    key: &ObjectKey,
    spec: &ServiceSpec,
    old: Option<&ServiceState>,
) -> Result<ServiceState, String> {
    let address = address(world, key, spec, old)?;
    let (endpoints, pods) = service::endpoints(world, key, spec);
    let is_balancer = spec.kind == "LoadBalancer";
    let service = Service {
        address,
        ports: ports(world, key, spec, old)?,
        backend: Backend::Endpoints(endpoints),
        affinity_seconds: spec.affinity_seconds,
        publish_not_ready: spec.publish_not_ready,
        external_addresses: spec.external_ips.clone(),
        on_node_addresses: is_balancer,
        internal_traffic: spec.internal_traffic,
        external_traffic: spec.external_traffic,
    };
    let ingress = if is_balancer { node_addresses(world) } else { Vec::new() };
    Ok(ServiceState { service, pods, ingress })
}

fn address(
    world: &World,
    key: &ObjectKey,
    spec: &ServiceSpec,
    old: Option<&ServiceState>,
) -> Result<ServiceAddress, String> {
    match &spec.external_name {
        Some(name) if spec.kind == "ExternalName" => {
            return Ok(ServiceAddress::ExternalName(name.clone()));
        }
        _ if spec.headless => return Ok(ServiceAddress::Headless),
        _ => {}
    }
    let range = world.meta.service_range;
    let range = range.ok_or("a range of addresses for services, which this master has none of")?;
    let had = old.and_then(|old| match old.service.address {
        ServiceAddress::Cluster(address) => Some(address),
        ServiceAddress::Headless | ServiceAddress::ExternalName(_) => None,
    });
    let is_free = |address: Ipv4Addr| world.service_at(address).is_none_or(|at| at == key);
    let chosen = match (spec.cluster_ip, had) {
        (Some(asked), _) if !range.contains(&asked) => {
            return Err(format!("the address {asked}, which is outside the range {range}"));
        }
        (Some(asked), _) if !is_free(asked) || Some(asked) == api_address(range) => {
            return Err(format!("the address {asked}, which another service has"));
        }
        (Some(asked), _) => Some(asked),
        (None, Some(had)) => Some(had),
        (None, None) => free_address(range, key, is_free),
    };
    let chosen = chosen.ok_or_else(|| format!("a free address in {range}"))?;
    Ok(ServiceAddress::Cluster(chosen))
}

/// By its name, so that a service that comes back mostly has the address that it had.
fn free_address(
    range: Ipv4Net,
    key: &ObjectKey,
    is_free: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let first = u32::from(range.network()) + 2;
    let count = u32::from(range.broadcast()).checked_sub(first)?;
    let start = names::stable_hash(&[&key.namespace, &key.name]) % u64::from(count.max(1));
    let start = u32::try_from(start).ok()?;
    (0..count).map(|step| Ipv4Addr::from(first + (start + step) % count)).find(|at| is_free(*at))
}

fn ports(
    world: &World,
    key: &ObjectKey,
    spec: &ServiceSpec,
    old: Option<&ServiceState>,
) -> Result<Vec<ServicePort>, String> {
    let on_nodes = match spec.kind.as_str() {
        "NodePort" => true,
        "LoadBalancer" => !spec.without_node_ports,
        _ => false,
    };
    let asked: Vec<(u16, Protocol)> =
        spec.ports.iter().filter_map(|port| Some((port.node_port?, port.protocol))).collect();
    let mut ports: Vec<ServicePort> = Vec::new();
    for port in &spec.ports {
        let is_free = |number: u16| {
            let taken = |other: &ServicePort| {
                (other.node_port, other.protocol) == (Some(number), port.protocol)
            };
            world.service_on(number, port.protocol).is_none_or(|at| at == key)
                && !ports.iter().any(taken)
        };
        let had = old.and_then(|old| {
            let same = |it: &&ServicePort| (it.port, it.protocol) == (port.port, port.protocol);
            old.service.ports.iter().find(same)?.node_port
        });
        let had = had.filter(|had| is_free(*had) && !asked.contains(&(*had, port.protocol)));
        let node_port = match (port.node_port, had) {
            _ if !on_nodes => None,
            (Some(asked), _) if !is_free(asked) => {
                return Err(format!("node port {asked}, which another service has"));
            }
            (Some(asked), _) => Some(asked),
            (None, Some(had)) => Some(had),
            (None, None) => {
                let own =
                    |number: u16| is_free(number) && !asked.contains(&(number, port.protocol));
                Some(free_node_port(key, port.port, own).ok_or("a free node port")?)
            }
        };
        ports.push(ServicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
            node_port,
        });
    }
    Ok(ports)
}

fn free_node_port(key: &ObjectKey, port: u16, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let (first, last) = (*NODE_PORTS.start(), *NODE_PORTS.end());
    let count = u64::from(last - first) + 1;
    let seed = names::stable_hash(&[&key.namespace, &key.name, &port.to_string()]);
    (0..count)
        .filter_map(|step| u16::try_from((seed % count + step) % count).ok())
        .map(|offset| first + offset)
        .find(|number| is_free(*number))
}

fn node_addresses(world: &World) -> Vec<String> {
    let ready = world.nodes.values().filter(|node| node.is_ready() != Some(false));
    ready.filter_map(|node| node.observed.facts.addresses.first().cloned()).collect()
}

/// What keeps connections from getting through.
fn tell_troubles(draft: &mut Draft<'_>, key: &ObjectKey, spec: &ServiceSpec) {
    for (for_what, consequence) in troubles(&draft.world, key, spec) {
        draft.blocked(key, for_what, &consequence);
    }
}

fn troubles(world: &World, key: &ObjectKey, spec: &ServiceSpec) -> Vec<(String, String)> {
    let Some(state) = world.services.get(key) else { return Vec::new() };
    let mut troubles = Vec::new();
    let selector = spec.selector.as_ref();
    if let Some(selector) = selector.filter(|selector| !leads_to_pods(world, key, selector)) {
        let labels: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let what = format!("a pod with the labels {}; there is none", labels.join(","));
        troubles.push((what, REFUSED.to_owned()));
    }
    for (endpoint, pod) in state.endpoints() {
        let seen = endpoint.pod.as_ref().and_then(|uid| world.pod_by_uid(uid));
        let silent = seen.and_then(|pod| pod.observed.as_ref()).map(|it| it.silent_ports.clone());
        let silent = silent.unwrap_or_default();
        for (port, target) in spec.ports.iter().zip(&endpoint.targets) {
            match (target, &port.target) {
                (None, TargetPort::Name(wanted)) => troubles.push((
                    format!("pod `{}` to have a port named `{wanted}`", pod.name),
                    format!("port {} does not lead to it", port.port),
                )),
                (Some(target), _) if port.protocol == Protocol::Tcp && silent.contains(target) => {
                    let what = format!(
                        "something to listen on port {target} of pod `{}`; nothing does",
                        pod.name
                    );
                    troubles.push((what, REFUSED.to_owned()));
                }
                _ => {}
            }
        }
    }
    troubles.extend(on_nodes(world, key));
    troubles
}

/// There are such pods, or a workload that makes them: it says itself what it waits for.
fn leads_to_pods(world: &World, key: &ObjectKey, selector: &Labels) -> bool {
    world.pods_labelled(&key.namespace, selector).any(|pod| !pod.is_over())
        || Kind::ALL.into_iter().filter(|kind| kind.is_workload()).any(|kind| {
            let there = world.objects_in(kind, &key.namespace).filter(|it| it.retained.is_none());
            there.filter_map(|it| it.resource.template()).any(|it| has_all(&it.labels, selector))
        })
}

fn on_nodes(world: &World, key: &ObjectKey) -> impl Iterator<Item = (String, String)> {
    world.nodes.values().flat_map(move |node| {
        let here = node.observed.service_troubles.iter();
        let here = here.filter(|it| it.service.parts() == (&*key.namespace, &*key.name));
        here.map(|it| {
            let consequence = format!("that part of it does not work on node {}", node.name);
            (format!("node {}: {}", node.name, it.message), consequence)
        })
        .collect::<Vec<_>>()
    })
}

/// The services that a change of a pod may concern.
pub fn woken(world: &World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<ObjectKey> {
    let unchanged = match (old, new) {
        (Some(old), Some(new)) => matters(old) == matters(new),
        _ => false,
    };
    if unchanged {
        return Vec::new();
    }
    let pods = old.into_iter().chain(new);
    pods.flat_map(|pod| world.services_selecting(&pod.key.namespace, &pod.labels))
        .cloned()
        .collect()
}

/// The services that lead to the pods of a workload.
pub fn of_workload(world: &World, key: &ObjectKey, resource: &Resource) -> Vec<ObjectKey> {
    let labels = resource.template().map(|template| &template.labels);
    let services = labels.map(|labels| world.services_selecting(&key.namespace, labels).cloned());
    services.into_iter().flatten().collect()
}

/// Everything about a pod that a service goes by.
fn matters(pod: &Pod) -> impl PartialEq + use<'_> {
    let placed = pod.placed.as_ref().map(|placed| (&placed.node, placed.spec.address));
    let silent = pod.observed.as_ref().map_or(&[][..], |observed| &observed.silent_ports);
    (&pod.labels, placed, pod.is_over(), pod.deletion.is_some(), pod.serves(), silent.to_vec())
}

/// The services that have no address or port yet, and may get one that another gave back.
pub fn waiting(world: &World) -> Vec<ObjectKey> {
    let services = world.objects_of(Kind::Service).map(|row| &row.resource.key);
    services.filter(|key| !world.services.contains_key(*key)).cloned().collect()
}

/// The services that a change of a node may concern: those of its pods, those at its address, and
/// those that it has trouble with.
pub fn of_node(world: &World, node: &kgit_protocol::ids::NodeName) -> Vec<ObjectKey> {
    let pods = world.pods_on(node);
    let behind = pods.flat_map(|pod| world.services_selecting(&pod.key.namespace, &pod.labels));
    let balancers = world.services.iter().filter(|(_, row)| row.service.on_node_addresses);
    let mut keys: Vec<ObjectKey> =
        behind.cloned().chain(balancers.map(|(key, _)| key.clone())).collect();
    if let Some(node) = world.nodes.get(&crate::domain::world::node_key(node)) {
        keys.extend(node.observed.service_troubles.iter().map(|it| {
            let (namespace, name) = it.service.parts();
            ObjectKey::new(Kind::Service, namespace, name)
        }));
    }
    keys
}

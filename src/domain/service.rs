//! Services as they are decided: addresses, ports, and what is behind them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use kgit_protocol::directory::{Backend, Endpoint, Service};
use kgit_protocol::ids::NodeName;
use serde::{Deserialize, Serialize};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::resource::{ServicePort, ServiceSpec, TargetPort};
use crate::domain::world::{World, node_key};

/// The DNS domain of every cluster, as Kubernetes' defaults have it.
pub const DOMAIN: &str = "cluster.local";

/// A service as nodes carry it out, and what readers want to know besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    pub service: Service,
    /// The pods behind its endpoints, one for each, in that order.
    pub pods: Vec<EndpointPod>,
    /// Where a LoadBalancer is reached: the addresses of its nodes.
    #[serde(default)]
    pub ingress: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPod {
    pub name: Arc<str>,
    pub terminating: bool,
}

impl ServiceState {
    /// Each endpoint with the pod behind it.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Endpoint, &EndpointPod)> {
        let endpoints: &[Endpoint] = match &self.service.backend {
            Backend::Endpoints(endpoints) => endpoints,
            Backend::Master => &[],
        };
        endpoints.iter().zip(&self.pods)
    }
}

/// The service by which pods reach the master's API. It is kgit's own, without a manifest.
pub fn of_the_api() -> ObjectKey {
    ObjectKey::new(Kind::Service, "default", "kubernetes")
}

/// What is behind a service: the pods that its selector matches and that have an address.
///
/// Source: the endpoints rule of kubernetes-rules ("Services"); "Ready" is false on a node that is
/// not heard of.
pub fn endpoints(
    world: &World,
    key: &ObjectKey,
    spec: &ServiceSpec,
) -> (Vec<Endpoint>, Vec<EndpointPod>) {
    let selector = spec.selector.iter();
    let pods = selector.flat_map(|selector| world.pods_labelled(&key.namespace, selector));
    pods.filter_map(|pod| endpoint(world, key, spec, pod)).unzip()
}

fn endpoint(
    world: &World,
    key: &ObjectKey,
    spec: &ServiceSpec,
    pod: &Pod,
) -> Option<(Endpoint, EndpointPod)> {
    let placed = pod.placed.as_ref()?;
    if pod.is_over() {
        return None;
    }
    let node = world.nodes.get(&node_key(&placed.node))?;
    let address = match placed.spec.address {
        Some(address) => address,
        None => node_address(world, &placed.node)?,
    };
    let terminating = pod.deletion.is_some();
    let serving = pod.serves() && node.is_ready() != Some(false);
    let network = &pod.template.network;
    let named = network.subdomain.as_deref() == Some(&*key.name);
    let endpoint = Endpoint {
        address,
        node: Some(placed.node.clone()),
        pod: Some(pod.uid.clone()),
        hostname: network.hostname.clone().filter(|_| named),
        targets: spec.ports.iter().map(|port| target(port, pod)).collect(),
        ready: spec.publish_not_ready || (serving && !terminating),
        serving,
    };
    Some((endpoint, EndpointPod { name: Arc::clone(&pod.key.name), terminating }))
}

/// The address by which a node is known, if it told one.
pub fn node_address(world: &World, node: &NodeName) -> Option<Ipv4Addr> {
    let node = world.nodes.get(&node_key(node))?;
    node.observed.facts.addresses.iter().find_map(|address| address.parse().ok())
}

/// The port of the pod that a port of the service leads to.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let ports = pod.template.all_containers().flat_map(|container| &container.ports);
            let mut fitting = ports.filter(|it| it.protocol == port.protocol);
            fitting.find(|it| it.name.as_ref() == Some(name)).map(|it| it.port)
        }
    }
}

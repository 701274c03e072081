//! The floor: create with an address and start, eight in flight, and nothing else. Image,
//! logging and network are those that kgit uses.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig,
    Ipam, IpamConfig, NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::StreamExt as _;

use super::{IMAGE, engine};

const NETWORK: &str = "kgit-bench-bare";
const LABEL: &str = "dev.kgit.bench=bare";
const SUBNET: &str = "10.254.77.0/24";
/// As the agent has.
const IN_FLIGHT: usize = 8;

pub async fn run(count: usize) -> f64 {
    let docker = engine::client();
    network(&docker).await;
    let names: Vec<String> = (0..count).map(|index| format!("kgit-bench-bare-{index}")).collect();
    let seconds = engine::seconds_until_started(LABEL, count, || async {
        let starts = names.iter().enumerate().map(|(index, name)| start(&docker, name, index));
        futures_util::stream::iter(starts).buffer_unordered(IN_FLIGHT).collect::<Vec<()>>().await;
    })
    .await;
    for name in &names {
        let force = RemoveContainerOptionsBuilder::default().force(true).build();
        docker.remove_container(name, Some(force)).await.expect("it is ours to remove");
    }
    docker.remove_network(NETWORK).await.expect("nobody is on it");
    seconds
}

async fn network(docker: &Docker) {
    // What a run that was killed left behind.
    let _ = docker.remove_network(NETWORK).await;
    let range = IpamConfig { subnet: Some(SUBNET.to_owned()), ..Default::default() };
    let request = NetworkCreateRequest {
        name: NETWORK.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![range]), ..Default::default() }),
        ..Default::default()
    };
    docker.create_network(request).await.expect("a network");
}

async fn start(docker: &Docker, name: &str, index: usize) {
    let address = Ipv4Addr::new(10, 254, 77, u8::try_from(index + 2).expect("a small number"));
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let logging = HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([
            ("max-size".to_owned(), "10m".to_owned()),
            ("max-file".to_owned(), "3".to_owned()),
        ])),
    };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(["sh", "-c", "sleep 100000"].map(str::to_owned).to_vec()),
        labels: Some(HashMap::from([("dev.kgit.bench".to_owned(), "bare".to_owned())])),
        host_config: Some(HostConfig {
            log_config: Some(logging),
            network_mode: Some(NETWORK.to_owned()),
            ..Default::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(NETWORK.to_owned(), endpoint)])),
        }),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body).await.expect("it is created");
    docker.start_container(name, None).await.expect("it starts");
}

//! The node's own bridge.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspect,
};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use ipnet::Ipv4Net;

use crate::runtime::docker::errors::Asked;
use crate::runtime::docker::{Docker, gone_is_fine, labels};
use crate::runtime::{Outcome, RuntimeError};

impl Docker {
    /// Whether the network is there and as it should be.
    pub(super) async fn network_is(&self, range: Ipv4Net) -> Outcome<bool> {
        Ok(self.show_network().await?.is_some_and(|network| self.is_ours(&network, range)))
    }

    pub(super) async fn make_network(&self, range: Ipv4Net) -> Outcome<()> {
        match self.show_network().await? {
            Some(network) if self.is_ours(&network, range) => return Ok(()),
            Some(network) => self.clear_network(&network).await?,
            None => {}
        }
        let client = self.client().await?;
        client
            .create_network(self.request(range))
            .await
            .map(|_| ())
            .map_err(|error| self.failed(Asked::Engine, "network", error))
    }

    fn request(&self, range: Ipv4Net) -> NetworkCreateRequest {
        let pool = IpamConfig {
            subnet: Some(range.to_string()),
            gateway: range.hosts().next().map(|first| first.to_string()),
            ..Default::default()
        };
        NetworkCreateRequest {
            name: self.scope.network(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![pool]), ..Default::default() }),
            labels: Some(labels::scope(&self.scope)),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.name".to_owned(),
                self.scope.bridge(),
            )])),
            ..Default::default()
        }
    }

    async fn show_network(&self) -> Outcome<Option<NetworkInspect>> {
        let client = self.client().await?;
        match client.inspect_network(&self.scope.network(), None::<InspectNetworkOptions>).await {
            Ok(network) => Ok(Some(network)),
            Err(error) => match self.failed(Asked::Container, "network", error) {
                RuntimeError::Gone(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    fn is_ours(&self, network: &NetworkInspect, range: Ipv4Net) -> bool {
        let empty = HashMap::new();
        let labelled = labels::in_scope(&self.scope, network.labels.as_ref().unwrap_or(&empty));
        let pools = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
        let subnet = pools.and_then(|pools| pools.first()).and_then(|pool| pool.subnet.as_deref());
        labelled
            && network.driver.as_deref() == Some("bridge")
            && subnet.and_then(|text| text.parse::<Ipv4Net>().ok()) == Some(range)
    }

    /// Removes a network that has our name and our labels, or refuses.
    async fn clear_network(&self, network: &NetworkInspect) -> Outcome<()> {
        let empty = HashMap::new();
        let labels = network.labels.as_ref().unwrap_or(&empty);
        if !labels::in_scope(&self.scope, labels) {
            let text = format!(
                "the network {} exists and is not kgit's: rename or remove it",
                self.scope.network()
            );
            return Err(RuntimeError::Refused(text));
        }
        let client = self.client().await?;
        for id in network.containers.clone().unwrap_or_default().keys() {
            let request = NetworkDisconnectRequest { container: id.clone(), force: Some(true) };
            // What is left connected makes the removal below fail, which is told.
            let _ = client.disconnect_network(&self.scope.network(), request).await;
        }
        match client.remove_network(&self.scope.network()).await {
            Ok(()) => Ok(()),
            Err(error) => gone_is_fine(self.failed(Asked::Container, "network", error)),
        }
    }

    pub(super) async fn drop_network(&self) -> Outcome<()> {
        match self.show_network().await? {
            Some(network) => self.clear_network(&network).await,
            None => Ok(()),
        }
    }

    pub(super) async fn join_network(&self, id: &str, address: Ipv4Addr) -> Outcome<()> {
        let client = self.client().await?;
        let network = self.scope.network();
        let leave = NetworkDisconnectRequest { container: id.to_owned(), force: Some(true) };
        // Stale endpoints of a network that was made anew stand in the way; having none is fine.
        let _ = client.disconnect_network(&network, leave).await;
        let request = NetworkConnectRequest {
            container: id.to_owned(),
            endpoint_config: Some(EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: Some(address.to_string()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        };
        client
            .connect_network(&network, request)
            .await
            .map_err(|error| self.failed(Asked::Container, id, error))
    }

    pub(super) async fn all_ranges(&self) -> Outcome<Vec<Ipv4Net>> {
        let client = self.client().await?;
        let networks = client
            .list_networks(None::<ListNetworksOptions>)
            .await
            .map_err(|error| self.failed(Asked::Engine, "networks", error))?;
        let pools = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
        Ok(pools.filter_map(|pool| pool.subnet?.parse().ok()).collect())
    }
}

//! Traffic by way of a service against a container addressed directly, beside Swarm's own virtual address and ingress;
//! and how a node with a thousand services compares with one of ten. All on hosts made of namespaces.

mod client;
mod shop;

use std::net::SocketAddrV4;
use std::path::Path;

use crate::skip::not_tried;
use crate::{Size, median};
use client::{Measured, measure};
use shop::Shop;

#[test]
fn traffic_by_way_of_a_service() {
    let Some(shop) = Shop::open("bench") else { return not_tried("root and a Docker engine") };
    let (inside, outside) = (shop.pod_network(), shop.hosts.network("two"));
    let (pod, service) = (shop.pod_address(), shop.service_address());
    compare("from a pod, address of the service", &inside, (pod, service));
    let node: SocketAddrV4 = format!("{}:30080", shop.hosts.address("one")).parse().unwrap();
    let from_host = shop.hosts.network("one");
    compare("from the host, address of the service", &from_host, (pod, service));
    let with_swarm = shop.swarm();
    if let Some(swarm) = &with_swarm {
        compare(
            "Swarm: from a container, virtual address",
            &swarm.network,
            (swarm.task, swarm.vip),
        );
    }
    let published = shop.published();
    compare("from another host, node port, against a published port", &outside, (published, node));
    if let Some(swarm) = with_swarm {
        compare("Swarm: the same by its ingress", &outside, (published, swarm.ingress));
    }
}

/// Pairs alternate; shares of the direct way's speed, so 1 is as fast.
fn compare(what: &str, network: &Path, (direct, by_service): (SocketAddrV4, SocketAddrV4)) {
    let (rounds, effort) = match Size::chosen() {
        Size::Smoke => (1, client::Effort::SMALL),
        Size::Full => (10, client::Effort::FULL),
    };
    let mut shares: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        let measured = [direct, by_service].map(|address| measure(network, address, effort));
        let [direct, by_service] = measured;
        for (share, pick) in shares.iter_mut().zip(Measured::PARTS) {
            share.push(pick(&direct) / pick(&by_service));
        }
    }
    let [bulk, requests, connections] = shares.map(median);
    println!(
        "{what}: bulk {bulk:.2} ×, requests {requests:.2} ×, new connections {connections:.2} ×"
    );
}

#[test]
fn a_thousand_services_against_ten() {
    let Some(mut shop) = Shop::open("many") else { return not_tried("root and a Docker engine") };
    let (many, rounds, effort) = match Size::chosen() {
        Size::Smoke => (20, 1, client::Effort::SMALL),
        Size::Full => (1000, 10, client::Effort::FULL),
    };
    let mut seen = Vec::new();
    for count in [10, many] {
        let seconds = shop.services(count);
        let network = shop.pod_network();
        let each =
            (0..rounds).map(|_| measure(&network, shop.service_address(), effort).connections);
        let connection = median(each.collect());
        let memory = shop.net_megabytes();
        println!("{count} services: {seconds:.2} s from commit to use, net {memory:.1} MB");
        seen.push(connection);
    }
    println!("connection rate, {many} services against 10: {:.2} ×", seen[0] / seen[1]);
}

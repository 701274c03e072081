//! `net` for real: on hosts made of network namespaces, with servers and clients over real sockets.
//! Needs root and `nft`.

#![allow(
    clippy::disallowed_methods,
    reason = "part of the shell: it makes hosts and runs programs"
)]

mod faults;
mod filters;
#[path = "../../../tests/support/firewalld.rs"]
mod firewalld;
mod lab;
mod names;
mod ports;
#[path = "../../../tests/support/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Instant;

use serde_json::json;

use crate::lab::{HOST, Lab, OUTSIDE, endpoint, exchange, pod, service};

/// Who answered in so many tries.
fn answered(lab: &Lab, place: &str, address: &str, port: u16) -> BTreeSet<String> {
    let tries = (0..20).map(|_| lab.ask(place, address, port).unwrap());
    tries.map(|said| said.split(' ').next().unwrap().to_owned()).collect()
}

fn both() -> BTreeSet<String> {
    BTreeSet::from(["five".to_owned(), "six".to_owned()])
}

fn two_pods(lab: &mut Lab) {
    lab.serve("p5", 8080, "five");
    lab.serve("p6", 8080, "six");
    lab.pod(5, true, false);
    lab.pod(6, true, false);
    lab.list("web", service("10.96.0.10", &[5, 6]));
}

async fn from_pods_and_the_host(name: &str, filtered: bool) {
    let Some(mut lab) = Lab::new(name) else { return };
    lab.filter_bridge(filtered);
    two_pods(&mut lab);
    lab.list("own", service("10.96.0.11", &[5]));
    lab.begin().await;
    assert_eq!(answered(&lab, "p5", "10.96.0.10", 80), both());
    assert_eq!(answered(&lab, HOST, "10.96.0.10", 80), both());
    // To itself through its own service.
    lab.until("a pod reaches itself", || lab.ask("p5", "10.96.0.11", 80).is_ok());
    let seen = lab.ask("p6", "10.96.0.11", 80).unwrap();
    // Who asks is hidden only where answers would not come back otherwise.
    let expected = if filtered { pod(6) } else { "10.40.1.1".to_owned() };
    assert_eq!(seen, format!("five {expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_addresses_lead_to_pods_on_a_filtered_bridge() {
    from_pods_and_the_host("filt", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_addresses_lead_to_pods_on_a_bridge_that_is_not_filtered() {
    from_pods_and_the_host("unfilt", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bridge_may_become_filtered_at_any_time() {
    let Some(mut lab) = Lab::new("turn") else { return };
    lab.filter_bridge(false);
    lab.serve("p5", 8080, "five");
    lab.pod(5, true, false);
    lab.list("own", service("10.96.0.11", &[5]));
    lab.begin().await;
    assert!(lab.ask("p6", "10.96.0.11", 80).is_ok());
    lab.filter_bridge(true);
    let own = format!("five {}", pod(6));
    lab.until("seen by its own address", || lab.ask("p6", "10.96.0.11", 80) == Ok(own.clone()));
    lab.filter_bridge(false);
    lab.until("answered again", || lab.ask("p6", "10.96.0.11", 80).is_ok_and(|said| said != own));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_endpoint_is_refused_at_once() {
    let Some(mut lab) = Lab::new("none") else { return };
    lab.pod(5, false, false);
    let mut empty = service("10.96.0.10", &[5]);
    empty["ports"] = json!([{ "port": 80, "node_port": 30080 }]);
    empty["external_addresses"] = json!(["192.0.2.7"]);
    lab.list("empty", empty);
    lab.begin().await;
    lab.sh(OUTSIDE, "ip route add 192.0.2.7 via 10.210.0.1");
    let begun = Instant::now();
    for (place, address, port) in [
        ("p5", "10.96.0.10", 80),
        ("p5", "10.96.7.7", 1234),
        (HOST, "10.96.0.10", 80),
        (HOST, "10.96.7.7", 1234),
        (OUTSIDE, lab::NODE, 30080),
        (OUTSIDE, "192.0.2.7", 80),
    ] {
        let refused = Err(ErrorKind::ConnectionRefused);
        assert_eq!(lab.ask(place, address, port), refused, "{place} {address}:{port}");
    }
    assert_eq!(lab.datagram("p5", "10.96.0.10", 80), Err(ErrorKind::ConnectionRefused));
    assert!(begun.elapsed() < lab::PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_find_pods_and_leave_those_that_go() {
    let Some(mut lab) = Lab::new("udp") else { return };
    lab.serve_datagrams("p5", 8080, "five");
    lab.serve_datagrams("p6", 8080, "six");
    lab.pod(5, true, false);
    lab.pod(6, false, false);
    let mut echo = service("10.96.0.10", &[5, 6]);
    echo["ports"] = json!([{ "port": 53, "protocol": "UDP", "node_port": 30053 }]);
    lab.list("echo", echo);
    lab.begin().await;
    let (inner, outer) = (
        lab.within("p6", || UdpSocket::bind("0.0.0.0:5000").unwrap()),
        lab.within(OUTSIDE, || UdpSocket::bind("0.0.0.0:5000").unwrap()),
    );
    assert_eq!(exchange(&inner, "10.96.0.10", 53).unwrap(), "five");
    assert_eq!(exchange(&outer, lab::NODE, 30053).unwrap(), "five");
    lab.pod(5, false, false);
    lab.pod(6, true, false);
    lab.feed().await;
    // From the same ports, which the kernel remembers to lead to the first pod.
    assert_eq!(exchange(&outer, lab::NODE, 30053).unwrap(), "six");
    assert_eq!(lab.datagram(HOST, "10.96.0.10", 53).unwrap(), "six");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_affinity_stays_with_its_pod_over_changes() {
    let Some(mut lab) = Lab::new("aff") else { return };
    two_pods(&mut lab);
    let mut sticky = service("10.96.0.10", &[5, 6]);
    sticky["affinity_seconds"] = json!(600);
    lab.list("web", sticky);
    lab.begin().await;
    let first = answered(&lab, HOST, "10.96.0.10", 80);
    assert_eq!(first.len(), 1);
    // Another service comes: whom a client is with is remembered.
    lab.list("other", service("10.96.0.11", &[5]));
    lab.feed().await;
    assert_eq!(answered(&lab, HOST, "10.96.0.10", 80), first);
    let left = if first.contains("five") { 5 } else { 6 };
    lab.pod(left, false, false);
    lab.feed().await;
    assert_ne!(answered(&lab, HOST, "10.96.0.10", 80), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_ready_are_led_to_only_where_that_is_wanted() {
    let Some(mut lab) = Lab::new("ready") else { return };
    two_pods(&mut lab);
    lab.pod(6, false, false);
    let mut all = service("10.96.0.12", &[6]);
    all["publish_not_ready"] = json!(true);
    lab.list("all", all);
    lab.begin().await;
    assert_eq!(answered(&lab, "p5", "10.96.0.10", 80), BTreeSet::from(["five".to_owned()]));
    assert_eq!(answered(&lab, "p5", "10.96.0.12", 80), BTreeSet::from(["six".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_service_leads_to_the_master() {
    let Some(mut lab) = Lab::new("api") else { return };
    lab.serve_at(HOST, [127, 0, 0, 1].into(), 7443, "master");
    let mut kubernetes = service("10.96.0.1", &[]);
    kubernetes["ports"] = json!([{ "name": "https", "port": 443 }]);
    kubernetes["backend"] = json!("Master");
    lab.list("kubernetes", kubernetes);
    lab.begin().await;
    assert_eq!(lab.ask("p5", "10.96.0.1", 443).unwrap(), "master 127.0.0.1");
    assert_eq!(lab.ask(HOST, "10.96.0.1", 443).unwrap(), "master 127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_services_are_put_in_place_and_one_flips_without_the_others() {
    let Some(mut lab) = Lab::new("many") else { return };
    lab.serve("p5", 8080, "five");
    lab.pod(5, true, false);
    lab.pod(6, true, false);
    for number in 0..1000u32 {
        let address =
            std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(10, 96, 1, 0)) + number);
        let mut large = service(&address.to_string(), &[5]);
        let endpoints: Vec<_> = (0..5).map(|port| endpoint(5, 8080 + port)).collect();
        large["backend"] = json!({ "Endpoints": endpoints });
        lab.list(&format!("s{number}"), large);
    }
    lab.list("web", service("10.96.0.10", &[5, 6]));
    lab.start();
    let begun = Instant::now();
    let applied = lab.feed().await;
    let whole = begun.elapsed();
    assert_eq!(applied.rules, None);
    lab.pod(6, false, false);
    let begun = Instant::now();
    lab.feed().await;
    let flip = begun.elapsed();
    eprintln!("1,000 services with 5 endpoints each: {whole:?}, a flip {flip:?}");
    assert!(answered(&lab, "p6", "10.96.0.10", 80).contains("five"));
}

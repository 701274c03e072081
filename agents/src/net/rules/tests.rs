//! Rules as the kernel gets them, from a directory.

use std::collections::BTreeSet;

use kgit_protocol::directory::Directory;
use kgit_protocol::pod::Protocol;
use serde_json::json;

use super::*;
use crate::net::choice::leads;
use crate::net::rules::ports::{HostPort, ports};
use crate::net::tests::{directory, endpoint, here, of};

fn rules_on(directory: &Directory, here: &Here, listening: &[HostPort]) -> Ruleset {
    let leads = leads(directory, here);
    let (ports, _) = ports(&leads, &listening.iter().copied().collect());
    let ground = Ground {
        here,
        service_range: directory.service_range,
        master_port: 6443,
        bridge_is_filtered: true,
    };
    ruleset(&leads, &ports, ground)
}

fn rules(directory: &Directory) -> Ruleset {
    rules_on(directory, &here(), &[])
}

/// What a service adds to the table of an empty directory.
fn added(directory: &Directory) -> String {
    text::change(&rules(&of(vec![])), &rules(directory))
}

fn web(more: serde_json::Value) -> Directory {
    let mut service = json!({
        "address": { "Cluster": "10.96.0.10" },
        "ports": [{ "name": "http", "port": 80 }],
        "backend": { "Endpoints": [endpoint("a", "10.40.1.5", 8080), endpoint("b", "10.40.1.6", 8080)] },
    });
    for (key, value) in more.as_object().unwrap() {
        service[key] = value.clone();
    }
    of(vec![("web", service)])
}

#[test]
fn the_table_without_services_refuses_their_range() {
    insta::assert_snapshot!(text::whole(&rules(&of(vec![]))));
}

#[test]
fn connections_go_to_ready_pods_by_chance() {
    insta::assert_snapshot!(added(&directory()));
}

#[test]
fn node_ports_and_other_addresses_lead_to_the_same_pods() {
    let more = json!({
        "ports": [{ "port": 80, "node_port": 30080 }],
        "external_addresses": ["192.0.2.7"],
        "on_node_addresses": true,
    });
    insta::assert_snapshot!(added(&web(more)));
}

#[test]
fn without_a_ready_pod_ways_from_outside_are_refused() {
    let more = json!({
        "ports": [{ "port": 80, "node_port": 30080 }],
        "external_addresses": ["192.0.2.7"],
        "backend": { "Endpoints": [endpoint("unready", "10.40.1.8", 8080), endpoint("gone", "10.40.1.9", 8080)] },
    });
    insta::assert_snapshot!(added(&web(more)));
}

#[test]
fn a_client_stays_with_its_pod_where_that_is_wanted() {
    insta::assert_snapshot!(added(&web(json!({ "affinity_seconds": 10800 }))));
}

#[test]
fn the_master_is_reached_through_this_process() {
    insta::assert_snapshot!(added(&web(json!({ "backend": "Master" }))));
}

#[test]
fn listed_addresses_count_unless_only_local_ones_may() {
    let listed = json!({
        "address": "192.168.7.7", "targets": [80], "ready": true, "serving": true,
    });
    let backend = json!({ "Endpoints": [listed, endpoint("a", "10.40.1.5", 8080)] });
    let ports = json!([{ "port": 80, "node_port": 30080 }]);
    let more = json!({ "ports": ports, "backend": backend, "external_traffic": "Local" });
    insta::assert_snapshot!(added(&web(more)));
}

#[test]
fn a_pod_that_is_being_stopped_serves_only_while_no_other_does() {
    let chosen = |pods: &[&str]| {
        let endpoints: Vec<_> = pods.iter().map(|pod| endpoint(pod, "10.0.0.1", 80)).collect();
        let directory = web(json!({ "backend": { "Endpoints": endpoints } }));
        match &leads(&directory, &here())[0].inner {
            Targets::Endpoints(targets) => {
                targets.iter().map(|target| target.at.ip().octets()[3]).collect::<Vec<_>>()
            }
            Targets::Master => panic!("not the master's"),
        }
    };
    assert_eq!(chosen(&["a", "ending"]), [5]);
    assert_eq!(chosen(&["unready", "ending"]), [7]);
    assert_eq!(chosen(&["unready"]), [0; 0]);
}

#[test]
fn a_readiness_flip_touches_that_service_alone() {
    let mut later = here();
    later.pods.get_mut(&"b".into()).unwrap().ready = false;
    let (before, after) = (rules(&directory()), rules_on(&directory(), &later, &[]));
    insta::assert_snapshot!(text::change(&before, &after));
}

#[test]
fn from_any_rules_to_any_others_and_back_nothing_is_left() {
    let (some, none) = (rules(&web(json!({ "affinity_seconds": 5 }))), rules(&of(vec![])));
    let there = text::change(&none, &some);
    let back = text::change(&some, &none);
    let made = there.lines().filter(|line| line.starts_with("add chain")).count();
    let gone = back.lines().filter(|line| line.starts_with("delete chain")).count();
    assert_eq!((made, gone), (3, 3));
    assert!(text::change(&some, &some).is_empty());
}

#[test]
fn a_port_that_a_program_has_is_not_taken_and_that_is_told() {
    let directory = web(json!({ "on_node_addresses": true }));
    let listening: BTreeSet<HostPort> = BTreeSet::from([(Protocol::Tcp, 80)]);
    let leads = leads(&directory, &here());
    let (given, troubles) = ports(&leads, &listening);
    assert!(given.is_empty());
    assert_eq!(troubles[0].reason, "PortInUse");
    // The same port of another protocol is another port.
    assert!(ports(&leads, &BTreeSet::from([(Protocol::Udp, 80)])).1.is_empty());
}

#[test]
fn two_services_on_one_port_are_told_apart() {
    let service = json!({
        "address": { "Cluster": "10.96.0.10" },
        "ports": [{ "port": 80 }],
        "backend": { "Endpoints": [] },
        "on_node_addresses": true,
    });
    let directory = of(vec![("a", service.clone()), ("b", service)]);
    let (_, troubles) = ports(&leads(&directory, &here()), &BTreeSet::new());
    let told: Vec<_> =
        troubles.iter().map(|told| (told.service.as_str(), told.reason.as_str())).collect();
    assert_eq!(told, [("default/b", "PortConflict")]);
}

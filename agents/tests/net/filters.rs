//! Filters of others on the host: what services need passes them, and nothing else.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kgit_agent::net::wire::Problem;
use serde_json::json;

use crate::firewalld::Firewalld;
use crate::lab::{GATEWAY, HOST, Lab, NODE, OUTSIDE, PATIENCE, pod, service, standing};
use crate::names::address_of;
use crate::two_pods;

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_drop_by_default_let_services_pass() {
    let Some(mut lab) = Lab::new("ufw") else { return };
    two_pods(&mut lab);
    let mut web = service("10.96.0.10", &[5, 6]);
    web["ports"] = json!([{ "name": "http", "port": 80, "node_port": 30080 }]);
    lab.list("web", web);
    lab.begin().await;
    lab.sh(
        HOST,
        "iptables -P INPUT DROP; iptables -P FORWARD DROP; iptables -A INPUT -i lo -j ACCEPT",
    );
    let all_work = |lab: &Lab| {
        lab.ask("p5", "10.96.0.10", 80).is_ok()
            && lab.ask(OUTSIDE, NODE, 30080).is_ok()
            && address_of(lab, "p5", GATEWAY, "web.default.svc.cluster.local").is_some()
    };
    lab.until("passing", || all_work(&lab));
    lab.sh(HOST, "iptables -F");
    lab.until("passing after a flush", || all_work(&lab));
    lab.sh(
        HOST,
        "iptables -I FORWARD 1 -o kgit-br -j DROP; iptables -I INPUT 1 -i kgit-br -j DROP",
    );
    lab.until("passing before what was put first", || all_work(&lab));
}

/// Ways that must stay open whatever a firewall drops; those that are not.
fn shut(lab: &Lab) -> Vec<&'static str> {
    let ways = [
        ("a pod to a service", lab.ask("p5", "10.96.0.10", 80).is_ok()),
        ("the host to a service", lab.ask(HOST, "10.96.0.10", 80).is_ok()),
        ("from outside to a node port", lab.ask(OUTSIDE, NODE, 30080).is_ok()),
        ("a pod to a pod", lab.ask("p5", &pod(6), 8080).is_ok()),
        ("a pod to the API", lab.ask("p5", "10.96.0.1", 443).is_ok()),
        (
            "a pod to names",
            address_of(lab, "p5", GATEWAY, "web.default.svc.cluster.local").is_some(),
        ),
    ];
    ways.iter().filter(|(_, open)| !open).map(|(way, _)| *way).collect()
}

/// As [`shut`] asks for it.
fn every_way(lab: &mut Lab) {
    lab.filter_bridge(true);
    two_pods(lab);
    let mut web = service("10.96.0.10", &[5, 6]);
    web["ports"] = json!([{ "name": "http", "port": 80, "node_port": 30080 }]);
    lab.list("web", web);
    lab.serve_at(HOST, [127, 0, 0, 1].into(), 7443, "master");
    let mut kubernetes = service("10.96.0.1", &[]);
    kubernetes["ports"] = json!([{ "name": "https", "port": 443 }]);
    kubernetes["backend"] = json!("Master");
    lab.list("kubernetes", kubernetes);
}

#[tokio::test(flavor = "multi_thread")]
async fn firewalld_lets_services_pass_over_its_start_and_reloads() {
    let Some(mut lab) = Lab::new("fwd") else { return };
    let Some(mut firewalld) = Firewalld::prepared(&lab.network(HOST)) else { return };
    every_way(&mut lab);
    lab.begin().await;
    lab.until("open", || shut(&lab).is_empty());
    firewalld.start();
    lab.serve(HOST, 8081, "host");
    let all_pass = |after: &str| {
        let begun = Instant::now();
        while !shut(&lab).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{:?} after {after}\n{}", shut(&lab), lab.log());
        }
        // Only kgit's own: the firewall does what it is there for.
        assert!(lab.ask(OUTSIDE, NODE, 8081).is_err() && lab.ask("p5", NODE, 8081).is_err());
    };
    all_pass("its start");
    for reload in ["--reload", "--complete-reload"] {
        firewalld.command(&[reload]);
        all_pass(reload);
    }
    let table = || lab.sh(HOST, "nft list table inet firewalld");
    assert!(table().contains("KGIT"));
    lab.remove();
    assert!(!standing(&lab).contains("KGIT") && !table().contains("KGIT"), "{}", table());
    assert!(table().contains("filter_IN_public"));
}

/// As newer firewalld has it: the kernel lets nobody but the owner change the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_firewalld_that_owns_its_table_is_told_of_until_the_bridge_has_a_zone() {
    let Some(mut lab) = Lab::new("owner") else { return };
    every_way(&mut lab);
    let mut owner = Command::new("nsenter")
        .arg(format!("--net={}", lab.network(HOST).display()))
        .args(["nft", "-i"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut orders = owner.stdin.take().unwrap();
    let chain = "type filter hook input priority 10";
    let rule = "iifname \"kgit-br\" udp dport 53 accept";
    writeln!(orders, "add table inet firewalld {{ flags owner ; }}").unwrap();
    writeln!(orders, "add chain inet firewalld filter_INPUT {{ {chain} ; }}").unwrap();
    lab.until("owned", || lab.sh(HOST, "nft list ruleset").contains("filter_INPUT"));
    lab.begin().await;
    let told = until_told(&mut lab, |ground| ground.is_some()).await.unwrap();
    assert_eq!(told.reason, "FiltersNotPassed");
    assert!(told.message.contains("--zone=trusted --add-interface=kgit-br"), "{}", told.message);
    writeln!(orders, "add rule inet firewalld filter_INPUT {rule}").unwrap();
    until_told(&mut lab, |ground| ground.is_none()).await;
    drop(orders);
    assert!(owner.wait().unwrap().success());
}

/// Feeds until what is told of the ground is as expected.
async fn until_told(lab: &mut Lab, is: impl Fn(Option<&Problem>) -> bool) -> Option<Problem> {
    let begun = Instant::now();
    loop {
        let applied = lab.feed().await;
        if is(applied.ground.as_ref()) {
            return applied.ground;
        }
        assert!(begun.elapsed() < PATIENCE, "told {:?}\n{}", applied.ground, lab.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_the_older_iptables_let_services_pass() {
    let Some(mut lab) = Lab::new("legacy") else { return };
    let tried = lab.sh(HOST, "iptables-legacy -S >/dev/null 2>&1 && echo tried || true");
    if tried.is_empty() {
        return crate::skip::not_tried("this host has no iptables of the older kind");
    }
    every_way(&mut lab);
    lab.begin().await;
    let open = |after: &str| {
        lab.until(&format!("open after {after}: {:?}", shut(&lab)), || shut(&lab).is_empty())
    };
    open("the start");
    for vandal in [
        "iptables-legacy -P INPUT DROP; iptables-legacy -P FORWARD DROP; \
         iptables-legacy -A INPUT -i lo -j ACCEPT; \
         iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "iptables-legacy -F; iptables-legacy -A INPUT -i lo -j ACCEPT",
        "iptables-legacy -t nat -F; iptables-legacy -t nat -X",
        "iptables-legacy -I FORWARD 1 -o kgit-br -j DROP; iptables-legacy -I INPUT 1 -i kgit-br -j DROP",
        "iptables-nft -P INPUT DROP; iptables-nft -P FORWARD DROP; \
         iptables-nft -A INPUT -i lo -j ACCEPT",
    ] {
        lab.sh(HOST, vandal);
        open(vandal);
    }
    lab.serve(HOST, 8081, "host");
    assert!(lab.ask("p5", NODE, 8081).is_err(), "the filter is not taken away");
    lab.remove();
    let left = lab.sh(HOST, "iptables-legacy -S; iptables-nft -S");
    assert!(left.contains("-P INPUT DROP") && !left.contains("KGIT"), "{left}");
}

//! Ports of the node itself: node ports, load balancers, external addresses.

use kgit_protocol::observation::ServiceTrouble;
use serde_json::json;

use crate::lab::{GATEWAY, HOST, Lab, NODE, OUTSIDE, service};

fn web_on_ports(lab: &mut Lab) {
    lab.serve("p5", 8080, "five");
    lab.pod(5, true, false);
    let mut web = service("10.96.0.10", &[5]);
    web["ports"] = json!([{ "name": "http", "port": 80, "node_port": 30080 }]);
    web["external_addresses"] = json!(["192.0.2.7"]);
    web["on_node_addresses"] = json!(true);
    lab.list("web", web);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ports_are_reached_from_everywhere() {
    let Some(mut lab) = Lab::new("np") else { return };
    web_on_ports(&mut lab);
    lab.begin().await;
    // A client outside is seen as who it is.
    assert_eq!(lab.ask(OUTSIDE, NODE, 30080).unwrap(), "five 10.210.0.2");
    assert_eq!(lab.ask(HOST, "127.0.0.1", 30080).unwrap(), format!("five {GATEWAY}"));
    for (place, address) in [(HOST, NODE), ("p6", NODE), ("p5", NODE), ("p6", GATEWAY)] {
        lab.until("answered", || lab.ask(place, address, 30080).is_ok());
    }
    assert!(lab.ask(OUTSIDE, NODE, 80).is_ok());
    lab.sh(OUTSIDE, "ip route add 192.0.2.7 via 10.210.0.1");
    assert!(lab.ask(OUTSIDE, "192.0.2.7", 80).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pod_reaches_the_hosts_loopback() {
    let Some(mut lab) = Lab::new("loop") else { return };
    web_on_ports(&mut lab);
    lab.serve_at(HOST, [127, 0, 0, 1].into(), 9000, "secret");
    lab.begin().await;
    lab.sh("p5", "ip route add 127.0.0.1/32 via 10.40.1.1 dev eth0 table local || true");
    lab.sh("p5", "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip addr flush dev lo");
    lab.sh("p5", "ip route flush table local dev lo; ip route replace 127.0.0.0/8 via 10.40.1.1");
    assert!(lab.ask("p5", "127.0.0.1", 9000).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_program_has_stays_the_programs() {
    let Some(mut lab) = Lab::new("inuse") else { return };
    lab.serve(HOST, 80, "program");
    web_on_ports(&mut lab);
    lab.start();
    let applied = lab.feed().await;
    let told: Vec<(&str, &str)> = applied.troubles.iter().map(words).collect();
    assert_eq!(told, [("default/web", "PortInUse")]);
    assert_eq!(lab.ask(OUTSIDE, NODE, 80).unwrap(), "program 10.210.0.2");
    assert!(lab.ask(OUTSIDE, NODE, 30080).unwrap().starts_with("five"));
}

fn words(trouble: &ServiceTrouble) -> (&str, &str) {
    (trouble.service.as_str(), &trouble.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_node_ports_work_and_the_rest_is_told() {
    let Some(mut lab) = Lab::new("user") else { return };
    lab.user = Some(65534);
    web_on_ports(&mut lab);
    lab.serve_datagrams("p5", 8081, "datagram");
    let mut echo = service("10.96.0.11", &[5]);
    echo["ports"] = json!([{ "port": 53, "protocol": "UDP", "node_port": 30053 }]);
    echo["backend"]["Endpoints"][0]["targets"] = json!([8081]);
    lab.list("echo", echo);
    lab.start();
    let applied = lab.feed().await;
    assert_eq!(applied.rules.unwrap().reason, "NotPermitted", "{}", lab.log());
    assert_eq!(applied.names.unwrap().reason, "NotPermitted");
    assert!(lab.ask(OUTSIDE, NODE, 30080).unwrap().starts_with("five"));
    assert_eq!(lab.datagram(OUTSIDE, NODE, 30053).unwrap(), "datagram");
    // Ports below 1024 are root's.
    let told: Vec<(&str, &str)> = applied.troubles.iter().map(words).collect();
    assert_eq!(told, [("default/web", "PortNotOpened")]);
    lab.pod(5, false, false);
    lab.feed().await;
    assert!(lab.ask(OUTSIDE, NODE, 30080).is_err());
    // There was nothing to take away, which is no failure.
    let dir = lab.data();
    let remove = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(kgit_agent::net::feeder::remove(&dir))
    };
    lab.within(HOST, remove).unwrap();
    lab.ended();
}

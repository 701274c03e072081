//! Services: their addresses, what is behind them at each moment, and what stands in their way.

use insta::assert_snapshot;
use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::service::ServiceState;
use kgit_protocol::directory::{ServiceAddress, ServiceName};
use kgit_protocol::observation::{NodeObservation, ServiceTrouble};

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::web;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: KIND
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

fn service(kind: &str) -> String {
    SERVICE.replace("KIND", kind)
}

fn state(cluster: &Cluster, name: &str) -> Option<ServiceState> {
    let key = ObjectKey::new(Kind::Service, "default", name);
    cluster.world().services.get(&key).map(|row| (*row.value).clone())
}

/// Each endpoint: its pod, and whether it is ready, serving, terminating.
fn endpoints(cluster: &Cluster) -> String {
    let state = state(cluster, "web").expect("the service is there");
    let shown = state.endpoints().map(|(endpoint, pod)| {
        let is = |flag: bool, word: &'static str| if flag { word } else { "-" };
        let node = endpoint.node.as_ref().map(ToString::to_string).unwrap_or_default();
        [
            pod.name.to_string(),
            node,
            format!("{:?}", endpoint.targets),
            is(endpoint.ready, "ready").to_owned(),
            is(endpoint.serving, "serving").to_owned(),
            is(pod.terminating, "terminating").to_owned(),
        ]
        .join(" ")
    });
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn endpoints_follow_the_pods() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("service.yaml", &service("ClusterIP"))]);
    cluster.settle();
    assert_snapshot!(endpoints(&cluster), @"
    web-dz6clcrlxq-mr2cq a [Some(8080)] - - -
    web-dz6clcrlxq-wlbpr a [Some(8080)] - - -
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(endpoints(&cluster), @"
    web-dz6clcrlxq-mr2cq a [Some(8080)] ready serving -
    web-dz6clcrlxq-wlbpr a [Some(8080)] ready serving -
    ");
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_snapshot!(endpoints(&cluster), @"
    web-dz6clcrlxq-mr2cq a [Some(8080)] - serving terminating
    web-dz6clcrlxq-wlbpr a [Some(8080)] ready serving -
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(endpoints(&cluster), @"web-dz6clcrlxq-wlbpr a [Some(8080)] ready serving -");
    cluster.ends_quietly();
}

#[test]
fn an_address_stays_and_comes_back_with_the_service() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("service.yaml", &service("NodePort"))]);
    cluster.settle();
    let first = state(&cluster, "web").unwrap().service;
    assert!(matches!(first.address, ServiceAddress::Cluster(_)));
    assert!(first.ports[0].node_port.is_some());
    cluster.commit(&[("service.yaml", &service("NodePort").replace("8080", "8081"))]);
    cluster.settle();
    let second = state(&cluster, "web").unwrap().service;
    assert_eq!((&second.address, &second.ports), (&first.address, &first.ports));
    assert_ne!(second.backend, first.backend);
    cluster.commit(&[("service.yaml", "")]);
    cluster.settle();
    assert_eq!(state(&cluster, "web"), None);
    cluster.commit(&[("service.yaml", &service("NodePort"))]);
    cluster.settle();
    assert_eq!(state(&cluster, "web").unwrap().service, first);
}

#[test]
fn an_address_or_a_port_that_is_taken_is_waited_for() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = |name: &str| {
        service("NodePort")
            .replace("name: web", &format!("name: {name}"))
            .replace("  type", "  clusterIP: 10.16.0.9\n  type")
            .replace("targetPort", "nodePort: 30123, targetPort")
    };
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("a.yaml", &asks("a"))]);
    cluster.settle();
    assert!(state(&cluster, "a").is_some());
    cluster.commit(&[("b.yaml", &asks("b"))]);
    cluster.settle();
    assert_eq!(state(&cluster, "b"), None);
    assert_snapshot!(cluster.waits().join("\n"), @"Service/default/b waits for the address 10.16.0.9, which another service has");
    cluster.commit(&[("a.yaml", "")]);
    cluster.settle();
    assert!(state(&cluster, "b").is_some());
    assert_eq!(cluster.waits(), Vec::<String>::new());
}

#[test]
fn what_stands_in_a_services_way_is_said() {
    let mut cluster = Cluster::new(&["a"]);
    let nobody = service("ClusterIP").replace("app: web", "app: nobody");
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("service.yaml", &nobody)]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Service/default/web waits for a pod with the labels app=nobody; there is none");
    let named = service("ClusterIP").replace("targetPort: 8080", "targetPort: http");
    cluster.commit(&[("service.yaml", &named)]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Service/default/web waits for pod `web-dz6clcrlxq-mr2cq` to have a port named `http`");
    cluster.commit(&[("service.yaml", &service("LoadBalancer"))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"");
    let world = cluster.world();
    let pod = world.pods.values().next().unwrap();
    let mut silent = (**pod.observed.as_ref().unwrap()).clone();
    silent.silent_ports = vec![8080];
    cluster.report("a", None, vec![silent.clone()]);
    let trouble = ServiceTrouble {
        service: ServiceName::new("default", "web"),
        reason: "PortInUse".to_owned(),
        message: "port 80 is another program's".to_owned(),
    };
    let about = world.nodes.values().next().unwrap().observed.clone();
    let troubled = NodeObservation { service_troubles: vec![trouble], ..about.clone() };
    cluster.report("a", Some(troubled), Vec::new());
    assert_snapshot!(cluster.waits().join("\n"), @"
    Service/default/web waits for something to listen on port 8080 of pod `web-dz6clcrlxq-mr2cq`; nothing does
    Service/default/web waits for node a: port 80 is another program's
    ");
    silent.silent_ports.clear();
    cluster.report("a", Some(about), vec![silent]);
    assert_snapshot!(cluster.waits().join("\n"), @"");
}

#[test]
fn a_pod_on_a_node_that_is_not_heard_of_is_not_ready() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("service.yaml", &service("ClusterIP"))]);
    cluster.settle();
    cluster.lost.insert("a".to_owned());
    cluster.pass(std::time::Duration::from_secs(60));
    assert_snapshot!(endpoints(&cluster), @"web-dz6clcrlxq-mr2cq a [Some(8080)] - - -");
}

#[test]
fn the_api_is_at_the_first_address() {
    let cluster = Cluster::new(&["a"]);
    let state = state(&cluster, "kubernetes").unwrap();
    let first = "10.16.0.1".parse().unwrap();
    assert_eq!(state.service.address, ServiceAddress::Cluster(first));
    assert_eq!(state.service.ports[0].port, 443);
}

#[test]
fn a_service_whose_workload_is_to_have_no_pods_misses_none() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 0)), ("service.yaml", &service("ClusterIP"))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"");
    cluster.ends_quietly();
}

#[test]
fn a_load_balancer_is_reached_at_the_nodes_that_are_not_lost() {
    let mut cluster = Cluster::new(&["a", "b"]);
    for (node, address) in [("a", "192.0.2.1"), ("b", "192.0.2.2")] {
        let rows = cluster.world().nodes;
        let row = rows.values().find(|row| row.name.as_str() == node).unwrap();
        let mut about = row.observed.clone();
        about.facts.addresses = vec![address.to_owned()];
        cluster.report(node, Some(about), Vec::new());
    }
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("service.yaml", &service("LoadBalancer"))]);
    cluster.settle();
    assert_eq!(state(&cluster, "web").unwrap().ingress, ["192.0.2.1", "192.0.2.2"]);
    cluster.lost.insert("a".to_owned());
    cluster.pass(std::time::Duration::from_secs(60));
    assert_eq!(state(&cluster, "web").unwrap().ingress, ["192.0.2.2"]);
}

#[test]
fn a_headless_service_has_no_address_and_leads_to_its_pods_all_the_same() {
    let mut cluster = Cluster::new(&["a"]);
    let headless = service("ClusterIP").replace("  type", "  clusterIP: None\n  type");
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("service.yaml", &headless)]);
    cluster.settle();
    assert_eq!(state(&cluster, "web").unwrap().service.address, ServiceAddress::Headless);
    assert_snapshot!(endpoints(&cluster), @"web-dz6clcrlxq-mr2cq a [Some(8080)] ready serving -");
    cluster.ends_quietly();
}

#[test]
fn a_port_of_the_nodes_is_one_services_alone_and_one_of_its_ports_alone() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = |name: &str| {
        service("NodePort")
            .replace("name: web", &format!("name: {name}"))
            .replace("targetPort", "nodePort: 30123, targetPort")
    };
    cluster.commit(&[
        ("web.yaml", &web("web:1", 1)),
        ("a.yaml", &asks("a")),
        ("b.yaml", &asks("b")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Service/default/b waits for node port 30123, which another service has");
    let two =
        "ports: [{name: one, port: 80, targetPort: 8080}, {name: two, port: 81, targetPort: 8081}]";
    let two = service("NodePort").replace("ports: [{port: 80, targetPort: 8080}]", two);
    cluster.commit(&[("b.yaml", ""), ("two.yaml", &two)]);
    cluster.settle();
    let ports = state(&cluster, "web").unwrap().service.ports;
    let given: std::collections::BTreeSet<u16> =
        ports.iter().filter_map(|port| port.node_port).collect();
    assert_eq!(given.len(), 2, "{ports:?}");
    cluster.ends_quietly();
}

#[test]
fn a_port_of_the_nodes_stays_with_its_port_whatever_comes_beside_it() {
    let mut cluster = Cluster::new(&["a"]);
    let with = |ports: &str| {
        let old = "ports: [{port: 80, targetPort: 8080}]";
        service("NodePort").replace(old, &format!("ports: [{ports}]"))
    };
    let on_nodes = |cluster: &Cluster| -> Vec<(u16, u16)> {
        let ports = state(cluster, "web").unwrap().service.ports;
        ports.iter().map(|port| (port.port, port.node_port.unwrap())).collect()
    };
    let two = with("{name: one, port: 80}, {name: two, port: 81}");
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("s.yaml", &two)]);
    cluster.settle();
    let before = on_nodes(&cluster);
    cluster.commit(&[(
        "s.yaml",
        &with("{name: two, port: 81}, {name: six, port: 86}, {name: one, port: 80}"),
    )]);
    cluster.settle();
    let after = on_nodes(&cluster);
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|port| after.contains(port)), "{before:?} {after:?}");
    // What another of its ports asks for is that one's.
    let (_, had) = before[0];
    let asks = format!("{{name: one, port: 80}}, {{name: two, port: 81, nodePort: {had}}}");
    cluster.commit(&[("s.yaml", &with(&asks))]);
    cluster.settle();
    let after = on_nodes(&cluster);
    assert_eq!(after[1], (81, had));
    assert_ne!(after[0].1, had);
    cluster.ends_quietly();
}

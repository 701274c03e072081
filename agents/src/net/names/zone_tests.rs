//! What each kind of name means, as a table.

use kgit_protocol::directory::{Backend, ListedService, ServiceName};
use serde_json::json;

use crate::net::names::zone::{Answer, Data, Kind, Zone};
use crate::net::tests::{directory, here};

fn zone() -> Zone {
    Zone::new(&directory(), &here())
}

fn check(question: &str, expected: &str) {
    let (name, kind) = question.split_once(' ').unwrap();
    let kind = match kind {
        "A" => Kind::Address,
        "SRV" => Kind::Port,
        "PTR" => Kind::Pointer,
        "CNAME" => Kind::Alias,
        "ANY" => Kind::Any,
        _ => Kind::Other,
    };
    let word = |data: &Data| match data {
        Data::Address(address) => address.to_string(),
        Data::Alias(name) | Data::Pointer(name) => name.clone(),
        Data::Port { port, target } => format!("{port} at {target}"),
    };
    let answer = match zone().answer(name, kind) {
        Answer::Data(data) => data.iter().map(word).collect::<Vec<_>>().join(", "),
        Answer::Alias(name) => format!("as {name}"),
        Answer::NoData => "no data".to_owned(),
        Answer::NoName => "no name".to_owned(),
        Answer::Elsewhere => "elsewhere".to_owned(),
    };
    assert_eq!(answer, expected, "{question}");
}

#[test]
fn services_and_their_pods_have_kubernetes_names() {
    check("web.default.svc.cluster.local A", "10.96.0.10");
    check("WEB.Default.svc.cluster.local A", "10.96.0.10");
    check("web.default.svc.cluster.local AAAA", "no data");
    check("_http._tcp.web.default.svc.cluster.local SRV", "80 at web.default.svc.cluster.local");
    check("_http._udp.web.default.svc.cluster.local SRV", "no name");
    check("web.other.svc.cluster.local A", "no name");
    check("db.default.svc.cluster.local A", "10.40.1.5, 10.40.1.6");
    check("db-0.db.default.svc.cluster.local A", "10.40.1.5");
    check("10-40-1-6.db.default.svc.cluster.local A", "10.40.1.6");
    check(
        "_sql._tcp.db.default.svc.cluster.local SRV",
        "5432 at 10-40-1-6.db.default.svc.cluster.local, 5432 at db-0.db.default.svc.cluster.local",
    );
    check("10-1-2-3.default.pod.cluster.local A", "10.1.2.3");
    check("10-1-2.default.pod.cluster.local A", "no name");
    check("far.default.svc.cluster.local A", "as www.example.com");
    check("far.default.svc.cluster.local CNAME", "www.example.com");
}

#[test]
fn a_name_above_others_is_known_and_has_nothing() {
    for name in ["cluster.local", "svc.cluster.local", "default.svc.cluster.local"] {
        check(&format!("{name} A"), "no data");
    }
    check("_tcp.web.default.svc.cluster.local A", "no data");
    check("empty.default.svc.cluster.local A", "no data");
    check("nobody.default.svc.cluster.local A", "no name");
    check("default.svc.cluster.local.example.com A", "elsewhere");
    check("mycluster.local A", "elsewhere");
}

#[test]
fn addresses_have_names_and_others_are_left_to_others() {
    check("10.0.96.10.in-addr.arpa PTR", "web.default.svc.cluster.local");
    check("5.1.40.10.in-addr.arpa PTR", "db-0.db.default.svc.cluster.local");
    check("9.9.96.10.in-addr.arpa PTR", "no name");
    check("1.1.1.1.in-addr.arpa PTR", "elsewhere");
}

#[test]
fn a_pod_that_is_not_ready_is_named_only_where_that_is_wanted() {
    let mut directory = directory();
    let name = ServiceName::new("default", "db");
    let mut listed = directory.services[&name].clone();
    listed.service.publish_not_ready = true;
    if let Backend::Endpoints(endpoints) = &mut listed.service.backend {
        let mut lost = endpoints[0].clone();
        (lost.address, lost.hostname) = ("10.40.1.9".parse().unwrap(), Some("db-9".to_owned()));
        lost.pod = Some("unready".into());
        endpoints.push(lost);
    }
    let mut here = here();
    let pod = json!({ "address": "10.40.1.9", "ready": false });
    here.pods.insert("unready".into(), serde_json::from_value(pod).unwrap());
    let digest = listed.service.digest();
    directory.services.insert(name.clone(), ListedService { digest, ..listed.clone() });
    let asked = "db-9.db.default.svc.cluster.local";
    let known = Zone::new(&directory, &here).answer(asked, Kind::Address);
    assert_eq!(known, Answer::Data(vec![Data::Address("10.40.1.9".parse().unwrap())]));
    listed.service.publish_not_ready = false;
    directory.services.insert(name, listed);
    assert_eq!(Zone::new(&directory, &here).answer(asked, Kind::Address), Answer::NoName);
}

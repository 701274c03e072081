//! A small cluster that tests of `net` share.

use kgit_protocol::directory::{Directory, ListedService, Service, ServiceName};
use serde_json::{Value, json};

use crate::net::wire::Here;

/// Two ready pods, one that is being stopped, one that is not ready.
pub(crate) fn here() -> Here {
    serde_json::from_value(json!({
        "table": "kgit_1_2", "node": "one", "bridge": "kgit-br", "gateway": "10.40.1.1",
        "pod_range": "10.40.1.0/24", "master": "192.168.1.2:7443",
        "pods": {
            "a": { "address": "10.40.1.5", "ready": true },
            "b": { "address": "10.40.1.6", "ready": true },
            "ending": { "address": "10.40.1.7", "ready": true, "terminating": true },
            "unready": { "address": "10.40.1.8", "ready": false },
        },
    }))
    .unwrap()
}

pub(crate) fn endpoint(pod: &str, address: &str, port: u16) -> Value {
    json!({
        "address": address, "node": "one", "pod": pod, "targets": [port],
        // What the master thinks does not count for pods of this node.
        "ready": false, "serving": false,
    })
}

pub(crate) fn service(value: Value) -> ListedService {
    let service: Service = serde_json::from_value(value).unwrap();
    ListedService { digest: service.digest(), service }
}

pub(crate) fn of(services: Vec<(&str, Value)>) -> Directory {
    let services = services
        .into_iter()
        .map(|(name, value)| (ServiceName::new("default", name), service(value)))
        .collect();
    let mut directory = Directory {
        digest: kgit_protocol::ids::Digest::new(""),
        domain: "cluster.local".to_owned(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        services,
    };
    directory.digest = directory.content_digest();
    directory
}

/// A service with a cluster address, a headless one, one that has nobody, one that is elsewhere.
pub(crate) fn directory() -> Directory {
    let mut first = endpoint("a", "10.40.1.5", 5432);
    first["hostname"] = json!("db-0");
    of(vec![
        (
            "web",
            json!({
                "address": { "Cluster": "10.96.0.10" },
                "ports": [{ "name": "http", "port": 80 }],
                "backend": { "Endpoints": [endpoint("a", "10.40.1.5", 8080), endpoint("b", "10.40.1.6", 8080)] },
            }),
        ),
        (
            "db",
            json!({
                "address": "Headless",
                "ports": [{ "name": "sql", "port": 5432 }],
                "backend": { "Endpoints": [first, endpoint("b", "10.40.1.6", 5432)] },
            }),
        ),
        ("empty", json!({ "address": "Headless", "backend": { "Endpoints": [] } })),
        (
            "far",
            json!({
                "address": { "ExternalName": "www.example.com" },
                "backend": { "Endpoints": [] },
            }),
        ),
    ])
}

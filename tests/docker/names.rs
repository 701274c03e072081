//! What a pod resolves and reaches: services by every name that they have, one pod by its own, itself by way of its
//! service, the API, and the world outside.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;
use crate::engine::Container;
use crate::load::enter;
use crate::own_engine::OwnEngine;
use crate::ran::Ran;

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: back}
---
apiVersion: v1
kind: Pod
metadata: {name: asker, labels: {app: asker}}
spec: {containers: [{name: asker, image: 'kgit-test/polite:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: asker}
spec: {selector: {app: asker}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: back, labels: {app: db}}
spec: {hostname: db-0, subdomain: db, containers: [{name: db, image: 'kgit-test/polite:1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: back, labels: {app: db}}
spec: {hostname: db-1, subdomain: db, containers: [{name: db, image: 'kgit-test/polite:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: back}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: back}
spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: www.example.org}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
";

/// Answers every question for an address with one and the same, on a host's network, until the test ends.
fn serve_names(network: &Path, address: Ipv4Addr) {
    let network = network.to_owned();
    std::thread::spawn(move || {
        enter(&network);
        let socket = UdpSocket::bind((address, 53)).expect("nothing else serves names there");
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&answered(&question[..length], address), from);
        }
    });
}

/// RFC 1035: the question again, with one answer of type A, class IN, for a minute.
fn answered(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let is_a = question[end - 4..end] == [0, 1, 0, 1];
    let mut answer = question[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

struct Pod {
    cluster: Cluster,
    own: OwnEngine,
    asker: Container,
}

impl Pod {
    fn says(&self, script: &str) -> Ran {
        self.own.engine.try_docker(&["exec", self.asker.id(), "sh", "-c", script])
    }

    /// Whose web server answers at this address.
    fn asks(&self, url: &str) -> String {
        let ran = self.says(&format!("timeout 5 wget -qO- http://{url}/"));
        format!("{}{}", ran.out.trim(), ran.err.trim())
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        let ran = self.says(&format!("nslookup {name}"));
        let answer = ran.out.split("\n\n").skip(1).collect::<Vec<_>>().join("\n");
        let mut found: Vec<String> = answer
            .lines()
            .filter_map(|line| line.strip_prefix("Address: "))
            .map(|address| address.trim().to_owned())
            .collect();
        found.sort();
        found
    }

    fn service(&self, name: &str) -> String {
        let service = self.cluster.object("services", name).expect("the service is there");
        service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned()
    }

    fn pod_address(&self, name: &str) -> String {
        let pod = self.cluster.object("pods", name).expect("the pod is there");
        pod["status"]["podIP"].as_str().expect("it has an address").to_owned()
    }
}

#[test]
fn a_pod_resolves_and_reaches_what_it_should() {
    let Some(own) = OwnEngine::new("names", &["kgit-test/polite:1"]) else { return };
    let outside = own.hosts.address("two");
    serve_names(&own.hosts.network("two"), outside.parse().expect("an address"));
    own.hosts.resolver("one", &outside);
    let cluster = Cluster::up_on(&own.hosts, "one", &[("pods.yaml", PODS)]);
    for pod in ["asker", "back/db-0", "back/db-1"] {
        cluster.until_ready(pod);
    }
    let asker = cluster.running("asker").remove(0);
    let pod = Pod { cluster, own, asker };
    services_by_their_names(&pod);
    pods_by_their_own_names(&pod);
    the_world_outside(&pod, &outside);
    what_is_not_there_is_refused_at_once(&pod);
    the_api(&pod);
}

fn services_by_their_names(pod: &Pod) {
    // Its bare name is its own address, as `/etc/hosts` has it.
    assert_eq!(pod.asks("asker.default"), "asker", "itself, by way of its service");
    for name in ["shop.back", "shop.back.svc", "shop.back.svc.cluster.local"] {
        let answer = pod.asks(name);
        assert!(answer.starts_with("db-"), "{name}: {answer}");
    }
    let full = "shop.back.svc.cluster.local";
    assert_eq!(pod.addresses(full), [pod.service("back/shop")]);
    let reverse = pod.says(&format!("nslookup {}", pod.service("back/shop")));
    assert!(reverse.out.contains(full), "{reverse}");
    let both: std::collections::BTreeSet<String> = (0..20).map(|_| pod.asks("shop.back")).collect();
    assert_eq!(both.len(), 2, "both pods have their share: {both:?}");
}

fn pods_by_their_own_names(pod: &Pod) {
    let mut both = [pod.pod_address("back/db-0"), pod.pod_address("back/db-1")];
    both.sort();
    assert_eq!(pod.addresses("db.back.svc.cluster.local"), both, "a headless service is its pods");
    assert_eq!(pod.asks("db-0.db.back:8080"), "db-0");
    assert_eq!(pod.asks("db-1.db.back:8080"), "db-1");
    let whole = pod.cluster.kgit(&["exec", "-n", "back", "db-0", "--", "hostname", "-f"]);
    assert_eq!(whole.out.trim(), "db-0.db.back.svc.cluster.local");
    let dashed = pod.pod_address("back/db-0").replace('.', "-");
    assert_eq!(pod.asks(&format!("{dashed}.back.pod.cluster.local:8080")), "db-0");
}

fn the_world_outside(pod: &Pod, outside: &str) {
    assert_eq!(pod.addresses("www.example.org"), [outside]);
    assert_eq!(pod.addresses("elsewhere.default.svc.cluster.local"), [outside], "an ExternalName");
}

fn what_is_not_there_is_refused_at_once(pod: &Pod) {
    let began = std::time::Instant::now();
    let answer = pod.asks("nobody");
    assert!(answer.contains("refused"), "{answer}");
    // Far from any timeout: a packet that is dropped is tried again after a second.
    assert!(began.elapsed().as_secs() < 5, "after {:?}", began.elapsed());
    let unknown = pod.says("nslookup missing.default.svc.cluster.local");
    assert!(unknown.out.contains("NXDOMAIN"), "{unknown}");
}

/// Over TLS from end to end: who asks from the pod's network sees the master's certificate.
fn the_api(pod: &Pod) {
    let environment = pod.says("echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT");
    let address = environment.out.trim().to_owned();
    assert_eq!(address, format!("{}:443", pod.service("kubernetes")));
    assert_eq!(pod.addresses("kubernetes.default.svc.cluster.local"), [pod.service("kubernetes")]);
    let network = format!("--net=/proc/{}/ns/net", pod.asker.at("/State/Pid"));
    let answer = Ran::of(Command::new("nsenter").arg(network).args([
        "curl",
        "-sS",
        "--max-time",
        "5",
        "--cacert",
        &pod.cluster.data().join("pki/ca.crt").display().to_string(),
        "--resolve",
        &format!("kubernetes.default.svc:443:{}", pod.service("kubernetes")),
        "https://kubernetes.default.svc/healthz",
    ]));
    assert_eq!(answer.out, "ok", "{answer}");
}

//! Traffic to services while pods come and go, on a host of its own: kernel rules are the host's, never this machine's.
//!
//! `KGIT_TRAFFIC=full` makes twenty rollouts and twenty scale-downs of it.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::cluster::Cluster;
use crate::hosts::Hosts;
use crate::load::Load;
use crate::skip::not_tried;

/// Rollouts, and scale-downs, in CI.
const ROUNDS: usize = 2;

pub const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: kgit-test/polite:1
        env: [{name: ROUND, value: 'round 0'}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";

/// A cluster on a host called `shop`, with the web shop up.
fn shop(set: &str) -> Option<(Rc<Hosts>, Cluster)> {
    if !rustix::process::geteuid().is_root() {
        not_tried("network namespaces need root");
        return None;
    }
    let hosts = Rc::new(Hosts::new(set, &["shop"], &[]));
    hosts.engine("shop");
    hosts.load("shop", &["kgit-test/polite:1", "kgit-test/busybox:1"]);
    let cluster = Cluster::up_on(&hosts, "shop", &[("web.yaml", WEB)]);
    cluster.until("three pods are ready", || ready(&cluster, 3));
    Some((hosts, cluster))
}

pub fn ready(cluster: &Cluster, count: u64) -> Option<()> {
    let web = cluster.object("deployments", "web")?;
    let status = &web["status"];
    let settled = ["replicas", "updatedReplicas", "availableReplicas"]
        .iter()
        .all(|field| status[field] == count);
    let current = status["observedGeneration"] == web["metadata"]["generation"];
    (settled && current && cluster.running("web-").len() as u64 == count).then_some(())
}

/// Where the service is reached: its own address, and the node's port.
fn addresses(hosts: &Hosts, cluster: &Cluster) -> Vec<SocketAddr> {
    let service = cluster.object("services", "web").expect("the service is there");
    let own = service["spec"]["clusterIP"].as_str().expect("it has an address");
    [format!("{own}:80"), format!("{}:30080", hosts.address("shop"))]
        .iter()
        .map(|address| address.parse().expect("an address and a port"))
        .collect()
}

#[test]
fn no_request_is_lost_in_rollouts_and_scale_downs() {
    let Some((hosts, cluster)) = shop("traffic") else { return };
    let rounds = match std::env::var("KGIT_TRAFFIC").as_deref() {
        Ok("full") => 20,
        _ => ROUNDS,
    };
    let load = Load::start(&hosts.network("shop"), &addresses(&hosts, &cluster));
    cluster.until("answers", || (load.answered() > 100).then_some(()));
    for round in 1..=rounds {
        let rolled = WEB.replace("round 0", &format!("round {round}"));
        cluster.write("web.yaml", &rolled);
        cluster
            .until("the new revision runs", || of_round(&cluster, round).and(ready(&cluster, 3)));
        cluster.write("web.yaml", &rolled.replace("replicas: 3", "replicas: 1"));
        cluster.until("one pod is left", || ready(&cluster, 1));
        cluster.write("web.yaml", &rolled);
        cluster.until("three again", || ready(&cluster, 3));
    }
    let outcome = load.stop();
    println!(
        "{rounds} rollouts and {rounds} scale-downs: {} answers, {:.0} a second, {} lost",
        outcome.answered,
        outcome.a_second(),
        outcome.lost.len()
    );
    assert!(outcome.lost.is_empty(), "{:#?}", outcome.lost);
}

fn of_round(cluster: &Cluster, round: usize) -> Option<()> {
    let web = cluster.object("deployments", "web")?;
    let value = web.pointer("/spec/template/spec/containers/0/env/0/value")?;
    (*value == *format!("round {round}")).then_some(())
}

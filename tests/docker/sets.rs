//! Pods with names and data of their own, and pods on every host.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::face::{Face, is_ready, list};
use crate::hosts::Hosts;
use crate::office::Office;
use crate::own_engine::OwnEngine;
use crate::skip::not_tried;

const DB: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: db
        image: kgit-test/web:1
        command: [sh, -c, 'test -e /data/first || hostname >/data/first; exec serve 8080']
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 16Mi}}
";

const LOG: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log}
spec:
  selector: {matchLabels: {app: log}}
  template:
    metadata: {labels: {app: log}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: log
        image: kgit-test/web:1
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
";

const IMAGES: &[&str] = &["kgit-test/web:1", "kgit-test/web:2"];

#[test]
fn a_stateful_sets_identities_and_data_survive_a_restart_of_everything() {
    let Some(own) = OwnEngine::new("sets", IMAGES) else { return };
    let mut cluster = Cluster::up_on(&own.hosts, "one", &[("db.yaml", DB)]);
    let before = until_settled(&cluster, "kgit-test/web:1", 2);
    each_knows_its_own_name(&cluster, &own);
    cluster.kill();
    own.end(&own.dockerd(), "TERM");
    own.start();
    cluster.start();
    let after = until_settled(&cluster, "kgit-test/web:1", 2);
    assert_eq!(after, before, "pods and claims are the same after the restart");
    each_knows_its_own_name(&cluster, &own);
    an_update_keeps_the_data(&cluster, &own, &after);
    a_pod_that_somebody_ends_is_replaced_under_its_name(&cluster, &own);
    what_a_smaller_set_leaves_is_removed_on_order_alone(&cluster, &own);
}

/// The uids of pods and claims, once all pods run that image.
fn until_settled(cluster: &Cluster, image: &str, pods: usize) -> BTreeMap<String, String> {
    cluster.until(&format!("{pods} pods of {image}"), || {
        let there = cluster.objects("pods");
        let of_image = |pod: &serde_json::Value| pod["spec"]["containers"][0]["image"] == image;
        let good = there.iter().all(|pod| is_ready(pod) && of_image(pod));
        (good && there.len() == pods).then_some(())
    });
    cluster.until_quiet();
    let all = cluster.objects("pods").into_iter().chain(cluster.objects("pvc"));
    all.map(|object| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        (text("name"), text("uid"))
    })
    .collect()
}

/// In the file that only the first of its lives wrote, in its hostname, and in the DNS.
fn each_knows_its_own_name(cluster: &Cluster, own: &OwnEngine) {
    for (name, other) in [("db-0", "db-1"), ("db-1", "db-0")] {
        // What is known of it may be from before everything was restarted.
        let runs = || cluster.running(name).into_iter().next();
        let pod = cluster.until(&format!("{name} runs"), runs);
        let says = |script: &str| own.engine.try_docker(&["exec", pod.id(), "sh", "-c", script]);
        let ran = says("cat /data/first; hostname");
        assert_eq!((ran.code, ran.out.as_str()), (0, &*format!("{name}\n{name}\n")), "{ran}");
        let ask = format!("timeout 5 wget -qO /dev/null http://{other}.db:8080/healthz");
        // After the engine's own restart its network takes a moment.
        cluster.until(&format!("{name} reaches {other} by its name"), || {
            (says(&ask).code == 0).then_some(())
        });
    }
}

fn an_update_keeps_the_data(cluster: &Cluster, own: &OwnEngine, old: &BTreeMap<String, String>) {
    cluster.write("db.yaml", &DB.replace("kgit-test/web:1", "kgit-test/web:2"));
    let new = until_settled(cluster, "kgit-test/web:2", 2);
    assert_ne!(new["db-0"], old["db-0"], "another image is another pod");
    assert_eq!(new["data-db-0"], old["data-db-0"]);
    each_knows_its_own_name(cluster, own);
    let status = cluster.kubectl(&["rollout", "status", "statefulset/db", "--timeout=30s"]);
    assert_eq!(status.code, 0, "{status}");
    assert_eq!(revisions(cluster, "statefulset/db"), ["1", "2"]);
}

fn a_pod_that_somebody_ends_is_replaced_under_its_name(cluster: &Cluster, own: &OwnEngine) {
    let old = until_settled(cluster, "kgit-test/web:2", 2);
    let ended = cluster.kubectl(&["delete", "pod", "db-1", "--timeout=60s"]);
    assert_eq!(ended.code, 0, "{ended}");
    let new = until_settled(cluster, "kgit-test/web:2", 2);
    assert_ne!(new["db-1"], old["db-1"]);
    assert_eq!((&new["db-0"], &new["data-db-1"]), (&old["db-0"], &old["data-db-1"]));
    each_knows_its_own_name(cluster, own);
    let why = cluster.kgit(&["why", "pod/db-1"]);
    assert!(why.out.contains("ordered it"), "{why}");
}

/// The numbers that `kubectl rollout history` lists.
fn revisions(face: &Face, set: &str) -> Vec<String> {
    let history = face.kubectl(&["rollout", "history", set]);
    assert_eq!(history.code, 0, "{history}");
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let numbers = history.out.lines().filter_map(first);
    numbers.filter(|word| word.chars().all(|letter| letter.is_ascii_digit())).collect()
}

fn what_a_smaller_set_leaves_is_removed_on_order_alone(cluster: &Cluster, own: &OwnEngine) {
    let volumes = || own.engine.docker(&["volume", "ls", "-q"]).lines().count();
    let before = volumes();
    let smaller = DB.replace("kgit-test/web:1", "kgit-test/web:2");
    cluster.write("db.yaml", &smaller.replace("replicas: 2", "replicas: 1"));
    let left = until_settled(cluster, "kgit-test/web:2", 1);
    assert!(left.contains_key("data-db-1"), "its claim stays: {left:?}");
    let listed = cluster.kgit(&["status"]);
    let kept = listed.out.lines().filter(|line| line.contains("kept without a manifest"));
    let kept: Vec<&str> = kept.collect();
    assert!(kept.len() == 1 && kept[0].contains("data-db-1"), "{listed}");
    let pruned = cluster.kgit(&["prune", "PersistentVolumeClaim/default/data-db-1", "--yes"]);
    assert_eq!(pruned.code, 0, "{pruned}");
    cluster.until("its volume is gone", || (volumes() == before - 1).then_some(()));
}

#[test]
fn a_daemon_set_runs_on_every_host_and_on_one_that_joins_later() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("network namespaces need root");
    }
    let mut office = Office::open(Hosts::new("daemons", &["office"], &["shop", "van"]));
    let shop = office.join("shop", IMAGES);
    office.repo.write("log.yaml", LOG);
    let commit = office.repo.commit("a log on every host");
    office.repo.push();
    office.face.until_done(&commit);
    assert_eq!(office.agents[shop].running("log-").len(), 1, "{}", office.face.account());
    let van = office.join("van", IMAGES);
    office.face.until("a pod on the host that joined", || {
        (ready_on(&office.face) == ["shop", "van"]).then_some(())
    });
    office.repo.edit("log.yaml", "kgit-test/web:1", "kgit-test/web:2").commit("log 2");
    office.repo.push();
    office.face.until("the new revision on both hosts", || {
        let new = |agent: usize| {
            let running = office.agents[agent].running("log-");
            running.len() == 1 && running[0].text("/Config/Image") == "kgit-test/web:2"
        };
        (new(shop) && new(van)).then_some(())
    });
    let status = office.face.kubectl(&["rollout", "status", "daemonset/log", "--timeout=60s"]);
    assert_eq!(status.code, 0, "{status}");
    assert_eq!(revisions(&office.face, "daemonset/log"), ["1", "2"]);
    let set = office.face.object("daemonsets", "log").expect("it is there");
    assert_eq!(set["status"]["numberAvailable"], 2);
    assert_eq!(list(&set["metadata"]["ownerReferences"]).len(), 0);
}

/// The nodes of the pods that are ready.
fn ready_on(face: &Face) -> Vec<String> {
    let pods = face.objects("pods").into_iter().filter(is_ready);
    let mut nodes: Vec<String> =
        pods.map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or("").to_owned()).collect();
    nodes.sort();
    nodes
}

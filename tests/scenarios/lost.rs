//! Nodes that are cut off: what is replaced elsewhere, when, and what stays.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::world::node_key;
use kgit_protocol::assignment::Order;
use kgit_protocol::ids::NodeName;
use kgit_protocol::observation::{
    ENGINE_READY, NodeCondition, NodeObservation, PodObservation, PodPhase,
};

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{job, web_with};

/// Cuts off the node that the only pod is on.
fn lose_the_node_of_the_pod(cluster: &mut Cluster) {
    let node = cluster.pods()[0].node().unwrap().to_string();
    cluster.lost.insert(node);
}

#[test]
fn a_job_goes_on_elsewhere_when_its_node_is_lost() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.behaviour.insert("batch".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", ""))]);
    cluster.settle();
    lose_the_node_of_the_pod(&mut cluster);
    cluster.pass(Duration::from_secs(200));
    assert_snapshot!(cluster.waits().join("\n"), @"
    Job/default/batch waits for node `b` to be heard of again
    Job/default/batch waits for 1 of 1 completions
    ");
    cluster.behaviour.clear();
    cluster.pass(Duration::from_secs(400));
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/batch
    + create    Pod/default/batch-6ct27  on b
    - stop      Pod/default/batch-6ct27  on b  DEVIATES: node b was not heard of for longer than the pod tolerates
    + create    Pod/default/batch-d9h7j  on a  DEVIATES: Job/default/batch wants 1 pods and has 0
    ~ finish    Job/default/batch  complete
    finished: 2 deviations, 0 missing, superseded false
    Job/default/batch waits for pod `batch-6ct27` to end on b
    ");
    cluster.lost.clear();
    cluster.report("b", None, Vec::new());
    cluster.ends_quietly();
}

#[test]
fn a_pod_of_its_own_is_waited_for_with_its_node() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec:\n  containers: [{name: m, image: m:1}]\n";
    cluster.commit(&[("pod.yaml", pod)]);
    cluster.settle();
    lose_the_node_of_the_pod(&mut cluster);
    cluster.pass(Duration::from_secs(1000));
    assert_eq!(cluster.pods().len(), 1);
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/bare waits for node `a` to come back, on which is pod `bare`");
    cluster.lost.clear();
    cluster.report("a", None, Vec::new());
    cluster.ends_quietly();
}

/// The node's agent tells of its engine, and of its pods that nothing is known of them any more.
fn engine_answers(cluster: &mut Cluster, node: &str, answers: bool) {
    let known = cluster.world().nodes[&node_key(&NodeName::new(node))].observed.clone();
    let condition = NodeCondition {
        kind: ENGINE_READY.to_owned(),
        status: Some(answers),
        reason: if answers { "EngineAnswers" } else { "EngineUnreachable" }.to_owned(),
        message: if answers { "" } else { "connection refused" }.to_owned(),
    };
    let about = NodeObservation { conditions: vec![condition], ..known };
    let mut pods = cluster.pods();
    pods.retain(|pod| pod.node().is_some_and(|it| it.as_str() == node));
    let unknown = pods.iter().map(|pod| PodObservation {
        reason: Some("EngineUnreachable".to_owned()),
        ..PodObservation::bare(pod.uid.clone(), PodPhase::Unknown)
    });
    let unknown: Vec<_> = if answers { Vec::new() } else { unknown.collect() };
    match answers {
        true => drop(cluster.failing.remove(node)),
        false => drop(cluster.failing.insert(node.to_owned())),
    }
    cluster.reported.extend(unknown.iter().map(|pod| (pod.uid.clone(), pod.clone())));
    cluster.report(node, Some(about), unknown);
    cluster.settle();
}

#[test]
fn nothing_goes_to_a_node_whose_engine_fails_and_its_pods_are_replaced_once_they_tolerate_it_no_longer()
 {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, ""))]);
    cluster.settle();
    cluster.join("b", 1);
    engine_answers(&mut cluster, "a", false);
    cluster.commit(&[("web.yaml", &web_with("web:1", 2, ""))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  1 → 2
    + create    Pod/default/web-dz6clcrlxq-wlbpr  on b
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for node `a` to be ready again
    Deployment/default/web waits for 1 of 2 pods to be available
    ");
    cluster.pass(Duration::from_secs(301));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  1 → 2
    + create    Pod/default/web-dz6clcrlxq-wlbpr  on b
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on b
    ");
    assert!(cluster.orders("a").pods.values().all(|pod| pod.order != Order::Run));
    engine_answers(&mut cluster, "a", true);
    cluster.ends_quietly();
    assert_eq!(cluster.pods().len(), 2);
}

#[test]
fn while_the_master_is_away_nobody_knows_that_an_engine_fails_on() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, ""))]);
    cluster.settle();
    cluster.join("b", 1);
    engine_answers(&mut cluster, "a", false);
    cluster.now = cluster.now.after(Duration::from_secs(400));
    cluster.restart_master();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for node `a` to be ready again
    Deployment/default/web waits for 1 of 1 pods to be available
    ");
    let pod = cluster.pods()[0].clone();
    assert_eq!(pod.deletion, None);
    cluster.pass(Duration::from_secs(301));
    assert!(cluster.pods().iter().any(|it| it.uid == pod.uid && it.deletion.is_some()));
}

#[test]
fn a_node_whose_engine_fails_stops_nothing_by_itself() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("data.yaml", SHARED), ("web.yaml", &fenced(&web_with("web:1", 1, "")))]);
    cluster.settle();
    let node = cluster.pods()[0].node().unwrap().to_string();
    engine_answers(&mut cluster, &node, false);
    cluster.pass(Duration::from_secs(4000));
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for node `b` to come back, which holds the data of pod `web-5gn9qzrpdb-w9ql5`
    Deployment/default/web waits for 1 of 1 pods to be available
    ");
    // Not even when it is cut off after that.
    cluster.lost.insert(node.clone());
    cluster.pass(Duration::from_secs(4000));
    assert_eq!(cluster.pods().len(), 1);
    assert_eq!(cluster.pods()[0].node().unwrap().as_str(), node);
    cluster.lost.clear();
    engine_answers(&mut cluster, &node, true);
    cluster.ends_quietly();
}

/// How many pods there are an hour after the node of the first was lost.
fn pods_after_an_hour(tolerations: &str) -> usize {
    let mut cluster = Cluster::new(&["a", "b"]);
    let tolerations = format!("      tolerations: [{tolerations}]\n");
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, &tolerations))]);
    cluster.settle();
    lose_the_node_of_the_pod(&mut cluster);
    cluster.pass(Duration::from_secs(3600));
    cluster.pods().len()
}

#[test]
fn a_toleration_without_seconds_is_for_ever() {
    let key = "key: node.kubernetes.io/unreachable, operator: Exists";
    assert_eq!(pods_after_an_hour(&format!("{{{key}, effect: NoExecute}}")), 1);
    assert_eq!(pods_after_an_hour("{operator: Exists}"), 1);
    assert_eq!(pods_after_an_hour(&format!("{{{key}, tolerationSeconds: 3000}}")), 2);
    assert_eq!(pods_after_an_hour(&format!("{{{key}, tolerationSeconds: 7200}}")), 1);
}

#[test]
fn a_toleration_of_another_taint_value_or_effect_is_none() {
    let key = "key: node.kubernetes.io/unreachable";
    assert_eq!(pods_after_an_hour(&format!("{{{key}, operator: Exists, effect: NoSchedule}}")), 2);
    assert_eq!(pods_after_an_hour(&format!("{{{key}, value: other}}")), 2);
    assert_eq!(pods_after_an_hour("{key: dedicated, operator: Exists}"), 2);
}

/// A pod on an NFS share that only one node may use at a time.
const SHARED: &str = "apiVersion: v1
kind: PersistentVolume
metadata: {name: share}
spec:
  storageClassName: ''
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  nfs: {server: files.example.org, path: /srv/share}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  storageClassName: ''
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";

fn fenced(manifest: &str) -> String {
    let annotated = "    metadata:\n      annotations: {kgit.dev/fence-after-seconds: \"300\"}\n";
    let volumes = "        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";
    manifest.replace("    metadata:\n", annotated) + volumes
}

#[test]
fn a_pod_that_its_node_stops_by_itself_moves_with_its_claim_once_that_is_certain() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("data.yaml", SHARED), ("web.yaml", &fenced(&web_with("web:1", 1, "")))]);
    cluster.settle();
    let first = cluster.pods()[0].node().unwrap().to_string();
    lose_the_node_of_the_pod(&mut cluster);
    // 40 s of lease, then 1.01 · 300 s + 30 s of grace + 10 s.
    cluster.pass(Duration::from_secs(40 + 303 + 30 + 9));
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for node `b` to stop pod `web-5gn9qzrpdb-w9ql5` by itself
    Deployment/default/web waits for 1 of 1 pods to be available
    ");
    assert_eq!(cluster.pods()[0].node().unwrap().as_str(), first);
    cluster.pass(Duration::from_secs(60));
    assert_ne!(cluster.pods()[0].node().unwrap().as_str(), first);
    assert_eq!(cluster.pods().len(), 1);
    assert_snapshot!(cluster.last_reconcile(), @"
    - stop      Pod/default/web-5gn9qzrpdb-w9ql5  on b
    + create    Pod/default/web-5gn9qzrpdb-wxglb  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert!(cluster.orders(&first).pods.is_empty(), "the node that comes back is to clear it away");
    cluster.lost.clear();
    cluster.report(&first, None, Vec::new());
    cluster.ends_quietly();
}

#[test]
fn a_pod_whose_data_is_on_its_node_is_not_fenced_however_its_template_is_annotated() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let local = crate::manifests::claim("data", "");
    cluster.commit(&[("data.yaml", &local), ("web.yaml", &fenced(&web_with("web:1", 1, "")))]);
    cluster.settle();
    let node = cluster.pods()[0].node().unwrap().to_string();
    let spec = cluster.orders(&node).pods.into_values().next().unwrap().spec;
    assert_eq!(spec.fence_after_seconds, None);
    lose_the_node_of_the_pod(&mut cluster);
    cluster.pass(Duration::from_secs(4000));
    assert_eq!(cluster.pods()[0].node().unwrap().as_str(), node);
}

#[test]
fn a_stateful_sets_pod_moves_under_its_name() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let set = fenced(&web_with("web:1", 1, "")).replace("Deployment", "StatefulSet");
    cluster.commit(&[("data.yaml", SHARED), ("web.yaml", &set)]);
    cluster.settle();
    let before = cluster.pods()[0].clone();
    lose_the_node_of_the_pod(&mut cluster);
    cluster.pass(Duration::from_secs(600));
    let after = cluster.pods()[0].clone();
    assert_eq!(after.key, before.key);
    assert_ne!((&after.uid, after.node()), (&before.uid, before.node()));
}

#[test]
fn a_pod_that_was_ending_when_its_node_was_lost_is_replaced_too_once_that_is_certain() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let set = |image: &str| fenced(&web_with(image, 1, "")).replace("Deployment", "StatefulSet");
    cluster.commit(&[("data.yaml", SHARED), ("web.yaml", &set("web:1"))]);
    cluster.settle();
    let before = cluster.pods()[0].clone();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("web.yaml", &set("web:2"))]);
    cluster.settle();
    cluster.behaviour.clear();
    lose_the_node_of_the_pod(&mut cluster);
    cluster.pass(Duration::from_secs(600));
    let after = cluster.pods()[0].clone();
    assert_eq!(after.key, before.key);
    assert_ne!((&after.uid, after.node()), (&before.uid, before.node()));
    assert_eq!(after.template.containers[0].image, "web:2");
}

#[test]
fn a_pod_that_its_node_stopped_is_replaced_when_the_node_is_back_before_the_master_gave_up() {
    for kind in ["Deployment", "StatefulSet"] {
        let mut cluster = Cluster::new(&["a"]);
        let set = fenced(&web_with("web:1", 1, "")).replace("Deployment", kind);
        cluster.commit(&[("data.yaml", SHARED), ("web.yaml", &set)]);
        cluster.settle();
        let before = cluster.pods()[0].clone();
        let gone = kgit_protocol::observation::PodObservation {
            phase: kgit_protocol::observation::PodPhase::Gone,
            ready: false,
            ..(**before.observed.as_ref().unwrap()).clone()
        };
        cluster.reported.insert(before.uid.clone(), gone.clone());
        cluster.report("a", None, vec![gone]);
        cluster.settle();
        let pods = cluster.pods();
        assert_eq!(pods.len(), 1, "{kind}");
        assert_ne!(pods[0].uid, before.uid, "{kind}");
        cluster.ends_quietly();
    }
}

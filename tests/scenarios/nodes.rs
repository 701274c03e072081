//! Orders about nodes: cordon, drain, label, taint, fence, remove.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::audit::Body;
use kgit::domain::node_order::{NodeOrder, TaintOrder};
use kgit::domain::record::Pod;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{stateful, web, web_with};

const DRAIN: NodeOrder =
    NodeOrder::Drain { grace_seconds: None, delete_empty_dirs: false, force: false };

fn drain_with(grace_seconds: Option<u32>, delete_empty_dirs: bool, force: bool) -> NodeOrder {
    NodeOrder::Drain { grace_seconds, delete_empty_dirs, force }
}

fn taint(key: &str, effect: &str) -> NodeOrder {
    let taint = TaintOrder {
        key: key.to_owned(),
        value: String::new(),
        effect: Some(effect.to_owned()),
        remove: false,
    };
    NodeOrder::Taint { taints: vec![taint] }
}

fn untaint(key: &str) -> NodeOrder {
    let taint =
        TaintOrder { key: key.to_owned(), value: String::new(), effect: None, remove: true };
    NodeOrder::Taint { taints: vec![taint] }
}

fn label(key: &str, value: Option<&str>) -> NodeOrder {
    let labels = BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]);
    NodeOrder::Label { labels }
}

/// How many pods each node has.
fn pods_by_node(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in cluster.pods() {
        let node = pod.node().map_or("–".to_owned(), ToString::to_string);
        *counts.entry(node).or_default() += 1;
    }
    counts
}

fn budget(bound: &str) -> String {
    format!(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: web}}\n\
         spec: {{{bound}, selector: {{matchLabels: {{app: web}}}}}}\n"
    )
}

#[test]
fn a_cordoned_node_keeps_its_pods_and_gets_no_new_ones() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    cluster.order("a", NodeOrder::Cordon).unwrap();
    cluster.commit(&[("web.yaml", &web("web:1", 4))]);
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 1, "b": 3}"#);
    cluster.order("a", NodeOrder::Uncordon).unwrap();
    cluster.commit(&[("web.yaml", &web("web:1", 6))]);
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 3, "b": 3}"#);
    cluster.ends_quietly();
}

#[test]
fn orders_are_in_the_audit_with_who_gave_them() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.order("a", NodeOrder::Cordon).unwrap();
    cluster.order("a", label("disk", Some("ssd"))).unwrap();
    cluster.order("a", taint("db", "NoSchedule")).unwrap();
    let told = cluster.entries().into_iter().filter_map(|entry| match entry.body {
        Body::Ordered { by, what } => Some(format!("{by}: {what}")),
        _ => None,
    });
    assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    ann: cordon of node a
    ann: label disk=ssd of node a
    ann: taint db=:NoSchedule of node a
    ");
}

#[test]
fn a_drain_moves_pods_as_the_budget_allows() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 4)), ("pdb.yaml", &budget("maxUnavailable: 1"))]);
    cluster.settle();
    cluster.order("a", DRAIN).unwrap();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for pod `web-dz6clcrlxq-wlbpr` to end on a
    Deployment/default/web waits for 1 of 4 pods to be available
    Node/a waits for PodDisruptionBudget/default/web to let pod `default/web-dz6clcrlxq-wlbtf` go
    Node/a waits for 1 pods to end
    ");
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"b": 4}"#);
    assert_snapshot!(cluster.last_reconcile(), @"
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a
    + create    Pod/default/web-dz6clcrlxq-mpbjl  on b
    - stop      Pod/default/web-dz6clcrlxq-wlbtf  on a
    + create    Pod/default/web-dz6clcrlxq-52rjg  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_drain_that_a_budget_holds_waits_and_says_so_even_after_its_deadline() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("pdb.yaml", &budget("maxUnavailable: 0"))]);
    cluster.settle();
    cluster.order("a", DRAIN).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Node/a waits for PodDisruptionBudget/default/web to let pod `default/web-dz6clcrlxq-wlbpr` go");
    cluster.pass(Duration::from_secs(1000));
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 1, "b": 1}"#);
    assert_snapshot!(cluster.waits().join("\n"), @"Node/a waits for PodDisruptionBudget/default/web to let pod `default/web-dz6clcrlxq-wlbpr` go");
    // The budget gives way: the drain goes on by itself.
    cluster.commit(&[("pdb.yaml", &budget("maxUnavailable: 1"))]);
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"b": 2}"#);
    cluster.ends_quietly();
}

#[test]
fn a_drain_outlives_the_master() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("pdb.yaml", &budget("minAvailable: 2"))]);
    cluster.settle();
    cluster.order("a", DRAIN).unwrap();
    let stored = cluster.store.load().unwrap();
    let drains: Vec<_> = stored.nodes.values().filter_map(|node| node.drain.clone()).collect();
    assert_eq!(drains.len(), 1);
    assert_eq!((drains[0].by.as_str(), drains[0].since), ("ann", cluster.now));
}

#[test]
fn what_would_lose_something_is_asked_for_by_name() {
    let mut cluster = Cluster::new(&["a"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec:\n  containers: [{name: m, image: 'm:1'}]\n";
    cluster.commit(&[("pod.yaml", pod)]);
    cluster.settle();
    assert_snapshot!(cluster.order("a", DRAIN).unwrap_err().message, @"`default/bare`: no workload replaces them, and their end is only ordered with --force");
    cluster.commit(&[("pod.yaml", "")]);
    cluster.settle();
    let volume = "      volumes: [{name: tmp, emptyDir: {}}]\n";
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, volume))]);
    cluster.settle();
    assert_snapshot!(cluster.order("a", DRAIN).unwrap_err().message, @"`default/web-qrxn8lxgzq-nqwst`: they keep data in an emptyDir, and it only goes with --delete-emptydir-data");
    cluster.order("a", drain_with(Some(5), true, false)).unwrap();
    let ending = cluster.pods().into_iter().find_map(|pod| pod.deletion);
    assert_eq!(ending.map(|deletion| deletion.grace_seconds), Some(5));
    cluster.order("a", NodeOrder::Uncordon).unwrap();
    cluster.ends_quietly();
}

#[test]
fn a_bare_pod_is_drained_by_force_and_comes_back_elsewhere() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec:\n  containers: [{name: m, image: 'm:1'}]\n";
    cluster.commit(&[("pod.yaml", pod)]);
    cluster.settle();
    let from = cluster.pods()[0].node().unwrap().to_string();
    cluster.order(&from, drain_with(None, false, true)).unwrap();
    cluster.settle();
    assert_ne!(cluster.pods()[0].node().unwrap().to_string(), from);
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_has_ended_is_not_run_again_because_its_node_is_cleared() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: once}\nspec:\n  restartPolicy: Never\n  containers: [{name: m, image: 'm:1'}]\n";
    cluster.commit(&[("pod.yaml", pod)]);
    cluster.behaviour.insert("once".to_owned(), Behaviour::Exits(0));
    cluster.settle();
    let ended = cluster.pods()[0].uid.clone();
    let on = cluster.pods()[0].node().unwrap().to_string();
    cluster.order(&on, taint("maintenance", "NoExecute")).unwrap();
    cluster.settle();
    cluster.order(&on, DRAIN).unwrap();
    cluster.settle();
    let pods = cluster.pods();
    assert_eq!((pods.len(), &pods[0].uid, pods[0].is_finished()), (1, &ended, true));
    cluster.lost.insert(on);
    cluster.pass(Duration::from_secs(1000));
    assert_eq!(cluster.pods()[0].uid, ended, "nor because nobody hears of it");
    assert_eq!(cluster.waits(), [""; 0]);
}

#[test]
fn a_no_execute_taint_ends_what_does_not_tolerate_it_in_its_time() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let timed = "      tolerations: [{key: db, operator: Exists, tolerationSeconds: 100}]\n";
    cluster.commit(&[("web.yaml", &web_with("web:1", 2, timed))]);
    cluster.settle();
    cluster.order("a", taint("db", "NoExecute")).unwrap();
    cluster.settle();
    assert_eq!(pods_by_node(&cluster)["a"], 1);
    cluster.order("b", NodeOrder::Cordon).unwrap();
    cluster.order("b", NodeOrder::Uncordon).unwrap();
    cluster.order("a", NodeOrder::Cordon).unwrap();
    cluster.pass(Duration::from_secs(101));
    assert_eq!(pods_by_node(&cluster).get("a"), None);
    cluster.order("a", untaint("db")).unwrap();
    cluster.order("b", taint("x", "NoExecute")).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for a place for pod `web-4tnv5gdrc4-dfn24`: 0/2 nodes are available: 1 node(s) had untolerated taint {x: }, 1 node(s) were unschedulable
    Deployment/default/web waits for a place for pod `web-4tnv5gdrc4-q7nbg`: 0/2 nodes are available: 1 node(s) had untolerated taint {x: }, 1 node(s) were unschedulable
    Deployment/default/web waits for 2 of 2 pods to be available
    ");
    cluster.order("a", NodeOrder::Uncordon).unwrap();
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 2}"#);
    cluster.ends_quietly();
}

#[test]
fn labels_set_by_order_make_room_and_outlive_a_rejoin() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let picky = "      nodeSelector: {disk: ssd}\n";
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, picky))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for a place for pod `web-qlmsk89f5x-7g489`: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector
    Deployment/default/web waits for 1 of 1 pods of the new revision to be available
    ");
    cluster.order("b", label("disk", Some("ssd"))).unwrap();
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"b": 1}"#);
    cluster.join("b", 1);
    assert_eq!(cluster.world().nodes.values().nth(1).unwrap().labels["disk"], "ssd");
    cluster.order("b", label("disk", None)).unwrap();
    assert!(!cluster.world().nodes.values().nth(1).unwrap().labels.contains_key("disk"));
    let refused = |cluster: &mut Cluster, order| cluster.order("b", order).unwrap_err().message;
    assert_snapshot!(refused(&mut cluster, label("a b", Some("x"))), @"`a b=x` is not a valid label or taint");
    assert_snapshot!(refused(&mut cluster, taint("x", "Never")), @"`Never` is not an effect: NoSchedule, PreferNoSchedule, NoExecute");
    assert_snapshot!(refused(&mut cluster, untaint("x")), @"there is no such taint `x`");
    assert_snapshot!(cluster.order("c", NodeOrder::Cordon).unwrap_err().message, @"there is no node `c`");
    cluster.ends_quietly();
}

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n\
                     spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";

/// One pod with a claim, and the node that it is on.
fn with_data(cluster: &mut Cluster) -> String {
    let volume = "      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]\n";
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, volume)), ("claim.yaml", CLAIM)]);
    cluster.settle();
    cluster.pods()[0].node().unwrap().to_string()
}

#[test]
fn a_fenced_node_counts_as_dead_and_its_data_is_waited_for() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let node = with_data(&mut cluster);
    assert_snapshot!(cluster.order(&node, NodeOrder::Fence).unwrap_err().reason, @"NodeReady");
    cluster.lost.insert(node.clone());
    cluster.pass(Duration::from_secs(100));
    cluster.order(&node, NodeOrder::Fence).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for a place for pod `web-kz2ntgr777-r4dth`: 0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) were unschedulable
    Deployment/default/web waits for 1 of 1 pods to be available
    ");
    // It comes back, with what it had: it is told to stop it, and gets nothing.
    cluster.lost.clear();
    cluster.report(&node, None, Vec::new());
    assert!(cluster.orders(&node).pods.is_empty());
    cluster.order(&node, NodeOrder::Uncordon).unwrap();
    cluster.settle();
    assert_eq!(pods_by_node(&cluster).get(&node), Some(&1));
    cluster.ends_quietly();
}

#[test]
fn a_node_that_is_gone_for_good_takes_its_data_along() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let node = with_data(&mut cluster);
    assert_snapshot!(cluster.order(&node, NodeOrder::Remove).unwrap_err().reason, @"NodeReady");
    cluster.lost.insert(node.clone());
    cluster.pass(Duration::from_secs(100));
    assert_snapshot!(cluster.order(&node, NodeOrder::Remove).unwrap(), @"node a is gone for good; 1 claims lost their data with it");
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    PersistentVolumeClaim/default/data waits for PersistentVolume `pvc-8ae10c05-5e7b-85b5-bc0e-69648eb97e78`, which is gone (once no pod runs with it, `kgit prune PersistentVolumeClaim/default/data` gives it up)
    Deployment/default/web waits for a place for pod `web-kz2ntgr777-r4dth`: claim `data`, whose volume is lost
    Deployment/default/web waits for 1 of 1 pods to be available
    ");
    // Somebody gives up what was lost: the claim begins anew.
    cluster.prune(&["PersistentVolumeClaim/default/data"]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Pod/default/web-kz2ntgr777-r4dth
    - delete    PersistentVolumeClaim/default/data  DEVIATES: ann ordered: removal of PersistentVolumeClaim/default/data
    + create    PersistentVolumeClaim/default/data  DEVIATES: ann ordered: removal of PersistentVolumeClaim/default/data
    + provision PersistentVolumeClaim/default/data  on b  DEVIATES: ann ordered: removal of PersistentVolumeClaim/default/data
    ~ place     Pod/default/web-kz2ntgr777-r4dth  on b  DEVIATES: ann ordered: removal of PersistentVolumeClaim/default/data
    finished: 4 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_lost_node_that_is_drained_waits_for_its_pods() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverEnds);
    cluster.order("a", DRAIN).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for pod `web-dz6clcrlxq-wlbpr` to end on a
    Node/a waits for 1 pods to end
    ");
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

/// The repo's settings.
fn settings(spec: &str) -> String {
    format!(
        "apiVersion: kgit.dev/v1\nkind: Cluster\nmetadata: {{name: cluster}}\nspec: {{{spec}}}\n"
    )
}

/// So many pods of half a core each, on one node of four; then two more nodes join.
fn two_nodes_join(pods: u32, spec: &str) -> Cluster {
    two_nodes_join_pods_of(pods, "500m", spec)
}

fn two_nodes_join_pods_of(pods: u32, cpu: &str, spec: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    let asks = format!("        resources: {{requests: {{cpu: {cpu}}}}}\n");
    let web = web_with("web:1", pods, &asks);
    cluster.commit(&[("web.yaml", &web), ("cluster.yaml", &settings(spec))]);
    cluster.settle();
    cluster.join("b", 1);
    cluster.settle();
    cluster.join("c", 2);
    cluster.settle();
    cluster
}

#[test]
fn pods_stay_where_they_are_when_nodes_join_unless_the_repo_asks() {
    let mut cluster = two_nodes_join(6, "");
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 6}"#);
    cluster.ends_quietly();
}

#[test]
fn pods_move_to_nodes_that_join_as_far_as_it_evens_out() {
    let mut cluster = two_nodes_join(6, "rebalanceBudget: 1");
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 2, "b": 2, "c": 2}"#);
    assert!(cluster.world().nodes.values().all(|node| node.filling.is_none()));
    cluster.ends_quietly();
}

#[test]
fn no_more_pods_are_on_their_way_than_the_budget_says() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = "        resources: {requests: {cpu: 500m}}\n";
    let text = settings("rebalanceBudget: 2");
    let web = web_with("web:1", 7, asks);
    let web =
        web.replace("  selector", "  strategy: {rollingUpdate: {maxUnavailable: 2}}\n  selector");
    cluster.commit(&[("web.yaml", &web), ("cluster.yaml", &text)]);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.agents_act_on_new_pods_only();
    cluster.join("b", 1);
    cluster.agents_act();
    let pods = cluster.pods();
    let ending = pods.iter().filter(|pod| pod.deletion.is_some()).count();
    let on_b = |pod: &&Arc<Pod>| pod.node().is_some_and(|node| node.as_str() == "b");
    assert_eq!((ending, pods.iter().filter(on_b).count()), (0, 2));
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for 2 of 7 pods to be available
    Node/b waits for 2 pods on their way, before others move to it
    ");
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

#[test]
fn what_a_budget_holds_does_not_move() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = "        resources: {requests: {cpu: 500m}}\n";
    cluster.commit(&[
        ("web.yaml", &web_with("web:1", 6, asks)),
        ("cluster.yaml", &settings("rebalanceBudget: 1")),
        ("pdb.yaml", &budget("maxUnavailable: 0")),
    ]);
    cluster.settle();
    cluster.join("b", 1);
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 6}"#);
    cluster.ends_quietly();
}

#[test]
fn pods_go_on_moving_where_their_deployment_can_spare_fewer_at_once_than_the_budget_allows() {
    let mut cluster = two_nodes_join(6, "rebalanceBudget: 3");
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 2, "b": 2, "c": 2}"#);
    cluster.ends_quietly();
}

#[test]
fn what_differs_by_little_is_not_worth_a_restart() {
    let mut cluster = two_nodes_join_pods_of(6, "50m", "rebalanceBudget: 1");
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 6}"#);
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_would_only_make_the_other_node_the_fuller_one_stays() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = "        resources: {requests: {cpu: '3'}}\n";
    let set = web_with("web:1", 1, asks).replace("kind: Deployment", "kind: ReplicaSet");
    cluster.commit(&[("web.yaml", &set), ("cluster.yaml", &settings("rebalanceBudget: 1"))]);
    cluster.settle();
    cluster.join("b", 1);
    cluster.settle();
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 1}"#);
    cluster.ends_quietly();
}

#[test]
fn a_node_gives_out_every_address_of_its_range_but_the_networks_the_gateways_and_the_last() {
    let mut cluster = Cluster::new(&[]);
    cluster.join_with("a", "10.77.0.4/30");
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    let pods = cluster.pods();
    let placed = pods.iter().filter_map(|pod| pod.placed.as_ref()?.spec.address);
    assert_eq!(placed.map(|address| address.to_string()).collect::<Vec<_>>(), ["10.77.0.6"]);
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for a place for pod `web-dz6clcrlxq-wlbpr`: a free address on node `a`, whose range is 10.77.0.4/30
    Deployment/default/web waits for 1 of 2 pods of the new revision to be available
    ");
}

#[test]
fn where_memory_is_what_is_scarce_pods_move_by_that() {
    let mut cluster = two_nodes_join_pods_of(6, "10m, memory: 1Gi", "rebalanceBudget: 1");
    assert_snapshot!(format!("{:?}", pods_by_node(&cluster)), @r#"{"a": 2, "b": 2, "c": 2}"#);
    cluster.ends_quietly();
}

#[test]
fn a_pod_of_a_set_whose_data_is_lost_begins_anew_when_somebody_gives_it_up() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("db.yaml", &stateful("db:1", 2, ""))]);
    cluster.settle();
    let second = cluster.pods().into_iter().find(|pod| &*pod.key.name == "db-1").unwrap();
    let node = second.node().unwrap().to_string();
    cluster.lost.insert(node.clone());
    cluster.pass(Duration::from_secs(100));
    cluster.order(&node, NodeOrder::Remove).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    PersistentVolumeClaim/default/data-db-1 waits for PersistentVolume `pvc-c2194d77-fb2d-8eeb-949d-67814165f1da`, which is gone (once no pod runs with it, `kgit prune PersistentVolumeClaim/default/data-db-1` gives it up)
    StatefulSet/default/db waits for a place for pod `db-1`: claim `data-db-1`, whose volume is lost
    ");
    cluster.prune(&["PersistentVolumeClaim/default/data-db-1"]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    - delete    PersistentVolumeClaim/default/data-db-1
    + create    PersistentVolumeClaim/default/data-db-1
    + provision PersistentVolumeClaim/default/data-db-1  on b
    ~ place     Pod/default/db-1  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert!(cluster.pods().iter().all(|pod| pod.is_ready()));
    cluster.ends_quietly();
}

//! What simulations found, told without them.

use std::collections::BTreeMap;
use std::time::Duration;

use kgit::domain::node_order::{NodeOrder, TaintOrder};
use kgit::domain::record::Pod;
use kgit_protocol::observation::{PodObservation, PodPhase};

use crate::cluster::Cluster;
use crate::manifests::{daemon, web, web_with};

fn taint(key: &str) -> NodeOrder {
    taint_of(key, "NoExecute")
}

fn taint_of(key: &str, effect: &str) -> NodeOrder {
    let taint = TaintOrder {
        key: key.to_owned(),
        value: String::new(),
        effect: Some(effect.to_owned()),
        remove: false,
    };
    NodeOrder::Taint { taints: vec![taint] }
}

fn observation(pod: &Pod, phase: PodPhase, ahead: Duration, cluster: &Cluster) -> PodObservation {
    let since = cluster.now.after(ahead);
    PodObservation {
        ready: phase == PodPhase::Running,
        ready_since: Some(since),
        started_at: Some(since),
        ..PodObservation::bare(pod.uid.clone(), phase)
    }
}

/// A pod that comes to a tainted node has its own time there: it is not told to end in the moment
/// in which it comes, and so on without end.
#[test]
fn a_pod_that_comes_to_a_tainted_node_stays_as_long_as_it_tolerates_it() {
    let mut cluster = Cluster::new(&["a"]);
    let timed = "      tolerations: [{key: db, operator: Exists, tolerationSeconds: 60}]\n";
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, timed))]);
    cluster.settle();
    cluster.order("a", taint("db")).unwrap();
    let first = cluster.pods()[0].uid.clone();
    cluster.pass(Duration::from_secs(61));
    let second = cluster.pods()[0].uid.clone();
    assert_ne!(first, second);
    cluster.pass(Duration::from_secs(50));
    assert_eq!(cluster.pods()[0].uid, second);
    let wait = "Deployment/default/web waits for taint db to go from node `a`";
    assert_eq!(cluster.waits(), [wait]);
}

/// Its node's clock may be ahead of the master's.
#[test]
fn a_pod_that_is_ready_counts_at_once_where_no_time_is_asked_for() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    let pod = cluster.pods()[0].clone();
    let ahead = observation(&pod, PodPhase::Running, Duration::from_secs(3600), &cluster);
    cluster.report("a", None, vec![ahead]);
    assert_eq!(cluster.waits(), [""; 0]);
}

/// A restored master orders pods to run that its agents have ended since: what they say of that is
/// about orders that it has forgotten, and the pods run again by the time it is read.
#[test]
fn a_pod_that_nobody_told_to_end_is_not_gone() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let pod = cluster.pods()[0].clone();
    let gone = observation(&pod, PodPhase::Gone, Duration::ZERO, &cluster);
    cluster.report("a", None, vec![gone]);
    let after = cluster.pods();
    assert_eq!((after.len(), after[0].phase()), (1, PodPhase::Running));
    assert_eq!(after[0].uid, pod.uid);
}

/// Pods on nodes that are not heard of do not count for a budget.
#[test]
fn a_budget_follows_nodes_that_are_lost_and_found() {
    let mut cluster = Cluster::new(&["a"]);
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\n\
                  spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}\n";
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("pdb.yaml", budget)]);
    cluster.settle();
    let healthy = |cluster: &Cluster| {
        cluster.world().budgets.values().map(|row| row.healthy).collect::<Vec<_>>()
    };
    cluster.lost.insert("a".to_owned());
    cluster.pass(Duration::from_secs(100));
    assert_eq!(healthy(&cluster), [0]);
    cluster.lost.clear();
    cluster.report("a", None, Vec::new());
    assert_eq!(healthy(&cluster), [2]);
}

/// Nothing new of it goes there, and what is there stays.
#[test]
fn a_daemon_stays_on_a_node_that_takes_no_new_pods_and_leaves_one_that_drives_it_away() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("log.yaml", &daemon("log:1", "", ""))]);
    cluster.settle();
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    cluster.order("a", taint_of("x", "NoSchedule")).unwrap();
    cluster.settle();
    assert_eq!(cluster.pods().iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>(), before);
    cluster.order("a", taint("x")).unwrap();
    cluster.settle();
    assert_eq!(cluster.pods().len(), 1);
    cluster.ends_quietly();
}

/// Moving a pod to a node that joined is kgit's own doing, as a rollout is.
#[test]
fn no_pod_moves_to_a_node_that_joins_if_its_deployment_can_spare_none() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = "        resources: {requests: {cpu: 500m}}\n";
    let careful = web_with("web:1", 6, asks)
        .replace("  selector:", "  strategy: {rollingUpdate: {maxUnavailable: 0}}\n  selector:");
    let settings = "apiVersion: kgit.dev/v1\nkind: Cluster\nspec: {rebalanceBudget: 2}\n";
    cluster.commit(&[("web.yaml", &careful), ("cluster.yaml", settings)]);
    cluster.settle();
    cluster.join("b", 1);
    cluster.settle();
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.pods() {
        *nodes.entry(pod.node().map(ToString::to_string).unwrap_or_default()).or_default() += 1;
    }
    assert_eq!(nodes, BTreeMap::from([("a".to_owned(), 6)]));
    cluster.ends_quietly();
}

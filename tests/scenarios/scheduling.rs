//! Pods that compete for room: who comes first, and what budgets allow. Who makes way for whom is
//! in `preemption`.

use std::collections::{BTreeMap, BTreeSet};

use insta::assert_snapshot;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{job, web};

pub fn class(name: &str, value: i32, rest: &str) -> String {
    format!(
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: {name}}}\n\
         value: {value}\n{rest}"
    )
}

/// A Deployment whose pods ask for so much cpu; a node has 4.
pub fn app(name: &str, replicas: u32, cpu: &str, rest: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {rest}
      containers: [{{name: main, image: 'main:1', resources: {{requests: {{cpu: {cpu}}}}}}}]
"
    )
}

pub fn budget(name: &str, bound: &str) -> String {
    format!(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\n\
         spec: {{{bound}, selector: {{matchLabels: {{app: {name}}}}}}}\n"
    )
}

/// Where the pods are: `web a`, `db –`.
pub fn where_pods_are(cluster: &Cluster) -> String {
    let mut lines: Vec<String> = cluster
        .pods()
        .iter()
        .map(|pod| {
            let app = pod.labels.get("app").cloned().unwrap_or_default();
            let node = pod.node().map_or("–".to_owned(), ToString::to_string);
            let end = if pod.deletion.is_some() { " ending" } else { "" };
            format!("{app} {node}{end}")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_pod_that_fits_nowhere_says_why_in_one_line() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("big.yaml", &app("big", 1, "5", ""))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/big waits for a place for pod `big-26qg52nhk7-5glqb`: 0/2 nodes are available: 2 Insufficient cpu
    Deployment/default/big waits for 1 of 1 pods of the new revision to be available
    ");
    cluster.commit(&[("big.yaml", &app("big", 1, "1", ""))]);
    cluster.ends_quietly();
}

#[test]
fn pods_of_higher_priority_are_placed_first_though_their_names_come_last() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[
        ("classes.yaml", &class("high", 100, "")),
        ("a.yaml", &app("aaa", 2, "3", "")),
        ("z.yaml", &app("zzz", 1, "3", "priorityClassName: high")),
    ]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    aaa –
    aaa –
    zzz a
    ");
    cluster.commit(&[("a.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn the_default_class_is_that_of_pods_that_name_none() {
    let mut cluster = Cluster::new(&["a"]);
    let classes = [class("usual", 7, "globalDefault: true\n"), class("low", 3, "")].join("---\n");
    cluster.commit(&[
        ("classes.yaml", &classes),
        ("low.yaml", &app("low", 1, "1", "priorityClassName: low")),
        ("web.yaml", &app("web", 1, "1", "")),
        ("sys.yaml", &app("sys", 1, "1", "priorityClassName: system-node-critical")),
    ]);
    cluster.settle();
    let mut priorities: Vec<_> =
        cluster.pods().iter().map(|pod| (pod.labels["app"].clone(), pod.priority)).collect();
    priorities.sort();
    assert_snapshot!(format!("{priorities:?}"), @r#"[("low", 3), ("sys", 2000001000), ("web", 7)]"#);
    // Fixed when the pod was made.
    cluster.commit(&[("classes.yaml", &classes.replace("value: 3", "value: 4"))]);
    cluster.settle();
    assert!(cluster.pods().iter().any(|pod| pod.priority == 3));
    cluster.ends_quietly();
}

/// `expected healthy desired allowed` of each budget.
fn budgets(cluster: &Cluster) -> String {
    let world = cluster.world();
    let lines = world.budgets.iter().map(|(key, state)| {
        let (expected, healthy) = (state.expected, state.healthy);
        format!("{} {expected} {healthy} {} {}", key.name, state.desired, state.allowed)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_budget_counts_what_is_healthy_against_what_has_to_stay() {
    let mut cluster = Cluster::new(&["a"]);
    let files = [
        ("one", 3, "minAvailable: 2"),
        ("two", 3, "minAvailable: 50%"),
        ("three", 3, "maxUnavailable: 1"),
        ("four", 3, "maxUnavailable: 50%"),
        ("five", 2, "minAvailable: 5"),
        ("six", 2, "maxUnavailable: 0"),
        ("seven", 2, "minAvailable: 100%"),
        ("eight", 2, "maxUnavailable: 100%"),
        ("nine", 0, "maxUnavailable: 1"),
    ];
    for (name, replicas, bound) in files {
        let text = [app(name, replicas, "10m", ""), budget(name, bound)].join("---\n");
        cluster.commit(&[(&format!("{name}.yaml"), &text)]);
    }
    assert_snapshot!(budgets(&cluster), @"
    eight 2 0 0 0
    five 2 0 5 0
    four 3 0 1 0
    nine 0 0 0 0
    one 3 0 2 0
    seven 2 0 2 0
    six 2 0 2 0
    three 3 0 2 0
    two 3 0 2 0
    ");
    cluster.settle();
    assert_snapshot!(budgets(&cluster), @"
    eight 2 2 0 2
    five 2 2 5 0
    four 3 3 1 2
    nine 0 0 0 0
    one 3 3 2 1
    seven 2 2 2 0
    six 2 2 2 0
    three 3 3 2 1
    two 3 3 2 1
    ");
    let text = [app("one", 4, "10m", ""), budget("one", "minAvailable: 2")].join("---\n");
    cluster.behaviour.insert("one".to_owned(), Behaviour::NeverReady);
    cluster.agents_act_on_new_pods_only();
    cluster.commit(&[("one.yaml", &text), ("two.yaml", "")]);
    cluster.agents_act_on_new_pods_only();
    assert!(budgets(&cluster).contains("one 4 3 2 1"), "{}", budgets(&cluster));
    assert!(!budgets(&cluster).contains("two"), "{}", budgets(&cluster));
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

#[test]
fn replicas_that_keep_away_from_each_other_do_so_and_the_one_too_many_waits() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let away = "      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: web}}, topologyKey: kubernetes.io/hostname}
";
    let manifest = web("web:1", 3).replace("    spec:\n", &format!("    spec:\n{away}"));
    cluster.commit(&[("web.yaml", &manifest)]);
    cluster.settle();
    let placed = cluster.pods().iter().filter(|pod| pod.placed.is_some()).count();
    assert_eq!(placed, 2);
    cluster.join("c", 2);
    cluster.settle();
    let nodes: BTreeSet<String> =
        cluster.pods().iter().map(|pod| pod.node().unwrap().to_string()).collect();
    assert_eq!(nodes.len(), 3);
    cluster.ends_quietly();
}

#[test]
fn replicas_that_are_spread_evenly_stay_so() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let even = "      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: web}}
";
    let manifest = web("web:1", 7).replace("    spec:\n", &format!("    spec:\n{even}"));
    cluster.commit(&[("web.yaml", &manifest)]);
    cluster.settle();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.pods() {
        *counts.entry(pod.node().unwrap().to_string()).or_default() += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_wants_to_be_near_another_is_placed_once_that_one_is() {
    let mut cluster = Cluster::new(&["a"]);
    let near = "      affinity:
        podAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: zdb}}, topologyKey: kubernetes.io/hostname}
";
    let manifest = web("web:1", 1).replace("    spec:\n", &format!("    spec:\n{near}"));
    let db = web("db:1", 1).replace("name: web", "name: zdb").replace("app: web", "app: zdb");
    cluster.commit(&[("web.yaml", &manifest)]);
    cluster.settle();
    assert!(cluster.pods()[0].placed.is_none());
    cluster.commit(&[("db.yaml", &db)]);
    cluster.settle();
    assert!(cluster.pods().iter().all(|pod| pod.placed.is_some()));
    cluster.ends_quietly();
}

#[test]
fn room_that_a_finished_job_leaves_is_taken() {
    let mut cluster = Cluster::new(&["a"]);
    let asks = "        resources: {requests: {cpu: '3'}}\n";
    cluster.behaviour.insert("big".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("job.yaml", &(job("big", "big:1", "") + asks))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &(web("web:1", 1) + asks))]);
    cluster.settle();
    assert!(cluster.pods().iter().any(|pod| pod.placed.is_none()));
    cluster.behaviour.clear();
    cluster.settle();
    assert!(cluster.pods().iter().all(|pod| pod.placed.is_some()));
    cluster.ends_quietly();
}

#[test]
fn whose_pods_one_wants_to_be_near_may_follow_from_the_labels_of_their_namespace() {
    let mut cluster = Cluster::new(&["a"]);
    let near = "      affinity:
        podAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - labelSelector: {matchLabels: {app: db}}
            namespaceSelector: {matchLabels: {team: web}}
            topologyKey: kubernetes.io/hostname
";
    let space = |labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n")
    };
    let db = web("db:1", 1).replace("name: web", "name: db").replace("app: web", "app: db");
    let db = db.replacen("  name: db\n", "  name: db\n  namespace: shop\n", 1);
    let manifest = web("web:1", 1).replace("    spec:\n", &format!("    spec:\n{near}"));
    cluster.commit(&[("shop.yaml", &space("")), ("db.yaml", &db), ("web.yaml", &manifest)]);
    cluster.settle();
    assert_eq!(cluster.pods().iter().filter(|pod| pod.placed.is_none()).count(), 1);
    cluster.commit(&[("shop.yaml", &space("team: web"))]);
    cluster.settle();
    assert!(cluster.pods().iter().all(|pod| pod.placed.is_some()), "{:?}", cluster.waits());
    cluster.ends_quietly();
}

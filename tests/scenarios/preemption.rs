//! Pods that make way for others of higher priority: which, where, and what becomes of them.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::node_order::NodeOrder;
use kgit::domain::plan::WaitKind;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::scheduling::{app, budget, class, where_pods_are};

/// Nodes that have no room beside a pod of low priority each, and a class `high`, of which `more`
/// is said.
fn full_of_low(nodes: &[&str], more: &str) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    let pods = u32::try_from(nodes.len()).unwrap();
    cluster.commit(&[
        ("classes.yaml", &class("high", 100, more)),
        ("low.yaml", &app("low", pods, "3", "")),
    ]);
    cluster.settle();
    cluster
}

#[test]
fn pods_of_lower_priority_make_way_and_nobody_takes_the_room_meanwhile() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let classes = [class("high", 100, ""), class("low", -5, "")].join("---\n");
    cluster.commit(&[
        ("classes.yaml", &classes),
        ("low.yaml", &app("low", 2, "3", "priorityClassName: low")),
    ]);
    cluster.settle();
    cluster.behaviour.insert("low".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a ending
    low b
    low –
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/high waits for a place for pod `high-wx4l8nljrn-4xv2m`: 1 pods of lower priority to make way on a
    Deployment/default/high waits for 1 of 1 pods of the new revision to be available
    Deployment/default/low waits for pod `low-2pz94cgw8v-8zq52` to end on a
    Deployment/default/low waits for a place for pod `low-2pz94cgw8v-pqqw8`: 0/2 nodes are available: 2 Insufficient cpu
    Deployment/default/low waits for 1 of 2 pods to be available
    ");
    // The room that is becoming free is promised.
    cluster.commit(&[("mid.yaml", &app("mid", 1, "3", ""))]);
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a ending
    low b ending
    low –
    low –
    mid –
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high a
    low –
    low –
    mid b
    ");
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Deployment/default/mid
    + create    ReplicaSet/default/mid-wt6h8w6dc4  revision 1
    + create    Pod/default/mid-wt6h8w6dc4-rwlnj
    - stop      Pod/default/low-2pz94cgw8v-ljrvl  on b
    + create    Pod/default/low-2pz94cgw8v-vmbwk
    ~ place     Pod/default/high-wx4l8nljrn-4xv2m  on a  DEVIATES: Pod/default/low-2pz94cgw8v-8zq52 not ready
    ~ place     Pod/default/mid-wt6h8w6dc4-rwlnj  on b  DEVIATES: Pod/default/low-2pz94cgw8v-ljrvl not ready
    ");
    cluster.commit(&[("low.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn a_class_that_never_preempts_waits() {
    let mut cluster = full_of_low(&["a"], "preemptionPolicy: Never\n");
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a
    ");
    cluster.commit(&[("low.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn the_node_is_cleared_that_costs_least() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let classes = [class("high", 100, ""), class("mid", 50, ""), class("low", 10, "")];
    let on =
        |node: &str, class: &str| format!("priorityClassName: {class}\n      nodeName: {node}");
    cluster.commit(&[
        ("classes.yaml", &classes.join("---\n")),
        ("x.yaml", &app("xx", 1, "4", &on("a", "mid"))),
        ("y.yaml", &app("yy", 2, "2", &on("b", "low"))),
        ("z.yaml", &app("zz", 1, "3", &on("c", "low"))),
    ]);
    cluster.settle();
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Deployment/default/high
    + create    ReplicaSet/default/high-wx4l8nljrn  revision 1
    + create    Pod/default/high-wx4l8nljrn-4xv2m
    - stop      Pod/default/zz-shqltznl9f-n72dk  on c
    + create    Pod/default/zz-shqltznl9f-4jdrp
    ~ place     Pod/default/high-wx4l8nljrn-4xv2m  on c
    ");
    let high = cluster.pods().iter().find(|pod| pod.labels["app"] == "high").cloned().unwrap();
    assert_eq!(high.node().map(ToString::to_string).as_deref(), Some("c"));
    cluster.commit(&[("z.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn preemption_goes_around_budgets_where_it_can() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let on = |node: &str| format!("nodeName: {node}");
    cluster.commit(&[
        ("classes.yaml", &class("high", 100, "")),
        ("held.yaml", &app("held", 1, "3", &on("a"))),
        ("budget.yaml", &budget("held", "minAvailable: 1")),
        ("free.yaml", &app("free", 2, "2", &on("b"))),
    ]);
    cluster.settle();
    cluster.commit(&[("high.yaml", &app("high", 1, "4", "priorityClassName: high"))]);
    cluster.settle();
    let high = cluster.pods().iter().find(|pod| pod.labels["app"] == "high").cloned().unwrap();
    assert_eq!(high.node().map(ToString::to_string).as_deref(), Some("b"));
    cluster.commit(&[("free.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn what_made_way_does_not_come_back_beside_the_pod_that_it_made_way_for() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    for (node, zone) in [("a", "z0"), ("b", "z1"), ("c", "z1")] {
        let labels = [("zone", zone), ("host", node)];
        let labels = labels.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).into();
        cluster.order(node, NodeOrder::Label { labels }).unwrap();
    }
    let away = "priorityClassName: high
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: roll}}, topologyKey: zone}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: host, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: high}}}";
    cluster.commit(&[
        ("classes.yaml", &class("high", 100, "")),
        ("low.yaml", &app("low", 6, "1400m", "")),
    ]);
    cluster.settle();
    // Where they go later is in the zone of others.
    cluster.order("c", NodeOrder::Cordon).unwrap();
    cluster.commit(&[("roll.yaml", &app("roll", 4, "100m", ""))]);
    cluster.settle();
    cluster.order("c", NodeOrder::Uncordon).unwrap();
    let high = app("high", 2, "1800m", away);
    assert_snapshot!(cluster.diff(&[("high.yaml", &high)]), @"
    + create    Deployment/default/high
    + create    ReplicaSet/default/high-6f49727dfw  revision 1
    + create    Pod/default/high-6f49727dfw-wwzfh
    - stop      Pod/default/low-hzcbzkppcj-khnp2  on a
    - stop      Pod/default/roll-7wqnpscc7d-5h6dd  on a
    - stop      Pod/default/roll-7wqnpscc7d-z8k4g  on a
    + create    Pod/default/high-6f49727dfw-kbnnt
    - stop      Pod/default/low-hzcbzkppcj-dv56w  on b
    - stop      Pod/default/roll-7wqnpscc7d-lkw5g  on b
    - stop      Pod/default/roll-7wqnpscc7d-p69kl  on b
    + create    Pod/default/low-hzcbzkppcj-7pkqv
    + create    Pod/default/low-hzcbzkppcj-qpb77
    + create    Pod/default/roll-7wqnpscc7d-z6kmk
    + create    Pod/default/roll-7wqnpscc7d-wfclv
    + create    Pod/default/roll-7wqnpscc7d-lh8qn
    + create    Pod/default/roll-7wqnpscc7d-c8j4k
    ~ place     Pod/default/high-6f49727dfw-kbnnt  on b
    ~ place     Pod/default/high-6f49727dfw-wwzfh  on a
      … Deployment/default/low waits for a place for pod `low-hzcbzkppcj-7pkqv`: 0/3 nodes are available: 3 Insufficient cpu
          until then: the pod stays pending
      … Deployment/default/low waits for a place for pod `low-hzcbzkppcj-qpb77`: 0/3 nodes are available: 3 Insufficient cpu
          until then: the pod stays pending
      … Deployment/default/low waits for 2 of 6 pods to be available
          if not by 2026-01-01T00:10:00Z: its reconcile ends without it; it is still being tried
      … Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-c8j4k`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
          until then: the pod stays pending
      … Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-lh8qn`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
          until then: the pod stays pending
      … Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-wfclv`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
          until then: the pod stays pending
      … Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-z6kmk`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
          until then: the pod stays pending
      … Deployment/default/roll waits for 4 of 4 pods to be available
          if not by 2026-01-01T00:10:00Z: its reconcile ends without it; it is still being tried
    ");
    cluster.commit(&[("high.yaml", &high)]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high a
    high b
    low a
    low b
    low c
    low c
    low –
    low –
    roll –
    roll –
    roll –
    roll –
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/low waits for a place for pod `low-hzcbzkppcj-7pkqv`: 0/3 nodes are available: 3 Insufficient cpu
    Deployment/default/low waits for a place for pod `low-hzcbzkppcj-qpb77`: 0/3 nodes are available: 3 Insufficient cpu
    Deployment/default/low waits for 2 of 6 pods to be available
    Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-c8j4k`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
    Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-lh8qn`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
    Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-wfclv`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
    Deployment/default/roll waits for a place for pod `roll-7wqnpscc7d-z6kmk`: 0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules
    Deployment/default/roll waits for 4 of 4 pods to be available
    ");
    cluster.commit(&[("high.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn room_that_was_being_made_on_a_node_that_is_lost_is_made_elsewhere() {
    let mut cluster = full_of_low(&["a", "b"], "");
    cluster.behaviour.insert("low".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a ending
    low b
    low –
    ");
    cluster.lost.insert("a".to_owned());
    cluster.pass(Duration::from_secs(60));
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a ending
    low b ending
    low –
    low –
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high b
    low a ending
    low –
    low –
    ");
}

#[test]
fn a_pod_whose_promised_room_another_of_higher_priority_took_gets_room_elsewhere() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let classes = [class("high", 100, ""), class("highest", 200, "")].join("---\n");
    cluster.commit(&[("classes.yaml", &classes), ("low.yaml", &app("low", 2, "3", ""))]);
    cluster.settle();
    cluster.behaviour.insert("low".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.commit(&[("top.yaml", &app("top", 1, "3", "priorityClassName: highest"))]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a ending
    low b
    low –
    top –
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high b
    low –
    low –
    top a
    ");
    cluster.commit(&[("low.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_says_itself_that_it_never_preempts_waits_whatever_its_class() {
    let mut cluster = full_of_low(&["a"], "");
    let patient = "priorityClassName: high\n      preemptionPolicy: Never";
    cluster.commit(&[("high.yaml", &app("high", 1, "3", patient))]);
    cluster.settle();
    assert_snapshot!(where_pods_are(&cluster), @"
    high –
    low a
    ");
    cluster.commit(&[("low.yaml", "")]);
    cluster.ends_quietly();
}

/// Where room is made if the pods of either node are worth the same.
fn cleared_after(first: &str, last: &str) -> String {
    let mut cluster = Cluster::new(&["a", "b"]);
    let on = |node: &str| format!("nodeSelector: {{kubernetes.io/hostname: {node}}}");
    cluster.commit(&[
        ("classes.yaml", &class("high", 100, "")),
        ("first.yaml", &app("first", 1, "3", &on(first))),
    ]);
    cluster.settle();
    cluster.pass(Duration::from_secs(60));
    cluster.commit(&[("last.yaml", &app("last", 1, "3", &on(last)))]);
    cluster.settle();
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.settle();
    let mut pods = cluster.pods();
    pods.retain(|pod| pod.labels["app"] == "high");
    pods[0].node().unwrap().to_string()
}

#[test]
fn of_pods_that_are_worth_the_same_those_go_that_came_last() {
    assert_eq!(cleared_after("a", "b"), "b");
    assert_eq!(cleared_after("b", "a"), "a");
}

#[test]
fn pods_that_do_not_make_way_in_their_time_are_said_to_be_late() {
    let mut cluster = full_of_low(&["a"], "");
    cluster.behaviour.insert("low".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("high.yaml", &app("high", 1, "3", "priorityClassName: high"))]);
    cluster.settle();
    let kind = |cluster: &Cluster| {
        let mut waits = cluster.all_waits();
        waits.retain(|it| *it.object.name == *"high" && it.unplaced.is_some());
        waits[0].kind
    };
    assert_eq!(kind(&cluster), WaitKind::Progress);
    cluster.pass(Duration::from_secs(90));
    assert_eq!(kind(&cluster), WaitKind::Blocked);
}

#[test]
fn a_pod_that_is_to_go_drives_nobody_out_first() {
    let mut cluster = full_of_low(&["a"], "");
    // It has no place until there is a pod that it wants to be near.
    let near = "priorityClassName: high\n      affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                [{labelSelector: {matchLabels: {app: first}}, topologyKey: kubernetes.io/hostname}]}}";
    let top = class("top", 200, "");
    cluster.commit(&[("top.yaml", &top), ("high.yaml", &app("high", 1, "3", near))]);
    cluster.settle();
    assert_eq!(cluster.diagnostics(), Vec::<String>::new());
    cluster.commit(&[
        ("first.yaml", &app("first", 1, "100m", "priorityClassName: top")),
        ("high.yaml", &app("high", 0, "3", near)),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Deployment/default/first
    ~ update    Deployment/default/high
    + create    ReplicaSet/default/first-6zprhnfvs2  revision 1
    + create    Pod/default/first-6zprhnfvs2-rkzbt  on a
    ~ scale     ReplicaSet/default/high-dfhf6ppglc  1 → 0
    - delete    Pod/default/high-dfhf6ppglc-6jpjr
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

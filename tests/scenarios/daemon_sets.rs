//! DaemonSets: a pod on every node that can take one.

use std::time::Duration;

use insta::assert_snapshot;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{daemon, web};

/// Which node has pods of which revision.
fn nodes(cluster: &Cluster) -> String {
    let world = cluster.world();
    let mut lines: Vec<String> = cluster
        .pods()
        .iter()
        .filter(|pod| pod.key.name.starts_with("log-"))
        .map(|pod| {
            let mut all = world.revisions.values();
            let revision = all.find(|it| it.revision_digest == pod.revision_digest);
            let ready = if pod.is_ready() { "ready" } else { "not ready" };
            let node = pod.node().map_or("nowhere", |node| node.as_str());
            format!("{node}: revision {}, {ready}", revision.map_or(0, |it| it.number))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn commit(cluster: &mut Cluster, text: &str) {
    cluster.commit(&[("log.yaml", text)]);
    cluster.settle();
}

#[test]
fn every_node_has_one_and_a_new_one_gets_it_at_once() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let log = daemon("log:1", "", "");
    let forecast = cluster.diff(&[("log.yaml", &log)]);
    commit(&mut cluster, &log);
    assert_snapshot!(forecast, @"
    + create    DaemonSet/default/log
    + create    ControllerRevision/default/log-vqzzc9ptv6  revision 1
    + create    Pod/default/log-xxgd6  on a
    + create    Pod/default/log-klwzv  on b
    ");
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    DaemonSet/default/log
    + create    ControllerRevision/default/log-vqzzc9ptv6  revision 1
    + create    Pod/default/log-xxgd6  on a
    + create    Pod/default/log-klwzv  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.join("c", 7);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Pod/default/log-cwwm4  on c
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_snapshot!(nodes(&cluster), @"
    a: revision 1, ready
    b: revision 1, ready
    c: revision 1, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn nodes_that_are_not_chosen_lose_theirs() {
    let mut cluster = Cluster::new(&["a", "b"]);
    commit(&mut cluster, &daemon("log:1", "", ""));
    let on_b = "      nodeSelector: {kubernetes.io/hostname: b}\n";
    commit(&mut cluster, &daemon("log:1", "", on_b));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    DaemonSet/default/log
    - stop      Pod/default/log-xxgd6  on a
    + create    ControllerRevision/default/log-8b2zms9mfm  revision 2
    - stop      Pod/default/log-klwzv  on b
    + create    Pod/default/log-cwwm4  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_snapshot!(nodes(&cluster), @"b: revision 2, ready");
    cluster.ends_quietly();
}

#[test]
fn an_update_goes_node_by_node() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    commit(&mut cluster, &daemon("log:1", "", ""));
    commit(&mut cluster, &daemon("log:2", "", ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    DaemonSet/default/log
    + create    ControllerRevision/default/log-vt6h59tx47  revision 2
    - stop      Pod/default/log-xxgd6  on a
    + create    Pod/default/log-z5z5j  on a
    - stop      Pod/default/log-klwzv  on b
    + create    Pod/default/log-jzzw2  on b
    - stop      Pod/default/log-cwwm4  on c
    + create    Pod/default/log-cjzfh  on c
    finished: 0 deviations, 0 missing, superseded false
    ");
    commit(&mut cluster, &daemon("log:1", "", ""));
    assert_snapshot!(nodes(&cluster), @"
    a: revision 3, ready
    b: revision 3, ready
    c: revision 3, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn with_surge_the_new_pod_is_there_before_the_old_one_goes() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let surge = "  updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n";
    commit(&mut cluster, &daemon("log:1", surge, ""));
    commit(&mut cluster, &daemon("log:2", surge, ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    DaemonSet/default/log
    + create    ControllerRevision/default/log-vt6h59tx47  revision 2
    + create    Pod/default/log-cwwm4  on a
    - stop      Pod/default/log-xxgd6  on a
    + create    Pod/default/log-z5z5j  on b
    - stop      Pod/default/log-klwzv  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn on_delete_waits_for_pods_to_go_by_themselves() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let on_delete = "  updateStrategy: {type: OnDelete}\n";
    commit(&mut cluster, &daemon("log:1", on_delete, ""));
    commit(&mut cluster, &daemon("log:2", on_delete, ""));
    assert_snapshot!(nodes(&cluster), @"
    a: revision 1, ready
    b: revision 1, ready
    ");
    let first = cluster.pods()[0].key.name.to_string();
    cluster.behaviour.insert(first, Behaviour::Fails);
    cluster.settle();
    cluster.behaviour.clear();
    assert_snapshot!(nodes(&cluster), @"
    a: revision 1, ready
    b: revision 2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn an_update_that_does_not_get_ready_stops_at_the_first_node() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    commit(&mut cluster, &daemon("log:1", "", ""));
    cluster.behaviour.insert("log".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("log.yaml", &daemon("log:2", "", ""))]);
    cluster.agents_act_on_new_pods_only();
    assert_snapshot!(nodes(&cluster), @"
    a: revision 2, not ready
    b: revision 1, ready
    c: revision 1, ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"DaemonSet/default/log waits for 1 of 3 pods to be ready");
    cluster.behaviour.clear();
    commit(&mut cluster, &daemon("log:1", "", ""));
    assert_snapshot!(nodes(&cluster), @"
    a: revision 3, ready
    b: revision 3, ready
    c: revision 3, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_fails_again_and_again_is_replaced_after_a_growing_delay() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("log".to_owned(), Behaviour::Fails);
    commit(&mut cluster, &daemon("log:1", "", ""));
    assert_snapshot!(cluster.waits().join("\n"), @"DaemonSet/default/log waits for the retry delay on node `a`, where its pods fail");
    cluster.pass(Duration::from_secs(60));
    let world = cluster.world();
    let counts = world.daemon_sets.values().flat_map(|row| row.failures.values());
    assert_eq!(counts.map(|failures| failures.count).collect::<Vec<_>>(), [6]);
    cluster.behaviour.clear();
    cluster.pass(Duration::from_secs(60));
    assert_snapshot!(nodes(&cluster), @"a: revision 1, ready");
    cluster.ends_quietly();
}

#[test]
fn a_lost_node_keeps_its_pod_and_holds_up_no_other() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    commit(&mut cluster, &daemon("log:1", "", ""));
    cluster.lost.insert("a".to_owned());
    cluster.pass(Duration::from_secs(1000));
    commit(&mut cluster, &daemon("log:2", "", ""));
    assert_snapshot!(nodes(&cluster), @"
    a: revision 1, ready
    b: revision 2, ready
    c: revision 2, ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"DaemonSet/default/log waits for node `a` to come back, whose absence is tolerated for ever by pod `log-xxgd6`");
    cluster.lost.clear();
    cluster.report("a", None, Vec::new());
    cluster.settle();
    assert_snapshot!(nodes(&cluster), @"
    a: revision 2, ready
    b: revision 2, ready
    c: revision 2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_node_that_leaves_takes_its_pod_along() {
    let mut cluster = Cluster::new(&["a", "b"]);
    commit(&mut cluster, &daemon("log:1", "", ""));
    cluster.leave("b");
    cluster.settle();
    assert_snapshot!(nodes(&cluster), @"a: revision 1, ready");
    let world = cluster.world();
    let desired: Vec<u32> = world.daemon_sets.values().map(|row| row.desired).collect();
    assert_eq!(desired, [1]);
    cluster.ends_quietly();
}

#[test]
fn a_set_whose_manifest_goes_takes_its_pods_and_comes_back_as_itself() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let log = daemon("log:1", "", "");
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("log.yaml", &log)]);
    cluster.settle();
    commit(&mut cluster, "");
    assert_snapshot!(cluster.last_reconcile(), @"
    - delete    DaemonSet/default/log
    - stop      Pod/default/log-klwzv  on b
    - stop      Pod/default/log-xxgd6  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    commit(&mut cluster, &log);
    assert_snapshot!(cluster.last_reconcile(), @"
    + restore   DaemonSet/default/log
    + create    Pod/default/log-cwwm4  on a
    + create    Pod/default/log-z5z5j  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn of_two_superseded_pods_on_a_node_the_one_that_serves_stays() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let on_b = "      nodeSelector: {kubernetes.io/hostname: b}\n";
    commit(&mut cluster, &daemon("log:2", "", on_b));
    let surge = "  updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n";
    cluster.commit(&[("log.yaml", &daemon("log:1", surge, ""))]);
    cluster.commit(&[("log.yaml", &daemon("log:2", "", ""))]);
    assert_snapshot!(nodes(&cluster), @"
    a: revision 2, not ready
    b: revision 1, ready
    b: revision 2, not ready
    ");
    cluster.settle();
    assert_snapshot!(nodes(&cluster), @"
    a: revision 3, ready
    b: revision 3, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn one_that_names_a_node_runs_there_alone() {
    let mut cluster = Cluster::new(&["a", "b"]);
    commit(&mut cluster, &daemon("log:1", "", "      nodeName: b\n"));
    assert_snapshot!(nodes(&cluster), @"b: revision 1, ready");
    cluster.ends_quietly();
}

/// Asks for so much cpu; a node has 4.
fn asking(manifest: &str, cpu: &str) -> String {
    format!("{manifest}        resources: {{requests: {{cpu: {cpu}}}}}\n")
}

#[test]
fn a_pod_that_finds_no_room_on_its_node_is_placed_there_once_there_is_some() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &asking(&web("web:1", 1), "3"))]);
    cluster.settle();
    cluster.join("b", 7);
    commit(&mut cluster, &asking(&daemon("log:1", "", ""), "2"));
    assert_snapshot!(nodes(&cluster), @"
    b: revision 1, ready
    nowhere: revision 1, not ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"DaemonSet/default/log waits for a place for pod `log-xxgd6`: 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector");
    cluster.commit(&[("web.yaml", &asking(&web("web:1", 1), "1"))]);
    cluster.settle();
    assert_snapshot!(nodes(&cluster), @"
    a: revision 1, ready
    b: revision 1, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_share_of_pods_that_may_be_missing_is_one_of_the_nodes_that_are_to_have_one() {
    let mut cluster = Cluster::new(&["a", "b", "c", "d"]);
    let half = "  updateStrategy: {rollingUpdate: {maxUnavailable: 50%}}\n";
    commit(&mut cluster, &daemon("log:1", half, ""));
    cluster.behaviour.insert("log".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("log.yaml", &daemon("log:2", half, ""))]);
    cluster.agents_act_on_new_pods_only();
    assert_snapshot!(nodes(&cluster), @"
    a: revision 2, not ready
    b: revision 2, not ready
    c: revision 1, ready
    d: revision 1, ready
    ");
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

//! StatefulSets that upstream leaves stuck: what never gets ready, and what finds no place.

use insta::assert_snapshot;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::stateful;
use crate::stateful_sets::{commit, pods};

#[test]
fn a_broken_update_is_left_by_the_commit_that_takes_it_back() {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &stateful("db:1", 3, ""));
    cluster.behaviour.insert("db-2".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("db.yaml", &stateful("db:2", 3, ""))]);
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    db-2 of revision 2, data-db-2, not ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for pod `db-2` to be ready");
    cluster.commit(&[("db.yaml", &stateful("db:1", 3, ""))]);
    cluster.behaviour.clear();
    cluster.agents_act_on_new_pods_only();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 3, data-db-0, ready
    db-1 of revision 3, data-db-1, ready
    db-2 of revision 3, data-db-2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_first_revision_that_never_gets_ready_does_not_hold_up_its_correction() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db-0".to_owned(), Behaviour::NeverReady);
    commit(&mut cluster, &stateful("db:1", 2, ""));
    cluster.commit(&[("db.yaml", &stateful("db:2", 2, ""))]);
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 2, data-db-0, ready
    db-1 of revision 2, data-db-1, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_pod_kept_back_that_fails_does_not_hold_up_the_update_that_may_replace_it() {
    let mut cluster = Cluster::new(&["a"]);
    let kept_back = "  updateStrategy: {rollingUpdate: {partition: 1}}\n";
    commit(&mut cluster, &stateful("db:1", 2, kept_back));
    commit(&mut cluster, &stateful("db:2", 2, kept_back));
    cluster.behaviour.insert("db-0".to_owned(), Behaviour::NeverReady);
    cluster.end_pod("db-0").unwrap();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, not ready
    db-1 of revision 2, data-db-1, ready
    ");
    commit(&mut cluster, &stateful("db:3", 2, ""));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 3, data-db-0, not ready
    db-1 of revision 2, data-db-1, ready
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 3, data-db-0, ready
    db-1 of revision 3, data-db-1, ready
    ");
    cluster.ends_quietly();
}

/// The set of `replicas` pods that ask for so much cpu; a node has 4.
fn asking(replicas: u32, cpu: u32, more: &str) -> String {
    let asks = format!("image: db:1\n        resources: {{requests: {{cpu: {cpu}}}}}\n");
    stateful("db:1", replicas, more).replace("image: db:1\n", &asks)
}

#[test]
fn a_pod_that_finds_no_place_does_not_hold_up_the_update_that_would() {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &asking(2, 3, ""));
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-1`: 0/1 nodes are available: 1 Insufficient cpu");
    commit(&mut cluster, &asking(2, 1, ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    + create    ControllerRevision/default/db-fvpbmk8nmd  revision 2
    - delete    Pod/default/db-1
    + provision PersistentVolumeClaim/default/data-db-1  on a
    + create    Pod/default/db-1  on a
    - stop      Pod/default/db-0  on a
    + create    Pod/default/db-0  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 2, data-db-0, ready
    db-1 of revision 2, data-db-1, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_finds_no_place_below_the_partition_keeps_its_revision() {
    let mut cluster = Cluster::new(&["a"]);
    let partition = "  updateStrategy: {rollingUpdate: {partition: 2}}\n";
    commit(&mut cluster, &asking(2, 3, partition));
    commit(&mut cluster, &asking(2, 1, partition));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, not ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-1`: 0/1 nodes are available: 1 Insufficient cpu");
    commit(&mut cluster, &asking(2, 1, ""));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 2, data-db-0, ready
    db-1 of revision 2, data-db-1, ready
    ");
    cluster.ends_quietly();
}

/// A set of two whose pods, which have their data on one node, are not to be together, and which
/// comes to rest with `db-1` there alone.
fn kept_apart_on_one_node(more: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &stateful("db:1", 2, more));
    commit(&mut cluster, &apart(&stateful("db:1", 2, more)));
    cluster.end_pod("db-0").unwrap();
    cluster.settle();
    cluster
}

fn apart(set: &str) -> String {
    let term = "{labelSelector: {matchLabels: {app: db}}, topologyKey: kubernetes.io/hostname}";
    let affinity = format!(
        "      affinity: {{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{term}]}}}}"
    );
    set.replacen("      containers:\n", &format!("{affinity}\n      containers:\n"), 1)
}

/// What comes of an update that takes it back that the two are not to be together.
fn may_be_together_again(more: &str) -> String {
    let mut cluster = kept_apart_on_one_node(more);
    let before = pods(&cluster);
    commit(&mut cluster, &stateful("db:1", 2, more));
    let told = format!("{before}\n{}\n{}", cluster.last_reconcile(), pods(&cluster));
    cluster.ends_quietly();
    told
}

#[test]
fn an_old_pod_that_keeps_the_new_one_away_is_replaced_in_sets_of_either_kind() {
    let told = may_be_together_again("  podManagementPolicy: Parallel\n");
    assert_snapshot!(told, @"
    db-0 of revision 2, data-db-0, not ready
    db-1 of revision 2, data-db-1, ready
    ~ update    StatefulSet/default/db
    ~ update    ControllerRevision/default/db-s9q7kj6fcm  revision 1 is revision 3 again
    - delete    Pod/default/db-0
    + create    Pod/default/db-0
    - stop      Pod/default/db-1  on a
    ~ place     Pod/default/db-0  on a
    + create    Pod/default/db-1  on a
    finished: 0 deviations, 0 missing, superseded false
    db-0 of revision 3, data-db-0, ready
    db-1 of revision 3, data-db-1, ready
    ");
    assert_eq!(may_be_together_again(""), told, "and before its turn");
}

#[test]
fn it_is_replaced_though_the_set_is_to_grow_in_order() {
    let mut cluster = kept_apart_on_one_node("");
    commit(&mut cluster, &stateful("db:1", 3, ""));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 3, data-db-0, ready
    db-1 of revision 3, data-db-1, ready
    db-2 of revision 3, data-db-2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn no_old_pod_is_replaced_for_one_that_has_no_place_without_it_either() {
    let parallel = "  podManagementPolicy: Parallel\n";
    let mut cluster = kept_apart_on_one_node(parallel);
    commit(&mut cluster, &apart(&stateful("db:2", 2, parallel)));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 3, data-db-0, not ready
    db-1 of revision 2, data-db-1, ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-0`: 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules");
}

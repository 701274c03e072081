//! StatefulSets: names, order, claims and revisions.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::node_order::NodeOrder;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{config, stateful, web};

/// The pods of `db` by ordinal, with their revision's number, node and claim.
pub fn pods(cluster: &Cluster) -> String {
    let world = cluster.world();
    let revision = |pod: &kgit::domain::record::Pod| {
        let mut all = world.revisions.values();
        all.find(|it| it.revision_digest == pod.revision_digest).map_or(0, |it| it.number)
    };
    let mut lines: Vec<String> = cluster
        .pods()
        .iter()
        .filter(|pod| pod.key.name.starts_with("db-"))
        .map(|pod| {
            let claims: Vec<&str> = pod.template.claims().collect();
            let ready = if pod.is_ready() { "ready" } else { "not ready" };
            format!("{} of revision {}, {}, {ready}", pod.key.name, revision(pod), claims.join(","))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

pub fn commit(cluster: &mut Cluster, text: &str) {
    cluster.commit(&[("db.yaml", text)]);
    cluster.settle();
}

#[test]
fn pods_come_up_in_order_with_claims_of_their_own() {
    let mut cluster = Cluster::new(&["a"]);
    let db = stateful("db:1", 3, "");
    let forecast = cluster.diff(&[("db.yaml", &db)]);
    commit(&mut cluster, &db);
    assert_snapshot!(forecast, @"
    + create    StatefulSet/default/db
    + create    ControllerRevision/default/db-s9q7kj6fcm  revision 1
    + create    PersistentVolumeClaim/default/data-db-0
    + provision PersistentVolumeClaim/default/data-db-0  on a
    + create    Pod/default/db-0  on a
    + create    PersistentVolumeClaim/default/data-db-1
    + provision PersistentVolumeClaim/default/data-db-1  on a
    + create    Pod/default/db-1  on a
    + create    PersistentVolumeClaim/default/data-db-2
    + provision PersistentVolumeClaim/default/data-db-2  on a
    + create    Pod/default/db-2  on a
    ");
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    StatefulSet/default/db
    + create    ControllerRevision/default/db-s9q7kj6fcm  revision 1
    + create    PersistentVolumeClaim/default/data-db-0
    + provision PersistentVolumeClaim/default/data-db-0  on a
    + create    Pod/default/db-0  on a
    + create    PersistentVolumeClaim/default/data-db-1
    + provision PersistentVolumeClaim/default/data-db-1  on a
    + create    Pod/default/db-1  on a
    + create    PersistentVolumeClaim/default/data-db-2
    + provision PersistentVolumeClaim/default/data-db-2  on a
    + create    Pod/default/db-2  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    db-2 of revision 1, data-db-2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn a_pod_is_known_by_its_name_its_ordinal_and_its_revision() {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &stateful("db:1", 1, "  ordinals: {start: 7}\n"));
    let pod = cluster.pods()[0].clone();
    let labels: Vec<String> = pod.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_snapshot!(labels.join("\n"), @"
    app=db
    apps.kubernetes.io/pod-index=7
    controller-revision-hash=db-s9q7kj6fcm
    statefulset.kubernetes.io/pod-name=db-7
    ");
    let spec = &pod.placed.as_ref().unwrap().spec;
    assert_eq!((spec.hostname.as_str(), pod.index), ("db-7", Some(7)));
    assert_eq!(pod.template.network.subdomain.as_deref(), Some("db"));
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_is_not_ready_holds_up_those_after_it_and_says_so() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db-1".to_owned(), Behaviour::NeverReady);
    commit(&mut cluster, &stateful("db:1", 3, ""));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, not ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for pod `db-1` to be ready");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    db-2 of revision 1, data-db-2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn in_parallel_no_pod_waits_for_another() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db-0".to_owned(), Behaviour::NeverReady);
    let parallel = "  podManagementPolicy: Parallel\n";
    commit(&mut cluster, &stateful("db:1", 3, parallel));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, not ready
    db-1 of revision 1, data-db-1, ready
    db-2 of revision 1, data-db-2, ready
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for pod `db-0` to be ready");
    commit(&mut cluster, &stateful("db:1", 0, parallel));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    - stop      Pod/default/db-2  on a
    - stop      Pod/default/db-1  on a
    - stop      Pod/default/db-0  on a
    ~ retain    PersistentVolumeClaim/default/data-db-0
    ~ retain    PersistentVolumeClaim/default/data-db-1
    ~ retain    PersistentVolumeClaim/default/data-db-2
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn scaling_down_keeps_the_claims_and_scaling_up_finds_them_again() {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &stateful("db:1", 3, ""));
    let uid = |cluster: &Cluster, name: &str| {
        let world = cluster.world();
        let mut claims = world.objects.values();
        claims.find(|it| &*it.resource.key.name == name).map(|it| it.uid.clone())
    };
    let before = uid(&cluster, "data-db-2");
    commit(&mut cluster, &stateful("db:1", 1, ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    - stop      Pod/default/db-2  on a
    ~ retain    PersistentVolumeClaim/default/data-db-2
    - stop      Pod/default/db-1  on a
    ~ retain    PersistentVolumeClaim/default/data-db-1
    finished: 0 deviations, 0 missing, superseded false
    ");
    commit(&mut cluster, &stateful("db:1", 3, ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    + restore   PersistentVolumeClaim/default/data-db-1
    + restore   PersistentVolumeClaim/default/data-db-2
    + create    Pod/default/db-1  on a
    + create    Pod/default/db-2  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_eq!(uid(&cluster, "data-db-2"), before);
    cluster.ends_quietly();
}

#[test]
fn claims_go_with_the_pods_where_the_set_says_so() {
    let mut cluster = Cluster::new(&["a"]);
    let delete = "  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}\n";
    commit(&mut cluster, &stateful("db:1", 2, delete));
    commit(&mut cluster, &stateful("db:1", 1, delete));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    - stop      Pod/default/db-1  on a
    - delete    PersistentVolumeClaim/default/data-db-1
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_eq!(cluster.orders("a").remove_volumes.len(), 1);
    cluster.ends_quietly();
}

#[test]
fn claims_outlive_the_set_whatever_it_says_and_it_finds_them_when_it_comes_back() {
    let mut cluster = Cluster::new(&["a"]);
    let delete =
        "  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}\n";
    let db = stateful("db:1", 2, delete);
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("db.yaml", &db)]);
    cluster.settle();
    commit(&mut cluster, "");
    assert_snapshot!(cluster.last_reconcile(), @"
    - delete    StatefulSet/default/db
    - stop      Pod/default/db-0  on a
    - stop      Pod/default/db-1  on a
    ~ retain    PersistentVolumeClaim/default/data-db-0
    ~ retain    PersistentVolumeClaim/default/data-db-1
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert!(cluster.orders("a").remove_volumes.is_empty());
    commit(&mut cluster, &db);
    assert_snapshot!(cluster.last_reconcile(), @"
    + restore   StatefulSet/default/db
    + restore   PersistentVolumeClaim/default/data-db-0
    + restore   PersistentVolumeClaim/default/data-db-1
    + create    Pod/default/db-0  on a
    + create    Pod/default/db-1  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    commit(&mut cluster, "");
    cluster.pass(Duration::from_secs(25 * 60 * 60));
    cluster.prune(&["PersistentVolumeClaim/default/data-db-1"]);
    assert_eq!(cluster.orders("a").remove_volumes.len(), 1);
    commit(&mut cluster, &db);
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    StatefulSet/default/db
    + restore   PersistentVolumeClaim/default/data-db-0
    + create    ControllerRevision/default/db-s9q7kj6fcm  revision 1
    + create    Pod/default/db-0  on a
    + create    PersistentVolumeClaim/default/data-db-1
    + provision PersistentVolumeClaim/default/data-db-1  on a
    + create    Pod/default/db-1  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn an_update_rolls_from_the_highest_ordinal_and_a_revert_brings_the_revision_back() {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &stateful("db:1", 3, ""));
    assert_snapshot!(cluster.diff(&[("db.yaml", &stateful("db:2", 3, ""))]), @"
    ~ update    StatefulSet/default/db
    + create    ControllerRevision/default/db-z95pqxqvxb  revision 2
    - stop      Pod/default/db-2  on a
    + create    Pod/default/db-2  on a
    - stop      Pod/default/db-1  on a
    + create    Pod/default/db-1  on a
    - stop      Pod/default/db-0  on a
    + create    Pod/default/db-0  on a
    ");
    commit(&mut cluster, &stateful("db:2", 3, ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    + create    ControllerRevision/default/db-z95pqxqvxb  revision 2
    - stop      Pod/default/db-2  on a
    + create    Pod/default/db-2  on a
    - stop      Pod/default/db-1  on a
    + create    Pod/default/db-1  on a
    - stop      Pod/default/db-0  on a
    + create    Pod/default/db-0  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    commit(&mut cluster, &stateful("db:1", 3, ""));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    StatefulSet/default/db
    ~ update    ControllerRevision/default/db-s9q7kj6fcm  revision 1 is revision 3 again
    - stop      Pod/default/db-2  on a
    + create    Pod/default/db-2  on a
    - stop      Pod/default/db-1  on a
    + create    Pod/default/db-1  on a
    - stop      Pod/default/db-0  on a
    + create    Pod/default/db-0  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn pods_below_the_partition_keep_their_revision_even_when_they_are_made_again() {
    let mut cluster = Cluster::new(&["a"]);
    let partition = "  updateStrategy: {rollingUpdate: {partition: 2}}\n";
    commit(&mut cluster, &stateful("db:1", 3, partition));
    commit(&mut cluster, &stateful("db:2", 3, partition));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    db-2 of revision 2, data-db-2, ready
    ");
    cluster.behaviour.insert("db-0".to_owned(), Behaviour::Fails);
    cluster.agents_act();
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    db-2 of revision 2, data-db-2, ready
    ");
    commit(&mut cluster, &stateful("db:2", 3, ""));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 2, data-db-0, ready
    db-1 of revision 2, data-db-1, ready
    db-2 of revision 2, data-db-2, ready
    ");
    cluster.ends_quietly();
}

#[test]
fn on_delete_a_pod_gets_the_new_revision_when_it_is_made_again() {
    let mut cluster = Cluster::new(&["a"]);
    let on_delete = "  updateStrategy: {type: OnDelete}\n";
    commit(&mut cluster, &stateful("db:1", 2, on_delete));
    commit(&mut cluster, &stateful("db:2", 2, on_delete));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    ");
    cluster.behaviour.insert("db-1".to_owned(), Behaviour::Fails);
    cluster.agents_act();
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 2, data-db-1, ready
    ");
    cluster.end_pod("db-0").unwrap();
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 2, data-db-0, ready
    db-1 of revision 2, data-db-1, ready
    ");
    assert_snapshot!(cluster.last_reconcile(), @"
    - stop      Pod/default/db-0  on a
    + create    Pod/default/db-0  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_eq!(cluster.end_pod("db-7").unwrap_err().reason, "NotFound");
    cluster.ends_quietly();
}

#[test]
fn a_pod_counts_only_after_it_was_ready_for_long_enough() {
    let mut cluster = Cluster::new(&["a"]);
    commit(&mut cluster, &stateful("db:1", 2, "  minReadySeconds: 30\n"));
    assert_snapshot!(pods(&cluster), @"db-0 of revision 1, data-db-0, ready");
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for pod `db-0` to be ready for 30 s");
    cluster.pass(Duration::from_secs(31));
    cluster.settle();
    cluster.pass(Duration::from_secs(31));
    assert_snapshot!(pods(&cluster), @"
    db-0 of revision 1, data-db-0, ready
    db-1 of revision 1, data-db-1, ready
    ");
    assert_eq!(cluster.waits(), Vec::<String>::new());
    cluster.ends_quietly();
}

#[test]
fn a_name_that_somebody_else_has_is_waited_for() {
    let mut cluster = Cluster::new(&["a"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: db-0}\nspec:\n  \
               containers: [{name: main, image: main:1}]\n";
    cluster.commit(&[("pod.yaml", pod), ("db.yaml", &stateful("db:1", 1, ""))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for the name `db-0`, which the pod of Pod/default/db-0 has");
    cluster.commit(&[("pod.yaml", "")]);
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"db-0 of revision 1, data-db-0, ready");
    cluster.commit(&[("pod.yaml", pod)]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/db-0 waits for its name, which a pod of StatefulSet/default/db has");
    commit(&mut cluster, "");
    assert_eq!(cluster.waits(), Vec::<String>::new());
    cluster.ends_quietly();
}

#[test]
fn an_ordinal_of_a_lost_node_is_not_started_elsewhere() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let plain = stateful("db:1", 2, "")
        .replace("        volumeMounts: [{name: data, mountPath: /data}]\n", "");
    let without_claims = plain.split("  volumeClaimTemplates").next().unwrap();
    commit(&mut cluster, without_claims);
    let node = cluster.pods()[0].node().unwrap().to_string();
    cluster.lost.insert(node.clone());
    cluster.pass(Duration::from_secs(1000));
    assert_eq!(cluster.pods().iter().filter(|pod| pod.deletion.is_some()).count(), 0);
    assert_snapshot!(cluster.waits().join("\n"), @"
    StatefulSet/default/db waits for pod `db-0` to be ready
    StatefulSet/default/db waits for node `b` to come back, on which is pod `db-0`
    ");
    cluster.lost.clear();
    cluster.report(&node, None, Vec::new());
    cluster.ends_quietly();
}

#[test]
fn a_changed_setting_rolls_the_pods_and_history_has_a_limit() {
    let mut cluster = Cluster::new(&["a"]);
    let db = stateful("db:1", 1, "  revisionHistoryLimit: 1\n");
    let db = db.replace(
        "        image: db:1\n",
        "        image: db:1\n        envFrom: [{configMapRef: {name: settings}}]\n",
    );
    let other = config("a").replace("settings", "other");
    let files = [("db.yaml", &*db), ("other.yaml", &other), ("settings.yaml", &config("a"))];
    cluster.commit(&files);
    cluster.settle();
    for mode in ["b", "c"] {
        cluster.commit(&[("settings.yaml", &config(mode))]);
        cluster.settle();
    }
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    ConfigMap/default/settings
    + create    ControllerRevision/default/db-j826jbdnw7  revision 3
    - stop      Pod/default/db-0  on a
    + create    Pod/default/db-0  on a
    - delete    ControllerRevision/default/db-h25g4267c5
    finished: 0 deviations, 0 missing, superseded false
    ");
    let world = cluster.world();
    let mut numbers: Vec<u64> = world.revisions.values().map(|it| it.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    cluster.commit(&[("settings.yaml", "")]);
    cluster.settle();
    assert_snapshot!(pods(&cluster), @"db-0 of revision 3, data-db-0, ready");
    cluster.commit(&[("settings.yaml", &config("c"))]);
    cluster.ends_quietly();
}

#[test]
fn a_replication_controller_is_a_set_in_older_words() {
    let mut cluster = Cluster::new(&["a"]);
    let rc = |replicas: u32| {
        format!(
            "apiVersion: v1\nkind: ReplicationController\nmetadata: {{name: old}}\nspec:\n  \
             replicas: {replicas}\n  template:\n    metadata: {{labels: {{app: old}}}}\n    \
             spec: {{containers: [{{name: m, image: m:1}}]}}\n"
        )
    };
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("rc.yaml", &rc(2))]);
    cluster.settle();
    cluster.commit(&[("rc.yaml", &rc(1))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    ReplicationController/default/old
    - stop      Pod/default/old-4stcd  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.commit(&[("rc.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    - delete    ReplicationController/default/old
    - stop      Pod/default/old-t27zr  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_eq!(cluster.pods().len(), 1);
    cluster.ends_quietly();
}

#[test]
fn a_claim_takes_the_place_of_a_volume_of_its_name() {
    let mut cluster = Cluster::new(&["a"]);
    let volumes = "      volumes: [{name: data, emptyDir: {}}, {name: tmp, emptyDir: {}}]\n";
    let claims = "  volumeClaimTemplates:\n";
    let set = stateful("db:1", 1, "").replace(claims, &format!("{volumes}{claims}"));
    commit(&mut cluster, &set);
    let pods = cluster.pods();
    let volumes = pods[0].template.volumes.iter();
    let said: Vec<String> = volumes.map(|it| format!("{}: {:?}", it.name, it.source)).collect();
    assert_snapshot!(said.join("\n"), @r#"
    data: Claim { name: "data-db-0", read_only: false }
    tmp: EmptyDir { memory: false, size_limit_bytes: None }
    "#);
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_is_one_too_many_is_counted_as_available_in_its_time_too() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("db.yaml", &stateful("db:1", 3, "  podManagementPolicy: Parallel\n"))]);
    cluster.commit(&[("db.yaml", &stateful("db:3", 2, "  minReadySeconds: 30\n"))]);
    cluster.agents_act();
    // No turn leaves a count to be noted by a later one.
    cluster.pass(Duration::from_secs(60));
    cluster.pass(Duration::from_secs(120));
    let world = cluster.world();
    let state = world.stateful_sets.values().next().unwrap();
    assert_eq!((state.status.ready, state.status.available), (2, 2));
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_gets_its_place_late_is_waited_for_once() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db".to_owned(), Behaviour::NeverReady);
    cluster.order("a", NodeOrder::Cordon).unwrap();
    commit(&mut cluster, &stateful("db:1", 1, ""));
    cluster.pass(Duration::from_secs(60));
    cluster.order("a", NodeOrder::Uncordon).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for pod `db-0` to be ready");
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

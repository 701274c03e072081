//! A master that was restored from a backup knows less than its agents: what must not run twice
//! waits until it has heard of everybody.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::epoch;
use kgit::domain::node_order::NodeOrder;
use kgit::domain::record::Pod;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Epoch, Generation, PodUid};
use kgit_protocol::observation::{PodObservation, PodPhase};

use crate::cluster::Cluster;
use crate::manifests::{stateful, web};

/// A cluster of two nodes with a StatefulSet and a Deployment on them, just restored from a backup
/// that was made a moment ago.
fn restored() -> Cluster {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("db.yaml", &stateful("db:1", 1, ""))]);
    cluster.settle();
    cluster.restore();
    cluster
}

/// What the node runs, told after it has taken the first orders of the new epoch.
pub fn tells(cluster: &mut Cluster, node: &str, pods: Vec<PodObservation>) {
    for uid in pods_on(cluster, node) {
        if !pods.iter().any(|pod| pod.uid == uid) {
            let gone = PodObservation::bare(uid.clone(), PodPhase::Gone);
            cluster.reported.insert(uid, gone);
        }
    }
    cluster.report_all(node, None, pods, true);
}

pub fn running(uid: &PodUid) -> PodObservation {
    PodObservation { ready: true, ..PodObservation::bare(uid.clone(), PodPhase::Running) }
}

fn pods_on(cluster: &Cluster, node: &str) -> Vec<PodUid> {
    let all = cluster.pods().into_iter();
    let here = all.filter(|pod| pod.node().is_some_and(|it| it.as_str() == node));
    here.map(|pod| pod.uid.clone()).collect()
}

#[test]
fn nodes_go_on_with_what_they_have_until_they_have_told_what_that_is() {
    let mut cluster = restored();
    cluster.turn(Vec::new());
    let set = cluster.orders("a");
    assert!(set.pods.is_empty() && set.keep_others && set.stamp.epoch > Epoch(0));
    let pods = pods_on(&cluster, "a");
    tells(&mut cluster, "a", pods.iter().map(running).collect());
    let set = cluster.orders("a");
    assert!(set.pods.keys().eq(pods.iter()) && !set.keep_others);
    assert_eq!(pods_on(&cluster, "a"), pods, "nothing was replaced");
    assert!(!cluster.world().meta.restored, "the backup was the newest state");
}

#[test]
fn a_new_pod_gets_no_address_that_may_have_been_given_out_since_the_backup() {
    let mut cluster = restored();
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    cluster.commit(&[("web.yaml", &web("web:1", 4)), ("db.yaml", &stateful("db:1", 1, ""))]);
    for node in ["a", "b"] {
        let pods = pods_on(&cluster, node);
        let known = pods.iter().filter(|uid| before.contains(uid));
        tells(&mut cluster, node, known.map(running).collect());
    }
    cluster.settle();
    let (old, new): (Vec<_>, Vec<_>) =
        cluster.pods().into_iter().partition(|pod| before.contains(&pod.uid));
    let address = |pod: &Pod| u32::from(pod.placed.as_ref().unwrap().spec.address.unwrap());
    for pod in &new {
        let mut there = old.iter().filter(|it| it.node() == pod.node());
        assert!(there.all(|it| address(it).abs_diff(address(pod)) > 50), "{:?}", pod.placed);
    }
    assert_eq!((old.len(), new.len()), (3, 2));
}

#[test]
fn nothing_is_pruned_before_all_nodes_have_told_what_they_run() {
    let mut cluster = restored();
    let (a, b) = (pods_on(&cluster, "a"), pods_on(&cluster, "b"));
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("db.yaml", "")]);
    tells(&mut cluster, "a", a.iter().map(running).collect());
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for approval of plan 29de21d17064 (`kgit approve 29de21d17064`): the master was restored from a backup, and waits for node `b`, which has not said yet what it runs since the master was restored; if it is gone for good, remove it");
    tells(&mut cluster, "b", b.iter().map(running).collect());
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for approval of plan 29de21d17064 (`kgit approve 29de21d17064`): the master was restored from a backup, and waits for nodes that joined after the backup that the master was restored from, for half a minute");
    cluster.pass(epoch::LISTENS);
    assert_snapshot!(cluster.waits().join("\n"), @"");
    cluster.settle();
    assert!(cluster.held().is_none() && !cluster.world().meta.restored);
    assert_eq!(cluster.pods().len(), 2, "of the Deployment");
}

#[test]
fn a_statefulsets_pod_waits_while_another_of_its_name_may_run() {
    let mut cluster = restored();
    let (a, b) = (pods_on(&cluster, "a"), pods_on(&cluster, "b"));
    let db = cluster.pods().into_iter().find(|pod| &*pod.key.name == "db-0").unwrap();
    let (there, elsewhere) = if a.contains(&db.uid) { ("a", "b") } else { ("b", "a") };
    let others = if there == "a" { &b } else { &a };
    // It was moved in what was lost.
    tells(&mut cluster, there, Vec::new());
    let wait = format!(
        "StatefulSet/default/db waits for a place for pod `db-0`: node `{elsewhere}`, which has \
         not said yet what it runs since the master was restored; if it is gone for good, remove it"
    );
    assert!(cluster.waits().contains(&wait), "{:?}", cluster.waits());
    let stranger = PodUid::new("moved");
    let mut all: Vec<PodObservation> = others.iter().map(running).collect();
    all.push(running(&stranger));
    tells(&mut cluster, elsewhere, all);
    let wait = format!(
        "StatefulSet/default/db waits for a place for pod `db-0`: node `{elsewhere}`, which runs 1 \
         pod not in the backup; `kgit approve restored` has that stopped"
    );
    assert!(cluster.waits().contains(&wait), "{:?}", cluster.waits());
    assert!(cluster.orders(elsewhere).keep_others, "the stranger goes on");

    cluster.approve("restored").unwrap();
    assert!(!cluster.orders(elsewhere).keep_others);
    tells(&mut cluster, elsewhere, vec![PodObservation::bare(stranger, PodPhase::Gone)]);
    cluster.pass(epoch::LISTENS);
    cluster.settle();
    let again = cluster.pods().into_iter().find(|pod| &*pod.key.name == "db-0").unwrap();
    assert_ne!(again.uid, db.uid, "a uid is never given twice");
    assert!(again.placed.is_some());
}

#[test]
fn one_approval_is_enough_however_slowly_its_pods_end() {
    let mut cluster = restored();
    let others = [PodUid::new("ends-at-once"), PodUid::new("takes-its-time")];
    let mut all: Vec<PodObservation> = pods_on(&cluster, "a").iter().map(running).collect();
    all.extend(others.iter().map(running));
    tells(&mut cluster, "a", all);
    cluster.approve("restored").unwrap();
    let gone = PodObservation::bare(others[0].clone(), PodPhase::Gone);
    cluster.report("a", None, vec![gone]);
    assert!(!cluster.world().meta.restored && !cluster.orders("a").keep_others);
}

#[test]
fn a_node_that_is_removed_is_not_waited_for() {
    let mut cluster = restored();
    let db = cluster.pods().into_iter().find(|pod| &*pod.key.name == "db-0").unwrap();
    let there = db.node().unwrap().to_string();
    let elsewhere = if there == "a" { "b" } else { "a" };
    tells(&mut cluster, &there, Vec::new());
    cluster.lost.insert(elsewhere.to_owned());
    cluster.pass(Duration::from_secs(100));
    cluster.order(elsewhere, NodeOrder::Fence).unwrap();
    cluster.order(elsewhere, NodeOrder::Remove).unwrap();
    cluster.pass(epoch::LISTENS);
    let again = cluster.pods().into_iter().find(|pod| &*pod.key.name == "db-0").unwrap();
    assert_eq!(again.node().map(ToString::to_string), Some(there));
}

#[test]
fn an_agent_with_newer_orders_than_the_backup_has_stops_all_removals() {
    let mut cluster = restored();
    let have = Stamp { generation: Generation(99), ..stamp_before(&cluster) };
    cluster.pull("a", have);
    assert!(cluster.world().meta.restored);
}

fn stamp_before(cluster: &Cluster) -> Stamp {
    Stamp { epoch: Epoch(0), ..cluster.orders("a").stamp }
}

#[test]
fn pods_that_had_no_place_are_made_anew() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.order("a", NodeOrder::Cordon).unwrap();
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    let before = cluster.pods()[0].uid.clone();
    let begun = epoch::begin(&cluster.world(), Epoch(0), false, cluster.now);
    assert_eq!(begun.iter().filter(|it| format!("{it:?}").starts_with("Remove")).count(), 2);
    cluster.restore();
    cluster.turn(Vec::new());
    assert_ne!(cluster.pods()[0].uid, before);
}

#[test]
fn so_are_they_where_nobody_told_that_an_older_copy_was_put_back() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.order("a", NodeOrder::Cordon).unwrap();
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    let before = cluster.pods()[0].uid.clone();
    let have = Stamp { generation: Generation(99), ..stamp_before(&cluster) };
    cluster.pull("a", have);
    assert_eq!(cluster.pods().len(), 1);
    assert_ne!(cluster.pods()[0].uid, before);
}

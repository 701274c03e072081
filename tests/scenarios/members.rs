//! Machines that the master does not know, or no longer: what they show, and what becomes of them.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::node_order::NodeOrder;
use kgit::domain::world::departed_key;
use kgit::master::event::Credential;
use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Digest, Generation, PodUid};
use kgit_protocol::observation::{PodObservation, PodPhase};

use crate::cluster::Cluster;
use crate::manifests::{stateful, web};
use crate::restores::{running, tells};

const RANGE: &str = "10.77.9.0/24";

/// Of the last set for a machine that is no member any more.
fn last_stamp(cluster: &Cluster, node: &str) -> Option<Stamp> {
    let key = departed_key(&Digest::of(node.as_bytes()));
    cluster.world().departed.get(&key).map(|row| row.issued.clone())
}

fn says_what_it_runs(cluster: &mut Cluster, node: &str) {
    let all = cluster.pods().into_iter();
    let here = all.filter(|pod| pod.node().is_some_and(|it| it.as_str() == node));
    let here: Vec<PodObservation> = here.map(|pod| running(&pod.uid)).collect();
    tells(cluster, node, here);
}

#[test]
fn a_node_that_joined_after_the_backup_is_a_member_by_its_certificate_and_in_doubt() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    cluster.restore();
    says_what_it_runs(&mut cluster, "a");
    says_what_it_runs(&mut cluster, "b");
    assert!(!cluster.world().meta.restored, "nobody knows more than the backup, yet");

    cluster.ask_to_join("c", RANGE, Credential::Certificate).unwrap();
    assert!(cluster.world().meta.restored);
    assert!(cluster.orders("c").keep_others, "what it runs goes on");
    cluster.commit(&[("db.yaml", &stateful("db:1", 1, ""))]);
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-0`: node `c`, which has not said yet what it runs since the master was restored; if it is gone for good, remove it");
    let stranger = PodUid::new("made-after-the-backup");
    cluster.report_all("c", None, vec![running(&stranger)], true);
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-0`: node `c`, which runs 1 pod not in the backup; `kgit approve restored` has that stopped");

    cluster.approve("restored").unwrap();
    assert!(!cluster.orders("c").keep_others);
    let gone = PodObservation::bare(stranger, PodPhase::Gone);
    cluster.report_all("c", None, vec![gone], true);
    cluster.pass(Duration::from_secs(60));
    cluster.settle();
    assert_eq!(cluster.waits(), Vec::<String>::new());
}

#[test]
fn what_must_not_run_twice_waits_for_nodes_that_may_have_joined_after_the_backup() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("db.yaml", &stateful("db:1", 1, ""))]);
    cluster.settle();
    cluster.restore();
    // It was moved in what was lost, to a node that nobody has heard of.
    tells(&mut cluster, "a", Vec::new());
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-0`: nodes that joined after the backup that the master was restored from, for half a minute");
    cluster.pass(Duration::from_secs(31));
    cluster.settle();
    assert!(cluster.pods()[0].placed.is_some(), "nobody came");
}

#[test]
fn a_name_that_another_machine_may_have_since_is_freed_before_anything_is_started() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("db.yaml", &stateful("db:1", 1, ""))]);
    cluster.settle();
    cluster.restore();
    cluster.lost.extend(["a".to_owned(), "b".to_owned()]);
    cluster.pass(Duration::from_secs(100));
    let there = cluster.pods()[0].node().unwrap().to_string();
    cluster.order(&there, NodeOrder::Remove).unwrap();
    let elsewhere = if there == "a" { "b" } else { "a" };
    cluster.lost.remove(elsewhere);
    says_what_it_runs(&mut cluster, elsewhere);
    cluster.prune(&["PersistentVolumeClaim/default/data-db-0"]);
    assert_eq!(cluster.pods()[0].node(), None, "the name's new owner may come yet");
    cluster.pass(Duration::from_secs(31));
    cluster.settle();
    assert!(cluster.pods()[0].placed.is_some());
}

#[test]
fn data_that_left_with_its_node_is_named_and_can_be_given_up() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("db.yaml", &stateful("db:1", 1, ""))]);
    cluster.settle();
    let there = cluster.pods()[0].node().unwrap().to_string();
    cluster.leave(&there);
    assert_snapshot!(cluster.waits().join("\n"), @"StatefulSet/default/db waits for a place for pod `db-0`: claim `data-db-0`, whose data is on node `b`, which is no member: it has it again under that name, or `kgit prune PersistentVolumeClaim/default/data-db-0` gives it up");
    cluster.prune(&["PersistentVolumeClaim/default/data-db-0"]);
    cluster.settle();
    let again = cluster.pods()[0].node().unwrap().to_string();
    assert_ne!(again, there);
}

#[test]
fn a_member_whose_answer_was_lost_is_the_same_node() {
    let mut cluster = Cluster::new(&["a"]);
    let before = cluster.world();
    cluster.ask_to_join("a", "10.77.0.0/24", Credential::Key).unwrap();
    cluster.ask_to_join("a", "10.77.0.0/24", Credential::Certificate).unwrap();
    assert_eq!(cluster.world().nodes.len(), before.nodes.len());
    assert!(!cluster.world().meta.restored);
}

#[test]
fn a_key_alone_makes_nobody_a_member() {
    let mut cluster = Cluster::new(&["a"]);
    let refused = cluster.ask_to_join("b", RANGE, Credential::Key).unwrap_err();
    assert_eq!(refused.reason, "NotAMember");
}

#[test]
fn a_node_that_was_taken_out_is_let_in_by_a_token_alone_and_nothing_looks_restored() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    let had = cluster.orders("b").stamp;
    cluster.lost.insert("b".to_owned());
    cluster.pass(Duration::from_secs(100));
    cluster.order("b", NodeOrder::Remove).unwrap();
    let told = last_stamp(&cluster, "b").unwrap();
    assert_eq!((told.epoch, told.generation), (had.epoch, Generation(had.generation.0 + 1)));

    let refused = cluster.ask_to_join("b", RANGE, Credential::Certificate).unwrap_err();
    assert_eq!(refused.reason, "NodeRemoved");
    cluster.lost.remove("b");
    cluster.join_with("b", RANGE);
    assert_eq!(last_stamp(&cluster, "b"), None);
    cluster.pull("b", told);
    cluster.settle();
    assert!(!cluster.world().meta.restored, "its orders are those of this master");
    assert!(cluster.orders("b").stamp.generation > had.generation);
}

#[test]
fn a_machine_that_left_is_remembered_for_as_long_as_it_may_have_a_certificate() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    cluster.leave("b");
    assert!(last_stamp(&cluster, "b").is_some());
    cluster.now = cluster.now.after(Duration::from_secs(3 * 366 * 24 * 3600));
    cluster.leave("c");
    assert!(last_stamp(&cluster, "b").is_none() && last_stamp(&cluster, "c").is_some());
}

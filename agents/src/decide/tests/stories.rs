//! What happens to a pod, told as lines.

use std::collections::BTreeMap;

use kgit_protocol::assignment::Stamp;
use kgit_protocol::ids::{Epoch, Generation};
use kgit_protocol::messages::Orders;
use kgit_protocol::observation::{ContainerState, DriftKind, PodPhase};
use serde_json::json;

use crate::decide::outcome::{Note, ProbeResult};
use crate::decide::probing::ProbeKind;
use crate::decide::tests::{World, member, pod, stop};
use crate::node::{Node, Taken};
use crate::runtime::PAUSE;
use crate::spec::SpecKey;

#[tokio::test]
async fn one_container_needs_no_pause_and_a_crash_backs_off() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("m")] })));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
    assert_eq!(world.phase(), PodPhase::Running);
    world.pass(5);
    world.exit("m", 1);
    world.settle().await;
    assert_eq!(world.drain(), "start m 1", "the first restart is at once");
    world.exit("m", 1);
    world.settle().await;
    assert_eq!(world.drain(), "");
    assert_eq!(world.waits("m"), "CrashLoopBackOff");
    world.pass(9);
    world.settle().await;
    assert_eq!(world.drain(), "");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.drain(), "start m 2, remove m 0");
    world.step().await;
    assert!(world.sim.world().containers.len() <= 2, "only the newest two are kept");
}

#[tokio::test]
async fn it_is_told_where_each_containers_image_came_from() {
    let mut world = World::new();
    let fetched = json!({ "name": "y", "image": "there", "pull_policy": "IfNotPresent" });
    let containers = json!([member("x"), fetched]);
    world.order(pod("a", json!({ "containers": containers })));
    world.settle().await;
    let pulled = |world: &mut World| -> Vec<String> {
        let told = std::mem::take(&mut world.events).into_iter();
        told.filter(|line| line.starts_with("Pulled") || line.starts_with("Started")).collect()
    };
    let expected = [
        "Pulled: Container image \"here\" already present on machine",
        "Started: Started container x",
        "Pulled: there",
        "Started: Started container y",
    ];
    assert_eq!(pulled(&mut world), expected, "where it was fetched, that is told instead");
    world.exit("y", 1);
    world.settle().await;
    let again = "Pulled: Container image \"there\" already present on machine";
    assert_eq!(pulled(&mut world), [again, "Started: Started container y"]);
}

#[tokio::test]
async fn members_share_a_pause_and_follow_it_when_it_restarts() {
    let mut world = World::new();
    let order = pod(
        "a",
        json!({
        "init_containers": [member("i")], "containers": [member("x"), member("y")] }),
    );
    world.order(order.clone());
    world.settle().await;
    assert_eq!(world.drain(), "start pause 0, start i 0");
    assert_eq!(world.waits("x"), "PodInitializing");
    world.exit("i", 0);
    world.settle().await;
    assert_eq!(world.drain(), "start x 0, start y 0");
    world.pass(60);
    world.sim.kill_from_outside(&world.id(PAUSE));
    world.settle().await;
    let lines = world.drain();
    assert!(lines == "remove x 0, remove y 0, start pause 1, remove pause, start i 1", "{lines}");
    world.exit("i", 0);
    world.settle().await;
    assert!(world.drain().ends_with("start x 1, start y 1"));
    world.order(stop(&order));
    world.settle().await;
    assert_eq!(world.phase(), PodPhase::Gone);
    assert!(world.sim.world().containers.is_empty());
}

#[tokio::test]
async fn what_others_end_starts_at_once_whatever_the_policy() {
    let mut world = World::new();
    world.order(pod("a", json!({ "restart_policy": "Never", "containers": [member("m")] })));
    world.settle().await;
    world.sim.kill_from_outside(&world.id("m"));
    world.settle().await;
    world.sim.remove_from_outside(&world.id("m"));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, start m 1, start m 2");
    let drifts: Vec<_> = world.told.values().next().unwrap().drifts.clone();
    let kinds: Vec<String> = drifts.iter().map(|drift| format!("{:?}", drift.kind)).collect();
    assert_eq!(kinds, ["Stopped", "Removed"]);
    world.exit("m", 0);
    world.settle().await;
    assert_eq!(world.phase(), PodPhase::Succeeded);
}

#[tokio::test]
async fn a_stubborn_container_is_killed_when_its_grace_is_over() {
    let mut world = World::new();
    let mut container = member("m");
    container["pre_stop"] = json!({ "Exec": { "command": ["x"] } });
    let order = pod("a", json!({ "containers": [container] }));
    world.sim.world().stubborn.insert("m".to_owned());
    world.order(order.clone());
    world.settle().await;
    world.order(stop(&order));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, PreStop m, terminate m 0");
    world.pass(31);
    world.settle().await;
    assert_eq!(world.drain(), "");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.drain(), "kill m 0, remove m 0");
    assert_eq!(world.phase(), PodPhase::Gone);
}

#[tokio::test]
async fn a_pod_that_services_lead_to_is_drained_before_it_is_stopped() {
    let mut world = World::new();
    let order = pod("a", json!({ "containers": [member("m")] }));
    world.node.serve(["a".into()].into());
    world.order(order.clone());
    world.settle().await;
    world.order(stop(&order));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
    world.node.note(&"a".into(), Note::Drained, world.now);
    world.settle().await;
    // What was led to it just before is on its way still.
    assert_eq!(world.drain(), "");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.drain(), "terminate m 0, remove m 0");
}

#[tokio::test]
async fn a_stop_waits_for_traffic_no_longer_than_it_must() {
    let mut world = World::new();
    let order = pod("a", json!({ "containers": [member("m")] }));
    world.node.serve(["a".into()].into());
    world.order(order.clone());
    world.settle().await;
    world.order(stop(&order));
    world.settle().await;
    // The agent dies meanwhile: the wait goes on from where it was.
    world.pass(1);
    world.restart();
    world.node.serve(["a".into()].into());
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.drain(), "terminate m 0, remove m 0");
}

#[tokio::test]
async fn a_missing_image_is_fetched_and_a_failure_backs_off() {
    let mut world = World::new();
    let image = |name: &str| json!({ "name": "m", "image": name, "pull_policy": "IfNotPresent" });
    world.order(pod("a", json!({ "containers": [image("there")] })));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, pull there, start m 0");
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [image("nowhere")] })));
    world.settle().await;
    assert_eq!(world.waits("m"), "ErrImagePull");
    world.pass(10);
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, pull nowhere, pull nowhere");
    assert_eq!(world.waits("m"), "ImagePullBackOff");
}

#[tokio::test]
async fn a_failed_liveness_probe_ends_the_container() {
    let mut world = World::new();
    let mut container = member("m");
    container["liveness"] = json!({ "handler": { "Tcp": { "host": null, "port": 1 } },
        "initial_delay_seconds": 0, "period_seconds": 1, "timeout_seconds": 1,
        "success_threshold": 1, "failure_threshold": 1 });
    let order = pod("a", json!({ "containers": [container] }));
    let probe = order.spec.containers[0].liveness.clone().unwrap();
    world.order(order.clone());
    world.settle().await;
    let result = ProbeResult::Failure("no".to_owned());
    let (container, id, kind) = ("m".to_owned(), world.id("m"), ProbeKind::Liveness);
    world.node.note(&order.uid, Note::Probed { container, id, kind, probe, result }, world.now);
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, terminate m 0, start m 1");
}

#[tokio::test]
async fn a_node_that_was_never_told_anything_removes_nothing() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("m")] })));
    world.settle().await;
    world.node = Node::new(SpecKey([1; 32]), None, BTreeMap::new());
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
}

/// A master that was restored from a backup asks what there is; a complete report tells it.
#[tokio::test]
async fn what_goes_on_for_a_master_of_another_epoch_can_be_told_to_it() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("m")] })));
    world.settle().await;
    world.publish();
    let view = world.view().await;
    assert!(world.node.decide(&view, None, world.now).observations.is_empty());
    let mut set = world.node.set().cloned().unwrap();
    set.pods.clear();
    set.keep_others = true;
    let digest = set.content_digest();
    set.stamp = Stamp { epoch: Epoch(2), generation: Generation(1), digest };
    assert!(matches!(world.node.take(Orders::Set(set)), Taken::Applied(_)));
    assert!(world.node.decide(&view, None, world.now).work.is_empty());
    let told = world.node.observations();
    assert_eq!(told.iter().map(|told| told.phase).collect::<Vec<_>>(), [PodPhase::Running]);
}

#[tokio::test]
async fn what_was_taken_down_on_purpose_comes_back_without_a_word_and_at_once() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("x"), member("y")] })));
    world.settle().await;
    for _ in 0..3 {
        world.pass(60);
        world.exit("x", 1);
        world.settle().await;
    }
    world.drain();
    world.pass(60);
    world.settle().await;
    world.drain();
    world.down_and_up().await;
    world.settle().await;
    assert_eq!(world.drain(), "start pause 1, start x 3, start y 1");
    let told = world.told.values().next().unwrap();
    assert_eq!(told.phase, PodPhase::Running);
    assert!(told.drifts.is_empty(), "{:?}", told.drifts);
    world.sim.remove_from_outside(&world.id("y"));
    world.settle().await;
    assert_eq!(world.told.values().next().unwrap().drifts.len(), 1, "later meddling is told");
}

#[tokio::test]
async fn a_job_that_is_over_does_not_run_again_after_the_node_was_taken_down() {
    let mut world = World::new();
    let job =
        |uid: &str| pod(uid, json!({ "restart_policy": "Never", "containers": [member("m")] }));
    world.order(job("a"));
    world.settle().await;
    world.exit("m", 0);
    // Nobody has looked since: it ended just before the node was taken down.
    world.down_and_up().await;
    world.settle().await;
    assert_eq!(world.phase(), PodPhase::Succeeded);
    world.down_and_up().await;
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
    assert_eq!(world.phase(), PodPhase::Succeeded);
}

#[tokio::test]
async fn an_image_that_was_taken_away_is_told_and_the_container_goes_on() {
    let mut world = World::new();
    let order = pod("a", json!({ "containers": [member("m")] }));
    world.order(order.clone());
    world.settle().await;
    let (container, image) = ("m".to_owned(), "here".to_owned());
    let lost = Note::ImageLost { container, image, put_back: Ok(()) };
    world.node.note(&order.uid, lost, world.now);
    world.settle().await;
    let told = world.told.values().next().unwrap();
    let kinds: Vec<_> = told.drifts.iter().map(|drift| drift.kind).collect();
    assert_eq!(kinds, [DriftKind::ImageLost]);
    assert!(told.ready);
    assert_eq!(world.drain(), "start m 0");
}

#[tokio::test]
async fn a_pod_that_takes_too_much_is_evicted_for_good() {
    let mut world = World::new();
    let order = pod("a", json!({ "containers": [member("m")] }));
    world.order(order.clone());
    world.settle().await;
    let note = Note::Evicted { message: "too much".to_owned() };
    world.node.note(&order.uid, note, world.now);
    world.settle().await;
    assert_eq!(world.drain(), "start m 0, terminate m 0");
    let told = world.told.values().next().unwrap();
    assert_eq!((told.phase, told.reason.as_deref()), (PodPhase::Failed, Some("Evicted")));
    assert!(matches!(told.containers[0].state, ContainerState::Terminated(_)));
}

//! Pods that allow their node to be cut off for so long and no longer.

use std::time::Duration;

use kgit_protocol::observation::PodPhase;
use serde_json::json;

use crate::decide::tests::{World, member, pod};

fn cut_off(world: &mut World, seconds: u64) {
    world.node.cut_off_for(Some(Duration::from_secs(seconds)));
}

fn movable() -> serde_json::Value {
    json!({ "containers": [member("m")], "fence_after_seconds": 300 })
}

#[tokio::test]
async fn a_pod_that_may_be_replaced_elsewhere_stops_in_time_and_for_good() {
    let mut world = World::new();
    world.order(pod("a", movable()));
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
    cut_off(&mut world, 299);
    world.settle().await;
    assert_eq!(world.drain(), "");
    cut_off(&mut world, 300);
    world.settle().await;
    assert_eq!(world.drain(), "terminate m 0, remove m 0");
    assert_eq!(world.phase(), PodPhase::Gone);
    // The master answers again: it may have replaced the pod meanwhile.
    cut_off(&mut world, 0);
    world.restart();
    world.publish();
    world.settle().await;
    assert_eq!(world.drain(), "");
}

#[tokio::test]
async fn a_host_that_was_away_does_not_go_on_with_it() {
    let mut world = World::new();
    world.order(pod("a", movable()));
    world.node.cut_off_for(None);
    world.settle().await;
    assert_eq!(world.drain(), "");
    assert_eq!(world.phase(), PodPhase::Gone);
}

#[tokio::test]
async fn it_looks_again_when_the_time_is_up() {
    let mut world = World::new();
    world.order(pod("a", movable()));
    world.settle().await;
    cut_off(&mut world, 290);
    let view = world.view().await;
    let round = world.node.decide(&view, None, world.now);
    assert_eq!(round.wake, Some(world.now.after(Duration::from_secs(10))));
}

#[tokio::test]
async fn any_other_pod_goes_on_however_long_it_takes() {
    let mut world = World::new();
    world.order(pod("a", json!({ "containers": [member("m")] })));
    world.node.cut_off_for(None);
    world.settle().await;
    cut_off(&mut world, 1_000_000);
    world.settle().await;
    assert_eq!(world.drain(), "start m 0");
}

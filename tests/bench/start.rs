//! Thirty containers on one host: from the commit until all run, against the bare Docker API and
//! against Swarm. The clock stops at the engine's own event for the last start.

mod bare;
mod engine;
mod ours;
mod swarm;

use crate::skip::not_tried;
use crate::{Size, median};

/// The image of every side: a shell that sleeps.
const IMAGE: &str = "kgit-test/busybox:1";

#[test]
fn thirty_containers_against_the_bare_api_and_swarm() {
    let (containers, rounds) = match Size::chosen() {
        Size::Smoke => (3, 1),
        Size::Full => (30, 10),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if !runtime.block_on(engine::has_image(IMAGE)) {
        return not_tried("no Docker engine with the test images (tests/run docker makes them)");
    }
    let mut seconds = (Vec::new(), Vec::new(), Vec::new());
    let ours = ours::Cluster::start();
    let has_swarm = runtime.block_on(swarm::init());
    for round in 0..rounds {
        seconds.0.push(runtime.block_on(ours.deploy(round, containers)));
        ours.remove();
        seconds.1.push(runtime.block_on(bare::run(containers)));
        if has_swarm {
            seconds.2.push(runtime.block_on(swarm::run(round, containers)));
        }
    }
    if has_swarm {
        runtime.block_on(swarm::leave());
    }
    let (ours, bare) = (median(seconds.0), median(seconds.1));
    println!("{containers} containers: kgit {ours:.2} s, bare {bare:.2} s: {:.2} ×", ours / bare);
    if !seconds.2.is_empty() {
        let swarm = median(seconds.2);
        println!(
            "{containers} containers: kgit {ours:.2} s, Swarm {swarm:.2} s: {:.2} ×",
            ours / swarm
        );
    }
}

//! A host is cut off, and what must not run twice moves all the same: its own agent stops it first.

use std::time::Duration;

use crate::face::is_ready;
use crate::hosts::Hosts;
use crate::office::Office;
use crate::skip::not_tried;
use crate::wait;

/// `lock` may move, with the shortest time there is; `seat` has not said so.
const SETS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: lock}
spec:
  serviceName: lock
  selector: {matchLabels: {app: lock}}
  template:
    metadata:
      labels: {app: lock}
      annotations: {kgit.dev/fence-after-seconds: \"300\"}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: main, image: kgit-test/web:1}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: seat}
spec:
  serviceName: seat
  selector: {matchLabels: {app: seat}}
  template:
    metadata:
      labels: {app: seat}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: main, image: kgit-test/web:1}]
";

const IMAGES: &[&str] = &["kgit-test/web:1"];

/// 300 s and a hundredth, the grace period, 10 s of margin, and as much again for the rest.
const PATIENCE: Duration = Duration::from_secs(400);

#[test]
fn a_cut_off_host_stops_what_must_not_run_twice_before_another_starts_it() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("network namespaces need root");
    }
    let mut office = Office::open(Hosts::new("fenced", &["office"], &["shop", "van"]));
    let shop = office.join("shop", IMAGES);
    office.repo.write("sets.yaml", SETS);
    let commit = office.repo.commit("sets");
    office.repo.push();
    office.face.until_done(&commit);
    let van = office.join("van", IMAGES);
    office.hosts.cut("shop");

    let mut stopped = false;
    let moved = wait::until_within(PATIENCE, || {
        // In this order: what is seen there now may have been started after the other one ended.
        let there = office.agents[van].running("lock-");
        let here = office.agents[shop].running("lock-");
        assert!(here.is_empty() || there.is_empty(), "it runs on both hosts");
        stopped |= here.is_empty();
        (!there.is_empty()).then_some(())
    });
    assert!(moved.is_some() && stopped, "{}", office.face.account());
    let seat = office.agents[shop].running("seat-");
    assert!(!seat.is_empty(), "nobody said that this one may end");
    assert!(office.agents[van].running("seat-").is_empty());
    let waits = office.face.status().expect("the master answers")["waits"].to_string();
    assert!(waits.contains("seat-0"), "and it is waited for: {waits}");

    office.hosts.heal("shop");
    office.face.until("both are well", || {
        let ready = |pod| office.face.object("pods", pod).filter(is_ready);
        (ready("lock-0")?["spec"]["nodeName"] == "van").then_some(())?;
        (ready("seat-0")?["spec"]["nodeName"] == "shop").then_some(())
    });
    office.face.until_quiet();
    assert!(office.agents[shop].running("lock-").is_empty(), "it does not come back");
}

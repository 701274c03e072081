//! Images, and what else can keep a container from starting.

use serde_json::{Value, json};

use crate::decide::tests::member;
use crate::decide::tests::script::tell;

fn with_policy(image: &str, policy: &str) -> Value {
    json!({ "containers": [{ "name": "m", "image": image, "pull_policy": policy }] })
}

#[test]
fn by_policy_an_image_is_fetched_for_each_attempt_or_when_missing_or_never() {
    insta::assert_snapshot!(tell(with_policy("there", "Always"), "+5; exit m 1"), @"
    > run
      pull there, start m 0
      Pulled: there
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; exit m 1
      pull there, start m 1
      read m 0 1
      Pulled: there
      Running, ready since 5
      m 1: runs since 5, started, ready, restarts 1, before: Error 1 0..5 id 1
    ");
    insta::assert_snapshot!(tell(with_policy("there", "IfNotPresent"), "
        +5; exit m 1
        +5; image gone there; exit m 1
        +10
    "), @"
    > run
      start m 0, pull there, start m 0
      Pulled: there
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; exit m 1
      start m 1
      read m 0 1
      Running, ready since 5
      m 1: runs since 5, started, ready, restarts 1, before: Error 1 0..5 id 1
    > +5; image gone there; exit m 1
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 5..10 id 2
    > +10
      start m 2, pull there, start m 2, remove m 0
      Pulled: there
      Running, ready since 20
      m 2: runs since 20, started, ready, restarts 2, before: Error 1 5..10 id 2
    ");
    insta::assert_snapshot!(tell(with_policy("nowhere", "Never"), "
        +9
        +1
        +20
    "), @r#"
    > run
      start m 0
      wake +10
      Pending
      m 0: ErrImageNeverPull (container image "nowhere" is not present with pull policy of Never)
    > +9
      wake +1
    > +1
      start m 0
      wake +20
    > +20
      start m 0
      wake +40
    "#);
}

#[test]
fn fetching_is_tried_again_after_longer_and_longer_waits() {
    insta::assert_snapshot!(tell(with_policy("nowhere", "IfNotPresent"), "
        +9
        +1
        +19
        +1
        +40
        agent restarts
    "), @"
    > run
      start m 0, pull nowhere
      wake +10
      Failed: no such image: nowhere
      Pending
      m 0: ErrImagePull (no such image: nowhere)
    > +9
      wake +1
    > +1
      pull nowhere
      wake +20
      Failed: no such image: nowhere
      m 0: ImagePullBackOff (Back-off pulling image: no such image: nowhere)
    > +19
      wake +1
    > +1
      pull nowhere
      wake +40
      Failed: no such image: nowhere
    > +40
      pull nowhere
      wake +80
      Failed: no such image: nowhere
    > agent restarts
      wake +80
    ");
    insta::assert_snapshot!(tell(with_policy("nowhere", "Always"), "
        +10
        pulled-locally m
        +10
    "), @"
    > run
      pull nowhere
      wake +10
      Failed: no such image: nowhere
      Pending
      m 0: ErrImagePull (no such image: nowhere)
    > +10
      pull nowhere
      wake +20
      Failed: no such image: nowhere
      m 0: ImagePullBackOff (Back-off pulling image: no such image: nowhere)
    > pulled-locally m
      start m 0, pull nowhere
      wake +10
      PulledLocally: the local one
      Failed: no such image: nowhere
      m 0: ErrImagePull (no such image: nowhere)
    > +10
      pull nowhere
      wake +20
      Failed: no such image: nowhere
      m 0: ImagePullBackOff (Back-off pulling image: no such image: nowhere)
    ");
}

#[test]
fn a_start_that_fails_is_tried_again_soon_then_later() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        fault create 9; exit m 1
        +1
        +9
        +1
        +20
        +40
        +59
        +1
        fault create 0
        +60
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > fault create 9; exit m 1
      start m 1
      read m 0 1
      wake +1
      Failed: create was made to fail
      Running
      m 1: RunContainerError (create was made to fail), restarts 1, before: Error 1 0..0 id 1
    > +1
      start m 1
      wake +10
      Failed: create was made to fail
    > +9
      wake +1
    > +1
      start m 1
      wake +20
      Failed: create was made to fail
    > +20
      start m 1
      wake +40
      Failed: create was made to fail
    > +40
      start m 1
      wake +60
      Failed: create was made to fail
    > +59
      wake +1
    > +1
      start m 1
      wake +60
      Failed: create was made to fail
    > fault create 0
      wake +60
    > +60
      start m 1
      Running, ready since 191
      m 1: runs since 191, started, ready, restarts 1, before: Error 1 0..0 id 1
    ");
}

#[test]
fn what_was_made_but_not_started_is_started_if_it_is_still_what_is_ordered() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        fault start 1; exit m 1
        +1
        exit m 1
        fault start 1; +10
        +1; change m
        +10
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > fault start 1; exit m 1
      start m 1
      read m 0 1
      wake +1
      Failed: start was made to fail
      Running
      m 1: RunContainerError (start was made to fail), restarts 1, before: Error 1 0..0 id 1
    > +1
      resume m
      Running, ready since 1
      m 1: runs since 1, started, ready, restarts 1, before: Error 1 0..0 id 1
    > exit m 1
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 1..1 id 2
    > fault start 1; +10
      start m 2, remove m 0
      wake +1
      Failed: start was made to fail
      m 2: RunContainerError (start was made to fail), restarts 2, before: Error 1 1..1 id 2
    > +1; change m
      remove m 2, start m 2
      Running, ready since 12
      m 2: runs since 12, started, ready, restarts 2, before: Error 1 1..1 id 2
    > +10
    ");
}

#[test]
fn a_command_that_cannot_run_counts_as_a_crash() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        unrunnable m; exit m 1
        +10
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > unrunnable m; exit m 1
      start m 1
      read m 0 1
      wake +10
      Failed: no such command
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: ContainerCannotRun 128 (no such command) never..0 id none
    > +10
      start m 2, remove m 1, remove m 0
      wake +20
      Failed: no such command
      m 2: CrashLoopBackOff (back-off 20s restarting failed container=m pod=p_default), restarts 2, before: ContainerCannotRun 128 (no such command) never..10 id none
    ");
}

#[test]
fn trouble_of_the_whole_pod_holds_every_container_back() {
    let spec = json!({ "containers": [member("x"), member("y")] });
    insta::assert_snapshot!(tell(spec, "
        prepare-fails; exit x 1
        start-fails y; exit y 1; prepare-fails
        +1
        +10
        start-fails x; exit x 1
        +60
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > prepare-fails; exit x 1
      read x 0 2
      wake +1
      FailedMount: the message
      Running FailedMount the message
      x 0: ContainerCreating, before: Error 1 0..0 id 2
    > start-fails y; exit y 1; prepare-fails
      read y 0 3
      wake +10
      Failed: the message
      FailedMount: the message
      y 0: RunContainerError (the message), before: Error 1 0..0 id 3
    > +1
      wake +9
    > +10
      start x 1, start y 1
      Running, ready since 11
      x 1: runs since 11, started, ready, restarts 1, before: Error 1 0..0 id 2
      y 1: runs since 11, started, ready, restarts 1, before: Error 1 0..0 id 3
    > start-fails x; exit x 1
      read x 1 4
      wake +10
      Failed: the message
      Running
      x 1: CrashLoopBackOff (back-off 10s restarting failed container=x pod=p_default), restarts 1, before: Error 1 11..11 id 4
    > +60
      start x 2, remove x 0
      Running, ready since 71
      x 2: runs since 71, started, ready, restarts 2, before: Error 1 11..11 id 4
    ");
}

#[test]
fn what_the_node_refuses_or_evicts_is_over() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        refused
        evicted
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > refused
      terminate m 0
      read m 0 1
      NodePolicy: the message
      Killing: Stopping container m
      Failed NodePolicy the message
      m 0: Error 143 0..0 id 1
    > evicted
    ");
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        evicted
        stop 30
        evicted
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > evicted
      terminate m 0
      read m 0 1
      Evicted: the message
      Killing: Stopping container m
      Failed Evicted the message
      m 0: Error 143 0..0 id 1
    > stop 30
      remove m 0
      clean
      Gone
    > evicted
    ");
}

//! How a pod is ended: traffic first, then hooks and signals, sidecars last.

use serde_json::{Value, json};

use crate::decide::tests::member;
use crate::decide::tests::script::tell;

fn hooked() -> Value {
    let mut container = member("m");
    container["pre_stop"] = json!({ "Exec": { "command": ["x"] } });
    json!({ "containers": [container] })
}

#[test]
fn without_grace_it_is_killed_at_once_and_again_and_again() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        served; fault kill 9; stop 0
        +4
        +1
        fault kill 0; +5
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > served; fault kill 9; stop 0
      kill m 0
      wake +5
      Killing: Stopping container m
      m 0: runs since 0, started
    > +4
      wake +1
    > +1
      kill m 0
      wake +5
    > fault kill 0; +5
      kill m 0, remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 137 0..10 id 1
    ");
}

#[test]
fn a_shorter_grace_counts_from_the_first_stop_and_a_longer_one_is_too_late() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        stubborn m; stop 30
        +5; stop 60
        +5; stop 20
        +9
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stubborn m; stop 30
      terminate m 0
      wake +30
      Killing: Stopping container m
      m 0: runs since 0, started
    > +5; stop 60
      wake +25
    > +5; stop 20
      wake +10
    > +9
      wake +1
    > +1
      kill m 0, remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 137 0..20 id 1
    ");
}

#[test]
fn a_hook_runs_before_the_signal_and_has_the_grace_time() {
    insta::assert_snapshot!(tell(hooked(), "
        hooks hang; stop 30
        +10; hook-ends m pre ok
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > hooks hang; stop 30
      PreStop m
      wake +30
      Killing: Stopping container m
      m 0: runs since 0, started
    > +10; hook-ends m pre ok
      terminate m 0, remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 143 0..10 id 1
    ");
    insta::assert_snapshot!(tell(hooked(), "
        hooks hang; stubborn m; stop 30
        +10; agent restarts
        +19
        +1
        +1
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > hooks hang; stubborn m; stop 30
      PreStop m
      wake +30
      Killing: Stopping container m
      m 0: runs since 0, started
    > +10; agent restarts
      PreStop m
      wake +20
    > +19
      wake +1
    > +1
      terminate m 0
      wake +2
    > +1
      wake +1
    > +1
      kill m 0, remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 137 0..32 id 1
    ");
    insta::assert_snapshot!(tell(hooked(), "hooks fail; stop 30"), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > hooks fail; stop 30
      PreStop m, terminate m 0, remove m 0
      read m 0 1, clean
      Killing: Stopping container m
      FailedPreStopHook: no
      Gone
      m 0: Error 143 0..0 id 1
    ");
    insta::assert_snapshot!(tell(hooked(), "exit m 1; hook-ends m pre ok; exit m 1; stop 30"), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > exit m 1; hook-ends m pre ok; exit m 1; stop 30
      remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 1 0..0 id 1
    ");
    insta::assert_snapshot!(tell(hooked(), "stop 0"), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stop 0
      kill m 0, remove m 0
      read m 0 1, clean
      Killing: Stopping container m
      Gone
      m 0: Error 137 0..0 id 1
    ");
}

#[test]
fn traffic_is_led_elsewhere_first() {
    let spec = json!({ "containers": [member("m")] });
    insta::assert_snapshot!(tell(spec.clone(), "
        served; drained; stop 30
        drained
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > served; drained; stop 30
      wake +2
      m 0: runs since 0, started
    > drained
      wake +0.2
    > +1
      terminate m 0, remove m 0
      read m 0 1, clean
      Killing: Stopping container m
      Gone
      m 0: Error 143 0..1 id 1
    ");
    insta::assert_snapshot!(tell(spec.clone(), "
        served; exit m 1
        exit m 1; stop 30
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > served; exit m 1
      start m 1
      read m 0 1
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    > exit m 1; stop 30
      remove m 0, remove m 1
      read m 1 2, clean
      Gone
      m 1: Error 1 0..0 id 2, restarts 1, before: Error 1 0..0 id 1
    ");
    insta::assert_snapshot!(tell(spec, "
        served; stop 30
        +1; run
        +1; stop 30
        +1
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > served; stop 30
      wake +2
      m 0: runs since 0, started
    > +1; run
      m 0: runs since 0, started, ready
    > +1; stop 30
      wake +2
      m 0: runs since 0, started
    > +1
      wake +1
    > +1
      terminate m 0, remove m 0
      read m 0 1, clean
      Killing: Stopping container m
      Gone
      m 0: Error 143 0..4 id 1
    ");
    let deadline =
        json!({ "active_deadline_seconds": 60, "containers": [member("x"), member("y")] });
    insta::assert_snapshot!(tell(deadline, "
        served; stubborn x; +60
        +2
        +28
        +2
    "), @"
    > run
      start pause 0, start x 0, start y 0
      wake +60
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > served; stubborn x; +60
      wake +2
      Failed DeadlineExceeded pod was active on the node longer than the specified deadline
      x 0: runs since 0, started
      y 0: runs since 0, started
    > +2
      terminate x 0, terminate y 0
      read y 0 3
      wake +30
      Killing: Stopping container x
      Killing: Stopping container y
      y 0: DeadlineExceeded 143 0..62 id 3
    > +28
      wake +2
    > +2
      kill x 0, remove pause
      read x 0 2
      x 0: DeadlineExceeded 137 0..92 id 2
    ");
}

#[test]
fn a_container_that_is_unwell_does_not_keep_its_pod_from_draining() {
    let mut container = member("m");
    container["liveness"] = json!({ "handler": { "Tcp": { "host": null, "port": 1 } },
        "initial_delay_seconds": 0, "period_seconds": 1, "timeout_seconds": 1,
        "success_threshold": 1, "failure_threshold": 1 });
    insta::assert_snapshot!(tell(json!({ "containers": [container] }), "
        served; stubborn m; probe m liveness bad
        stop 30
        +28
        +2
    "), @"
    > run
      start m 0
      probes m 1 liveness 10.1.2.3 since 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > served; stubborn m; probe m liveness bad
      terminate m 0
      wake +30
      probes 
      Unhealthy: Liveness probe failed: no
      Killing: Container m failed liveness probe, will be restarted
    > stop 30
      wake +2
      m 0: runs since 0, started
    > +28
      wake +2
    > +2
      kill m 0, remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 137 0..30 id 1
    ");
}

#[test]
fn sidecars_end_after_the_others_the_last_first() {
    let sidecar = |name: &str| {
        let mut sidecar = member(name);
        sidecar["sidecar"] = json!(true);
        sidecar
    };
    let spec =
        json!({ "init_containers": [sidecar("z"), sidecar("a")], "containers": [member("m")] });
    insta::assert_snapshot!(tell(spec.clone(), "
        fault terminate 1; stop 30
        +1
        +30
    "), @"
    > run
      start pause 0, start z 0, start a 0, start m 0
      Running, ready since 0
      z 0: runs since 0, started, ready
      a 0: runs since 0, started, ready
      m 0: runs since 0, started, ready
    > fault terminate 1; stop 30
      terminate m 0, terminate m 0, terminate a 0, terminate z 0, remove pause, remove z 0, remove a 0, remove m 0
      read m 0 4, read a 0 3, read z 0 2, clean
      Killing: Stopping container m
      Killing: Stopping container a
      Killing: Stopping container z
      Gone
      z 0: Error 143 0..0 id 2
      a 0: Error 143 0..0 id 3
      m 0: Error 143 0..0 id 4
    > +1
    > +30
    ");
    insta::assert_snapshot!(tell(spec.clone(), "
        stubborn m; stubborn a; stop 30
        +30
        +30
    "), @"
    > run
      start pause 0, start z 0, start a 0, start m 0
      Running, ready since 0
      z 0: runs since 0, started, ready
      a 0: runs since 0, started, ready
      m 0: runs since 0, started, ready
    > stubborn m; stubborn a; stop 30
      terminate m 0
      wake +30
      Killing: Stopping container m
      z 0: runs since 0, started
      a 0: runs since 0, started
      m 0: runs since 0, started
    > +30
      kill m 0, terminate a 0
      read m 0 4
      wake +30
      Killing: Stopping container a
      Running
      m 0: Error 137 0..30 id 4
    > +30
      kill a 0, terminate z 0, remove pause, remove z 0, remove a 0, remove m 0
      read a 0 3, read z 0 2, clean
      Killing: Stopping container z
      Gone
      z 0: Error 143 0..60 id 2
      a 0: Error 137 0..60 id 3
    ");
    insta::assert_snapshot!(tell(spec, "forget"), @"
    > run
      start pause 0, start z 0, start a 0, start m 0
      Running, ready since 0
      z 0: runs since 0, started, ready
      a 0: runs since 0, started, ready
      m 0: runs since 0, started, ready
    > forget
      terminate z 0, terminate a 0, terminate m 0, remove pause, remove z 0, remove a 0, remove m 0
      read a 0 3, read m 0 4, read z 0 2, clean
      Killing: Stopping container z
      Killing: Stopping container a
      Killing: Stopping container m
      Gone
    ");
}

#[test]
fn a_pod_that_is_not_in_the_set_any_more_has_the_grace_that_it_had() {
    let spec = json!({ "termination_grace_seconds": 7, "containers": [member("x"), member("y")] });
    insta::assert_snapshot!(tell(spec, "
        stubborn x; forget
        +6
        +1
        +1
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > stubborn x; forget
      terminate x 0, terminate y 0
      read y 0 3
      wake +7
      Killing: Stopping container x
      Killing: Stopping container y
      Running
    > +6
      wake +1
    > +1
      kill x 0, remove pause, remove x 0, remove y 0
      read x 0 2, clean
      Gone
    > +1
    ");
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        stubborn m; agent forgets; forget
        +29
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stubborn m; agent forgets; forget
      terminate m 0
      wake +30
      Killing: Stopping container m
      Running
    > +29
      wake +1
    > +1
      kill m 0, remove m 0
      read m 0 1, clean
      Gone
    ");
}

#[test]
fn what_will_not_go_is_looked_at_again_and_what_comes_back_is_removed_too() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        fault remove 1; stop 30
        +1
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > fault remove 1; stop 30
      terminate m 0, remove m 0, remove m 0
      read m 0 1, clean
      Killing: Stopping container m
      Gone
      m 0: Error 143 0..0 id 1
    > +1
    > +1
    ");
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        double m 4 running; double m 5 running; stop 30
        run
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > double m 4 running; double m 5 running; stop 30
      remove m 4, remove m 0, terminate m 5, remove m 5
      read m 5 d5, clean
      Killing: Stopping container m
      Gone
      m 5: Error 143 0..0 id d5, restarts 5
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    ");
}

#[test]
fn a_pod_that_is_ordered_again_after_it_was_gone_begins_anew() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        exit m 1
        +5; exit m 1
        stop 30
        +5; run
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > exit m 1
      start m 1
      read m 0 1
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    > +5; exit m 1
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 0..5 id 2
    > stop 30
      remove m 0, remove m 1
      clean
      Gone
      m 1: Error 1 0..5 id 2, restarts 1, before: Error 1 0..0 id 1
    > +5; run
      start m 0
      Running, ready since 10
      m 0: runs since 10, started, ready
    ");
}

#[test]
fn a_pod_that_may_move_is_not_begun_anew_once_it_was_told_to_be_gone() {
    insta::assert_snapshot!(tell(json!({ "fence_after_seconds": 300, "containers": [member("m")] }), "
        stop 30
        +5; run
        cut-off 0
    "), @"
    > run
      start m 0
      wake +300
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stop 30
      terminate m 0, remove m 0
      read m 0 1, clean
      Killing: Stopping container m
      Gone
      m 0: Error 143 0..0 id 1
    > +5; run
    > cut-off 0
    ");
}

#[test]
fn while_the_master_is_out_of_reach_a_pod_that_may_move_stops_in_time() {
    insta::assert_snapshot!(tell(json!({ "fence_after_seconds": 300, "containers": [member("m")] }), "
        cut-off 100
        stubborn m; cut-off 300
        cut-off 0
        +30
    "), @"
    > run
      start m 0
      wake +300
      Running, ready since 0
      m 0: runs since 0, started, ready
    > cut-off 100
      wake +200
    > stubborn m; cut-off 300
      terminate m 0
      wake +30
      Killing: Stopping container m
      m 0: runs since 0, started
    > cut-off 0
      wake +30
    > +30
      kill m 0, remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 137 0..30 id 1
    ");
}

#[test]
fn a_stop_that_was_ordered_keeps_its_own_grace_while_the_master_is_out_of_reach() {
    insta::assert_snapshot!(tell(json!({ "fence_after_seconds": 300, "containers": [member("m")] }), "
        stubborn m; stop 5
        cut-off 300; +1
    "), @"
    > run
      start m 0
      wake +300
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stubborn m; stop 5
      terminate m 0
      wake +5
      Killing: Stopping container m
      m 0: runs since 0, started
    > cut-off 300; +1
      wake +4
    ");
}

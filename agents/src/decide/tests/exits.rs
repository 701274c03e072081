//! How a container ends, what is told of it, and when it starts again.

use serde_json::json;

use crate::decide::tests::member;
use crate::decide::tests::script::tell;

#[test]
fn the_engine_says_why_a_container_ended_and_ten_minutes_of_running_forgive_its_crashes() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        +5; exit m 1
        oom m
        +10
        broken m unstarted
        +20
        +599; exit m 0
        +40
        broken m started
        +80
        +600; exit m 3
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; exit m 1
      start m 1
      read m 0 1
      Running, ready since 5
      m 1: runs since 5, started, ready, restarts 1, before: Error 1 0..5 id 1
    > oom m
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: OOMKilled 1 5..5 id 2
    > +10
      start m 2, remove m 0
      Running, ready since 15
      m 2: runs since 15, started, ready, restarts 2, before: OOMKilled 1 5..5 id 2
    > broken m unstarted
      read m 2 3
      wake +20
      Running
      m 2: CrashLoopBackOff (back-off 20s restarting failed container=m pod=p_default), restarts 2, before: ContainerCannotRun 1 (no such file) never..15 id 3
    > +20
      start m 3, remove m 1
      Running, ready since 35
      m 3: runs since 35, started, ready, restarts 3, before: ContainerCannotRun 1 (no such file) never..15 id 3
    > +599; exit m 0
      read m 3 4
      wake +40
      Running
      m 3: CrashLoopBackOff (back-off 40s restarting failed container=m pod=p_default), restarts 3, before: Completed 0 35..634 id 4
    > +40
      start m 4, remove m 2
      Running, ready since 674
      m 4: runs since 674, started, ready, restarts 4, before: Completed 0 35..634 id 4
    > broken m started
      read m 4 5
      wake +80
      Running
      m 4: CrashLoopBackOff (back-off 80s restarting failed container=m pod=p_default), restarts 4, before: Error 1 (lost) 674..674 id 5
    > +80
      start m 5, remove m 3
      Running, ready since 754
      m 5: runs since 754, started, ready, restarts 5, before: Error 1 (lost) 674..674 id 5
    > +600; exit m 3
      start m 6, remove m 4
      read m 5 6
      Running, ready since 1354
      m 6: runs since 1354, started, ready, restarts 6, before: Error 3 754..1354 id 6
    ");
}

#[test]
fn by_policy_an_end_is_one_or_a_new_beginning() {
    let never = json!({ "restart_policy": "Never", "containers": [member("x"), member("y")] });
    insta::assert_snapshot!(tell(never, "
        +5; exit x 1
        +60
        +5; exit y 0
        +60
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > +5; exit x 1
      read x 0 2
      Running
      x 0: Error 1 0..5 id 2
    > +60
    > +5; exit y 0
      remove pause
      read y 0 3
      Failed
      y 0: Completed 0 0..70 id 3
    > +60
    ");
    let failed = json!({ "restart_policy": "OnFailure", "containers": [member("x"), member("y")] });
    insta::assert_snapshot!(tell(failed, "
        +5; exit x 0
        exit y 2
        +5; exit y 0
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > +5; exit x 0
      read x 0 2
      Running
      x 0: Completed 0 0..5 id 2
    > exit y 2
      start y 1
      read y 0 3
      y 1: runs since 5, started, ready, restarts 1, before: Error 2 0..5 id 3
    > +5; exit y 0
      remove pause
      read y 1 4
      Succeeded
      y 1: Completed 0 5..10 id 4, restarts 1, before: Error 2 0..5 id 3
    ");
}

#[test]
fn init_containers_run_one_by_one_and_sidecars_for_as_long_as_the_pod() {
    let mut sidecar = member("s");
    sidecar["sidecar"] = json!(true);
    let spec = json!({
        "restart_policy": "OnFailure",
        "init_containers": [member("i"), sidecar, member("j")], "containers": [member("m")],
    });
    insta::assert_snapshot!(tell(spec.clone(), "
        +5; exit i 1
        +5; exit i 0
        +5; exit s 0
        exit j 0
        +5; exit m 1
        exit s 1
        +10
        exit m 1
        +10
        exit m 0
        +60
    "), @"
    > run
      start pause 0, start i 0
      Pending
      i 0: runs since 0, started, ready
      s 0: ContainerCreating
      j 0: ContainerCreating
      m 0: PodInitializing
    > +5; exit i 1
      start i 1
      read i 0 2
      i 1: runs since 5, started, ready, restarts 1, before: Error 1 0..5 id 2
    > +5; exit i 0
      start s 0, start j 0
      read i 1 3
      i 1: Completed 0 5..10 id 3, ready, restarts 1, before: Error 1 0..5 id 2
      s 0: runs since 10, started, ready
      j 0: runs since 10, started, ready
    > +5; exit s 0
      start s 1
      read s 0 4
      s 1: runs since 15, started, ready, restarts 1, before: Completed 0 10..15 id 4
    > exit j 0
      start m 0
      read j 0 5
      Running, ready since 15
      j 0: Completed 0 10..15 id 5, ready
      m 0: runs since 15, started, ready
    > +5; exit m 1
      start m 1
      read m 0 7
      Running, ready since 20
      m 1: runs since 20, started, ready, restarts 1, before: Error 1 15..20 id 7
    > exit s 1
      read s 1 6
      wake +10
      Running
      s 1: CrashLoopBackOff (back-off 10s restarting failed container=s pod=p_default), restarts 1, before: Error 1 15..20 id 6
    > +10
      start s 2, remove s 0
      Running, ready since 30
      s 2: runs since 30, started, ready, restarts 2, before: Error 1 15..20 id 6
    > exit m 1
      read m 1 8
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 20..30 id 8
    > +10
      start m 2, remove m 0
      Running, ready since 40
      m 2: runs since 40, started, ready, restarts 2, before: Error 1 20..30 id 8
    > exit m 0
      terminate s 2, remove pause
      read m 2 a, read s 2 9
      Killing: Stopping container s
      Succeeded
      s 2: Error 143 30..40 id 9, restarts 2, before: Error 1 15..20 id 6
      m 2: Completed 0 40..40 id a, restarts 2, before: Error 1 20..30 id 8
    > +60
    ");
    let mut spec = spec;
    spec["restart_policy"] = json!("Never");
    insta::assert_snapshot!(tell(spec, "+5; exit i 1"), @"
    > run
      start pause 0, start i 0
      Pending
      i 0: runs since 0, started, ready
      s 0: ContainerCreating
      j 0: ContainerCreating
      m 0: PodInitializing
    > +5; exit i 1
      remove pause
      read i 0 2
      Failed
      i 0: Error 1 0..5 id 2
    ");
}

#[test]
fn who_goes_down_with_the_engine_starts_again_at_once_and_that_is_told() {
    let pod = |policy: &str| json!({ "restart_policy": policy, "containers": [member("m")] });
    let script = "
        +10; outage 10 20; exit m 0
        +10; exit m 0
        +1; exit m 0
        outage 30 40; +8; exit m 1
        +10
        outage 40 50; exit m 1
    ";
    insta::assert_snapshot!(tell(pod("Always"), script), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +10; outage 10 20; exit m 0
      start m 1
      read m 0 1
      drift 1 10 m Stopped: ended with the engine
      Running, ready since 10
      m 1: runs since 10, started, ready, restarts 1, before: Completed 0 0..10 id 1
    > +10; exit m 0
      start m 2, remove m 0
      read m 1 2
      drift 2 20 m Stopped: ended with the engine
      Running, ready since 20
      m 2: runs since 20, started, ready, restarts 2, before: Completed 0 10..20 id 2
    > +1; exit m 0
      start m 3, remove m 1
      read m 2 3
      Running, ready since 21
      m 3: runs since 21, started, ready, restarts 3, before: Completed 0 20..21 id 3
    > outage 30 40; +8; exit m 1
      read m 3 4
      wake +10
      Running
      m 3: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 3, before: Error 1 21..29 id 4
    > +10
      start m 4, remove m 2
      Running, ready since 39
      m 4: runs since 39, started, ready, restarts 4, before: Error 1 21..29 id 4
    > outage 40 50; exit m 1
      read m 4 5
      wake +20
      Running
      m 4: CrashLoopBackOff (back-off 20s restarting failed container=m pod=p_default), restarts 4, before: Error 1 39..39 id 5
    ");
    let script = "
        +10; outage 10 20; exit m 1
        +5; exit m 0
    ";
    insta::assert_snapshot!(tell(pod("OnFailure"), script), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +10; outage 10 20; exit m 1
      start m 1
      read m 0 1
      drift 1 10 m Stopped: ended with the engine
      Running, ready since 10
      m 1: runs since 10, started, ready, restarts 1, before: Error 1 0..10 id 1
    > +5; exit m 0
      read m 1 2
      Succeeded
      m 1: Completed 0 10..15 id 2, restarts 1, before: Error 1 0..10 id 1
    ");
}

#[test]
fn what_is_being_stopped_anyway_goes_down_without_a_word() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        stubborn m; stop 30
        +5; outage 1 9; exit m 137
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
    > +5; outage 1 9; exit m 137
      remove m 0
      read m 0 1, clean
      Gone
      m 0: Error 137 0..5 id 1
    ");
}

#[test]
fn the_pause_container_goes_down_with_the_engine_too() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("x"), member("y")] }), "
        +10; outage 10 20; exit pause 0; exit x 0; exit y 0
        outage 50 60; +5; exit pause 0
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > +10; outage 10 20; exit pause 0; exit x 0; exit y 0
      start pause 1, remove pause, start x 1, start y 1
      read  0 1, read x 0 2, read y 0 3
      drift 1 10 pause Stopped: ended with the engine
      drift 2 10 x Stopped: ended with the engine
      drift 3 10 y Stopped: ended with the engine
      Running, ready since 10
      x 1: runs since 10, started, ready, restarts 1, before: Completed 0 0..10 id 2
      y 1: runs since 10, started, ready, restarts 1, before: Completed 0 0..10 id 3
    > outage 50 60; +5; exit pause 0
      remove x 1, remove y 1, start pause 2, remove pause, start x 2, start y 2
      read  1 4
      drift 4 15 pause Stopped: the pod's sandbox ended
      Running, ready since 15
      x 2: runs since 15, started, ready, restarts 2, before: Error 137 (the pod's sandbox ended) never..15 id 5
      y 2: runs since 15, started, ready, restarts 2, before: Error 137 (the pod's sandbox ended) never..15 id 6
    ");
}

#[test]
fn a_deadline_ends_the_pod() {
    let spec = json!({ "active_deadline_seconds": 60, "containers": [member("m")] });
    insta::assert_snapshot!(tell(spec, "
        +59
        +1
        +60
    "), @"
    > run
      start m 0
      wake +60
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +59
      wake +1
    > +1
      terminate m 0
      read m 0 1
      Killing: Stopping container m
      Failed DeadlineExceeded pod was active on the node longer than the specified deadline
      m 0: DeadlineExceeded 143 0..60 id 1
    > +60
    ");
}

#[test]
fn last_words_belong_to_the_attempt_that_spoke_them() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        exit m 1
        words m 0 first
        +5; exit m 1
        words m 1 second
        words m 0 too-late
        +10; words m 1 again
        words m 0 too-late
        words m 2 too-early
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > exit m 1
      start m 1
      read m 0 1
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    > words m 0 first
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 (first) 0..0 id 1
    > +5; exit m 1
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 0..5 id 2
    > words m 1 second
      wake +10
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 (second) 0..5 id 2
    > words m 0 too-late
      wake +10
    > +10; words m 1 again
      start m 2, remove m 0
      Running, ready since 15
      m 2: runs since 15, started, ready, restarts 2, before: Error 1 (again) 0..5 id 2
    > words m 0 too-late
    > words m 2 too-early
    ");
}

//! What others do through the engine behind the agent's back, and how it is put right.

use serde_json::json;

use crate::decide::tests::member;
use crate::decide::tests::script::tell;

#[test]
fn a_signal_explains_an_exit_for_half_a_minute() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        signal m 15
        +30; exit m 143
        signal m 1
        +31; exit m 1
        signal m 1
        +31
        +1
        exit m 1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > signal m 15
    > +30; exit m 143
      start m 1
      read m 0 1
      drift 1 30 m Stopped: signal 15
      Running, ready since 30
      m 1: runs since 30, started, ready, restarts 1, before: Error 143 0..30 id 1
    > signal m 1
    > +31; exit m 1
      start m 2, remove m 0
      read m 1 2
      Running, ready since 61
      m 2: runs since 61, started, ready, restarts 2, before: Error 1 30..61 id 2
    > signal m 1
    > +31
    > +1
    > exit m 1
      read m 2 3
      wake +10
      Running
      m 2: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 2, before: Error 1 61..93 id 3
    ");
}

#[test]
fn what_somebody_starts_again_or_pauses_goes_on_and_is_told() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        +5; start m
        +5; exit m 1; agent restarts
        +5; pause m
        +1; pause m
        +2; pause m
        signal m 1; +5; start m
        +5; exit m 1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; start m
      drift 1 5 m Stopped: restarted by somebody
      m 0: runs since 5, started, ready, restarts 1
    > +5; exit m 1; agent restarts
      start m 1
      read m 0 1
      Running, ready since 10
      m 1: runs since 10, started, ready, restarts 2, before: Error 1 5..10 id 1
    > +5; pause m
      unpause m 1
      drift 2 15 m Paused: paused by somebody
    > +1; pause m
      unpause m 1
    > +2; pause m
      unpause m 1
      drift 3 18 m Paused: paused by somebody
    > signal m 1; +5; start m
      drift 4 23 m Stopped: restarted by somebody
      m 1: runs since 23, started, ready, restarts 3, before: Error 1 5..10 id 1
    > +5; exit m 1
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 3, before: Error 1 23..28 id 2
    ");
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        exit m 1
        +5; exit m 1
        +2; start m
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
    > +2; start m
      attach m 1
      drift 1 7 m Stopped: restarted by somebody
      drift 2 7 m NetworkLost: cut off from the pod network
      Running, ready since 7
      m 1: runs since 7, started, ready, restarts 2, before: Error 1 0..0 id 1
    ");
}

#[test]
fn of_one_name_only_the_newest_lives_and_the_one_before_it_is_kept_for_its_logs() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("x"), member("y")] }), "
        double x 1 exited
        double x 3 running
        double x 2 running
        double pause 3 exited
        double y 4 removing
        double y 5 created
        agent forgets; double y 2 running
        double y 1 exited; double y 0 exited
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > double x 1 exited
      remove x 0, start x 2
      read x 1 d1
      x 2: runs since 0, started, ready, restarts 2, before: Error 7 0..0 id d1
    > double x 3 running
      remove x 2, remove x 1
      x 3: runs since 0, started, ready, restarts 3, before: Error 7 0..0 id d1
    > double x 2 running
      remove x 2
    > double pause 3 exited
      remove pause, remove y 0, start pause 4, remove pause, start x 4, start y 1
      read  3 d3
      drift 1 0 x Removed: removed by somebody
      drift 2 0 pause Stopped: the pod's sandbox ended
      x 4: runs since 0, started, ready, restarts 4, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..0 id d3
      y 1: runs since 0, started, ready, restarts 1, before: Error 137 (the pod's sandbox ended) never..0 id 3
    > double y 4 removing
      remove y 1, remove y 4, start y 4
      y 4: runs since 0, started, ready, restarts 4, before: Error 137 (the pod's sandbox ended) never..0 id 3
    > double y 5 created
      remove y 4, resume y
      y 5: runs since 0, started, ready, restarts 5, before: Error 137 (the pod's sandbox ended) never..0 id 3
    > agent forgets; double y 2 running
      remove y 2, remove x 4, remove what is gone, remove y 5, start x 5, start y 6
      x 5: runs since 0, started, ready, restarts 5, before: Error 137 (the pod's sandbox ended) never..0 id 6
      y 6: runs since 0, started, ready, restarts 6, before: Error 137 (the pod's sandbox ended) never..0 id d5
    > double y 1 exited; double y 0 exited
      remove y 0
    ");
}

#[test]
fn an_agent_that_lost_its_journal_takes_over_what_runs() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        exit m 1
        +5; exit m 1
        +10; agent forgets
        +5; exit m 1
        agent forgets
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
    > +10; agent forgets
      start m 2, remove m 0
      read m 1 2
      Running, ready since 15
      m 2: runs since 15, started, ready, restarts 2, before: Error 1 0..5 id 2
    > +5; exit m 1
      read m 2 3
      wake +10
      Running
      m 2: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 2, before: Error 1 15..20 id 3
    > agent forgets
      start m 3, remove m 1
      read m 2 3
      Running, ready since 20
      m 3: runs since 20, started, ready, restarts 3, before: Error 1 15..20 id 3
    ");
    let job = json!({ "restart_policy": "Never", "containers": [member("m")] });
    insta::assert_snapshot!(tell(job, "exit m 0; agent forgets"), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > exit m 0; agent forgets
      read m 0 1
      Succeeded
      m 0: Completed 0 0..0 id 1
    ");
}

#[test]
fn an_older_one_than_the_newest_ordered_does_not_take_its_place() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        exit m 1
        double m 0 running; remove m
        double m 1 removing; remove m
        double m 2 created; remove m
        double m 3 exited; remove m
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > exit m 1
      start m 1
      read m 0 1
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    > double m 0 running; remove m
      remove m 0, start m 2
      drift 1 0 m Removed: removed by somebody
      m 2: runs since 0, started, ready, restarts 2, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..0 id 2
    > double m 1 removing; remove m
      remove m 1, start m 3
      drift 2 0 m Removed: removed by somebody
      m 3: runs since 0, started, ready, restarts 3, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..0 id 3
    > double m 2 created; remove m
      remove m 2, start m 4
      drift 3 0 m Removed: removed by somebody
      m 4: runs since 0, started, ready, restarts 4, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..0 id 4
    > double m 3 exited; remove m
      start m 5, remove m 0
      drift 4 0 m Removed: removed by somebody
      m 5: runs since 0, started, ready, restarts 5, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..0 id 5
    ");
}

#[test]
fn a_container_that_the_engine_is_removing_or_has_lost_is_made_anew() {
    let grace = json!({ "termination_grace_seconds": 1, "containers": [member("m")] });
    insta::assert_snapshot!(tell(grace, "
        +5; removing m
        +5; remove m
        +5; stubborn m; stop 30
        remove m
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; removing m
      remove m 0, start m 1
      drift 1 5 m Removed: removed by somebody
      Running, ready since 5
      m 1: runs since 5, started, ready, restarts 1, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..5 id 1
    > +5; remove m
      start m 2
      drift 2 10 m Removed: removed by somebody
      Running, ready since 10
      m 2: runs since 10, started, ready, restarts 2, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 5..10 id 2
    > +5; stubborn m; stop 30
      terminate m 2
      wake +30
      Killing: Stopping container m
      m 2: runs since 10, started, restarts 2, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 5..10 id 2
    > remove m
      clean
      Gone
      m 2: ContainerStatusUnknown 137 (the container could not be found when it ended) 10..15 id 3, restarts 2, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 5..10 id 2
    ");
}

#[test]
fn a_changed_container_is_replaced_whoever_changed_it() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("x"), member("y")] }), "
        +5; change x
        +5; labelled y
        +5; tampered x
        tampered x; +31
        another-tampered x
        stubborn y; change y
        tampered y
        +29
        +1
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > +5; change x
      terminate x 0, start x 1
      read x 0 2
      Killing: Container x is not as ordered, will be replaced
      Running, ready since 5
      x 1: runs since 5, started, ready, restarts 1, before: Error 143 0..5 id 2
    > +5; labelled y
      terminate y 0, start y 1
      read y 0 3
      Killing: Container y is not as ordered, will be replaced
      drift 1 10 y Changed: its configuration was changed by somebody
      Running, ready since 10
      y 1: runs since 10, started, ready, restarts 1, before: Error 143 0..10 id 3
    > +5; tampered x
      terminate x 1, start x 2, remove x 0
      read x 1 4
      Killing: Container x is not as ordered, will be replaced
      drift 2 15 x Changed: its configuration was changed by somebody
      Running, ready since 15
      x 2: runs since 15, started, ready, restarts 2, before: Error 143 5..15 id 4
    > tampered x; +31
      terminate x 2, start x 3, remove x 1
      read x 2 6
      Killing: Container x is not as ordered, will be replaced
      drift 3 46 x Changed: its configuration was changed by somebody
      Running, ready since 46
      x 3: runs since 46, started, ready, restarts 3, before: Error 143 15..46 id 6
    > another-tampered x
    > stubborn y; change y
      terminate y 1
      wake +30
      Killing: Container y is not as ordered, will be replaced
    > tampered y
      wake +30
    > +29
      wake +1
    > +1
      kill y 1, start y 2, remove y 0
      read y 1 5
      Running, ready since 76
      y 2: runs since 76, started, ready, restarts 2, before: Error 137 10..76 id 5
    ");
}

#[test]
fn a_pod_that_lost_its_place_on_the_network_is_put_back() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        +5; address m none
        +1; address m 10.1.2.9
        +1; address m none
        +5; fault attach 1; address m none
        +1
        +1
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; address m none
      attach m 0
      drift 1 5 m NetworkLost: cut off from the pod network
    > +1; address m 10.1.2.9
      attach m 0
    > +1; address m none
      attach m 0
      drift 2 7 m NetworkLost: cut off from the pod network
    > +5; fault attach 1; address m none
      attach m 0, attach m 0
      drift 3 12 m NetworkLost: cut off from the pod network
    > +1
    > +1
    ");
    insta::assert_snapshot!(tell(json!({ "containers": [member("x"), member("y")] }), "
        +5; address x 10.1.2.9
        address pause none
    "), @"
    > run
      start pause 0, start x 0, start y 0
      Running, ready since 0
      x 0: runs since 0, started, ready
      y 0: runs since 0, started, ready
    > +5; address x 10.1.2.9
    > address pause none
      attach pause
      drift 1 5 pause NetworkLost: cut off from the pod network
    ");
    let host = json!({ "host_network": true, "containers": [member("x")] });
    insta::assert_snapshot!(tell(host, "+5; address x none"), @"
    > run
      start x 0
      Running, ready since 0
      x 0: runs since 0, started, ready
    > +5; address x none
    ");
}

#[test]
fn a_sandbox_that_ends_takes_its_members_along() {
    let spec =
        json!({ "init_containers": [member("i")], "containers": [member("x"), member("y")] });
    insta::assert_snapshot!(tell(spec, "
        +5; exit i 0
        +5; exit x 1
        +5; remove pause
        exit i 0
        +5; exit pause 1
        exit i 0
        +5; start pause
        exit i 0
        +5; kill pause; exit x 1; exit y 0
    "), @"
    > run
      start pause 0, start i 0
      Pending
      i 0: runs since 0, started, ready
      x 0: PodInitializing
      y 0: PodInitializing
    > +5; exit i 0
      start x 0, start y 0
      read i 0 2
      Running, ready since 5
      i 0: Completed 0 0..5 id 2, ready
      x 0: runs since 5, started, ready
      y 0: runs since 5, started, ready
    > +5; exit x 1
      start x 1
      read x 0 3
      Running, ready since 10
      x 1: runs since 10, started, ready, restarts 1, before: Error 1 5..10 id 3
    > +5; remove pause
      remove y 0, remove x 1, start pause 1, start i 1
      drift 1 15 pause Removed: removed by somebody
      Running
      i 1: runs since 15, started, ready, restarts 1, before: Completed 0 0..5 id 2
      x 1: PodInitializing, restarts 1, before: Error 137 (the pod's sandbox ended) never..15 id 5
      y 0: PodInitializing, before: Error 137 (the pod's sandbox ended) never..15 id 4
    > exit i 0
      start x 2, start y 1
      read i 1 7
      Running, ready since 15
      i 1: Completed 0 15..15 id 7, ready, restarts 1, before: Completed 0 0..5 id 2
      x 2: runs since 15, started, ready, restarts 2, before: Error 137 (the pod's sandbox ended) never..15 id 5
      y 1: runs since 15, started, ready, restarts 1, before: Error 137 (the pod's sandbox ended) never..15 id 4
    > +5; exit pause 1
      remove x 2, remove y 1, start pause 2, remove pause, start i 2, remove i 0
      read  1 6
      drift 2 20 pause Stopped: the pod's sandbox ended
      Running
      i 2: runs since 20, started, ready, restarts 2, before: Completed 0 15..15 id 7
      x 2: PodInitializing, restarts 2, before: Error 137 (the pod's sandbox ended) never..20 id 8
      y 1: PodInitializing, restarts 1, before: Error 137 (the pod's sandbox ended) never..20 id 9
    > exit i 0
      start x 3, start y 2
      read i 2 b
      Running, ready since 20
      i 2: Completed 0 20..20 id b, ready, restarts 2, before: Completed 0 15..15 id 7
      x 3: runs since 20, started, ready, restarts 3, before: Error 137 (the pod's sandbox ended) never..20 id 8
      y 2: runs since 20, started, ready, restarts 2, before: Error 137 (the pod's sandbox ended) never..20 id 9
    > +5; start pause
      remove x 3, remove y 2, start i 3, remove i 1
      drift 3 25 pause Stopped: restarted by somebody
      Running
      i 3: runs since 25, started, ready, restarts 3, before: Completed 0 20..20 id b
      x 3: PodInitializing, restarts 3, before: Error 137 (the pod's sandbox ended) never..25 id c
      y 2: PodInitializing, restarts 2, before: Error 137 (the pod's sandbox ended) never..25 id d
    > exit i 0
      start x 4, start y 3
      read i 3 e
      Running, ready since 25
      i 3: Completed 0 25..25 id e, ready, restarts 3, before: Completed 0 20..20 id b
      x 4: runs since 25, started, ready, restarts 4, before: Error 137 (the pod's sandbox ended) never..25 id c
      y 3: runs since 25, started, ready, restarts 3, before: Error 137 (the pod's sandbox ended) never..25 id d
    > +5; kill pause; exit x 1; exit y 0
      start pause 3, remove pause, start i 4, remove i 2
      read  2 a, read x 4 f, read y 3 10
      drift 4 30 pause Stopped: signal 9
      Running
      i 4: runs since 30, started, ready, restarts 4, before: Completed 0 25..25 id e
      x 4: PodInitializing, restarts 4, before: Error 1 25..30 id f
      y 3: PodInitializing, restarts 3, before: Completed 0 25..30 id 10
    ");
}

#[test]
fn what_was_told_last_is_kept_up_to_a_number() {
    let script = "+5; remove m\n".repeat(9);
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), &script), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > +5; remove m
      start m 1
      drift 1 5 m Removed: removed by somebody
      Running, ready since 5
      m 1: runs since 5, started, ready, restarts 1, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 0..5 id 1
    > +5; remove m
      start m 2
      drift 2 10 m Removed: removed by somebody
      Running, ready since 10
      m 2: runs since 10, started, ready, restarts 2, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 5..10 id 2
    > +5; remove m
      start m 3
      drift 3 15 m Removed: removed by somebody
      Running, ready since 15
      m 3: runs since 15, started, ready, restarts 3, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 10..15 id 3
    > +5; remove m
      start m 4
      drift 4 20 m Removed: removed by somebody
      Running, ready since 20
      m 4: runs since 20, started, ready, restarts 4, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 15..20 id 4
    > +5; remove m
      start m 5
      drift 5 25 m Removed: removed by somebody
      Running, ready since 25
      m 5: runs since 25, started, ready, restarts 5, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 20..25 id 5
    > +5; remove m
      start m 6
      drift 6 30 m Removed: removed by somebody
      Running, ready since 30
      m 6: runs since 30, started, ready, restarts 6, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 25..30 id 6
    > +5; remove m
      start m 7
      drift 7 35 m Removed: removed by somebody
      Running, ready since 35
      m 7: runs since 35, started, ready, restarts 7, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 30..35 id 7
    > +5; remove m
      start m 8
      drift 8 40 m Removed: removed by somebody
      Running, ready since 40
      m 8: runs since 40, started, ready, restarts 8, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 35..40 id 8
    > +5; remove m
      start m 9
      drift 9 45 m Removed: removed by somebody
      Running, ready since 45
      m 9: runs since 45, started, ready, restarts 9, before: ContainerStatusUnknown 137 (the container could not be found when it ended) 40..45 id 9
    ");
}

#[test]
fn lost_images_and_volumes_are_told() {
    insta::assert_snapshot!(tell(json!({ "containers": [member("m")] }), "
        image-lost m put-back
        image-lost m
        volume-lost data
        exit m 1
        exit m 1
        image-lost m
    "), @"
    > run
      start m 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > image-lost m put-back
      drift 1 0 m ImageLost: the image here was removed by somebody; named again from the running container's
    > image-lost m
      drift 2 0 m ImageLost: the image here was removed by somebody; to be fetched when the container starts again (no)
    > volume-lost data
      VolumeLost: the data of volume data is lost: it was removed behind kgit's back, and an empty one took its place
      drift 3 0 pause Removed: the data of volume data is lost: it was removed behind kgit's back, and an empty one took its place
    > exit m 1
      start m 1
      read m 0 1
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    > exit m 1
      read m 1 2
      wake +10
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 1 0..0 id 2
    > image-lost m
      wake +10
    ");
}

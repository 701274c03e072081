//! Probes and hooks: what is asked for, and what follows from the answers.

use serde_json::{Value, json};

use crate::decide::tests::member;
use crate::decide::tests::script::tell;

fn probe(successes: u32, failures: u32) -> Value {
    json!({ "handler": { "Tcp": { "host": null, "port": 1 } }, "initial_delay_seconds": 0,
        "period_seconds": 1, "timeout_seconds": 1, "success_threshold": successes,
        "failure_threshold": failures })
}

fn with(fields: Value) -> Value {
    let mut container = member("m");
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "containers": [container] })
}

#[test]
fn readiness_comes_and_goes_with_the_probe() {
    insta::assert_snapshot!(tell(with(json!({ "readiness": probe(2, 2) })), "
        +1; probe m readiness ok
        +1; probe m readiness bad
        +1; probe m readiness ok
        +1; probe m readiness ok
        +1; silent 80
        +1; probe m readiness bad
        +1; probe m readiness ok
        +1; probe m readiness bad
        +1; probe m readiness bad
        +1; probe m readiness ok; probe m readiness ok
        stale-probe m readiness bad; stale-probe m readiness bad
        exit m 1
    "), @"
    > run
      start m 0
      probes m 1 readiness 10.1.2.3 since 0
      Running
      m 0: runs since 0, started
    > +1; probe m readiness ok
    > +1; probe m readiness bad
      Unhealthy: Readiness probe failed: no
    > +1; probe m readiness ok
    > +1; probe m readiness ok
      Running, ready since 4
      m 0: runs since 0, started, ready
    > +1; silent 80
      Running, ready since 4, silent [80]
    > +1; probe m readiness bad
      Unhealthy: Readiness probe failed: no
    > +1; probe m readiness ok
    > +1; probe m readiness bad
      Unhealthy: Readiness probe failed: no
    > +1; probe m readiness bad
      Unhealthy: Readiness probe failed: no
      Running
      m 0: runs since 0, started
    > +1; probe m readiness ok; probe m readiness ok
      Running, ready since 10, silent [80]
      m 0: runs since 0, started, ready
    > stale-probe m readiness bad; stale-probe m readiness bad
    > exit m 1
      start m 1
      read m 0 1
      probes m 2 readiness 10.1.2.3 since 10
      Running
      m 1: runs since 10, started, restarts 1, before: Error 1 0..10 id 1
    ");
}

#[test]
fn a_probe_that_could_not_be_made_is_told_and_proves_nothing() {
    insta::assert_snapshot!(tell(with(json!({ "readiness": probe(2, 2), "liveness": probe(1, 2) })), "
        +1; probe m readiness ok; probe m liveness bad
        +1; probe m readiness error; probe m liveness error
        +1; probe m readiness ok; probe m liveness bad
    "), @"
    > run
      start m 0
      probes m 1 liveness 10.1.2.3 since 0, m 1 readiness 10.1.2.3 since 0
      Running
      m 0: runs since 0, started
    > +1; probe m readiness ok; probe m liveness bad
      Unhealthy: Liveness probe failed: no
    > +1; probe m readiness error; probe m liveness error
      Unhealthy: Readiness probe errored: not there
      Unhealthy: Liveness probe errored: not there
    > +1; probe m readiness ok; probe m liveness bad
      terminate m 0, start m 1
      read m 0 1
      probes m 2 liveness 10.1.2.3 since 3, m 2 readiness 10.1.2.3 since 3
      Unhealthy: Liveness probe failed: no
      Killing: Container m failed liveness probe, will be restarted
      m 1: runs since 3, started, restarts 1, before: Error 143 0..3 id 1
    ");
}

#[test]
fn the_others_wait_for_startup() {
    let all = json!({ "startup": probe(1, 3), "liveness": probe(1, 1), "readiness": probe(0, 0) });
    insta::assert_snapshot!(tell(with(all.clone()), "
        +1; probe m startup bad
        +1; probe m startup ok
        +1; probe m readiness ok
        +1; probe m liveness ok
        +1; probe m liveness bad
        probe m startup bad; probe m startup bad; probe m startup bad
        +60
    "), @"
    > run
      start m 0
      probes m 1 startup 10.1.2.3 since 0
      Running
      m 0: runs since 0
    > +1; probe m startup bad
      Unhealthy: Startup probe failed: no
    > +1; probe m startup ok
      probes m 1 liveness 10.1.2.3 since 0, m 1 readiness 10.1.2.3 since 0
      m 0: runs since 0, started
    > +1; probe m readiness ok
      Running, ready since 3
      m 0: runs since 0, started, ready
    > +1; probe m liveness ok
    > +1; probe m liveness bad
      terminate m 0, start m 1
      read m 0 1
      probes m 2 startup 10.1.2.3 since 5
      Unhealthy: Liveness probe failed: no
      Killing: Container m failed liveness probe, will be restarted
      Running
      m 1: runs since 5, restarts 1, before: Error 143 0..5 id 1
    > probe m startup bad; probe m startup bad; probe m startup bad
      terminate m 1
      read m 1 2
      wake +10
      probes 
      Unhealthy: Startup probe failed: no
      Unhealthy: Startup probe failed: no
      Unhealthy: Startup probe failed: no
      Killing: Container m failed startup probe, will be restarted
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 143 5..5 id 2
    > +60
      start m 2, remove m 0
      probes m 3 startup 10.1.2.3 since 65
      m 2: runs since 65, restarts 2, before: Error 143 5..5 id 2
    ");
    insta::assert_snapshot!(tell(with(all), "
        stubborn m; probe m startup bad; probe m startup bad; probe m startup bad
        probe m startup ok
        +30
    "), @"
    > run
      start m 0
      probes m 1 startup 10.1.2.3 since 0
      Running
      m 0: runs since 0
    > stubborn m; probe m startup bad; probe m startup bad; probe m startup bad
      terminate m 0
      wake +30
      probes 
      Unhealthy: Startup probe failed: no
      Unhealthy: Startup probe failed: no
      Unhealthy: Startup probe failed: no
      Killing: Container m failed startup probe, will be restarted
    > probe m startup ok
      wake +30
    > +30
      kill m 0, start m 1
      read m 0 1
      probes m 2 startup 10.1.2.3 since 30
      m 1: runs since 30, restarts 1, before: Error 137 0..30 id 1
    ");
}

#[test]
fn a_failure_of_liveness_holds_until_the_container_is_a_new_one() {
    insta::assert_snapshot!(tell(with(json!({ "liveness": probe(1, 1) })), "
        stubborn m; probe m liveness bad
        probe m liveness ok
        +30
        +30
    "), @"
    > run
      start m 0
      probes m 1 liveness 10.1.2.3 since 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stubborn m; probe m liveness bad
      terminate m 0
      wake +30
      probes 
      Unhealthy: Liveness probe failed: no
      Killing: Container m failed liveness probe, will be restarted
    > probe m liveness ok
      wake +30
    > +30
      kill m 0, start m 1
      read m 0 1
      probes m 2 liveness 10.1.2.3 since 30
      Running, ready since 30
      m 1: runs since 30, started, ready, restarts 1, before: Error 137 0..30 id 1
    > +30
    ");
}

#[test]
fn while_a_pod_ends_only_readiness_is_asked_for() {
    let all = json!({ "liveness": probe(1, 1), "readiness": probe(1, 1) });
    insta::assert_snapshot!(tell(with(all), "
        probe m readiness ok
        stubborn m; stop 30
        probe m readiness bad
    "), @"
    > run
      start m 0
      probes m 1 liveness 10.1.2.3 since 0, m 1 readiness 10.1.2.3 since 0
      Running
      m 0: runs since 0, started
    > probe m readiness ok
      Running, ready since 0
      m 0: runs since 0, started, ready
    > stubborn m; stop 30
      terminate m 0
      wake +30
      probes m 1 readiness 10.1.2.3 since 0
      Killing: Stopping container m
      m 0: runs since 0, started
    > probe m readiness bad
      wake +30
      Unhealthy: Readiness probe failed: no
      Running
    ");
    let starting = json!({ "startup": probe(1, 1), "readiness": probe(1, 1) });
    insta::assert_snapshot!(tell(with(starting), "stubborn m; stop 30"), @"
    > run
      start m 0
      probes m 1 startup 10.1.2.3 since 0
      Running
      m 0: runs since 0
    > stubborn m; stop 30
      terminate m 0
      wake +30
      probes 
      Killing: Stopping container m
    ");
}

#[test]
fn probes_of_a_pod_on_the_hosts_network_go_to_the_host() {
    let mut pod = with(json!({ "liveness": probe(1, 1) }));
    pod["host_network"] = json!(true);
    insta::assert_snapshot!(tell(pod, ""), @"
    > run
      start m 0
      probes m 1 liveness host since 0
      Running, ready since 0
      m 0: runs since 0, started, ready
    ");
}

#[test]
fn a_container_has_started_when_its_post_start_hook_has_run() {
    let hook = json!({ "post_start": { "Exec": { "command": ["x"] } } });
    insta::assert_snapshot!(tell(with(hook.clone()), "exit m 1"), @"
    > run
      start m 0, PostStart m
      Running, ready since 0
      m 0: runs since 0, started, ready
    > exit m 1
      start m 1, PostStart m
      read m 0 1
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    ");
    insta::assert_snapshot!(tell(with(hook.clone()), "
        hooks hang; exit m 1
        hook-of-another-ends m
        agent restarts
        hook-ends m post ok
    "), @"
    > run
      start m 0, PostStart m
      Running, ready since 0
      m 0: runs since 0, started, ready
    > hooks hang; exit m 1
      start m 1, PostStart m
      read m 0 1
      Running
      m 1: runs since 0, restarts 1, before: Error 1 0..0 id 1
    > hook-of-another-ends m
    > agent restarts
      PostStart m
    > hook-ends m post ok
      Running, ready since 0
      m 1: runs since 0, started, ready, restarts 1, before: Error 1 0..0 id 1
    ");
    insta::assert_snapshot!(tell(with(hook), "
        hooks fail; exit m 1
        +10
    "), @"
    > run
      start m 0, PostStart m
      Running, ready since 0
      m 0: runs since 0, started, ready
    > hooks fail; exit m 1
      start m 1, PostStart m, terminate m 1
      read m 0 1, read m 1 2
      wake +10
      FailedPostStartHook: no
      FailedPostStartHook: PostStart hook of m failed
      Running
      m 1: CrashLoopBackOff (back-off 10s restarting failed container=m pod=p_default), restarts 1, before: Error 143 0..0 id 2
    > +10
      start m 2, PostStart m, remove m 0, terminate m 2
      read m 2 3
      wake +20
      FailedPostStartHook: no
      FailedPostStartHook: PostStart hook of m failed
      m 2: CrashLoopBackOff (back-off 20s restarting failed container=m pod=p_default), restarts 2, before: Error 143 10..10 id 3
    ");
}

#[test]
fn a_sidecar_that_has_not_started_holds_back_what_comes_after_it() {
    let mut sidecar = member("s");
    sidecar["sidecar"] = json!(true);
    sidecar["startup"] = probe(1, 1);
    let spec = json!({ "init_containers": [sidecar], "containers": [member("m")] });
    insta::assert_snapshot!(tell(spec, "
        +5
        probe s startup ok
        +5; exit s 1
        +5; exit m 1
    "), @"
    > run
      start pause 0, start s 0
      probes s 2 startup 10.1.2.3 since 0
      Pending
      s 0: runs since 0
      m 0: ContainerCreating
    > +5
    > probe s startup ok
      start m 0
      probes 
      Running, ready since 5
      s 0: runs since 0, started, ready
      m 0: runs since 5, started, ready
    > +5; exit s 1
      start s 1
      read s 0 2
      probes s 4 startup 10.1.2.3 since 10
      Running
      s 1: runs since 10, restarts 1, before: Error 1 0..10 id 2
    > +5; exit m 1
      start m 1
      read m 0 3
      m 1: runs since 15, started, ready, restarts 1, before: Error 1 5..15 id 3
    ");
}

//! The agent's worker on a real Docker engine, with a master that is made up. Needs
//! `KGIT_TEST_DOCKER` set to the engine's socket and the image `kgit-test/busybox:1`.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it drives a real engine")]

mod bench;
mod features;
mod waits;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use kgit_agent::runtime::Runtime as _;
use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::observation::{DriftKind, PodPhase};
use serde_json::json;

use crate::bench::{Bench, PATIENCE, WAIT, pod, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_at_its_address_says_something_and_goes() {
    let Some(bench) = Bench::new(1) else { return };
    let script = format!("hostname; cat /etc/hosts; echo $GREETING; {WAIT}");
    let mut container = shell("main", &script);
    container["env"] = json!([{ "name": "GREETING", "value": "hello there" }]);
    let pod = pod(&bench, 10, json!({ "containers": [container] }));
    bench.master.order(pod.clone());
    let seen = bench.ready(&pod.uid).await;
    assert_eq!(seen.phase, PodPhase::Running);
    let logs = bench.logs(&pod.uid, "main").await;
    assert!(logs.contains("pod-10") && logs.contains("hello there"), "{logs}");
    assert!(logs.contains(&bench.address(10).to_string()), "{logs}");
    bench.master.order(PodAssignment { order: Order::Stop { grace_seconds: 5 }, ..pod.clone() });
    bench.until(&pod.uid, "gone", |pod| pod.phase == PodPhase::Gone).await;
    assert!(bench.docker().view(bench.range()).await.unwrap().containers.is_empty());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_first_and_members_share_a_network_and_a_volume() {
    let Some(bench) = Bench::new(2) else { return };
    let mut init = shell("init", "echo made by init > /data/file");
    let mut server = shell("server", &format!("nc -ll -p 8080 -e cat /data/file & {WAIT}"));
    let mut client = shell("client", &format!("sleep 1; nc 127.0.0.1 8080; cat /config/a; {WAIT}"));
    let mount = json!([{ "volume": "shared", "path": "/data" }]);
    init["mounts"] = mount.clone();
    server["mounts"] = mount;
    client["mounts"] = json!([{ "volume": "files", "path": "/config", "read_only": true }]);
    let pod = pod(
        &bench,
        20,
        json!({
            "init_containers": [init],
            "containers": [server, client],
            "volumes": [
                { "name": "shared", "source": { "EmptyDir": { "memory": false, "size_limit_bytes": null } } },
                { "name": "files", "source": { "Files": { "secret": true, "files": [
                    { "path": "a", "mode": 420, "content": "ZnJvbSBhIHNlY3JldAo=" } ] } } },
            ],
        }),
    );
    bench.master.order(pod.clone());
    bench.ready(&pod.uid).await;
    let begun = Instant::now();
    loop {
        let logs = bench.logs(&pod.uid, "client").await;
        if logs.contains("made by init") && logs.contains("from a secret") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{logs}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_does_to_a_container_is_told_and_undone() {
    let Some(bench) = Bench::new(3) else { return };
    let pod = pod(&bench, 30, json!({ "containers": [shell("main", WAIT)] }));
    bench.master.order(pod.clone());
    let mut seen = bench.ready(&pod.uid).await;
    let acts: [(&[&str], DriftKind); 5] = [
        (&["rm", "-f"], DriftKind::Removed),
        (&["stop"], DriftKind::Stopped),
        (&["kill"], DriftKind::Stopped),
        (&["pause"], DriftKind::Paused),
        (&["update", "--memory", "64m", "--memory-swap", "64m"], DriftKind::Changed),
    ];
    for (act, kind) in acts {
        let id = seen.containers[0].container_id.clone().unwrap();
        let told = seen.drifts.last().map_or(0, |drift| drift.number);
        bench.vandal(&[act, &[id.as_str()]].concat());
        let after = bench.repaired(&pod.uid, kind, told).await;
        assert!(after.containers[0].attempt >= seen.containers[0].attempt, "{act:?}");
        seen = after;
    }
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_network_and_a_lost_sandbox_are_put_back() {
    let Some(bench) = Bench::new(4) else { return };
    let single = pod(&bench, 40, json!({ "containers": [shell("main", WAIT)] }));
    let double = pod(&bench, 41, json!({ "containers": [shell("a", WAIT), shell("b", WAIT)] }));
    bench.master.order(single.clone());
    bench.master.order(double.clone());
    bench.ready(&single.uid).await;
    let seen = bench.ready(&double.uid).await;
    let told = seen.drifts.last().map_or(0, |drift| drift.number);
    let network = bench.scope.network();
    for container in bench.docker().view(bench.range()).await.unwrap().containers {
        if container.address.is_some() {
            bench.vandal(&["network", "disconnect", "-f", &network, &container.id]);
        }
    }
    // The agent may be faster than the vandal.
    let host = format!("unix://{}", bench.socket.trim_start_matches("unix://"));
    let _ = Command::new("docker").args(["-H", &host, "network", "rm", &network]).output();
    bench.repaired(&single.uid, DriftKind::NetworkLost, 0).await;
    let seen = bench.repaired(&double.uid, DriftKind::NetworkLost, told).await;
    let told = seen.drifts.last().map_or(0, |drift| drift.number);
    let view = bench.docker().view(bench.range()).await.unwrap();
    let sandbox = view.containers.iter().find(|seen| seen.identity.container.is_empty()).unwrap();
    bench.vandal(&["kill", &sandbox.id]);
    let after = bench.repaired(&double.uid, DriftKind::Stopped, told).await;
    assert!(after.containers.iter().all(|container| container.restarts > 0), "{after:#?}");
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_adopts_its_containers() {
    let Some(mut bench) = Bench::new(5) else { return };
    let pod = pod(&bench, 50, json!({ "containers": [shell("a", WAIT), shell("b", WAIT)] }));
    bench.master.order(pod.clone());
    bench.ready(&pod.uid).await;
    let ids = |bench: &Bench| {
        let docker = bench.docker();
        let range = bench.range();
        async move {
            let view = docker.view(range).await.unwrap();
            let all =
                view.containers.into_iter().map(|seen| (seen.id, format!("{:?}", seen.state)));
            all.collect::<BTreeMap<_, _>>()
        }
    };
    let before = ids(&bench).await;
    bench.stop().await;
    bench.master.state.lock().unwrap().seen.clear();
    bench.start();
    bench.ready(&pod.uid).await;
    assert_eq!(ids(&bench).await, before);
    bench.master.forget(&pod.uid);
    bench.until(&pod.uid, "gone", |pod| pod.phase == PodPhase::Gone).await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_refuses_what_it_does_not_allow() {
    let Some(bench) = Bench::new(6) else { return };
    let mut container = shell("main", WAIT);
    container["security"] = json!({ "privileged": true });
    let privileged = pod(&bench, 60, json!({ "containers": [container] }));
    let root = pod(
        &bench,
        61,
        json!({
            "containers": [shell("main", WAIT)],
            "volumes": [{ "name": "root", "source": { "HostPath": { "path": "/", "kind": "Unset" } } }],
        }),
    );
    for pod in [&privileged, &root] {
        bench.master.order(pod.clone());
        let seen = bench.until(&pod.uid, "refused", |pod| pod.phase == PodPhase::Failed).await;
        assert_eq!(seen.reason.as_deref(), Some("NodePolicy"));
    }
    assert!(bench.docker().view(bench.range()).await.unwrap().containers.is_empty());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_about_readiness_and_restarts() {
    let Some(bench) = Bench::new(7) else { return };
    let script = format!("touch /tmp/ok; nc -ll -p 8080 -e true & {WAIT}");
    let mut container = shell("main", &script);
    let probe = |handler: serde_json::Value| {
        json!({ "handler": handler, "initial_delay_seconds": 0, "period_seconds": 1,
                "timeout_seconds": 1, "success_threshold": 1, "failure_threshold": 2 })
    };
    container["readiness"] = probe(json!({ "Tcp": { "host": null, "port": 8080 } }));
    container["liveness"] = probe(json!({ "Exec": { "command": ["test", "-e", "/tmp/ok"] } }));
    let pod = pod(&bench, 70, json!({ "containers": [container] }));
    // What can't be run says nothing about what it was to be run in.
    let mut spared = shell("main", WAIT);
    spared["liveness"] = probe(json!({ "Exec": { "command": ["/not/there"] } }));
    let spared = crate::bench::pod(&bench, 71, json!({ "containers": [spared] }));
    bench.master.order(spared.clone());
    bench.master.order(pod.clone());
    bench.ready(&spared.uid).await;
    let seen = bench.ready(&pod.uid).await;
    let id = seen.containers[0].container_id.clone().unwrap();
    bench.vandal(&["exec", &id, "rm", "/tmp/ok"]);
    let after = bench
        .until(&pod.uid, "restarted", |pod| pod.ready && pod.containers[0].restarts == 1)
        .await;
    assert!(after.drifts.is_empty(), "{after:#?}");
    let spared = bench.ready(&spared.uid).await;
    assert_eq!(spared.containers[0].restarts, 0);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_once_and_a_failure_tells_its_last_words() {
    let Some(bench) = Bench::new(8) else { return };
    let well = pod(
        &bench,
        80,
        json!({
        "restart_policy": "Never", "containers": [shell("main", "echo done")] }),
    );
    let badly = pod(
        &bench,
        81,
        json!({
        "restart_policy": "Never",
        "containers": [shell("main", "echo why > /dev/termination-log; exit 3")] }),
    );
    bench.master.order(well.clone());
    bench.master.order(badly.clone());
    bench.until(&well.uid, "succeeded", |pod| pod.phase == PodPhase::Succeeded).await;
    let seen = bench
        .until(&badly.uid, "failed", |pod| {
            pod.phase == PodPhase::Failed && format!("{pod:?}").contains("why")
        })
        .await;
    assert!(format!("{:?}", seen.containers[0].state).contains("exit_code: 3"), "{seen:#?}");
    assert_eq!(bench.logs(&well.uid, "main").await, "done\n");
    bench.finish().await;
}

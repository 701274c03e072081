//! What a pod asks for, and what its containers then find.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kgit_agent::agent;
use kgit_agent::runtime::Runtime as _;
use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::observation::{DriftKind, PodPhase};
use serde_json::{Value, json};

use crate::bench::{Bench, IMAGE, PATIENCE, WAIT, pod, shell};

fn claim(volume: &str) -> Value {
    json!({ "Docker": { "volume": volume, "driver": "local", "options": {} } })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Forbids making folders, and nothing else.
const PROFILE: &str = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" } ] }"#;

#[tokio::test(flavor = "multi_thread")]
async fn ports_hooks_probes_groups_and_volumes_are_as_asked_for() {
    let Some(bench) = Bench::new(9) else { return };
    let profiles = bench.dir.path().join("data/seccomp");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("no-folders.json"), PROFILE).unwrap();
    let (volume, port) = (format!("kgit-test-{}", bench.scope.cluster), free_port());
    let mut container = shell("main", &format!("httpd -p 8080 -h /www; {WAIT}"));
    let extra = json!({
        "ports": [{ "port": 8080, "host_port": port }],
        "security": { "run_as_user": 1000, "run_as_non_root": true,
                      "seccomp": "Localhost/no-folders.json" },
        "readiness": { "handler": { "Http": { "host": null, "port": 8080, "path": "/ready",
                "https": false, "headers": [] } },
            "initial_delay_seconds": 0, "period_seconds": 1, "timeout_seconds": 1,
            "success_threshold": 1, "failure_threshold": 1 },
        "post_start": { "Exec": { "command": ["touch", "/www/started"] } },
        "pre_stop": { "Exec": { "command": ["/bin/sh", "-c", "echo bye > /claim/bye"] } },
        "mounts": [
            { "volume": "www", "path": "/www" },
            { "volume": "memory", "path": "/memory" },
            { "volume": "claim", "path": "/claim" },
            { "volume": "claim", "path": "/part", "sub_path": "a/part" },
        ],
    });
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let pod = pod(
        &bench,
        90,
        json!({
            "security": { "fs_group": 2000 },
            "containers": [container],
            "volumes": [
                { "name": "www", "source": { "EmptyDir": { "memory": false, "size_limit_bytes": null } } },
                { "name": "memory", "source": { "EmptyDir": { "memory": true, "size_limit_bytes": 1048576 } } },
                { "name": "claim", "source": claim(&volume) },
            ],
        }),
    );
    bench.master.order(pod.clone());
    let running = |pod: &kgit_protocol::observation::PodObservation| pod.containers[0].started;
    let seen = bench.until(&pod.uid, "started", running).await;
    assert!(!seen.ready, "nothing answers at /ready yet");
    let id = seen.containers[0].container_id.clone().unwrap();
    bench.says(&id, "echo here > /www/ready").await;
    bench.ready(&pod.uid).await;
    bench.says(&id, "rm /www/ready").await;
    bench.until(&pod.uid, "unready again", |pod| !pod.ready).await;

    assert!(get(port, "/started").contains("200 OK"), "by the postStart hook, through a hostPort");
    assert_eq!(bench.says(&id, "stat -c %g /www /claim").await, "2000\n2000");
    assert_eq!(bench.says(&id, "touch /part/one && stat -c '%a %g' /part").await, "2775 2000");
    assert_eq!(bench.says(&id, "echo 1 > /claim/one && cat /claim/one").await, "1");
    assert!(bench.says(&id, "mkdir /www/folder").await.contains("Operation not permitted"));
    let size = bench.says(&id, "df -k /memory | tail -1").await;
    assert!(size.starts_with("tmpfs") && size.contains(" 1024 "), "{size}");
    assert!(bench.says(&id, "df -k /part /claim | wc -l").await.trim() == "3");

    bench.master.order(PodAssignment { order: Order::Stop { grace_seconds: 5 }, ..pod.clone() });
    bench.until(&pod.uid, "gone", |pod| pod.phase == PodPhase::Gone).await;
    assert_eq!(bench.in_volume(&volume, "bye").await, "bye\n", "by the preStop hook");
    let left = bench.docker().volumes().await.unwrap();
    assert_eq!(
        left,
        std::slice::from_ref(&volume),
        "the claim's data stays, what was in memory goes"
    );
    bench.master.forget(&pod.uid);
    bench.master.remove_volume(&volume);
    let begun = Instant::now();
    while !bench.master.state.lock().unwrap().volumes_removed.contains(&volume) {
        assert!(begun.elapsed() < PATIENCE, "{volume} is never told to be gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bench.docker().volumes().await.unwrap().is_empty());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_start_in_order_before_the_rest_and_end_in_reverse_after_it() {
    let Some(bench) = Bench::new(10) else { return };
    let volume = format!("kgit-test-{}", bench.scope.cluster);
    let member = |name: &str, sidecar: bool| {
        let script = format!(
            "echo up {name} >> /log/all; trap 'echo down {name} >> /log/all; exit 0' TERM; \
             while :; do sleep 1 & wait; done"
        );
        let mut container = shell(name, &script);
        container["mounts"] = json!([{ "volume": "log", "path": "/log" }]);
        container["sidecar"] = json!(sidecar);
        container
    };
    let pod = pod(
        &bench,
        100,
        json!({
            "init_containers": [member("first", true), member("second", true)],
            "containers": [member("main", false)],
            "volumes": [{ "name": "log", "source": claim(&volume) }],
        }),
    );
    bench.master.order(pod.clone());
    bench.ready(&pod.uid).await;
    let begun = Instant::now();
    while !bench.in_volume(&volume, "all").await.contains("up main") {
        assert!(begun.elapsed() < PATIENCE, "main says nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.master.order(PodAssignment { order: Order::Stop { grace_seconds: 10 }, ..pod.clone() });
    bench.until(&pod.uid, "gone", |pod| pod.phase == PodPhase::Gone).await;
    let log = bench.in_volume(&volume, "all").await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        ["up first", "up second", "up main", "down main", "down second", "down first"]
    );
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_somebody_removes_is_told_and_named_again() {
    let Some(bench) = Bench::new(11) else { return };
    let image = format!("kgit-test/lost-{}:1", &bench.scope.cluster.as_str()[..8]);
    bench.vandal(&["tag", IMAGE, &image]);
    let mut container = shell("main", WAIT);
    container["image"] = json!(image);
    let pod = pod(&bench, 110, json!({ "containers": [container] }));
    bench.master.order(pod.clone());
    let before = bench.ready(&pod.uid).await;
    bench.vandal(&["rmi", "--no-prune", &image]);
    let after = bench.repaired(&pod.uid, DriftKind::ImageLost, 0).await;
    assert_eq!(after.containers[0].container_id, before.containers[0].container_id);
    assert!(bench.docker().image(&image).await.unwrap().is_some());
    bench.vandal(&["rm", "-f", before.containers[0].container_id.as_deref().unwrap()]);
    bench.repaired(&pod.uid, DriftKind::Removed, 1).await;
    let socket = bench.socket.clone();
    bench.finish().await;
    // Its last user goes with the bench; what is left of the name goes here.
    let host = format!("unix://{}", socket.trim_start_matches("unix://"));
    std::process::Command::new("docker").args(["-H", &host, "rmi", "-f", &image]).output().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_down_and_up_again_nothing_is_told_and_a_purge_leaves_nothing() {
    let Some(mut bench) = Bench::new(12) else { return };
    let server = pod(&bench, 120, json!({ "containers": [shell("a", WAIT), shell("b", WAIT)] }));
    let job = pod(
        &bench,
        121,
        json!({ "restart_policy": "Never", "containers": [shell("main", "echo done")] }),
    );
    bench.master.order(server.clone());
    bench.master.order(job.clone());
    bench.ready(&server.uid).await;
    bench.until(&job.uid, "succeeded", |pod| pod.phase == PodPhase::Succeeded).await;
    bench.stop().await;
    agent::stop_all(&bench.config(), Duration::from_secs(10)).await.unwrap();
    assert!(bench.docker().view(bench.range()).await.unwrap().containers.is_empty());
    bench.master.state.lock().unwrap().seen.clear();
    bench.start();
    let seen = bench.ready(&server.uid).await;
    assert!(seen.drifts.is_empty(), "{seen:#?}");
    let after = bench.until(&job.uid, "told of", |_| true).await;
    assert_eq!(after.phase, PodPhase::Succeeded);
    assert_eq!(after.containers[0].restarts, 0);
    bench.stop().await;
    agent::purge(&bench.config(), Duration::from_secs(10)).await.unwrap();
    assert!(bench.docker().view(bench.range()).await.unwrap().containers.is_empty());
    assert!(!bench.docker().network_ranges().await.unwrap().contains(&bench.range()));
    assert!(!bench.dir.path().join("data").exists());
    bench.finish().await;
}

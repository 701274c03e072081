//! What a pod that does not come up, or does not stay up, says about it.

use kgit_protocol::observation::{ContainerState, PodObservation, PodPhase};
use serde_json::{Value, json};

use crate::bench::{Bench, WAIT, pod, shell};

fn waits_with(pod: &PodObservation, wanted: &str) -> bool {
    matches!(&pod.containers[0].state, ContainerState::Waiting { reason, .. } if reason == wanted)
}

fn with(mut container: Value, key: &str, value: Value) -> Value {
    container[key] = value;
    container
}

/// Trouble of many kinds side by side: most of it is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_with_kubernetes_reasons() {
    let Some(bench) = Bench::new(13) else { return };
    let root = with(shell("m", WAIT), "security", json!({ "run_as_non_root": true }));
    let nowhere = with(shell("m", WAIT), "image", json!("127.0.0.1:1/none:1"));
    let words = with(
        shell("m", "echo last words > /tmp/words; exit 3"),
        "termination_message_path",
        json!("/tmp/words"),
    );
    let hungry =
        with(shell("m", "tail /dev/zero"), "resources", json!({ "memory_limit_bytes": 16 << 20 }));
    let greedy = with(
        shell("m", &format!("dd if=/dev/zero of=/data/file bs=1024 count=512; {WAIT}")),
        "mounts",
        json!([{ "volume": "data", "path": "/data" }]),
    );
    let small = json!([{ "name": "data", "source": {
        "EmptyDir": { "memory": false, "size_limit_bytes": 65536 } } }]);
    let root = pod(&bench, 130, json!({ "containers": [root] }));
    let nowhere = pod(&bench, 131, json!({ "containers": [nowhere] }));
    let crashing = pod(&bench, 132, json!({ "containers": [words] }));
    let never = json!({ "restart_policy": "Never", "containers": [hungry] });
    let hungry = pod(&bench, 133, never);
    let greedy = pod(&bench, 134, json!({ "containers": [greedy], "volumes": small }));
    for pod in [&root, &nowhere, &crashing, &hungry, &greedy] {
        bench.master.order(pod.clone());
    }

    let seen = bench
        .until(&root.uid, "refused", |pod| waits_with(pod, "CreateContainerConfigError"))
        .await;
    assert!(format!("{seen:?}").contains("image will run as root"), "{seen:#?}");
    bench.until(&nowhere.uid, "without image", |pod| waits_with(pod, "ErrImagePull")).await;
    let backs_off = |pod: &PodObservation| {
        waits_with(pod, "CrashLoopBackOff") && format!("{:?}", pod.containers[0]).contains("words")
    };
    let seen = bench.until(&crashing.uid, "backing off", backs_off).await;
    let last = seen.containers[0].last.clone().unwrap();
    assert_eq!((last.exit_code, last.message.as_deref()), (3, Some("last words")));
    let seen = bench.until(&hungry.uid, "out of memory", |pod| pod.phase == PodPhase::Failed).await;
    assert!(format!("{:?}", seen.containers[0].state).contains("OOMKilled"), "{seen:#?}");
    bench.until(&nowhere.uid, "backing off", |pod| waits_with(pod, "ImagePullBackOff")).await;
    let restarts = seen.containers[0].restarts;
    bench
        .until(&crashing.uid, "started again", |pod| pod.containers[0].restarts > restarts + 1)
        .await;
    let seen = bench.until(&greedy.uid, "evicted", |pod| pod.phase == PodPhase::Failed).await;
    assert_eq!(seen.reason.as_deref(), Some("Evicted"));
    let message = "Usage of EmptyDir volume \"data\" exceeds the limit \"64Ki\".";
    assert_eq!(seen.message.as_deref(), Some(message));
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_path_that_leads_out_of_its_volume_is_never_mounted() {
    let Some(bench) = Bench::new(14) else { return };
    let init = with(
        shell("init", "ln -s /etc /data/out"),
        "mounts",
        json!([{ "volume": "data", "path": "/data" }]),
    );
    let main = with(
        shell("m", WAIT),
        "mounts",
        json!([{ "volume": "data", "path": "/data", "sub_path": "out" }]),
    );
    let order = pod(
        &bench,
        140,
        json!({
            "init_containers": [init],
            "containers": [main],
            "volumes": [{ "name": "data", "source": {
                "EmptyDir": { "memory": false, "size_limit_bytes": null } } }],
        }),
    );
    bench.master.order(order.clone());
    let seen = bench
        .until(&order.uid, "refused", |pod| pod.reason.as_deref() == Some("FailedMount"))
        .await;
    let message = seen.message.unwrap_or_default();
    assert!(message.contains("subPath out: leads out of its volume"), "{message}");
    assert!(seen.containers[0].container_id.is_none());
    bench.finish().await;
}

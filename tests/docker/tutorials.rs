//! The tutorials' own manifests, byte for byte, on images of the same names.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::engine::{Container, Engine};

const ECHOSERVER: &str = include_str!("../fixtures/tutorials/echoserver.yaml");
const MY_POD: &str = include_str!("../fixtures/tutorials/my-pod.yaml");
const VOLUME: &str = include_str!("../fixtures/tutorials/pv.yaml");
const CLAIM: &str = include_str!("../fixtures/tutorials/pvc.yaml");
const VOLUME_TEST: &str = include_str!("../fixtures/tutorials/volume-test.yaml");

/// As the tutorial's listing has it: a claim of a class that nothing on this cluster provides.
const UNMATCHED: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local-path}
provisioner: kubernetes.io/no-provisioner
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: local-path-pvc}
spec:
  storageClassName: local-path
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 2Gi}}
";

/// What the tutorial's volume is bound to, and the file that its pod writes there.
const WRITTEN: &str = "/tmp/file";

#[test]
fn the_tutorials_deployment_and_pod_run_and_answer() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("echo.yaml", ECHOSERVER), ("pod.yaml", MY_POD)]);
    cluster.until_ready("my-pod");
    cluster.until("three available replicas", || {
        let deployment = cluster.object("deployments", "echoserver-deploy")?;
        (deployment["status"]["availableReplicas"] == 3).then_some(())
    });
    let echoes = cluster.running("echoserver-deploy-");
    assert_eq!(echoes.len(), 3);
    for echo in &echoes {
        assert_eq!(echo.text("/Config/Image"), "gcr.io/google-samples/node-hello:1.0");
        assert!(get(&address(&cluster, echo), 8080).contains("hello from"));
    }
    assert_eq!(cluster.running("my-pod").len(), 1);
    assert_eq!(cluster.kgit(&["check", "manifests"]).code, 0);
    cluster.until_quiet();
}

#[test]
fn a_volumes_data_outlives_its_pods_manifest_and_a_killed_kgit() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let _ = std::fs::remove_file(WRITTEN);
    let files = [("pv.yaml", VOLUME), ("pvc.yaml", CLAIM), ("volume-test.yaml", VOLUME_TEST)];
    let mut cluster = Cluster::up_with(&engine, &files);
    cluster.until_ready("volume-test");
    let first = the_one(&cluster, "volume-test");
    let mounts = first.at("/Mounts").as_array().cloned().unwrap_or_default();
    let data = mounts.iter().find(|mount| mount["Destination"] == "/tmp").expect("a mount at /tmp");
    assert_eq!(data["Source"], "/tmp", "the bound volume's own path");
    let claim = cluster.object("pvc", "pv-claim").expect("the claim");
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(claim["spec"]["volumeName"], "pv-volume");
    let logged = || cluster.kubectl(&["logs", "volume-test"]).out.contains("storage write");
    cluster.until("a line in the pod's log", || logged().then_some(()));

    // The pod writes every five seconds; two lines at least show that what comes later was added.
    cluster.until("a second line", || (lines() >= 2).then_some(()));
    cluster.kill();
    let before = lines();
    cluster.until("it goes on writing while kgit is dead", || (lines() > before).then_some(()));
    cluster.start();
    cluster.until_ready("volume-test");
    assert_eq!(the_one(&cluster, "volume-test").life(), first.life(), "adopted, not made anew");

    std::fs::remove_file(cluster.file("volume-test.yaml")).expect("the manifest is there");
    cluster.until("the pod is being ended", || {
        let pod = cluster.object("pods", "volume-test")?;
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    cluster.kill_containers();
    cluster.until("the pod is gone", || cluster.containers().is_empty().then_some(()));
    let kept = lines();
    assert!(kept >= 2, "the data stays when the pod goes");
    cluster.write("volume-test.yaml", VOLUME_TEST);
    cluster.until("the new pod adds to the old lines", || (lines() > kept).then_some(()));
    assert_ne!(the_one(&cluster, "volume-test").id(), first.id());
    let log = cluster.kubectl(&["logs", "volume-test"]).out;
    assert!(log.lines().count() > kept, "it prints the old lines too: {log}");
    drop(cluster);
    assert!(lines() > kept, "a volume of the host is not kgit's to remove");
    let _ = std::fs::remove_file(WRITTEN);
}

#[test]
fn a_claim_that_no_volume_matches_stays_pending_and_says_why() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("pv.yaml", VOLUME), ("pvc.yaml", UNMATCHED)]);
    let claim = cluster.until("the claim", || cluster.object("pvc", "local-path-pvc"));
    assert_eq!(claim["status"]["phase"], "Pending");
    let waits = cluster.until("a wait", || {
        let status = cluster.status()?;
        let waits = status["waits"].as_array().cloned()?;
        waits.into_iter().find(|wait| wait["object"]["name"] == "local-path-pvc")
    });
    let why = waits["for_what"].as_str().unwrap_or_default();
    assert!(why.contains("local-path"), "{waits}");
    let described = cluster.kubectl(&["describe", "pvc", "local-path-pvc"]);
    assert!(described.out.contains("Pending"), "{described}");
}

fn lines() -> usize {
    std::fs::read_to_string(WRITTEN).map_or(0, |text| text.lines().count())
}

fn the_one(cluster: &Cluster, pod: &str) -> Container {
    let mut running = cluster.running(pod);
    assert_eq!(running.len(), 1, "one container of {pod}");
    running.remove(0)
}

fn address(cluster: &Cluster, container: &Container) -> String {
    let pod = cluster.object("pods", container.label("pod")).expect("the pod");
    pod["status"]["podIP"].as_str().expect("an address").to_owned()
}

fn get(address: &str, port: u16) -> String {
    let mut stream = TcpStream::connect((address, port)).expect("the pod listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout can be set");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the pod reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the pod answers");
    answer
}

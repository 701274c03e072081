//! Several users of one engine: two clusters, and containers that are nobody's of kgit's.

use std::collections::BTreeSet;

use crate::cluster::Cluster;
use crate::engine::{Container, Engine};

const PODS: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: kgit-test/busybox:1
    command: [sh, -c, 'echo begun >>/data/file; cat /data/file; trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

/// A container that kgit has no part in, though its name and labels look alike.
struct Foreign<'a>(&'a Engine, String);

impl Drop for Foreign<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_docker(&["rm", "-f", &self.1]);
    }
}

#[test]
fn clusters_on_one_engine_leave_each_other_and_strangers_alone() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let name = format!("kgit-stranger-{}", std::process::id());
    let labels = ["--label", "dev.kgit.pod=web", "--label", "dev.kgit.cluster=somebody-elses"];
    let run = [
        "run",
        "-d",
        "--name",
        &name,
        labels[0],
        labels[1],
        labels[2],
        labels[3],
        "kgit-test/web:1",
    ];
    let stranger = Foreign(&engine, engine.docker(&run));
    let mut one = Cluster::up_with(&engine, &[("web.yaml", PODS)]);
    let two = Cluster::up_with(&engine, &[("web.yaml", PODS)]);
    assert_ne!(one.id(), two.id());
    one.until_ready("web");
    two.until_ready("web");
    let (first, second) = (lives(&one), lives(&two));
    assert_eq!((first.len(), second.len()), (1, 1));

    // A whole life of one of them beside the other.
    one.kill();
    one.start();
    one.until_quiet();
    assert_eq!(lives(&one), first, "its own containers are adopted");
    one.write("web.yaml", &PODS.replace("echo begun", "echo begun anew"));
    one.until("the pod is another", || {
        let now = lives(&one);
        (now.len() == 1 && now != first).then_some(())
    });
    drop(one);
    assert_eq!(lives(&two), second);
    let inspected = engine.docker(&["inspect", "-f", "{{.State.Running}}", &stranger.1]);
    assert_eq!(inspected, "true");
}

#[test]
fn down_stops_everything_and_keeps_the_data_for_the_next_up() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let mut cluster = Cluster::up_with(&engine, &[("web.yaml", PODS)]);
    cluster.until_ready("web");
    let before = lives(&cluster);
    cluster.stop();
    assert_eq!(lives(&cluster), before, "Ctrl-C leaves containers running");
    cluster.start();
    cluster.until_quiet();
    assert_eq!(lives(&cluster), before);

    let down = cluster.kgit(&["down"]);
    assert_eq!(down.code, 0, "{down}");
    assert!(!cluster.process().lives(), "down ends the process too");
    assert!(cluster.containers().iter().all(|container| !container.runs()));
    assert!(cluster.data().exists());
    let again = cluster.kgit(&["down"]);
    assert_eq!(again.code, 0, "twice is as good as once: {again}");

    cluster.start();
    cluster.until("the pod runs again", || (cluster.running("web").len() == 1).then_some(()));
    let log = cluster.until("its log", || {
        Some(cluster.kubectl(&["logs", "web"]).out).filter(|log| log.lines().count() >= 2)
    });
    assert_eq!(log, "begun\nbegun\n", "on the data of before");
}

#[test]
fn purge_asks_before_it_removes_data() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("web.yaml", PODS)]);
    cluster.until_ready("web");
    let before = lives(&cluster);
    let refused = cluster.kgit(&["down", "--purge"]);
    assert_eq!(refused.code, 2, "without a terminal there is nobody to ask: {refused}");
    assert!(refused.err.contains("--yes"), "{refused}");
    assert_eq!(lives(&cluster), before);
}

fn lives(cluster: &Cluster) -> BTreeSet<(String, String)> {
    cluster.containers().iter().filter(|one| one.runs()).map(Container::life).collect()
}

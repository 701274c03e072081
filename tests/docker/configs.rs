//! A ConfigMap that changes under a running container that does not want to be rolled.

use crate::cluster::Cluster;
use crate::engine::Engine;

const SETTINGS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {one: old, two: old}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: reader
  annotations: {kgit.dev/roll-on-config: \"false\"}
spec:
  selector: {matchLabels: {app: reader}}
  template:
    metadata: {labels: {app: reader}}
    spec:
      containers:
      - name: it
        image: kgit-test/busybox:1
        # Says what it sees whenever that changes. Both files are read in the folder of one moment,
        # and again where that is gone before both were.
        command:
        - sh
        - -c
        - |
          while true; do
            now=$(cd /settings/..data && cat one && echo && cat two) 2>/dev/null || continue
            [ \"$now\" = \"$before\" ] || echo $now $VARIABLE
            before=$now
          done
        env: [{name: VARIABLE, valueFrom: {configMapKeyRef: {name: settings, key: one}}}]
        resources: {limits: {cpu: 200m}}
        volumeMounts: [{name: settings, mountPath: /settings}]
      volumes: [{name: settings, configMap: {name: settings}}]
      terminationGracePeriodSeconds: 0
";

#[test]
fn files_are_swapped_all_at_once_under_a_container_that_goes_on() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("settings.yaml", SETTINGS)]);
    let said = || cluster.kubectl(&["logs", "deployment/reader"]).out;
    cluster.until("it reads its files", || said().contains("old old old").then_some(()));
    let before = cluster.running("reader-").remove(0);
    for round in 0..5 {
        let word = format!("new{round}");
        let data = format!("{{one: {word}, two: {word}}}");
        cluster.write("settings.yaml", &SETTINGS.replace("{one: old, two: old}", &data));
        let line = format!("{word} {word} old");
        cluster.until("it sees the new files", || said().contains(&line).then_some(()));
    }
    let mixed = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        words.len() != 3 || words[0] != words[1] || words[2] != "old"
    };
    let said = said();
    assert_eq!(said.lines().find(mixed), None, "{said}");
    let after = cluster.running("reader-").remove(0);
    assert_eq!((after.id(), after.at("/RestartCount")), (before.id(), before.at("/RestartCount")));
}

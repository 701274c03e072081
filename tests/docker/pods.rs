//! What a pod's manifest asks for, as the engine and the pod's own processes see it.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::engine::{Container, Engine};
use crate::room::Room;

const PROBES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: http}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: kgit-test/web:1
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: tcp}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: kgit-test/web:1
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: exec}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: kgit-test/web:1
    startupProbe: {exec: {command: [test, -e, /tmp/started]}, periodSeconds: 1, failureThreshold: 600}
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, '!', -e, /tmp/ill]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: absent}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: kgit-test/web:1
    readinessProbe: {httpGet: {path: /absent, port: 8080}, periodSeconds: 1}
";

#[test]
fn probes_decide_what_is_ready_and_what_is_started_anew() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("probes.yaml", PROBES)]);
    cluster.until_ready("http");
    cluster.until_ready("tcp");
    let exec = cluster.until("it runs", || cluster.running("exec").pop());
    let container = |pod: &str| {
        cluster.object("pods", pod).map(|pod| pod["status"]["containerStatuses"][0].clone())
    };
    let exec_status = || container("exec").unwrap_or_default();
    touch(&cluster, &exec, "/tmp/ready");
    assert_eq!(exec_status()["started"], false, "readiness waits for startup");
    touch(&cluster, &exec, "/tmp/started");
    cluster.until_ready("exec");
    assert_eq!(exec_status()["restartCount"], 0);
    touch(&cluster, &exec, "/tmp/ill");
    cluster.until("it is started anew", || (exec_status()["restartCount"] == 1).then_some(()));
    let anew = cluster.until("another container", || cluster.running("exec").pop());
    assert_ne!(anew.id(), exec.id());
    assert_eq!(exec_status()["ready"], false, "a new container has everything before it");
    assert_eq!(container("absent").unwrap_or_default()["ready"], false, "404 is no success");
    assert_eq!(
        container("absent").unwrap_or_default()["restartCount"],
        0,
        "readiness restarts nothing"
    );
}

fn touch(cluster: &Cluster, container: &Container, file: &str) {
    cluster.engine.docker(&["exec", container.id(), "touch", file]);
}

const TOGETHER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: 'kgit-test/busybox:1', command: [sh, -c, 'echo first >>/shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: second, image: 'kgit-test/busybox:1', command: [sh, -c, 'echo second >>/shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: web
    image: kgit-test/web:1
    env: [{name: WWW, value: /shared}]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: reader
    image: kgit-test/busybox:1
    command: [sh, -c, 'until wget -qO- http://localhost:8080/order; do sleep 0.2; done; exec sleep 1000']
  volumes: [{name: shared, emptyDir: {}}]
";

#[test]
fn init_containers_come_in_order_and_containers_share_network_and_volumes() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("together.yaml", TOGETHER)]);
    let pod = cluster.until_ready("together");
    assert_eq!(log_of(&cluster, &["together", "-c", "reader"], "second"), "first\nsecond\n");
    for init in crate::face::list(&pod["status"]["initContainerStatuses"]) {
        assert_eq!(init["state"]["terminated"]["reason"], "Completed", "{init}");
    }
    assert_eq!(crate::face::list(&pod["status"]["containerStatuses"]).len(), 2);
}

const ENDINGS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: crashes}
spec:
  containers: [{name: c, image: 'kgit-test/busybox:1', command: [sh, -c, 'echo going down; exit 3']}]
---
apiVersion: v1
kind: Pod
metadata: {name: fails-once}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'kgit-test/busybox:1', command: [sh, -c, 'exit 7']}]
---
apiVersion: v1
kind: Pod
metadata: {name: succeeds}
spec:
  restartPolicy: OnFailure
  containers: [{name: c, image: 'kgit-test/busybox:1', command: ['true']}]
";

#[test]
fn what_ends_is_restarted_with_back_off_or_left_as_its_policy_says() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("endings.yaml", ENDINGS)]);
    let status = |pod: &str| {
        cluster.object("pods", pod).map(|pod| pod["status"].clone()).unwrap_or_default()
    };
    let crashed = cluster.until("a crash loop", || {
        let container = status("crashes")["containerStatuses"][0].clone();
        let waits = container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        (waits && container["restartCount"] == 1).then_some(container)
    });
    assert_eq!(crashed["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(log_of(&cluster, &["crashes"], "down"), "going down\n");
    cluster.until("phases", || {
        let phases =
            (status("fails-once")["phase"] == "Failed", status("succeeds")["phase"] == "Succeeded");
        (phases == (true, true)).then_some(())
    });
    assert_eq!(status("fails-once")["containerStatuses"][0]["state"]["terminated"]["exitCode"], 7);
    assert_eq!(status("fails-once")["containerStatuses"][0]["restartCount"], 0);
}

/// What `SHARED` stands for in a manifest.
const ORDERLY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: orderly}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: c
    image: kgit-test/busybox:1
    command: [sh, -c, 'trap \"echo TERM >>/shared/order; exit 0\" TERM; while :; do sleep 0.1; done']
    lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 0.5; echo preStop >>/shared/order']}}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, hostPath: {path: SHARED}}]
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'kgit-test/busybox:1', command: [sh, -c, 'trap \"\" TERM; while :; do sleep 0.1; done']}]
";

#[test]
fn a_pod_ends_with_its_hook_then_term_then_kill() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let room = Room::new();
    let (shared, manifests) = (room.folder("shared"), room.folder("manifests"));
    let allowed = shared.display().to_string();
    std::fs::write(manifests.join("pods.yaml"), ORDERLY.replace("SHARED", &allowed))
        .expect("a file can be written");
    let cluster = Cluster::up(&engine, room, &manifests, &["--allow-host-path", &allowed]);
    cluster.until_ready("orderly");
    cluster.until_ready("stubborn");
    // Something stays: a source without any object would remove nothing.
    cluster.write("pods.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: left}\n");
    cluster.until("both are gone", || cluster.containers().is_empty().then_some(()));
    let order = std::fs::read_to_string(shared.join("order")).unwrap_or_default();
    assert_eq!(order, "preStop\nTERM\n");
    cluster.until_quiet();
    assert!(cluster.objects("pods").is_empty());
}

const LIMITED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: kgit-test/web:1
    workingDir: /www
    resources:
      requests: {cpu: 100m, memory: 16Mi}
      limits: {cpu: 500m, memory: 32Mi}
    securityContext: {runAsUser: 65534, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}
    command: [sleep, '1000']
";

#[test]
fn limits_security_and_log_rotation_reach_the_engine() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("limited.yaml", LIMITED)]);
    cluster.until_ready("limited");
    let limited = cluster.running("limited").remove(0);
    let host = |field: &str| limited.at(&format!("/HostConfig/{field}"));
    assert_eq!(host("Memory"), 32 << 20);
    let cpus = host("NanoCpus") == 500_000_000
        || host("CpuQuota").as_i64() == host("CpuPeriod").as_i64().map(|p| p / 2);
    assert!(cpus, "half a core: {}", limited.at("/HostConfig"));
    assert_eq!(host("CpuShares"), 102, "a tenth of 1024");
    assert_eq!(host("ReadonlyRootfs"), true);
    assert_eq!(host("CapDrop"), &serde_json::json!(["ALL"]));
    let security = host("SecurityOpt").to_string();
    assert!(security.contains("no-new-privileges"), "{security}");
    assert_eq!(limited.text("/Config/User"), "65534");
    assert_eq!(limited.text("/Config/WorkingDir"), "/www");
    assert!(host("LogConfig/Config/max-size").is_string(), "{}", host("LogConfig"));
    assert!(host("LogConfig/Config/max-file").is_string(), "{}", host("LogConfig"));
    assert_eq!(host("RestartPolicy/Name").as_str().unwrap_or("no"), "no", "restarts are kgit's");
}

const SETTINGS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {MODE: fast, file.conf: 'answer=42'}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {TOKEN: hush, key.pem: private}
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {tier: front}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: kgit-test/busybox:1
    # From the kernel: a shell drops variables that it has no syntax for.
    command:
    - sh
    - -c
    - |
      tr '\\0' '\\n' </proc/1/environ
      echo '$(PLAIN) $$(PLAIN)'
    resources: {limits: {memory: 32Mi}}
    envFrom:
    - {prefix: CM_, configMapRef: {name: settings}}
    env:
    - {name: PLAIN, value: plain}
    - {name: BUILT, value: 'on-$(PLAIN)-$(ABSENT)'}
    - {name: FROM_MAP, valueFrom: {configMapKeyRef: {name: settings, key: MODE}}}
    - {name: FROM_SECRET, valueFrom: {secretKeyRef: {name: keys, key: TOKEN}}}
    - {name: OPTIONAL, valueFrom: {configMapKeyRef: {name: settings, key: absent, optional: true}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}
    - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
---
apiVersion: v1
kind: Pod
metadata: {name: volumes, labels: {tier: front}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: kgit-test/busybox:1
    command:
    - sh
    - -c
    - |
      cat /settings/renamed.conf; echo
      cat /secret/key.pem; echo
      stat -Lc '%a' /secret/key.pem
      stat -Lc '%a' /settings/renamed.conf
      cat /labels/all; echo
      grep -q ' /memory tmpfs ' /proc/mounts && echo in memory
      cat /one.conf; echo
      touch /settings/new 2>/dev/null || echo read-only
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: secret, mountPath: /secret}
    - {name: labels, mountPath: /labels}
    - {name: memory, mountPath: /memory}
    - {name: settings, mountPath: /one.conf, subPath: renamed.conf}
  volumes:
  - {name: settings, configMap: {name: settings, items: [{key: file.conf, path: renamed.conf, mode: 0640}]}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0400}}
  - {name: labels, downwardAPI: {items: [{path: all, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: memory, emptyDir: {medium: Memory}}
";

#[test]
fn settings_reach_a_pod_as_variables_and_as_files() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &[("settings.yaml", SETTINGS)]);
    let env = log_of(&cluster, &["env"], "plain $(PLAIN)");
    let pod = cluster.object("pods", "env").expect("the pod");
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let expected = [
        "CM_MODE=fast",
        "CM_file.conf=answer=42",
        "PLAIN=plain",
        "BUILT=on-plain-$(ABSENT)",
        "FROM_MAP=fast",
        "FROM_SECRET=hush",
        "POD=env",
        "TIER=front",
        "MEMORY=33554432",
        &format!("ADDRESS={}", text("/status/podIP")),
        &format!("NODE={}", text("/spec/nodeName")),
    ];
    for line in expected {
        assert!(env.lines().any(|found| found == line), "{line} is in\n{env}");
    }
    assert!(!env.contains("OPTIONAL="), "{env}");
    let files = log_of(&cluster, &["volumes"], "read-only");
    let wanted = "answer=42\nprivate\n400\n640\ntier=\"front\"\nin memory\nanswer=42\nread-only\n";
    assert_eq!(files, wanted);
    let shown =
        [cluster.kgit(&["audit", "export"]).out, cluster.kgit(&["events"]).out, cluster.log_text()];
    assert!(
        shown.iter().all(|text| !text.contains("hush") && !text.contains("aHVzaA==")),
        "a Secret's value shows nowhere"
    );
}

/// A pod's log, once it holds some text.
fn log_of(cluster: &Cluster, arguments: &[&str], holds: &str) -> String {
    cluster.until(&format!("a log of {arguments:?} with {holds:?}"), || {
        let log = cluster.kubectl(&[&["logs"], arguments].concat());
        log.out.contains(holds).then_some(log.out)
    })
}

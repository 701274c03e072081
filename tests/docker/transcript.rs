//! The tutorials' commands that read, one by one, against the tutorials' manifests. What `kubectl`
//! shows is kept as a page of the docs; with `UPDATE_DOCS=1` it is written anew.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::plain::plain;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/transcript.md");

const MANIFESTS: [(&str, &str); 6] = [
    ("deploy.yaml", include_str!("../fixtures/tutorials/echoserver.yaml")),
    ("example.yaml", include_str!("../fixtures/tutorials/my-pod.yaml")),
    ("pv.yml", include_str!("../fixtures/tutorials/pv.yaml")),
    ("pvc.yml", include_str!("../fixtures/tutorials/pvc.yaml")),
    ("pod.yml", include_str!("../fixtures/tutorials/volume-test.yaml")),
    ("written.yaml", WRITTEN),
];

/// What the tutorials make by commands: `create deployment`, `scale` and `expose` write this.
const WRITTEN: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, labels: {app: nginx}}
spec:
  replicas: 2
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec: {containers: [{name: nginx, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: nginx, labels: {app: nginx}}
spec: {selector: {app: nginx}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: echoserver-deploy}
spec: {type: NodePort, selector: {app: echoserver}, ports: [{port: 80, nodePort: 31080}]}
---
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
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: hunter2}
---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: kgit-test/busybox:1, args: [sh, -c, exit 0]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: yearly}
spec:
  schedule: \"30 4 1 1 *\"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: report, image: kgit-test/busybox:1, args: [sh, -c, exit 0]}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      containers: [{name: store, image: kgit-test/busybox:1, args: [sleep, \"100000\"]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      containers: [{name: it, image: kgit-test/busybox:1, args: [sleep, \"100000\"]}]
---
apiVersion: v1
kind: ReplicationController
metadata: {name: older}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: older}}
    spec:
      containers: [{name: it, image: kgit-test/busybox:1, args: [sleep, \"100000\"]}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: older}
spec:
  scaleTargetRef: {apiVersion: v1, kind: ReplicationController, name: older}
  maxReplicas: 3
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: store}
spec: {minAvailable: 1, selector: {matchLabels: {app: store}}}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: first}
value: 1000
description: What has to run
---
apiVersion: v1
kind: Service
metadata: {name: forgotten}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
";

/// The minor version of `kubectl` since which `describe` words things as the page has them.
const WORDED_SINCE: u32 = 31;

/// Headings, and the commands below them.
const COMMANDS: [(&str, &[&str]); 7] = [
    ("The cluster", &["cluster-info", "get cs", "get nodes"]),
    (
        "Deployments and pods",
        &[
            "get deployments",
            "get pods",
            "get deployments nginx",
            "describe deployment nginx",
            "get replicasets",
            "describe replicasets nginx",
            "describe pod my-pod",
            "rollout status deployment/nginx",
            "rollout history deployment/nginx",
        ],
    ),
    ("Services", &["get services", "get svc nginx", "describe svc nginx"]),
    (
        "Volumes",
        &[
            "get pv",
            "get pvc",
            "describe pvc local-path-pvc",
            "logs volume-test",
            "describe pod volume-test",
        ],
    ),
    (
        "What was told",
        &[
            "events --for deployment/nginx",
            "get events --field-selector involvedObject.name=my-pod",
        ],
    ),
    (
        "Every other kind",
        &[
            "describe job migrate",
            "describe cronjob yearly",
            "describe hpa older",
            "rollout status statefulset store",
            "rollout history daemonset everywhere",
            "describe statefulset store",
            "describe daemonset everywhere",
            "describe rc older",
            "describe controllerrevisions store-",
            "describe pdb store",
            "describe priorityclass first",
            "get configmaps,secrets",
            "describe configmap settings",
            "describe secret password",
            "describe namespace default",
            "describe pv pv-volume",
            "describe storageclass kgit-local",
            "describe svc forgotten",
            "get endpoints kubernetes nginx forgotten",
            "describe endpoints nginx",
            "describe endpointslice kubernetes",
            "describe endpointslice nginx",
            "describe event forgotten",
            "describe node",
            "describe lease -n kube-node-lease",
            "describe cs master",
        ],
    ),
    ("kgit's own", &["describe source", "describe plan current", "describe reconcile FIRST"]),
];

const INTRO: &str = "# What kubectl shows

The commands that introductions to Kubernetes read a cluster with, typed at `kgit up` on the same
introductions' manifests. `tests/docker/transcript.rs` runs them and compares; ages, addresses,
times, hashes and the node's name are made equal, and what depends on where the test runs is left
out: what was told about pulling images, and the node's conditions `DiskPressure` and
`ServicesReady`.
";

#[test]
fn the_tutorials_commands_show_what_the_tutorials_do() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let cluster = Cluster::up_with(&engine, &MANIFESTS);
    for pod in ["my-pod", "volume-test"] {
        cluster.until_ready(pod);
    }
    for (deployment, replicas) in [("nginx", 2), ("echoserver-deploy", 3)] {
        cluster.until("all its pods are available", || {
            let shown = cluster.object("deployments", deployment)?;
            (shown["status"]["availableReplicas"] == replicas).then_some(())
        });
    }
    cluster.until("the job is complete", || {
        let job = cluster.object("jobs", "migrate")?;
        (job["status"]["succeeded"] == 1).then_some(())
    });
    let logged = || cluster.kubectl(&["logs", "volume-test"]).out.contains("storage write");
    cluster.until("a line in the pod's log", || logged().then_some(()));
    reached_by_proxy(&cluster);
    let written = transcript(&cluster);
    if !in_this_wording(&cluster) {
        eprintln!("docs/transcript.md is not compared: this kubectl is too old for its wording");
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &written).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        kept == written,
        "docs/transcript.md is behind: run with UPDATE_DOCS=1\n{}",
        differences(&kept, &written)
    );
    let _ = std::fs::remove_file("/tmp/file");
}

fn transcript(cluster: &Cluster) -> String {
    let node = cluster.status().expect("a status")["nodes"][0]["name"].as_str().unwrap().to_owned();
    let first = cluster.objects("reconciles")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let mut page = INTRO.to_owned();
    for (heading, commands) in COMMANDS {
        page += &format!("\n## {heading}\n");
        for command in commands {
            page += &shown(cluster, &command.replace("FIRST", &first), &node);
        }
    }
    page += "\n## The wide table of every kind\n";
    for kind in kinds(cluster) {
        assert!(kind.is_described(), "no command above describes {}", kind.plural);
        page += &shown(cluster, &kind.wide(), &node);
    }
    page
}

fn shown(cluster: &Cluster, command: &str, node: &str) -> String {
    let ran = cluster.kubectl(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(ran.code, 0, "kubectl {command}: {ran}");
    let mut shown = format!("\n    $ kubectl {command}\n");
    for line in plain(&ran.out, node) {
        shown += format!("    {line}").trim_end();
        shown.push('\n');
    }
    shown
}

/// A resource type, by the words that name it.
struct Kind {
    plural: String,
    short: Vec<String>,
}

/// Every type that can be listed, but for figures, which differ from run to run.
fn kinds(cluster: &Cluster) -> Vec<Kind> {
    let ran = cluster.kubectl(&["api-resources", "--verbs=list", "--no-headers"]);
    let lines = ran.out.lines().filter(|line| !line.contains(" metrics.k8s.io/"));
    let kind = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The column between is empty for types without a short name.
        let short = if words.len() == 5 { words[1] } else { "" };
        Kind { plural: words[0].to_owned(), short: short.split(',').map(str::to_owned).collect() }
    };
    lines.map(kind).collect()
}

impl Kind {
    fn is_described(&self) -> bool {
        let commands = COMMANDS.iter().flat_map(|(_, commands)| *commands);
        let mut words = commands.filter_map(|it| it.strip_prefix("describe ")?.split(' ').next());
        words.any(|word| {
            let plural = self.plural.strip_prefix(word);
            plural.is_some_and(|rest| ["", "s", "es"].contains(&rest))
                || self.short.iter().any(|short| short == word)
        })
    }

    /// Of what was told, only so much as is the same in every run.
    fn wide(&self) -> String {
        match self.plural.as_str() {
            "events" => "get events --field-selector involvedObject.name=my-pod -o wide".to_owned(),
            plural => format!("get {plural} -A -o wide"),
        }
    }
}

/// `describe` is worded by the client, and older ones differ in places; each has to succeed.
fn in_this_wording(cluster: &Cluster) -> bool {
    let ran = cluster.kubectl(&["version", "-o", "json"]);
    let version: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_default();
    let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
    minor.trim_end_matches('+').parse().is_ok_and(|minor: u32| minor >= WORDED_SINCE)
}

fn differences(kept: &str, written: &str) -> String {
    let (kept, written): (Vec<_>, Vec<_>) = (kept.lines().collect(), written.lines().collect());
    let gone = kept.iter().filter(|line| !written.contains(line)).map(|line| format!("- {line}"));
    let new = written.iter().filter(|line| !kept.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}

/// `kubectl proxy`, and behind it the API itself, a pod and a service.
fn reached_by_proxy(cluster: &Cluster) {
    let mut command = cluster.command("kubectl");
    let mut proxy = Proxy(
        command.args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn().expect("it starts"),
    );
    let mut said = String::new();
    let out = proxy.0.stdout.take().expect("its output is piped");
    BufReader::new(out).read_line(&mut said).expect("it says where it listens");
    let address = said.trim().rsplit(' ').next().expect("an address").to_owned();
    assert!(get(&address, "/version").contains("+kgit"));
    let echo = cluster.running("echoserver-deploy-")[0].label("pod").to_owned();
    let pods = "/api/v1/namespaces/default/pods";
    for path in [
        format!("{pods}/{echo}/proxy/"),
        format!("{pods}/http:{echo}:8080/proxy/"),
        "/api/v1/namespaces/default/services/echoserver-deploy/proxy/".to_owned(),
        "/api/v1/namespaces/default/services/http:echoserver-deploy:80/proxy/".to_owned(),
    ] {
        let answer = get(&address, &path);
        assert!(answer.contains("hello from"), "{path}: {answer}");
    }
    let answer = get(&address, &format!("{pods}/{echo}:1/proxy/"));
    assert!(answer.contains("\"kind\":\"Status\""), "nothing listens there: {answer}");
}

/// Ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the proxy reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the proxy answers");
    answer
}

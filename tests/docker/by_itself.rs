//! What changes without a commit: an autoscaler goes by what the engine measures, a CronJob by the clock, an Indexed
//! Job from one index to the next. One cluster for all of them: a CronJob's three slots are three minutes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::face::list;
use crate::wait;

/// Figures come every 15 s, and it takes two of them to know what was used in between.
const SCALED: Duration = Duration::from_secs(150);
/// Three slots, the wait for the first of them, and a pod's life.
const SLOTS: Duration = Duration::from_secs(240);

/// Burns what it may while there is a file `on`: little, since other tests run beside this one.
const BUSY: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: busy
        image: kgit-test/busybox:1
        command: [sh, -c, 'while :; do test -e /switch/on && seq 5000 >/dev/null || sleep 0.2; done']
        resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 100m}}
        volumeMounts: [{name: switch, mountPath: /switch}]
      volumes: [{name: switch, hostPath: {path: SWITCH}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
";

/// More indexes than may run at once, and one that has to be tried again.
const SHARDS: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: shards}
spec:
  completions: 4
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: OnFailure
      containers:
      - name: shard
        image: kgit-test/busybox:1
        command:
        - sh
        - -c
        - >
          echo shard $JOB_COMPLETION_INDEX on $(hostname);
          test $JOB_COMPLETION_INDEX != 2 || test -e /kept/tried || { touch /kept/tried; exit 1; }
        volumeMounts: [{name: kept, mountPath: /kept}]
      volumes: [{name: kept, emptyDir: {}}]
";

const MINUTES: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: minutes}
spec:
  schedule: '* * * * *'
  successfulJobsHistoryLimit: 2
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: minute, image: 'kgit-test/busybox:1', command: [sh, -c, 'echo another minute']}]
";

#[test]
fn an_autoscaler_a_cron_job_and_an_indexed_job_go_on_by_themselves() {
    let Some(engine) = Engine::of_this_machine() else { return };
    // Where pods may mount something of the host's.
    let switch =
        TempDir::with_prefix_in("kgit-test-switch-", "/tmp").expect("a folder can be made");
    let busy = BUSY.replace("SWITCH", &switch.path().to_string_lossy());
    let files = [("busy.yaml", &*busy), ("shards.yaml", SHARDS), ("minutes.yaml", MINUTES)];
    let cluster = Cluster::up_with(&engine, &files);
    let commit = cluster.until("the manifests are in force", || {
        let status = cluster.status()?;
        (!status["accepted"].is_null()).then(|| status["source"]["commit"].clone())
    });
    every_index_is_done_once(&cluster);
    an_autoscaler_follows_the_load(&cluster, switch.path());
    three_slots_are_kept(&cluster);
    let status = cluster.status().expect("a status");
    assert_eq!(status["source"]["commit"], commit, "nobody committed anything");
    assert_eq!(cluster.kgit(&["diff"]).code, 0, "what came of itself is no difference");
    assert_eq!(cluster.kgit(&["audit", "verify"]).code, 0);
}

// --- the Indexed Job ---------------------------------------------------------------------------------------------

fn every_index_is_done_once(cluster: &Cluster) {
    let done = ["wait", "--for=condition=complete", "job/shards", "--timeout=60s"];
    let waited = cluster.kubectl(&done);
    assert_eq!(waited.code, 0, "{waited}\n{}", cluster.account());
    let job = cluster.object("jobs", "shards").expect("the job is there");
    assert_eq!(job["status"]["completedIndexes"], "0-3", "{job:#}");
    assert_eq!(job["status"]["succeeded"], 4);
    let listed = cluster.kubectl(&["get", "job", "shards"]);
    assert!(listed.out.contains("Complete   4/4"), "{listed}");
    let described = cluster.kubectl(&["describe", "job", "shards"]);
    for line in ["Completion Mode:    Indexed", "Completed Indexes:  0-3"] {
        assert!(described.out.contains(line), "{line}: {described}");
    }
    let pods = cluster.kubectl(&["get", "pods", "-l", "job-name=shards", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods.out).expect("kubectl prints JSON");
    let says: BTreeMap<String, String> =
        list(&pods["items"]).iter().map(|pod| says(cluster, pod)).collect();
    let expected = (0..4).map(|index| {
        let line = format!("shard {index} on shards-{index}\n");
        (index.to_string(), line)
    });
    assert_eq!(says, expected.collect(), "each index has a pod, a hostname and a variable");
}

/// The index in a pod's labels, and the last that the pod itself said.
fn says(cluster: &Cluster, pod: &Value) -> (String, String) {
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let index = &pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"];
    let index = index.as_str().expect("an index").to_owned();
    assert!(name.starts_with(&format!("shards-{index}-")), "{name} of index {index}");
    let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
    assert_eq!(*restarts == 1, index == "2", "{name} was restarted {restarts} times");
    (index, cluster.kubectl(&["logs", name]).out)
}

// --- the autoscaler ----------------------------------------------------------------------------------------------

fn an_autoscaler_follows_the_load(cluster: &Cluster, switch: &Path) {
    assert_eq!(running(cluster), 1, "without load there is one pod");
    let on = switch.join("on");
    std::fs::write(&on, "").expect("the file can be written");
    within(cluster, SCALED, "three pods under load", || (running(cluster) == 3).then_some(()));
    what_was_measured_is_shown(cluster);
    std::fs::remove_file(&on).expect("the file is there");
    within(cluster, SCALED, "one pod without load", || (running(cluster) == 1).then_some(()));
    let described = cluster.kubectl(&["describe", "hpa", "busy"]);
    for line in ["New size: 3; reason: cpu is at", "New size: 1; reason: cpu is at"] {
        assert!(described.out.contains(line), "{line}: {described}");
    }
    let why = cluster.kgit(&["why", "hpa/busy"]);
    assert!(why.code == 0 && why.out.contains("3"), "{why}");
}

fn running(cluster: &Cluster) -> usize {
    cluster.running("busy-").len()
}

/// In all three pods, by the engine itself, by `kubectl` and by `kgit`.
fn what_was_measured_is_shown(cluster: &Cluster) {
    for container in cluster.running("busy-") {
        let arguments = ["stats", "--no-stream", "--format", "{{.CPUPerc}}", container.id()];
        let percent = cluster.engine.docker(&arguments);
        let percent: f64 = percent.trim_end_matches('%').parse().expect("a number");
        assert!(percent > 2.0, "{} uses {percent} % of a core", container.name());
    }
    let top = within(cluster, SCALED, "figures of all three pods", || {
        let top = cluster.kubectl(&["top", "pods", "-l", "app=busy", "--no-headers"]);
        let cores: Vec<u32> = top.out.lines().filter_map(millicores).collect();
        (cores.len() == 3 && cores.iter().all(|cores| *cores >= 25)).then_some(top)
    });
    assert!(top.out.lines().all(|line| line.trim_end().ends_with("Mi")), "memory too: {top}");
    for ran in [cluster.kgit(&["top", "pods"]), cluster.kgit(&["top", "nodes"])] {
        assert!(ran.code == 0 && ran.out.lines().count() >= 2, "{ran}");
    }
    let nodes = cluster.kubectl(&["top", "nodes", "--no-headers"]);
    let cores: Vec<u32> = nodes.out.lines().filter_map(millicores).collect();
    assert!(cores.len() == 1 && cores[0] >= 75, "{nodes}");
    let hpa = cluster.kubectl(&["get", "hpa", "busy", "--no-headers"]);
    let words: Vec<&str> = hpa.out.split_whitespace().collect();
    assert_eq!((words[1], words[2]), ("Deployment/busy", "cpu:"), "{hpa}");
    let percent = words[3].strip_suffix("%/50%").and_then(|text| text.parse::<u32>().ok());
    assert!(percent.is_some_and(|percent| percent > 50), "{hpa}");
    assert_eq!(words[4..7], ["1", "3", "3"], "{hpa}");
    let described = cluster.kubectl(&["describe", "hpa", "busy"]);
    for line in ["ScalingActive   True    ValidMetricFound", "TooManyReplicas", "% ("] {
        assert!(described.out.contains(line), "{line}: {described}");
    }
}

/// What `kubectl top` says in its second column.
fn millicores(line: &str) -> Option<u32> {
    line.split_whitespace().nth(1)?.strip_suffix('m')?.parse().ok()
}

// --- the CronJob -------------------------------------------------------------------------------------------------

fn three_slots_are_kept(cluster: &Cluster) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    within(cluster, SLOTS, "three slots", || {
        let jobs = cluster.objects("jobs");
        let of_cron = |job: &&Value| job["metadata"]["ownerReferences"][0]["name"] == "minutes";
        for job in jobs.iter().filter(of_cron).filter(|job| job["status"]["succeeded"] == 1) {
            let name = job["metadata"]["name"].as_str().expect("a name").to_owned();
            let minute = name.rsplit('-').next().and_then(|minute| minute.parse().ok());
            seen.insert(name, minute.expect("a job is named after its minute"));
        }
        (seen.len() >= 3).then_some(())
    });
    let minutes: Vec<u64> = seen.values().copied().collect();
    assert!(minutes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no slot is left out: {seen:?}");
    let kept = within(cluster, SLOTS, "two finished jobs are kept", || {
        let jobs = cluster.kubectl(&["get", "jobs", "-o", "name"]);
        let kept: Vec<String> =
            jobs.out.lines().filter(|name| name.contains("minutes")).map(str::to_owned).collect();
        (kept.len() == 2).then_some(kept)
    });
    let log = cluster.kubectl(&["logs", kept.last().expect("two of them")]);
    assert_eq!(log.out, "another minute\n", "{log}");
    let cron = cluster.object("cronjobs", "minutes").expect("it is there");
    let last = cron["status"]["lastScheduleTime"].as_str().expect("it ran");
    assert!(last.ends_with(":00Z"), "slots are whole minutes: {last}");
    assert!(cron["status"]["lastSuccessfulTime"].is_string(), "{cron:#}");
    let listed = cluster.kubectl(&["get", "cronjobs"]);
    assert!(listed.out.contains("* * * * *"), "{listed}");
}

fn within<T>(
    cluster: &Cluster,
    patience: Duration,
    what: &str,
    condition: impl FnMut() -> Option<T>,
) -> T {
    let found = wait::until_within(patience, condition);
    found.unwrap_or_else(|| {
        let scaling = cluster.kubectl(&["describe", "hpa,cronjobs"]);
        let top = cluster.kubectl(&["top", "pods"]);
        panic!("never came: {what}\n{scaling}{top}{}", cluster.account())
    })
}

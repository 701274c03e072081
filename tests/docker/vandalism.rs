//! What others do to kgit's things behind its back, with Docker's own command: each is put back, nothing else is
//! touched, and the audit says what was seen.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::lives::Lives;
use crate::own_engine::OwnEngine;
use crate::wait;

/// What is promised beyond pulls and back-off. Here it takes below 3 s.
const REPAIRED: Duration = Duration::from_secs(15);
const MANIFESTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: 'kgit-test/web:1'}]
---
apiVersion: v1
kind: Pod
metadata: {name: several}
spec:
  terminationGracePeriodSeconds: 1
  initContainers: [{name: first, image: 'kgit-test/busybox:1', command: ['true']}]
  containers:
    - {name: a, image: 'kgit-test/web:1', command: [serve, '8080']}
    - {name: b, image: 'kgit-test/web:1', command: [serve, '8081']}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: bare
      image: kgit-test/web:1
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: once, image: 'kgit-test/busybox:1', command: ['true']}]
";

/// A cluster to be damaged.
struct Victim {
    cluster: Cluster,
}

/// What must come of an act of vandalism.
struct Expected<'a> {
    /// Where a new life begins; everywhere else the old one goes on.
    renewed: &'a [&'a str],
    /// The kind of drift in the audit, and the pod that it is told of.
    drift: Option<(&'a str, &'a str)>,
}

impl Victim {
    fn new(engine: &Engine) -> Self {
        let cluster = Cluster::up_with(engine, &[("all.yaml", MANIFESTS)]);
        cluster.until("six pods, the job finished", || {
            let job = cluster.object("jobs", "once")?;
            let running = Lives::of(&cluster.containers()).0.len();
            (running == 7 && job["status"]["succeeded"] == 1).then_some(())
        });
        cluster.until_quiet();
        Self { cluster }
    }

    fn lives(&self) -> Lives {
        Lives::of(&self.cluster.containers())
    }

    fn web(&self) -> String {
        self.lives().with("web-").0.keys().next().expect("a web pod").clone()
    }

    /// Does it, and sees what comes of it.
    fn suffers(&self, what: &str, expected: &Expected<'_>, act: impl FnOnce(&Lives)) {
        let before = self.lives();
        let told = self.entries();
        act(&before);
        let start = Instant::now();
        let repaired = wait::until_within(REPAIRED, || {
            let now = Lives::of(&self.containers_now());
            let renewed = now.changed_since(&before);
            let done = expected.renewed.iter().all(|place| renewed.iter().any(|it| it == place));
            (done && now.fills(&before)).then_some(())
        });
        let account = || format!("{:#?}\n{}", self.lives(), self.cluster.account());
        assert!(repaired.is_some(), "{what}: not repaired within {REPAIRED:?}\n{}", account());
        eprintln!("{what}: repaired within {:.1} s", start.elapsed().as_secs_f32());
        if let Some((kind, pod)) = expected.drift {
            self.cluster.until(&format!("{what}: the audit tells of {kind} of {pod}"), || {
                self.drifts_since(told)
                    .iter()
                    .any(|drift| drift.0 == kind && drift.1 == pod)
                    .then_some(())
            });
        }
        self.cluster.until_quiet();
        let mut renewed = self.lives().changed_since(&before);
        renewed.sort();
        let mut wanted: Vec<String> =
            expected.renewed.iter().map(|&place| place.to_owned()).collect();
        wanted.sort();
        assert_eq!(renewed, wanted, "{what}: what began anew");
    }

    /// All containers, none while the engine is away.
    fn containers_now(&self) -> Vec<crate::engine::Container> {
        let answers = self.cluster.engine.try_docker(&["version"]).code == 0;
        if answers { self.cluster.containers() } else { Vec::new() }
    }

    fn entries(&self) -> usize {
        self.cluster.kgit(&["audit", "export"]).out.lines().count()
    }

    /// (kind, pod) of each drift in entries after the first so many.
    fn drifts_since(&self, entries: usize) -> Vec<(String, String)> {
        let exported = self.cluster.kgit(&["audit", "export"]).out;
        let entries = exported
            .lines()
            .skip(entries)
            .map(|line| serde_json::from_str::<Value>(line).expect("an entry is JSON"));
        let steps = entries
            .flat_map(|entry| entry["body"]["steps"].as_array().cloned().unwrap_or_default());
        let reasons =
            steps.flat_map(|step| step["reasons"].as_array().cloned().unwrap_or_default());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        reasons
            .filter(|reason| reason["because"] == "drift")
            .map(|reason| (text(&reason["kind"]), text(&reason["pod"]["name"])))
            .collect()
    }

    fn network(&self) -> String {
        let label = format!("label=dev.kgit.cluster={}", self.cluster.id());
        self.cluster.engine.docker(&["network", "ls", "-q", "--filter", &label])
    }

    /// The finished job has not been run again, and the log is whole.
    fn ends_well(&self) {
        let job = self.cluster.object("jobs", "once").expect("the job is there");
        assert_eq!(
            (&job["status"]["succeeded"], &job["status"]["failed"]),
            (&1.into(), &Value::Null)
        );
        let ran = self.cluster.containers();
        let again = ran.iter().filter(|container| container.label("pod").starts_with("once"));
        assert_eq!(again.filter(|container| container.label("attempt") != "0").count(), 0);
        let verified = self.cluster.kgit(&["audit", "verify"]);
        assert_eq!(verified.code, 0, "{verified}");
        let diff = self.cluster.kgit(&["diff"]);
        assert_eq!(diff.code, 0, "{diff}");
    }
}

#[test]
fn containers_that_somebody_removes_stops_kills_or_pauses_are_put_back() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let victim = Victim::new(&engine);
    let web = victim.web();
    let web_pod = web.split('/').next().expect("a pod's name");
    let pod = ["several/", "several/a", "several/b"];
    // Whoever takes the namespaces away takes the pod with them.
    let targets: [(&str, &str, &[&str]); 4] = [
        (&web, web_pod, &[&web]),
        ("bare/bare", "bare", &["bare/bare"]),
        ("several/a", "several", &["several/a"]),
        ("several/", "several", &pod),
    ];
    let acts: [(&[&str], bool); 4] = [
        (&["rm", "-f"], true),
        (&["stop", "-t", "1"], true),
        (&["kill"], true),
        (&["pause"], false),
    ];
    for (act, renews) in acts {
        for (target, pod, renewed) in targets {
            let renewed = if renews { renewed } else { &[] };
            // `rm -f` kills first, and either may be what is seen.
            let drift = match act[0] {
                "rm" => None,
                "pause" => Some(("Paused", pod)),
                _ => Some(("Stopped", pod)),
            };
            victim.suffers(
                &format!("{} {target}", act.join(" ")),
                &Expected { renewed, drift },
                |lives| {
                    engine.docker(&[act, &[lives.id(target)]].concat());
                },
            );
        }
    }
    let removed = victim.drifts_since(0);
    assert!(removed.iter().filter(|drift| drift.1 == "several").count() >= 6, "{removed:?}");
    victim.ends_well();
}

#[test]
fn what_has_ended_well_is_not_run_again_when_its_container_is_removed() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let victim = Victim::new(&engine);
    for pod in ["once", "several"] {
        let ended = victim.cluster.containers();
        let ended = ended
            .iter()
            .find(|container| !container.runs() && container.label("pod").starts_with(pod))
            .expect("a container that ended");
        victim.suffers(
            &format!("rm of what {pod} ended"),
            &Expected { renewed: &[], drift: None },
            |_| {
                engine.docker(&["rm", ended.id()]);
            },
        );
    }
    // Something that is repaired shows that the agent has looked since.
    victim.suffers("rm -f", &Expected { renewed: &["bare/bare"], drift: None }, |lives| {
        engine.docker(&["rm", "-f", lives.id("bare/bare")]);
    });
    let left = victim.cluster.containers();
    assert!(!left.iter().any(|container| container.label("pod").starts_with("once")), "{left:?}");
    victim.ends_well();
}

#[test]
fn pods_keep_their_lives_when_their_network_is_cut_or_removed() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let victim = Victim::new(&engine);
    let network = victim.network();
    let web = victim.web();
    let web_pod = web.split('/').next().expect("a pod's name");
    for (target, pod) in [(web.as_str(), web_pod), ("several/", "several")] {
        let expected = Expected { renewed: &[], drift: Some(("NetworkLost", pod)) };
        victim.suffers(&format!("disconnect {target}"), &expected, |lives| {
            engine.docker(&["network", "disconnect", "-f", &network, lives.id(target)]);
        });
    }
    let expected = Expected { renewed: &[], drift: Some(("NetworkLost", "bare")) };
    let agent = std::fs::read_to_string(victim.cluster.data().join("up.pid")).expect("a pid");
    victim.suffers("network rm", &expected, |lives| {
        remove_network(&engine, &network, lives, agent.trim());
    });
    assert_ne!(victim.network(), network, "another network under the same name");
    victim.ends_well();
}

/// The agent reconnects what it finds disconnected, so it is held still meanwhile.
fn remove_network(engine: &Engine, network: &str, lives: &Lives, agent: &str) {
    let ids: Vec<&str> = lives
        .0
        .values()
        .filter(|life| !life.address.is_empty())
        .map(|life| life.id.as_str())
        .collect();
    let script = format!(
        "kill -STOP {agent}; for id in {}; do docker network disconnect -f {network} $id; done; \
         docker network rm {network}; ended=$?; kill -CONT {agent}; exit $ended",
        ids.join(" ")
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("DOCKER_HOST", &engine.socket);
    assert_eq!(crate::ran::Ran::of(&mut shell).code, 0, "the network is removed");
}

#[test]
fn an_image_that_lost_its_name_is_named_again_after_the_container_that_runs_it() {
    let Some(engine) = Engine::of_this_machine() else { return };
    // A name of the test's own: others use the images of this machine.
    let image = format!("kgit-test/lost:{}", std::process::id());
    engine.docker(&["tag", "kgit-test/web:1", &image]);
    let cluster = Cluster::up_with(
        &engine,
        &[("pod.yaml", &LOST.replace("IMAGE", &image)), ("all.yaml", MANIFESTS)],
    );
    cluster.until_ready("lost");
    cluster.until_quiet();
    let before = Lives::of(&cluster.containers());
    engine.docker(&["rmi", "-f", &image]);
    cluster.until("the image to have its name again", || {
        let mut inspect = std::process::Command::new("docker");
        inspect.args(["image", "inspect", &image]).env("DOCKER_HOST", &engine.socket);
        (crate::ran::Ran::of(&mut inspect).code == 0).then_some(())
    });
    let renewed = Lives::of(&cluster.containers()).changed_since(&before);
    assert!(renewed.is_empty(), "nothing was started anew: {renewed:?}");
    drop(cluster);
    engine.docker(&["rmi", "-f", &image]);
}

const LOST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: lost}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: lost, image: 'IMAGE', imagePullPolicy: IfNotPresent}]
";

#[test]
fn a_volume_that_is_gone_is_reported_and_its_pod_runs_again() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let mut victim = Victim::new(&engine);
    let label = format!("label=dev.kgit.cluster={}", victim.cluster.id());
    let volume = engine.docker(&["volume", "ls", "-q", "--filter", &label]);
    let before = victim.lives();
    // While kgit looks on, Docker refuses: the container that holds the volume is back too soon.
    victim.cluster.kill();
    engine.docker(&["rm", "-f", before.id("bare/bare")]);
    engine.docker(&["volume", "rm", &volume]);
    victim.cluster.start();
    let cluster = &victim.cluster;
    cluster.until("a pod with another volume", || victim.lives().fills(&before).then_some(()));
    cluster.until("an event that tells of the lost data", || {
        let events = cluster.kgit(&["events", "-A"]).out;
        events.lines().any(|line| line.contains("VolumeLost")).then_some(())
    });
    cluster.until_quiet();
    assert_eq!(victim.lives().changed_since(&before), ["bare/bare"]);
    victim.ends_well();
}

// --- the engine itself -------------------------------------------------------------------------------------------

#[test]
fn an_engine_that_restarts_gets_its_pods_back_and_finished_jobs_stay_finished() {
    let Some(own) = OwnEngine::new("vandal", &["kgit-test/web:1", "kgit-test/busybox:1"]) else {
        return;
    };
    let victim = Victim::new(&own.engine);
    let all = victim.lives();
    let everything: Vec<&str> = all.0.keys().map(String::as_str).collect();
    let expected = Expected { renewed: &everything, drift: Some(("Stopped", "several")) };
    for (what, signal) in
        [("dockerd ended", "TERM"), ("dockerd killed", "KILL"), ("dockerd killed again", "KILL")]
    {
        victim.suffers(what, &expected, |_| {
            own.end(&own.dockerd(), signal);
            own.start();
        });
    }
    // dockerd starts another one, and the containers never notice.
    victim.suffers("containerd killed", &Expected { renewed: &[], drift: None }, |_| {
        own.end(&own.containerd(), "KILL");
    });
    victim.suffers(
        "rm -f after that",
        &Expected { renewed: &["bare/bare"], drift: None },
        |lives| {
            // containerd may still be starting.
            let removed = wait::until_within(REPAIRED, || {
                (own.engine.try_docker(&["rm", "-f", lives.id("bare/bare")]).code == 0)
                    .then_some(())
            });
            assert!(removed.is_some(), "the engine does not come back");
        },
    );
    victim.ends_well();
}

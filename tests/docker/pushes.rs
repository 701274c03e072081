//! `git push` to a bare repository that kgit follows. Before each push its forecast is asked for, and afterwards the
//! record of the reconcile is held against it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::face::list;
use crate::repo::Repo;
use crate::room::Room;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: kgit-test/web:1
        envFrom: [{configMapRef: {name: web-env}}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
";

const ENV: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: web-env}
data: {GREETING: hello}
";

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: greet}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: greet, image: 'kgit-test/busybox:1', command: [echo, good morning]}
";

#[test]
fn every_push_does_what_its_forecast_said_and_leaves_nothing_to_do() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let (cluster, repo) = followed(&engine);

    repo.write("web.yaml", WEB).write("env.yaml", ENV).write("job.yaml", JOB);
    pushed(&cluster, &repo, "create");
    let first = replica_set(&cluster);
    assert_eq!(images(&cluster), ["kgit-test/web:1"; 2]);

    repo.edit("web.yaml", "kgit-test/web:1", "kgit-test/web:2");
    pushed(&cluster, &repo, "a new image");
    assert_eq!(images(&cluster), ["kgit-test/web:2"; 2]);
    let second = replica_set(&cluster);
    assert_ne!(second, first);

    repo.edit("web.yaml", "replicas: 2", "replicas: 4");
    let kept = lives(&cluster);
    pushed(&cluster, &repo, "more of them");
    assert_eq!(images(&cluster), ["kgit-test/web:2"; 4]);
    assert!(kept.is_subset(&lives(&cluster)), "scaling touches no container that runs");
    assert_eq!(replica_set(&cluster), second);

    repo.git(&["revert", "--no-edit", "-n", "HEAD~1"]);
    pushed(&cluster, &repo, "revert the image");
    assert_eq!(images(&cluster), ["kgit-test/web:1"; 4]);
    assert_eq!(replica_set(&cluster), first, "the earlier revision comes back");

    repo.edit("env.yaml", "hello", "good day");
    pushed(&cluster, &repo, "another greeting");
    let greeting = "GREETING=good day";
    for web in cluster.running("web-") {
        let env = web.at("/Config/Env").as_array().cloned().unwrap_or_default();
        assert!(env.iter().any(|line| line == greeting), "{env:?}");
    }

    repo.remove("web.yaml");
    pushed(&cluster, &repo, "no web any more");
    assert_eq!(images(&cluster), [""; 0]);
    assert!(cluster.object("deployments", "web").is_none());
    assert!(cluster.object("jobs", "greet").is_some(), "what the commit does not name stays");
}

#[test]
fn a_commit_that_arrives_while_another_is_rolled_out_supersedes_it() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let (cluster, repo) = followed(&engine);
    repo.write("web.yaml", WEB).write("env.yaml", ENV);
    pushed(&cluster, &repo, "create");

    // It is never ready, so its rollout can't end.
    repo.edit("web.yaml", "path: /healthz", "path: /nowhere");
    let stuck = repo.commit("a probe that fails");
    repo.push();
    cluster.until("the rollout is under way", || {
        let running = cluster.running("web-").len();
        (running > 2 && reconcile_of(&cluster, &stuck).is_some()).then_some(())
    });
    assert!(ready(&cluster) >= 2, "the old ones serve while the new ones are not ready");
    repo.edit("web.yaml", "path: /nowhere", "path: /healthz").edit("web.yaml", "web:1", "web:2");
    let after = repo.commit("a fix");
    repo.push();
    cluster.until_done(&after);
    assert_eq!(images(&cluster), ["kgit-test/web:2"; 2]);
    let stuck = entries(&cluster, reconcile_of(&cluster, &stuck).expect("it was begun"));
    let finished = body(&stuck, "finished");
    assert_eq!(finished["superseded"], true, "{finished}");
    assert_nothing_to_do(&cluster);
}

fn followed(engine: &Engine) -> (Cluster, Repo) {
    let room = Room::new();
    let repo = Repo::new(room.path());
    repo.write("README.md", "# Our cluster\n").commit("begin");
    repo.push();
    let bare = repo.bare.clone();
    (Cluster::up(engine, room, &bare, &["--branch", "main"]), repo)
}

/// Commits, asks what the commit would do, pushes, waits, and compares.
fn pushed(cluster: &Cluster, repo: &Repo, message: &str) {
    let commit = repo.commit(message);
    repo.git(&["push", "-q", "-f", "origin", "HEAD:refs/heads/next"]);
    let diff = cluster.kgit(&["diff", "next", "-o", "json"]);
    assert_eq!(diff.code, 1, "{message}: a diff that finds changes says so: {diff}");
    let forecast: Value = serde_json::from_str(&diff.out).expect("kgit diff -o json prints JSON");
    let forecast: BTreeSet<_> = list(&forecast["steps"]).iter().map(said).collect();

    repo.push();
    cluster.until_done(&commit);
    let reconcile =
        reconcile_of(cluster, &commit).unwrap_or_else(|| panic!("{message}: it is on record"));
    let entries = entries(cluster, reconcile);
    let taken: Vec<Value> = entries
        .iter()
        .filter(|entry| entry["body"]["entry"] == "planned")
        .flat_map(|entry| list(&entry["body"]["steps"]).to_vec())
        .collect();
    for step in &taken {
        let known = forecast.contains(&said(step));
        assert_eq!(
            known,
            step["deviation"].is_null(),
            "{message}: marked if not forecast: {step}\n{forecast:#?}"
        );
        assert!(!list(&step["reasons"]).is_empty(), "{message}: no step without a reason: {step}");
    }
    let taken: BTreeSet<_> = taken.iter().map(said).collect();
    assert_eq!(
        taken, forecast,
        "{message}: nobody interfered, so the steps are those of the forecast"
    );
    assert_eq!(body(&entries, "finished")["missing"], serde_json::json!([]), "{message}");
    assert_nothing_to_do(cluster);
}

/// What is compared of a step. A scaling goes in stages, whose number depends on the order of becoming ready.
fn said(step: &Value) -> String {
    let (verb, object) = (&step["verb"], &step["object"]);
    let detail = if verb == "scale" { &Value::Null } else { &step["detail"] };
    format!(
        "{verb} {} {}/{} {} {detail}",
        object["kind"], object["namespace"], object["name"], step["node"]
    )
}

fn assert_nothing_to_do(cluster: &Cluster) {
    let diff = cluster.kgit(&["diff"]);
    assert_eq!(diff.code, 0, "{diff}");
    let status = cluster.status().expect("the master answers");
    assert!(list(&status["waits"]).is_empty(), "{}", status["waits"]);
}

fn reconcile_of(cluster: &Cluster, commit: &str) -> Option<u64> {
    let answer = cluster.api("/kgit/v1/audit/reconciles")?;
    let found = list(&answer["reconciles"])
        .iter()
        .find(|line| line["trigger"]["commit"]["id"] == commit)?;
    found["reconcile"].as_u64()
}

fn entries(cluster: &Cluster, reconcile: u64) -> Vec<Value> {
    let answer =
        cluster.api(&format!("/kgit/v1/audit/reconciles/{reconcile}")).expect("the reconcile");
    list(&answer["entries"]).to_vec()
}

/// The only entry of a kind.
fn body(entries: &[Value], kind: &str) -> Value {
    let found = entries.iter().find(|entry| entry["body"]["entry"] == kind);
    found.unwrap_or_else(|| panic!("an entry of kind {kind}: {entries:#?}"))["body"].clone()
}

fn images(cluster: &Cluster) -> Vec<String> {
    let running = cluster.running("web-");
    running.iter().map(|web| web.text("/Config/Image").to_owned()).collect()
}

fn lives(cluster: &Cluster) -> BTreeSet<(String, String)> {
    cluster.running("web-").iter().map(crate::engine::Container::life).collect()
}

fn ready(cluster: &Cluster) -> usize {
    let pods = cluster.objects("pods");
    pods.iter().filter(|pod| crate::face::is_ready(pod)).count()
}

/// The name and uid of the revision that has pods.
fn replica_set(cluster: &Cluster) -> (String, String) {
    let sets = cluster.objects("replicasets");
    let mut used = sets.iter().filter(|set| set["spec"]["replicas"] != 0);
    let set = used.next().expect("a revision with pods");
    assert!(used.next().is_none(), "one revision with pods");
    let text = |field: &str| set["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("name"), text("uid"))
}

//! Commits that should not have been: whatever arrives, no container is touched that nobody meant,
//! no data is lost, and it is said why.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cluster::Cluster;
use crate::engine::{Container, Engine};
use crate::repo::Repo;
use crate::room::Room;

const STORE: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: store}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: store
    image: kgit-test/busybox:1
    command: [sh, -c, 'echo kept >/data/file; sleep 1000']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

/// What comes to a repo by mistake, from the collection that `kgit check` is tested with.
const BROKEN: &[&str] =
    &["03-tab", "04-duplicate-key", "06-invalid-utf-8", "09-alias-bomb", "17-defined-twice"];

fn web(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  \
         - {{name: web, image: 'kgit-test/web:1'}}\n"
    )
}

#[test]
fn no_mistake_in_a_push_touches_what_nobody_meant() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let room = Room::new();
    let repo = Repo::new(room.path());
    repo.write("store.yaml", STORE);
    for number in 1..=6 {
        repo.write(&format!("web-{number}.yaml"), web(&format!("web-{number}")));
    }
    let good = repo.commit("begin");
    repo.push();
    let bare = repo.bare.clone();
    let cluster = Cluster::up(&engine, room, &bare, &["--branch", "main"]);
    cluster.until_done(&good);
    let before = lives(&cluster);
    assert_eq!(before.len(), 7);

    an_emptied_branch_removes_nothing(&cluster, &repo);
    assert_eq!(lives(&cluster), before);
    files_that_move_are_not_deleted(&cluster, &repo);
    assert_eq!(lives(&cluster), before);
    a_rewritten_branch_is_followed_for_what_it_says(&cluster, &repo);
    assert_eq!(lives(&cluster), before);
    an_object_in_a_file_that_does_not_parse_stays(&cluster, &repo);
    assert_eq!(lives(&cluster), before);
    broken_files_stop_nothing_else(&cluster, &repo);
    assert!(lives(&cluster).is_superset(&before));
    deletions_beyond_the_budget_wait_for_approval(&cluster, &repo, &before);
    data_stays_when_its_manifest_goes(&cluster, &repo);
}

fn an_emptied_branch_removes_nothing(cluster: &Cluster, repo: &Repo) {
    repo.git(&["rm", "-q", "-r", "."]);
    let commit = repo.commit("oops");
    repo.push();
    cluster.until_done(&commit);
    let status = cluster.kgit(&["status"]);
    println!("EMPTIED {status}");
    repo.git(&["revert", "--no-edit", "HEAD"]);
    repo.push();
    cluster.until_done(&repo.head());
    nothing_is_left(cluster);
}

fn files_that_move_are_not_deleted(cluster: &Cluster, repo: &Repo) {
    std::fs::create_dir_all(repo.work.join("apps")).expect("a folder can be made");
    repo.git(&["mv", "store.yaml", "apps/database.yaml"]);
    for number in 1..=6 {
        let (old, new) = (format!("web-{number}.yaml"), format!("apps/front-{number}.yaml"));
        repo.git(&["mv", &old, &new]);
    }
    let commit = repo.commit("everything moves");
    repo.git(&["push", "-q", "-f", "origin", "HEAD:refs/heads/next"]);
    let diff = cluster.kgit(&["diff", "next"]);
    assert_eq!(diff.code, 0, "a file's name is no part of its object: {diff}");
    repo.push();
    cluster.until_done(&commit);
    nothing_is_left(cluster);
}

fn a_rewritten_branch_is_followed_for_what_it_says(cluster: &Cluster, repo: &Repo) {
    repo.git(&["checkout", "-q", "--orphan", "rewritten"]);
    repo.write("apps/note.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note}\n");
    let commit = repo.commit("history begins anew");
    repo.git(&["push", "-q", "-f", "origin", "HEAD:main"]);
    cluster.until_done(&commit);
    assert!(cluster.object("configmaps", "note").is_some());
    nothing_is_left(cluster);
}

fn an_object_in_a_file_that_does_not_parse_stays(cluster: &Cluster, repo: &Repo) {
    repo.remove("apps/front-6.yaml")
        .write("apps/six.yaml", format!("{}\t- broken: [", web("web-6")));
    let commit = repo.commit("moved, and mistyped");
    repo.push();
    cluster.until_done(&commit);
    let status = cluster.kgit(&["status"]);
    println!("BROKEN {status}");
    let diff = cluster.kgit(&["diff"]);
    println!("BROKEN DIFF {diff}");
    assert_eq!(diff.code, 2, "{diff}");
    assert!(diff.err.contains("apps/six.yaml:"), "{diff}");
    repo.write("apps/six.yaml", web("web-6"));
    let commit = repo.commit("typed right");
    repo.push();
    cluster.until_done(&commit);
    nothing_is_left(cluster);
}

fn broken_files_stop_nothing_else(cluster: &Cluster, repo: &Repo) {
    let shelf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/broken");
    for (number, name) in BROKEN.iter().enumerate() {
        copy(&shelf.join(name), &repo.work.join("mistakes"));
        repo.write(&format!("apps/new-{number}.yaml"), web(&format!("new-{number}")));
        let commit = repo.commit(name);
        repo.push();
        cluster.until_ready(&format!("new-{number}"));
        cluster.until_done(&commit);
        let status = cluster.status().expect("the master answers");
        assert_ne!(status["errors"], 0, "{name}");
        let diff = cluster.kgit(&["diff"]);
        assert_eq!(diff.code, 2, "{name}: {diff}");
        assert!(diff.err.contains("mistakes/"), "{name} is named: {diff}");
        repo.git(&["rm", "-q", "-r", "mistakes"]);
    }
}

fn deletions_beyond_the_budget_wait_for_approval(
    cluster: &Cluster,
    repo: &Repo,
    before: &BTreeSet<(String, String)>,
) {
    for number in 1..=6 {
        let name =
            if number == 6 { "apps/six.yaml".into() } else { format!("apps/front-{number}.yaml") };
        repo.remove(&name);
    }
    let commit = repo.commit("six at once");
    repo.push();
    cluster.until_done(&commit);
    assert!(lives(cluster).is_superset(before), "held");
    let status = cluster.status().expect("the master answers");
    let plan = status["held"]["plan"].as_str().expect("a held plan").to_owned();
    assert_eq!(status["held"]["objects"].as_array().map(Vec::len), Some(6), "{status:#}");
    let told = cluster.kgit(&["status"]);
    println!("HELD {told}");
    assert!(told.out.contains(&format!("kgit approve {plan}")), "what to do is said: {told}");
    let approved = cluster.kgit(&["approve", &plan]);
    assert_eq!(approved.code, 0, "{approved}");
    cluster.until("the six are gone", || cluster.running("web-").is_empty().then_some(()));
    cluster.until_quiet();
}

fn data_stays_when_its_manifest_goes(cluster: &Cluster, repo: &Repo) {
    let volumes = || cluster.engine.docker(&["volume", "ls", "-q", "--filter", &label(cluster)]);
    let volume = volumes();
    assert_eq!(volume.lines().count(), 1, "{volume}");
    repo.remove("apps/database.yaml");
    let commit = repo.commit("no store any more");
    repo.push();
    cluster.until_done(&commit);
    cluster.until("its pod is gone", || cluster.running("store").is_empty().then_some(()));
    assert_eq!(volumes(), volume, "the data stays");
    let told = cluster.kgit(&["status"]);
    println!("RETAINED {told}");
    assert!(told.out.contains("data"), "and is shown: {told}");
}

fn label(cluster: &Cluster) -> String {
    format!("label=dev.kgit.cluster={}", cluster.id())
}

fn nothing_is_left(cluster: &Cluster) {
    let diff = cluster.kgit(&["diff"]);
    assert_eq!(diff.code, 0, "{diff}");
}

fn lives(cluster: &Cluster) -> BTreeSet<(String, String)> {
    cluster.containers().iter().filter(|one| one.runs()).map(Container::life).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder is there").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false if entry.file_name() == "expected.txt" => {}
            false => drop(std::fs::copy(entry.path(), target).expect("the file can be copied")),
        }
    }
}

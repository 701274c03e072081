//! Waves and hooks: what comes first, what waits for it, and what happens when it fails.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::audit::{Body, Entry};
use kgit::domain::key::Kind;
use kgit::domain::node_order::NodeOrder;
use kgit::plan::text;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{claim, config, job, pod_with_claim, stateful, web};

/// A manifest with an annotation of Argo CD's.
fn with(manifest: &str, annotation: &str, value: &str) -> String {
    let line = format!("  annotations: {{argocd.argoproj.io/{annotation}: \"{value}\"}}\n");
    manifest.replacen("metadata:\n", &format!("metadata:\n{line}"), 1)
}

fn wave(manifest: &str, wave: i32) -> String {
    with(manifest, "sync-wave", &wave.to_string())
}

fn named(manifest: &str, name: &str) -> String {
    manifest
        .replace("name: web", &format!("name: {name}"))
        .replace("app: web", &format!("app: {name}"))
}

fn hook(name: &str, phase: &str) -> String {
    with(&job(name, &format!("{name}:1"), "  backoffLimit: 0\n"), "hook", phase)
}

/// The pods that there are, by name without its hash.
fn running(cluster: &Cluster) -> String {
    let pods = cluster.pods();
    let mut names: Vec<&str> =
        pods.iter().map(|pod| pod.owner.name.split('-').next().unwrap()).collect();
    names.sort_unstable();
    names.join(" ")
}

/// What was done since the beginning, step by step.
fn all_steps(cluster: &Cluster) -> Vec<String> {
    let steps = |entry: Entry| match entry.body {
        Body::Planned { steps, .. } => steps,
        _ => Vec::new(),
    };
    let steps = cluster.entries().into_iter().flat_map(steps);
    steps.map(|step| text::said(&step.said)).collect()
}

#[test]
fn a_wave_waits_for_the_health_of_the_one_before() {
    let mut cluster = Cluster::new(&["a"]);
    let files = [
        ("db.yaml", wave(&named(&web("db:1", 1), "db"), -1)),
        ("web.yaml", web("web:1", 1)),
        ("last.yaml", wave(&job("last", "last:1", ""), 5)),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert_snapshot!(cluster.diff(&files), @"
    + create    Deployment/default/db
    + create    ReplicaSet/default/db-d2986cd8wn  revision 1
    + create    Pod/default/db-d2986cd8wn-4fszl  on a
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-dz6clcrlxq  revision 1
    + create    Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Job/default/last
    + create    Pod/default/last-fdjpm  on a
    ~ finish    Job/default/last  complete
    ");
    cluster.commit(&files);
    assert_eq!(running(&cluster), "db");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/db waits for 1 of 1 pods of the new revision to be available
    Deployment/default/web waits for wave -1: Deployment/default/db to be healthy, which is Progressing (0/1 ready)
    ");
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Deployment/default/db
    + create    ReplicaSet/default/db-d2986cd8wn  revision 1
    + create    Pod/default/db-d2986cd8wn-4fszl  on a
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-dz6clcrlxq  revision 1
    + create    Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Job/default/last
    + create    Pod/default/last-fdjpm  on a
    ~ finish    Job/default/last  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_wave_that_does_not_get_healthy_in_time_holds_up_what_follows_until_it_does() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db".to_owned(), Behaviour::NeverReady);
    let db = wave(&named(&web("db:1", 1), "db"), -1);
    let fails = hook("told", "SyncFail");
    cluster.commit(&[("db.yaml", &db), ("web.yaml", &web("web:1", 1)), ("told.yaml", &fails)]);
    cluster.settle();
    cluster.pass(Duration::from_secs(599));
    assert_eq!(running(&cluster), "db");
    cluster.pass(Duration::from_secs(2));
    assert_eq!(running(&cluster), "db told");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/db waits for 1 of 1 pods of the new revision to be available
    Deployment/default/web waits for wave -1: Deployment/default/db to be healthy, which is Degraded (0/1 ready)
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(running(&cluster), "db told web");
    cluster.ends_quietly();
}

#[test]
fn a_newer_commit_goes_on_where_the_older_one_was_held_up() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db".to_owned(), Behaviour::NeverReady);
    let db = |image| wave(&named(&web(image, 1), "db"), -1);
    cluster.commit(&[("db.yaml", &db("db:1")), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.behaviour.clear();
    cluster.commit(&[("db.yaml", &db("db:2"))]);
    assert_eq!(running(&cluster), "db db");
    cluster.settle();
    assert_eq!(running(&cluster), "db web");
    cluster.ends_quietly();
}

#[test]
fn what_a_commit_does_not_touch_does_not_hold_it_up() {
    let mut cluster = Cluster::new(&["a"]);
    let db = wave(&named(&web("db:1", 1), "db"), -1);
    cluster.commit(&[("db.yaml", &db), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.behaviour.insert("db".to_owned(), Behaviour::Fails);
    cluster.agents_act();
    cluster.commit(&[("web.yaml", &web("web:2", 1))]);
    assert_eq!(running(&cluster).matches("web").count(), 2);
}

#[test]
fn a_hook_runs_before_and_another_after_each_commit_that_changes_something() {
    let mut cluster = Cluster::new(&["a"]);
    let (before, after) = (hook("migrate", "PreSync"), hook("check", "PostSync"));
    let web1 = web("web:1", 1);
    cluster.commit(&[("a.yaml", &after), ("b.yaml", &before), ("web.yaml", &web1)]);
    assert_eq!(running(&cluster), "migrate");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for PreSync: the hook Job/default/migrate to end (running)
    Job/default/migrate waits for 1 of 1 completions
    ");
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/migrate  PreSync hook
    + create    Pod/default/migrate-jbtt9  on a
    ~ finish    Job/default/migrate  complete
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-dz6clcrlxq  revision 1
    + create    Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Job/default/check  PostSync hook
    + create    Pod/default/check-8sn2v  on a
    ~ finish    Job/default/check  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
    let newer = [("web.yaml", &*web("web:2", 1))];
    assert_snapshot!(cluster.diff(&newer), @"
    - delete    Job/default/migrate
    - stop      Pod/default/migrate-jbtt9  on a
    + create    Job/default/migrate  PreSync hook
    + create    Pod/default/migrate-kc4c2  on a
    ~ finish    Job/default/migrate  complete
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  1 → 0
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    - delete    Job/default/check
    - stop      Pod/default/check-8sn2v  on a
    + create    Job/default/check  PostSync hook
    + create    Pod/default/check-8jb4x  on a
    ~ finish    Job/default/check  complete
    ");
    cluster.commit(&newer);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    - delete    Job/default/migrate
    - stop      Pod/default/migrate-jbtt9  on a
    + create    Job/default/migrate  PreSync hook
    + create    Pod/default/migrate-kc4c2  on a
    ~ finish    Job/default/migrate  complete
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  1 → 0
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    - delete    Job/default/check
    - stop      Pod/default/check-8sn2v  on a
    + create    Job/default/check  PostSync hook
    + create    Pod/default/check-8jb4x  on a
    ~ finish    Job/default/check  complete
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.commit(&[("web.yaml", &format!("# a remark\n{}", web("web:2", 1)))]);
    cluster.settle();
    cluster.ends_quietly();
}

#[test]
fn a_hook_that_runs_nothing_is_brought_up_to_date_and_not_made_anew() {
    let mut cluster = Cluster::new(&["a"]);
    let hook = |mode: &str| with(&config(mode), "hook", "PreSync");
    cluster.commit(&[("c.yaml", &hook("a")), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.commit(&[("c.yaml", &hook("b")), ("web.yaml", &web("web:2", 1))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    ConfigMap/default/settings
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  1 → 0
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_hook_that_fails_stops_the_sync_and_the_next_commit_runs_it_again() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::Fails);
    let (before, fail) = (hook("migrate", "PreSync"), hook("told", "SyncFail"));
    cluster.commit(&[("b.yaml", &before), ("f.yaml", &fail), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_eq!(running(&cluster), "migrate told");
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/web waits for PreSync: the hook Job/default/migrate to succeed (failed: BackoffLimitExceeded)");
    cluster.behaviour.clear();
    cluster.commit(&[("web.yaml", &format!("# again\n{}", web("web:1", 1)))]);
    cluster.settle();
    assert_eq!(running(&cluster), "migrate told web");
    cluster.ends_quietly();
}

#[test]
fn hooks_go_as_their_deletion_policy_says_and_have_names_of_their_own() {
    let mut cluster = Cluster::new(&["a"]);
    let deleted = "  annotations:\n    kgit.dev/hook: PreSync\n    \
                   kgit.dev/hook-delete-policy: HookSucceeded\n  generateName: migrate-\n";
    let manifest = job("migrate", "migrate:1", "").replace("  name: migrate\n", deleted);
    cluster.commit(&[("b.yaml", &manifest), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Job/default/migrate-presync  PreSync hook
    + create    Pod/default/migrate-presync-fbnxs  on a
    ~ finish    Job/default/migrate-presync  complete
    - delete    Job/default/migrate-presync
    - stop      Pod/default/migrate-presync-fbnxs  on a
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-dz6clcrlxq  revision 1
    + create    Pod/default/web-dz6clcrlxq-mr2cq  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_eq!(running(&cluster), "web");
    cluster.ends_quietly();
}

#[test]
fn a_hook_that_failed_stays_to_be_looked_at_unless_its_policy_says_otherwise() {
    for (policy, left) in [("HookSucceeded", "migrate"), ("HookFailed", "")] {
        let mut cluster = Cluster::new(&["a"]);
        cluster.behaviour.insert("migrate".to_owned(), Behaviour::Fails);
        let policies = format!("\"PreSync\", argocd.argoproj.io/hook-delete-policy: {policy}}}");
        let manifest = hook("migrate", "PreSync").replace("\"PreSync\"}", &policies);
        cluster.commit(&[("b.yaml", &manifest), ("web.yaml", &web("web:1", 1))]);
        cluster.settle();
        assert_eq!(running(&cluster), left, "{policy}");
    }
}

#[test]
fn a_hook_in_the_middle_of_its_work_is_left_to_end_before_a_newer_commit_runs_it_again() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::NeverReady);
    let before = hook("migrate", "PreSync");
    cluster.commit(&[("b.yaml", &before), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &web("web:2", 1))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for PreSync: the earlier run of the hook Job/default/migrate to end
    Job/default/migrate waits for 1 of 1 completions
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ finish    Job/default/migrate  complete
    - delete    Job/default/migrate
    - stop      Pod/default/migrate-jbtt9  on a
    + create    Job/default/migrate  PreSync hook
    + create    Pod/default/migrate-kc4c2  on a
    ~ finish    Job/default/migrate  complete
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 1
    + create    Pod/default/web-vdvrvhdcpc-w2b2c  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_hook_is_not_run_again_by_a_master_that_starts_anew() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[
        ("b.yaml", &hook("migrate", "PreSync")),
        ("a.yaml", &hook("told", "PostSync")),
        ("web.yaml", &web("web:1", 1)),
    ]);
    cluster.settle();
    cluster.restart_master();
    cluster.behaviour.clear();
    cluster.settle();
    cluster.restart_master();
    cluster.settle();
    let mut steps = all_steps(&cluster);
    steps.retain(|step| step.contains("Job/") || step.contains("Deployment/"));
    assert_snapshot!(steps.join("\n"), @"
    + create    Job/default/migrate  PreSync hook
    ~ finish    Job/default/migrate  complete
    + create    Deployment/default/web
    + create    Job/default/told  PostSync hook
    ~ finish    Job/default/told  complete
    ");
    cluster.ends_quietly();
}

#[test]
fn a_hook_whose_manifest_was_gone_for_a_while_runs_again() {
    let mut cluster = Cluster::new(&["a"]);
    let before = hook("migrate", "PreSync");
    cluster.commit(&[("b.yaml", &before), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.commit(&[("b.yaml", "")]);
    cluster.settle();
    cluster.commit(&[("b.yaml", &before), ("web.yaml", &web("web:2", 1))]);
    cluster.settle();
    let mut steps = all_steps(&cluster);
    steps.retain(|step| step.contains("Job/"));
    assert_snapshot!(steps.join("\n"), @"
    + create    Job/default/migrate  PreSync hook
    ~ finish    Job/default/migrate  complete
    - delete    Job/default/migrate
    + create    Job/default/migrate  PreSync hook
    ~ finish    Job/default/migrate  complete
    ");
    cluster.ends_quietly();
}

#[test]
fn a_hook_runs_again_only_when_no_pod_of_its_earlier_run_is_left() {
    let mut cluster = Cluster::new(&["a"]);
    let before = hook("migrate", "PreSync");
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("b.yaml", &before), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("b.yaml", "")]);
    cluster.settle();
    cluster.commit(&[("b.yaml", &before), ("web.yaml", &web("web:2", 1))]);
    cluster.settle();
    let first = cluster.pods().iter().filter(|pod| pod.owner.kind == Kind::Job).count();
    assert_eq!(first, 1);
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(running(&cluster), "migrate web");
    cluster.ends_quietly();
}

#[test]
fn a_claim_that_waits_for_its_first_consumer_does_not_hold_up_the_consumers_wave() {
    let mut cluster = Cluster::new(&["a"]);
    let data = wave(&claim("data", ""), -1);
    let user = pod_with_claim("user", "data");
    cluster.commit(&[("data.yaml", &data), ("user.yaml", &user)]);
    cluster.settle();
    assert_eq!(running(&cluster), "user");
    cluster.ends_quietly();
}

#[test]
fn a_claim_without_a_manifest_holds_up_nothing_though_its_data_is_lost() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.behaviour.insert("user".to_owned(), Behaviour::NeverReady);
    let data = wave(&claim("data", ""), -1);
    let user = wave(&pod_with_claim("user", "data"), -1);
    let web = wave(&web("web:1", 1), 1);
    cluster.commit(&[("data.yaml", &data), ("user.yaml", &user), ("web.yaml", &web)]);
    let node = cluster.pods()[0].node().unwrap().to_string();
    cluster.lost.insert(node.clone());
    cluster.pass(Duration::from_secs(100));
    cluster.order(&node, NodeOrder::Remove).unwrap();
    cluster.settle();
    assert_eq!(running(&cluster), "user");
    cluster.commit(&[("user.yaml", "")]);
    cluster.settle();
    assert_eq!(running(&cluster), "");
    assert_snapshot!(cluster.waits().join("\n"), @"
    PersistentVolumeClaim/default/data waits for PersistentVolume `pvc-8ae10c05-5e7b-85b5-bc0e-69648eb97e78`, which is gone (once no pod runs with it, `kgit prune PersistentVolumeClaim/default/data` gives it up)
    Deployment/default/web waits for wave -1: PersistentVolumeClaim/default/data to be healthy, which is Degraded (Lost)
    ");
    cluster.commit(&[("data.yaml", "")]);
    cluster.settle();
    assert_eq!(running(&cluster), "web");
}

#[test]
fn what_rolls_because_of_a_config_is_waited_for_too() {
    let mut cluster = Cluster::new(&["a"]);
    let user = web("web:1", 1) + "        envFrom: [{configMapRef: {name: settings}}]\n";
    let last = |image| wave(&named(&web(image, 1), "last"), 1);
    cluster.commit(&[("c.yaml", &config("a")), ("web.yaml", &user), ("l.yaml", &last("l:1"))]);
    cluster.settle();
    cluster.commit(&[("c.yaml", &config("b")), ("l.yaml", &last("l:2"))]);
    assert_eq!(running(&cluster), "last web web");
    cluster.settle();
    assert_eq!(running(&cluster), "last web");
    cluster.ends_quietly();
}

#[test]
fn deletions_go_the_other_way_around() {
    let mut cluster = Cluster::new(&["a"]);
    let db = wave(&named(&web("db:1", 1), "db"), -1);
    let files = [("db.yaml", &*db), ("web.yaml", &*web("web:1", 1)), ("c.yaml", &*config("a"))];
    cluster.commit(&files);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("db.yaml", ""), ("web.yaml", "")]);
    cluster.settle();
    assert_eq!(running(&cluster), "db web");
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/db waits for the pods of deleted objects of higher waves
    Deployment/default/web waits for pod `web-dz6clcrlxq-mr2cq` to end on a
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(running(&cluster), "");
    cluster.ends_quietly();
}

#[test]
fn a_deletion_that_waits_is_not_carried_out_when_its_manifest_comes_back_or_cannot_be_read() {
    let mut cluster = Cluster::new(&["a"]);
    let db = wave(&named(&web("db:1", 1), "db"), -1);
    let files = [("db.yaml", &*db), ("web.yaml", &*web("web:1", 1)), ("c.yaml", &*config("a"))];
    cluster.commit(&files);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("db.yaml", ""), ("web.yaml", "")]);
    cluster.settle();
    cluster.commit(&[("broken.yaml", "apiVersion: v1\nkind: [")]);
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(running(&cluster), "db");
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/db waits for the manifests of 1 objects: `broken.yaml` can't be read, so what it defines is not known");
    cluster.commit(&[("broken.yaml", ""), ("db.yaml", &db)]);
    cluster.settle();
    assert_eq!(running(&cluster), "db");
    cluster.ends_quietly();
}

#[test]
fn what_the_brakes_hold_is_not_forgotten_for_what_waits_for_its_turn() {
    let mut cluster = Cluster::new(&["a"]);
    let named = |name: &str| named(&web("web:1", 1), name);
    cluster.commit(&[
        ("b.yaml", &hook("migrate", "PreSync")),
        ("one.yaml", &named("one")),
        ("two.yaml", &named("two")),
        ("three.yaml", &named("three")),
    ]);
    cluster.settle();
    cluster.behaviour.insert("migrate".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("one.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/one waits for PreSync: the hook Job/default/migrate to end (running)
    Job/default/migrate waits for 1 of 1 completions
    ");
    cluster.commit(&[("two.yaml", ""), ("broken.yaml", "kind: [")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/one waits for the manifests of 2 objects: `broken.yaml` can't be read, so what it defines is not known
    Job/default/migrate waits for 1 of 1 completions
    ");
    cluster.commit(&[("broken.yaml", "")]);
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(running(&cluster), "migrate three");
    cluster.ends_quietly();
}

#[test]
fn what_changes_in_a_later_wave_than_before_does_not_wait_for_itself() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("db".to_owned(), Behaviour::NeverReady);
    let db = |image: &str, at: i32| wave(&named(&web(image, 1), "db"), at);
    cluster.commit(&[("db.yaml", &db("db:1", -1)), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_eq!(running(&cluster), "db");
    cluster.commit(&[("db.yaml", &db("db:2", 1))]);
    cluster.behaviour.clear();
    cluster.agents_act_on_new_pods_only();
    assert_eq!(running(&cluster), "db web");
    cluster.ends_quietly();
}

#[test]
fn an_order_that_cannot_be_is_an_error_with_its_path() {
    let mut cluster = Cluster::new(&["a"]);
    let early =
        wave(&(web("web:1", 1) + "        envFrom: [{configMapRef: {name: settings}}]\n"), -1);
    cluster.commit(&[("c.yaml", &config("a")), ("web.yaml", &early)]);
    assert_snapshot!(cluster.diagnostics().join("\n"), @"web.yaml:17:41: these wait for each other: Deployment/default/web (wave -1) → ConfigMap/default/settings (wave 0) → Deployment/default/web, by their order");
}

#[test]
fn nothing_is_deleted_before_the_hooks_that_come_first_have_ended_well() {
    let mut cluster = Cluster::new(&["a"]);
    let before = hook("backup", "PreSync");
    let (web, late) = (web("web:1", 1), wave(&named(&web("late:1", 1), "late"), 2));
    cluster.commit(&[("b.yaml", &before), ("web.yaml", &web), ("late.yaml", &late)]);
    cluster.settle();
    cluster.behaviour.insert("backup".to_owned(), Behaviour::Fails);
    cluster.commit(&[("late.yaml", ""), ("c.yaml", &config("a"))]);
    cluster.settle();
    assert_eq!(running(&cluster), "backup late web");
    cluster.behaviour.clear();
    cluster.commit(&[("c.yaml", &config("b"))]);
    cluster.settle();
    assert_eq!(running(&cluster), "backup web");
    cluster.ends_quietly();
}

#[test]
fn what_comes_back_is_not_late_and_starts_no_pod_that_nobody_wants() {
    let mut cluster = Cluster::new(&["a"]);
    let fails = hook("told", "SyncFail");
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("f.yaml", &fails)]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &web("web:2", 1))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", ""), ("c.yaml", &config("a"))]);
    cluster.settle();
    cluster.pass(Duration::from_secs(3600));
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + restore   Deployment/default/web
    ~ update    ReplicaSet/default/web-dz6clcrlxq  revision 1 is revision 3 again
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  0 → 1
    + create    Pod/default/web-dz6clcrlxq-wlbpr  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn what_comes_after_a_stateful_set_waits_for_the_last_of_its_pods_to_be_new() {
    let mut cluster = Cluster::new(&["a"]);
    let db = |image| wave(&stateful(image, 2, "  minReadySeconds: 30\n"), -1);
    let both = |db: &str, web: &str, cluster: &mut Cluster| {
        cluster.commit(&[("db.yaml", db), ("web.yaml", web)]);
        cluster.settle();
    };
    both(&db("db:1"), &web("web:1", 1), &mut cluster);
    cluster.pass(Duration::from_secs(100));
    both(&db("db:2"), &web("web:2", 1), &mut cluster);
    let images = |cluster: &Cluster| {
        let pods = cluster.pods();
        pods.iter().map(|pod| pod.template.containers[0].image.clone()).collect::<Vec<_>>()
    };
    assert_eq!(images(&cluster), ["db:1", "db:2", "web:1"], "all are ready, and one is old");
    cluster.pass(Duration::from_secs(100));
    assert_eq!(images(&cluster), ["db:2", "db:2", "web:2"]);
    cluster.ends_quietly();
}

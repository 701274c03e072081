//! Disappearing manifests: brakes, approval, moves, broken files.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::key::{Kind, ObjectKey};
use kgit::domain::resource::IntOrPercent;
use kgit_protocol::ids::NodeName;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{claim, config, job, stateful, web};

fn many(count: usize) -> String {
    let named = |index| config("a").replace("settings", &format!("settings-{index}"));
    (0..count).map(named).collect::<Vec<_>>().join("---\n")
}

#[test]
fn more_deletions_than_the_budget_wait_for_approval() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("many.yaml", &many(20)), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_snapshot!(cluster.diff(&[("many.yaml", "")]), @"
    … ConfigMap/default/settings-0 waits for approval of plan c41259d59e7f (`kgit approve c41259d59e7f`): 20 of 21 objects would go, and the budget is 5
        until then: nothing is removed
    ");
    cluster.commit(&[("many.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"ConfigMap/default/settings-0 waits for approval of plan c41259d59e7f (`kgit approve c41259d59e7f`): 20 of 21 objects would go, and the budget is 5");
    assert_eq!(cluster.objects(), 21);
    let plan = cluster.held().unwrap();
    cluster.approve(&plan).unwrap();
    cluster.settle();
    assert_eq!(cluster.objects(), 1);
    cluster.ends_quietly();
}

#[test]
fn what_is_held_stays_held_and_told_whatever_else_goes_on() {
    let jobs: Vec<String> = (0..7).map(|n| job(&format!("j{n}"), "m:1", "")).collect();
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("jobs.yaml", &jobs.join("---\n")), ("web.yaml", &web("web:1", 1))]);
    // The jobs are under way and the rollout begins, so there is much to tell after the commit.
    cluster.commit(&[("jobs.yaml", ""), ("web.yaml", &web("web:2", 1))]);
    let plan = cluster.held().unwrap();
    cluster.settle();
    assert_eq!(cluster.held(), Some(plan.clone()));
    let told = format!("`kgit approve {plan}`): 7 of 8 objects would go, and the budget is 5");
    assert!(cluster.waits().iter().any(|wait| wait.ends_with(&told)), "{:?}", cluster.waits());
    cluster.approve(&plan).unwrap();
    cluster.settle();
    assert_eq!((cluster.objects(), cluster.held()), (1, None));
    cluster.ends_quietly();
}

#[test]
fn an_emptied_source_removes_nothing() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/web waits for the manifests of 1 objects: the source yields no objects at all");
    assert_eq!(cluster.pods().len(), 2);
    let plan = cluster.held().unwrap();
    assert!(cluster.approve(&plan).is_err(), "there is nothing to approve, only to repair");
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.ends_quietly();
    assert!(cluster.waits().is_empty(), "{:?}", cluster.waits());
}

#[test]
fn while_a_file_is_broken_nothing_is_pruned_and_the_rest_goes_on() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[
        ("web.yaml", &web("web:1", 1)),
        ("job.yaml", &job("migrate", "m:1", "")),
        ("c.yaml", &config("a")),
    ]);
    cluster.settle();
    // The job moves into a file that does not parse; the web front end changes.
    cluster.commit(&[
        ("job.yaml", ""),
        ("broken.yaml", "kind: [\n"),
        ("web.yaml", &web("web:2", 1)),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Job/default/migrate waits for the manifests of 1 objects: `broken.yaml` can't be read, so what it defines is not known");
    assert_eq!(cluster.objects(), 3);
    assert!(cluster.pods().iter().any(|pod| pod.template.containers[0].image == "web:2"));
    cluster.commit(&[("broken.yaml", &job("migrate", "m:1", ""))]);
    cluster.settle();
    assert!(cluster.held().is_none());
    cluster.ends_quietly();
}

#[test]
fn a_repo_wide_rename_is_not_a_delete() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("many.yaml", &many(30)), ("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    cluster.commit(&[
        ("many.yaml", ""),
        ("web.yaml", ""),
        ("apps/many.yaml", &many(30)),
        ("apps/web.yaml", &web("web:1", 2)),
    ]);
    cluster.settle();
    let after: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    assert_eq!(before, after);
    assert_eq!(cluster.file_of("Deployment", "web"), "apps/web.yaml");
    cluster.ends_quietly();
}

#[test]
fn the_brakes_are_those_of_the_commit_before() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("many.yaml", &many(20)), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let loose = "apiVersion: kgit.dev/v1\nkind: Cluster\nmetadata: {name: cluster}\nspec:\n  pruneBudget: 100%\n";
    cluster.commit(&[("many.yaml", ""), ("cluster.yaml", loose)]);
    cluster.settle();
    assert!(cluster.held().is_some(), "a commit must not loosen the brakes that should stop it");
    let plan = cluster.held().unwrap();
    cluster.approve(&plan).unwrap();
    cluster.settle();
    assert_eq!(cluster.objects(), 1);
    assert_eq!(cluster.world().meta.settings.prune_budget, IntOrPercent::Percent(100));
    cluster.ends_quietly();
}

#[test]
fn what_comes_back_within_the_undo_window_is_the_same_object() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2)), ("c.yaml", &config("a"))]);
    cluster.settle();
    let owner = cluster.pods()[0].owner.clone();
    cluster.commit(&[("web.yaml", "")]);
    cluster.settle();
    assert!(cluster.pods().is_empty());
    cluster.pass(Duration::from_secs(3600));
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + restore   Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  0 → 2
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on a
    + create    Pod/default/web-dz6clcrlxq-wlbtf  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_eq!(cluster.pods()[0].owner, owner);
    let world = cluster.world();
    let restored = world.objects.values().find(|row| row.resource.key.kind == Kind::Deployment);
    assert_eq!(restored.unwrap().commit.summary, "change 3");
    cluster.ends_quietly();
}

#[test]
fn after_the_undo_window_a_name_stands_for_another_object() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("c.yaml", &config("a"))]);
    cluster.settle();
    let uid = cluster.pods()[0].uid.clone();
    cluster.commit(&[("web.yaml", "")]);
    cluster.settle();
    cluster.pass(Duration::from_secs(25 * 3600));
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_ne!(cluster.pods()[0].uid, uid);
    cluster.ends_quietly();
}

#[test]
fn what_is_held_stays_held_whatever_agents_report() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("many.yaml", &many(20)), ("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    // The new pod's reports come after the deletions are held.
    cluster.commit(&[("many.yaml", ""), ("web.yaml", &web("web:1", 2))]);
    let held = cluster.held();
    cluster.settle();
    assert!(held.is_some());
    assert_eq!(cluster.held(), held);
    let since = |cluster: &Cluster| cluster.world().meta.held.as_ref().map(|held| held.since);
    let first = since(&cluster);
    cluster.pass(Duration::from_secs(60));
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.settle();
    assert_eq!((cluster.held(), since(&cluster)), (held.clone(), first));
    cluster.approve(&held.unwrap()).unwrap();
    cluster.settle();
    assert_eq!(cluster.objects(), 1);
    cluster.ends_quietly();
}

#[test]
fn pruning_a_retained_workload_ends_its_pods() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("web-".to_owned(), Behaviour::NeverReady);
    let kept = web("web:1", 2)
        .replace("name: web\nspec", "name: web\n  annotations: {kgit.dev/prune: \"false\"}\nspec");
    cluster.commit(&[("web.yaml", &kept), ("c.yaml", &config("a"))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", "")]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2);
    cluster.prune(&["Deployment/default/web"]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ retain    Deployment/default/web
    - delete    Deployment/default/web  DEVIATES: ann ordered: removal of Deployment/default/web
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a  DEVIATES: ann ordered: removal of Deployment/default/web
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a  DEVIATES: ann ordered: removal of Deployment/default/web
    finished: 3 deviations, 0 missing, superseded false
    ");
    assert!(cluster.pods().is_empty());
    assert!(cluster.world().replica_sets.is_empty());
    assert!(cluster.waits().is_empty(), "{:?}", cluster.waits());
    // Its manifest is back: it is one of the repo's again.
    cluster.commit(&[("web.yaml", &kept)]);
    assert_eq!(cluster.pods().len(), 2);
    assert!(cluster.world().objects.values().all(|row| row.retained.is_none()));
    cluster.ends_quietly();
}

#[test]
fn approving_the_deletions_ends_the_caution_of_a_restored_master_on_every_node() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("c.yaml", &config("a"))]);
    cluster.settle();
    let mut newer = cluster.orders("a").stamp;
    newer.generation = newer.generation.next();
    cluster.pull("a", newer.clone());
    for node in ["a", "b"] {
        let orders = cluster.orders(node);
        assert!(orders.keep_others, "the agents may know more than the master");
        assert!(orders.stamp.epoch > newer.epoch);
        assert_eq!(orders.stamp.digest, orders.content_digest());
    }
    let running: Vec<_> = cluster.reported.values().cloned().collect();
    let on = |cluster: &Cluster, node| cluster.world().pods_on(&NodeName::new(node)).count() > 0;
    for node in ["a", "b"] {
        let pods = if on(&cluster, node) { running.clone() } else { Vec::new() };
        cluster.report_all(node, None, pods, true);
    }
    cluster.commit(&[("c.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"ConfigMap/default/settings waits for approval of plan 50f3263da6a3 (`kgit approve 50f3263da6a3`): the master was restored from a backup and knows less than its agents");
    let plan = cluster.held().unwrap();
    cluster.approve(&plan).unwrap();
    cluster.settle();
    for node in ["a", "b"] {
        let orders = cluster.orders(node);
        assert!(!orders.keep_others);
        assert_eq!(orders.stamp.digest, orders.content_digest());
    }
    cluster.ends_quietly();
}

#[test]
fn what_is_kept_knows_where_its_manifest_is_and_which_commit_changed_it_last() {
    let mut cluster = Cluster::new(&["a"]);
    let kept = config("a")
        .replace("name: settings", "name: settings\n  annotations: {kgit.dev/prune: \"false\"}");
    cluster.commit(&[("a.yaml", &kept), ("web.yaml", &web("web:1", 1))]);
    cluster.commit(&[("a.yaml", &kept.replace("MODE: a", "MODE: b"))]);
    let changed_by = |cluster: &Cluster| {
        let key = ObjectKey::new(Kind::ConfigMap, "default", "settings");
        cluster.world().objects[&key].commit.summary.clone()
    };
    assert_eq!(changed_by(&cluster), "change 2");
    cluster.commit(&[("a.yaml", "")]);
    cluster.commit(&[("elsewhere.yaml", &kept.replace("MODE: a", "MODE: b"))]);
    assert_eq!(cluster.file_of("ConfigMap", "settings"), "elsewhere.yaml");
    assert_eq!(changed_by(&cluster), "change 2");
    cluster.ends_quietly();
}

#[test]
fn only_what_is_kept_without_a_manifest_is_removed_by_an_order() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("db.yaml", &stateful("db:1", 1, "")), ("claim.yaml", &claim("data", ""))]);
    cluster.settle();
    let order =
        |cluster: &mut Cluster, object: &str| cluster.try_prune(&[object]).unwrap_err().message;
    assert_snapshot!(order(&mut cluster, "PersistentVolumeClaim/default/typo"), @"there is no PersistentVolumeClaim/default/typo");
    assert_snapshot!(order(&mut cluster, "PersistentVolumeClaim/default/data"), @"PersistentVolumeClaim/default/data has a manifest, at claim.yaml:1:1; remove that");
    assert_snapshot!(order(&mut cluster, "PersistentVolumeClaim/default/data-db-0"), @"PersistentVolumeClaim/default/data-db-0 is of StatefulSet/default/db, which uses it");
    cluster.ends_quietly();
}

#[test]
fn a_stateful_set_that_comes_back_has_no_pods_of_a_template_that_is_nowhere() {
    let mut cluster = Cluster::new(&["a"]);
    let partition = "  updateStrategy: {rollingUpdate: {partition: 2}}\n";
    cluster.commit(&[("settings.yaml", &config("a"))]);
    for image in ["db:1", "db:2", "", "db:2"] {
        let text = stateful(image, 2, partition);
        cluster.commit(&[("db.yaml", if image.is_empty() { "" } else { &text })]);
        cluster.settle();
        if let Some(plan) = cluster.held() {
            cluster.approve(&plan).unwrap();
            cluster.settle();
        }
    }
    let images: Vec<String> =
        cluster.pods().iter().map(|pod| pod.template.containers[0].image.clone()).collect();
    assert_eq!(images, ["db:2", "db:2"]);
    cluster.ends_quietly();
}

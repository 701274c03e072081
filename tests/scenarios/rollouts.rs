//! Deployments from the first commit to the last revision.

use std::time::Duration;

use insta::assert_snapshot;
use kgit_protocol::observation::PodObservation;
use kgit_protocol::time::Timestamp;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{config, web, web_with};

#[test]
fn a_deployment_comes_up_as_forecast() {
    let mut cluster = Cluster::new(&["a"]);
    let files = web("web:1", 3);
    assert_snapshot!(cluster.diff(&[("web.yaml", &files)]), @"
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-dz6clcrlxq  revision 1
    + create    Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Pod/default/web-dz6clcrlxq-wlbpr  on a
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on a
    ");
    cluster.commit(&[("web.yaml", &files)]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-dz6clcrlxq  revision 1
    + create    Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Pod/default/web-dz6clcrlxq-wlbpr  on a
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_new_image_rolls_and_a_revert_brings_the_same_revision_back() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.settle();
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.owner.clone()).collect();
    assert_snapshot!(cluster.diff(&[("web.yaml", &web("web:2", 3))]), @"
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  3 → 0
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on b
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  1 → 3
    + create    Pod/default/web-vdvrvhdcpc-b4bxd  on b
    - stop      Pod/default/web-dz6clcrlxq-tkvhw  on b
    + create    Pod/default/web-vdvrvhdcpc-rksnx  on b
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a
    ");
    cluster.commit(&[("web.yaml", &web("web:2", 3))]);
    cluster.settle();
    let accepted = cluster.world().meta.accepted.clone();
    assert_eq!(accepted.map(|commit| commit.summary.clone()).as_deref(), Some("change 2"));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  3 → 2
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on b
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  1 → 2
    + create    Pod/default/web-vdvrvhdcpc-b4bxd  on b
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  2 → 1
    - stop      Pod/default/web-dz6clcrlxq-tkvhw  on b
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  2 → 3
    + create    Pod/default/web-vdvrvhdcpc-rksnx  on b
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  1 → 0
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.settle();
    let after: Vec<_> = cluster.pods().iter().map(|pod| pod.owner.clone()).collect();
    assert_eq!(before, after);
    cluster.ends_quietly();
}

#[test]
fn scaling_up_and_down_is_two_steps_of_scale() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &web("web:1", 4))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  2 → 4
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on a
    + create    Pod/default/web-dz6clcrlxq-wlbtf  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  4 → 1
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    - stop      Pod/default/web-dz6clcrlxq-tkvhw  on a
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_revision_that_never_gets_ready_leaves_the_old_one_serving() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.settle();
    let good: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    cluster.behaviour.insert("web-".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("web.yaml", &web("web:broken", 3))]);
    cluster.agents_act_on_new_pods_only();
    cluster.pass(Duration::from_secs(700));
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/web waits for 3 of 3 pods of the new revision to be available");
    let left: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    assert!(good.iter().all(|uid| left.contains(uid)));
    cluster.behaviour.clear();
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.ends_quietly();
    let left: Vec<_> = cluster.pods().iter().map(|pod| pod.uid.clone()).collect();
    assert_eq!(good, left);
}

#[test]
fn recreate_stops_every_old_pod_before_the_first_new_one() {
    let mut cluster = Cluster::new(&["a"]);
    let recreate = |image| web(image, 2) + "  strategy: {type: Recreate}\n";
    cluster.commit(&[("web.yaml", &recreate("web:1"))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &recreate("web:2"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  2 → 0
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    + create    Pod/default/web-vdvrvhdcpc-b4bxd  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &(web("web:2", 3) + "  paused: true\n"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  2 → 3
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    let state = cluster.world().deployments.values().next().unwrap().value.clone();
    assert_eq!((state.status.available, state.status.updated), (3, 0), "none is of web:2");
    cluster.commit(&[("web.yaml", &web("web:2", 3))]);
    cluster.settle();
    assert!(cluster.pods().iter().all(|pod| pod.template.containers[0].image == "web:2"));
    cluster.ends_quietly();
}

#[test]
fn a_newer_commit_supersedes_the_older_one_in_mid_rollout() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &web("web:2", 3))]);
    cluster.agents_act();
    cluster.commit(&[("web.yaml", &web("web:3", 3))]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 3);
    assert!(cluster.pods().iter().all(|pod| pod.template.containers[0].image == "web:3"));
    cluster.ends_quietly();
}

#[test]
fn a_changed_config_map_rolls_its_pods_and_its_revert_brings_the_revision_back() {
    let mut cluster = Cluster::new(&["a"]);
    let uses = "        envFrom: [{configMapRef: {name: settings}}]\n";
    let files = |mode| [("web.yaml", web_with("web:1", 2, uses)), ("c.yaml", config(mode))];
    let commit = |cluster: &mut Cluster, files: &[(&str, String)]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
        cluster.commit(&files);
        cluster.settle();
    };
    commit(&mut cluster, &files("a"));
    let first = cluster.pods()[0].owner.clone();
    commit(&mut cluster, &files("b"));
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    ConfigMap/default/settings
    + create    ReplicaSet/default/web-qt9ksv78mh  revision 2
    + create    Pod/default/web-qt9ksv78mh-6khqv  on a
    ~ scale     ReplicaSet/default/web-z96whqs52t  2 → 1
    - stop      Pod/default/web-z96whqs52t-9mfpb  on a
    ~ scale     ReplicaSet/default/web-qt9ksv78mh  1 → 2
    + create    Pod/default/web-qt9ksv78mh-gm99d  on a
    ~ scale     ReplicaSet/default/web-z96whqs52t  1 → 0
    - stop      Pod/default/web-z96whqs52t-jc8gc  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_ne!(cluster.pods()[0].owner, first);
    commit(&mut cluster, &files("a"));
    assert_eq!(cluster.pods()[0].owner, first);
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_vanished_is_replaced_with_the_reason() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 2))]);
    cluster.settle();
    let victim = cluster.pods()[0].key.name.to_string();
    cluster.behaviour.insert(victim, Behaviour::Fails);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    + create    Pod/default/web-dz6clcrlxq-tkvhw  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn template_and_scale_at_once_start_no_pod_of_the_old_template() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 3))]);
    cluster.settle();
    cluster.commit(&[("web.yaml", &web("web:2", 5))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-vdvrvhdcpc  revision 2
    + create    Pod/default/web-vdvrvhdcpc-75dl4  on a
    + create    Pod/default/web-vdvrvhdcpc-b4bxd  on a
    + create    Pod/default/web-vdvrvhdcpc-rksnx  on a
    + create    Pod/default/web-vdvrvhdcpc-wtjh8  on a
    ~ scale     ReplicaSet/default/web-dz6clcrlxq  3 → 0
    - stop      Pod/default/web-dz6clcrlxq-mr2cq  on a
    - stop      Pod/default/web-dz6clcrlxq-tkvhw  on a
    - stop      Pod/default/web-dz6clcrlxq-wlbpr  on a
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  4 → 5
    + create    Pod/default/web-vdvrvhdcpc-9vtx8  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.commit(&[("web.yaml", &web("web:3", 2))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    Deployment/default/web
    + create    ReplicaSet/default/web-wcqh6g7xlz  revision 3
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  5 → 2
    - stop      Pod/default/web-vdvrvhdcpc-75dl4  on a
    - stop      Pod/default/web-vdvrvhdcpc-9vtx8  on a
    - stop      Pod/default/web-vdvrvhdcpc-b4bxd  on a
    ~ scale     ReplicaSet/default/web-wcqh6g7xlz  0 → 1
    + create    Pod/default/web-wcqh6g7xlz-8ckww  on a
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  2 → 1
    - stop      Pod/default/web-vdvrvhdcpc-rksnx  on a
    ~ scale     ReplicaSet/default/web-wcqh6g7xlz  1 → 2
    + create    Pod/default/web-wcqh6g7xlz-n54fs  on a
    ~ scale     ReplicaSet/default/web-vdvrvhdcpc  1 → 0
    - stop      Pod/default/web-vdvrvhdcpc-wtjh8  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_pod_that_a_late_complete_report_lacks_is_not_gone() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    let pod = cluster.pods()[0].key.clone();
    cluster.commit(&[("web.yaml", &web("web:1", 0))]);
    // Made before the agent had the order to run the pod, which it has by now.
    cluster.report_all("a", None, Vec::new(), true);
    assert!(cluster.pods().iter().any(|found| found.key == pod));
    cluster.settle();
    assert!(cluster.pods().is_empty());
    cluster.ends_quietly();
}

#[test]
fn of_two_ready_pods_the_one_that_is_not_available_yet_goes_first() {
    let mut cluster = Cluster::new(&["a"]);
    let sized = |replicas| web("web:1", replicas) + "  minReadySeconds: 5\n";
    cluster.commit(&[("web.yaml", &sized(2))]);
    cluster.settle();
    cluster.pass(Duration::from_secs(60));
    let pods = cluster.pods();
    // All else being equal, the first by name would go.
    for (pod, ready_seconds) in pods.iter().zip([6, 4]) {
        let since = Timestamp(cluster.now.0 - ready_seconds * 1000);
        let seen = (**pod.observed.as_ref().unwrap()).clone();
        let seen = PodObservation { ready_since: Some(since), ..seen };
        cluster.report("a", None, vec![seen]);
    }
    cluster.commit(&[("web.yaml", &sized(1))]);
    let told: Vec<bool> = cluster.pods().iter().map(|pod| pod.deletion.is_some()).collect();
    assert_eq!(told, [false, true]);
}

#[test]
fn pods_that_were_ending_when_their_deployment_was_deleted_are_still_waited_for() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 1)), ("c.yaml", &config("a"))]);
    cluster.settle();
    cluster.behaviour.insert("web-".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("web.yaml", &web("web:1", 0))]);
    cluster.commit(&[("web.yaml", "")]);
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/web waits for pod `web-dz6clcrlxq-mr2cq` to end on a");
    cluster.behaviour.clear();
    cluster.settle();
    cluster.ends_quietly();
}

#[test]
fn what_was_told_of_a_forgotten_revision_is_forgotten_with_it() {
    let mut cluster = Cluster::new(&["a"]);
    for image in 1..=4 {
        let text = web(&format!("web:{image}"), 1)
            .replace("  replicas: 1\n", "  replicas: 1\n  revisionHistoryLimit: 1\n");
        cluster.commit(&[("web.yaml", &text), ("c.yaml", &config("a"))]);
        cluster.settle();
    }
    assert_eq!(cluster.world().replica_sets.len(), 2);
    cluster.ends_quietly();
    cluster.commit(&[("web.yaml", "")]);
    cluster.ends_quietly();
}

#[test]
fn a_revision_that_none_may_be_beside_does_not_grow_beside_what_ends_though_it_is_scaled() {
    let mut cluster = Cluster::new(&["a"]);
    let with = |image: &str, more: &str| web(image, 3) + more;
    cluster.commit(&[("web.yaml", &with("web:1", ""))]);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    let one_more = "  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n";
    cluster.commit(&[("web.yaml", &with("web:2", one_more))]);
    cluster.agents_act_on_new_pods_only();
    cluster.behaviour = [("web".to_owned(), Behaviour::NeverEnds)].into();
    cluster.commit(&[("web.yaml", &with("web:2", "  strategy: {type: Recreate}\n"))]);
    cluster.settle();
    let paused = "  strategy: {type: Recreate}\n  paused: true\n";
    cluster.commit(&[("web.yaml", &with("web:2", paused))]);
    cluster.settle();
    let active = cluster.pods().iter().filter(|pod| pod.is_active()).count();
    assert_eq!(active, 1, "{:?}", cluster.waits());
    assert_snapshot!(cluster.waits().join("\n"), @"
    Deployment/default/web waits for 3 pods of the old revision to be gone (Recreate)
    Deployment/default/web waits for pod `web-dz6clcrlxq-mr2cq` to end on a
    Deployment/default/web waits for pod `web-dz6clcrlxq-tkvhw` to end on a
    Deployment/default/web waits for pod `web-dz6clcrlxq-wlbpr` to end on a
    ");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(cluster.pods().iter().filter(|pod| pod.is_ready()).count(), 3);
    cluster.ends_quietly();
}

#[test]
fn a_revision_that_was_available_once_is_past_its_deadline_whatever_becomes_of_its_pods() {
    let mut cluster = Cluster::new(&["a"]);
    let quick = |image: &str| web(image, 2) + "  progressDeadlineSeconds: 15\n";
    cluster.commit(&[("web.yaml", &quick("web:1"))]);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/web waits for 2 of 2 pods to be available");
    cluster.pass(Duration::from_secs(60));
    assert_snapshot!(state_of_web(&cluster), @"rolled out, not late");
    // Another revision has its own.
    cluster.commit(&[("web.yaml", &quick("web:2"))]);
    cluster.settle();
    cluster.pass(Duration::from_secs(14));
    assert_snapshot!(state_of_web(&cluster), @"not rolled out, not late");
    cluster.pass(Duration::from_secs(2));
    assert_snapshot!(state_of_web(&cluster), @"not rolled out, late");
    cluster.behaviour.clear();
    cluster.settle();
    assert_snapshot!(state_of_web(&cluster), @"rolled out, not late");
    cluster.ends_quietly();
}

#[test]
fn a_first_revision_has_no_old_one_that_keeps_serving() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.settle();
    let consequences = |cluster: &Cluster| {
        let waits = cluster.all_waits();
        waits.into_iter().map(|wait| wait.consequence).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(consequences(&cluster), @"ProgressDeadlineExceeded; it is still being tried");
}

/// How the Deployment's rollout stands.
fn state_of_web(cluster: &Cluster) -> String {
    let world = cluster.world();
    let state = world.deployments.values().next().unwrap();
    let line = |what: bool, text: &str| if what { text.to_owned() } else { format!("not {text}") };
    format!("{}, {}", line(state.rolled_out, "rolled out"), line(state.deadline_exceeded, "late"))
}

#[test]
fn a_rollout_that_a_config_sets_off_is_not_late_when_it_begins() {
    let mut cluster = Cluster::new(&["a"]);
    let from = "        envFrom: [{configMapRef: {name: settings}}]\n";
    let web = web_with("web:1", 1, from) + "  strategy: {type: Recreate}\n";
    cluster.commit(&[("web.yaml", &web), ("c.yaml", &config("a"))]);
    cluster.settle();
    cluster.pass(Duration::from_secs(3600));
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverEnds);
    cluster.commit(&[("c.yaml", &config("b"))]);
    cluster.settle();
    assert_snapshot!(state_of_web(&cluster), @"rolled out, not late");
    cluster.behaviour.clear();
    cluster.ends_quietly();
}

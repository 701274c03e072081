//! Objects that wait for others, and go on when those are ready or gone.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::plan::WaitKind;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{config, stateful, web, web_with};

/// The Deployment `web`, held back until `on` is healthy.
fn web_after(on: &str) -> String {
    let annotation = format!("name: web\n  annotations: {{kgit.dev/depends-on: {on}}}\nspec");
    web("web:1", 1).replace("name: web\nspec", &annotation)
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: first}\nspec:\n  \
                   containers: [{name: main, image: main:1}]\n";

const SET: &str = "apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: first}
spec:
  selector: {matchLabels: {app: first}}
  template:
    metadata: {labels: {app: first}}
    spec:
      containers: [{name: main, image: main:1}]
";

fn starts_when_ready(kind: &str, first: &str) {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("first".to_owned(), Behaviour::NeverReady);
    let web = web_after(&format!("{kind}/first"));
    cluster.commit(&[("first.yaml", first), ("web.yaml", &web)]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 1, "{kind}");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2, "{:?}", cluster.waits());
    cluster.ends_quietly();
}

#[test]
fn what_depends_on_a_pod_starts_when_the_pod_is_ready() {
    starts_when_ready("Pod", POD);
}

#[test]
fn what_depends_on_a_pod_that_runs_to_an_end_starts_when_it_ended_well() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("first".to_owned(), Behaviour::NeverReady);
    let first = POD.replace("containers", "restartPolicy: OnFailure\n  containers");
    cluster.commit(&[("first.yaml", &first), ("web.yaml", &web_after("Pod/first"))]);
    cluster.settle();
    cluster.seen("first", |seen| seen.ready = true);
    assert_eq!(cluster.pods().len(), 1, "that it serves is not the end of it");
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2, "{:?}", cluster.waits());
}

#[test]
fn what_depends_on_a_replica_set_starts_when_the_set_is_available() {
    starts_when_ready("ReplicaSet", SET);
}

#[test]
fn removing_an_optional_config_rolls_the_pods_that_had_it() {
    let mut cluster = Cluster::new(&["a"]);
    let from = "        envFrom: [{configMapRef: {name: settings, optional: true}}]\n";
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, from)), ("c.yaml", &config("a"))]);
    cluster.settle();
    cluster.commit(&[("c.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    - delete    ConfigMap/default/settings
    + create    ReplicaSet/default/web-892r59wkdl  revision 2
    + create    Pod/default/web-892r59wkdl-tdlgq  on a
    ~ scale     ReplicaSet/default/web-lnlrvlkwr9  1 → 0
    - stop      Pod/default/web-lnlrvlkwr9-8h5bb  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn removing_a_needed_config_is_said_at_once() {
    let mut cluster = Cluster::new(&["a"]);
    let from = "        envFrom: [{configMapRef: {name: settings}}]\n";
    let other = config("a").replace("settings", "other");
    cluster.commit(&[("other.yaml", &other), ("c.yaml", &config("a"))]);
    cluster.commit(&[("web.yaml", &web_with("web:1", 1, from))]);
    cluster.settle();
    cluster.commit(&[("c.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Deployment/default/web waits for ConfigMap/default/settings, which does not exist");
    cluster.commit(&[("c.yaml", &config("a"))]);
    cluster.ends_quietly();
}

#[test]
fn what_depends_on_a_service_starts_when_that_has_its_address() {
    let mut cluster = Cluster::new(&["a"]);
    let mut about = cluster.world().nodes.values().next().unwrap().observed.clone();
    about.facts.addresses = vec!["192.0.2.1".to_owned()];
    cluster.report("a", Some(about), Vec::new());
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, \
             selector: {{app: web}}, ports: [{{port: 80, nodePort: 30123}}]}}\n"
        )
    };
    cluster.commit(&[("rival.yaml", &service("rival"))]);
    cluster.commit(&[("first.yaml", &service("first")), ("web.yaml", &web_after("Service/first"))]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 0, "{:?}", cluster.waits());
    cluster.commit(&[("rival.yaml", "")]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 1, "{:?}", cluster.waits());
    cluster.ends_quietly();
}

#[test]
fn what_is_depended_on_for_too_long_is_said_to_be_in_the_way() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("first".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("first.yaml", POD), ("web.yaml", &web_after("Pod/first"))]);
    cluster.settle();
    let kind = |cluster: &Cluster| {
        let mut waits = cluster.all_waits();
        waits.retain(|it| *it.object.name == *"web");
        waits[0].kind
    };
    assert_eq!(kind(&cluster), WaitKind::Progress);
    cluster.pass(Duration::from_secs(601));
    assert_eq!(kind(&cluster), WaitKind::Blocked);
}

#[test]
fn only_the_first_pods_of_a_stateful_sets_revision_wait_for_what_it_depends_on() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.behaviour.insert("first".to_owned(), Behaviour::NeverReady);
    let db = |image: &str, replicas: u32| {
        let annotation = "name: db\n  annotations: {kgit.dev/depends-on: Pod/first}\nspec";
        stateful(image, replicas, "").replace("name: db\nspec", annotation)
    };
    cluster.commit(&[("first.yaml", POD), ("db.yaml", &db("db:1", 1))]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 1, "{:?}", cluster.waits());
    cluster.behaviour.clear();
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2, "{:?}", cluster.waits());
    // What is running grows all the same.
    cluster.behaviour.insert("first".to_owned(), Behaviour::NeverReady);
    cluster.settle();
    cluster.commit(&[("db.yaml", &db("db:1", 2))]);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 3, "{:?}", cluster.waits());
    cluster.commit(&[("db.yaml", &db("db:2", 2))]);
    cluster.settle();
    let old = cluster.pods().iter().filter(|it| it.template.containers[0].image == "db:1").count();
    assert_eq!(old, 2, "{:?}", cluster.waits());
}

//! What readers see of StatefulSets, DaemonSets and their revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::{DaemonSetState, ReplicaStatus, Revision, StatefulSetState};
use crate::domain::resource::{IntOrPercent, Spec};
use crate::domain::selector::Selector;
use crate::domain::workload::{
    ClaimRetention, DaemonSetSpec, DaemonUpdate, StatefulSetSpec, StatefulUpdate,
};
use crate::domain::world::{Effect, Record, World};
use crate::kube::fixture::{
    NOW, THEN, applied, heartbeats, labels, template, template_json, world,
};
use crate::kube::json::{object, text};
use crate::kube::own_fixture::waits;
use crate::kube::resource_type::by_word;
use crate::kube::seen::{Heard, SecretValues, Seen, get, keys, of_row};
use crate::kube::table::{IncludeObject, Wide, table};

fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, "default", name)
}

pub(super) fn with_sets() -> World {
    let (db, log) = (key(Kind::StatefulSet, "db"), key(Kind::DaemonSet, "log"));
    let spec = |app: &str| {
        json!({
            "selector": {"matchLabels": {"app": app}},
            "template": template_json(app, &format!("{app}:2")),
        })
    };
    let manifest = |app: &str| json!({"metadata": {"name": app}, "spec": spec(app)});
    let rows = [
        (db.clone(), Record::Object(Arc::new(applied(db.clone(), stateful(), manifest("db"))))),
        (db.clone(), Record::StatefulSet(Arc::new(stateful_state()))),
        revision(&db, 1, "bbbbb"),
        revision(&db, 2, "ccccc"),
        (log.clone(), Record::Object(Arc::new(applied(log.clone(), daemon(), manifest("log"))))),
        (log.clone(), Record::DaemonSet(Arc::new(daemon_state()))),
        revision(&log, 1, "bbbbb"),
    ];
    let mut world = world();
    for (number, (key, record)) in rows.into_iter().enumerate() {
        world.apply(&Effect::Put(key, record), number as u64 + 100);
    }
    world
}

fn stateful() -> Spec {
    Spec::StatefulSet(StatefulSetSpec {
        replicas: 1,
        selector: Selector::from_labels(&labels("db")),
        service: "db".to_owned(),
        template: template("db", "db:2"),
        parallel: false,
        update: StatefulUpdate::RollingUpdate {
            partition: 0,
            max_unavailable: IntOrPercent::Int(1),
        },
        min_ready_seconds: 0,
        revision_history_limit: 10,
        claims: Vec::new(),
        retention: ClaimRetention::default(),
        first_ordinal: 0,
    })
}

fn stateful_state() -> StatefulSetState {
    StatefulSetState {
        observed_generation: 1,
        collisions: 0,
        current_revision: "db-bbbbb".to_owned(),
        update_revision: "db-ccccc".to_owned(),
        status: ReplicaStatus { replicas: 1, updated: 0, ready: 1, available: 1 },
        current: 1,
    }
}

fn daemon() -> Spec {
    Spec::DaemonSet(DaemonSetSpec {
        selector: Selector::from_labels(&labels("log")),
        template: template("log", "log:2"),
        update: DaemonUpdate::OnDelete,
        min_ready_seconds: 0,
        revision_history_limit: 10,
    })
}

fn daemon_state() -> DaemonSetState {
    DaemonSetState {
        observed_generation: 1,
        desired: 3,
        current: 2,
        misscheduled: 1,
        updated: 2,
        ready: 2,
        available: 1,
        ..DaemonSetState::default()
    }
}

fn revision(owner: &ObjectKey, number: u64, hash: &str) -> (ObjectKey, Record) {
    let key = key(Kind::ControllerRevision, &format!("{}-{hash}", owner.name));
    let template = template(&owner.name, &format!("{}:{number}", owner.name));
    let revision = Revision {
        key: key.clone(),
        uid: format!("uid-of-{}", key.name),
        owner: owner.clone(),
        created: THEN,
        number,
        revision_digest: template.digest(),
        template,
        hash: hash.to_owned(),
        configs: BTreeMap::new(),
    };
    (key, Record::Revision(Arc::new(revision)))
}

fn seen<T>(of: impl FnOnce(&Seen<'_>) -> T) -> T {
    let (world, waits, heartbeats) = (with_sets(), waits(), heartbeats());
    let usages = imbl::OrdMap::new();
    let heard = Heard { heartbeats: &heartbeats, lease_seconds: 40, usages: &usages };
    let secrets = SecretValues::Masked;
    of(&Seen { world: &world, waits: &waits, now: NOW, secrets, heard })
}

fn shown(word: &str) -> String {
    seen(|seen| {
        let ty = by_word(word).unwrap();
        let rows = keys(seen, ty.noun, None);
        let objects: Vec<_> = rows.iter().flat_map(|key| of_row(seen, ty.noun, key)).collect();
        let table = table(ty.noun, &objects, json!({}), IncludeObject::None, NOW);
        crate::kube::table::text(&table, Wide::Yes, &[])
    })
}

fn one(word: &str, name: &str) -> Value {
    seen(|seen| get(seen, by_word(word).unwrap(), "default", name).unwrap().object)
}

#[test]
fn tables_of_sets_have_the_columns_that_people_know() {
    insta::assert_snapshot!(shown("sts"), @"
    NAME   READY   AGE   CONTAINERS   IMAGES
    db     1/1     60m   db           db:2
    ");
    insta::assert_snapshot!(shown("ds"), @"
    NAME   DESIRED   CURRENT   READY   UP-TO-DATE   AVAILABLE   NODE SELECTOR   AGE   CONTAINERS   IMAGES   SELECTOR
    log    3         2         2       2            1           <none>          60m   log          log:2    app=log
    ");
    insta::assert_snapshot!(shown("controllerrevisions"), @"
    NAME        CONTROLLER            REVISION   AGE
    db-bbbbb    statefulset.apps/db   1          60m
    db-ccccc    statefulset.apps/db   2          60m
    log-bbbbb   daemonset.apps/log    1          60m
    ");
}

#[test]
fn a_set_tells_its_counts_and_its_revisions() {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    insta::assert_snapshot!(pretty(&one("sts", "db")["status"]), @r#"
    {
      "availableReplicas": 1,
      "collisionCount": 0,
      "currentReplicas": 1,
      "currentRevision": "db-bbbbb",
      "observedGeneration": 1,
      "readyReplicas": 1,
      "replicas": 1,
      "updateRevision": "db-ccccc"
    }
    "#);
    insta::assert_snapshot!(pretty(&one("ds", "log")["status"]), @r#"
    {
      "currentNumberScheduled": 2,
      "desiredNumberScheduled": 3,
      "numberAvailable": 1,
      "numberMisscheduled": 1,
      "numberReady": 2,
      "numberUnavailable": 2,
      "observedGeneration": 1,
      "updatedNumberScheduled": 2
    }
    "#);
    let strategy = |word, name| one(word, name)["spec"]["updateStrategy"].clone();
    assert_eq!(
        strategy("sts", "db"),
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
}

#[test]
fn a_revision_carries_the_template_that_replaces_its_owners() {
    let revision = one("controllerrevisions", "db-ccccc");
    let mut template = revision["data"]["spec"]["template"].clone();
    assert_eq!(object(&mut template).remove("$patch"), Some(json!("replace")));
    object(&mut template["metadata"]).remove("creationTimestamp");
    assert_eq!(template, one("sts", "db")["spec"]["template"]);
    assert_eq!(text(&revision, "/metadata/labels/app"), "db");
    assert_eq!(text(&revision, "/metadata/ownerReferences/0/uid"), "uid-of-db");
    let old = one("controllerrevisions", "db-bbbbb");
    assert_eq!(old["data"]["spec"]["template"]["spec"]["containers"][0]["image"], "db:1");
}

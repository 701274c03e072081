//! What readers see of a World, as text.

use serde_json::{Value, json};

use crate::kube::fixture::{NOW, heartbeats, usages, world};
use crate::kube::own_fixture::{held, reconciles, source, waits};
use crate::kube::reconcile::{show_components, show_plans, show_reconcile, show_source};
use crate::kube::resource_type::{Noun, ResourceType, SERVED, by_word};
use crate::kube::seen::{Heard, SecretValues, Seen, get, keys, of_row};
use crate::kube::sets_tests::with_sets;
use crate::kube::table::{IncludeObject, table};

/// The wide table of a resource type, in columns.
fn shown(ty: &ResourceType) -> String {
    let (mut world, waits, heartbeats) = (with_sets(), waits(), heartbeats());
    let usages = usages();
    std::sync::Arc::make_mut(&mut world.meta).held = Some(held());
    let heard = Heard { heartbeats: &heartbeats, lease_seconds: 40, usages: &usages };
    let secrets = SecretValues::Masked;
    let seen = Seen { world: &world, waits: &waits, now: NOW, secrets, heard };
    let objects = match ty.noun {
        Noun::Recorded(_)
        | Noun::Endpoints
        | Noun::EndpointSlice
        | Noun::Lease
        | Noun::Event
        | Noun::NodeMetrics
        | Noun::PodMetrics => {
            keys(&seen, ty.noun, None).iter().flat_map(|key| of_row(&seen, ty.noun, key)).collect()
        }
        Noun::ComponentStatus => show_components(None, Some("the folder is not there".to_owned())),
        Noun::Reconcile => reconciles().iter().filter_map(|run| show_reconcile(run)).collect(),
        Noun::Plan => show_plans(&seen),
        Noun::Source => vec![show_source(&source(), world.version)],
    };
    let table = table(ty.noun, &objects, json!({}), IncludeObject::None, NOW);
    crate::kube::table::text(&table, crate::kube::table::Wide::Yes, &[])
}

fn object(word: &str, namespace: &str, name: &str) -> Value {
    let (world, waits, heartbeats) = (world(), waits(), heartbeats());
    let usages = usages();
    let heard = Heard { heartbeats: &heartbeats, lease_seconds: 40, usages: &usages };
    let secrets = SecretValues::Masked;
    let seen = Seen { world: &world, waits: &waits, now: NOW, secrets, heard };
    get(&seen, by_word(word).unwrap(), namespace, name).unwrap().object
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

/// A new resource type needs an object in the fixture, and its table in the snapshot.
#[test]
fn every_types_wide_table_has_the_columns_that_people_know() {
    let mut all = String::new();
    for ty in &SERVED {
        let table = shown(ty);
        assert!(table.lines().count() > 1, "nothing is shown of {}", ty.plural);
        all += &format!("$ kubectl get {} -o wide\n{table}\n", ty.plural);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_nodes_conditions_carry_its_last_heartbeat_and_so_does_its_lease() {
    let node = object("node", "", "a");
    let conditions = crate::kube::json::items(&node, "/status/conditions");
    let heard = conditions.iter().map(|condition| &condition["lastHeartbeatTime"]);
    assert!(heard.clone().count() > 0);
    assert!(heard.clone().all(|at| at == "2025-12-31T23:59:59Z"), "{conditions:?}");
    let lease = object("lease", "kube-node-lease", "a");
    let spec = json!({
        "holderIdentity": "a",
        "leaseDurationSeconds": 40,
        "renewTime": "2025-12-31T23:59:59.000000Z",
    });
    assert_eq!(lease["spec"], spec);
}

#[test]
fn a_deployment_is_shown_with_defaults_conditions_and_where_it_comes_from() {
    insta::assert_snapshot!(pretty(&object("deploy", "default", "web")));
}

#[test]
fn a_pod_is_shown_with_its_owner_node_and_containers() {
    insta::assert_snapshot!(pretty(&object("pod", "default", "web-7c5ddbdf54-ccccc")));
}

#[test]
fn a_pod_without_a_node_is_pending_and_unscheduled() {
    insta::assert_snapshot!(pretty(&object("pod", "default", "lonely")["status"]));
}

#[test]
fn a_current_revision_has_the_deployments_template_and_its_hash() {
    let deployment = object("deploy", "default", "web");
    let mut set = object("rs", "default", "web-7c5ddbdf54");
    let labels = crate::kube::json::object(&mut set["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(labels.remove("pod-template-hash"), Some(json!("7c5ddbdf54")));
    assert_eq!(set["spec"]["template"], deployment["spec"]["template"]);
    let old = object("rs", "default", "web-5d59d67564");
    assert_eq!(old["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:1.26");
}

#[test]
fn a_secrets_value_is_masked_for_those_who_may_not_see_it() {
    assert_eq!(object("secret", "default", "password")["data"], json!({"word": "KioqKio="}));
}

//! What readers see of a World, as text.

use serde_json::{Value, json};

use crate::kube::fixture::{NOW, heartbeats, waits, world};
use crate::kube::resource_type::by_word;
use crate::kube::seen::{Heard, SecretValues, Seen, get, keys, of_row};
use crate::kube::table::{IncludeObject, table};

/// The wide table of a resource type, in columns.
fn shown(word: &str) -> String {
    let (world, waits, heartbeats) = (world(), waits(), heartbeats());
    let heard = Heard { heartbeats: &heartbeats, lease_seconds: 40 };
    let secrets = SecretValues::Masked;
    let seen = Seen { world: &world, waits: &waits, now: NOW, secrets, heard };
    let ty = by_word(word).unwrap();
    let objects: Vec<_> =
        keys(&seen, ty.noun, None).iter().flat_map(|key| of_row(&seen, ty.noun, key)).collect();
    let table = table(ty.noun, &objects, json!({}), IncludeObject::None, NOW);
    crate::kube::table::text(&table, crate::kube::table::Wide::Yes, &[])
}

fn object(word: &str, namespace: &str, name: &str) -> Value {
    let (world, waits, heartbeats) = (world(), waits(), heartbeats());
    let heard = Heard { heartbeats: &heartbeats, lease_seconds: 40 };
    let secrets = SecretValues::Masked;
    let seen = Seen { world: &world, waits: &waits, now: NOW, secrets, heard };
    get(&seen, by_word(word).unwrap(), namespace, name).unwrap().object
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[test]
fn tables_of_workloads_have_the_columns_that_people_know() {
    insta::assert_snapshot!(shown("deployments"), @"
    NAME   READY   UP-TO-DATE   AVAILABLE   AGE   CONTAINERS   IMAGES       SELECTOR
    web    2/3     3            2           60m   web          nginx:1.27   app=web
    ");
    insta::assert_snapshot!(shown("replicasets"), @"
    NAME             DESIRED   CURRENT   READY   AGE   CONTAINERS   IMAGES       SELECTOR
    web-5d59d67564   0         0         0       60m   web          nginx:1.26   app=web,pod-template-hash=5d59d67564
    web-7c5ddbdf54   3         3         2       60m   web          nginx:1.27   app=web,pod-template-hash=7c5ddbdf54
    ");
    insta::assert_snapshot!(shown("pods"), @"
    NAME                   READY   STATUS             RESTARTS      AGE   IP          NODE     NOMINATED NODE   READINESS GATES
    lonely                 0/1     Pending            0             60m   <none>      <none>   <none>           <none>
    web-7c5ddbdf54-aaaaa   1/1     Running            0             60m   10.42.0.7   a        <none>           <none>
    web-7c5ddbdf54-bbbbb   1/1     Running            0             60m   10.42.0.7   a        <none>           <none>
    web-7c5ddbdf54-ccccc   0/1     CrashLoopBackOff   4 (60s ago)   60m   10.42.0.7   a        <none>           <none>
    ");
    insta::assert_snapshot!(shown("jobs"), @"
    NAME      STATUS     COMPLETIONS   DURATION   AGE   CONTAINERS   IMAGES      SELECTOR
    migrate   Complete   1/1           42s        60m   migrate      busybox:1   batch.kubernetes.io/controller-uid=uid-of-migrate
    ");
}

#[test]
fn tables_of_what_workloads_stand_on_have_the_columns_that_people_know() {
    insta::assert_snapshot!(shown("namespaces"), @"
    NAME              STATUS   AGE
    default           Active   60m
    kube-node-lease   Active   60m
    kube-public       Active   60m
    kube-system       Active   60m
    ");
    insta::assert_snapshot!(shown("sc"), @"
    NAME                   PROVISIONER              RECLAIMPOLICY   VOLUMEBINDINGMODE      ALLOWVOLUMEEXPANSION   AGE
    kgit-local (default)   kgit.dev/docker-volume   Delete          WaitForFirstConsumer   false                  60m
    ");
    insta::assert_snapshot!(shown("pv"), @"
    NAME   CAPACITY   ACCESS MODES   RECLAIM POLICY   STATUS   CLAIM          STORAGECLASS   VOLUMEATTRIBUTESCLASS   REASON   AGE   VOLUMEMODE
    disk   5Gi        RWO            Retain           Bound    default/data   manual         <unset>                          60m   Filesystem
    ");
    insta::assert_snapshot!(shown("pvc"), @"
    NAME           STATUS    VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS   VOLUMEATTRIBUTESCLASS   AGE   VOLUMEMODE
    data           Bound     disk     5Gi        RWO            manual         <unset>                 60m   Filesystem
    nothing-fits   Pending                                      kgit-local     <unset>                 60m   Filesystem
    ");
    insta::assert_snapshot!(shown("cm"), @"
    NAME       DATA   AGE
    settings   1      60m
    ");
    insta::assert_snapshot!(shown("secrets"), @"
    NAME       TYPE     DATA   AGE
    password   Opaque   1      60m
    ");
    insta::assert_snapshot!(shown("svc"), @"
    NAME     TYPE           CLUSTER-IP   EXTERNAL-IP    PORT(S)        AGE   SELECTOR
    public   LoadBalancer   10.43.0.10   192.168.1.10   80:30081/TCP   60m   app=public
    web      NodePort       10.43.0.9    <none>         80:30080/TCP   60m   app=web
    ");
    insta::assert_snapshot!(shown("nodes"), @"
    NAME   STATUS   ROLES    AGE   VERSION   INTERNAL-IP    EXTERNAL-IP   OS-IMAGE              KERNEL-VERSION   CONTAINER-RUNTIME
    a      Ready    <none>   60m   0.1.0     192.168.1.10   <none>        Debian GNU/Linux 12   6.1.0            docker://28.2.2
    ");
    insta::assert_snapshot!(shown("events"), @"
    LAST SEEN           TYPE      REASON             OBJECT                               SUBOBJECT              SOURCE                        MESSAGE                                                        FIRST SEEN   COUNT   NAME
    0s                  Warning   FailedBinding      persistentvolumeclaim/nothing-fits                          persistentvolume-controller   waits for a volume; until then pods that use it do not start   60m          1       nothing-fits.019b76a3b980f1db9e65
    0s                  Warning   FailedScheduling   pod/lonely                                                  default-scheduler             0/1 nodes are available: 1 Insufficient cpu.                   60m          1       lonely.019b76a3b980f2c869a0
    60s (x4 over 60m)   Warning   BackOff            pod/web-7c5ddbdf54-ccccc             spec.containers{web}   kgit-agent                    Back-off restarting failed container web                       60m          4       web-7c5ddbdf54-ccccc.019b76a3b980f0cb20f3
    ");
}

#[test]
fn tables_of_what_is_derived_have_the_columns_that_people_know() {
    insta::assert_snapshot!(shown("leases"), @"
    NAME   HOLDER   AGE
    a      a        60m
    ");
    insta::assert_snapshot!(shown("endpoints"), @"
    NAME     ENDPOINTS        AGE
    public   <none>           60m
    web      10.42.0.7:8080   60m
    ");
    insta::assert_snapshot!(shown("endpointslices"), @"
    NAME           ADDRESSTYPE   PORTS     ENDPOINTS             AGE
    public-uidof   IPv4          <unset>   <unset>               60m
    web-uidof      IPv4          8080      10.42.0.7,10.42.0.7   60m
    ");
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

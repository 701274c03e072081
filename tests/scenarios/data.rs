//! Claims and volumes: bound, provisioned, retained.

use insta::assert_snapshot;
use kgit::domain::node_order::NodeOrder;

use crate::cluster::Cluster;
use crate::manifests::{claim, config, pod_with_claim, stateful, volume, web, web_with};

#[test]
fn a_static_volume_is_bound_and_used() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[
        ("pv.yaml", &volume("pv-volume", "manual", "2Gi")),
        ("pvc.yaml", &claim("pv-claim", "  storageClassName: manual\n")),
        ("pod.yaml", &pod_with_claim("volume-test", "pv-claim")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolume/pv-volume
    + create    PersistentVolumeClaim/default/pv-claim
    + create    Pod/default/volume-test
    ~ bind      PersistentVolumeClaim/default/pv-claim  to pv-volume
    + create    Pod/default/volume-test  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_claim_that_nothing_matches_stays_pending_and_says_why() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[
        ("pv.yaml", &volume("small", "manual", "500Mi")),
        ("pv2.yaml", &volume("other", "fast", "5Gi")),
        ("pvc.yaml", &claim("data", "  storageClassName: manual\n")),
        ("pod.yaml", &pod_with_claim("reader", "data")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    PersistentVolumeClaim/default/data waits for a PersistentVolume of class `manual` with 1Gi and ReadWriteOnce: `small` has 500Mi, `other` is of class `fast`
    Pod/default/reader waits for a place for pod `reader`: claim `data` to be bound, which needs a PersistentVolume of class `manual` with 1Gi and ReadWriteOnce: `small` has 500Mi, `other` is of class `fast`
    ");
    cluster.commit(&[("pv3.yaml", &volume("large", "manual", "1Gi"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolume/large
    ~ bind      PersistentVolumeClaim/default/data  to large
    ~ place     Pod/default/reader  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_claim_of_the_default_class_is_provisioned_where_its_pod_goes() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[
        ("pvc.yaml", &claim("data", "")),
        ("pod.yaml", &pod_with_claim("writer", "data")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolumeClaim/default/data
    + create    Pod/default/writer
    + provision PersistentVolumeClaim/default/data  on b
    + create    Pod/default/writer  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    let node = cluster.pods()[0].node().cloned();
    cluster.commit(&[("pod2.yaml", &pod_with_claim("reader", "data"))]);
    cluster.settle();
    assert!(cluster.pods().iter().all(|pod| pod.node() == node.as_ref()));
    cluster.ends_quietly();
}

#[test]
fn data_outlives_its_manifests() {
    let mut cluster = Cluster::new(&["a"]);
    let files = [("pvc.yaml", claim("data", "")), ("pod.yaml", pod_with_claim("writer", "data"))];
    let web = web("web:1", 1);
    cluster.commit(&[("web.yaml", &web), ("pvc.yaml", &files[0].1), ("pod.yaml", &files[1].1)]);
    cluster.settle();
    let before = cluster.pods().iter().find(|pod| &*pod.key.name == "writer").unwrap().clone();
    cluster.commit(&[("pvc.yaml", ""), ("pod.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ retain    PersistentVolumeClaim/default/data
    - delete    Pod/default/writer
    - stop      Pod/default/writer  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.commit(&[("data.yaml", &files[0].1), ("pod.yaml", &files[1].1)]);
    cluster.settle();
    assert_eq!(cluster.file_of("PersistentVolumeClaim", "data"), "data.yaml");
    assert_snapshot!(cluster.last_reconcile(), @"
    + restore   PersistentVolumeClaim/default/data
    + restore   Pod/default/writer
    + create    Pod/default/writer  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    let after = cluster.pods().iter().find(|pod| &*pod.key.name == "writer").unwrap().clone();
    let volumes =
        |pod: &kgit::domain::record::Pod| pod.placed.as_ref().unwrap().spec.volumes.clone();
    assert_eq!(volumes(&before), volumes(&after));
    cluster.ends_quietly();
}

#[test]
fn a_claim_that_was_pruned_and_is_made_again_has_data_of_its_own() {
    let mut cluster = Cluster::new(&["a"]);
    let files = [("pvc.yaml", claim("data", "")), ("pod.yaml", pod_with_claim("writer", "data"))];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    cluster.commit(&[("web.yaml", &web("web:1", 1))]);
    cluster.commit(&files);
    cluster.settle();
    cluster.commit(&[("pvc.yaml", ""), ("pod.yaml", "")]);
    cluster.settle();
    cluster.prune(&["PersistentVolumeClaim/default/data"]);
    cluster.commit(&files);
    cluster.settle();
    // The node has not carried the removal out yet.
    let orders = cluster.orders("a");
    let used: Vec<_> = orders.pods.values().flat_map(|pod| &pod.spec.volumes).collect();
    let [old] = orders.remove_volumes.as_slice() else { panic!("{:?}", orders.remove_volumes) };
    assert_eq!(used.len(), 1);
    assert!(!format!("{used:?}").contains(old), "{used:?} is about to be removed");
    cluster.ends_quietly();
}

#[test]
fn a_released_volume_keeps_its_data_from_a_later_claim_of_the_same_name() {
    let mut cluster = Cluster::new(&["a"]);
    let claim = claim("data", "  storageClassName: manual\n");
    cluster.commit(&[("pv.yaml", &volume("old", "manual", "1Gi")), ("pvc.yaml", &claim)]);
    cluster.settle();
    cluster.commit(&[("pvc.yaml", "")]);
    cluster.commit(&[("pvc.yaml", &claim)]);
    assert!(cluster.waits().is_empty(), "put back, it has its data: {:?}", cluster.waits());
    cluster.commit(&[("pvc.yaml", "")]);
    cluster.prune(&["PersistentVolumeClaim/default/data"]);
    cluster.commit(&[("pvc.yaml", &claim)]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"PersistentVolumeClaim/default/data waits for a PersistentVolume of class `manual` with 1Gi and ReadWriteOnce: `old` holds another claim's data");
}

#[test]
fn a_claim_whose_volume_was_pruned_stays_lost_and_says_so() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[
        ("pv.yaml", &volume("first", "manual", "1Gi")),
        ("pvc.yaml", &claim("data", "  storageClassName: manual\n")),
        ("pod.yaml", &pod_with_claim("writer", "data")),
    ]);
    cluster.settle();
    cluster.commit(&[("pv.yaml", "")]);
    cluster.settle();
    cluster.prune(&["PersistentVolume/first"]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"PersistentVolumeClaim/default/data waits for PersistentVolume `first`, which is gone (once no pod runs with it, `kgit prune PersistentVolumeClaim/default/data` gives it up)");
    let refused = cluster.try_prune(&["PersistentVolumeClaim/default/data"]).unwrap_err();
    assert_snapshot!(refused.message, @"PersistentVolumeClaim/default/data is used by Pod/default/writer, which has to end first");
    cluster.commit(&[("pv2.yaml", &volume("second", "manual", "1Gi"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolume/second
    finished: 0 deviations, 0 missing, superseded false
    PersistentVolumeClaim/default/data waits for PersistentVolume `first`, which is gone (once no pod runs with it, `kgit prune PersistentVolumeClaim/default/data` gives it up)
    ");
    assert_snapshot!(cluster.waits().join("\n"), @"PersistentVolumeClaim/default/data waits for PersistentVolume `first`, which is gone (once no pod runs with it, `kgit prune PersistentVolumeClaim/default/data` gives it up)");
}

/// A class whose volumes are bound when a pod is placed, and one of its volumes, on a node.
fn local(name: &str, node: &str, size: &str) -> String {
    let class = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: local}\n\
                 provisioner: kubernetes.io/no-provisioner\n\
                 volumeBindingMode: WaitForFirstConsumer\n";
    let volume = volume(name, "local", size);
    let terms = format!("{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}");
    let affinity = format!(
        "  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{terms}]}}]}}}}\n"
    );
    match name {
        "first" => format!("{class}---\n{volume}{affinity}"),
        _ => format!("{volume}{affinity}"),
    }
}

/// A Pod on a node that mounts two claims.
fn pod_with_two_claims(node: &str) -> String {
    pod_with_claim("both", "one")
        .replace("spec:\n", &format!("spec:\n  nodeName: {node}\n"))
        .replace("mountPath: /data}", "mountPath: /data}, {name: more, mountPath: /more}")
        + "  - name: more\n    persistentVolumeClaim: {claimName: two}\n"
}

#[test]
fn volumes_are_chosen_on_the_node_of_the_pod_and_none_twice() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let class = "  storageClassName: local\n";
    cluster.commit(&[
        ("first.yaml", &local("first", "a", "1Gi")),
        ("second.yaml", &local("second", "b", "2Gi")),
        ("one.yaml", &claim("one", class)),
        ("two.yaml", &claim("two", class)),
        ("pod.yaml", &pod_with_two_claims("b")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/both waits for a place for pod `both`: 0/2 nodes are available: 1 node(s) didn't find available persistent volumes to bind, 1 node(s) didn't match the requested node name");
    cluster.commit(&[("third.yaml", &local("third", "b", "3Gi"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolume/third
    ~ bind      PersistentVolumeClaim/default/one  to second
    ~ bind      PersistentVolumeClaim/default/two  to third
    ~ place     Pod/default/both  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn nothing_is_bound_for_a_pod_that_comes_to_nothing() {
    let mut cluster = Cluster::new(&["a"]);
    let class = "  storageClassName: local\n";
    let from = "{configMapKeyRef: {name: settings, key: MODE}}";
    let pod = pod_with_claim("reader", "data").replace(
        "    image: main:1\n",
        &format!("    image: main:1\n    env: [{{name: MODE, valueFrom: {from}}}]\n"),
    );
    cluster.commit(&[
        ("settings.yaml", &config("a")),
        ("data.yaml", &claim("data", class)),
        ("pod.yaml", &pod),
    ]);
    // The key goes while the pod waits for a volume, and then the volume comes.
    cluster.commit(&[("settings.yaml", &config("a").replace("MODE", "OTHER"))]);
    cluster.commit(&[("first.yaml", &local("first", "a", "1Gi"))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/reader waits for a place for pod `reader`: ConfigMap `settings` to have the key `MODE`");
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    StorageClass/local
    + create    PersistentVolume/first
    + create    PersistentVolumeClaim/default/data
    finished: 0 deviations, 0 missing, superseded false
    Pod/default/reader waits for a place for pod `reader`: ConfigMap `settings` to have the key `MODE`
    ");
    cluster.commit(&[("settings.yaml", &config("a"))]);
    cluster.ends_quietly();
    assert_eq!(cluster.pods().len(), 1);
}

#[test]
fn replicas_that_share_a_claim_of_one_node_all_go_there() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let mounts = "        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";
    let web = web_with("web:1", 3, mounts);
    cluster.commit(&[("web.yaml", &web), ("claim.yaml", &claim("data", ""))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolumeClaim/default/data
    + create    Deployment/default/web
    + create    ReplicaSet/default/web-5qkhpjqdmn  revision 1
    + provision PersistentVolumeClaim/default/data  on b
    + create    Pod/default/web-5qkhpjqdmn-f2k9r  on b
    + create    Pod/default/web-5qkhpjqdmn-xl5wp  on b
    + create    Pod/default/web-5qkhpjqdmn-qdvtf  on b
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn what_a_changed_manifest_does_not_change_is_said_with_the_change() {
    let mut cluster = Cluster::new(&["a"]);
    let files = |size: &str, image: &str| {
        let of_size = |text: String| text.replace("storage: 1Gi", &format!("storage: {size}"));
        let pod = pod_with_claim("main", "data");
        [pod, of_size(claim("data", "")), of_size(stateful(image, 1, ""))].join("---\n")
    };
    cluster.commit(&[("all.yaml", &files("1Gi", "db:1"))]);
    cluster.settle();
    assert_snapshot!(cluster.diff(&[("all.yaml", &files("2Gi", "db:1"))]), @"
    ~ update    PersistentVolumeClaim/default/data  its volume stays as it is
    ~ update    StatefulSet/default/db  claims that there are stay as they are
    ");
    cluster.commit(&[("all.yaml", &files("2Gi", "db:1"))]);
    cluster.settle();
    // A change of something else says nothing of them.
    assert!(!cluster.diff(&[("all.yaml", &files("2Gi", "db:2"))]).contains("as they are"));
    cluster.ends_quietly();
}

/// A volume of the class that volumes are made for, kept for the claim `data`.
fn reserved(size: &str) -> String {
    volume("old", "kgit-local", size) + "  claimRef: {namespace: default, name: data}\n"
}

/// A pod that uses that claim, and such a volume.
fn reading_what_is_kept(size: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[
        ("pv.yaml", &reserved(size)),
        ("pvc.yaml", &claim("data", "")),
        ("pod.yaml", &pod_with_claim("reader", "data")),
    ]);
    cluster.settle();
    cluster
}

#[test]
fn a_volume_that_is_kept_for_a_claim_comes_before_a_new_one() {
    let mut cluster = reading_what_is_kept("1Gi");
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolume/old
    + create    PersistentVolumeClaim/default/data
    + create    Pod/default/reader
    ~ bind      PersistentVolumeClaim/default/data  to old
    + create    Pod/default/reader  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_claim_gets_no_empty_volume_where_one_is_kept_for_it_that_does_not_fit() {
    let mut cluster = reading_what_is_kept("1Mi");
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/reader waits for a place for pod `reader`: claim `data` to be bound, which needs a PersistentVolume of class `kgit-local` with 1Gi and ReadWriteOnce: `old` has 1Mi");
    cluster.commit(&[("pv.yaml", &reserved("2Gi"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    PersistentVolume/old
    ~ bind      PersistentVolumeClaim/default/data  to old
    ~ place     Pod/default/reader  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn a_claim_waits_for_the_node_of_the_volume_that_is_kept_for_it() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let here = "  nodeAffinity: {required: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, \
                operator: In, values: [a]}]}]}}\n";
    let pinned = reserved("1Gi") + here;
    let spare = volume("spare", "kgit-local", "1Gi");
    cluster.order("a", NodeOrder::Cordon).unwrap();
    cluster.commit(&[
        ("pv.yaml", &pinned),
        ("spare.yaml", &spare),
        ("pvc.yaml", &claim("data", "")),
        ("pod.yaml", &pod_with_claim("reader", "data")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/reader waits for a place for pod `reader`: 0/2 nodes are available: 1 node(s) didn't find available persistent volumes to bind, 1 node(s) were unschedulable");
    cluster.order("a", NodeOrder::Uncordon).unwrap();
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ bind      PersistentVolumeClaim/default/data  to old
    ~ place     Pod/default/reader  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn what_is_kept_of_a_volume_without_a_manifest_is_offered_to_nobody() {
    let mut cluster = Cluster::new(&["a"]);
    let keeper = config("a");
    cluster.commit(&[("pv.yaml", &reserved("1Mi")), ("keeper.yaml", &keeper)]);
    cluster.settle();
    cluster.commit(&[
        ("pvc.yaml", &claim("data", "")),
        ("pod.yaml", &pod_with_claim("reader", "data")),
    ]);
    cluster.settle();
    assert!(!cluster.waits().is_empty());
    cluster.commit(&[("pv.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ retain    PersistentVolume/old
    + provision PersistentVolumeClaim/default/data  on a
    ~ place     Pod/default/reader  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn static_volumes_of_a_class_are_used_up_before_others_are_made() {
    let mut cluster = Cluster::new(&["a"]);
    let files = [
        ("pv.yaml", volume("there", "kgit-local", "1Gi")),
        ("one.yaml", claim("one", "")),
        ("two.yaml", claim("two", "")),
        ("a.yaml", pod_with_claim("a", "one")),
        ("b.yaml", pod_with_claim("b", "two")),
    ];
    cluster.commit(&files.each_ref().map(|(path, text)| (*path, text.as_str())));
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    + create    PersistentVolume/there
    + create    PersistentVolumeClaim/default/one
    + create    PersistentVolumeClaim/default/two
    + create    Pod/default/a
    + create    Pod/default/b
    ~ bind      PersistentVolumeClaim/default/one  to there
    + create    Pod/default/a  on a
    + provision PersistentVolumeClaim/default/two  on a
    + create    Pod/default/b  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    cluster.ends_quietly();
}

#[test]
fn what_a_claim_is_mounted_for_to_be_read_is_not_written() {
    let mut cluster = Cluster::new(&["a"]);
    let pod = pod_with_claim("reader", "data")
        .replace("claimName: data", "claimName: data, readOnly: true");
    cluster.commit(&[("pvc.yaml", &claim("data", "")), ("pod.yaml", &pod)]);
    cluster.settle();
    let orders = cluster.orders("a");
    let mounts = orders.pods.values().flat_map(|pod| &pod.spec.containers[0].mounts);
    assert!(mounts.clone().count() == 1 && mounts.clone().all(|mount| mount.read_only));
}

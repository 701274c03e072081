//! What is found only by looking at all files together.

use super::{file, report, tree};
use crate::domain::desired::TreeChange;
use crate::domain::key::ObjectKey;
use crate::manifest::catalog::Catalog;

const POD: &str = "=== pod.yaml
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: web, tier: front}}
spec:
  containers: [{name: a, image: 'a:1'}]
";

#[test]
fn a_service_that_selects_no_pods_is_warned_of() {
    let service = "=== svc.yaml
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  selector: {app: wbe, tier: front}
  ports: [{port: 80}]
";
    insta::assert_snapshot!(report(&format!("{POD}{service}")), @r"
    warning: Service `s` selects no pods: none has app=wbe,tier=front
      --> svc.yaml:5:3
      |
    5 |   selector: {app: wbe, tier: front}
      |   ^^^^^^^^
    hint: did you mean `web`?

    2 objects in 2 files: 1 warning
    ");
    let right = service.replace("wbe", "web");
    assert!(report(&format!("{POD}{right}")).ends_with("no findings\n"));
}

#[test]
fn a_claims_class_may_be_that_of_a_volume() {
    let claim = "=== c.yaml
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c}
spec:
  storageClassName: manual
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";
    assert!(report(claim).contains("StorageClass `manual`, which no manifest defines"));
    let volume = "=== v.yaml
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec:
  storageClassName: manual
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: /tmp}
";
    assert!(report(&format!("{claim}{volume}")).ends_with("no findings\n"));
    assert!(report(&claim.replace("manual", "kgit-local")).ends_with("no findings\n"));
}

#[test]
fn an_object_is_whole_again_when_what_it_needs_appears() {
    let mut catalog = Catalog::default();
    let pod = ObjectKey::parse("Pod/shop/p").unwrap();
    let namespace = ObjectKey::parse("Namespace/shop").unwrap();
    catalog.apply(&tree(&POD.replace("name: p,", "name: p, namespace: shop,")));
    assert!(catalog.desired(Default::default()).broken.contains(&pod));
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let added = TreeChange { upserted: vec![file("ns.yaml", text)], removed: Vec::new() };
    let changed: Vec<_> = catalog.apply(&added).into_iter().collect();
    assert_eq!(changed, [namespace.clone(), pod.clone()]);
    let desired = catalog.desired(Default::default());
    assert!(desired.broken.is_empty() && desired.objects.len() == 2);
    // Writing the same again changes nothing, for nobody.
    assert!(catalog.apply(&added).is_empty());
}

const READS_SETTINGS: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: a
    image: a:1
    envFrom:
    - configMapRef: {name: settings}
";

#[test]
fn what_is_missing_may_be_in_a_file_that_cannot_be_read() {
    let report = report(&format!("=== a.yaml\n{READS_SETTINGS}=== b.yaml\na: [\n"));
    assert!(report.contains("hint: it may be in `b.yaml`, which can't be read"), "{report}");
}

#[test]
fn a_missing_config_names_the_namespace_that_has_one() {
    let text = "=== a.yaml
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: other}
---
";
    let report = report(&format!("{text}{READS_SETTINGS}"));
    assert!(report.contains("hint: namespace `other` has one"), "{report}");
}

#[test]
fn a_key_that_is_read_must_be_there() {
    let text = "=== a.yaml
apiVersion: v1
kind: Secret
metadata: {name: db}
stringData: {password: x}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  initContainers:
  - {name: i, image: 'a:1', env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: password}}}]}
  containers:
  - name: a
    image: a:1
    env:
    - name: B
      valueFrom:
        secretKeyRef:
          name: db
          key: pasword
    - name: C
      valueFrom: {secretKeyRef: {name: db, key: other, optional: true}}
";
    insta::assert_snapshot!(report(text), @r"
    error: Pod `p` reads the key `pasword` of Secret `db`, which has no such key
      --> a.yaml:20:11
       |
    20 |           key: pasword
       |           ^^^
    hint: did you mean `password`?

    1 object in 1 file: 1 error
    ");
}

//! What is passed over, and that it is said.

use std::sync::Arc;

use super::{accepted, file, report};
use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::domain::key::ObjectKey;
use crate::manifest::catalog::Catalog;
use crate::manifest::check::check;

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

#[test]
fn documents_that_are_not_for_kgit_are_listed() {
    insta::assert_snapshot!(report("=== compose.yaml
services: {web: {image: nginx}}
=== more.yaml
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: m}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: s}
"), @"
    note: ignored: it has neither `apiVersion` nor `kind`
      --> compose.yaml:1:1
      |
    1 | services: {web: {image: nginx}}
      | ^

    note: Role is skipped: access is given by kgit's own tokens and roles
      --> more.yaml:2:7
      |
    2 | kind: Role
      |       ^^^^

    note: ServiceMonitor is skipped: there are no custom resources here
      --> more.yaml:6:7
      |
    6 | kind: ServiceMonitor
      |       ^^^^^^^^^^^^^^

    warning: kgit does not run Ingress objects yet: this one is skipped
      --> more.yaml:10:7
       |
    10 | kind: Ingress
       |       ^^^^^^^

    0 objects in 2 files: 1 warning, 3 notes
    ");
}

#[test]
fn fields_without_effect_are_named_unless_they_ask_for_nothing() {
    insta::assert_snapshot!(report("=== a.yaml
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  runtimeClassName: fast
  automountServiceAccountToken: false
  topologySpreadConstraints: []
  containers: [{name: a, image: 'a:1'}]
"), @"
    warning: `runtimeClassName` has no effect: containers run with the engine's own runtime
      --> a.yaml:5:3
      |
    5 |   runtimeClassName: fast
      |   ^^^^^^^^^^^^^^^^

    1 object in 1 file: 1 warning
    ");
}

#[test]
fn a_rendered_folder_is_skipped_with_all_that_is_in_it() {
    let mut catalog = Catalog::default();
    let chart = TreeChange {
        upserted: vec![
            file("chart/Chart.yaml", "apiVersion: v2\nname: x\n"),
            file("chart/templates/a.yaml", "{{ not yaml"),
            file("charts.yaml", CONFIG),
        ],
        removed: Vec::new(),
    };
    catalog.apply(&chart);
    insta::assert_snapshot!(check(&chart), @r"
    note: the folder `chart` is skipped: `Chart.yaml` says that Helm renders it
      --> chart/Chart.yaml
    hint: render it into a folder of its own and commit that

    1 object in 3 files: 1 note
    ");
    // Without the marker, the folder is one like any other.
    catalog.apply(&TreeChange { upserted: Vec::new(), removed: vec!["chart/Chart.yaml".into()] });
    assert_eq!(catalog.desired(Default::default()).unreadable.len(), 1);
}

#[test]
fn dot_folders_are_not_read() {
    assert!(
        report(&format!("=== .github/a.yaml\n{CONFIG}=== x/.y/z/a.yaml\nkind: ["))
            .starts_with("0 objects")
    );
}

#[test]
fn lists_are_flattened_and_keep_their_places() {
    let a = accepted(
        "=== a.yaml
apiVersion: v1
kind: ConfigMapList
items:
- metadata: {name: a}
  data: {x: z}
",
        "ConfigMap/default/a",
    );
    assert_eq!(a.place.to_string(), "a.yaml:4:3");
    assert_eq!(a.fields.nearest("/data/x"), Some((5, 10)));
}

#[test]
fn settings_choose_what_is_read() {
    let settings =
        "apiVersion: kgit.dev/v1\nkind: Cluster\nspec: {exclude: ['test/**'], pruneBudget: 3}\n";
    let mut catalog = Catalog::default();
    let bad = "kind: Pod\n";
    let tree = |files: &[(&str, &str)]| TreeChange {
        upserted: files.iter().map(|(path, text)| file(path, text)).collect(),
        removed: Vec::new(),
    };
    catalog.apply(&tree(&[("a.yaml", CONFIG), ("test/b.yaml", bad)]));
    assert!(!catalog.diagnostics().is_empty());
    catalog.apply(&tree(&[("cluster.yaml", settings)]));
    assert!(catalog.diagnostics().is_empty());
    let desired = catalog.desired(Default::default());
    assert!(desired.unreadable.is_empty());
    assert_eq!(desired.settings.prune_budget_floor, 0);
    let gone = catalog.apply(&tree(&[("cluster.yaml", &settings.replace("test/**", "*"))]));
    assert_eq!(
        gone.into_iter().collect::<Vec<_>>(),
        [ObjectKey::parse("ConfigMap/default/a").unwrap()]
    );
    catalog.apply(&TreeChange { upserted: Vec::new(), removed: vec!["cluster.yaml".into()] });
    assert_eq!(catalog.diagnostics().len(), 1);
}

#[test]
fn what_is_no_plain_file_is_an_error() {
    let content = [
        FileContent::TooLarge { bytes: 100 << 20, limit: 8 << 20 },
        FileContent::Link { target: "/etc/passwd".into() },
        FileContent::Submodule,
        FileContent::Unreadable { reason: "permission denied".into() },
    ];
    let upserted = content.into_iter().enumerate().map(|(index, content)| {
        let path: Arc<str> = format!("{index}.yaml").into();
        SourceFile { path, content }
    });
    let tree = TreeChange { upserted: upserted.collect(), removed: Vec::new() };
    insta::assert_snapshot!(check(&tree), @r"
    error: this file has 104857600 bytes; at most 8388608 are read
      --> 0.yaml
    hint: split it up, or exclude it

    error: this is a link to `/etc/passwd`, which is not in the source
      --> 1.yaml
    hint: put the file itself here

    error: this is a submodule, which kgit does not follow
      --> 2.yaml
    hint: put its files into this repo

    error: this file could not be read: permission denied
      --> 3.yaml
    hint: see that kgit may read it

    0 objects in 4 files: 4 errors
    ");
}

#[test]
fn other_tools_numbered_formats_are_ignored() {
    let report = report("=== datasources.yaml\napiVersion: 1\ndatasources: []\n");
    assert!(report.starts_with("note: ignored: its `apiVersion`"), "{report}");
}

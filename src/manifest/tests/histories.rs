//! Properties: any bytes, any history.

use std::sync::Arc;

use proptest::prelude::*;

use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::manifest::catalog::Catalog;
use crate::manifest::check::check;
use crate::manifest::reading::read;

const PATHS: [&str; 6] =
    ["a.yaml", "b.yaml", "apps/a.yaml", "apps/x/b.yaml", "apps/kustomization.yaml", "c.yaml"];

/// Documents that refer to each other, clash, and are broken in their own ways.
const DOCUMENTS: [&str; 15] = [
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: env}\ndata: {a: b}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: env}\ndata: {c: d}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: envs, namespace: shop}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: env}\ndta: {}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec:\n  containers: [{name: a, image: a, env: [{name: A, valueFrom: {configMapKeyRef: {name: env, key: a}}}]}]\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: wob}}\nspec:\n  containers: [{name: a, image: a}]\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n",
    "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec: {storageClassName: manual, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp}}\n",
    "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c, annotations: {kgit.dev/depends-on: Pod/web}}\nspec: {storageClassName: manual, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n",
    "apiVersion: kgit.dev/v1\nkind: Cluster\nspec: {exclude: [apps/x]}\n",
    "apiVersion: kgit.dev/v1\nkind: Cluster\nspec: {include: [apps, c.yaml]}\n",
    "kind: Pod\n",
    "a: [\n",
    "services: {}\n",
];

#[derive(Clone, Debug)]
enum Edit {
    Write(usize, Vec<usize>),
    Remove(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let documents = prop::collection::vec(0..DOCUMENTS.len(), 0..4);
    prop_oneof![
        3 => (0..PATHS.len(), documents).prop_map(|(path, documents)| Edit::Write(path, documents)),
        1 => (0..PATHS.len()).prop_map(Edit::Remove),
    ]
}

fn change(edits: &[Edit]) -> TreeChange {
    let mut change = TreeChange::default();
    for edit in edits {
        let (Edit::Write(path, _) | Edit::Remove(path)) = edit;
        // A change names each path once: the last word on it counts.
        change.upserted.retain(|file| *file.path != *PATHS[*path]);
        change.removed.retain(|removed| **removed != *PATHS[*path]);
        match edit {
            Edit::Write(path, documents) => {
                let parts: Vec<_> = documents.iter().map(|index| DOCUMENTS[*index]).collect();
                let content = FileContent::Bytes(Arc::from(parts.join("---\n").as_bytes()));
                change.upserted.push(SourceFile { path: PATHS[*path].into(), content });
            }
            Edit::Remove(path) => change.removed.push(PATHS[*path].into()),
        }
    }
    change
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_history_ends_where_its_last_tree_alone_would(
        commits in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..8),
    ) {
        let mut catalog = Catalog::default();
        let mut all: Vec<Edit> = Vec::new();
        for commit in &commits {
            let before = catalog.desired(Default::default());
            let changed = catalog.apply(&change(commit));
            let after = catalog.desired(Default::default());
            for key in before.objects.keys().chain(after.objects.keys()).chain(&before.broken).chain(&after.broken) {
                let digest = |it: &crate::domain::desired::Desired| it.objects.get(key).map(|r| (r.digest.clone(), r.place.file.clone()));
                let same = digest(&before) == digest(&after)
                    && before.broken.contains(key) == after.broken.contains(key);
                prop_assert_eq!(!same, changed.contains(key), "{}", key);
            }
            all.extend(commit.iter().cloned());
        }
        let mut full = Catalog::default();
        full.apply(&change(&all));
        let (left, right) = (catalog.desired(Default::default()), full.desired(Default::default()));
        prop_assert_eq!(&left.objects, &right.objects);
        prop_assert_eq!(&left.broken, &right.broken);
        prop_assert_eq!(&left.unreadable, &right.unreadable);
        prop_assert_eq!(&left.settings, &right.settings);
        prop_assert_eq!(catalog.diagnostics(), full.diagnostics());
        prop_assert_eq!(catalog.counts(), full.counts());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&"a.yaml".into(), &FileContent::Bytes(Arc::from(bytes)));
    }

    #[test]
    fn no_mangled_manifest_makes_it_panic(
        picks in prop::collection::vec(0..DOCUMENTS.len(), 1..4),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[-a-z:{}\\[\\]&*#|>'\" \t\n0-9.]{0,4}"), 1..6),
    ) {
        let mut text = picks.iter().map(|index| DOCUMENTS[*index]).collect::<Vec<_>>().join("---\n");
        for (at, with) in cuts {
            let at = at.index(text.len());
            text.replace_range(at..=at, &with);
            if text.is_empty() {
                break;
            }
        }
        let content = FileContent::Bytes(Arc::from(text.as_bytes()));
        let files = vec![SourceFile { path: "a.yaml".into(), content }];
        let _ = check(&TreeChange { upserted: files, removed: Vec::new() }).to_string();
    }
}

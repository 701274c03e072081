//! One folder under `tests/cli/broken` per kind of brokenness, with what is said about it in
//! `expected.txt`. `KGIT_BLESS=1` writes those anew.

#![allow(clippy::disallowed_methods, reason = "the fixtures are files")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::manifest::catalog::Catalog;
use crate::manifest::check::check;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder)
}

/// All files beneath a folder but `expected.txt`.
fn read_tree(root: &Path) -> TreeChange {
    let mut upserted = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "expected.txt" {
                let content = FileContent::Bytes(Arc::from(std::fs::read(&path).unwrap()));
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().into();
                upserted.push(SourceFile { path, content });
            }
        }
    }
    TreeChange { upserted, removed: Vec::new() }
}

#[test]
fn each_broken_repo_is_told_what_is_wrong_with_it() {
    let bless = std::env::var_os("KGIT_BLESS").is_some();
    let mut repos: Vec<_> =
        std::fs::read_dir(fixtures("cli/broken")).unwrap().map(|it| it.unwrap().path()).collect();
    repos.sort();
    assert!(repos.len() >= 25, "only {} broken repos", repos.len());
    for repo in repos {
        let report = check(&read_tree(&repo));
        assert!(report.has_errors(), "{} has no errors", repo.display());
        let expected = repo.join("expected.txt");
        if bless {
            std::fs::write(&expected, report.to_string()).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(report.to_string(), expected, "{}", repo.display());
    }
}

#[test]
fn what_is_broken_is_never_taken_for_removed() {
    for repo in std::fs::read_dir(fixtures("cli/broken")).unwrap() {
        let repo = repo.unwrap().path();
        let mut catalog = Catalog::default();
        catalog.apply(&read_tree(&repo));
        let desired = catalog.desired(Default::default());
        let held = !desired.broken.is_empty() || !desired.unreadable.is_empty();
        assert!(held, "{} would be pruned", repo.display());
    }
}

#[test]
fn the_tutorials_manifests_are_taken_as_they_are() {
    let report = check(&read_tree(&fixtures("fixtures/tutorials")));
    insta::assert_snapshot!(report.to_string());
}

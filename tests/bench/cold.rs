//! A cold start: parse, check, graph and plan of everything, against libyaml on the same bytes.

use std::process::Command;
use std::sync::Arc;

use kgit::domain::desired::{Commit, FileContent, SourceFile, TreeChange};
use kgit::domain::plan::Dirty;
use kgit::domain::world::World;
use kgit::graph;
use kgit::manifest::catalog::Catalog;
use kgit::plan;
use kgit_protocol::ids::ClusterId;
use kgit_protocol::time::Timestamp;

use crate::cpu::measured;
use crate::skip::not_tried;
use crate::{Size, median, repo};

fn tree(objects: usize) -> TreeChange {
    let files = (0..objects / repo::OBJECTS).map(|index| SourceFile {
        path: repo::path(index).into(),
        content: FileContent::Bytes(repo::application(index, "app:1").into_bytes().into()),
    });
    TreeChange { upserted: files.collect(), removed: Vec::new() }
}

fn cold_start(tree: &TreeChange) -> f64 {
    measured(|| {
        let mut catalog = Catalog::default();
        catalog.apply(tree);
        let commit = Commit { id: "1".repeat(40), ..Commit::default() };
        let desired = catalog.desired(Arc::new(commit));
        assert!(graph::cycles(&desired).is_empty() && catalog.diagnostics().is_empty());
        let world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
        let dirty = Dirty::everything(&world, &desired);
        let plan = plan::tick(&world, &desired, &dirty, Timestamp(1_767_225_600_000));
        assert!(plan.steps.len() >= desired.objects.len());
    })
    .1
}

/// CPU milliseconds that PyYAML's CSafeLoader takes for the same bytes; `None` without it.
fn libyaml(dir: &std::path::Path) -> Option<f64> {
    const SCRIPT: &str = "
import glob, sys, time, yaml
texts = [open(path, 'rb').read() for path in sorted(glob.glob(sys.argv[1] + '/**/*.yaml', recursive=True))]
before = time.process_time()
for text in texts:
    for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
        pass
print((time.process_time() - before) * 1000)
";
    // The first Python on the PATH may be one without Debian's packages.
    ["python3", "/usr/bin/python3"].iter().find_map(|python| {
        let output = Command::new(python).args(["-c", SCRIPT]).arg(dir).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    })
}

#[test]
fn a_cold_start_against_libyaml() {
    let (objects, rounds) = match Size::chosen() {
        Size::Smoke => (400, 1),
        Size::Full => (10_000, 10),
    };
    let dir = tempfile::tempdir().unwrap();
    repo::make(dir.path(), objects);
    let tree = tree(objects);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(cold_start(&tree));
        match libyaml(dir.path()) {
            Some(spent) => theirs.push(spent),
            None => return not_tried("no PyYAML with libyaml (python3-yaml) to compare with"),
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "cold start of {objects} objects: {ours:.0} ms CPU, CSafeLoader {theirs:.0} ms: {:.2} ×",
        ours / theirs
    );
}

//! Kills in the middle of it: at every commit, and at random.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{claim, put_claim, reconcile};
use crate::domain::world::Effect;
use crate::store::Store;
use crate::store::crash::CrashPoints;

/// Where the child finds its directory and its crash point.
const DIRECTORY: &str = "KGIT_TEST_STORE";
const CRASH_AT: &str = "KGIT_TEST_CRASH_AT";

/// Transactions of one child.
const COMMITS: u64 = 6;

/// The child's work: each transaction moves a value from one row to the other and says so in the
/// audit; it prints the number once the store has said that it is done.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn child() {
    let Ok(dir) = env::var(DIRECTORY) else { return };
    let mut store = Store::open(Path::new(&dir)).unwrap();
    if let Some(point) = env::var(CRASH_AT).ok().and_then(|text| CrashPoints::parse(&text)) {
        store.set_crash_points(point);
    }
    let last = env::var(CRASH_AT).map_or(u64::MAX, |_| store.version() + COMMITS);
    while store.version() < last {
        let next = store.version() + 1;
        store.commit(next, &both(next), &reconcile()).unwrap();
        println!("done {next}");
        std::io::stdout().flush().unwrap();
    }
}

fn both(version: u64) -> [Effect; 2] {
    let value = format!("{version}-{}", "x".repeat(5_000));
    [put_claim("a", &value), put_claim("b", &value)]
}

fn start(dir: &Path, crash_at: Option<&str>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "store::tests::crashes::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    match crash_at {
        Some(point) => command.env(CRASH_AT, point),
        None => command.env_remove(CRASH_AT),
    };
    command.spawn().unwrap()
}

/// The last transaction that the child was told is done; reads until it ends, or `enough` says.
fn last_told(child: &mut Child, enough: impl Fn(u64) -> bool) -> u64 {
    let mut last = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The harness writes on the same line before the first.
        if let Some((_, number)) = line.split_once("done ") {
            last = number.parse().unwrap();
            if enough(last) {
                break;
            }
        }
    }
    last
}

/// Whole transactions only, and the audit with them.
fn check(dir: &Path) -> u64 {
    let store = Store::open(dir).unwrap();
    let version = store.version();
    let world = store.load().unwrap();
    if version > 0 {
        let expected = format!("{version}-{}", "x".repeat(5_000));
        for name in ["a", "b"] {
            let row = &world.claims[&claim(name)];
            assert_eq!((row.version, row.volume.as_deref()), (version, Some(expected.as_str())));
        }
    }
    assert_eq!(store.audit_head().sequence, 3 * version);
    let report = store.reader().verify(&[]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    version
}

#[test]
fn a_crash_at_any_commit_loses_nothing_that_was_told_and_tears_nothing() {
    for commit in 1..=COMMITS {
        for (moment, durable) in [("before", commit - 1), ("after", commit)] {
            let dir = tempfile::tempdir().unwrap();
            let mut child = start(dir.path(), Some(&format!("store:{commit}:{moment}")));
            let told = last_told(&mut child, |_| false);
            assert!(!child.wait().unwrap().success(), "it crashed");
            assert_eq!(told, commit - 1);
            assert_eq!(check(dir.path()), durable);
        }
    }
}

#[test]
fn a_kill_at_a_random_moment_loses_nothing_that_was_told_and_tears_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..8 {
        let mut child = start(dir.path(), None);
        let told = last_told(&mut child, |last| last >= before + 1 + round);
        child.kill().unwrap();
        child.wait().unwrap();
        before = check(dir.path());
        assert!(before >= told, "{before} < {told}");
    }
}

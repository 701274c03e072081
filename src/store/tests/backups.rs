//! Backup and restore.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kgit_protocol::ids::{Epoch, NodeName};

use super::{
    AT, claim, draft, finished, open, planned, put_claim, raw, reconcile, testify, triggered,
};
use crate::store::Store;
use crate::store::audit::Belongs;
use crate::store::backup::{check_room, restore};
use crate::store::error::StoreError;

fn write(dir: &Path, path: &str, text: &str, mode: u32) {
    let full = dir.join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    fs::write(&full, text).unwrap();
    fs::set_permissions(full, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_backup_restored_elsewhere_is_the_same_cluster() {
    let (dir, mut store) = open();
    write(dir.path(), "pki/ca.key", "key", 0o600);
    write(dir.path(), "source.git/refs/heads/main", "id", 0o644);
    write(dir.path(), "source.git/index.lock", "in the middle", 0o644);
    store.commit(1, &[put_claim("a", "kept")], &reconcile()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("kgit.backup");
    let backup = store.reader().backup(&file).unwrap();
    assert_eq!((backup.files, mode(file.clone())), (2, 0o600));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    // What comes after it is not in it.
    store.commit(2, &[put_claim("b", "lost")], &reconcile()).unwrap();
    let witness = (NodeName::new("a"), store.audit_head());

    let new = tempfile::tempdir().unwrap();
    let data = new.path().join("data");
    let restored = restore(&file, &data, AT, "ada").unwrap();
    assert_eq!((restored.set_aside, restored.files), (None, 2));
    let again = Store::open(&data).unwrap();
    // The new epoch is a transaction of its own.
    assert_eq!((again.cluster(), again.version()), (store.cluster(), 2));
    assert_eq!(again.load().unwrap().meta.epoch, Epoch(1_767_322_800));
    assert_eq!(again.secret_key(), store.secret_key());
    assert_eq!(again.load().unwrap().claims.len(), 1);
    assert_eq!(fs::read_to_string(data.join("pki/ca.key")).unwrap(), "key");
    assert_eq!((mode(data.join("pki/ca.key")), mode(data.join("pki"))), (0o600, 0o700));
    assert!(!data.join("source.git/index.lock").exists());
    assert_eq!((mode(data.join("kgit.db")), mode(data.clone())), (0o600, 0o700));

    // The log says that it was restored, and so explains what agents remember beyond it.
    let report = again.reader().verify(&[witness]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.entries, 4);
    assert_eq!(
        report.notes,
        ["node a was given entry 6, which was lost when the store was restored to entry 3"]
    );
}

#[test]
fn a_restore_sets_aside_what_was_there_and_spares_what_is_not_its_own() {
    let (dir, mut store) = open();
    store.commit(1, &[put_claim("a", "old")], &[]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("b");
    store.reader().backup(&file).unwrap();
    store.commit(2, &[put_claim("a", "new")], &[]).unwrap();
    write(dir.path(), "pki/ca.key", "newer", 0o600);
    write(dir.path(), "kubeconfig", "mine", 0o600);

    let held = restore(&file, dir.path(), AT, "ada").unwrap_err();
    assert!(matches!(held, StoreError::Locked { .. }), "{held:?}");
    drop(store);
    let aside = restore(&file, dir.path(), AT, "ada").unwrap().set_aside.unwrap();
    assert_eq!(aside.file_name().unwrap(), "before-restore-2026-01-02T030000Z");
    assert_eq!(fs::read_to_string(aside.join("pki/ca.key")).unwrap(), "newer");
    assert!(!dir.path().join("pki").exists());
    assert_eq!(fs::read_to_string(dir.path().join("kubeconfig")).unwrap(), "mine");
    let volume = |store: &Store| store.load().unwrap().claims[&claim("a")].volume.clone();
    let restored = Store::open(dir.path()).unwrap();
    assert_eq!(volume(&restored).as_deref(), Some("old"));
    let before = Store::open(&aside).unwrap();
    assert_eq!(volume(&before).as_deref(), Some("new"));
}

#[test]
fn the_agent_beside_the_master_keeps_its_identity_and_never_loses_a_newer_one() {
    let (dir, mut store) = open();
    store.commit(1, &[put_claim("a", "v")], &[]).unwrap();
    write(dir.path(), "agent/key.pem", "key", 0o600);
    write(dir.path(), "agent/assignments.json", "journal", 0o600);
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("b");
    store.reader().backup(&file).unwrap();
    let fresh = out.path().join("fresh");
    restore(&file, &fresh, AT, "ada").unwrap();
    assert_eq!(fs::read_to_string(fresh.join("agent/key.pem")).unwrap(), "key");
    assert!(!fresh.join("agent/assignments.json").exists());

    drop(store);
    write(dir.path(), "agent/key.pem", "newer", 0o600);
    restore(&file, dir.path(), AT, "ada").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("agent/key.pem")).unwrap(), "newer");
    assert!(dir.path().join("agent/assignments.json").exists());
}

#[test]
fn an_interrupted_restore_is_not_taken_for_an_empty_directory() {
    let (dir, mut store) = open();
    store.commit(1, &[put_claim("a", "v")], &[]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("b");
    store.reader().backup(&file).unwrap();
    drop(store);
    fs::rename(dir.path().join("kgit.db"), dir.path().join("elsewhere")).unwrap();
    fs::write(dir.path().join("restoring"), "").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("was interrupted: run `kgit restore FILE` again"), "{error}");
    restore(&file, dir.path(), AT, "ada").unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().claims.len(), 1);
}

#[test]
fn what_is_no_backup_is_refused_and_changes_nothing() {
    let (dir, mut store) = open();
    store.commit(1, &[put_claim("a", "v")], &[]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name);
    fs::write(path("text"), "hello".repeat(1000)).unwrap();
    rusqlite::Connection::open(path("other")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    store.reader().backup(&path("evil")).unwrap();
    rusqlite::Connection::open(path("evil"))
        .unwrap()
        .execute("INSERT INTO file VALUES ('pki/../../escaped', 420, X'00')", [])
        .unwrap();
    drop(store);
    for (name, why) in [
        ("text", "is not a backup that kgit made"),
        ("other", "it is a database of another program"),
        ("evil", "it holds a file `pki/../../escaped` that no backup has"),
        ("absent", "opening the backup"),
    ] {
        let error = restore(&path(name), dir.path(), AT, "ada").unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    assert!(!out.path().parent().unwrap().join("escaped").exists());
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().claims.len(), 1);
}

#[test]
fn a_damaged_backup_is_refused() {
    let (dir, mut store) = open();
    let many: Vec<_> = (0..500).map(|n| put_claim(&format!("c{n}"), &"v".repeat(200))).collect();
    store.commit(1, &many, &[]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("b");
    store.reader().backup(&file).unwrap();
    drop(store);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8192..40960].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let error = restore(&file, dir.path(), AT, "ada").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().claims.len(), 500);
}

#[test]
fn a_backup_does_not_overwrite_and_asks_for_room_beforehand() {
    let (dir, store) = open();
    let file = dir.path().join("b");
    store.reader().backup(&file).unwrap();
    assert!(matches!(store.reader().backup(&file), Err(StoreError::Exists { .. })));
    let error = check_room(&file, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("bytes free and the backup needs"), "{error}");
    let nowhere = store.reader().backup(&dir.path().join("no/such/folder/b")).unwrap_err();
    assert!(matches!(nowhere, StoreError::Io { .. }), "{nowhere:?}");
}

#[test]
fn a_backup_is_consistent_while_the_loop_goes_on_writing() {
    let (_dir, mut store) = open();
    let reader = store.reader();
    let out = tempfile::tempdir().unwrap();
    let to = out.path().to_owned();
    let copying = std::thread::spawn(move || {
        (0..5)
            .map(|n| to.join(n.to_string()))
            .inspect(|file| drop(reader.backup(file).unwrap()))
            .collect::<Vec<_>>()
    });
    let mut version = 0;
    while !copying.is_finished() {
        version += 1;
        let value = version.to_string();
        let effects = [put_claim("a", &value), put_claim("b", &value)];
        store.commit(version, &effects, &reconcile()).unwrap();
    }
    for file in copying.join().unwrap() {
        let data = out.path().join("data").join(file.file_name().unwrap());
        restore(&file, &data, AT, "ada").unwrap();
        let copy = Store::open(&data).unwrap();
        let world = copy.load().unwrap();
        let row = |name| world.claims.get(&claim(name)).map(|row| row.version);
        assert_eq!(row("a"), row("b"));
        assert!(copy.reader().verify(&[]).unwrap().is_sound());
    }
}

#[test]
fn a_restore_excuses_what_agents_saw_before_it_and_nothing_that_they_saw_after() {
    let (dir, mut store) = open();
    let node = NodeName::new("a");
    store.commit(1, &[put_claim("a", "v")], &reconcile()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("b");
    store.reader().backup(&file).unwrap();
    store.commit(2, &[], &reconcile()).unwrap();
    let before = store.audit_head();
    drop(store);
    restore(&file, dir.path(), AT, "ada").unwrap();

    let mut store = Store::open(dir.path()).unwrap();
    let real = [draft(Belongs::New, triggered()), draft(Belongs::Newest, planned())];
    store.commit(2, &[], &real).unwrap();
    testify(&mut store, &node, &before);
    assert!(store.reader().verify(&[]).unwrap().is_sound());
    // The agent is given the head of the new life, though its number is no higher.
    let after = store.audit_head();
    assert!(after.is_after(&before));
    testify(&mut store, &node, &after);
    assert_eq!(store.reader().witnesses().unwrap(), [(node.clone(), after)]);

    // Whoever has the file and the key writes everything after the restore anew.
    let sql = raw(dir.path());
    sql.execute_batch(
        "DELETE FROM audit WHERE sequence > 4; DELETE FROM property WHERE name = 'audit_head'; \
         INSERT INTO property SELECT 'audit_head', CAST('[1,{\"sequence\":4,\"digest\":\"' \
         || digest || '\",\"reconcile\":1,\"restored\":' || at_ms || '}]' AS BLOB) \
         FROM audit WHERE sequence = 4",
    )
    .unwrap();
    drop((sql, store));
    let mut forged = Store::open(dir.path()).unwrap();
    let harmless = [draft(Belongs::New, triggered()), draft(Belongs::Newest, finished())];
    forged.commit(3, &[], &harmless).unwrap();
    forged.commit(3, &[], &harmless).unwrap();
    let report = forged.reader().verify(&[]).unwrap();
    assert!(!report.is_sound(), "{report:?}");
    assert!(report.contradicted_by(&node));
}

//! The World's rows, tokens, and what a damaged or foreign file is told to be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use kgit_protocol::ids::Digest;
use proptest::prelude::*;

use super::{AT, claim, open, put_claim, raw, reconcile, tokens};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::{
    ClaimPhase, ClaimState, DeploymentState, Event, EventLog, JobState, Meta, VolumePhase,
    VolumeState,
};
use crate::domain::template::ConfigRef;
use crate::domain::token::{Role, Token, TokenOrder};
use crate::domain::world::{Effect, Record, Table, World};
use crate::store::error::StoreError;
use crate::store::{Store, row, schema};

/// Rows of a World, each with its version; what two Worlds are compared by.
fn rows(world: &World) -> Vec<String> {
    fn each<T: std::fmt::Debug>(
        rows: &crate::domain::world::Rows<T>,
    ) -> impl Iterator<Item = String> + '_ {
        rows.iter().map(|(key, row)| format!("{key} {} {:?}", row.version, row.value))
    }
    let mut all = vec![format!("{} {:?}", world.version, world.meta)];
    all.extend(each(&world.objects).chain(each(&world.pruned)).chain(each(&world.deployments)));
    all.extend(each(&world.replica_sets).chain(each(&world.jobs)).chain(each(&world.claims)));
    all.extend(each(&world.volumes).chain(each(&world.pods)).chain(each(&world.nodes)));
    all.extend(each(&world.events).chain(each(&world.services)));
    all
}

fn record() -> impl Strategy<Value = (Kind, Record)> {
    let text = "[a-zé\"\\\\ ]{0,8}";
    prop_oneof![
        (any::<u64>(), any::<bool>()).prop_map(|(revision, deadline_exceeded)| {
            let state = DeploymentState { revision, deadline_exceeded, ..Default::default() };
            (Kind::Deployment, Record::Deployment(Arc::new(state)))
        }),
        (any::<u32>(), proptest::collection::vec(any::<u32>(), 0..3)).prop_map(|(active, done)| {
            let state = JobState { active, succeeded_indexes: done, ..Default::default() };
            (Kind::Job, Record::Job(Arc::new(state)))
        }),
        proptest::option::of(text).prop_map(|volume| {
            let state = ClaimState { phase: ClaimPhase::Pending, volume };
            (Kind::PersistentVolumeClaim, Record::Claim(Arc::new(state)))
        }),
        text.prop_map(|uid| {
            let state = VolumeState {
                phase: VolumePhase::Bound,
                claim: Some((claim("data"), uid)),
                node: None,
                provisioned: None,
            };
            (Kind::PersistentVolume, Record::Volume(Arc::new(state)))
        }),
        text.prop_map(|message| {
            let event = Event {
                warning: true,
                reason: "BackOff".to_owned(),
                message,
                field_path: None,
                component: "kgit".to_owned(),
                first: AT,
                last: AT,
                count: 1,
            };
            (Kind::Pod, Record::Events(Arc::new(EventLog { events: vec![event] })))
        }),
    ]
}

fn effect() -> impl Strategy<Value = Effect> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let put = (record(), name).prop_map(|((kind, record), name)| {
        Effect::Put(ObjectKey::new(kind, "default", name), record)
    });
    let remove =
        (record(), prop_oneof![Just("a"), Just("b")]).prop_map(|((kind, record), name)| {
            Effect::Remove(ObjectKey::new(kind, "default", name), record.table())
        });
    let meta = any::<u64>()
        .prop_map(|incarnation| Effect::Meta(Arc::new(Meta { incarnation, ..Meta::default() })));
    prop_oneof![6 => put, 2 => remove, 1 => meta]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_loaded_is_what_was_applied(
        transactions in proptest::collection::vec(proptest::collection::vec(effect(), 1..6), 1..8)
    ) {
        let (dir, mut store) = open();
        let mut world = store.load().unwrap();
        for (version, effects) in (1..).zip(&transactions) {
            store.commit(version, effects, &[]).unwrap();
            effects.iter().for_each(|effect| world.apply(effect, version));
        }
        prop_assert_eq!(rows(&store.load().unwrap()), rows(&world));
        drop(store);
        let again = Store::open(dir.path()).unwrap();
        prop_assert_eq!(rows(&again.load().unwrap()), rows(&world));
    }
}

#[test]
fn a_reference_to_a_configuration_can_be_the_key_of_a_stored_map() {
    let references = [ConfigRef::ConfigMap("web".into()), ConfigRef::Secret("web".into())];
    let map = BTreeMap::from(references.map(|reference| (reference, 1)));
    let text = serde_json::to_string(&map).unwrap();
    assert_eq!(text, r#"{"ConfigMap/web":1,"Secret/web":1}"#);
    assert_eq!(serde_json::from_str::<BTreeMap<ConfigRef, i32>>(&text).unwrap(), map);
    assert!(serde_json::from_str::<ConfigRef>(r#""web""#).is_err());
}

#[test]
fn a_transaction_number_is_used_once() {
    let (_dir, mut store) = open();
    store.commit(5, &[put_claim("a", "v")], &[]).unwrap();
    let error = store.commit(5, &[put_claim("b", "v")], &[]).unwrap_err();
    assert_eq!(error.to_string(), "transaction 5 is not after transaction 5");
    // Entries alone change nothing of the World.
    store.commit(5, &[], &reconcile()).unwrap();
    assert_eq!((store.version(), store.load().unwrap().claims.len()), (5, 1));
}

#[test]
fn the_cluster_and_its_keys_are_made_once_and_private() {
    let (dir, store) = open();
    let (cluster, key) = (store.cluster(), store.secret_key().to_vec());
    assert_eq!((cluster.as_str().len(), key.len()), (16, 32));
    drop(store);
    let again = Store::open(dir.path()).unwrap();
    assert_eq!((again.cluster(), again.secret_key()), (cluster.clone(), key.as_slice()));
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path().to_owned()), 0o700);
    for file in [schema::FILE, "kgit.db-wal", "kgit.db-shm", "master.lock"] {
        assert_eq!(mode(dir.path().join(file)), 0o600, "{file}");
    }
    let (_other_dir, other) = open();
    assert_ne!(other.cluster(), cluster);
    assert!(!format!("{other:?}").contains("secret"));
}

#[test]
fn a_second_master_is_told_who_holds_the_directory() {
    let (dir, store) = open();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_damaged_file_is_said_to_be_one_with_what_to_do() {
    let (dir, mut store) = open();
    let many: Vec<_> = (0..500).map(|n| put_claim(&format!("c{n}"), &"v".repeat(200))).collect();
    store.commit(1, &many, &[]).unwrap();
    drop(store);
    let path = dir.path().join(schema::FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192..40960].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("`kgit restore FILE`"), "{error}");

    fs::write(&path, "this is no database at all, whatever its name says").unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_file_of_a_newer_kgit_is_left_alone() {
    let (dir, store) = open();
    drop(store);
    raw(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("has schema version 99, this kgit knows up to"), "{error}");
}

#[test]
fn a_row_of_a_newer_kgit_is_named() {
    let (dir, mut store) = open();
    store.commit(1, &[put_claim("a", "v")], &[]).unwrap();
    raw(dir.path()).execute("UPDATE claim SET body_version = 9", []).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert_eq!(
        error,
        "the row PersistentVolumeClaim/default/a of table Claim has body version 9, this kgit \
         knows 1"
    );
}

#[test]
fn a_file_of_version_1_is_read_by_every_later_version() {
    let dir = tempfile::tempdir().unwrap();
    let golden = raw(dir.path());
    golden.execute_batch(include_str!("../schema/v1.sql")).unwrap();
    golden.execute_batch(include_str!("../golden/v1.sql")).unwrap();
    golden.pragma_update(None, "user_version", 1).unwrap();
    golden.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    drop(golden);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.cluster().as_str(), store.version()), ("00112233445566aa", 7));
    let world = store.load().unwrap();
    assert_eq!(world.claims[&claim("data")].volume.as_deref(), Some("pv-1"));
    assert_eq!((world.claims[&claim("data")].version, world.meta.incarnation), (7, 3));
    let report = store.reader().verify(&[]).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.entries, store.audit_head().sequence), (3, 3));
}

#[test]
fn every_table_has_its_own_rows() {
    let (dir, _store) = open();
    let sql = raw(dir.path());
    for table in Table::ALL {
        let count = format!("SELECT count(*) FROM {}", row::name(table));
        assert_eq!(sql.query_row(&count, [], |row| row.get::<_, i64>(0)), Ok(0));
    }
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was_and_the_commit_can_be_made_again() {
    let (_dir, mut store) = open();
    store.commit(1, &[put_claim("a", "before")], &reconcile()).unwrap();
    let head = store.audit_head();
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let large = [put_claim("a", "after"), put_claim("b", &"x".repeat(1 << 20))];
    let error = store.commit(2, &large, &reconcile()).unwrap_err();
    let full = matches!(
        &error,
        StoreError::Sql { source: rusqlite::Error::SqliteFailure(failure, _), .. }
            if failure.code == rusqlite::ErrorCode::DiskFull
    );
    assert!(full, "{error:?}");
    assert_eq!((store.version(), store.audit_head()), (1, head));
    assert_eq!(store.load().unwrap().claims[&claim("a")].volume.as_deref(), Some("before"));

    store.connection.pragma_update(None, "max_page_count", 1 << 20).unwrap();
    store.commit(2, &large, &reconcile()).unwrap();
    assert_eq!(store.load().unwrap().claims.len(), 2);
    assert!(store.reader().verify(&[]).unwrap().is_sound());
}

fn token(id: &str, uses_left: Option<u32>) -> Token {
    Token {
        id: id.to_owned(),
        name: "ada".to_owned(),
        role: Role::Join,
        secret_hash: Digest::of(id.as_bytes()),
        created: AT,
        expires: None,
        uses_left,
        revoked: false,
    }
}

#[test]
fn a_single_use_token_is_good_for_one_join_and_a_refused_join_records_nothing() {
    let (_dir, mut store) = open();
    let reader = store.reader();
    let create =
        [TokenOrder::Create(token("once", Some(1))), TokenOrder::Create(token("always", None))];
    store.commit_beside(0, &[], &tokens(&create), &[]).unwrap();
    let spend = |id: &str| [TokenOrder::Spend { id: id.to_owned() }];
    store.commit_beside(1, &[put_claim("a", "v")], &tokens(&spend("once")), &[]).unwrap();
    let error =
        store.commit_beside(2, &[put_claim("b", "v")], &tokens(&spend("once")), &[]).unwrap_err();
    assert_eq!(error.to_string(), "token once: it was used up or revoked");
    assert_eq!(store.load().unwrap().claims.len(), 1);
    store.commit_beside(2, &[], &tokens(&spend("always")), &[]).unwrap();

    let revoke = [TokenOrder::Revoke { id: "always".to_owned() }];
    store.commit_beside(2, &[], &tokens(&revoke), &[]).unwrap();
    assert!(store.commit_beside(2, &[], &tokens(&spend("always")), &[]).is_err());
    let found = reader.token_by_secret(&Digest::of(b"always")).unwrap().unwrap();
    assert!(found.revoked);
    assert_eq!(reader.tokens().unwrap()[1], token("once", Some(0)));
    assert_eq!(reader.token_by_secret(&Digest::of(b"nobody's")).unwrap(), None);
}

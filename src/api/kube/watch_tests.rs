//! Long lists, and watches under load: what is told adds up to what is there, whatever comes
//! between.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::history::{MAX_MOMENTS, MAX_ROWS, MIN_MOMENTS};
use crate::api::kube::tests::{Lines, Reader, pod};
use crate::domain::record::Pod;
use crate::domain::token::Role;
use crate::domain::world::{Effect, Record, Table};
use crate::kube::own_fixture::reconciles;

/// The last change of a test: whoever was told of it was told of all.
const LAST: &str = "zz-last";

/// A pod of that name, with one label.
fn made(reader: &Reader, name: &str, label: &str) -> Effect {
    let view = reader.server.api.master.view();
    let mut made: Pod = (*view.world.pods[&pod("lonely")].value).clone();
    made.key = pod(name);
    made.uid = kgit_protocol::ids::PodUid::new(format!("uid-of-{name}"));
    made.labels.insert("turn".to_owned(), label.to_owned());
    Effect::Put(made.key.clone(), Record::Pod(Arc::new(made)))
}

fn removed(name: &str) -> Effect {
    Effect::Remove(pod(name), Table::Pod)
}

/// What somebody who watches knows: each pod and its label.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known(BTreeMap<String, String>);

impl Known {
    async fn list(reader: &Reader) -> (Self, String) {
        let list = reader.get("/api/v1/pods").await;
        let mut known = Self::default();
        for item in list["items"].as_array().unwrap() {
            known.put(item);
        }
        (known, list["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
    }

    fn put(&mut self, object: &serde_json::Value) {
        let label = object["metadata"]["labels"]["turn"].as_str().unwrap_or_default();
        self.0.insert(name_of(object), label.to_owned());
    }

    /// Follows until the last change. Sent back to the list, it lists again, as clients do.
    async fn follow(&mut self, reader: &Reader, mut lines: Lines) -> usize {
        let mut told = 0;
        while !self.0.contains_key(LAST) {
            let event = lines.event().await.expect("a watch that is sent back is told so");
            told += 1;
            match event["type"].as_str().unwrap() {
                "ADDED" | "MODIFIED" => self.put(&event["object"]),
                "DELETED" => assert!(self.0.remove(&name_of(&event["object"])).is_some()),
                "ERROR" => {
                    assert_eq!(event["object"]["code"], 410, "{event}");
                    let (known, version) = Self::list(reader).await;
                    *self = known;
                    lines = reader.watch(&watch_from(&version)).await;
                }
                other => panic!("{other}"),
            }
        }
        told
    }
}

fn name_of(object: &serde_json::Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn watch_from(version: &str) -> String {
    format!("/api/v1/pods?watch=1&resourceVersion={version}")
}

#[tokio::test]
async fn the_pages_of_a_list_are_of_one_moment_whatever_changes_between_them() {
    let reader = Reader::start(Role::Read).await;
    let names: Vec<String> = (0..10_000).map(|number| format!("pod-{number:05}")).collect();
    reader.commit(names.iter().map(|name| made(&reader, name, "0")).collect()).await;
    let mut page = reader.get("/api/v1/pods?limit=1500").await;
    let version = page["metadata"]["resourceVersion"].clone();
    assert_eq!(page["metadata"]["remainingItemCount"], 10_004 - 1500);
    let mut listed = Vec::new();
    loop {
        listed.extend(page["items"].as_array().unwrap().iter().map(name_of));
        assert_eq!(page["metadata"]["resourceVersion"], version);
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        let turn = listed.len();
        let gone = removed(&names[10_000 - turn / 1500]);
        reader.commit(vec![gone, made(&reader, &format!("pod-{turn:05}-late"), "1")]).await;
        page = reader.get(&format!("/api/v1/pods?limit=1500&continue={token}")).await;
    }
    assert_eq!(listed.len(), 10_004);
    assert!(names.iter().all(|name| listed.binary_search(name).is_ok()));
    // A watch from the list's version tells what has changed since its first page.
    let path = watch_from(version.as_str().unwrap());
    let first = reader.watch(&path).await.event().await.unwrap();
    assert!(name_of(&first["object"]).ends_with("-late") || first["type"] == "DELETED");
}

#[tokio::test]
async fn a_page_that_comes_too_late_is_sent_back_to_the_first() {
    let reader = Reader::start(Role::Read).await;
    let page = reader.get("/api/v1/pods?limit=1").await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    for turn in 0..=MAX_MOMENTS {
        reader.commit(vec![made(&reader, "busy", &turn.to_string())]).await;
    }
    let status = reader.get(&format!("/api/v1/pods?limit=1&continue={token}")).await;
    assert_eq!((status["code"].as_u64(), status["reason"].as_str()), (Some(410), Some("Expired")));
}

#[tokio::test]
async fn changes_of_many_rows_are_forgotten_sooner_but_never_the_last_few() {
    let reader = Reader::start(Role::Read).await;
    let many = |turn: usize| {
        let of = |number| made(&reader, &format!("busy-{number}"), &turn.to_string());
        (0..2 * MAX_ROWS / MIN_MOMENTS).map(of).collect::<Vec<_>>()
    };
    let token = async || {
        let page = reader.get("/api/v1/pods?limit=1").await;
        page["metadata"]["continue"].as_str().unwrap().to_owned()
    };
    let is_there = async |token: &str| {
        let page = reader.get(&format!("/api/v1/pods?limit=1&continue={token}")).await;
        page["code"].as_u64() != Some(410)
    };
    let first = token().await;
    for turn in 0..MIN_MOMENTS - 1 {
        reader.commit(many(turn)).await;
    }
    assert!(is_there(&first).await, "one of the last few is remembered whatever they changed");
    reader.commit(many(MIN_MOMENTS)).await;
    assert!(!is_there(&first).await);
}

#[tokio::test]
async fn a_watch_adds_up_under_a_thousand_changes_after_another() {
    let reader = Reader::start(Role::Read).await;
    let (mut known, version) = Known::list(&reader).await;
    let lines = reader.watch(&watch_from(&version)).await;
    let writing = async {
        for turn in 0..1000 {
            let mut effects = vec![made(&reader, &format!("pod-{turn}"), "new")];
            if turn % 2 == 1 {
                effects.push(made(&reader, &format!("pod-{}", turn - 1), "changed"));
            }
            if turn % 3 == 2 {
                effects.push(removed(&format!("pod-{}", turn - 2)));
            }
            reader.server.commits.send(effects).await.unwrap();
        }
        reader.commit(vec![made(&reader, LAST, "")]).await;
    };
    tokio::join!(known.follow(&reader, lines), writing);
    assert_eq!(known, Known::list(&reader).await.0);
    assert!(known.0.len() > 600);
}

#[tokio::test]
async fn a_slow_watcher_holds_nobody_up_and_is_told_what_is_left_to_tell() {
    const CHANGES: usize = 600;
    let reader = Reader::start(Role::Read).await;
    let (mut slow, version) = Known::list(&reader).await;
    let (mut quick, _) = Known::list(&reader).await;
    // Not read until all is over.
    let unread = reader.watch(&watch_from(&version)).await;
    let lines = reader.watch(&watch_from(&version)).await;
    let large = "x".repeat(100 << 10);
    let writing = async {
        for turn in 0..CHANGES {
            reader.commit(vec![made(&reader, "busy", &format!("{turn}{large}"))]).await;
        }
        reader.commit(vec![made(&reader, LAST, "")]).await;
    };
    tokio::join!(quick.follow(&reader, lines), writing);
    // What it had not read was not kept for it: between two moments only their difference counts.
    let told = slow.follow(&reader, unread).await;
    assert!(told < CHANGES, "{told} of {CHANGES} changes were kept for the slow one");
    assert_eq!(slow, quick);
}

#[tokio::test]
async fn after_a_restart_a_watch_goes_on_or_is_sent_back_and_loses_nothing() {
    let before = Reader::start(Role::Read).await;
    let (_, version) = Known::list(&before).await;
    before.commit(vec![made(&before, "meanwhile", "0")]).await;
    let (current, newest) = Known::list(&before).await;
    let world = before.server.api.master.view().world.clone();
    drop(before);

    let after = Reader::of(world, Role::Read).await;
    let event = after.get(&watch_from(&version)).await;
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(status["code"], 410, "what came before the restart is not in memory any more");
    let (mut known, _) = Known::list(&after).await;
    assert_eq!(known, current);
    // Whoever was told everything goes on without a list.
    let lines = after.watch(&watch_from(&newest)).await;
    let writing = after.commit(vec![removed("meanwhile"), made(&after, LAST, "")]);
    tokio::join!(known.follow(&after, lines), writing);
    assert_eq!(known, Known::list(&after).await.0);
}

#[tokio::test]
async fn what_is_shown_from_the_audit_log_is_watched_too() {
    let reader = Reader::start(Role::Read).await;
    let path = "/apis/kgit.dev/v1/reconciles";
    let list = reader.get(path).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines = reader.watch(&format!("{path}?watch=1&resourceVersion={version}")).await;
    let [entries, _] = reconciles();
    for (entry, told) in entries.into_iter().zip(["ADDED 1", "MODIFIED 1"]) {
        reader.server.records.entries.lock().unwrap().push(entry);
        reader.commit(vec![made(&reader, told, "")]).await;
        assert_eq!(lines.next().await, told);
    }
    let mut all = reader.watch(&format!("{path}?watch=1")).await;
    assert_eq!(all.next().await, "ADDED 1");
}

#[tokio::test]
async fn another_object_of_the_same_name_is_told_as_such() {
    let reader = Reader::start(Role::Read).await;
    reader.commit(vec![made(&reader, "again", "")]).await;
    let (_, version) = Known::list(&reader).await;
    let mut lines = reader.watch(&watch_from(&version)).await;
    let Effect::Put(key, Record::Pod(next)) = made(&reader, "again", "") else { unreachable!() };
    let next = Pod { uid: kgit_protocol::ids::PodUid::new("another"), ..(*next).clone() };
    reader.commit(vec![Effect::Put(key, Record::Pod(Arc::new(next)))]).await;
    assert_eq!(lines.next().await, "DELETED again");
    assert_eq!(lines.next().await, "ADDED again");
}

//! Turns on a real store: what becomes of a batch when parts of it, or its transaction, fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::assignment::{PodNetwork, Stamp};
use kgit_protocol::ids::{BootId, Digest, Epoch, Generation, NodeName};
use kgit_protocol::messages::{Join, Report};
use kgit_protocol::observation::{Capacity, NodeObservation};
use kgit_protocol::time::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::domain::audit::{Body, Trigger};
use crate::domain::desired::{Commit, FileContent, SourceFile, TreeChange};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::node::Node;
use crate::domain::token::{Role, Token, TokenOrder};
use crate::domain::world::node_key;
use crate::master::core::{Core, Turn};
use crate::master::event::{Credential, Event, Refused};
use crate::master::view::SourceStatus;
use crate::store::Store;

type Answered<T> = oneshot::Receiver<Result<T, Refused>>;

struct Master {
    core: Core,
    store: Store,
    now: Timestamp,
    dir: TempDir,
}

impl Master {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let core = Core::new(store.load().unwrap(), SourceStatus::default(), now);
        Self { core, store, now, dir }
    }

    /// The process dies and another one starts.
    fn restart(self) -> Self {
        let Self { core, store, now, dir } = self;
        drop((core, store));
        let store = Store::open(dir.path()).unwrap();
        let core = Core::new(store.load().unwrap(), SourceStatus::default(), now);
        Self { core, store, now, dir }
    }

    fn try_turn(&mut self, events: Vec<Event>) -> Turn {
        self.core.turn(events, self.now, &mut self.store)
    }

    fn turn(&mut self, events: Vec<Event>) {
        let turn = self.try_turn(events);
        assert!(turn.failed.is_none(), "{:?}", turn.failed);
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn disk_is_full(&self, full: bool) {
        let sql = match full {
            true => {
                "CREATE TRIGGER full BEFORE INSERT ON property \
                 BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            }
            false => "DROP TRIGGER full",
        };
        Connection::open(self.dir.path().join("kgit.db")).unwrap().execute_batch(sql).unwrap();
    }

    /// What was recorded, oldest first.
    fn audit(&self) -> Vec<Body> {
        let entries = self.store.reader().entries_from(0, 1000).unwrap();
        entries.into_iter().map(|entry| entry.body).collect()
    }

    fn triggers(&self) -> Vec<Trigger> {
        let all = self.audit().into_iter();
        all.filter_map(|body| match body {
            Body::Triggered { by, .. } => Some(by),
            _ => None,
        })
        .collect()
    }

    fn node(&self, name: &str) -> Node {
        let world = self.core.view(&self.store).world;
        (*world.nodes[&node_key(&NodeName::new(name))].value).clone()
    }
}

fn join(name: &str, spends: Option<&str>) -> (Event, Answered<()>) {
    let (reply, answer) = oneshot::channel();
    let join = Box::new(Join {
        version: 1,
        token: String::new(),
        node: NodeName::new(name),
        labels: BTreeMap::new(),
        certificate_request: String::new(),
        network: PodNetwork { range: "10.77.0.0/24".parse().unwrap() },
    });
    let key_digest = Digest::of(name.as_bytes());
    let credential = Credential::Token(spends.map(|id| TokenOrder::Spend { id: id.to_owned() }));
    (Event::Join { join, key_digest, credential, reply }, answer)
}

fn report(node: &str, sequence: u64) -> (Event, Answered<u64>) {
    let (reply, answer) = oneshot::channel();
    let capacity =
        Capacity { cpu_millis: 4000, memory_bytes: 8 << 30, pods: 110, disk_bytes: sequence << 40 };
    let report = Box::new(Report {
        directory: None,
        version: 1,
        boot: BootId::new("first"),
        sequence,
        applied: None,
        node: Some(NodeObservation { capacity, ..NodeObservation::default() }),
        pods: Vec::new(),
        events: Vec::new(),
        volumes_removed: Vec::new(),
        complete: false,
    });
    (Event::Report { node: NodeName::new(node), report, reply }, answer)
}

fn commit(id: &str, files: &[(&str, &str)], removed: &[&str]) -> Event {
    let file = |(path, text): &(&str, &str)| SourceFile {
        path: (*path).into(),
        content: FileContent::Bytes(text.as_bytes().into()),
    };
    let change = TreeChange {
        upserted: files.iter().map(file).collect(),
        removed: removed.iter().map(|path| (*path).into()).collect(),
    };
    let commit = Commit { id: id.to_owned(), summary: "change it".to_owned(), ..Commit::default() };
    Event::Source { commit: Arc::new(commit), change }
}

fn token_order(order: TokenOrder) -> (Event, Answered<()>) {
    let (reply, answer) = oneshot::channel();
    (Event::Token { order, by: "ada".to_owned(), reply }, answer)
}

fn token(id: &str, uses_left: Option<u32>) -> TokenOrder {
    TokenOrder::Create(Token {
        id: id.to_owned(),
        name: "bob".to_owned(),
        role: Role::Join,
        secret_hash: Digest::of(id.as_bytes()),
        created: Timestamp(0),
        expires: None,
        uses_left,
        revoked: false,
    })
}

fn refusal<T>(mut answer: Answered<T>) -> Option<&'static str> {
    answer.try_recv().unwrap().err().map(|refused| refused.reason)
}

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n";

#[test]
fn what_is_due_waits_for_the_retry_while_the_store_fails() {
    let mut master = Master::new();
    let ((joins, _), (reports, _)) = (join("a", None), report("a", 1));
    master.turn(vec![joins, reports]);
    assert_eq!(master.node("a").heard, Some(true));
    // Long enough for the node's lease to be due.
    master.pass(3600);
    master.disk_is_full(true);
    assert!(master.try_turn(vec![Event::Timer]).failed.is_some());
    assert!(master.core.next_wake().unwrap() > master.now);
    let told = master.core.view(&master.store).store_error;
    assert!(told.is_some_and(|error| error.contains("disk full")), "everybody is told");

    master.disk_is_full(false);
    master.turn(vec![Event::Timer]);
    assert_eq!(master.node("a").heard, Some(false));
    assert_eq!(master.core.view(&master.store).store_error, None);
}

#[test]
fn a_commit_that_was_read_while_the_store_failed_is_recorded_as_the_cause() {
    let mut master = Master::new();
    master.disk_is_full(true);
    assert!(master.try_turn(vec![commit("c1", &[("a.yaml", CONFIG)], &[])]).failed.is_some());
    assert!(master.try_turn(vec![Event::Timer]).failed.is_some());
    master.disk_is_full(false);
    master.turn(vec![Event::Timer]);
    let triggers = master.triggers();
    assert!(
        matches!(&triggers[..], [Trigger::Commit { commit }] if commit.id == "c1"),
        "{triggers:?}"
    );
}

#[test]
fn of_two_joins_with_one_token_in_one_turn_only_the_second_is_refused() {
    let mut master = Master::new();
    let (creates, created) = token_order(token("once", Some(1)));
    let ((one, first), (two, second)) = (join("a", Some("once")), join("b", Some("once")));
    let (beats, reported) = report("a", 1);
    master.turn(vec![creates, one, two, beats]);
    assert_eq!(refusal(created), None);
    assert_eq!(refusal(first), None);
    assert_eq!(refusal(second), Some("TokenRefused"));
    assert_eq!(refusal(reported), None);
    assert_eq!(master.store.token("once").unwrap().unwrap().uses_left, Some(0));
    assert_eq!(master.core.view(&master.store).world.nodes.len(), 1);
}

#[test]
fn a_token_order_that_can_not_be_carried_out_is_refused_alone() {
    let mut master = Master::new();
    let (creates, created) = token_order(token("known", None));
    let (again, twice) = token_order(token("known", None));
    let revoke = |id: &str| token_order(TokenOrder::Revoke { id: id.to_owned() });
    let ((one, missing), (two, revoked)) = (revoke("unknown"), revoke("known"));
    let (joins, joined) = join("a", Some("known"));
    master.turn(vec![creates, again, one, two, joins]);
    assert_eq!(refusal(created), None);
    assert_eq!(refusal(twice), Some("AlreadyExists"));
    assert_eq!(refusal(missing), Some("NotFound"));
    assert_eq!(refusal(revoked), None);
    assert_eq!(refusal(joined), Some("TokenRefused"));
}

fn claim(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::PersistentVolumeClaim, "default", name)
}

fn claim_alone(name: &str) -> String {
    let data = data(name);
    data.split_once("---").unwrap().0.to_owned()
}

/// A claim and a pod that uses it.
fn data(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  \
         accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: 1Gi}}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
         containers: [{{name: c, image: 'i:1', volumeMounts: [{{name: v, mountPath: /v}}]}}]\n  \
         volumes: [{{name: v, persistentVolumeClaim: {{claimName: {name}}}}}]\n"
    )
}

/// A master with two claims that outlived their manifests.
fn with_retained(data: fn(&str) -> String) -> Master {
    let mut master = Master::new();
    let ((joins, _), (reports, _)) = (join("a", None), report("a", 1));
    master.turn(vec![joins, reports]);
    let (one, two) = (data("one"), data("two"));
    let files = [("keep.yaml", CONFIG), ("one.yaml", one.as_str()), ("two.yaml", two.as_str())];
    master.turn(vec![commit("c1", &files, &[])]);
    master.turn(vec![commit("c2", &[], &["one.yaml", "two.yaml"])]);
    master
}

fn remove_retained(name: &str) -> (Event, Answered<Vec<ObjectKey>>) {
    let (reply, answer) = oneshot::channel();
    (Event::RemoveRetained { objects: vec![claim(name)], by: "ada".to_owned(), reply }, answer)
}

#[test]
fn removals_of_retained_data_in_one_turn_with_a_report_are_all_carried_out() {
    let mut master = with_retained(data);
    let generation = master.node("a").issued.generation;
    let ((first, one), (second, two)) = (remove_retained("one"), remove_retained("two"));
    let (reports, _) = report("a", 2);
    master.turn(vec![first, second, reports]);
    assert_eq!(one_answer(one), vec![claim("one")]);
    assert_eq!(one_answer(two), vec![claim("two")]);
    // On disk as in memory.
    let master = master.restart();
    let node = master.node("a");
    assert_eq!((node.remove_volumes.len(), node.sequence), (2, 2));
    assert!(node.issued.generation > generation);
    let world = master.core.view(&master.store).world;
    assert!(!world.objects.contains_key(&claim("one")));
    assert!(!world.objects.contains_key(&claim("two")));
}

fn one_answer<T>(mut answer: Answered<T>) -> T {
    answer.try_recv().unwrap().unwrap()
}

#[test]
fn what_orders_removed_is_foreseen_and_recorded_with_who_gave_them() {
    let mut master = with_retained(claim_alone);
    let before = master.audit().len();
    let ((first, _), (second, _)) = (remove_retained("one"), remove_retained("two"));
    master.turn(vec![first, second]);
    let entries = master.audit().split_off(before);
    let steps = entries.iter().filter_map(|body| match body {
        Body::Planned { steps, .. } => Some(steps),
        _ => None,
    });
    let steps: Vec<_> = steps.flatten().collect();
    assert_eq!(steps.len(), 2, "{entries:?}");
    assert!(steps.iter().all(|step| step.deviation.is_none()), "{steps:?}");
}

#[test]
fn a_reconcile_that_a_crash_cut_short_is_ended_at_the_next_start() {
    let mut master = Master::new();
    let ((joins, _), (reports, _)) = (join("a", None), report("a", 1));
    master.turn(vec![joins, reports]);
    master.turn(vec![commit("c1", &[("one.yaml", &data("one"))], &[])]);
    assert!(!matches!(master.audit().last(), Some(Body::Finished { .. })));

    let mut master = master.restart();
    let before = master.audit().len();
    master.turn(vec![Event::Timer]);
    let entries = master.audit().split_off(before);
    assert!(
        matches!(entries.first(), Some(Body::Finished { superseded: true, steps: 1.., .. })),
        "{entries:?}"
    );
    // Once is enough.
    let mut master = master.restart();
    let ends = |master: &Master| {
        let all = master.audit().into_iter();
        let begun = all.clone().filter(|body| matches!(body, Body::Triggered { .. })).count();
        (begun, all.filter(|body| matches!(body, Body::Finished { .. })).count())
    };
    master.turn(vec![Event::Timer]);
    let (begun, ended) = ends(&master);
    assert!(ended <= begun, "{ended} ends of {begun} reconciles");
}

fn pull(node: &str, epoch: u64, generation: u64) -> Event {
    let digest = Digest::of(b"some other set");
    let have = Stamp { epoch: Epoch(epoch), generation: Generation(generation), digest };
    Event::Pull { node: NodeName::new(node), have: Some(have), witness: None }
}

#[test]
fn orders_after_a_restore_are_newer_than_any_that_an_agent_has() {
    let mut master = Master::new();
    let ((joins, _), (reports, _)) = (join("a", None), report("a", 1));
    master.turn(vec![joins, reports]);
    master.turn(vec![pull("a", 0, 50)]);
    let first = master.node("a").issued.epoch;
    assert!(first > Epoch(1), "numbered by its time, so that no other life has the same number");
    // The old orders are told again until the new ones have come.
    master.turn(vec![pull("a", 0, 50), pull("a", 0, 50)]);
    assert_eq!(master.node("a").issued.epoch, first);
    // A copy that was made now, while nobody has confirmed, and is put back later on.
    master.turn(vec![pull("a", first.0, 60), pull("a", first.0, 60)]);
    assert_eq!(master.node("a").issued.epoch, first.next());
    // A much older copy.
    master.turn(vec![pull("a", first.0 + 7, 1)]);
    assert_eq!(master.node("a").issued.epoch, Epoch(first.0 + 8));
}

#[test]
fn who_gave_an_order_is_recorded_even_if_no_step_follows() {
    let mut master = Master::new();
    master.turn(vec![Event::Timer]);
    let by = || "ada".to_owned();
    let (reply, _suspended) = oneshot::channel();
    master.turn(vec![Event::Suspend { by: by(), reply }]);
    let (reply, _resumed) = oneshot::channel();
    master.turn(vec![Event::Resume { by: by(), reply }]);
    let (creates, _) = token_order(token("t", None));
    let (revokes, _) = token_order(TokenOrder::Revoke { id: "t".to_owned() });
    master.turn(vec![creates, revokes]);
    let (joins, _) = join("a", None);
    let (reply, _reset) = oneshot::channel();
    let reset = Event::ResetNode { node: NodeName::new("a"), by: by(), reply };
    master.turn(vec![joins, reset]);
    let ordered = |body: Body| match body {
        Body::Ordered { by, what } => Some(format!("{by}: {what}")),
        _ => None,
    };
    let all: Vec<String> = master.audit().into_iter().filter_map(ordered).collect();
    assert_eq!(
        all,
        [
            "ada: that new commits wait",
            "ada: that commits no longer wait",
            "ada: token t for bob, role join",
            "ada: that token t is revoked",
            "ada: reset of node a",
        ]
    );
}

#[test]
fn testimony_is_kept_with_the_turn_and_is_no_news() {
    let mut master = Master::new();
    let ((joins, _), (reports, _)) = (join("a", None), report("a", 1));
    master.turn(vec![joins, reports]);
    let head = master.store.audit_head();
    let witness = Some(head.clone());
    let node = NodeName::new("a");
    let turn = master.try_turn(vec![Event::Pull { node, have: None, witness }]);
    assert!(turn.committed.is_none() && turn.failed.is_none());
    let kept = master.store.reader().witnesses().unwrap();
    assert_eq!(kept, [(NodeName::new("a"), head)]);
}

//! The master's process: the real core and the real store, started from disk and dropped at any
//! moment; around them what the loop's thread and the API do: an inbox, held pulls, answers.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kgit::domain::desired::{Commit, FileContent, SourceFile, TreeChange};
use kgit::domain::world::{World, node_key};
use kgit::master::core::Core;
use kgit::master::event::{Event, Refused};
use kgit::master::view::{SourceStatus, View};
use kgit::plan::assignments;
use kgit::store::{Store, backup};
use kgit_protocol::assignment::{AssignmentSet, Stamp};
use kgit_protocol::ids::NodeName;
use kgit_protocol::messages::{Orders, Pulled};
use kgit_protocol::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::agent::HostClock;
use crate::checks::stages::Hooked;
use crate::repo::Tree;

/// Sets of the past that a delta may start from; an agent that was away longer gets all.
const PAST_SETS: usize = 8;

/// The same in every run, where a real cluster has them from chance.
const CLUSTER: &str = "0123456789abcdef";
const KEY: [u8; 32] = [7; 32];
const SERVICES: &str = "10.16.0.0/16";

/// Whose report, which request, and where the answer comes.
pub type Asked = (usize, u64, oneshot::Receiver<Result<u64, Refused>>);

pub struct Master {
    dir: PathBuf,
    pub running: Option<Running>,
    /// Counts processes.
    pub life: u64,
    /// When the loop turns next.
    pub turn_at: Option<Timestamp>,
    pub clock: HostClock,
}

pub struct Running {
    pub core: Core,
    pub store: Store,
    pub inbox: Vec<Event>,
    /// Reports in the inbox: whose, which request, and where the answer comes.
    pub asked: Vec<Asked>,
    pub held: BTreeMap<usize, Held>,
    /// Sets as they were issued to each node, for deltas.
    past: BTreeMap<NodeName, VecDeque<AssignmentSet>>,
    /// The tree that was delivered last.
    delivered: Tree,
    pub delivered_head: usize,
    /// Every file that was delivered last can be read.
    pub readable: bool,
    /// Of what was delivered last.
    pub hooks: Vec<Hooked>,
}

/// A pull that waits for something new.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: u64,
    pub have: Option<Stamp>,
    pub until: Timestamp,
}

impl Master {
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        drop(Store::open(dir).unwrap());
        let database = database(dir);
        let put = |name: &str, value: &[u8]| {
            let sql = "UPDATE property SET value = ?2 WHERE name = ?1";
            assert_eq!(database.execute(sql, rusqlite::params![name, value]).unwrap(), 1);
        };
        put("cluster", CLUSTER.as_bytes());
        put("secret_key", &KEY);
        put("audit_key", &KEY);
        Self {
            dir: dir.to_owned(),
            running: None,
            life: 0,
            turn_at: None,
            clock: HostClock::default(),
        }
    }

    /// Starts from what is on disk.
    pub fn start(&mut self, now: Timestamp) {
        let store = Store::open(&self.dir).unwrap();
        let wall = self.clock.at(now).wall;
        let core = Core::new(store.load().unwrap(), SourceStatus::default(), wall);
        self.life += 1;
        self.turn_at = Some(now);
        self.running = Some(Running {
            core,
            store,
            inbox: vec![Event::ServiceRange { range: SERVICES.parse().unwrap() }],
            asked: Vec::new(),
            held: BTreeMap::new(),
            past: BTreeMap::new(),
            delivered: Tree::new(),
            delivered_head: 0,
            readable: true,
            hooks: Vec::new(),
        });
    }

    /// Gone from one moment to the next.
    pub fn die(&mut self) {
        self.life += 1;
        self.turn_at = None;
        self.running = None;
    }

    /// A copy of everything in a file beside the data.
    pub fn backup(&self, to: &Path) {
        let running = self.running.as_ref().expect("a backup is asked of a running master");
        // The newest one is enough.
        let _ = std::fs::remove_file(to);
        running.store.reader().backup(to).unwrap();
    }

    /// Puts the copy in place of everything; nobody runs.
    pub fn restore(&mut self, from: &Path, now: Timestamp) {
        assert!(self.running.is_none(), "a restore needs the data directory for itself");
        let wall = self.clock.at(now).wall;
        backup::restore(from, &self.dir, wall, "ann").unwrap();
    }

    /// Lets every transaction fail, as on a full disk, or ends that.
    pub fn fail_store(&self, fail: bool) {
        let sql = match fail {
            true => {
                "CREATE TRIGGER IF NOT EXISTS full BEFORE INSERT ON property \
                 BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            }
            false => "DROP TRIGGER IF EXISTS full",
        };
        database(&self.dir).execute_batch(sql).unwrap();
    }

    /// Changes a row of the audit behind the store's back.
    pub fn tamper(&self) -> usize {
        let sql =
            "UPDATE audit SET at_ms = at_ms + 1 WHERE sequence = (SELECT max(sequence) FROM audit)";
        database(&self.dir).execute(sql, []).unwrap()
    }

    pub fn view(&self) -> Option<View> {
        self.running.as_ref().map(|running| running.core.view(&running.store))
    }
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("kgit.db")).unwrap()
}

impl Running {
    pub fn world(&self) -> World {
        self.core.view(&self.store).world
    }

    /// The source delivers the newest commit, as a change of what it delivered before.
    pub fn deliver(&mut self, head: usize, tree: &Tree, now: Timestamp) {
        let file = |path: &String, text: &String| SourceFile {
            path: path.as_str().into(),
            content: FileContent::Bytes(text.as_bytes().into()),
        };
        let changed = tree.iter().filter(|(path, text)| self.delivered.get(*path) != Some(text));
        let gone = self.delivered.keys().filter(|path| !tree.contains_key(*path));
        let change = TreeChange {
            upserted: changed.map(|(path, text)| file(path, text)).collect(),
            removed: gone.map(|path| path.as_str().into()).collect(),
        };
        let commit = Commit {
            id: format!("{head:040x}"),
            author: "Ann <ann@example.org>".to_owned(),
            at: now,
            summary: format!("change {head}"),
        };
        self.delivered = tree.clone();
        self.delivered_head = head;
        self.inbox.push(Event::Source { commit: Arc::new(commit), change });
    }

    /// Remembers what is issued, for deltas.
    pub fn note_issued(&mut self, world: &World) {
        for node in world.nodes.values() {
            let past = self.past.entry(node.name.clone()).or_default();
            if past.back().is_some_and(|set| set.stamp == node.issued) {
                continue;
            }
            past.extend(assignments::for_node(world, &node.name));
            if past.len() > PAST_SETS {
                past.pop_front();
            }
        }
    }

    /// What `api/agent/pull.rs` answers a node that has this.
    pub fn orders(&self, world: &World, node: &NodeName, have: Option<&Stamp>) -> Orders {
        let Some(row) = world.nodes.get(&node_key(node)) else { return Orders::Unchanged };
        let place = |stamp: &Stamp| (stamp.epoch, stamp.generation);
        if have.is_some_and(|have| place(have) >= place(&row.issued)) {
            return Orders::Unchanged;
        }
        let Some(set) = assignments::for_node(world, node) else { return Orders::Unchanged };
        let past = self.past.get(node);
        let base = past.and_then(|past| past.iter().find(|set| Some(&set.stamp) == have));
        match base {
            Some(base) => Orders::Delta(base.delta_to(&set)),
            None => Orders::Set(set),
        }
    }

    pub fn pulled(&self, orders: Orders, now: Timestamp) -> Pulled {
        let audit_head = Some(self.store.audit_head());
        Pulled { orders, directory: None, audit_head, now }
    }
}

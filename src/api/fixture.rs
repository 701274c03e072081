//! A server on loopback with a loop that is just good enough to be talked to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kgit_protocol::assignment::{AssignmentSet, Stamp};
use kgit_protocol::ids::{ClusterId, Digest, Epoch, Generation, NodeName};
use kgit_protocol::messages::{AuditHead, Refusal};
use kgit_protocol::stream::{StreamRequest, frame_length};
use kgit_protocol::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};

use crate::api::auth::TokenText;
use crate::api::authority::Authority;
use crate::api::forecasts::{Forecast, ForecastRefused, Forecasts, Wanted};
use crate::api::listener::serve;
use crate::api::records::{Records, RecordsError, Verification};
use crate::api::state::{Api, Parts, Planning};
use crate::domain::audit::{Body, Entry};
use crate::domain::node::Node;
use crate::domain::token::{Role, Token, TokenOrder};
use crate::domain::world::{Effect, Record, World, node_key};
use crate::manifest::catalog::Catalog;
use crate::master::event::{Credential, Event, Refused};
use crate::master::handle::Handle;
use crate::master::view::{Committed, RowChange, SourceStatus, View};

pub const NOW: Timestamp = Timestamp(1_767_323_045_000);

/// Tokens and audit entries in memory.
#[derive(Debug, Default)]
pub struct FakeRecords {
    pub tokens: Mutex<Vec<Token>>,
    pub entries: Mutex<Vec<Entry>>,
    pub entered: Mutex<Vec<String>>,
}

impl Records for FakeRecords {
    fn tokens(&self) -> Result<Vec<Token>, RecordsError> {
        Ok(self.tokens.lock().unwrap().clone())
    }
    fn audit_head(&self) -> Result<Option<AuditHead>, RecordsError> {
        Ok(None)
    }
    fn backup(&self, to: &Path) -> Result<(), RecordsError> {
        std::fs::write(to, b"a backup").map_err(|error| RecordsError::new(error.to_string()))
    }
    fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, RecordsError> {
        let entries = self.entries.lock().unwrap();
        Ok(entries.iter().filter(|entry| entry.sequence >= from).take(limit).cloned().collect())
    }
    fn reconciles(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, RecordsError> {
        let mut begun = self.undertakings(before, usize::MAX)?;
        begun.retain(|entry| matches!(entry.body, Body::Triggered { .. }));
        begun.truncate(limit);
        Ok(begun)
    }
    fn undertakings(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, RecordsError> {
        let entries = self.entries.lock().unwrap();
        let first = entries.iter().rev().filter(|entry| {
            let begins = entry.sequence == entry.reconcile && entry.body != Body::Redacted;
            begins && before.is_none_or(|b| entry.sequence < b)
        });
        Ok(first.take(limit).cloned().collect())
    }
    fn reconcile(&self, sequence: u64) -> Result<Vec<Entry>, RecordsError> {
        let entries = self.entries.lock().unwrap();
        Ok(entries.iter().filter(|entry| entry.reconcile == sequence).cloned().collect())
    }
    fn verify(&self) -> Result<Verification, RecordsError> {
        Ok(Verification::default())
    }
}

/// What a test holds on to.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    pub authority_pem: String,
    pub authority_digest: Digest,
    pub records: Arc<FakeRecords>,
    pub commits: mpsc::Sender<Vec<Effect>>,
    pub api: Api,
    data: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
    _shutdown: watch::Sender<bool>,
}

impl Server {
    pub async fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, tempfile::tempdir().unwrap(), Arc::default(), world)
    }

    /// As after `kill -9`, at the same address: what is in memory is gone, and these effects came
    /// before anyone could ask.
    pub async fn restarted(self, meanwhile: &[Effect]) -> Self {
        let mut world = self.api.master.view().world.clone();
        self.serving.abort();
        let _ = self.serving.await;
        for effect in meanwhile {
            let next = world.version + 1;
            world.apply(effect, next);
        }
        let listener = TcpListener::bind(self.address).await.unwrap();
        Self::on(listener, self.data, self.records, world)
    }

    fn on(
        listener: TcpListener,
        data: tempfile::TempDir,
        records: Arc<FakeRecords>,
        world: World,
    ) -> Self {
        let authority = Authority::open(&data.path().join("pki"), NOW).unwrap();
        let tls = authority.server_config(&["master.example".to_owned()], NOW).unwrap();
        let (authority_pem, authority_digest) = (authority.pem().to_owned(), authority.digest());
        let (master, commits) = fake_loop(world, Arc::clone(&records));
        let parts = Parts {
            master,
            authority,
            records: Arc::clone(&records) as Arc<dyn Records>,
            planning: Planning { assignments: empty_set, lease_seconds: |_| 40 },
            forecasts: Arc::new(NothingToDo),
            clock: Arc::new(|| NOW),
        };
        let api = Api::new(parts);
        let address = listener.local_addr().unwrap();
        let (shutdown, stop) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, tls, api.clone(), stop));
        Self {
            address,
            authority_pem,
            authority_digest,
            records,
            commits,
            api,
            data,
            serving,
            _shutdown: shutdown,
        }
    }

    /// A new token's text.
    pub fn token(&self, name: &str, role: Role, uses_left: Option<u32>) -> String {
        let text = TokenText::generate(self.authority_digest.clone());
        self.records.tokens.lock().unwrap().push(Token {
            id: text.id.clone(),
            name: name.to_owned(),
            role,
            secret_hash: text.secret_hash(),
            created: NOW,
            expires: None,
            uses_left,
            revoked: false,
        });
        text.to_string()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// A client that trusts the server and has no credentials.
    pub fn client(&self) -> reqwest::Client {
        self.client_builder().build().unwrap()
    }

    /// The same; it speaks HTTP/1.1 only.
    pub fn client_of_http1(&self) -> reqwest::Client {
        self.client_builder().http1_only().build().unwrap()
    }

    /// The same; it does not follow redirects.
    pub fn client_that_stays(&self) -> reqwest::Client {
        self.client_builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    fn client_builder(&self) -> reqwest::ClientBuilder {
        let tls = crate::client::tls::trusting(&self.authority_pem).unwrap();
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy()
    }
}

/// Forecasts one step for any edited tree, and none for what is there.
#[derive(Debug)]
struct NothingToDo;

impl Forecasts for NothingToDo {
    fn forecast(&self, _: &View, wanted: Wanted) -> Result<Forecast, ForecastRefused> {
        match wanted {
            Wanted::Current => Ok(Forecast::default()),
            Wanted::Revision(rev) => {
                Err(ForecastRefused { message: format!("there is no commit `{rev}`") })
            }
            Wanted::Tree { change, .. } => {
                let text = format!("{} files\n", change.upserted.len());
                Ok(Forecast { changes: 1, text, ..Forecast::default() })
            }
        }
    }
}

fn empty_set(world: &World, node: &NodeName) -> Option<AssignmentSet> {
    let stamp = world.nodes.get(&node_key(node)).unwrap().issued.clone();
    Some(AssignmentSet {
        stamp,
        pods: BTreeMap::new(),
        remove_volumes: Vec::new(),
        keep_others: false,
    })
}

fn fake_loop(world: World, records: Arc<FakeRecords>) -> (Handle, mpsc::Sender<Vec<Effect>>) {
    let (events, mut incoming) = mpsc::channel(16);
    let (commits, mut ordered) = mpsc::channel::<Vec<Effect>>(16);
    let (version, watched) = watch::channel(world.version);
    let (committed, _) = broadcast::channel(64);
    let view = Arc::new(ArcSwap::from_pointee(view_of(world)));
    let handle =
        Handle { events, view: Arc::clone(&view), version: watched, committed: committed.clone() };
    tokio::spawn(async move {
        loop {
            let effects = tokio::select! {
                event = incoming.recv() => match event {
                    Some(event) => carry_out(event, &records),
                    None => return,
                },
                effects = ordered.recv() => match effects {
                    Some(effects) => effects,
                    None => return,
                },
            };
            if effects.is_empty() {
                continue;
            }
            let mut next = view.load_full().world.clone();
            let number = next.version + 1;
            let mut changes = Vec::new();
            for effect in &effects {
                next.apply(effect, number);
                let (key, table) = match effect {
                    Effect::Put(key, record) => (key.clone(), record.table()),
                    Effect::Remove(key, table) => (key.clone(), *table),
                    Effect::Meta(_) => continue,
                };
                changes.push(RowChange { table, key, before: None, after: None });
            }
            view.store(Arc::new(view_of(next)));
            version.send_replace(number);
            let _ = committed.send(Arc::new(Committed { version: number, changes }));
        }
    });
    (handle, commits)
}

fn spend(order: &TokenOrder, records: &FakeRecords) -> Result<(), Refused> {
    let TokenOrder::Spend { id } = order else { return Ok(()) };
    let mut tokens = records.tokens.lock().unwrap();
    let token = tokens.iter_mut().find(|token| token.id == *id).unwrap();
    match token.uses_left {
        Some(0) => Err(Refused { reason: "Spent", message: "used already".to_owned() }),
        Some(uses) => {
            token.uses_left = Some(uses - 1);
            Ok(())
        }
        None => Ok(()),
    }
}

fn carry_out(event: Event, records: &FakeRecords) -> Vec<Effect> {
    match event {
        Event::Join { join, key_digest, credential, reply } => {
            let spent = match &credential {
                Credential::Token(Some(order)) => spend(order, records),
                Credential::Token(None) | Credential::Key | Credential::Certificate => Ok(()),
            };
            if let Err(refused) = spent {
                let _ = reply.send(Err(refused));
                return Vec::new();
            }
            let _ = reply.send(Ok(()));
            let node = node(join.node.as_str(), key_digest);
            vec![Effect::Put(node_key(&join.node), Record::Node(Arc::new(node)))]
        }
        Event::Report { report, reply, .. } => {
            let _ = reply.send(Ok(report.sequence));
            Vec::new()
        }
        Event::Token { order: TokenOrder::Create(token), reply, .. } => {
            records.tokens.lock().unwrap().push(token);
            let _ = reply.send(Ok(()));
            Vec::new()
        }
        Event::Token { order: TokenOrder::Revoke { id }, reply, .. } => {
            let mut tokens = records.tokens.lock().unwrap();
            let known = tokens.iter_mut().find(|token| token.id == id);
            let _ = reply.send(match known {
                Some(token) => {
                    token.revoked = true;
                    Ok(())
                }
                None => Err(Refused { reason: "NotFound", message: "no such token".to_owned() }),
            });
            Vec::new()
        }
        Event::Entered { by, what, reply } => {
            records.entered.lock().unwrap().push(format!("{by} {what}"));
            let _ = reply.send(Ok(()));
            Vec::new()
        }
        Event::EndPod { pod, grace_seconds, by, reply } => {
            let what = format!("{by} ends {pod} within {grace_seconds:?}");
            records.entered.lock().unwrap().push(what);
            let _ = reply.send(Ok(()));
            Vec::new()
        }
        Event::Approve { plan, by, reply } => {
            let _ = reply.send(Ok(format!("{by} approved {plan}")));
            Vec::new()
        }
        _ => Vec::new(),
    }
}

pub fn node(name: &str, key_digest: Digest) -> Node {
    let network = kgit_protocol::assignment::PodNetwork { range: "10.42.0.0/24".parse().unwrap() };
    let uid = format!("uid-of-{name}");
    Node {
        labels: BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]),
        heard: Some(true),
        next_address: 2,
        ..Node::new(NodeName::new(name), uid, NOW, network, key_digest, stamp(1))
    }
}

pub fn stamp(generation: u64) -> Stamp {
    let empty = AssignmentSet {
        stamp: Stamp {
            epoch: Epoch(0),
            generation: Generation(generation),
            digest: Digest::of(b""),
        },
        pods: BTreeMap::new(),
        remove_volumes: Vec::new(),
        keep_others: false,
    };
    Stamp { digest: empty.content_digest(), ..empty.stamp }
}

pub fn empty_world() -> World {
    World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"))
}

fn view_of(world: World) -> View {
    View {
        world,
        catalog: Catalog::default(),
        source: Arc::new(SourceStatus::default()),
        diagnostics: Arc::default(),
        waits: Default::default(),
        heartbeats: Default::default(),
        usages: Default::default(),
        reconciling: None,
        store_error: None,
    }
}

/// A node's far end of the tunnel, answering each stream with bytes or a refusal.
#[derive(Debug)]
pub struct FakeAgent(tokio::task::JoinHandle<()>);

impl FakeAgent {
    pub fn start(
        api: &Api,
        node: &str,
        answer: fn(StreamRequest) -> Result<Vec<u8>, String>,
    ) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (api, node) = (api.clone(), NodeName::new(node));
        tokio::spawn(async move { api.tunnels.carry(node, near, || NOW).await });
        let service = service_fn(move |request: hyper::Request<Incoming>| async move {
            let mut body = request.into_body();
            let first = body.frame().await.unwrap()?.into_data().unwrap();
            let (head, request) = first.split_first_chunk().unwrap();
            assert_eq!(frame_length(*head), Some(request.len()));
            let request: StreamRequest = serde_json::from_slice(request).unwrap();
            let connects = matches!(request, StreamRequest::Connect(_));
            let said = answer(request);
            let status = if said.is_ok() { 200 } else { 404 };
            let refusal = |message| {
                serde_json::to_vec(&Refusal { reason: "NotFound".to_owned(), message }).unwrap()
            };
            let said = Bytes::from(said.unwrap_or_else(refusal));
            let body = StreamBody::new(futures_util::stream::once(async move {
                // Whoever connects to a port says something first.
                if connects && status == 200 {
                    let _ = body.frame().await;
                }
                Ok::<_, hyper::Error>(Frame::data(said))
            }));
            let response = hyper::Response::builder().status(status).body(body).unwrap();
            Ok::<_, hyper::Error>(response)
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), service);
        Self(tokio::spawn(async move { drop(serving.await) }))
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

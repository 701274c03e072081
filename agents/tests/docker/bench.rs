//! One node on a real engine, under a master that hands out what a test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kgit_agent::config::AgentConfig;
use kgit_agent::journal::{Identity, Journal};
use kgit_agent::link::{Answer, Link, Wire};
use kgit_agent::node::Node;
use kgit_agent::policy::{Forbidden, NodePolicy};
use kgit_agent::runtime::docker::Docker;
use kgit_agent::runtime::{Runtime as _, Scope};
use kgit_agent::volumes::Places;
use kgit_agent::worker::images::Puller;
use kgit_agent::worker::outbox::Outbox;
use kgit_agent::worker::{Start, Worker};
use kgit_protocol::assignment::{AssignmentSet, PodAssignment, PodNetwork, Stamp};
use kgit_protocol::ids::{Digest, Epoch, Generation, PodUid};
use kgit_protocol::messages::{Acknowledged, Heartbeat, Lease, Orders, Pull, Pulled, Report};
use kgit_protocol::observation::{Drift, DriftKind, PodEvent, PodObservation};
use kgit_protocol::pod::PodSpec;
use kgit_protocol::stream::{LogRequest, StreamRequest, frame};
use kgit_protocol::time::Timestamp;
use kgit_protocol::usage::Usage;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const IMAGE: &str = "kgit-test/busybox:1";
/// Generous: a loaded machine must not fail what is right.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A master that hands out what the test wants.
#[derive(Default)]
pub struct Master {
    pub state: Mutex<State>,
    pub changed: Notify,
    tunnel: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

#[derive(Default)]
pub struct State {
    pub generation: u64,
    pub pods: BTreeMap<PodUid, PodAssignment>,
    pub seen: BTreeMap<PodUid, PodObservation>,
    /// Every event that was reported, oldest first.
    pub events: Vec<PodEvent>,
    pub remove_volumes: Vec<String>,
    pub volumes_removed: BTreeSet<String>,
}

impl Master {
    pub fn order(&self, pod: PodAssignment) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.pods.insert(pod.uid.clone(), pod);
        self.changed.notify_waiters();
    }

    pub fn forget(&self, uid: &PodUid) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.pods.remove(uid);
        self.changed.notify_waiters();
    }

    /// Somebody ordered that a volume's data be removed.
    pub fn remove_volume(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.remove_volumes.push(name.to_owned());
        self.changed.notify_waiters();
    }

    pub fn seen(&self, uid: &PodUid) -> Option<PodObservation> {
        self.state.lock().unwrap().seen.get(uid).cloned()
    }

    /// What was told about all pods, a line an event: why a test waited in vain.
    fn story(&self) -> String {
        let state = self.state.lock().unwrap();
        let line =
            |event: &PodEvent| format!("\n{} {}: {}", event.at.0, event.reason, event.message);
        state.events.iter().map(line).collect()
    }

    fn set(state: &State) -> AssignmentSet {
        let stamp = Stamp {
            epoch: Epoch(1),
            generation: Generation(state.generation),
            digest: Digest::new(""),
        };
        let mut set = AssignmentSet {
            stamp,
            pods: state.pods.clone(),
            remove_volumes: state.remove_volumes.clone(),
            keep_others: false,
        };
        set.stamp.digest = set.content_digest();
        set
    }
}

impl Link for Master {
    async fn pull(&self, pull: &Pull) -> Answer<Pulled> {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.lock().unwrap();
                let set = Self::set(&state);
                if pull.have.as_ref() != Some(&set.stamp) {
                    let orders = Orders::Set(set);
                    let now = Timestamp(0);
                    return Ok(Pulled { orders, directory: None, audit_head: None, now });
                }
            }
            changed.await;
        }
    }

    async fn join_again(&self) -> Answer<()> {
        unreachable!("this master never says that the node is none of its own")
    }

    async fn report(&self, report: &Report) -> Answer<Acknowledged> {
        let mut state = self.state.lock().unwrap();
        state.volumes_removed.extend(report.volumes_removed.iter().cloned());
        state.events.extend(report.events.iter().cloned());
        for pod in &report.pods {
            state.seen.insert(pod.uid.clone(), pod.clone());
        }
        Ok(Acknowledged { sequence: report.sequence })
    }

    async fn heartbeat(&self, _heartbeat: &Heartbeat) -> Answer<Lease> {
        Ok(Lease { seconds: 40 })
    }

    async fn usage(&self, _usage: &Usage) -> Answer<()> {
        Ok(())
    }

    async fn tunnel(&self) -> Answer<Wire> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let executor = TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        *self.tunnel.lock().unwrap() = Some(sender);
        Ok(Box::new(far))
    }

    async fn leave(&self) -> Answer<()> {
        Ok(())
    }
}

/// One node on the real engine; everything it made is removed when the test is over.
pub struct Bench {
    pub socket: String,
    pub scope: Scope,
    pub third: u8,
    pub dir: tempfile::TempDir,
    pub master: Arc<Master>,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Bench {
    /// `None`, said loudly, where there is no engine to test with.
    pub fn new(number: u8) -> Option<Self> {
        let Ok(socket) = std::env::var("KGIT_TEST_DOCKER") else {
            eprintln!("SKIPPED: KGIT_TEST_DOCKER is not set, so nothing ran on a real engine");
            return None;
        };
        let unique = Digest::of(format!("{number} {}", std::process::id()).as_bytes());
        let scope = Scope { cluster: unique.as_str()[..16].into(), node: "bench".into() };
        let third = number.wrapping_add(u8::try_from(std::process::id() % 200).unwrap());
        let mut bench = Self {
            socket,
            scope,
            third,
            dir: tempfile::tempdir().unwrap(),
            master: Arc::default(),
            agent: None,
        };
        bench.start();
        Some(bench)
    }

    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.third, host)
    }

    pub fn range(&self) -> ipnet::Ipv4Net {
        ipnet::Ipv4Net::new(self.address(0), 24).unwrap()
    }

    pub fn docker(&self) -> Docker {
        Docker::new(self.scope.clone(), &self.socket)
    }

    fn identity(&self) -> Identity {
        Identity {
            cluster: self.scope.cluster.clone(),
            node: self.scope.node.clone(),
            certificate: String::new(),
            authority: String::new(),
        }
    }

    /// For what is done to a node from outside while its agent is not running.
    pub fn config(&self) -> AgentConfig {
        AgentConfig {
            master_url: String::new(),
            data_dir: self.dir.path().join("data"),
            kept_dirs: Vec::new(),
            node: self.scope.node.clone(),
            labels: BTreeMap::new(),
            token: None,
            policy: NodePolicy::default(),
            docker_socket: self.socket.clone(),
            docker_config: None,
            crash_at: None,
        }
    }

    /// What a command in a container says.
    pub async fn says(&self, id: &str, script: &str) -> String {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        self.docker().exec(id, &command, Duration::from_secs(10)).await.unwrap().output
    }

    /// A file in a Docker volume, as the host sees it.
    pub async fn in_volume(&self, volume: &str, file: &str) -> String {
        let folder = self.docker().volume_path(volume).await.unwrap().unwrap();
        std::fs::read_to_string(std::path::Path::new(&folder).join(file)).unwrap_or_default()
    }

    pub fn start(&mut self) {
        let journal = Journal::open(&self.dir.path().join("data")).unwrap();
        let remembered = journal.remembered().unwrap();
        let key = journal.spec_key([7; 32]).unwrap();
        journal.keep_network(PodNetwork { range: self.range() }).unwrap();
        journal.keep_identity(&self.identity()).unwrap();
        let node = Node::new(key, journal.set().unwrap(), remembered.pods.clone());
        let data = self.dir.path().join("data");
        let places = Places {
            pods: data.join("pods"),
            secrets: self.dir.path().join("secrets"),
            made: data.join("volumes"),
            policy: NodePolicy::default(),
            forbidden: Forbidden::default(),
            resolver: Default::default(),
        };
        let worker = Worker::new(Start {
            runtime: self.docker(),
            link: Arc::clone(&self.master),
            scope: self.scope.clone(),
            places,
            puller: Puller::default(),
            journal,
            outbox: Arc::new(Outbox::new("bench".into(), node.stamp().cloned())),
            range: self.range(),
            node,
            remembered,
            host_boot: "boot".to_owned(),
            ground: None,
        })
        .unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { worker.run(token).await.unwrap() });
        self.agent = Some((shutdown, task));
    }

    pub async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.agent.take() {
            shutdown.cancel();
            task.await.unwrap();
        }
    }

    pub async fn until(
        &self,
        uid: &PodUid,
        what: &str,
        is: impl Fn(&PodObservation) -> bool,
    ) -> PodObservation {
        let begun = Instant::now();
        loop {
            let seen = self.master.seen(uid);
            if let Some(seen) = &seen
                && is(seen)
            {
                return seen.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "never {what}: {seen:#?}{}", self.master.story());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ready(&self, uid: &PodUid) -> PodObservation {
        self.until(uid, "ready", |pod| pod.ready).await
    }

    /// Waits for a drift of this kind that is newer than `after`, and for the repair.
    pub async fn repaired(&self, uid: &PodUid, kind: DriftKind, after: u64) -> PodObservation {
        self.until(uid, &format!("repaired after {kind:?}"), |pod| {
            let told = |drift: &Drift| {
                // A removal is a kill first, and the agent may see it at that moment.
                let same = drift.kind == kind
                    || (kind == DriftKind::Removed && drift.kind == DriftKind::Stopped);
                same && drift.number > after
            };
            pod.ready && pod.drifts.iter().any(told)
        })
        .await
    }

    pub async fn logs(&self, uid: &PodUid, container: &str) -> String {
        let request = StreamRequest::Logs(LogRequest {
            pod: uid.clone(),
            container: container.to_owned(),
            follow: false,
            previous: false,
            timestamps: false,
            tail_lines: None,
            since: None,
            limit_bytes: None,
        });
        let text = serde_json::to_vec(&request).unwrap();
        let body = Full::new(Bytes::from(frame([&text, &[]])));
        let mut tunnel = self.master.tunnel.lock().unwrap().clone().expect("a tunnel is up");
        let request = hyper::Request::post("http://tunnel/stream").body(body).unwrap();
        let answer = tunnel.send_request(request).await.unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub async fn finish(mut self) {
        self.stop().await;
    }

    /// Somebody at the engine's own command line.
    pub fn vandal(&self, arguments: &[&str]) {
        let host = format!("unix://{}", self.socket.trim_start_matches("unix://"));
        let done = Command::new("docker").args(["-H", &host]).args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Removes what the test made, also when it failed.
impl Drop for Bench {
    fn drop(&mut self) {
        if let Some((shutdown, task)) = self.agent.take() {
            shutdown.cancel();
            task.abort();
        }
        let host = format!("unix://{}", self.socket.trim_start_matches("unix://"));
        let label = format!("label=dev.kgit.cluster={}", self.scope.cluster);
        let docker = |arguments: &[&str]| {
            let done = Command::new("docker").args(["-H", &host]).args(arguments).output();
            done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default()
        };
        // What the agent had under way is not over with it: a container may be made, and hold the network, meanwhile.
        let begun = Instant::now();
        loop {
            for id in docker(&["ps", "-aq", "--filter", &label]).lines() {
                docker(&["rm", "-f", "-v", id]);
            }
            for name in docker(&["volume", "ls", "-q", "--filter", &label]).lines() {
                docker(&["volume", "rm", name]);
            }
            docker(&["network", "rm", &self.scope.network()]);
            let left = docker(&["network", "ls", "-q", "--filter", &label]);
            if left.is_empty() || begun.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A pod from the protocol's own JSON, so that the tests read like the wire.
pub fn pod(bench: &Bench, host: u8, spec: serde_json::Value) -> PodAssignment {
    let mut whole = json!({
        "hostname": format!("pod-{host}"),
        "address": bench.address(host),
        "dns": { "nameservers": [], "searches": [], "options": [] },
        "restart_policy": "Always",
        "termination_grace_seconds": 5,
    });
    let extra = spec.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(extra);
    let spec: PodSpec = serde_json::from_value(whole).unwrap();
    let uid = Digest::of(format!("{}{host}", bench.scope.cluster).as_bytes());
    let mut assignment = json!({
        "uid": &uid.as_str()[..32],
        "namespace": "default",
        "name": format!("pod-{host}"),
        "order": "Run",
        "spec": serde_json::to_value(&spec).unwrap(),
        "spec_digest": "",
    });
    assignment["digest"] = json!("");
    serde_json::from_value(assignment).unwrap()
}

pub fn shell(name: &str, script: &str) -> serde_json::Value {
    json!({
        "name": name,
        "image": IMAGE,
        "pull_policy": "IfNotPresent",
        "command": ["/bin/sh", "-c"],
        "args": [script],
    })
}

pub const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";

//! The agent's worker on a real Docker engine, with a master that is made up. Needs
//! `KGIT_TEST_DOCKER` set to the engine's socket and the image `kgit-test/busybox:1`.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it drives a real engine")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kgit_agent::journal::Journal;
use kgit_agent::link::{Answer, Link, LinkError};
use kgit_agent::node::Node;
use kgit_agent::policy::{Forbidden, NodePolicy};
use kgit_agent::runtime::docker::Docker;
use kgit_agent::runtime::{LogStream, Runtime as _, Scope};
use kgit_agent::volumes::Places;
use kgit_agent::worker::images::Puller;
use kgit_agent::worker::outbox::Outbox;
use kgit_agent::worker::{Start, Worker};
use kgit_protocol::assignment::{AssignmentSet, Order, PodAssignment, Stamp};
use kgit_protocol::ids::{Digest, Epoch, Generation, PodUid};
use kgit_protocol::messages::{
    Acknowledged, Heartbeat, Lease, LogRequest, Orders, Pull, Pulled, Report, StreamKind,
    StreamRequest,
};
use kgit_protocol::observation::{Drift, DriftKind, PodObservation, PodPhase};
use kgit_protocol::pod::PodSpec;
use kgit_protocol::time::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "kgit-test/busybox:1";
/// Generous: a loaded machine must not fail what is right.
const PATIENCE: Duration = Duration::from_secs(60);

/// A master that hands out what the test wants.
#[derive(Default)]
struct Master {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    generation: u64,
    pods: BTreeMap<PodUid, PodAssignment>,
    streams: Vec<StreamRequest>,
    seen: BTreeMap<PodUid, PodObservation>,
    answers: BTreeMap<String, Vec<u8>>,
}

impl Master {
    fn order(&self, pod: PodAssignment) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.pods.insert(pod.uid.clone(), pod);
        self.changed.notify_waiters();
    }

    fn forget(&self, uid: &PodUid) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.pods.remove(uid);
        self.changed.notify_waiters();
    }

    fn seen(&self, uid: &PodUid) -> Option<PodObservation> {
        self.state.lock().unwrap().seen.get(uid).cloned()
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
            remove_volumes: Vec::new(),
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
                let mut state = self.state.lock().unwrap();
                let set = Self::set(&state);
                let streams = std::mem::take(&mut state.streams);
                if pull.have.as_ref() != Some(&set.stamp) || !streams.is_empty() {
                    let orders = Orders::Set(set);
                    let now = Timestamp(0);
                    return Ok(Pulled { orders, streams, audit_head: None, now });
                }
            }
            changed.await;
        }
    }

    async fn report(&self, report: &Report) -> Answer<Acknowledged> {
        let mut state = self.state.lock().unwrap();
        for pod in &report.pods {
            state.seen.insert(pod.uid.clone(), pod.clone());
        }
        Ok(Acknowledged { sequence: report.sequence })
    }

    async fn heartbeat(&self, _heartbeat: &Heartbeat) -> Answer<Lease> {
        Ok(Lease { seconds: 40 })
    }

    async fn answer(&self, stream: &str, body: Result<LogStream, String>) -> Answer<()> {
        let mut bytes = Vec::new();
        let mut body = body.map_err(LinkError::Nonsense)?;
        while let Some(Ok(chunk)) = body.next().await {
            bytes.extend_from_slice(&chunk);
        }
        self.state.lock().unwrap().answers.insert(stream.to_owned(), bytes);
        Ok(())
    }

    async fn leave(&self) -> Answer<()> {
        Ok(())
    }
}

/// One node on the real engine; everything it made is removed when the test is over.
struct Bench {
    socket: String,
    scope: Scope,
    third: u8,
    dir: tempfile::TempDir,
    master: Arc<Master>,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Bench {
    /// `None`, said loudly, where there is no engine to test with.
    fn new(number: u8) -> Option<Self> {
        let Ok(socket) = std::env::var("KGIT_TEST_DOCKER") else {
            eprintln!("SKIPPED: KGIT_TEST_DOCKER is not set, so nothing ran on a real engine");
            return None;
        };
        let unique = Digest::of(format!("{number} {}", std::process::id()).as_bytes());
        let scope = Scope { cluster: unique.0[..16].into(), node: "bench".into() };
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

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.third, host)
    }

    fn range(&self) -> ipnet::Ipv4Net {
        ipnet::Ipv4Net::new(self.address(0), 24).unwrap()
    }

    fn docker(&self) -> Docker {
        Docker::new(self.scope.clone(), &self.socket)
    }

    fn start(&mut self) {
        let journal = Journal::open(&self.dir.path().join("data")).unwrap();
        let remembered = journal.remembered().unwrap();
        let key = journal.spec_key([7; 32]).unwrap();
        let node = Node::new(key, journal.set().unwrap(), remembered.pods.clone());
        let places = Places {
            pods: self.dir.path().join("pods"),
            secrets: self.dir.path().join("secrets"),
            made: self.dir.path().join("made"),
            policy: NodePolicy::default(),
            forbidden: Forbidden::default(),
        };
        let worker = Worker::new(Start {
            runtime: self.docker(),
            link: Arc::clone(&self.master),
            scope: self.scope.clone(),
            places,
            puller: Puller::default(),
            journal,
            outbox: Arc::new(Outbox::new("bench".into())),
            range: self.range(),
            node,
            remembered,
            host_boot: "boot".to_owned(),
        })
        .unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { worker.run(token).await.unwrap() });
        self.agent = Some((shutdown, task));
    }

    async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.agent.take() {
            shutdown.cancel();
            task.await.unwrap();
        }
    }

    async fn until(
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
            assert!(begun.elapsed() < PATIENCE, "never {what}: {seen:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ready(&self, uid: &PodUid) -> PodObservation {
        self.until(uid, "ready", |pod| pod.ready).await
    }

    /// Waits for a drift of this kind that is newer than `after`, and for the repair.
    async fn repaired(&self, uid: &PodUid, kind: DriftKind, after: u64) -> PodObservation {
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

    async fn logs(&self, uid: &PodUid, container: &str) -> String {
        let id = format!("{uid}-{container}-{}", self.master.state.lock().unwrap().answers.len());
        let kind = StreamKind::Logs(LogRequest {
            pod: uid.clone(),
            container: container.to_owned(),
            follow: false,
            previous: false,
            timestamps: false,
            tail_lines: None,
            since: None,
            limit_bytes: None,
        });
        self.master.state.lock().unwrap().streams.push(StreamRequest { id: id.clone(), kind });
        self.master.changed.notify_waiters();
        let begun = Instant::now();
        loop {
            if let Some(bytes) = self.master.state.lock().unwrap().answers.get(&id) {
                return String::from_utf8(bytes.clone()).unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "no answer to {id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn finish(mut self) {
        self.stop().await;
    }

    /// Somebody at the engine's own command line.
    fn vandal(&self, arguments: &[&str]) {
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
        for id in docker(&["ps", "-aq", "--filter", &label]).lines() {
            docker(&["rm", "-f", "-v", id]);
        }
        for name in docker(&["volume", "ls", "-q", "--filter", &label]).lines() {
            docker(&["volume", "rm", name]);
        }
        docker(&["network", "rm", &self.scope.network()]);
    }
}

/// A pod from the protocol's own JSON, so that the tests read like the wire.
fn pod(bench: &Bench, host: u8, spec: serde_json::Value) -> PodAssignment {
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
        "uid": &uid.0[..32],
        "namespace": "default",
        "name": format!("pod-{host}"),
        "order": "Run",
        "spec": serde_json::to_value(&spec).unwrap(),
        "spec_digest": "",
    });
    assignment["digest"] = json!("");
    serde_json::from_value(assignment).unwrap()
}

fn shell(name: &str, script: &str) -> serde_json::Value {
    json!({
        "name": name,
        "image": IMAGE,
        "pull_policy": "IfNotPresent",
        "command": ["/bin/sh", "-c"],
        "args": [script],
    })
}

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_at_its_address_says_something_and_goes() {
    let Some(bench) = Bench::new(1) else { return };
    let script = format!("hostname; cat /etc/hosts; echo $GREETING; {WAIT}");
    let mut container = shell("main", &script);
    container["env"] = json!([{ "name": "GREETING", "value": "hello there" }]);
    let pod = pod(&bench, 10, json!({ "containers": [container] }));
    bench.master.order(pod.clone());
    let seen = bench.ready(&pod.uid).await;
    assert_eq!(seen.phase, PodPhase::Running);
    let logs = bench.logs(&pod.uid, "main").await;
    assert!(logs.contains("pod-10") && logs.contains("hello there"), "{logs}");
    assert!(logs.contains(&bench.address(10).to_string()), "{logs}");
    bench.master.order(PodAssignment { order: Order::Stop { grace_seconds: 5 }, ..pod.clone() });
    bench.until(&pod.uid, "gone", |pod| pod.phase == PodPhase::Gone).await;
    assert!(bench.docker().view(bench.range()).await.unwrap().containers.is_empty());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_first_and_members_share_a_network_and_a_volume() {
    let Some(bench) = Bench::new(2) else { return };
    let mut init = shell("init", "echo made by init > /data/file");
    let mut server = shell("server", &format!("nc -ll -p 8080 -e cat /data/file & {WAIT}"));
    let mut client = shell("client", &format!("sleep 1; nc 127.0.0.1 8080; cat /config/a; {WAIT}"));
    let mount = json!([{ "volume": "shared", "path": "/data" }]);
    init["mounts"] = mount.clone();
    server["mounts"] = mount;
    client["mounts"] = json!([{ "volume": "files", "path": "/config", "read_only": true }]);
    let pod = pod(
        &bench,
        20,
        json!({
            "init_containers": [init],
            "containers": [server, client],
            "volumes": [
                { "name": "shared", "source": { "EmptyDir": { "memory": false, "size_limit_bytes": null } } },
                { "name": "files", "source": { "Files": { "secret": true, "files": [
                    { "path": "a", "mode": 420, "content": "ZnJvbSBhIHNlY3JldAo=" } ] } } },
            ],
        }),
    );
    bench.master.order(pod.clone());
    bench.ready(&pod.uid).await;
    let begun = Instant::now();
    loop {
        let logs = bench.logs(&pod.uid, "client").await;
        if logs.contains("made by init") && logs.contains("from a secret") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{logs}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_does_to_a_container_is_told_and_undone() {
    let Some(bench) = Bench::new(3) else { return };
    let pod = pod(&bench, 30, json!({ "containers": [shell("main", WAIT)] }));
    bench.master.order(pod.clone());
    let mut seen = bench.ready(&pod.uid).await;
    let acts: [(&[&str], DriftKind); 5] = [
        (&["rm", "-f"], DriftKind::Removed),
        (&["stop"], DriftKind::Stopped),
        (&["kill"], DriftKind::Stopped),
        (&["pause"], DriftKind::Paused),
        (&["update", "--memory", "64m", "--memory-swap", "64m"], DriftKind::Changed),
    ];
    for (act, kind) in acts {
        let id = seen.containers[0].container_id.clone().unwrap();
        let told = seen.drifts.last().map_or(0, |drift| drift.number);
        bench.vandal(&[act, &[id.as_str()]].concat());
        let after = bench.repaired(&pod.uid, kind, told).await;
        assert!(after.containers[0].attempt >= seen.containers[0].attempt, "{act:?}");
        seen = after;
    }
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_network_and_a_lost_sandbox_are_put_back() {
    let Some(bench) = Bench::new(4) else { return };
    let single = pod(&bench, 40, json!({ "containers": [shell("main", WAIT)] }));
    let double = pod(&bench, 41, json!({ "containers": [shell("a", WAIT), shell("b", WAIT)] }));
    bench.master.order(single.clone());
    bench.master.order(double.clone());
    bench.ready(&single.uid).await;
    let seen = bench.ready(&double.uid).await;
    let told = seen.drifts.last().map_or(0, |drift| drift.number);
    let network = bench.scope.network();
    for container in bench.docker().view(bench.range()).await.unwrap().containers {
        if container.address.is_some() {
            bench.vandal(&["network", "disconnect", "-f", &network, &container.id]);
        }
    }
    // The agent may be faster than the vandal.
    let host = format!("unix://{}", bench.socket.trim_start_matches("unix://"));
    let _ = Command::new("docker").args(["-H", &host, "network", "rm", &network]).output();
    bench.repaired(&single.uid, DriftKind::NetworkLost, 0).await;
    let seen = bench.repaired(&double.uid, DriftKind::NetworkLost, told).await;
    let told = seen.drifts.last().map_or(0, |drift| drift.number);
    let view = bench.docker().view(bench.range()).await.unwrap();
    let sandbox = view.containers.iter().find(|seen| seen.identity.container.is_empty()).unwrap();
    bench.vandal(&["kill", &sandbox.id]);
    let after = bench.repaired(&double.uid, DriftKind::Stopped, told).await;
    assert!(after.containers.iter().all(|container| container.restarts > 0), "{after:#?}");
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_adopts_its_containers() {
    let Some(mut bench) = Bench::new(5) else { return };
    let pod = pod(&bench, 50, json!({ "containers": [shell("a", WAIT), shell("b", WAIT)] }));
    bench.master.order(pod.clone());
    bench.ready(&pod.uid).await;
    let ids = |bench: &Bench| {
        let docker = bench.docker();
        let range = bench.range();
        async move {
            let view = docker.view(range).await.unwrap();
            let all =
                view.containers.into_iter().map(|seen| (seen.id, format!("{:?}", seen.state)));
            all.collect::<BTreeMap<_, _>>()
        }
    };
    let before = ids(&bench).await;
    bench.stop().await;
    bench.master.state.lock().unwrap().seen.clear();
    bench.start();
    bench.ready(&pod.uid).await;
    assert_eq!(ids(&bench).await, before);
    bench.master.forget(&pod.uid);
    bench.until(&pod.uid, "gone", |pod| pod.phase == PodPhase::Gone).await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_refuses_what_it_does_not_allow() {
    let Some(bench) = Bench::new(6) else { return };
    let mut container = shell("main", WAIT);
    container["security"] = json!({ "privileged": true });
    let privileged = pod(&bench, 60, json!({ "containers": [container] }));
    let root = pod(
        &bench,
        61,
        json!({
            "containers": [shell("main", WAIT)],
            "volumes": [{ "name": "root", "source": { "HostPath": { "path": "/", "kind": "Unset" } } }],
        }),
    );
    for pod in [&privileged, &root] {
        bench.master.order(pod.clone());
        let seen = bench.until(&pod.uid, "refused", |pod| pod.phase == PodPhase::Failed).await;
        assert_eq!(seen.reason.as_deref(), Some("NodePolicy"));
    }
    assert!(bench.docker().view(bench.range()).await.unwrap().containers.is_empty());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_about_readiness_and_restarts() {
    let Some(bench) = Bench::new(7) else { return };
    let script = format!("touch /tmp/ok; nc -ll -p 8080 -e true & {WAIT}");
    let mut container = shell("main", &script);
    let probe = |handler: serde_json::Value| {
        json!({ "handler": handler, "initial_delay_seconds": 0, "period_seconds": 1,
                "timeout_seconds": 1, "success_threshold": 1, "failure_threshold": 2 })
    };
    container["readiness"] = probe(json!({ "Tcp": { "host": null, "port": 8080 } }));
    container["liveness"] = probe(json!({ "Exec": { "command": ["test", "-e", "/tmp/ok"] } }));
    let pod = pod(&bench, 70, json!({ "containers": [container] }));
    bench.master.order(pod.clone());
    let seen = bench.ready(&pod.uid).await;
    let id = seen.containers[0].container_id.clone().unwrap();
    bench.vandal(&["exec", &id, "rm", "/tmp/ok"]);
    let after = bench
        .until(&pod.uid, "restarted", |pod| pod.ready && pod.containers[0].restarts == 1)
        .await;
    assert!(after.drifts.is_empty(), "{after:#?}");
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_once_and_a_failure_tells_its_last_words() {
    let Some(bench) = Bench::new(8) else { return };
    let well = pod(
        &bench,
        80,
        json!({
        "restart_policy": "Never", "containers": [shell("main", "echo done")] }),
    );
    let badly = pod(
        &bench,
        81,
        json!({
        "restart_policy": "Never",
        "containers": [shell("main", "echo why > /dev/termination-log; exit 3")] }),
    );
    bench.master.order(well.clone());
    bench.master.order(badly.clone());
    bench.until(&well.uid, "succeeded", |pod| pod.phase == PodPhase::Succeeded).await;
    let seen = bench
        .until(&badly.uid, "failed", |pod| {
            pod.phase == PodPhase::Failed && format!("{pod:?}").contains("why")
        })
        .await;
    assert!(format!("{:?}", seen.containers[0].state).contains("exit_code: 3"), "{seen:#?}");
    assert_eq!(bench.logs(&well.uid, "main").await, "done\n");
    bench.finish().await;
}

//! What a fleet that has nothing to do costs its master: a master process of its own, and agents
//! outside it, real but for their engines, each with pods to watch over.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use kgit_agent::journal::Journal;
use kgit_agent::link::https::HttpsLink;
use kgit_agent::link::join::{Application, join, new_key};
use kgit_agent::link::token::JoinToken;
use kgit_agent::node::Node;
use kgit_agent::policy::{Forbidden, NodePolicy};
use kgit_agent::runtime::Scope;
use kgit_agent::runtime::sim::Sim;
use kgit_agent::volumes::Places;
use kgit_agent::volumes::resolver::Resolver;
use kgit_agent::worker::images::Puller;
use kgit_agent::worker::outbox::Outbox;
use kgit_agent::worker::{Start, Worker};
use kgit_protocol::assignment::PodNetwork;
use kgit_protocol::ids::{BootId, NodeName};
use kgit_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::process::{kgit, ready_nodes, wait_until};
use crate::{Size, repo};

const IMAGE: &str = "app:1";
const PODS_PER_NODE: usize = 10;
/// The engines' clocks stand still; when, in milliseconds since 1970.
const BEGAN: i64 = 1_767_225_600_000;
/// The master's own work after a rollout is over by then.
const SETTLE: Duration = Duration::from_secs(5);

#[test]
fn a_fleet_that_has_nothing_to_do() {
    let (agents, window) = match Size::chosen() {
        Size::Smoke => (3, Duration::from_secs(1)),
        Size::Full => (100, Duration::from_secs(60)),
    };
    let pods = agents * PODS_PER_NODE;
    let fleet = Fleet::start(agents, |source| {
        std::fs::create_dir(source).unwrap();
        std::fs::write(source.join("app.yaml"), deployment(pods)).unwrap();
    });
    let before = fleet.master.cpu_seconds();
    std::thread::sleep(window);
    let share = (fleet.master.cpu_seconds() - before) / window.as_secs_f64() * 100.0;
    let resident = fleet.master.megabytes("VmRSS:");
    println!("idle, {agents} agents, {pods} pods: {share:.2} % of a core, {resident:.0} MB");
}

#[test]
fn what_a_repo_takes_of_memory() {
    let sizes = match Size::chosen() {
        Size::Smoke => vec![(40, 1)],
        Size::Full => vec![(100, 1), (10_000, 25)],
    };
    for (objects, agents) in sizes {
        let fleet = Fleet::start(agents, |source| drop(repo::make_of(source, objects, modest)));
        let pods = fleet.pods();
        let [resident, peak] = ["VmRSS:", "VmHWM:"].map(|field| fleet.master.megabytes(field));
        println!(
            "memory of the master, {objects} objects, {pods} pods on {agents} nodes: {resident:.0} MB, \
             at most {peak:.0} MB"
        );
    }
}

/// An application whose containers nobody asks how they are, and that fits anywhere: behind the engines there is nothing.
fn modest(index: usize) -> String {
    let text = repo::application(index, IMAGE);
    let (before, rest) = text.split_once("        readinessProbe:\n").expect("it has a probe");
    let (_, after) = rest.split_once("        volumeMounts:").expect("which its requests follow");
    format!("{before}        volumeMounts:{after}")
}

/// A master and its agents, every pod running.
struct Fleet {
    master: Master,
    shutdown: CancellationToken,
    // Dropped after the token.
    _agents: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Fleet {
    fn start(agents: usize, source: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::Builder::new().prefix("kgit-bench").tempdir_in("/var/tmp").unwrap();
        source(&dir.path().join("source"));
        let master = Master::start(dir.path());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let shutdown = CancellationToken::new();
        let (token, url) = (master.token(), master.url());
        for index in 0..agents {
            let dir = dir.path().join(format!("agent-{index}"));
            let worker = runtime.block_on(agent(index, dir, &url, &token));
            runtime.spawn(worker.run(shutdown.clone()));
        }
        wait_until(&master.data, |status| {
            ready_nodes(status) == agents && status["reconciling"].is_null()
        });
        std::thread::sleep(SETTLE);
        Self { master, shutdown, _agents: runtime, _dir: dir }
    }

    /// How many pods are ready, as `kgit get` lists them.
    fn pods(&self) -> usize {
        let mut command = kgit();
        command.args(["get", "pods", "-A", "-o", "json", "--kubeconfig"]);
        let output = command.arg(self.master.data.join("kubeconfig")).output().expect("kgit runs");
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

struct Master {
    data: PathBuf,
    process: Child,
}

impl Master {
    /// A master that follows the folder `source`.
    fn start(dir: &Path) -> Self {
        let (source, data) = (dir.join("source"), dir.join("data"));
        let process = kgit()
            .args(["master", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .arg("--source")
            .arg(&source)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kgit starts");
        let master = Self { data, process };
        wait_until(&master.data, |status| status["source"]["commit"].is_object());
        master
    }

    fn token(&self) -> JoinToken {
        let output = kgit()
            .args(["token", "create", "--uses", "0", "--kubeconfig"])
            .arg(self.data.join("kubeconfig"))
            .output()
            .expect("kgit runs");
        JoinToken::parse(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
    }

    fn url(&self) -> String {
        let kubeconfig = std::fs::read_to_string(self.data.join("kubeconfig")).unwrap();
        let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: "));
        line.expect("a kubeconfig names its server").trim_matches('"').to_owned()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        // Fields 14 and 15 of proc(5); the second, a name, may hold anything up to the last `)`.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// `VmRSS:` is what is resident, `VmHWM:` the most that ever was.
    fn megabytes(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn agent(index: usize, dir: PathBuf, url: &str, token: &JoinToken) -> Worker<Sim, HttpsLink> {
    let name = NodeName::new(format!("node-{index}"));
    let range: Ipv4Net = format!("10.{}.{}.0/24", 200 + index / 256, index % 256).parse().unwrap();
    let key = new_key().unwrap();
    let application = Application {
        node: name,
        key: key.clone(),
        labels: Default::default(),
        network: PodNetwork { range },
        token: Some(token.clone()),
    };
    let joined = join(url, &application).await.unwrap();
    let link = HttpsLink::new(url, &joined.authority, &joined.certificate, &key).unwrap();
    let journal = Journal::open(&dir).unwrap();
    let spec_key = journal.spec_key([7; 32]).unwrap();
    let engine = Sim::default();
    engine.set_time(Timestamp(BEGAN));
    engine.world().images.insert(IMAGE.to_owned());
    let start = Start {
        runtime: engine,
        link: Arc::new(link),
        scope: Scope { cluster: joined.cluster, node: joined.node },
        places: Places {
            pods: dir.join("pods"),
            secrets: dir.join("secrets"),
            made: dir.join("volumes"),
            policy: NodePolicy::default(),
            forbidden: Forbidden::default(),
            resolver: Resolver::new(None),
        },
        puller: Puller::new(None),
        remembered: journal.remembered().unwrap(),
        journal,
        outbox: Arc::new(Outbox::new(BootId::new("bench"), None)),
        range,
        ground: None,
        node: Node::new(spec_key, None, std::collections::BTreeMap::new()),
        host_boot: String::new(),
    };
    Worker::new(start).unwrap()
}

fn deployment(pods: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: app}}}}
  strategy: {{type: Recreate}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      containers:
      - {{name: main, image: \"{IMAGE}\"}}
"
    )
}

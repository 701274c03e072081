//! kgit's side: `kgit up` on a bare repository, and a commit.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use git2::{Repository, Signature};

use super::{IMAGE, engine};

const PATIENCE: Duration = Duration::from_secs(120);

pub struct Cluster {
    dir: tempfile::TempDir,
    process: Child,
    repo: Repository,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    /// Up, with one object that stays, so that the source is never empty.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("kgit-bench").tempdir_in("/var/tmp").unwrap();
        let repo = Repository::init_bare(dir.path().join("repo.git")).unwrap();
        repo.set_head("refs/heads/main").unwrap();
        let process = kgit()
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.path().join("data"))
            .arg(dir.path().join("repo.git"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kgit starts");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cluster = Self { dir, process, repo, runtime };
        cluster.commit(&[("stays.yaml", STAYS)]);
        cluster.wait_until(|status| status["source"]["commit"].is_object() && ready(status));
        cluster
    }

    /// Seconds from the commit until so many containers run.
    pub async fn deploy(&self, round: usize, count: usize) -> f64 {
        let manifest = deployment(round, count);
        engine::seconds_until_started(&self.label(), count, || async {
            self.commit(&[("stays.yaml", STAYS), ("bench.yaml", &manifest)]);
        })
        .await
    }

    /// Takes the Deployment away again, and waits until its containers are gone.
    pub fn remove(&self) {
        self.commit(&[("stays.yaml", STAYS)]);
        self.runtime.block_on(engine::gone(&self.label()));
        self.wait_until(|status| status["waits"].as_array().is_none_or(Vec::is_empty));
    }

    /// Marks this cluster's containers; there may be others on the engine.
    fn label(&self) -> String {
        let status = status(self.dir.path()).expect("kgit answers");
        format!("dev.kgit.cluster={}", status["cluster"].as_str().expect("a cluster has an id"))
    }

    /// Commits a tree of just these files to the branch that is followed.
    fn commit(&self, files: &[(&str, &str)]) {
        let mut tree = self.repo.treebuilder(None).unwrap();
        for (name, text) in files {
            let blob = self.repo.blob(text.as_bytes()).unwrap();
            tree.insert(name, blob, 0o100_644).unwrap();
        }
        let tree = self.repo.find_tree(tree.write().unwrap()).unwrap();
        let author = Signature::now("Ann", "ann@example.org").unwrap();
        let parent = self.repo.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        self.repo
            .commit(Some("refs/heads/main"), &author, &author, "bench", &tree, &parents)
            .unwrap();
    }

    fn wait_until(&self, holds: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if status(self.dir.path()).is_some_and(|status| holds(&status)) {
                return;
            }
            assert!(Instant::now() < deadline, "kgit does not get ready");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // `down` ends the process by itself; it may have ended already.
        let data = self.dir.path().join("data");
        let _ = kgit().args(["down", "--purge", "--yes", "--data"]).arg(data).status();
        let _ = self.process.wait();
    }
}

const STAYS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stays}\n";

fn kgit() -> Command {
    Command::new(PathBuf::from(env!("CARGO_BIN_EXE_kgit")))
}

fn status(dir: &Path) -> Option<serde_json::Value> {
    let output = kgit()
        .args(["status", "-o", "json", "--kubeconfig"])
        .arg(dir.join("data/kubeconfig"))
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn ready(status: &serde_json::Value) -> bool {
    let nodes = status["nodes"].as_array();
    nodes.is_some_and(|nodes| nodes.iter().any(|node| node["ready"] == true))
}

fn deployment(round: usize, count: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: bench-{round}}}
spec:
  replicas: {count}
  selector: {{matchLabels: {{app: bench}}}}
  template:
    metadata: {{labels: {{app: bench}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: {IMAGE}
        command: [sh, -c, sleep 100000]
"
    )
}

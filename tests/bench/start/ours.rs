//! kgit's side: `kgit up` on a bare repository, and a commit.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use git2::{Repository, Signature};

use super::{IMAGE, engine};
use crate::process::{kgit, ready_nodes, status, wait_until};

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
        wait_until(&cluster.data(), |status| {
            status["source"]["commit"].is_object() && ready_nodes(status) > 0
        });
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
        wait_until(&self.data(), |status| status["waits"].as_array().is_none_or(Vec::is_empty));
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Marks this cluster's containers; there may be others on the engine.
    fn label(&self) -> String {
        let status = status(&self.data()).expect("kgit answers");
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
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // `down` ends the process by itself; it may have ended already.
        let _ = kgit().args(["down", "--purge", "--yes", "--data"]).arg(self.data()).status();
        let _ = self.process.wait();
    }
}

const STAYS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stays}\n";

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

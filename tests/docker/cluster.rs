//! A cluster of `kgit up` on a real engine: started, killed, asked, and always taken down again.
//!
//! What it holds is read through its API by the real `kubectl`, and beside it through Docker's own command; nothing
//! here looks into kgit's files, but for the cluster's id.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::engine::{Container, Engine};
use crate::process::{Process, kgit};
use crate::ran::Ran;
use crate::room::Room;
use crate::wait;

#[derive(Debug)]
pub struct Cluster {
    pub engine: Engine,
    room: Room,
    arguments: Vec<OsString>,
    process: Option<Process>,
    id: String,
}

impl Cluster {
    /// `kgit up SOURCE`, with more arguments where wanted. Returns when its node is ready.
    pub fn up(engine: &Engine, room: Room, source: &Path, arguments: &[&str]) -> Self {
        let mut all: Vec<OsString> = vec!["up".into(), source.into()];
        all.extend(arguments.iter().map(OsString::from));
        let mut cluster =
            Self { engine: engine.clone(), room, arguments: all, process: None, id: String::new() };
        cluster.start();
        cluster.until("a ready node", || {
            let status = cluster.status()?;
            let node = status["nodes"].get(0)?;
            (node["ready"] == true).then_some(())
        });
        cluster.id = cluster
            .status()
            .and_then(|status| Some(status["cluster"].as_str()?.to_owned()))
            .expect("an id");
        cluster
    }

    /// The same on a folder of files, given as (path, content).
    pub fn up_with(engine: &Engine, files: &[(&str, &str)]) -> Self {
        let room = Room::new();
        let folder = room.folder("manifests");
        for (path, content) in files {
            write(&folder.join(path), content);
        }
        Self::up(engine, room, &folder, &[])
    }

    /// Starts the process (again), on the same data.
    pub fn start(&mut self) {
        // Once chosen, the port stays: whoever knows the master knows it by its address.
        let first = !self.data().join("listen").exists();
        let mut command = kgit();
        command
            .args(&self.arguments)
            .args(["--docker", &self.engine.socket])
            .arg("--data")
            .arg(self.data());
        command.args(if first { &["--listen", "127.0.0.1:0"][..] } else { &[] });
        self.process = Some(Process::start(command, &self.room.join("kgit.log")));
        self.until("an answer of the master", || self.status());
    }

    /// `kill -9` of master and agent, which are one process.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Ctrl-C.
    pub fn stop(&mut self) {
        self.process.take().expect("it runs").terminate();
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn data(&self) -> PathBuf {
        self.room.join("data")
    }

    pub fn room(&self) -> &Path {
        self.room.path()
    }

    /// Where [`Cluster::up_with`] put its files.
    pub fn file(&self, path: &str) -> PathBuf {
        self.room.join("manifests").join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        write(&self.file(path), content);
    }

    // --- asking -------------------------------------------------------------------------------------------------

    /// Another run of the same program, against this cluster.
    pub fn kgit(&self, arguments: &[&str]) -> Ran {
        let mut command = kgit();
        command.env("KGIT_DATA", self.data()).env("KUBECONFIG", self.data().join("kubeconfig"));
        command.env("DOCKER_HOST", &self.engine.socket).current_dir(self.room.path());
        Ran::of(command.args(arguments))
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.data().join("kubeconfig"));
        command.arg("--cache-dir").arg(self.room.join("kubectl-cache"));
        Ran::of(command.args(arguments))
    }

    /// One answer of the API, or nothing where it has none.
    pub fn api(&self, path: &str) -> Option<Value> {
        let ran = self.kubectl(&["get", "--raw", path]);
        (ran.code == 0).then(|| serde_json::from_str(&ran.out).expect("the API answers in JSON"))
    }

    /// One object by its kind, namespace and name, such as `pods default web-1`.
    pub fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let ran = self.kubectl(&["get", kind, "-n", namespace, name, "-o", "json"]);
        (ran.code == 0).then(|| serde_json::from_str(&ran.out).expect("kubectl prints JSON"))
    }

    /// All objects of a kind, in all namespaces.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let ran = self.kubectl(&["get", kind, "-A", "-o", "json"]);
        let list: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub fn status(&self) -> Option<Value> {
        self.api("/kgit/v1/status")
    }

    /// All containers of this cluster, running or not, without those that hold a pod's namespaces.
    pub fn containers(&self) -> Vec<Container> {
        self.engine.containers(&format!("dev.kgit.cluster={}", self.id))
    }

    /// The running containers of pods whose name starts so.
    pub fn running(&self, pod: &str) -> Vec<Container> {
        let mut found = self.containers();
        found.retain(|container| container.runs() && container.label("pod").starts_with(pod));
        found
    }

    /// Ends all containers at once: a shell as process 1 ignores TERM and would use up its 30 s.
    pub fn kill_containers(&self) {
        let running = self.containers().into_iter().filter(Container::runs);
        let ids: Vec<String> = running.map(|container| container.id().to_owned()).collect();
        if !ids.is_empty() {
            let ids = ids.iter().map(String::as_str);
            // One that ends by itself meanwhile is as good.
            let _ = self.engine.try_docker(&["kill"].into_iter().chain(ids).collect::<Vec<_>>());
        }
    }

    // --- waiting ------------------------------------------------------------------------------------------------

    /// Waits until the condition yields a value; if it never does, says how things stand.
    pub fn until<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        wait::until(what, || self.account(), condition)
    }

    /// Waits until a pod's container says it is ready.
    pub fn until_ready(&self, pod: &str) -> Value {
        self.until(&format!("pod {pod} is ready"), || self.object("pods", pod).filter(is_ready))
    }

    /// Waits until the source stands at a commit and nothing is left to be done for it.
    pub fn until_done(&self, commit: &str) {
        self.until(&format!("all steps of commit {commit}"), || {
            let status = self.status()?;
            (status["source"]["commit"]["id"] == commit && is_quiet(&status)).then_some(())
        });
    }

    /// Waits until nothing is being done, whatever the commit.
    pub fn until_quiet(&self) {
        self.until("nothing is left to be done", || self.status().filter(is_quiet));
    }

    /// How things stand, for the message of a test that failed.
    pub fn account(&self) -> String {
        let log = std::fs::read_to_string(self.room.join("kgit.log")).unwrap_or_default();
        let log: Vec<&str> = log.lines().rev().take(30).collect();
        let log: Vec<&str> = log.into_iter().rev().collect();
        let status = self.api("/kgit/v1/status").unwrap_or_default();
        let pods = self.kubectl(&["get", "pods,deployments,jobs,pvc", "-A", "-o", "wide"]);
        let events = self.kubectl(&["get", "events", "-A"]);
        format!(
            "--- log\n{}\n--- status\n{status:#}\n--- objects\n{pods}\n--- events\n{events}",
            log.join("\n")
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.account());
        }
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.kill_containers();
        let down = self.kgit(&["down", "--purge", "--yes"]);
        let left = if self.id.is_empty() { Vec::new() } else { self.engine.left_of(&self.id) };
        if std::thread::panicking() {
            eprintln!("kgit down --purge: {down}left in the engine: {left:?}");
            return;
        }
        assert_eq!(down.code, 0, "kgit down --purge: {down}");
        assert!(left.is_empty(), "left in the engine after kgit down --purge: {left:?}");
        assert!(!self.data().exists(), "kgit down --purge leaves no data");
    }
}

pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == Some("True")
}

/// The status of one of an object's conditions.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// No reconcile is under way, and only people are waited for.
fn is_quiet(status: &Value) -> bool {
    status["reconciling"].is_null()
}

fn write(path: &Path, content: &str) {
    let folder = path.parent().expect("a file lies in a folder");
    std::fs::create_dir_all(folder).expect("the folder can be made");
    std::fs::write(path, content).expect("the file can be written");
}

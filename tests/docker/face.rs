//! A master's face: what is asked of it and read from it, by the real `kubectl` and by `kgit`
//! itself. Nothing here looks into kgit's files.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::ran::Ran;
use crate::wait;

/// Lines of each log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// How a program is run so that it reaches the master: on this machine, or on one of the test's
/// hosts.
pub type Place = Box<dyn Fn(&str) -> Command>;

pub struct Face {
    place: Place,
    room: PathBuf,
    data: PathBuf,
}

impl Face {
    /// Of a master whose data directory is `data`; logs (`*.log`) and caches lie in `room`.
    pub fn new(place: Place, room: &Path, data: &Path) -> Self {
        Self { place, room: room.to_owned(), data: data.to_owned() }
    }

    /// Another run of the program under test, against this master.
    pub fn kgit(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(env!("CARGO_BIN_EXE_kgit")).args(arguments))
    }

    /// A program that finds this master by the usual settings, `kgit` and `kubectl` among them.
    pub fn command(&self, program: &str) -> Command {
        let mut command = (self.place)(program);
        command.env("KGIT_DATA", &self.data).env("KUBECONFIG", self.data.join("kubeconfig"));
        command.current_dir(&self.room);
        command
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Ran {
        let mut command = (self.place)("kubectl");
        command.arg("--kubeconfig").arg(self.data.join("kubeconfig"));
        command.arg("--cache-dir").arg(self.room.join("kubectl-cache"));
        Ran::of(command.args(arguments))
    }

    /// One answer of the API, or nothing where it has none.
    pub fn api(&self, path: &str) -> Option<Value> {
        let ran = self.kubectl(&["get", "--raw", path]);
        (ran.code == 0).then(|| serde_json::from_str(&ran.out).expect("the API answers in JSON"))
    }

    /// One object by its kind and name, which may begin with a namespace: `pods`, `shop/web-1`.
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

    /// Waits until the condition yields a value; if it never does, says how things stand.
    pub fn until<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        wait::until(what, || self.account(), condition)
    }

    pub fn until_ready(&self, pod: &str) -> Value {
        let what = format!("pod {pod} is ready");
        self.until(&what, || self.object("pods", pod).filter(is_ready))
    }

    /// Waits until the source stands at a commit and nothing is left to be done for it.
    pub fn until_done(&self, commit: &str) {
        self.until(&format!("all steps of commit {commit}"), || {
            let status = self.status()?;
            let there = status["source"]["commit"]["id"] == commit;
            (there && is_quiet(&status)).then_some(())
        });
    }

    /// Waits until nothing is being done, whatever the commit.
    pub fn until_quiet(&self) {
        self.until("nothing is left to be done", || self.status().filter(is_quiet));
    }

    /// How things stand, for the message of a test that failed.
    pub fn account(&self) -> String {
        let logs = self.log_text();
        let status = self.api("/kgit/v1/status").unwrap_or_default();
        let pods = self.kubectl(&["get", "pods,deployments,jobs,pvc", "-A", "-o", "wide"]);
        let events = self.kubectl(&["get", "events", "-A"]);
        format!("{logs}--- status\n{status:#}\n--- objects\n{pods}\n--- events\n{events}")
    }

    /// The end of every log in the room.
    pub fn log_text(&self) -> String {
        let mut shown = String::new();
        for entry in std::fs::read_dir(&self.room).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
                shown += &format!("--- {}\n{}\n", path.display(), last.join("\n"));
            }
        }
        shown
    }
}

impl std::fmt::Debug for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Face").field("data", &self.data).finish_non_exhaustive()
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

/// The items of a list, none where there is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// No reconcile is under way: what is left to wait for is people.
fn is_quiet(status: &Value) -> bool {
    status["reconciling"].is_null()
}

//! A master and an agent in processes of their own, which may die at any moment and are started again.
//!
//! The cluster runs one fixed course of commits; what must hold at each station is checked here, for whoever kills.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::engine::Engine;
use crate::lives::Lives;
use crate::process::{Process, kgit};
use crate::ran::Ran;
use crate::repo::Repo;
use crate::room::Room;
use crate::wait;

/// A death costs a back-off of some seconds, and several clusters share the machine.
const STATION: Duration = Duration::from_secs(90);

/// What goes on, whatever happens to `web`: a pod of one container, one of several, and a job that counts its runs.
const STEADY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: steady
      image: kgit-test/web:1
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: several}
spec:
  terminationGracePeriodSeconds: 1
  initContainers: [{name: first, image: 'kgit-test/busybox:1', command: ['true']}]
  containers:
    - {name: a, image: 'kgit-test/web:1', command: [serve, '8080']}
    - {name: b, image: 'kgit-test/web:1', command: [serve, '8081']}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: once
          image: kgit-test/busybox:1
          command: [sh, -c, 'echo ran >>/shared/runs']
          volumeMounts: [{name: shared, mountPath: /shared}]
      volumes: [{name: shared, hostPath: {path: SHARED}}]
";

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: 'kgit-test/web:IMAGE'}]
";

/// What of `web` is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Web {
    pub replicas: usize,
    pub image: u32,
}

/// Start, change of image, scale, delete.
pub const COURSE: [Option<Web>; 4] = [
    Some(Web { replicas: 2, image: 1 }),
    Some(Web { replicas: 2, image: 2 }),
    Some(Web { replicas: 3, image: 2 }),
    None,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Master,
    Agent,
}

/// One of the two processes.
#[derive(Debug)]
struct Mortal {
    half: Half,
    process: Option<Process>,
    /// Where it is to die in this life.
    crash: Option<String>,
    /// Deaths that the crash point brought.
    deaths: u32,
}

#[derive(Debug)]
pub struct Pair {
    pub engine: Engine,
    pub room: Room,
    repo: Repo,
    master: Mortal,
    agent: Mortal,
    id: String,
    /// The lives that must never change, once all of them run.
    steady: Option<Lives>,
}

impl Pair {
    /// Starts both, and they die where they are told to.
    pub fn start(engine: &Engine, master: Option<&str>, agent: Option<&str>) -> Self {
        let room = Room::new();
        let shared = room.folder("shared");
        let repo = Repo::new(room.path());
        repo.write("steady.yaml", STEADY.replace("SHARED", &shared.to_string_lossy()));
        let mut pair = Self {
            engine: engine.clone(),
            room,
            repo,
            master: Mortal::new(Half::Master, master),
            agent: Mortal::new(Half::Agent, agent),
            id: String::new(),
            steady: None,
        };
        pair.commit(COURSE[0]);
        pair.join();
        pair
    }

    /// Master first, then a token, then the agent.
    fn join(&mut self) {
        self.until("an answer of the master", |pair| {
            pair.id = pair.status()?["cluster"].as_str()?.to_owned();
            Some(())
        });
        let token = self.until("a token", |pair| {
            let made = pair.kgit(&["token", "create"]);
            (made.code == 0).then_some(made.out)
        });
        std::fs::write(self.room.join("token"), token).expect("the token can be written");
        self.revive(Half::Agent);
    }

    /// Pushes what is wanted of `web`.
    pub fn commit(&mut self, web: Option<Web>) {
        match web {
            Some(web) => {
                let text = WEB.replace("REPLICAS", &web.replicas.to_string());
                self.repo.write("web.yaml", text.replace("IMAGE", &web.image.to_string()));
            }
            None => {
                self.repo.remove("web.yaml");
            }
        }
        self.repo.commit(&format!("{web:?}"));
        self.repo.push();
    }

    /// Waits until everything is as the last commit wants it, and checks what must hold.
    pub fn arrive(&mut self, web: Option<Web>) {
        let head = self.repo.head();
        self.until(&format!("{web:?}, and nothing left to be done"), |pair| {
            let lives = Lives::of(&pair.containers());
            if !as_wanted(&lives, web) {
                return None;
            }
            let status = pair.status()?;
            let there = status["source"]["commit"]["id"] == head.as_str();
            (there && status["reconciling"].is_null()).then_some(())
        });
        self.check(web);
    }

    fn check(&mut self, web: Option<Web>) {
        let lives = Lives::of(&self.containers());
        assert!(as_wanted(&lives, web), "what arrived stays: {lives:#?}");
        let steady = Lives(
            [lives.with("steady").0, lives.with("several").0].into_iter().flatten().collect(),
        );
        let restarted: Vec<_> = lives.0.iter().filter(|(_, life)| life.attempt != "0").collect();
        assert!(restarted.is_empty(), "restarted for nothing: {restarted:#?}");
        let before = self.steady.get_or_insert_with(|| steady.clone());
        assert_eq!(&steady, before, "what is not part of the rollout goes on");
        let runs = std::fs::read_to_string(self.room.join("shared/runs")).unwrap_or_default();
        assert_eq!(runs.lines().count(), 1, "the job ran once");
        let verified = self.kgit(&["audit", "verify"]);
        assert_eq!(verified.code, 0, "{verified}");
        let diff = self.kgit(&["diff"]);
        assert_eq!(diff.code, 0, "{diff}");
    }

    /// `kill -9`; it comes back with the next look.
    pub fn kill(&mut self, half: Half) {
        if let Some(process) = self.mortal(half).process.take() {
            process.kill();
        }
    }

    /// Both, until something is waited for.
    pub fn kill_both(&mut self) {
        self.kill(Half::Master);
        self.kill(Half::Agent);
    }

    /// How often a crash point was reached.
    pub fn deaths(&self) -> u32 {
        self.master.deaths + self.agent.deaths
    }

    pub fn log(&self, half: Half) -> String {
        std::fs::read_to_string(self.room.join(half.log())).unwrap_or_default()
    }

    pub fn status(&self) -> Option<Value> {
        let ran = self.kgit(&["status", "-o", "json"]);
        (ran.code == 0).then(|| serde_json::from_str(&ran.out).expect("status is JSON"))
    }

    pub fn kgit(&self, arguments: &[&str]) -> Ran {
        let mut command = kgit();
        command.env("KGIT_DATA", self.room.join("data"));
        command.env("KUBECONFIG", self.room.join("data/kubeconfig"));
        Ran::of(command.args(arguments).stdin(Stdio::null()))
    }

    fn containers(&self) -> Vec<crate::engine::Container> {
        self.engine.containers(&format!("dev.kgit.cluster={}", self.id))
    }

    pub fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let found = wait::until_within(STATION, || {
            self.tend();
            condition(self)
        });
        found.unwrap_or_else(|| panic!("never came: {what}\n{}", self.account()))
    }

    /// Brings back what has died.
    pub fn tend(&mut self) {
        self.revive(Half::Master);
        if self.room.join("token").exists() {
            self.revive(Half::Agent);
        }
    }

    fn revive(&mut self, half: Half) {
        if self.mortal(half).lives() {
            return;
        }
        let mut command = match half {
            Half::Master => self.master_command(),
            Half::Agent => self.agent_command(),
        };
        if let Some(crash) = &self.mortal(half).crash {
            command.env("KGIT_CRASH_AT", crash);
        }
        let log = self.room.join(half.log());
        self.mortal(half).process = Some(Process::start(command, &log));
    }

    fn mortal(&mut self, half: Half) -> &mut Mortal {
        match half {
            Half::Master => &mut self.master,
            Half::Agent => &mut self.agent,
        }
    }

    fn master_command(&self) -> Command {
        let mut command = kgit();
        command.arg("master").arg("--source").arg(&self.repo.bare);
        command.arg("--data").arg(self.room.join("data")).arg("-vv");
        // Its first address is kept: the agent knows it by that.
        if !self.room.join("data/listen").exists() {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
    }

    fn agent_command(&self) -> Command {
        let address = std::fs::read_to_string(self.room.join("data/listen")).unwrap_or_default();
        let mut command = kgit();
        command.args(["agent", "--join", &format!("https://{}", address.trim())]);
        command.arg("--token-file").arg(self.room.join("token"));
        command.arg("--data").arg(self.room.join("agent")).args(["--name", "one", "-vv"]);
        command.arg("--allow-host-path").arg(self.room.join("shared"));
        command.args(["--docker", &self.engine.socket]);
        command
    }

    fn account(&self) -> String {
        let tail = |half: Half| {
            let log = self.log(half);
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("DEBUG")).collect();
            lines[lines.len().saturating_sub(25)..].join("\n")
        };
        let status = self.kgit(&["status"]);
        let lives = self.engine.docker(&[
            "ps",
            "-a",
            "--filter",
            &format!("label=dev.kgit.cluster={}", self.id),
        ]);
        format!(
            "{status}\n{lives}\n--- master\n{}\n--- agent\n{}",
            tail(Half::Master),
            tail(Half::Agent)
        )
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.account());
        }
        self.kill_both();
        if !self.id.is_empty() {
            clear(&self.engine, &self.id);
        }
    }
}

/// Removes what a cluster has in the engine, past kgit, whose two halves may be in any state.
fn clear(engine: &Engine, id: &str) {
    let label = format!("label=dev.kgit.cluster={id}");
    let list = |list: &[&str]| engine.try_docker(&[list, &["--filter", &label]].concat()).out;
    for (kind, remove) in [
        (&["ps", "-aq"][..], &["rm", "-f"][..]),
        (&["network", "ls", "-q"], &["network", "rm"]),
        (&["volume", "ls", "-q"], &["volume", "rm"]),
    ] {
        let found = list(kind);
        let found: Vec<&str> = found.lines().collect();
        if !found.is_empty() {
            engine.try_docker(&[remove, &found].concat());
        }
    }
}

/// Each once, in the wanted version, and nothing else.
fn as_wanted(lives: &Lives, web: Option<Web>) -> bool {
    let running = lives.with("web-");
    let right =
        |image: u32| running.0.values().all(|life| life.image == format!("kgit-test/web:{image}"));
    let web_is_right = match web {
        Some(web) => running.0.len() == web.replicas && right(web.image),
        None => running.0.is_empty(),
    };
    web_is_right
        && lives.with("steady").0.len() == 1
        && lives.with("several").0.len() == 3
        && lives.with("once").0.is_empty()
}

impl Half {
    fn log(self) -> &'static str {
        match self {
            Self::Master => "master.log",
            Self::Agent => "agent.log",
        }
    }
}

impl Mortal {
    fn new(half: Half, crash: Option<&str>) -> Self {
        Self { half, process: None, crash: crash.map(str::to_owned), deaths: 0 }
    }

    /// A death that was ordered happens once. Any other is a failure of the program.
    fn lives(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        if process.lives() {
            return true;
        }
        let log = process.log();
        assert!(self.crash.take().is_some(), "{:?} ended by itself\n{log}", self.half);
        self.deaths += 1;
        self.process = None;
        false
    }
}

/// Whether this machine has what such a cluster needs.
pub fn engine() -> Option<Engine> {
    Engine::of_this_machine()
}

/// What a data directory's store says of its log, with nobody running.
pub fn verify(data: &Path) -> kgit::store::verify::VerifyReport {
    let store = kgit::store::Store::open(data).expect("the store opens");
    store.reader().verify(&[]).expect("the log can be read")
}

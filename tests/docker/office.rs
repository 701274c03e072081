//! A master on one host and agents on others, each with an engine of its own; `office` is the master's host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::engine::{Container, Engine};
use crate::face::Face;
use crate::hosts::Hosts;
use crate::process::{Process, kgit_on};
use crate::ran::Ran;
use crate::repo::Repo;
use crate::room::Room;

const PORT: u16 = 7443;
const OFFICE: &str = "office";

pub struct Office {
    // Dropped in this order: processes, then what they use.
    pub agents: Vec<Agent>,
    master: Option<Process>,
    pub face: Face,
    pub repo: Repo,
    pub hosts: Rc<Hosts>,
    room: Room,
}

pub struct Agent {
    pub engine: Engine,
    pub process: Process,
}

impl Office {
    /// Starts a master that follows a fresh bare repository, on the host `office` of a set.
    pub fn open(hosts: Hosts) -> Self {
        let hosts = Rc::new(hosts);
        let room = Room::new();
        let repo = Repo::new(room.path());
        repo.write("README.md", "# Our cluster\n").commit("begin");
        repo.push();
        let there = Rc::clone(&hosts);
        let place = Box::new(move |program: &str| there.command(OFFICE, program));
        let face = Face::new(place, room.path(), &room.join("data"));
        let mut office = Self { agents: Vec::new(), master: None, face, repo, hosts, room };
        office.start_master();
        office
    }

    fn start_master(&mut self) {
        let mut command = kgit_on(&self.hosts, OFFICE);
        command.args(["master", "--branch", "main", "--listen", &format!("0.0.0.0:{PORT}")]);
        command.args(["--advertise", &self.hosts.address(OFFICE)]);
        command.arg("--source").arg(&self.repo.bare).arg("--data").arg(self.room.join("data"));
        self.master = Some(Process::start(command, &self.room.join("master.log")));
        self.face.until("an answer of the master", || self.face.status());
    }

    /// A copy of what the master must not forget, as of now.
    pub fn back_up(&self) -> PathBuf {
        let file = self.room.join("backup");
        let done = self.face.kgit(&["backup", &file.to_string_lossy()]);
        assert_eq!(done.code, 0, "{done}");
        file
    }

    /// The master dies, and goes on from a copy.
    pub fn restore(&mut self, backup: &Path) {
        self.master.take().expect("a master runs").kill();
        let mut command = kgit_on(&self.hosts, OFFICE);
        command.arg("restore").arg(backup).arg("--data").arg(self.room.join("data"));
        let done = Ran::of(&mut command);
        assert_eq!(done.code, 0, "{done}");
        self.start_master();
    }

    /// What a join token is in.
    pub fn token(&self, host: &str) -> PathBuf {
        let token = self.face.kgit(&["token", "create", "--role", "join", "--name", host]);
        assert_eq!(token.code, 0, "{token}");
        let file = self.room.join(&format!("{host}.token"));
        std::fs::write(&file, token.out.trim()).expect("the token can be written");
        file
    }

    /// An agent's process, with what is added to its command line.
    pub fn start_agent(&self, host: &str, token: Option<&Path>) -> Process {
        let mut command = self.agent(host);
        if let Some(token) = token {
            command.arg("--token-file").arg(token);
        }
        Process::start(command, &self.room.join(&format!("{host}.log")))
    }

    /// Makes a token, and joins a host with it; returns when pods may go there.
    pub fn join(&mut self, host: &str, images: &[&str]) -> usize {
        let engine = Engine::at(&self.hosts.engine(host));
        self.hosts.load(host, images);
        let process = self.start_agent(host, Some(&self.token(host)));
        self.face.until(&format!("pods may go to {host}"), || {
            let known = self.face.object("nodes", host)?["status"]["capacity"]["pods"] != "0";
            (known && self.node_is_ready(host)).then_some(())
        });
        self.agents.push(Agent { engine, process });
        self.agents.len() - 1
    }

    /// Its agent ends, and starts with a token.
    pub fn restart_agent(&mut self, index: usize, host: &str, token: &Path) {
        let old = self.agents.remove(index);
        old.process.terminate();
        let process = self.start_agent(host, Some(token));
        self.agents.insert(index, Agent { engine: old.engine, process });
    }

    /// The agent's command line on a host, without a token.
    pub fn agent(&self, host: &str) -> Command {
        let url = format!("https://{}:{PORT}", self.hosts.address(OFFICE));
        let mut command = kgit_on(&self.hosts, host);
        command.args(["agent", "--join", &url, "--name", host]);
        command.arg("--docker").arg(self.hosts.engine(host));
        command.arg("--data").arg(self.agent_data(host));
        command
    }

    pub fn agent_data(&self, host: &str) -> PathBuf {
        self.room.join(&format!("agent-{host}"))
    }

    pub fn node_is_ready(&self, host: &str) -> bool {
        let status = self.face.status().unwrap_or_default();
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().any(|node| node["name"] == host && node["ready"] == true)
    }
}

impl Agent {
    /// The running containers of pods whose name starts so.
    pub fn running(&self, pod: &str) -> Vec<Container> {
        let mut found = self.engine.containers("dev.kgit.cluster");
        found.retain(|container| container.runs() && container.label("pod").starts_with(pod));
        found
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.face.account());
        }
    }
}

/// What listens for TCP on a host, by port: what the host's own kernel says.
pub fn listening(hosts: &Hosts, host: &str) -> Vec<u16> {
    let mut command = hosts.command(host, "cat");
    let ran = Ran::of(command.args(["/proc/self/net/tcp", "/proc/self/net/tcp6"]));
    ran.out.lines().filter_map(listener).collect()
}

/// `sl local_address rem_address st …` in hexadecimal; state 0A is LISTEN.
fn listener(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    let (address, port) = local.rsplit_once(':')?;
    let loopback = address.ends_with("0100007F") || address == "00000000000000000000000001000000";
    (state == "0A" && !loopback).then(|| u16::from_str_radix(port, 16).ok())?
}

/// Whether a TCP connection from one host to another comes about.
pub fn reaches(hosts: &Hosts, from: &str, to: &str, port: u16) -> bool {
    let connect = format!("exec 3<>/dev/tcp/{}/{port}", hosts.address(to));
    let mut command = hosts.command(from, "timeout");
    Ran::of(command.args(["1", "bash", "-c", &connect])).code == 0
}

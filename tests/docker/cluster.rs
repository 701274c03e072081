//! A cluster of `kgit up` on a real engine: started, killed, asked, and always taken down again.
//!
//! What it holds is read by its [`Face`], and beside it through Docker's own command.

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::engine::{Container, Engine};
use crate::face::{Face, Place};
use crate::hosts::Hosts;
use crate::process::{Process, kgit, kgit_on};
use crate::room::Room;

#[derive(Debug)]
pub struct Cluster {
    pub engine: Engine,
    room: Room,
    face: Face,
    arguments: Vec<OsString>,
    process: Option<Process>,
    id: String,
    /// Where it runs, if not on this machine itself.
    host: Option<(Rc<Hosts>, String)>,
}

impl Cluster {
    /// `kgit up SOURCE`, with more arguments where wanted. Returns when its node is ready.
    pub fn up(engine: &Engine, room: Room, source: &Path, arguments: &[&str]) -> Self {
        Self::start_new(engine, room, source, arguments, None)
    }

    /// The same on one of a set of hosts, on that one's engine.
    pub fn up_on(hosts: &Rc<Hosts>, host: &str, files: &[(&str, &str)]) -> Self {
        let room = Room::new();
        let folder = room.folder("manifests");
        for (path, content) in files {
            write(&folder.join(path), content);
        }
        let engine = Engine::at(&hosts.engine(host));
        let host = Some((Rc::clone(hosts), host.to_owned()));
        Self::start_new(&engine, room, &folder, &[], host)
    }

    fn start_new(
        engine: &Engine,
        room: Room,
        source: &Path,
        arguments: &[&str],
        host: Option<(Rc<Hosts>, String)>,
    ) -> Self {
        let mut all: Vec<OsString> = vec!["up".into(), source.into()];
        all.extend(arguments.iter().map(OsString::from));
        let place: Place = match host.clone() {
            None => Box::new(|program: &str| Command::new(program)),
            Some((hosts, host)) => Box::new(move |program: &str| hosts.command(&host, program)),
        };
        let mut cluster = Self {
            engine: engine.clone(),
            face: Face::new(place, room.path(), &room.join("data")),
            room,
            arguments: all,
            process: None,
            id: String::new(),
            host,
        };
        cluster.start();
        let status = cluster.until("a ready node", || {
            cluster.status().filter(|status| status["nodes"][0]["ready"] == true)
        });
        cluster.id = status["cluster"].as_str().expect("a cluster has an id").to_owned();
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
        let listen = match self.data().join("listen").exists() {
            true => &[][..],
            false => &["--listen", "127.0.0.1:0"],
        };
        let mut command = match &self.host {
            None => kgit(),
            Some((hosts, host)) => kgit_on(hosts, host),
        };
        command.args(&self.arguments).args(listen);
        command.args(["--docker", &self.engine.socket]).arg("--data").arg(self.data());
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

    /// Where [`Cluster::up_with`] put a file.
    pub fn file(&self, path: &str) -> PathBuf {
        self.room.join("manifests").join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        write(&self.file(path), content);
    }

    /// All containers of this cluster, running or not.
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
        if self.id.is_empty() {
            return;
        }
        let running = self.containers().into_iter().filter(Container::runs);
        let ids: Vec<String> = running.map(|container| container.id().to_owned()).collect();
        if !ids.is_empty() {
            let ids = ids.iter().map(String::as_str);
            // One that ends by itself meanwhile is as good.
            let _ = self.engine.try_docker(&["kill"].into_iter().chain(ids).collect::<Vec<_>>());
        }
    }
}

impl Deref for Cluster {
    type Target = Face;

    fn deref(&self) -> &Face {
        &self.face
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}", self.account());
        }
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.kill_containers();
        let down = self.kgit(&["down", "--purge", "--yes"]);
        let left = match self.id.is_empty() {
            true => Vec::new(),
            false => self.engine.left_of(&self.id),
        };
        if failed {
            eprintln!("kgit down --purge: {down}left in the engine: {left:?}");
            return;
        }
        assert_eq!(down.code, 0, "kgit down --purge: {down}");
        assert!(left.is_empty(), "left in the engine after kgit down --purge: {left:?}");
        assert!(!self.data().exists(), "kgit down --purge leaves no data");
    }
}

fn write(path: &Path, content: &str) {
    let folder = path.parent().expect("a file lies in a folder");
    std::fs::create_dir_all(folder).expect("the folder can be made");
    std::fs::write(path, content).expect("the file can be written");
}

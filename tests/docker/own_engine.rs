//! An engine of the test's own, to be ended and started again.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::engine::Engine;
use crate::hosts::Hosts;
use crate::skip::not_tried;
use crate::wait;

pub struct OwnEngine {
    pub hosts: Rc<Hosts>,
    pub engine: Engine,
    folder: PathBuf,
}

impl OwnEngine {
    /// On the host `one` of a set; `two` is beside it. Nothing, and a loud skip, where root is missing.
    pub fn new(set: &str, images: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            not_tried("network namespaces need root");
            return None;
        }
        let hosts = Rc::new(Hosts::new(set, &["one", "two"], &[]));
        let socket = hosts.engine("one");
        hosts.load("one", images);
        let folder = socket.parent().map(Path::to_owned).expect("a socket lies in a folder");
        Some(Self { hosts, engine: Engine::at(&socket), folder })
    }

    pub fn dockerd(&self) -> PathBuf {
        self.folder.join("dockerd.pid")
    }

    pub fn containerd(&self) -> PathBuf {
        self.folder.join("exec/containerd/containerd.pid")
    }

    /// Sends a signal and waits until the process has gone.
    pub fn end(&self, pid_file: &Path, signal: &str) {
        let pid = std::fs::read_to_string(pid_file).expect("a pid file");
        let mut kill = std::process::Command::new("kill");
        let sent = crate::ran::Ran::of(kill.args(["-s", signal, pid.trim()]));
        assert_eq!(sent.code, 0, "{sent}");
        let process = Path::new("/proc").join(pid.trim()).join("exe");
        let gone =
            wait::until_within(Duration::from_secs(60), || (!process.exists()).then_some(()));
        assert!(gone.is_some(), "process {pid} ignores {signal}");
    }

    pub fn start(&self) {
        self.hosts.engine("one");
    }

    /// The same with variables of its environment.
    pub fn start_with(&self, variables: &[(&str, &str)]) {
        self.hosts.engine_with("one", variables);
    }
}

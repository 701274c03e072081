//! Several hosts on one machine: the Rust face of `tests/support/hosts`, which does all the work.
//!
//! A test file that needs it says `#[path = "../support/hosts.rs"] mod hosts;`. No Docker client lives here: an engine
//! is handed out as its socket.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A set of hosts, removed with everything on them when it goes out of scope.
///
/// A test that is killed can't do that; the next set's making does it then.
#[derive(Debug)]
pub struct Hosts {
    set: String,
}

impl Hosts {
    /// Makes hosts on one network, and those of `behind_nat` behind a router that lets nothing in.
    ///
    /// The set's name is letters and digits, and every test has its own: tests run side by side.
    pub fn new(set: &str, hosts: &[&str], behind_nat: &[&str]) -> Self {
        let mut arguments = vec!["up", set];
        arguments.extend(hosts);
        if !behind_nat.is_empty() {
            arguments.push("--nat");
            arguments.extend(behind_nat);
        }
        run(&arguments);
        Self { set: set.to_owned() }
    }

    /// Starts the host's Docker engine, unless it runs already, and returns its socket.
    pub fn engine(&self, host: &str) -> PathBuf {
        self.engine_with(host, &[])
    }

    /// The same with variables of its environment.
    pub fn engine_with(&self, host: &str, variables: &[(&str, &str)]) -> PathBuf {
        let mut command = hosts();
        command.args(["engine", &self.set, host]).envs(variables.iter().copied());
        PathBuf::from(said(command).trim())
    }

    /// Copies images from this machine's engine to the host's.
    pub fn load(&self, host: &str, images: &[&str]) {
        let mut arguments = vec!["load", &self.set, host];
        arguments.extend(images);
        run(&arguments);
    }

    /// The host's address; from another host, one behind NAT can't be reached at it.
    pub fn address(&self, host: &str) -> String {
        run(&["address", &self.set, host]).trim().to_owned()
    }

    /// A command that runs on the host, with `DOCKER_HOST` naming its engine where that has been started.
    ///
    /// The process is the program itself, not a shell around it, so a signal sent to it arrives.
    pub fn command(&self, host: &str, program: impl AsRef<Path>) -> Command {
        let mut command = hosts();
        command.args(["exec", &self.set, host]).arg(program.as_ref());
        command
    }

    /// The file that stands for the host's network, for a thread to move into.
    pub fn network(&self, host: &str) -> PathBuf {
        Path::new("/var/run/netns").join(format!("{}-{host}", self.set))
    }

    /// What is run on the host from now on asks this address for names, and not the machine's own servers.
    pub fn resolver(&self, host: &str, address: &str) {
        run(&["resolver", &self.set, host, address]);
    }

    /// Pulls the host's cable: it keeps its address, and nothing gets through.
    pub fn cut(&self, host: &str) {
        run(&["cut", &self.set, host]);
    }

    /// Plugs the cable in again.
    pub fn heal(&self, host: &str) {
        run(&["heal", &self.set, host]);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // A panic here would hide the test's own; what stays behind is swept by the next run.
        let _ = hosts().args(["down", &self.set]).stdin(Stdio::null()).status();
    }
}

fn hosts() -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hosts");
    let mut command = Command::new(script);
    command.env("KGIT_HOSTS_OWNER", std::process::id().to_string());
    command
}

fn run(arguments: &[&str]) -> String {
    let mut command = hosts();
    command.args(arguments);
    said(command)
}

fn said(mut command: Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("failed to start tests/support/hosts: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

//! A `kgit` process of a test: started, killed, read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::hosts::Hosts;
use crate::wait;

/// A process that was told to end finishes its transaction and its call to the engine first.
const END: Duration = Duration::from_secs(20);

/// It does not outlive the test, however that ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, both outputs appended to a file.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file =
            File::options().create(true).append(true).open(log).expect("the log can be written");
        let copy = file.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`: no chance to finish anything.
    pub fn kill(mut self) {
        self.end_now();
    }

    /// As Ctrl-C and systemd do it.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::TERM).expect("the process is there");
        let ended = wait::until_within(END, || (!self.lives()).then_some(()));
        assert!(ended.is_some(), "kgit ignores TERM\n{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end_now(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// The program under test, without the settings of whoever runs the tests, and ended by the kernel
/// if the test itself is killed.
pub fn kgit() -> Command {
    let mut command = Command::new(KEEPER[0]);
    command.args(&KEEPER[1..]);
    // The machine's own rules are left alone: services are tried on hosts made for that.
    command.env("KGIT_NO_SERVICES", "1");
    without_settings(command)
}

/// The same on one of the test's hosts.
pub fn kgit_on(hosts: &Hosts, host: &str) -> Command {
    let mut command = hosts.command(host, KEEPER[0]);
    command.args(&KEEPER[1..]);
    without_settings(command)
}

const KEEPER: &[&str] = &["setpriv", "--pdeathsig", "KILL", env!("CARGO_BIN_EXE_kgit")];
const SETTINGS: &[&str] =
    &["KUBECONFIG", "KGIT_DATA", "KGIT_JOIN", "KGIT_LOG", "KGIT_CRASH_AT", "DOCKER_HOST"];

fn without_settings(mut command: Command) -> Command {
    for setting in SETTINGS {
        command.env_remove(setting);
    }
    command
}

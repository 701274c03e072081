//! The program that is measured, as a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::hosts::Hosts;

const PATIENCE: Duration = Duration::from_secs(120);

pub fn kgit() -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_kgit")));
    // The machine's own rules are left alone.
    command.env("KGIT_NO_SERVICES", "1");
    command
}

/// The same on one of a set of hosts.
pub fn kgit_at(hosts: &Hosts, host: &str) -> Command {
    hosts.command(host, env!("CARGO_BIN_EXE_kgit"))
}

/// What `kgit status` says of the master with this data directory; `None` while it does not answer.
pub fn status(data: &Path) -> Option<serde_json::Value> {
    let output = kgit()
        .args(["status", "-o", "json", "--kubeconfig"])
        .arg(data.join("kubeconfig"))
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// Waits for something to hold of that.
pub fn wait_until(data: &Path, holds: impl Fn(&serde_json::Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !status(data).is_some_and(|status| holds(&status)) {
        assert!(Instant::now() < deadline, "kgit does not get ready: {:#?}", status(data));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many nodes are ready, as a status says.
pub fn ready_nodes(status: &serde_json::Value) -> usize {
    let nodes = status["nodes"].as_array();
    nodes.map_or(0, |nodes| nodes.iter().filter(|node| node["ready"] == true).count())
}

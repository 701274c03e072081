//! The process that carries a node's traffic, found from outside as an administrator would find it.
//!
//! A test file that needs it says `#[path = "../support/net_process.rs"] mod net_process;`.

use std::path::Path;

/// Told from others by the data directory of the agent that it serves.
pub fn find(agent: &Path) -> Option<i32> {
    let agent = agent.display().to_string();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| serves(*pid, &agent))
}

fn serves(pid: i32, agent: &str) -> bool {
    // One that has ended meanwhile has no words.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    words.nth(1) == Some(b"net") && words.any(|word| word == agent.as_bytes())
}

//! `kgit down`: stops what `kgit up` started.

use std::path::Path;
use std::time::Duration;

use kgit_agent::agent;
use kgit_agent::policy::NodePolicy;
use kgit_agent::runtime::docker::DEFAULT_SOCKET;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::config;
use crate::daemon::error::DaemonError;
use crate::daemon::up::{own_agent, running};

/// How long the process gets to end: it finishes its transaction and its agent's call.
const PROCESS_GRACE: Duration = Duration::from_secs(20);
/// How long containers get between TERM and KILL.
const CONTAINER_GRACE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Ends the process, then the containers, on the engine that it used last. With `purge`, everything
/// that `kgit up` ever made goes: containers, networks, volumes, the data directory.
pub async fn down(data: &Path, purge: bool) -> Result<(), DaemonError> {
    if let Some(pid) = running(data) {
        end_process(pid).await?;
    }
    let agent_data = config::agent_data(data);
    let mut agent_went = Ok(());
    if agent_data.exists() {
        // The agent's own directory knows its engine better.
        let agent = own_agent(data, DEFAULT_SOCKET, NodePolicy::default());
        agent_went = match purge {
            true => agent::purge(&agent, CONTAINER_GRACE).await,
            false => agent::stop_all(&agent, CONTAINER_GRACE).await,
        };
    }
    // While the agent's folder stands, what it made on the engine can be found again.
    if purge && data.exists() && !agent_data.exists() {
        std::fs::remove_dir_all(data).map_err(DaemonError::file("remove", data))?;
    }
    Ok(agent_went?)
}

async fn end_process(pid: u32) -> Result<(), DaemonError> {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let failed = |error: rustix::io::Errno| {
        DaemonError::file("signal", format!("process {pid}"))(error.into())
    };
    kill_process(process, Signal::TERM).map_err(failed)?;
    let deadline = tokio::time::Instant::now() + PROCESS_GRACE;
    // A zombie, whose parent has not asked for its end yet, has no command line any more.
    let command = format!("/proc/{pid}/cmdline");
    while std::fs::read(&command).is_ok_and(|line| !line.is_empty()) {
        if tokio::time::Instant::now() >= deadline {
            kill_process(process, Signal::KILL).map_err(failed)?;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

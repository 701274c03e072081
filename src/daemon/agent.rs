//! `kgit agent`: the agent alone, on a host of its own.

use kgit_agent::agent;
use kgit_agent::config::AgentConfig;
use tokio_util::sync::CancellationToken;

use crate::daemon::error::DaemonError;

/// Runs until `stop`. Containers go on.
pub async fn run(config: AgentConfig, stop: CancellationToken) -> Result<(), DaemonError> {
    Ok(agent::run(config, stop).await?)
}

/// Takes this host out of its cluster: its pods end, and the master forgets it. Gives the volumes that
/// stay: all, unless `with_data`.
pub async fn leave(config: &AgentConfig, with_data: bool) -> Result<Vec<String>, DaemonError> {
    /// How long containers get between TERM and KILL.
    const GRACE: std::time::Duration = std::time::Duration::from_secs(30);
    Ok(agent::leave(config, GRACE, with_data).await?)
}

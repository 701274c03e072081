//! What the agent is told at its start. Reading flags and environment is the binary's affair.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kgit_protocol::ids::NodeName;

use crate::policy::NodePolicy;
use crate::runtime::crash::CrashPoint;

/// Everything one agent needs to know.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the master listens: `https://host:port`.
    pub master_url: String,
    /// The agent's own directory; made with 0700 if it does not exist.
    pub data_dir: PathBuf,
    /// Other folders with kgit's own files, where a master runs in the same process. No volume
    /// may reach them.
    pub kept_dirs: Vec<PathBuf>,
    pub node: NodeName,
    pub labels: BTreeMap<String, String>,
    /// The join token; needed on the first start, and by one that was taken out of its cluster.
    pub token: Option<String>,
    pub policy: NodePolicy,
    /// The path of the engine's socket.
    pub docker_socket: String,
    /// Where Docker keeps registry logins: `~/.docker/config.json`.
    pub docker_config: Option<PathBuf>,
    /// Where to die, for crash tests.
    pub crash_at: Option<CrashPoint>,
}

//! `kgit up`: a master and an agent in one process. They talk over the same TLS as two hosts do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kgit_agent::agent;
use kgit_agent::config::AgentConfig;
use kgit_agent::policy::NodePolicy;
use kgit_agent::runtime::crash::CrashPoint;
use kgit_protocol::ids::NodeName;
use tokio_util::sync::CancellationToken;

use crate::daemon::config::{self, MasterConfig};
use crate::daemon::error::DaemonError;
use crate::daemon::master::{self, Master};
use crate::domain::node::Node;
use crate::domain::token::Role;

/// What `kgit up` is told beyond what a master is.
#[derive(Clone, Debug)]
pub struct UpConfig {
    pub master: MasterConfig,
    pub docker_socket: String,
    pub policy: NodePolicy,
    /// For crash tests: at which call to the engine to die.
    pub crash: Option<CrashPoint>,
}

/// A running master with its agent.
#[derive(Debug)]
pub struct Up {
    pub master: Master,
    /// `None` once its end was told.
    agent: Option<tokio::task::JoinHandle<Result<(), agent::AgentError>>>,
    stop: CancellationToken,
}

/// The pid of the process, beside the data that it uses.
const PID_FILE: &str = "up.pid";

pub async fn start(config: &UpConfig) -> Result<Up, DaemonError> {
    let data = &config.master.data;
    config::make_data(data)?;
    let mut master = master::start(&config.master).await?;
    config::write_private(&data.join(PID_FILE), std::process::id().to_string().as_bytes())?;
    let agent_config = agent_config(config, &master).await?;
    let stop = CancellationToken::new();
    let agent = Some(tokio::spawn(agent::run(agent_config, stop.clone())));
    // The first plan is the better one if it knows of a node; but a node that does not come up
    // must not keep the manifests from being read.
    let _ = tokio::time::timeout(NODE_PATIENCE, node_told(&master)).await;
    master.follow()?;
    Ok(Up { master, agent, stop })
}

/// How long the first plan waits for this machine's own node.
const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// Waits until a node has told of itself.
async fn node_told(master: &Master) {
    let mut versions = master.handle.versions();
    let told = |node: &Node| node.is_ready() == Some(true) && node.observed.capacity.pods > 0;
    while !master.handle.view().world.nodes.values().any(|node| told(node)) {
        if versions.changed().await.is_err() {
            return;
        }
    }
}

/// The agent's configuration: as a remote one's, with a token that is made on the first start.
async fn agent_config(config: &UpConfig, master: &Master) -> Result<AgentConfig, DaemonError> {
    let data = config::agent_data(&config.master.data);
    let joined = data.join("identity.json").exists();
    let token = match joined {
        true => None,
        false => Some(master.create_token("kgit up", Role::Join, Some(1)).await?),
    };
    Ok(AgentConfig {
        master_url: master.url(),
        token,
        docker_config: docker_config(),
        crash_at: config.crash.clone(),
        ..own_agent(&config.master.data, &config.docker_socket, config.policy.clone())
    })
}

/// The agent of `kgit up` as far as it is the same for starting and for taking down.
pub fn own_agent(data: &Path, docker_socket: &str, policy: NodePolicy) -> AgentConfig {
    AgentConfig {
        master_url: String::new(),
        data_dir: config::agent_data(data),
        kept_dirs: vec![data.to_owned()],
        node: host_name(),
        labels: Default::default(),
        token: None,
        policy,
        docker_socket: docker_socket.to_owned(),
        docker_config: None,
        crash_at: None,
    }
}

/// This host's name, as a node may be called.
pub fn host_name() -> NodeName {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let name = name.trim_matches(['-', '.']);
    NodeName::new(if name.is_empty() { "node" } else { name })
}

/// Where Docker's own client keeps the logins to registries.
pub fn docker_config() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("DOCKER_CONFIG") {
        return Some(PathBuf::from(dir).join("config.json"));
    }
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker/config.json"))
}

/// The process that runs from this data directory, if one does.
pub fn running(data: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(data.join(PID_FILE)).ok()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // The pid of a process that was killed may be another program's by now.
    String::from_utf8_lossy(&command).contains("kgit").then_some(pid)
}

impl Up {
    /// Waits until the agent ends by itself, which it does only when something is wrong.
    pub async fn failed(&mut self) -> DaemonError {
        let Some(agent) = &mut self.agent else { return std::future::pending().await };
        let ended = agent.await;
        self.agent = None;
        match ended {
            Ok(Ok(())) => DaemonError::Refused("the agent ended".to_owned()),
            Ok(Err(error)) => error.into(),
            Err(error) => DaemonError::Refused(format!("the agent: {error}")),
        }
    }

    /// Ends master and agent. Containers go on.
    pub async fn stop(self, data: &Path) {
        self.stop.cancel();
        if let Some(agent) = self.agent {
            let _ = agent.await;
        }
        self.master.stop().await;
        // Gone already is fine.
        let _ = std::fs::remove_file(data.join(PID_FILE));
    }
}

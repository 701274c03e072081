//! What `kgit up` and `kgit agent` are told about this node.

use std::path::PathBuf;

use clap::Args;
use kgit_agent::policy::NodePolicy;
use kgit_agent::runtime::docker::{DEFAULT_SOCKET, parse_socket};

#[derive(Clone, Debug, Args)]
pub struct NodeOptions {
    /// The Docker engine's socket
    #[arg(long, value_name = "PATH", env = "DOCKER_HOST", default_value = DEFAULT_SOCKET, value_parser = parse_socket)]
    pub docker: String,
    /// A folder that hostPath volumes may lie in, besides /tmp, /srv and /mnt with `kgit up`; may be repeated
    #[arg(long, value_name = "DIR")]
    pub allow_host_path: Vec<PathBuf>,
    /// Allow privileged containers
    #[arg(long)]
    pub allow_privileged: bool,
    /// Allow hostNetwork, hostPID and hostIPC
    #[arg(long)]
    pub allow_host_namespaces: bool,
    /// Allow a capability beyond Docker's default ones; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub allow_capability: Vec<String>,
    /// Set no rules and answer no names: services lead nowhere from this node
    #[arg(long, env = "KGIT_NO_SERVICES", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_services: bool,
}

impl NodeOptions {
    /// What this node allows: `base`, and what was asked for besides.
    pub fn policy(&self, base: NodePolicy) -> NodePolicy {
        let mut policy = base;
        policy.host_paths.extend(self.allow_host_path.iter().cloned());
        policy.privileged |= self.allow_privileged;
        policy.host_namespaces |= self.allow_host_namespaces;
        policy.capabilities.extend(self.allow_capability.iter().cloned());
        policy.no_services |= self.no_services;
        policy
    }
}

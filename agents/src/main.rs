//! The slim agent: the same as `kgit agent`, without the rest of kgit. Reads flags and
//! environment, and nothing else.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it reads settings")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kgit_agent::agent;
use kgit_agent::config::AgentConfig;
use kgit_agent::net::serve;
use kgit_agent::policy::NodePolicy;
use kgit_agent::runtime::crash::CrashPoint;
use kgit_agent::runtime::docker::{DEFAULT_SOCKET, parse_socket};
use kgit_protocol::ids::NodeName;
use tokio_util::sync::CancellationToken;

/// How long containers get to end by themselves when the node leaves.
const LEAVE_GRACE: Duration = Duration::from_secs(30);

/// Runs on this host's Docker what a kgit master assigns to it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The master to join: https://HOST:PORT
    #[arg(long, value_name = "URL", env = "KGIT_JOIN", global = true)]
    join: Option<String>,
    /// The file that holds the join token; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The node's name in the cluster [default: the host's name]
    #[arg(long, global = true)]
    name: Option<String>,
    /// A label of the node; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_and_value)]
    labels: Vec<(String, String)>,
    /// The agent's own directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kgit-agent", global = true)]
    data: PathBuf,
    /// The Docker engine's socket
    #[arg(long, value_name = "PATH", env = "DOCKER_HOST", default_value = DEFAULT_SOCKET, value_parser = parse_socket, global = true)]
    docker: String,
    /// A folder that hostPath volumes may lie in; may be repeated
    #[arg(long, value_name = "DIR")]
    allow_host_path: Vec<PathBuf>,
    /// Allow privileged containers
    #[arg(long)]
    allow_privileged: bool,
    /// Allow hostNetwork, hostPID and hostIPC
    #[arg(long)]
    allow_host_namespaces: bool,
    /// A capability that containers may add; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_capability: Vec<String>,
    /// Set no rules and answer no names: services lead nowhere from this node
    #[arg(long, env = "KGIT_NO_SERVICES", value_parser = clap::builder::FalseyValueParser::new())]
    no_services: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Leave the cluster: stop and remove what ran here for it; volumes stay
    Leave {
        /// Also remove the volumes, and the data in them
        #[arg(long)]
        purge: bool,
    },
    /// Carry service traffic and answer names; started by the agent itself
    #[command(hide = true)]
    Net,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label reads KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

// An agent waits most of the time: two threads keep up with eight pods in flight, and each costs
// memory.
#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KGIT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let shutdown = CancellationToken::new();
    match arguments.command {
        Some(Command::Leave { purge }) => {
            let config = config(arguments)?;
            let left = agent::leave(&config, LEAVE_GRACE, purge).await;
            let stay = left.context("failed to leave the cluster")?;
            eprintln!("{}", agent::said_of_leaving(&stay));
            Ok(())
        }
        Some(Command::Net) => {
            tokio::spawn(stop_on_signal(shutdown.clone()));
            serve::run(&arguments.data, shutdown).await.context("`net` failed")
        }
        None => {
            let config = config(arguments)?;
            tokio::spawn(stop_on_signal(shutdown.clone()));
            agent::run(config, shutdown).await.context("the agent failed")
        }
    }
}

fn config(arguments: Arguments) -> anyhow::Result<AgentConfig> {
    let leaves = matches!(arguments.command, Some(Command::Leave { .. }));
    let name = match arguments.name {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("failed to read the host's name; give one with --name")?
            .trim()
            .to_lowercase(),
    };
    let crash_at = match std::env::var("KGIT_CRASH_AT") {
        Ok(text) => Some(CrashPoint::parse(&text).context("KGIT_CRASH_AT makes no sense")?),
        Err(_) => None,
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let labels: BTreeMap<String, String> = arguments.labels.into_iter().collect();
    Ok(AgentConfig {
        master_url: match (arguments.join, leaves) {
            (Some(url), _) => url,
            (None, true) => String::new(),
            (None, false) => anyhow::bail!("which master? give --join https://HOST:PORT"),
        },
        data_dir: arguments.data,
        kept_dirs: Vec::new(),
        node: NodeName::new(name),
        labels,
        token: arguments.token_file.map(token).transpose()?,
        policy: NodePolicy {
            host_paths: arguments.allow_host_path,
            privileged: arguments.allow_privileged,
            host_namespaces: arguments.allow_host_namespaces,
            capabilities: arguments.allow_capability,
            no_services: arguments.no_services,
        },
        docker_socket: arguments.docker,
        docker_config: home.map(|home| home.join(".docker/config.json")),
        crash_at,
    })
}

fn token(file: PathBuf) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("failed to read the join token")?;
        return Ok(text);
    }
    std::fs::read_to_string(&file)
        .with_context(|| format!("failed to read the join token from {}", file.display()))
}

async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    shutdown.cancel();
}

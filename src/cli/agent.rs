//! `kgit agent`.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use kgit_agent::agent::said_of_leaving;
use kgit_agent::config::AgentConfig;
use kgit_agent::policy::NodePolicy;
use kgit_agent::runtime::crash::CrashPoint;
use kgit_protocol::ids::NodeName;
use tokio_util::sync::CancellationToken;

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::master::stopped;
use crate::cli::node_options::NodeOptions;
use crate::daemon::{agent, config, up};

/// Run on this host's Docker what a master assigns to it
#[derive(Debug, Args)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: Option<AgentCommand>,
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
    #[command(flatten)]
    node: NodeOptions,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Take this host out of its cluster: its pods end, and the master forgets it; volumes stay
    Leave {
        /// Also remove the volumes, and the data in them
        #[arg(long)]
        purge: bool,
    },
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

pub async fn run(args: AgentArgs) -> Result<Exit, CliError> {
    let config = config(&args)?;
    match args.command {
        Some(AgentCommand::Leave { purge }) => {
            eprintln!("ending this node's pods; they have up to 30 s");
            let stay = agent::leave(&config, purge).await.map_err(CliError::Leave)?;
            eprintln!("{}", said_of_leaving(&stay));
        }
        None => {
            let stop = CancellationToken::new();
            let stopping = stop.clone();
            tokio::spawn(async move {
                // Without signals the agent can only be killed, which it survives.
                let _ = stopped().await;
                stopping.cancel();
            });
            agent::run(config, stop).await?;
        }
    }
    Ok(Exit::Success)
}

fn config(args: &AgentArgs) -> Result<AgentConfig, CliError> {
    let master_url = match (&args.join, &args.command) {
        (Some(url), _) => url.clone(),
        // The agent's directory knows it.
        (None, Some(AgentCommand::Leave { .. })) => String::new(),
        (None, None) => {
            return Err(CliError::usage("no master was named", "add --join https://HOST:PORT"));
        }
    };
    let crash = std::env::var("KGIT_CRASH_AT").ok();
    Ok(AgentConfig {
        master_url: master_url.trim_end_matches('/').to_owned(),
        data_dir: config::data_directory(Some(&args.data)),
        kept_dirs: Vec::new(),
        node: args.name.as_deref().map_or_else(up::host_name, NodeName::new),
        labels: args.labels.iter().cloned().collect(),
        token: args.token_file.as_deref().map(read_token).transpose()?,
        policy: args.node.policy(NodePolicy::default()),
        docker_socket: args.node.docker.clone(),
        docker_config: up::docker_config(),
        crash_at: crash
            .as_deref()
            .and_then(|text| text.strip_prefix("docker:"))
            .and_then(CrashPoint::parse),
    })
}

/// From a file or standard input: an argument would be visible to others.
fn read_token(path: &std::path::Path) -> Result<String, CliError> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(CliError::io("read the token"))?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
        .map_err(CliError::io(format!("read the token from {}", path.display())))
}

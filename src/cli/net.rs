//! `kgit net`.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::master::stopped;
use crate::daemon::net;

/// Carry service traffic on this node and answer names; the agent starts it
#[derive(Debug, Args)]
pub struct NetArgs {
    /// The agent's directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

pub async fn run(args: NetArgs) -> Result<Exit, CliError> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        // Without signals it can only be killed, which traffic survives.
        let _ = stopped().await;
        stopping.cancel();
    });
    net::run(&args.data, stop).await?;
    Ok(Exit::Success)
}

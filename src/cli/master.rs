//! `kgit master`.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::daemon::config::{self, MasterConfig};
use crate::daemon::master;
use crate::store::crash::CrashPoints;

/// Follow a source and plan for the agents that join
#[derive(Debug, Args)]
pub struct MasterArgs {
    /// A folder, a Git repository or a URL
    #[arg(long, value_name = "PATH|URL")]
    source: String,
    #[command(flatten)]
    options: MasterOptions,
}

/// What `kgit up` and `kgit master` have in common.
#[derive(Clone, Debug, Args)]
pub struct MasterOptions {
    /// The branch to follow [default: the one that HEAD names]
    #[arg(long)]
    branch: Option<String>,
    /// The folder within the repository that holds the manifests
    #[arg(long, value_name = "DIR", default_value = "")]
    path: String,
    /// The data directory [default: /var/lib/kgit for root, ~/.local/share/kgit for others]
    #[arg(long, value_name = "DIR", env = "KGIT_DATA")]
    pub data: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:7443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// A name or address that agents and clients reach this master by; may be repeated
    #[arg(long, value_name = "NAME")]
    advertise: Vec<String>,
    /// How often a remote repository is asked for news, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    poll: u64,
}

impl MasterOptions {
    pub fn data(&self) -> PathBuf {
        config::data_directory(self.data.as_deref())
    }

    pub fn config(&self, source: String) -> MasterConfig {
        MasterConfig {
            source,
            branch: self.branch.clone(),
            folder: self.path.clone(),
            data: self.data(),
            listen: self.listen.clone(),
            advertise: self.advertise.clone(),
            poll_seconds: self.poll,
            crash: std::env::var("KGIT_CRASH_AT").ok().and_then(|text| CrashPoints::parse(&text)),
            git_token: std::env::var("KGIT_GIT_TOKEN").ok(),
        }
    }
}

pub async fn run(args: MasterArgs) -> Result<Exit, CliError> {
    let config = args.options.config(args.source);
    let mut running = master::start(&config).await?;
    running.follow()?;
    eprintln!("master at {}", running.url());
    eprintln!("kubeconfig: {}", config::kubeconfig(&config.data).display());
    stopped().await?;
    running.stop().await;
    Ok(Exit::Success)
}

/// Waits for Ctrl-C or TERM.
pub async fn stopped() -> Result<(), CliError> {
    let failed = || CliError::io("listen for signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed()),
        _ = terminate.recv() => Ok(()),
    }
}

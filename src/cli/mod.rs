//! The command line: one file a command, whose doc comment is its help.
//!
//! Standard output is data, standard error is talk. Nothing is decided here.
#![allow(clippy::disallowed_methods, reason = "the shell: terminal, files and environment")]

mod agent;
mod check;
mod completion;
mod context;
mod down;
pub mod error;
pub mod exit;
mod master;
mod node_options;
mod up;
mod version;

use clap::{Parser, Subcommand};

use crate::cli::context::{Context, Output};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Runs Kubernetes manifests from a Git repo on plain Docker hosts.
#[derive(Debug, Parser)]
#[command(name = "kgit", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The kubeconfig that leads to the master [default: $KUBECONFIG, then the data directory's]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// The form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Say more on standard error; twice: even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::UpArgs),
    Down(down::DownArgs),
    Master(master::MasterArgs),
    Agent(agent::AgentArgs),
    Check(check::CheckArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
}

/// Carries out a command line.
pub async fn run(cli: Cli) -> Result<Exit, CliError> {
    let context = Context::new(cli.kubeconfig, cli.output);
    match cli.command {
        Command::Up(args) => up::run(args).await,
        Command::Down(args) => down::run(args).await,
        Command::Master(args) => master::run(args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::Check(args) => check::run(&args, &context),
        Command::Version(args) => version::run(&args, &context),
        Command::Completion(args) => completion::run(&args),
    }
}

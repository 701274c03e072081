//! The command line: one file a command, whose doc comment is its help.
//!
//! Standard output is data, standard error is talk. Nothing is decided here.
#![allow(clippy::disallowed_methods, reason = "the shell: terminal, files and environment")]

mod agent;
mod attach;
mod audit;
mod backup;
mod check;
mod completion;
mod context;
mod cp;
mod describe;
mod describe_kinds;
mod describe_parts;
mod diff;
mod doctor;
mod down;
pub mod error;
mod events;
mod exec;
pub mod exit;
mod get;
mod logs;
mod master;
mod net;
mod node;
mod node_options;
mod object;
mod orders;
mod pod;
mod port_forward;
mod status;
mod talk;
mod terminal;
mod token;
mod top;
mod up;
mod version;
mod why;

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
    #[command(hide = true)]
    Net(net::NetArgs),
    Token(token::TokenArgs),
    Node(node::NodeArgs),
    Check(check::CheckArgs),
    Diff(diff::DiffArgs),
    Status(status::StatusArgs),
    Get(get::GetArgs),
    Top(top::TopArgs),
    Describe(describe::DescribeArgs),
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    Attach(attach::AttachArgs),
    Cp(cp::CpArgs),
    PortForward(port_forward::PortForwardArgs),
    Events(events::EventsArgs),
    Audit(audit::AuditArgs),
    Why(why::WhyArgs),
    Approve(orders::ApproveArgs),
    Prune(orders::PruneArgs),
    Suspend(orders::SuspendArgs),
    Resume(orders::ResumeArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Doctor(doctor::DoctorArgs),
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
        Command::Net(args) => net::run(args).await,
        Command::Token(args) => token::run(&args, &context).await,
        Command::Node(args) => node::run(&args, &context).await,
        Command::Check(args) => check::run(&args, &context),
        Command::Diff(args) => diff::run(&args, &context).await,
        Command::Status(args) => status::run(&args, &context).await,
        Command::Get(args) => get::run(&args, &context).await,
        Command::Top(args) => top::run(args, &context).await,
        Command::Describe(args) => describe::run(&args, &context).await,
        Command::Logs(args) => logs::run(&args, &context).await,
        Command::Exec(args) => exec::run(&args, &context).await,
        Command::Attach(args) => attach::run(&args, &context).await,
        Command::Cp(args) => cp::run(&args, &context).await,
        Command::PortForward(args) => port_forward::run(&args, &context).await,
        Command::Events(args) => events::run(args, &context).await,
        Command::Audit(args) => audit::run(&args, &context).await,
        Command::Why(args) => why::run(&args, &context).await,
        Command::Approve(args) => orders::approve(args, &context).await,
        Command::Prune(args) => orders::prune(args, &context).await,
        Command::Suspend(args) => orders::suspend(&args, &context).await,
        Command::Resume(args) => orders::resume(&args, &context).await,
        Command::Backup(args) => backup::backup(&args, &context).await,
        Command::Restore(args) => backup::restore(&args),
        Command::Doctor(args) => doctor::run(&args, &context).await,
        Command::Version(args) => version::run(&args, &context).await,
        Command::Completion(args) => completion::run(&args),
    }
}

//! `kgit completion`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::context::print;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct CompletionArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &CompletionArgs) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kgit", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

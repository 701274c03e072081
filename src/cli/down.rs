//! `kgit down`.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::daemon::config;
use crate::daemon::down;

/// Stop what `kgit up` started: its process and its containers
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Also remove all data: volumes, the audit log, the data directory
    #[arg(long)]
    purge: bool,
    /// Do not ask before removing data
    #[arg(long, requires = "purge")]
    yes: bool,
    /// The data directory [default: /var/lib/kgit for root, ~/.local/share/kgit for others]
    #[arg(long, value_name = "DIR", env = "KGIT_DATA")]
    data: Option<PathBuf>,
}

pub async fn run(args: DownArgs) -> Result<Exit, CliError> {
    let data = config::data_directory(args.data.as_deref());
    if args.purge && !args.yes && !confirmed(&data)? {
        eprintln!("nothing was removed");
        return Ok(Exit::Error);
    }
    down::down(&data, args.purge).await?;
    eprintln!("{}", if args.purge { "down, and all data removed" } else { "down; data kept" });
    Ok(Exit::Success)
}

fn confirmed(data: &std::path::Path) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "--purge removes data, and there is no terminal to ask on",
            "add --yes if that is what you want",
        ));
    }
    eprint!(
        "This removes every container and volume that kgit made here, and {}. Type `yes`: ",
        data.display()
    );
    std::io::stderr().flush().map_err(CliError::io("ask"))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(CliError::io("read the answer"))?;
    Ok(answer.trim() == "yes")
}

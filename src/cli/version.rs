//! `kgit version`.

use clap::Args;
use serde::Serialize;

use crate::cli::context::{Context, Output};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Print the version
#[derive(Debug, Args)]
pub struct VersionArgs {}

#[derive(Serialize)]
struct Version {
    kgit: &'static str,
    protocol: u32,
}

pub fn run(_args: &VersionArgs, context: &Context) -> Result<Exit, CliError> {
    let version = Version {
        kgit: env!("CARGO_PKG_VERSION"),
        protocol: kgit_protocol::messages::PROTOCOL_VERSION,
    };
    match context.output {
        Output::Json => context.print_json(&version)?,
        _ => println!("kgit {} (agent protocol {})", version.kgit, version.protocol),
    }
    Ok(Exit::Success)
}

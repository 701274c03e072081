//! `kgit version`.

use clap::Args;
use kgit_protocol::messages::PROTOCOL_VERSION;
use serde::Serialize;

use crate::cli::context::{Context, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::kube::dto::ClusterStatus;

/// Print the version of this program and, if one answers, of the master
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Of this program only; asks nobody
    #[arg(long)]
    client: bool,
}

#[derive(Serialize)]
struct Version {
    kgit: &'static str,
    protocol: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<MasterVersion>,
}

/// What is known of the master.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum MasterVersion {
    Version(String),
    Unknown(String),
}

pub async fn run(args: &VersionArgs, context: &Context) -> Result<Exit, CliError> {
    let master = if args.client { None } else { Some(master(context).await) };
    let version = Version { kgit: env!("CARGO_PKG_VERSION"), protocol: PROTOCOL_VERSION, master };
    match context.for_programs() {
        true => context.print_json(&version)?,
        false => print(&text(&version))?,
    }
    Ok(Exit::Success)
}

/// That no master answers is no error here: the question was about versions.
async fn master(context: &Context) -> MasterVersion {
    let client = match context.client() {
        Ok(client) => client,
        Err(error) => return MasterVersion::Unknown(error.to_string()),
    };
    match client.get::<ClusterStatus>("/kgit/v1/status").await {
        Ok(status) => MasterVersion::Version(status.master),
        Err(error) => MasterVersion::Unknown(error.to_string()),
    }
}

fn text(version: &Version) -> String {
    let mut text = format!("kgit {} (agent protocol {})\n", version.kgit, version.protocol);
    match &version.master {
        Some(MasterVersion::Version(master)) => text.push_str(&format!("master {master}\n")),
        Some(MasterVersion::Unknown(why)) => text.push_str(&format!("master unknown: {why}\n")),
        None => {}
    }
    text
}

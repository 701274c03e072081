//! `kgit node`: orders about machines.

use clap::{Args, Subcommand};

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::orders::send;
use crate::client::http::encoded;
use crate::kube::dto::{Order, VERSION};

/// Give orders about nodes
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    Reset(ResetArgs),
}

/// Free the name of a node that is gone for good
///
/// Its pods are placed anew, and another machine may join under its name. If the old machine still
/// runs, its containers go on there without the master knowing.
#[derive(Debug, Args)]
struct ResetArgs {
    /// The node's name
    name: String,
}

pub async fn run(args: &NodeArgs, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        NodeCommand::Reset(reset) => {
            let order = Order { version: VERSION, ..Order::default() };
            send(context, &format!("nodes/{}/reset", encoded(&reset.name)), &order).await
        }
    }
}

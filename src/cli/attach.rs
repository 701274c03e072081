//! `kgit attach`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exec::{EndsArgs, converse};
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::cli::pod::pod;

/// Attach to a process that is already running inside an existing container
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The pod, or KIND/NAME of what it belongs to: `deploy/web` picks one of its pods
    pub pod: String,
    #[command(flatten)]
    pub place: Where,
    #[command(flatten)]
    pub ends: EndsArgs,
    /// Container name. If omitted, the pod's annotation names it, or it is the first one
    #[arg(short, long)]
    pub container: Option<String>,
}

pub async fn run(args: &AttachArgs, context: &Context) -> Result<Exit, CliError> {
    let pod = pod(&context.client()?, &args.place, &args.pod).await?;
    converse(context, &pod, args.container.as_deref(), "attach", args.ends, "").await
}

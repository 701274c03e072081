//! `kgit approve`, `kgit prune`, `kgit suspend` and `kgit resume`: orders to the master.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::kube::dto::{Done, Order, VERSION};

/// Let deletions go ahead that the brakes hold
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The plan's name, as `kgit status` shows it
    plan: String,
}

/// Remove objects that were kept though their manifests are gone, with their data, and claims whose data is lost
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Kind/namespace/name, as `kgit status` shows them; `pvc/default/data` does as well
    #[arg(required = true)]
    objects: Vec<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Let new commits wait; what runs is kept running
#[derive(Debug, Args)]
pub struct SuspendArgs {}

/// Go on with the newest commit
#[derive(Debug, Args)]
pub struct ResumeArgs {}

pub async fn approve(args: ApproveArgs, context: &Context) -> Result<Exit, CliError> {
    let order = Order { version: VERSION, plan: args.plan, objects: Vec::new() };
    send(context, "approve", &order).await
}

pub async fn prune(args: PruneArgs, context: &Context) -> Result<Exit, CliError> {
    if !args.yes && !confirmed(&args.objects)? {
        eprintln!("nothing was removed");
        return Ok(Exit::Error);
    }
    let order = Order { version: VERSION, plan: String::new(), objects: args.objects };
    send(context, "prune", &order).await
}

pub async fn suspend(_args: &SuspendArgs, context: &Context) -> Result<Exit, CliError> {
    send(context, "suspend", &Order { version: VERSION, ..Order::default() }).await
}

pub async fn resume(_args: &ResumeArgs, context: &Context) -> Result<Exit, CliError> {
    send(context, "resume", &Order { version: VERSION, ..Order::default() }).await
}

/// Sends an order, and says what was done.
pub async fn send(context: &Context, what: &str, order: &Order) -> Result<Exit, CliError> {
    let done: Done = context.client()?.post(&format!("/kgit/v1/{what}"), order).await?;
    match context.for_programs() {
        true => context.print_json(&done)?,
        false => eprintln!("{}", done.message),
    }
    Ok(Exit::Success)
}

fn confirmed(objects: &[String]) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "this removes data, and there is no terminal to ask on",
            "add --yes if that is what you want",
        ));
    }
    eprint!("This removes {} and their data for good. Type `yes`: ", objects.join(", "));
    std::io::stderr().flush().map_err(CliError::io("ask"))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(CliError::io("read the answer"))?;
    Ok(answer.trim() == "yes")
}

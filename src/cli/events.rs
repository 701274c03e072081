//! `kgit events`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::get::{self, GetArgs};
use crate::cli::object::Where;

/// List what was told about objects: pulls, starts, back-offs, failed probes
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    place: Where,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Of one object: its name
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Go on with what is told
    #[arg(short, long)]
    watch: bool,
}

pub async fn run(args: EventsArgs, context: &Context) -> Result<Exit, CliError> {
    let get = GetArgs {
        object: vec!["events".to_owned()],
        place: args.place,
        all_namespaces: args.all_namespaces,
        selector: None,
        field_selector: args.of.map(|name| format!("involvedObject.name={name}")),
        watch: args.watch,
        by_time: true,
    };
    get::run(&get, context).await
}

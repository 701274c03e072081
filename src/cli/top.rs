//! `kgit top`.

use clap::{Args, ValueEnum};

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::get::{self, GetArgs};
use crate::cli::object::Where;

/// Show what nodes or pods use, as the engines measured it within the last minute
#[derive(Debug, Args)]
pub struct TopArgs {
    what: Measured,
    /// Only this one
    name: Option<String>,
    #[command(flatten)]
    place: Where,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels: `app=web,tier!=db`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Measured {
    #[value(alias = "node", alias = "no")]
    Nodes,
    #[value(alias = "pod", alias = "po")]
    Pods,
}

pub async fn run(args: TopArgs, context: &Context) -> Result<Exit, CliError> {
    let kind = match args.what {
        Measured::Nodes => "nodes.metrics.k8s.io",
        Measured::Pods => "pods.metrics.k8s.io",
    };
    let get = GetArgs {
        object: std::iter::once(kind.to_owned()).chain(args.name).collect(),
        place: args.place,
        all_namespaces: args.all_namespaces,
        selector: args.selector,
        field_selector: None,
        watch: false,
        by_time: false,
    };
    get::run(&get, context).await
}

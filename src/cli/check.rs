//! `kgit check`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::context::{Context, Output, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::domain::desired::Commit;
use crate::graph;
use crate::manifest::catalog::Catalog;
use crate::manifest::check::CheckReport;
use crate::source::files;

/// Check manifests, without a master
///
/// Reads every YAML and JSON file below PATH and says everything that is wrong, at once.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A folder, or one file
    #[arg(default_value = ".")]
    path: PathBuf,
}

pub fn run(args: &CheckArgs, context: &Context) -> Result<Exit, CliError> {
    let change = files::walk(&args.path)?;
    let mut catalog = Catalog::default();
    catalog.apply(&change);
    let mut diagnostics = catalog.diagnostics();
    diagnostics.extend(graph::cycles(&catalog.desired(Arc::new(Commit::default()))));
    let report = CheckReport { counts: catalog.counts(), diagnostics };
    match context.output {
        Output::Json | Output::Yaml => context.print_json(&report)?,
        Output::Text | Output::Wide | Output::Name => print(&report.to_string())?,
    }
    Ok(if report.has_errors() { Exit::Error } else { Exit::Success })
}

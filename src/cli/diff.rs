//! `kgit diff`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use crate::cli::context::{Context, Output, print, print_json};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::client::http::{Client, encoded};
use crate::domain::desired::{FileContent, SourceFile};
use crate::domain::diagnostic::Severity;
use crate::domain::words::counted;
use crate::kube::dto::{DiffAnswer, DiffRequest, UploadedFile, VERSION};
use crate::manifest::render::Rendered;
use crate::source::files;

/// Say what would change: where, in which order, and why
///
/// Without arguments: what the followed source still has to bring about. Exits with 0 if nothing
/// would change, 1 if something would or deletions are held, 2 on errors.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A commit of the followed repository: a branch, a tag, an id, or two as `A..B`; or a folder
    /// on this machine, as with --tree
    #[arg(value_name = "REV", conflicts_with = "tree")]
    pub revision: Option<String>,
    /// A folder on this machine, as if it were the whole source
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,
}

pub async fn run(args: &DiffArgs, context: &Context) -> Result<Exit, CliError> {
    let answer = args.ask(&context.client()?).await?;
    match context.output {
        Output::Json | Output::Yaml => print_json(&answer)?,
        Output::Text | Output::Wide | Output::Name => show(&answer)?,
    }
    let has_errors = answer.diagnostics.iter().any(|d| d.severity == Severity::Error);
    let kept_back = !(answer.held.is_empty() && answer.pending.is_empty());
    Ok(match (has_errors, answer.changes, !kept_back) {
        (true, _, _) => Exit::Error,
        (false, 0, true) => Exit::Success,
        (false, _, _) => Exit::Found,
    })
}

impl DiffArgs {
    async fn ask(&self, client: &Client) -> Result<DiffAnswer, CliError> {
        let folder = self.revision.as_ref().map(PathBuf::from).filter(|path| path.is_dir());
        Ok(match (&self.tree.clone().or(folder), &self.revision) {
            (Some(folder), _) => client.post("/kgit/v1/diff", &upload(folder)?).await?,
            (None, Some(path)) if path.starts_with(['/', '.', '~']) => {
                let hint = "name a folder that is there, or a commit of the followed repository";
                return Err(CliError::usage(format!("there is no folder `{path}`"), hint));
            }
            (None, Some(revision)) => {
                client.get(&format!("/kgit/v1/diff?rev={}", encoded(revision))).await?
            }
            (None, None) => client.get("/kgit/v1/diff").await?,
        })
    }
}

fn show(answer: &DiffAnswer) -> Result<(), CliError> {
    for diagnostic in answer.diagnostics.iter().filter(|d| d.severity != Severity::Note) {
        eprintln!("{}", Rendered(diagnostic));
    }
    if answer.changes == 0 && answer.held.is_empty() {
        match answer.pending.len() {
            0 => eprintln!("nothing would change"),
            count => {
                let objects = counted(count, "object");
                eprintln!("changes of {objects} wait, and would go on waiting");
            }
        }
    }
    print(&answer.text)
}

fn upload(folder: &std::path::Path) -> Result<DiffRequest, CliError> {
    let tree = files::walk(folder)?;
    let upload = |file: SourceFile| match file.content {
        FileContent::Bytes(bytes) => {
            Ok(UploadedFile { path: file.path.to_string(), content: STANDARD.encode(&bytes) })
        }
        // The master can't see them, so a forecast without them would mislead.
        FileContent::TooLarge { .. }
        | FileContent::Link { .. }
        | FileContent::Submodule
        | FileContent::Unreadable { .. } => {
            let hint = "`kgit check` says what is wrong with it";
            Err(CliError::usage(format!("`{}` can't be uploaded", file.path), hint))
        }
    };
    let files: Result<_, CliError> = tree.upserted.into_iter().map(upload).collect();
    Ok(DiffRequest { version: VERSION, files: files?, complete: true, removed: Vec::new() })
}

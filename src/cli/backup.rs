//! `kgit backup` and `kgit restore`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use futures_util::StreamExt as _;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::daemon::{config, now};
use crate::store::backup;

/// Copy everything that the master must not forget into one file, while it runs
///
/// The file holds keys and the values of Secrets: keep it as you keep those.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    file: PathBuf,
}

/// Put a backup in the place of a stopped master's data
///
/// What was there is kept aside. The restored master first hears from every node what it runs; if they
/// were told of more than the backup knows, no object is removed until `kgit approve restored`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `kgit backup` wrote
    file: PathBuf,
    /// The data directory [default: /var/lib/kgit for root, ~/.local/share/kgit for others]
    #[arg(long, value_name = "DIR", env = "KGIT_DATA")]
    data: Option<PathBuf>,
}

pub async fn backup(args: &BackupArgs, context: &Context) -> Result<Exit, CliError> {
    if args.file.exists() {
        let message = format!("{} exists already", args.file.display());
        return Err(CliError::usage(message, "name another file, or move it away"));
    }
    let client = context.client()?;
    let mut bytes = Box::pin(client.bytes("/kgit/v1/backup").await?);
    let failed = || CliError::io(format!("write {}", args.file.display()));
    let folder = args.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Mode 0600, and in its place only when it is whole.
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(".".as_ref())).map_err(failed())?;
    while let Some(bytes) = bytes.next().await {
        file.write_all(&bytes?).map_err(failed())?;
    }
    file.as_file().sync_all().map_err(failed())?;
    file.persist_noclobber(&args.file).map_err(|error| failed()(error.error))?;
    eprintln!("backed up to {}", args.file.display());
    Ok(Exit::Success)
}

pub fn restore(args: &RestoreArgs) -> Result<Exit, CliError> {
    let data = config::data_directory(args.data.as_deref());
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    backup::restore(&args.file, &data, now(), &user)?;
    eprintln!("restored into {}; start the master again", data.display());
    Ok(Exit::Success)
}

//! Sources: where the manifests come from. A local Git repository, a plain folder, or a remote
//! repository; each delivers commits, and how a commit's tree differs from the one before.
//!
//! What does not live here: what the files mean (`manifest`), and when a commit is acted on
//! (`master`). Nothing of a repository's work tree is read, and no hook or filter is run.
#![allow(clippy::disallowed_methods, reason = "the shell: sources are files and repositories")]

mod archive;
pub mod error;
pub mod files;
pub mod folder;
pub mod follow;
pub mod git;
pub mod history;
mod http;
mod libgit2;
mod name;
pub mod remote;
mod session;
pub mod signal;
mod ssh;
#[cfg(test)]
mod tests;
mod tree;
pub mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::desired::{Commit, TreeChange};
use crate::source::error::SourceError;
use crate::source::signal::Signal;
use crate::source::watch::Watching;

/// Files above this are named and not read: no manifest that people write comes near it, and the
/// largest object that Kubernetes takes is 1.5 MiB.
pub const MAX_FILE_BYTES: u64 = 8 << 20;

/// What a look at a source found.
pub type Snapshot = (Arc<Commit>, TreeChange);

/// Something that manifests come from. The seam that tests fake.
pub trait Source: Send + 'static {
    /// Arranges that `signal` is raised when there may be something new.
    fn watch(&mut self, signal: &Signal) -> Watching;

    /// The newest commit, if it is not the one that was delivered last, with what differs.
    fn look(&mut self) -> Result<Option<Snapshot>, SourceError>;

    /// How long until the next look if nothing is signalled; after failures it may grow.
    fn patience(&self) -> Duration;

    /// How long it must have been quiet after a signal, so that one push or one save in an
    /// editor is one look.
    fn quiet(&self) -> Duration;
}

/// What a person may have meant by the argument of `--source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// A Git repository, bare or not: its branch is followed.
    Repository,
    /// A folder, perhaps inside of a work tree: its files are followed.
    Folder,
    /// Something with a host in it: a remote repository.
    Url,
    Nothing,
}

/// Looks at the argument itself: a repository is never searched for in the folders above.
pub fn detect(location: &str) -> Detected {
    if remote::is_url(location) {
        return Detected::Url;
    }
    let path = Path::new(location);
    match path.is_dir() {
        true if libgit2::open(path).is_ok() || git::looks_like_repository(path) => {
            Detected::Repository
        }
        true => Detected::Folder,
        false => Detected::Nothing,
    }
}

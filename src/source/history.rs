//! Reading a source's past: any commit by its revision, and keeping those that the audit names.

use std::path::PathBuf;
use std::sync::Arc;

use git2::{Oid, Repository};
use kgit_protocol::time::Timestamp;

use crate::domain::desired::Commit;
use crate::source::archive::Archive;
use crate::source::error::SourceError;
use crate::source::tree::TreeReader;
use crate::source::{Snapshot, libgit2};

/// Where a source's commits are. Cheap, for any thread; opened anew by each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The followed repository; `None` if that is a private one, which holds everything itself.
    pub(super) followed: Option<PathBuf>,
    pub(super) archive: PathBuf,
    pub(super) folder: String,
    /// What revisions are relative to: `HEAD` means the followed branch.
    pub(super) reference: Option<String>,
}

impl History {
    /// Makes sure that a commit can be read for as long as the audit names it, whatever happens
    /// to the branch: a force-push and a `git gc` do not take it away.
    pub fn keep(&self, commit: &str) -> Result<(), SourceError> {
        let archive = Archive::open_or_make(&self.archive)?;
        match &self.followed {
            None => archive.hold(commit),
            Some(path) => {
                if archive.has(commit) {
                    return archive.hold(commit);
                }
                let repo = open(path)?;
                archive.copy(&repo, commit, &self.folder)?;
                archive.hold(commit)
            }
        }
    }

    /// The commits that are kept.
    pub fn kept(&self) -> Result<Vec<String>, SourceError> {
        Archive::open_or_make(&self.archive)?.held()
    }

    /// Lets go of a kept commit: the audit does not name it any more.
    pub fn release(&self, commit: &str) -> Result<(), SourceError> {
        Archive::open_or_make(&self.archive)?.release(commit)
    }

    /// The commit that a revision names: a branch, a tag, `HEAD~2`, the start of an id.
    pub fn resolve(&self, revision: &str) -> Result<Commit, SourceError> {
        self.find(revision, describe)
    }

    /// A commit with all its files.
    pub fn read_at(&self, revision: &str) -> Result<Snapshot, SourceError> {
        self.find(revision, |repo, id| {
            let commit = repo.find_commit(id)?;
            let change =
                TreeReader::new(&self.folder).change(repo, None, Some(commit.tree_id()))?;
            Ok((Arc::new(describe(repo, id)?), change))
        })
    }

    /// The followed repository knows branches and tags; the archive, what it has lost since.
    fn find<T>(
        &self,
        revision: &str,
        read: impl Fn(&Repository, Oid) -> Result<T, git2::Error>,
    ) -> Result<T, SourceError> {
        let attempted = || format!("reading {revision}");
        if let Some(path) = &self.followed
            && let Ok(repo) = open(path)
            && let Some(id) = self.parse(&repo, revision)
        {
            return read(&repo, id).map_err(SourceError::git(attempted()));
        }
        let archive = Archive::open_or_make(&self.archive)?;
        match self.parse(archive.repo(), revision) {
            Some(id) => read(archive.repo(), id).map_err(SourceError::git(attempted())),
            None => Err(SourceError::NoRevision { revision: revision.to_owned() }),
        }
    }

    fn parse(&self, repo: &Repository, revision: &str) -> Option<Oid> {
        let named = match (&self.reference, revision.strip_prefix("HEAD")) {
            (Some(reference), Some(rest)) => format!("{reference}{rest}"),
            _ => revision.to_owned(),
        };
        let object = repo.revparse_single(&named).ok()?;
        object.peel_to_commit().ok().map(|commit| commit.id())
    }
}

pub(super) fn open(path: &std::path::Path) -> Result<Repository, SourceError> {
    libgit2::open(path).map_err(SourceError::git(format!("opening {}", path.display())))
}

/// A commit as the core knows it.
pub(super) fn describe(repo: &Repository, id: Oid) -> Result<Commit, git2::Error> {
    let commit = repo.find_commit(id)?;
    let author = commit.author();
    let name = String::from_utf8_lossy(author.name_bytes()).into_owned();
    let address = String::from_utf8_lossy(author.email_bytes()).into_owned();
    let summary = commit.summary_bytes().map(String::from_utf8_lossy).unwrap_or_default();
    Ok(Commit {
        id: id.to_string(),
        author: format!("{name} <{address}>"),
        at: Timestamp(commit.time().seconds().saturating_mul(1000)),
        summary: summary.into_owned(),
    })
}

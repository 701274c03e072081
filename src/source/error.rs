//! Why a source can't be read. What was read last stays in force.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{attempted}: {}", source.message())]
    Git { attempted: String, source: git2::Error },

    #[error("{attempted} {}", path.display())]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },

    #[error("there is no branch `{branch}` in {location}: push it, or name another with --branch")]
    NoBranch { branch: String, location: String },

    #[error(
        "HEAD of {location} names `{branch}`, which has no commit; there is `{others}`: name the one to follow with --branch"
    )]
    OtherBranches { branch: String, location: String, others: String },

    #[error("the branch `{branch}` is gone from {location}; what was read last stays in force")]
    BranchGone { branch: String, location: String },

    #[error("HEAD of {location} is detached: name the branch to follow with --branch")]
    Detached { location: String },

    #[error("there is no folder `{folder}` in commit {commit}: check --path")]
    NoFolder { folder: String, commit: String },

    #[error("{} is not a folder that can be read", path.display())]
    NotAFolder { path: PathBuf },

    #[error("`{revision}` names no commit that kgit has")]
    NoRevision { revision: String },

    #[error("{what}: {hint}")]
    Address { what: String, hint: &'static str },

    #[error("making an HTTP client: {message}")]
    Client { message: String },
}

impl SourceError {
    pub(super) fn git(attempted: impl Into<String>) -> impl FnOnce(git2::Error) -> Self {
        let attempted = attempted.into();
        move |source| Self::Git { attempted, source }
    }

    pub(super) fn io(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempted, path, source }
    }
}

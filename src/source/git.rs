//! A local Git repository, bare or not, followed by its branch and read from its object store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use git2::{ErrorCode, Oid, Repository};

use crate::domain::desired::{Commit, TreeChange};
use crate::source::error::SourceError;
use crate::source::history::{self, History};
use crate::source::signal::Signal;
use crate::source::tree::TreeReader;
use crate::source::watch::{self, Watch, Watching};
use crate::source::{Snapshot, Source};

/// Branches that an error names.
const BRANCHES_NAMED: usize = 5;
/// A look that finds nothing reads one reference; this is the backstop behind the watching.
const BACKSTOP: Duration = Duration::from_secs(10);

/// Without watching, the clock is all there is.
const POLL: Duration = Duration::from_secs(1);

/// A push moves its reference in one rename; several references of one push come together.
const QUIET: Duration = Duration::from_millis(10);

/// The archive's name in the data directory.
const ARCHIVE: &str = "kept.git";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalGitConfig {
    /// The repository itself: bare, or with its `.git` in it.
    pub path: PathBuf,
    /// `None`: the branch that HEAD names.
    pub branch: Option<String>,
    /// The followed folder within the tree; empty: all of it.
    pub folder: String,
    /// kgit's own data directory, for the commits that are kept.
    pub data: PathBuf,
    /// The commit whose files the reader has already.
    pub at: Option<String>,
}

#[derive(Debug)]
pub struct LocalGit {
    config: LocalGitConfig,
    follow: BranchFollow,
    watch: Option<Watch>,
}

impl LocalGit {
    pub fn new(config: LocalGitConfig) -> Self {
        let follow = BranchFollow::new(&config.folder, config.at.clone());
        Self { config, follow, watch: None }
    }

    pub fn history(&self) -> History {
        History {
            followed: Some(self.config.path.clone()),
            archive: self.config.data.join(ARCHIVE),
            folder: self.config.folder.clone(),
            reference: self.config.branch.as_ref().map(|branch| format!("refs/heads/{branch}")),
        }
    }

    fn location(&self) -> String {
        self.config.path.display().to_string()
    }

    /// What was delivered last may be gone from the repository, after a force-push and a gc; the
    /// commits that were kept serve as its own then, in memory only.
    fn lend_archive(&self, repo: &Repository) -> Result<(), SourceError> {
        let objects = self.config.data.join(ARCHIVE).join("objects");
        let Some(path) = objects.to_str().filter(|_| objects.exists()) else { return Ok(()) };
        repo.odb()
            .and_then(|odb| odb.add_disk_alternate(path))
            .map_err(SourceError::git("reading the kept commits"))
    }

    fn start_watch(&self, signal: &Signal) -> Result<Watch, String> {
        let repo = history::open(&self.config.path).map_err(|error| error.to_string())?;
        watch::references(repo.path(), repo.commondir(), signal)
    }
}

impl Source for LocalGit {
    fn watch(&mut self, signal: &Signal) -> Watching {
        // A repository that was moved away and back has other files to watch: tried again while
        // it can't be read.
        if self.watch.is_none() {
            match self.start_watch(signal) {
                Ok(watch) => self.watch = Some(watch),
                Err(reason) => return Watching::Polling { reason },
            }
        }
        Watching::Notified
    }

    fn look(&mut self) -> Result<Option<Snapshot>, SourceError> {
        let opened = history::open(&self.config.path);
        if opened.is_err() {
            self.watch = None;
        }
        let repo = opened?;
        let location = self.location();
        let tip = branch_tip(&repo, self.config.branch.as_deref(), &location)?;
        self.lend_archive(&repo)?;
        self.follow.advance(&repo, tip, &location)
    }

    fn patience(&self) -> Duration {
        match self.watch {
            Some(_) => BACKSTOP,
            None => POLL,
        }
    }

    fn quiet(&self) -> Duration {
        QUIET
    }
}

/// Where a branch points.
pub(super) enum Tip {
    At {
        commit: Oid,
        branch: String,
    },
    /// The repository has no commit yet, or not on this branch, which HEAD names.
    Unborn {
        branch: String,
        /// Branches that do have commits.
        others: Vec<String>,
    },
}

fn branch_tip(repo: &Repository, branch: Option<&str>, location: &str) -> Result<Tip, SourceError> {
    let head = head_branch(repo, location)?;
    let branch = match (branch, &head) {
        (Some(branch), _) => branch.to_owned(),
        (None, Some(head)) => head.clone(),
        (None, None) => return Err(SourceError::Detached { location: location.to_owned() }),
    };
    match repo.find_reference(&format!("refs/heads/{branch}")) {
        Ok(reference) => {
            let commit = reference
                .peel_to_commit()
                .map_err(SourceError::git(format!("reading the branch `{branch}`")))?;
            Ok(Tip::At { commit: commit.id(), branch })
        }
        Err(error) if error.code() == ErrorCode::NotFound => {
            let others = branches(repo)?;
            match head.as_deref() == Some(&branch) || others.is_empty() {
                true => Ok(Tip::Unborn { branch, others }),
                false => Err(SourceError::NoBranch { branch, location: location.to_owned() }),
            }
        }
        Err(error) => Err(SourceError::git(format!("reading the branch `{branch}`"))(error)),
    }
}

/// `None`: HEAD names no branch.
fn head_branch(repo: &Repository, location: &str) -> Result<Option<String>, SourceError> {
    let head = repo
        .find_reference("HEAD")
        .map_err(SourceError::git(format!("reading HEAD of {location}")))?;
    let target = head.symbolic_target_bytes().map(String::from_utf8_lossy);
    Ok(target.and_then(|target| target.strip_prefix("refs/heads/").map(str::to_owned)))
}

/// Some of the repository's branches, by name.
fn branches(repo: &Repository) -> Result<Vec<String>, SourceError> {
    let listing = || SourceError::git("listing the branches");
    let mut found = repo.references_glob("refs/heads/*").map_err(listing())?;
    let names = found.names().take(BRANCHES_NAMED);
    let names = names.map(|name| Ok(name.map_err(listing())?["refs/heads/".len()..].to_owned()));
    names.collect()
}

/// A folder with the parts of a repository in it that can't be opened: better an error about a
/// damaged repository than its insides followed as files.
pub(super) fn looks_like_repository(path: &Path) -> bool {
    let bare = ["HEAD", "objects", "refs"].iter().all(|part| path.join(part).exists());
    bare || path.join(".git").exists()
}

/// From tip to tip: what was delivered last, and what comes next.
#[derive(Debug)]
pub(super) struct BranchFollow {
    trees: TreeReader,
    folder: String,
    last: Last,
}

#[derive(Debug)]
enum Last {
    Nothing,
    /// The reader has this commit from before; nothing was delivered by this follower yet.
    Before(String),
    Unborn,
    Delivered {
        commit: Oid,
        tree: Oid,
    },
}

impl BranchFollow {
    pub(super) fn new(folder: &str, at: Option<String>) -> Self {
        let last = at.map_or(Last::Nothing, Last::Before);
        Self { trees: TreeReader::new(folder), folder: folder.to_owned(), last }
    }

    /// What differs between the last delivery and `tip`; `None` if that was it.
    pub(super) fn advance(
        &mut self,
        repo: &Repository,
        tip: Tip,
        location: &str,
    ) -> Result<Option<Snapshot>, SourceError> {
        let (commit, branch) = match tip {
            Tip::At { commit, branch } => (commit, branch),
            Tip::Unborn { branch, others } => return self.unborn(branch, others, location),
        };
        if matches!(&self.last, Last::Delivered { commit: last, .. } if *last == commit) {
            return Ok(None);
        }
        let attempted = || format!("reading commit {commit} of branch `{branch}`");
        let old = self.base(repo).map_err(SourceError::git(attempted()))?;
        let tree = repo.find_commit(commit).map_err(SourceError::git(attempted()))?.tree_id();
        self.check_folder(repo, tree, commit)?;
        let change =
            self.trees.change(repo, old, Some(tree)).map_err(SourceError::git(attempted()))?;
        let described = history::describe(repo, commit).map_err(SourceError::git(attempted()))?;
        self.last = Last::Delivered { commit, tree };
        Ok(Some((Arc::new(described), change)))
    }

    /// An empty repository is an empty tree; a branch that was there and is gone is a failure,
    /// not an order to remove everything.
    fn unborn(
        &mut self,
        branch: String,
        others: Vec<String>,
        location: &str,
    ) -> Result<Option<Snapshot>, SourceError> {
        match self.last {
            Last::Delivered { .. } | Last::Before(_) => {
                Err(SourceError::BranchGone { branch, location: location.to_owned() })
            }
            // `git init --bare` and a push of another branch than HEAD names.
            Last::Nothing | Last::Unborn if !others.is_empty() => Err(SourceError::OtherBranches {
                branch,
                location: location.to_owned(),
                others: others.join("`, `"),
            }),
            Last::Unborn => Ok(None),
            Last::Nothing => {
                self.last = Last::Unborn;
                let summary = format!("(no commit on branch `{branch}` yet)");
                let commit = Commit { summary, ..Commit::default() };
                Ok(Some((Arc::new(commit), TreeChange::default())))
            }
        }
    }

    /// The tree that the reader has.
    fn base(&mut self, repo: &Repository) -> Result<Option<Oid>, git2::Error> {
        match &self.last {
            Last::Nothing | Last::Unborn => Ok(None),
            Last::Delivered { tree, .. } => Ok(Some(*tree)),
            Last::Before(commit) => {
                let tree = repo.find_commit(Oid::from_str(commit)?)?.tree_id();
                self.trees.prime(repo, tree)?;
                Ok(Some(tree))
            }
        }
    }

    /// A folder that isn't in the commit is a mistake in `--path` far more often than an order to
    /// remove everything. An empty commit is what it is.
    fn check_folder(&self, repo: &Repository, tree: Oid, commit: Oid) -> Result<(), SourceError> {
        let attempted = || format!("reading commit {commit}");
        let followed =
            self.trees.followed(repo, Some(tree)).map_err(SourceError::git(attempted()))?;
        let root = repo.find_tree(tree).map_err(SourceError::git(attempted()))?;
        if followed.is_none() && !root.is_empty() {
            let folder = self.folder.clone();
            return Err(SourceError::NoFolder { folder, commit: commit.to_string() });
        }
        Ok(())
    }
}

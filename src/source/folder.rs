//! A plain folder, followed as files and snapshotted into the archive, so that it has commits
//! like every other source.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use git2::{Oid, Repository, Signature};

use crate::domain::desired::FileContent;
use crate::source::archive::Archive;
use crate::source::error::SourceError;
use crate::source::files::{self, Found, Stamp};
use crate::source::history::{self, History};
use crate::source::signal::Signal;
use crate::source::tree::{self, TreeReader, stand_in};
use crate::source::watch::{self, Watch, Watching};
use crate::source::{Snapshot, Source};

/// A backstop behind the watching: events get lost on network file systems.
const BACKSTOP: Duration = Duration::from_secs(30);

/// Without watching; a walk over ten thousand files takes some tens of milliseconds.
const POLL: Duration = Duration::from_secs(2);

/// Editors write a new file and rename it over the old one, and people save several files.
const QUIET: Duration = Duration::from_millis(100);

/// A file whose inode changed less than this before it was read may have changed again within
/// one tick of the file system's clock: it is read again next time.
const CLOCK_TICK_NANOSECONDS: i128 = 100_000_000;

/// Files that a commit's message names; the commit itself has them all.
const MAX_NAMES: usize = 10;

const BRANCH: &str = "refs/heads/snapshots";

const FILE_MODE: i32 = 0o100_644;
const FOLDER_MODE: i32 = 0o040_000;

/// The archive's name in the data directory.
pub(super) const ARCHIVE: &str = "source.git";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderConfig {
    pub path: PathBuf,
    /// kgit's own data directory.
    pub data: PathBuf,
    /// Who the snapshots are by: see [`os_user`].
    pub author: Author,
    /// The commit whose files the reader has already.
    pub at: Option<String>,
}

/// A commit's author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub address: String,
}

/// The user that this process runs as, at this machine.
pub fn os_user() -> Author {
    let uid = rustix::process::getuid().as_raw();
    let name = user_name(uid).unwrap_or_else(|| format!("uid-{uid}"));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Author { address: format!("{name}@{host}"), name }
}

fn user_name(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[derive(Debug)]
pub struct Folder {
    config: FolderConfig,
    trees: TreeReader,
    /// The files read so far, so that only what changed is read again.
    known: HashMap<PathBuf, Known>,
    /// The Git trees written so far, by folder: one that is the same is not written again.
    written: Written,
    /// The tree that was delivered last.
    delivered: Option<Oid>,
    watch: Option<Watch>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    stamp: Stamp,
    blob: Oid,
    /// Long enough unchanged when it was read for its stamp to tell the next change.
    settled: bool,
}

/// A folder's entries: name, object, mode.
type Entries = Vec<(String, Oid, i32)>;

/// What the snapshot has at a path.
enum Item {
    Blob(Oid),
    Other(FileContent),
}

impl From<FileContent> for Item {
    fn from(content: FileContent) -> Self {
        Self::Other(content)
    }
}

impl Folder {
    pub fn new(config: FolderConfig) -> Self {
        Self {
            config,
            trees: TreeReader::new(""),
            known: HashMap::new(),
            written: Written::new(),
            delivered: None,
            watch: None,
        }
    }

    pub fn history(&self) -> History {
        History {
            followed: None,
            archive: self.config.data.join(ARCHIVE),
            folder: String::new(),
            reference: Some(BRANCH.to_owned()),
        }
    }

    /// The folder as a Git tree.
    fn snapshot(&mut self, repo: &Repository) -> Result<Oid, SourceError> {
        let attempted = "writing a snapshot of the folder";
        let mut known = HashMap::with_capacity(self.known.len());
        let before = &self.known;
        let items = files::scan(&self.config.path, &mut |found| {
            let (item, file) = item(repo, before, &found).map_err(SourceError::git(attempted))?;
            known.extend(file.map(|file| (found.full.to_owned(), file)));
            Ok(item)
        })?;
        self.known = known;
        let (root, written) =
            write_tree(repo, &items, &self.written).map_err(SourceError::git(attempted))?;
        self.written = written;
        Ok(root)
    }

    /// The commit of this tree: the last one if nothing changed, else a new one.
    fn commit(&self, repo: &Repository, tree: Oid) -> Result<Oid, git2::Error> {
        let parent = match repo.find_reference(BRANCH) {
            // A commit that a power cut took back starts the history anew.
            Ok(reference) => reference.peel_to_commit().ok(),
            Err(error) if error.code() == git2::ErrorCode::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(parent) = &parent
            && parent.tree_id() == tree
        {
            return Ok(parent.id());
        }
        let old = parent.as_ref().map(git2::Commit::tree_id);
        let message = message(&tree::changed_paths(repo, old, tree)?);
        let author = Signature::now(&self.config.author.name, &self.config.author.address)?;
        let new = repo.find_tree(tree)?;
        let parents: Vec<_> = parent.iter().collect();
        let commit = repo.commit(None, &author, &author, &message, &new, &parents)?;
        repo.reference(BRANCH, commit, true, &message)?;
        Ok(commit)
    }

    /// The tree that the reader has.
    fn base(&mut self, repo: &Repository) -> Result<Option<Oid>, git2::Error> {
        if self.delivered.is_none()
            && let Some(at) = self.config.at.take()
        {
            let tree = repo.find_commit(Oid::from_str(&at)?)?.tree_id();
            self.trees.prime(repo, tree)?;
            self.delivered = Some(tree);
        }
        Ok(self.delivered)
    }
}

impl Source for Folder {
    fn watch(&mut self, signal: &Signal) -> Watching {
        if self.watch.is_none() {
            match watch::folder(&self.config.path, signal) {
                Ok(watch) => self.watch = Some(watch),
                Err(reason) => return Watching::Polling { reason },
            }
        }
        Watching::Notified
    }

    fn look(&mut self) -> Result<Option<Snapshot>, SourceError> {
        let found = self.read();
        if found.is_err() {
            // The folder may come back as another one, whose files are to be watched then, and
            // the archive may have lost what is remembered as written to it.
            self.watch = None;
            self.known.clear();
            self.written.clear();
        }
        found
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

impl Folder {
    fn read(&mut self) -> Result<Option<Snapshot>, SourceError> {
        let archive = Archive::open_or_make(&self.config.data.join(ARCHIVE))?;
        let repo = archive.repo();
        let tree = self.snapshot(repo)?;
        let attempted = "reading the snapshots of the folder";
        let base = self.base(repo).map_err(SourceError::git(attempted))?;
        if base == Some(tree) && self.delivered.is_some() {
            return Ok(None);
        }
        let commit = self.commit(repo, tree).map_err(SourceError::git(attempted))?;
        let change =
            self.trees.change(repo, base, Some(tree)).map_err(SourceError::git(attempted))?;
        let commit = history::describe(repo, commit).map_err(SourceError::git(attempted))?;
        self.delivered = Some(tree);
        Ok(Some((Arc::new(commit), change)))
    }
}

/// Reads a file into the archive, unless it is the one that is there already.
fn item(
    repo: &Repository,
    known: &HashMap<PathBuf, Known>,
    found: &Found<'_>,
) -> Result<(Item, Option<Known>), git2::Error> {
    let stamp = Stamp::of(found.meta);
    if let Some(known) = known.get(found.full)
        && known.settled
        && known.stamp == stamp
    {
        return Ok((Item::Blob(known.blob), Some(*known)));
    }
    let settled = now_nanoseconds() - stamp.changed_nanoseconds() > CLOCK_TICK_NANOSECONDS;
    match files::read(found.full) {
        FileContent::Bytes(bytes) => {
            let blob = repo.blob(&bytes)?;
            Ok((Item::Blob(blob), Some(Known { stamp, blob, settled })))
        }
        other => Ok((Item::Other(other), None)),
    }
}

fn now_nanoseconds() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

type Written = HashMap<String, (Entries, Oid)>;

/// Writes the trees of all the folders, from the innermost outwards, but for those that are the
/// same as before; returns the root's, and all of them for the next time.
fn write_tree(
    repo: &Repository,
    items: &BTreeMap<String, Item>,
    before: &Written,
) -> Result<(Oid, Written), git2::Error> {
    let mut folders: BTreeMap<&str, Entries> = BTreeMap::from([("", Vec::new())]);
    for (path, item) in items {
        let (oid, mode) = entry(repo, item)?;
        let (folder, file_name) = split(path);
        add_folders(&mut folders, folder);
        folders.entry(folder).or_default().push((file_name.to_owned(), oid, mode));
    }
    let mut written = Written::with_capacity(folders.len());
    let mut last = None;
    // Backwards: a folder sorts before what is in it, and the root before all.
    while let Some((folder, entries)) = folders.pop_last() {
        let tree = match before.get(folder) {
            Some((same, tree)) if *same == entries => *tree,
            _ => write_folder(repo, &entries)?,
        };
        written.insert(folder.to_owned(), (entries, tree));
        last = Some(tree);
        if !folder.is_empty() {
            let (above, own) = split(folder);
            folders.entry(above).or_default().push((own.to_owned(), tree, FOLDER_MODE));
        }
    }
    let root = last.ok_or_else(|| git2::Error::from_str("a tree has a root"))?;
    Ok((root, written))
}

fn write_folder(repo: &Repository, entries: &Entries) -> Result<Oid, git2::Error> {
    let mut builder = repo.treebuilder(None)?;
    for (entry_name, oid, mode) in entries {
        builder.insert(entry_name, *oid, *mode)?;
    }
    builder.write()
}

fn add_folders<'a>(folders: &mut BTreeMap<&'a str, Entries>, folder: &'a str) {
    let mut folder = folder;
    while !folder.is_empty() && !folders.contains_key(folder) {
        folders.insert(folder, Vec::new());
        folder = split(folder).0;
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn entry(repo: &Repository, item: &Item) -> Result<(Oid, i32), git2::Error> {
    match item {
        Item::Blob(oid) => Ok((*oid, FILE_MODE)),
        Item::Other(FileContent::Link { target }) => {
            Ok((repo.blob(target.as_bytes())?, tree::MODE_LINK))
        }
        Item::Other(FileContent::Bytes(bytes)) => Ok((repo.blob(bytes)?, FILE_MODE)),
        Item::Other(other) => {
            let bytes = stand_in::write(other).unwrap_or_default();
            Ok((repo.blob(&bytes)?, tree::MODE_LINK))
        }
    }
}

/// `change a.yaml, b.yaml; remove c.yaml`
fn message(changed: &[tree::ChangedPath]) -> String {
    let mut parts = Vec::new();
    for kind in [tree::Changed::Added, tree::Changed::Edited, tree::Changed::Removed] {
        let names: Vec<&str> = changed
            .iter()
            .filter(|(_, changed)| *changed == kind)
            .map(|(path, _)| path.as_str())
            .collect();
        if !names.is_empty() {
            parts.push(format!("{} {}", kind.verb(), list(&names)));
        }
    }
    match parts.is_empty() {
        // Links may lead elsewhere without a file of their own.
        true => "snapshot".to_owned(),
        false => parts.join("; "),
    }
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MAX_NAMES) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

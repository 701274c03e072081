//! kgit's own bare repository in the data directory: snapshots of a folder, what was fetched from
//! a remote, and the commits that must not be lost.

use std::path::Path;

use git2::{ErrorCode, ObjectType, Odb, Oid, Repository, RepositoryInitOptions, TreeEntry};

use crate::source::error::SourceError;
use crate::source::tree::link::Target;
use crate::source::tree::{self, link};
use crate::source::{MAX_FILE_BYTES, libgit2, name};

/// Where the kept commits' references are.
const KEPT: &str = "refs/kgit/keep/";

pub(super) struct Archive {
    repo: Repository,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Archive").field(&self.repo.path()).finish()
    }
}

impl Archive {
    pub(super) fn open_or_make(path: &Path) -> Result<Self, SourceError> {
        if let Ok(repo) = libgit2::open(path) {
            return Ok(Self { repo });
        }
        let attempted = format!("making the repository {}", path.display());
        libgit2::settle();
        let mut options = RepositoryInitOptions::new();
        // Manifests hold Secrets: nobody else is to read them.
        options
            .bare(true)
            .external_template(false)
            .mode(git2::RepositoryInitMode::from_bits_retain(0o700));
        let repo = Repository::init_opts(path, &options).map_err(SourceError::git(attempted))?;
        Ok(Self { repo })
    }

    pub(super) fn repo(&self) -> &Repository {
        &self.repo
    }

    pub(super) fn has(&self, commit: &str) -> bool {
        Oid::from_str(commit).is_ok_and(|id| self.repo.find_commit(id).is_ok())
    }

    /// Gives a commit a reference.
    pub(super) fn hold(&self, commit: &str) -> Result<(), SourceError> {
        let attempted = format!("keeping commit {commit}");
        Oid::from_str(commit)
            .and_then(|id| self.repo.reference(&reference(commit), id, true, "kept"))
            .map(drop)
            .map_err(SourceError::git(attempted))
    }

    pub(super) fn release(&self, commit: &str) -> Result<(), SourceError> {
        match self.repo.find_reference(&reference(commit)) {
            Ok(mut found) => found.delete(),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(SourceError::git(format!("letting go of commit {commit}")))
    }

    pub(super) fn held(&self) -> Result<Vec<String>, SourceError> {
        let names = |repo: &Repository| -> Result<Vec<String>, git2::Error> {
            let mut held = Vec::new();
            for name in repo.references_glob(&format!("{KEPT}*"))?.names() {
                held.extend(name?.strip_prefix(KEPT).map(str::to_owned));
            }
            Ok(held)
        };
        names(&self.repo).map_err(SourceError::git("listing the kept commits"))
    }

    /// Copies a commit with what kgit reads of it: its trees and the files that it delivers, not
    /// its ancestors, and not the gigabytes that a repository may hold besides. What is here
    /// already is not walked, so the cost follows the change.
    pub(super) fn copy(
        &self,
        from: &Repository,
        commit: &str,
        folder: &str,
    ) -> Result<(), SourceError> {
        let copy = || -> Result<(), git2::Error> {
            let id = Oid::from_str(commit)?;
            let root = from.find_commit(id)?.tree_id();
            let copying = Copying { from, source: from.odb()?, to: self.repo.odb()?, root };
            copying.root(folder)?;
            copying.object(id)
        };
        copy().map_err(SourceError::git(format!("keeping commit {commit}")))
    }
}

fn reference(commit: &str) -> String {
    format!("{KEPT}{commit}")
}

struct Copying<'a> {
    from: &'a Repository,
    source: Odb<'a>,
    to: Odb<'a>,
    root: Oid,
}

impl Copying<'_> {
    /// The trees from the root down to the followed folder, and all of that.
    fn root(&self, folder: &str) -> Result<(), git2::Error> {
        let mut tree = self.from.find_tree(self.root)?;
        let mut above = Vec::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            let Some(id) = tree.get_name(part).filter(tree::is_folder).map(|entry| entry.id())
            else {
                return self.object(tree.id());
            };
            above.push(tree.id());
            tree = self.from.find_tree(id)?;
        }
        self.tree(tree.id(), folder)?;
        above.into_iter().rev().try_for_each(|id| self.object(id))
    }

    /// A tree goes after all that is in it: where it is, the rest is too.
    fn tree(&self, id: Oid, path: &str) -> Result<(), git2::Error> {
        if self.to.exists(id) {
            return Ok(());
        }
        for entry in self.from.find_tree(id)?.iter() {
            let entry_name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            let path = name::join(path, &entry_name);
            if tree::is_folder(&entry) {
                if !name::is_skipped_folder(&entry_name) {
                    self.tree(entry.id(), &path)?;
                }
            } else {
                self.leaf(&entry, &entry_name, &path)?;
            }
        }
        self.object(id)
    }

    fn leaf(&self, entry: &TreeEntry<'_>, entry_name: &str, path: &str) -> Result<(), git2::Error> {
        if entry.filemode() == tree::MODE_LINK {
            self.object(entry.id())?;
            return self.behind_link(entry.id(), path);
        }
        match entry.kind() == Some(ObjectType::Blob) && name::is_wanted_file(entry_name) {
            true => self.file(entry.id()),
            false => Ok(()),
        }
    }

    /// The file that a link leads to may be one that is not wanted by its own name.
    fn behind_link(&self, link: Oid, path: &str) -> Result<(), git2::Error> {
        let blob = self.from.find_blob(link)?;
        let target = String::from_utf8_lossy(blob.content()).into_owned();
        match link::resolve(self.from, Some(self.root), path, &target)? {
            Target::File(id) => self.file(id),
            Target::Folder(_) | Target::Outside | Target::Nowhere => Ok(()),
        }
    }

    /// Too large a file is told by its size, which needs no copy while the repository is there.
    fn file(&self, id: Oid) -> Result<(), git2::Error> {
        match self.source.read_header(id) {
            Ok((size, _)) if size as u64 <= MAX_FILE_BYTES => self.object(id),
            Ok(_) => Ok(()),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn object(&self, id: Oid) -> Result<(), git2::Error> {
        if self.to.exists(id) {
            return Ok(());
        }
        let object = self.source.read(id)?;
        self.to.write(object.kind(), object.data()).map(drop)
    }
}

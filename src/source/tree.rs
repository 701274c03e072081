//! From two Git trees to what a reader has to know: the files that came, changed or went.
//!
//! Equal sub-trees are never entered, so the cost follows the change and not the repository.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{ObjectType, Oid, Repository, Tree, TreeEntry};

use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::source::MAX_FILE_BYTES;
use crate::source::name;
use crate::source::tree::link::{Target, resolve};

pub(super) mod link;
pub(super) mod stand_in;

/// Git's modes of what is not a plain file.
pub(super) const MODE_LINK: i32 = 0o120_000;
const MODE_SUBMODULE: i32 = 0o160_000;

/// How deep folders may lie in each other: beyond any repository of people, and within the stack.
const MAX_DEPTH: usize = 128;

/// Goes from tree to tree. It remembers where the links of the last one led: a link's file can
/// change while the link stays the same.
#[derive(Debug, Default)]
pub(super) struct TreeReader {
    /// The followed folder within the repository; empty: all of it.
    folder: String,
    links: BTreeMap<String, Link>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    target: String,
    leads: Target,
}

/// A path of the followed folder whose entry is another one than before.
enum Touched {
    File(Oid),
    Link(Oid),
    Submodule,
    /// The name is not UTF-8, so nobody could say where its contents stand.
    Misnamed,
    Gone,
}

impl TreeReader {
    pub(super) fn new(folder: &str) -> Self {
        Self { folder: folder.trim_matches('/').to_owned(), links: BTreeMap::new() }
    }

    /// The links of a tree that somebody else read already, so that the next change is complete.
    pub(super) fn prime(&mut self, repo: &Repository, root: Oid) -> Result<(), git2::Error> {
        self.change(repo, None, Some(root)).map(drop)
    }

    /// What differs between two root trees; `None` is the empty tree.
    pub(super) fn change(
        &mut self,
        repo: &Repository,
        old: Option<Oid>,
        new: Option<Oid>,
    ) -> Result<TreeChange, git2::Error> {
        let mut touched = BTreeMap::new();
        let before = self.followed(repo, old)?;
        let after = self.followed(repo, new)?;
        compare(repo, before.as_ref(), after.as_ref(), "", 0, &mut touched)?;
        let relinked = self.relink(repo, new, &touched)?;
        let mut change = TreeChange::default();
        for (path, touched) in &touched {
            match touched {
                Touched::File(oid) => push(&mut change, path, read(repo, *oid)?),
                Touched::Submodule => push(&mut change, path, FileContent::Submodule),
                Touched::Misnamed => push(&mut change, path, misnamed()),
                // A link is told below, by where it leads.
                Touched::Link(oid) => {
                    if let Some(content) = stand_in::read(repo.find_blob(*oid)?.content()) {
                        push(&mut change, path, content);
                    }
                }
                Touched::Gone => {
                    if !relinked.contains_key(path) {
                        change.removed.push(path.as_str().into());
                    }
                }
            }
        }
        for (path, was_told) in relinked {
            match self.link_content(repo, &path)? {
                Some(content) => push(&mut change, &path, content),
                // What took its place is told with the other files.
                None if !self.links.contains_key(&path) && is_there(touched.get(&path)) => {}
                None if was_told => change.removed.push(path.as_str().into()),
                None => {}
            }
        }
        Ok(change)
    }

    /// The tree of the followed folder. `None`: the tree is empty, or the folder isn't there.
    pub(super) fn followed<'r>(
        &self,
        repo: &'r Repository,
        root: Option<Oid>,
    ) -> Result<Option<Tree<'r>>, git2::Error> {
        let Some(root) = root else { return Ok(None) };
        let mut tree = repo.find_tree(root)?;
        for part in self.folder.split('/').filter(|part| !part.is_empty()) {
            let Some(id) = tree.get_name(part).filter(is_folder).map(|entry| entry.id()) else {
                return Ok(None);
            };
            tree = repo.find_tree(id)?;
        }
        Ok(Some(tree))
    }

    /// Brings the links up to date; returns the paths of those that lead elsewhere than before,
    /// or to something else, or that are new or gone, and whether the reader heard of each.
    fn relink(
        &mut self,
        repo: &Repository,
        root: Option<Oid>,
        touched: &BTreeMap<String, Touched>,
    ) -> Result<BTreeMap<String, bool>, git2::Error> {
        let mut relinked = BTreeMap::new();
        let mut targets: BTreeMap<String, String> =
            self.links.iter().map(|(path, link)| (path.clone(), link.target.clone())).collect();
        for (path, touched) in touched {
            match touched {
                Touched::Link(oid) => {
                    let blob = repo.find_blob(*oid)?;
                    if stand_in::read(blob.content()).is_some() {
                        targets.remove(path);
                    } else {
                        let target = String::from_utf8_lossy(blob.content()).into_owned();
                        targets.insert(path.clone(), target);
                    }
                }
                Touched::File(_) | Touched::Submodule | Touched::Misnamed | Touched::Gone => {
                    targets.remove(path);
                }
            }
        }
        let mut links = BTreeMap::new();
        for (path, target) in targets {
            let full = name::join(&self.folder, &path);
            let leads = resolve(repo, root, &full, &target)?;
            links.insert(path, Link { target, leads });
        }
        for path in self.links.keys().chain(links.keys()) {
            if self.links.get(path) != links.get(path) {
                let was_told =
                    self.links.get(path).is_some_and(|link| self.telling(path, link).is_some());
                relinked.insert(path.clone(), was_told);
            }
        }
        self.links = links;
        Ok(relinked)
    }

    /// What the reader hears of a link now; `None` if there is none, or nothing to say.
    fn link_content(
        &self,
        repo: &Repository,
        path: &str,
    ) -> Result<Option<FileContent>, git2::Error> {
        let Some(link) = self.links.get(path) else { return Ok(None) };
        Ok(match self.telling(path, link) {
            Some(Telling::File(oid)) => Some(read(repo, oid)?),
            Some(Telling::Link) => Some(FileContent::Link { target: link.target.clone() }),
            None => None,
        })
    }

    /// A link to a file is that file, one that leads nowhere is told as the link it is. A link to
    /// a folder is passed over: the files stand at their own paths already.
    fn telling(&self, path: &str, link: &Link) -> Option<Telling> {
        let wanted = name::is_wanted_file(path.rsplit('/').next().unwrap_or(path));
        match &link.leads {
            Target::File(oid) => wanted.then_some(Telling::File(*oid)),
            Target::Nowhere => wanted.then_some(Telling::Link),
            Target::Outside => Some(Telling::Link),
            Target::Folder(folder) => {
                let told = link::is_within(folder, &self.folder) && !link::is_hidden(folder);
                (!told).then_some(Telling::Link)
            }
        }
    }
}

enum Telling {
    File(Oid),
    Link,
}

/// How a path differs between two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Added,
    Edited,
    Removed,
}

impl Changed {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Added => "add",
            Self::Edited => "change",
            Self::Removed => "remove",
        }
    }
}

pub(super) type ChangedPath = (String, Changed);

/// The paths alone, without reading what is there.
pub(super) fn changed_paths(
    repo: &Repository,
    old: Option<Oid>,
    new: Oid,
) -> Result<Vec<ChangedPath>, git2::Error> {
    let mut touched = BTreeMap::new();
    let before = old.map(|old| repo.find_tree(old)).transpose()?;
    let after = repo.find_tree(new)?;
    compare(repo, before.as_ref(), Some(&after), "", 0, &mut touched)?;
    let was_there = |path: &str| {
        before.as_ref().is_some_and(|tree| tree.get_path(std::path::Path::new(path)).is_ok())
    };
    let paths = touched.into_iter().map(|(path, touched)| {
        let changed = match touched {
            Touched::Gone => Changed::Removed,
            _ if was_there(&path) => Changed::Edited,
            _ => Changed::Added,
        };
        (path, changed)
    });
    Ok(paths.collect())
}

fn is_there(touched: Option<&Touched>) -> bool {
    touched.is_some_and(|touched| !matches!(touched, Touched::Gone))
}

fn misnamed() -> FileContent {
    FileContent::Unreadable { reason: "its name is not UTF-8".to_owned() }
}

fn push(change: &mut TreeChange, path: &str, content: FileContent) {
    change.upserted.push(SourceFile { path: path.into(), content });
}

/// A blob's bytes, unless it is larger than a manifest may be: then it is not even loaded.
fn read(repo: &Repository, oid: Oid) -> Result<FileContent, git2::Error> {
    let (size, _) = match repo.odb()?.read_header(oid) {
        Ok(header) => header,
        // A partial clone, or a damaged one: this file is told, the others are read.
        Err(error) if error.code() == git2::ErrorCode::NotFound => {
            let reason = format!("its object {oid} is missing from the repository");
            return Ok(FileContent::Unreadable { reason });
        }
        Err(error) => return Err(error),
    };
    let bytes = size as u64;
    if bytes > MAX_FILE_BYTES {
        return Ok(FileContent::TooLarge { bytes, limit: MAX_FILE_BYTES });
    }
    Ok(FileContent::Bytes(Arc::from(repo.find_blob(oid)?.content())))
}

/// Both trees' entries side by side, in the order that git keeps them in.
fn compare(
    repo: &Repository,
    old: Option<&Tree<'_>>,
    new: Option<&Tree<'_>>,
    folder: &str,
    depth: usize,
    touched: &mut BTreeMap<String, Touched>,
) -> Result<(), git2::Error> {
    if depth > MAX_DEPTH {
        return Err(git2::Error::from_str(&format!(
            "folders lie too deep in each other: {folder}"
        )));
    }
    let mut before = old.into_iter().flat_map(Tree::iter).peekable();
    let mut after = new.into_iter().flat_map(Tree::iter).peekable();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => sort_name(old).cmp(sort_name(new)),
        };
        let was = if order.is_le() { before.next() } else { None };
        let is = if order.is_ge() { after.next() } else { None };
        visit(repo, was.as_ref(), is.as_ref(), folder, depth, touched)?;
    }
}

/// Git sorts a folder as if its name ended in a slash.
fn sort_name<'a>(entry: &'a TreeEntry<'_>) -> impl Iterator<Item = u8> + 'a {
    let end = is_folder(entry).then_some(b'/');
    entry.name_bytes().iter().copied().chain(end)
}

fn visit(
    repo: &Repository,
    was: Option<&TreeEntry<'_>>,
    is: Option<&TreeEntry<'_>>,
    folder: &str,
    depth: usize,
    touched: &mut BTreeMap<String, Touched>,
) -> Result<(), git2::Error> {
    if let (Some(was), Some(is)) = (was, is)
        && was.id() == is.id()
        && was.filemode() == is.filemode()
    {
        return Ok(());
    }
    let Some(entry) = is.or(was) else { return Ok(()) };
    let entry_name = String::from_utf8_lossy(entry.name_bytes());
    let path = name::join(folder, &entry_name);
    let old = was.filter(|entry| is_folder(entry)).map(|entry| repo.find_tree(entry.id()));
    let new = is.filter(|entry| is_folder(entry)).map(|entry| repo.find_tree(entry.id()));
    if (old.is_some() || new.is_some()) && !name::is_skipped_folder(&entry_name) {
        let (old, new) = (old.transpose()?, new.transpose()?);
        compare(repo, old.as_ref(), new.as_ref(), &path, depth + 1, touched)?;
    }
    let leaf_was = was.and_then(leaf);
    match (leaf_was, is.and_then(leaf)) {
        (_, Some(now)) => drop(touched.insert(path, now)),
        // It may be there already, when a file gave way to a folder of its name.
        (Some(_), None) => drop(touched.entry(path).or_insert(Touched::Gone)),
        (None, None) => {}
    }
    Ok(())
}

pub(super) fn is_folder(entry: &TreeEntry<'_>) -> bool {
    entry.kind() == Some(ObjectType::Tree)
}

/// An entry that is told about, and not a folder.
fn leaf(entry: &TreeEntry<'_>) -> Option<Touched> {
    let name = String::from_utf8_lossy(entry.name_bytes());
    let wanted = name::is_wanted_file(&name);
    if std::str::from_utf8(entry.name_bytes()).is_err() && (wanted || is_folder(entry)) {
        return Some(Touched::Misnamed);
    }
    match entry.filemode() {
        MODE_LINK => Some(Touched::Link(entry.id())),
        MODE_SUBMODULE => Some(Touched::Submodule),
        _ if is_folder(entry) => None,
        _ => wanted.then(|| Touched::File(entry.id())),
    }
}

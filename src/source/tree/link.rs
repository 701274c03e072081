//! Where a symbolic link of a Git tree leads, as a file system would follow it.

use git2::{Oid, Repository, TreeEntry};

/// Links that one link may lead through, as Linux has it.
const MAX_HOPS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Target {
    File(Oid),
    /// A folder of the same commit, by its path from the root.
    Folder(String),
    /// Out of the repository, or into a submodule.
    Outside,
    /// Within the repository, but nothing is there, or the links go round.
    Nowhere,
}

/// Follows `target` from the link at `path`; both are relative to the commit's root.
pub(in crate::source) fn resolve(
    repo: &Repository,
    root: Option<Oid>,
    path: &str,
    target: &str,
) -> Result<Target, git2::Error> {
    let Some(root) = root else { return Ok(Target::Nowhere) };
    let mut at: Vec<String> = path.split('/').map(str::to_owned).collect();
    at.pop();
    let mut ahead = parts(target);
    if target.starts_with('/') {
        return Ok(Target::Outside);
    }
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." if at.pop().is_none() => return Ok(Target::Outside),
            ".." => continue,
            _ => at.push(part),
        }
        let Some(entry) = lookup(repo, root, &at)? else { return Ok(Target::Nowhere) };
        match kind(&entry) {
            Kind::Folder => {}
            Kind::Submodule => return Ok(Target::Outside),
            Kind::File if ahead.iter().all(|part| part.is_empty() || part == ".") => {
                return Ok(Target::File(entry.id()));
            }
            Kind::File => return Ok(Target::Nowhere),
            Kind::Link => {
                hops += 1;
                let next = link_target(repo, &entry)?;
                if hops > MAX_HOPS {
                    return Ok(Target::Nowhere);
                }
                if next.starts_with('/') {
                    return Ok(Target::Outside);
                }
                at.pop();
                ahead.extend(parts(&next));
            }
        }
    }
    Ok(Target::Folder(at.join("/")))
}

/// A path's parts, the next one last.
fn parts(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}

enum Kind {
    File,
    Folder,
    Link,
    Submodule,
}

fn kind(entry: &TreeEntry<'_>) -> Kind {
    match entry.filemode() {
        super::MODE_LINK => Kind::Link,
        super::MODE_SUBMODULE => Kind::Submodule,
        _ if super::is_folder(entry) => Kind::Folder,
        _ => Kind::File,
    }
}

fn lookup(
    repo: &Repository,
    root: Oid,
    path: &[String],
) -> Result<Option<TreeEntry<'static>>, git2::Error> {
    match repo.find_tree(root)?.get_path(std::path::Path::new(&path.join("/"))) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn link_target(repo: &Repository, entry: &TreeEntry<'_>) -> Result<String, git2::Error> {
    let blob = repo.find_blob(entry.id())?;
    Ok(String::from_utf8_lossy(blob.content()).into_owned())
}

/// The folder is the other one, or lies in it. The empty path is the root.
pub(in crate::source) fn is_within(folder: &str, other: &str) -> bool {
    let rest = folder.strip_prefix(other);
    other.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Lies in a folder that is passed over.
pub(in crate::source) fn is_hidden(folder: &str) -> bool {
    folder.split('/').any(crate::source::name::is_skipped_folder)
}

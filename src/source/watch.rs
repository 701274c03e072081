//! Watching files for changes, with a clock behind it for when that is not possible.

use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::source::name;
use crate::source::signal::Signal;

/// How a source learns of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watching {
    /// The system tells; the clock is a backstop.
    Notified,
    /// By the clock alone.
    Polling { reason: String },
}

/// What is watched, as long as the value lives.
#[derive(Debug)]
pub(super) struct Watch {
    _watcher: RecommendedWatcher,
}

/// Watches everything below a folder, folders that come later included, but what lies in folders
/// that are passed over.
pub(super) fn folder(root: &Path, signal: &Signal) -> Result<Watch, String> {
    let mut watcher = watcher(signal, {
        let root = root.to_owned();
        move |path| concerns(&root, path)
    })?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(|error| explain(&error))?;
    Ok(Watch { _watcher: watcher })
}

/// Watches what changes in a repository when a reference moves.
pub(super) fn references(gitdir: &Path, common: &Path, signal: &Signal) -> Result<Watch, String> {
    let mut watcher = watcher(signal, is_reference)?;
    let mut add = |path: PathBuf, mode| match path.exists() {
        true => watcher.watch(&path, mode).map_err(|error| explain(&error)),
        false => Ok(()),
    };
    add(common.to_owned(), RecursiveMode::NonRecursive)?;
    add(common.join("refs"), RecursiveMode::Recursive)?;
    if gitdir != common {
        add(gitdir.to_owned(), RecursiveMode::NonRecursive)?;
    }
    Ok(Watch { _watcher: watcher })
}

fn watcher(
    signal: &Signal,
    concerns: impl Fn(&Path) -> bool + Send + 'static,
) -> Result<RecommendedWatcher, String> {
    let signal = signal.clone();
    let handler = move |event: notify::Result<Event>| match event {
        Ok(event) => {
            if is_change(&event.kind) && event.paths.iter().any(|path| concerns(path)) {
                signal.raise();
            }
        }
        // Events were lost: anything may have changed.
        Err(_) => signal.raise(),
    };
    RecommendedWatcher::new(handler, notify::Config::default()).map_err(|error| explain(&error))
}

/// Reading is no change; the end of a write is, since the write may have been slow.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

fn concerns(root: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return true };
    let mut parts = inside.iter().map(|part| part.to_string_lossy()).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let skipped = match is_last {
            true => name::is_editors_own(&part),
            false => name::is_skipped_folder(&part),
        };
        if skipped {
            return false;
        }
    }
    true
}

/// Lock files come and go with each change; the change itself is the rename that follows.
fn is_reference(path: &Path) -> bool {
    path.extension().is_none_or(|ending| ending != "lock")
}

fn explain(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => "the system's limit of watched files is reached; raise \
             fs.inotify.max_user_watches to be told of changes at once"
            .to_owned(),
        _ => error.to_string(),
    }
}

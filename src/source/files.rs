//! Reading a folder's files from disk: for `kgit check PATH`, for a diff from a laptop, and for
//! the snapshots of a followed folder.

use std::collections::BTreeMap;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::source::error::SourceError;
use crate::source::{MAX_FILE_BYTES, name};

/// A file that changes while it is read is read again this often before it is told as such.
const MAX_READS: usize = 4;

/// How deep folders may lie in each other; also what ends a walk through mounts that go round.
const MAX_DEPTH: usize = 128;

/// Every file that a source of this folder, or of this one file, would deliver.
pub fn walk(path: &Path) -> Result<TreeChange, SourceError> {
    let files = scan(path, &mut |file: Found<'_>| Ok(read(file.full)))?;
    let upserted = files
        .into_iter()
        .map(|(path, content)| SourceFile { path: path.as_str().into(), content })
        .collect();
    Ok(TreeChange { upserted, removed: Vec::new() })
}

/// A plain file found by a scan, not read yet.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) full: &'a Path,
    pub(super) meta: &'a Metadata,
}

/// What a scan makes of each plain file.
pub(super) type OnFile<'a, T> = &'a mut dyn FnMut(Found<'_>) -> Result<T, SourceError>;

/// Walks a folder; `on_file` reads, or knows already what is there.
pub(super) fn scan<T: From<FileContent>>(
    root: &Path,
    on_file: OnFile<'_, T>,
) -> Result<BTreeMap<String, T>, SourceError> {
    let meta = fs::metadata(root).map_err(SourceError::io("reading", root))?;
    let mut found = BTreeMap::new();
    if meta.is_file() {
        let file_name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.insert(file_name, on_file(Found { full: root, meta: &meta })?);
        return Ok(found);
    }
    if !meta.is_dir() {
        return Err(SourceError::NotAFolder { path: root.to_owned() });
    }
    let canonical = root.canonicalize().map_err(SourceError::io("reading", root))?;
    let entries = fs::read_dir(root).map_err(SourceError::io("reading the folder", root))?;
    let mut walk = Walk { root: canonical, found: &mut found, on_file };
    walk.entries(entries, root, "", 0)?;
    Ok(found)
}

struct Walk<'a, T> {
    /// The root with every link resolved: what "within" means.
    root: PathBuf,
    found: &'a mut BTreeMap<String, T>,
    on_file: OnFile<'a, T>,
}

impl<T: From<FileContent>> Walk<'_, T> {
    fn folder(&mut self, full: &Path, path: String, depth: usize) -> Result<(), SourceError> {
        if depth > MAX_DEPTH {
            let reason = format!("folders lie more than {MAX_DEPTH} deep in each other");
            self.tell(path, FileContent::Unreadable { reason });
            return Ok(());
        }
        match fs::read_dir(full) {
            Ok(entries) => self.entries(entries, full, &path, depth),
            // It went while the walk was under way.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                self.tell(path, unreadable(&error));
                Ok(())
            }
        }
    }

    fn entries(
        &mut self,
        entries: fs::ReadDir,
        full: &Path,
        path: &str,
        depth: usize,
    ) -> Result<(), SourceError> {
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if path.is_empty() => {
                    return Err(SourceError::io("reading the folder", full)(error));
                }
                Err(error) => {
                    self.tell(path.to_owned(), unreadable(&error));
                    continue;
                }
            };
            let entry_name = entry.file_name();
            let shown = entry_name.to_string_lossy();
            let inner = name::join(path, &shown);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && name::is_skipped_folder(&shown) => {}
                Ok(_) | Err(_) if name::is_editors_own(&shown) => {}
                Ok(kind) if entry_name.to_str().is_none() => self.misnamed(&shown, kind, inner),
                Ok(kind) if kind.is_dir() => self.folder(&entry.path(), inner, depth + 1)?,
                Ok(kind) if kind.is_symlink() => self.link(&entry.path(), &shown, inner)?,
                Ok(_) if !name::is_wanted_file(&shown) => {}
                Ok(kind) if kind.is_file() => self.file(&entry.path(), inner)?,
                Ok(kind) => self.tell(inner, FileContent::Unreadable { reason: odd(kind) }),
                Err(error) => self.tell(inner, unreadable(&error)),
            }
        }
        Ok(())
    }

    fn misnamed(&mut self, shown: &str, kind: FileType, path: String) {
        if kind.is_dir() || name::is_wanted_file(shown) {
            let reason = "its name is not UTF-8".to_owned();
            self.tell(path, FileContent::Unreadable { reason });
        }
    }

    fn file(&mut self, full: &Path, path: String) -> Result<(), SourceError> {
        let content = match fs::metadata(full) {
            Ok(meta) => (self.on_file)(Found { full, meta: &meta })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => T::from(unreadable(&error)),
        };
        self.found.insert(path, content);
        Ok(())
    }

    /// A link to a file within the folder is that file; one to a folder within it is passed over,
    /// since the files stand at their own paths. Any other is told as the link it is.
    fn link(&mut self, full: &Path, shown: &str, path: String) -> Result<(), SourceError> {
        let target = match fs::read_link(full) {
            Ok(target) => target.to_string_lossy().into_owned(),
            Err(error) => {
                self.tell(path, unreadable(&error));
                return Ok(());
            }
        };
        let wanted = name::is_wanted_file(shown);
        match full.canonicalize() {
            Ok(to) if !to.starts_with(&self.root) => self.tell(path, FileContent::Link { target }),
            Ok(to) if to.is_dir() => {
                let inside = to.strip_prefix(&self.root).unwrap_or(&to);
                let passed_over =
                    inside.iter().any(|part| name::is_skipped_folder(&part.to_string_lossy()));
                if passed_over {
                    self.tell(path, FileContent::Link { target });
                }
            }
            Ok(to) if wanted && to.is_file() => self.file(&to, path)?,
            Ok(_) => {}
            Err(_) if wanted || target.starts_with('/') => {
                self.tell(path, FileContent::Link { target });
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn tell(&mut self, path: String, content: FileContent) {
        self.found.insert(path, T::from(content));
    }
}

/// Reads a file whole, or says why not. What changes meanwhile is read again.
pub(super) fn read(path: &Path) -> FileContent {
    for _ in 0..MAX_READS {
        match read_once(path) {
            Ok(Some(content)) => return content,
            Ok(None) => {}
            Err(error) => return unreadable(&error),
        }
    }
    FileContent::Unreadable { reason: "it keeps changing while it is read".to_owned() }
}

/// `None`: it changed meanwhile.
fn read_once(path: &Path) -> io::Result<Option<FileContent>> {
    // Should a pipe have taken the file's place, opening it must not wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Ok(Some(FileContent::Unreadable { reason: odd(before.file_type()) }));
    }
    if before.len() > MAX_FILE_BYTES {
        let content = FileContent::TooLarge { bytes: before.len(), limit: MAX_FILE_BYTES };
        return Ok(Some(content));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0) + 1);
    limited(&mut file).read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    let same = Stamp::of(&before) == Stamp::of(&after) && bytes.len() as u64 == after.len();
    Ok(same.then(|| FileContent::Bytes(Arc::from(bytes))))
}

fn limited(file: &mut File) -> impl io::Read + '_ {
    file.take(MAX_FILE_BYTES + 1)
}

/// What tells that a file is the one it was, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// When the inode changed last, in nanoseconds since the epoch.
    pub(super) fn changed_nanoseconds(&self) -> i128 {
        i128::from(self.changed.0) * 1_000_000_000 + i128::from(self.changed.1)
    }
}

fn unreadable(error: &io::Error) -> FileContent {
    // Without the number: the text is part of a snapshot and must be the same each time.
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        kind => kind.to_string(),
    };
    FileContent::Unreadable { reason }
}

fn odd(kind: FileType) -> String {
    let what = if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else if kind.is_dir() {
        "a folder"
    } else {
        "something else"
    };
    format!("it is {what}, not a file")
}

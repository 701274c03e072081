//! Backup into one file and back.
//!
//! A backup is a database of its own, made by SQLite's online backup while everything goes on,
//! and it holds the data directory's other files too (the CA and its keys, kgit's own Git
//! repositories) in its `file` table: one file is everything that a new machine needs.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use kgit_protocol::ids::{ClusterId, Epoch};
use kgit_protocol::time::Timestamp;
use rusqlite::backup::Backup as OnlineBackup;
use rusqlite::{Connection, params};

use crate::domain::audit::Body;
use crate::domain::epoch;
use crate::store::audit::{AuditDraft, Belongs};
use crate::store::error::StoreError;
use crate::store::reader::Reader;
use crate::store::{
    audit, create_private, last_version, load_world, lock, read_keys, record, schema,
};

/// What of the data directory goes into a backup, besides the database.
const FOLDERS: [&str; 3] = ["pki", "source.git", "kept.git"];

/// What the agent of `kgit up` is known by. Its journal stays where it is: it tells of containers
/// on that machine, which an agent with the same keys finds by itself.
const AGENT: &str = "agent";
const AGENT_FILES: [&str; 4] =
    ["agent/identity.json", "agent/key.pem", "agent/spec.key", "agent/network.json"];

/// The database as a restore writes it, until it is complete.
const PARTIAL: &str = "kgit.db.restoring";

/// There while a restore moves files: the directory is neither the old nor the new one.
const MARKER: &str = "restoring";

/// The database's own files; the last two are there while it is open, or after a crash.
const DATABASE: [&str; 3] = ["kgit.db", "kgit.db-wal", "kgit.db-shm"];

/// Free space asked for on top of the bytes to be copied: indexes of files, and rounding.
const SLACK_BYTES: u64 = 4 << 20;

/// What was backed up or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub cluster: ClusterId,
    pub bytes: u64,
    /// Files besides the database.
    pub files: usize,
    /// After a restore: where the files of before are now, if there were any.
    pub set_aside: Option<PathBuf>,
}

impl Reader {
    /// Writes a consistent copy of everything to a new file, readable by its owner alone. The
    /// loop goes on meanwhile.
    ///
    /// # Errors
    /// The file exists, there is not enough room, or I/O. Nothing is left behind then.
    pub fn backup(&self, to: &Path) -> Result<Backup, StoreError> {
        if to.exists() {
            return Err(StoreError::Exists { path: to.to_owned() });
        }
        let files = list_files(&self.dir)?;
        check_room(to, self.size(&files)?)?;
        let partial = partial_path(to);
        let done = self.write_backup(&partial, &files).and_then(|backup| {
            fs::rename(&partial, to).map_err(StoreError::io("moving the backup to", to))?;
            sync_folder(to)?;
            Ok(backup)
        });
        if done.is_err() {
            // Best effort: the error that is told is the one that matters.
            let _ = fs::remove_file(&partial);
        }
        done
    }

    fn size(&self, files: &[FoundFile]) -> Result<u64, StoreError> {
        let database = self.with(|connection| {
            connection
                .query_row(
                    "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
                    [],
                    |row| row.get::<_, i64>(0),
                )
                .map_err(StoreError::sql("measuring the database"))
        })?;
        let files: u64 = files.iter().map(|file| file.bytes).sum();
        Ok(u64::try_from(database).unwrap_or(0) + files + SLACK_BYTES)
    }

    fn write_backup(&self, to: &Path, files: &[FoundFile]) -> Result<Backup, StoreError> {
        let attempted = "copying the database";
        // What an earlier attempt left behind when it was killed.
        let _ = fs::remove_file(to);
        create_private(to)?;
        let mut copy = Connection::open(to).map_err(StoreError::sql(attempted))?;
        self.with(|connection| {
            OnlineBackup::new(connection, &mut copy)
                .and_then(|backup| backup.run_to_completion(i32::MAX, Duration::ZERO, None))
                .map_err(StoreError::sql(attempted))
        })?;
        // One file: no log beside it.
        copy.pragma_update(None, "journal_mode", "DELETE").map_err(StoreError::sql(attempted))?;
        put_files(&mut copy, &self.dir, files)?;
        schema::check(&copy, to)?;
        drop(copy);
        let file = File::open(to).map_err(StoreError::io("opening", to))?;
        file.sync_all().map_err(StoreError::io("writing", to))?;
        let bytes = file.metadata().map_err(StoreError::io("measuring", to))?.len();
        Ok(Backup { cluster: self.cluster.clone(), bytes, files: files.len(), set_aside: None })
    }
}

/// Puts a backup in a data directory that no master holds; what was there before is set aside in
/// a folder next to it, and the audit log says that it was restored.
pub fn restore(from: &Path, dir: &Path, at: Timestamp, by: &str) -> Result<Backup, StoreError> {
    let lock = lock::lock(dir)?;
    let source = open_backup(from)?;
    let bytes = fs::metadata(from).map_err(StoreError::io("measuring", from))?.len();
    check_room(&dir.join(schema::FILE), bytes * 2 + SLACK_BYTES)?;
    let staged = stage(&source, from, dir, at, by)?;
    drop(source);
    let set_aside = swap(dir, at)?;
    drop(lock);
    Ok(Backup { bytes, set_aside, ..staged })
}

/// A directory that a restore left half way must not be taken for an empty one.
pub(super) fn refuse_interrupted(dir: &Path) -> Result<(), StoreError> {
    match dir.join(MARKER).exists() {
        true => Err(StoreError::RestoreInterrupted { dir: dir.to_owned() }),
        false => Ok(()),
    }
}

fn open_backup(from: &Path) -> Result<Connection, StoreError> {
    fs::metadata(from).map_err(StoreError::io("opening the backup", from))?;
    let not_a_backup =
        |why: &str| StoreError::NotABackup { path: from.to_owned(), why: why.to_owned() };
    let source = schema::open_read_only(from)?;
    let id: i64 = source
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .map_err(|error| not_a_backup(&error.to_string()))?;
    if id != schema::APPLICATION_ID {
        return Err(not_a_backup("it is a database of another program"));
    }
    schema::check(&source, from)?;
    let (found, known) = (schema::user_version(&source)?, schema::known_version());
    if found > known {
        return Err(StoreError::Newer { path: from.to_owned(), found, known });
    }
    Ok(source)
}

/// Writes everything that the directory is to hold next to what it holds, under other names.
fn stage(
    source: &Connection,
    from: &Path,
    dir: &Path,
    at: Timestamp,
    by: &str,
) -> Result<Backup, StoreError> {
    let attempted = "restoring the database";
    let partial = dir.join(PARTIAL);
    let _ = fs::remove_file(&partial);
    create_private(&partial)?;
    let staging = staging(dir);
    let _ = fs::remove_dir_all(&staging);
    make_folder(&staging)?;
    let files = extract(source, from, &staging)?;
    let mut copy = Connection::open(&partial).map_err(StoreError::sql(attempted))?;
    OnlineBackup::new(source, &mut copy)
        .and_then(|backup| backup.run_to_completion(i32::MAX, Duration::ZERO, None))
        .map_err(StoreError::sql(attempted))?;
    drop(copy);
    let mut copy = schema::open(&partial)?;
    let keys = read_keys(&copy)?;
    let version = last_version(&copy)?;
    let effects = epoch::begin(&load_world(&copy, &keys, version)?, Epoch(0), false, at);
    let tx = copy.transaction().map_err(StoreError::sql(attempted))?;
    tx.execute("DELETE FROM file", []).map_err(StoreError::sql(attempted))?;
    record(&tx, &effects, version + 1)?;
    let mut tip = audit::load_tip(&tx, &keys.cluster)?;
    let body = Body::Restored { by: by.to_owned() };
    audit::append(&tx, &keys.audit, &mut tip, &[AuditDraft { at, reconcile: Belongs::New, body }])?;
    tx.commit().map_err(StoreError::sql(attempted))?;
    // Everything into the one file, so that it alone has to be moved.
    copy.pragma_update(None, "journal_mode", "DELETE").map_err(StoreError::sql(attempted))?;
    Ok(Backup { cluster: keys.cluster, bytes: 0, files, set_aside: None })
}

fn staging(dir: &Path) -> PathBuf {
    dir.join("files.restoring")
}

/// Moves the old files aside and the staged ones in. While the marker stands, no master starts.
fn swap(dir: &Path, at: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let marker = dir.join(MARKER);
    fs::write(&marker, "").map_err(StoreError::io("writing", &marker))?;
    sync_folder(&marker)?;
    let aside = dir.join(format!("before-restore-{}", at.to_string().replace(':', "")));
    let mut moved = false;
    for name in DATABASE.iter().chain(&FOLDERS) {
        let old = dir.join(name);
        if old.exists() {
            make_folder(&aside)?;
            let to = aside.join(name);
            fs::rename(&old, &to).map_err(StoreError::io("setting aside", &old))?;
            moved = true;
        }
    }
    for name in FOLDERS {
        let staged = staging(dir).join(name);
        if staged.exists() {
            let to = dir.join(name);
            fs::rename(&staged, &to).map_err(StoreError::io("putting in place", &to))?;
        }
    }
    // An agent that lives in this directory knows more than the backup does.
    let (staged, agent) = (staging(dir).join(AGENT), dir.join(AGENT));
    if staged.exists() && !agent.exists() {
        fs::rename(&staged, &agent).map_err(StoreError::io("putting in place", &agent))?;
    }
    let to = dir.join(schema::FILE);
    fs::rename(dir.join(PARTIAL), &to).map_err(StoreError::io("putting in place", &to))?;
    sync_folder(&to)?;
    fs::remove_dir_all(staging(dir)).map_err(StoreError::io("removing", &staging(dir)))?;
    fs::remove_file(&marker).map_err(StoreError::io("removing", &marker))?;
    sync_folder(&marker)?;
    Ok(moved.then_some(aside))
}

struct FoundFile {
    /// Relative to the data directory.
    path: PathBuf,
    bytes: u64,
}

/// References before objects: what a reference names was written before it, so a repository that
/// is written to meanwhile is copied whole. Locks and half-written files are left out.
fn list_files(dir: &Path) -> Result<Vec<FoundFile>, StoreError> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        if dir.join(folder).exists() {
            list_folder(dir, Path::new(folder), &mut found)?;
        }
    }
    for path in AGENT_FILES {
        if let Ok(meta) = fs::metadata(dir.join(path)) {
            found.push(FoundFile { path: PathBuf::from(path), bytes: meta.len() });
        }
    }
    found.sort_by_key(|file: &FoundFile| {
        file.path.components().any(|part| part.as_os_str() == "objects")
    });
    Ok(found)
}

fn list_folder(dir: &Path, folder: &Path, found: &mut Vec<FoundFile>) -> Result<(), StoreError> {
    let attempted = "listing the files of";
    let full = dir.join(folder);
    for entry in fs::read_dir(&full).map_err(StoreError::io(attempted, &full))? {
        let entry = entry.map_err(StoreError::io(attempted, &full))?;
        let path = folder.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".lock") || name.starts_with("tmp_") {
            continue;
        }
        let kind = entry.file_type().map_err(StoreError::io(attempted, &full))?;
        if kind.is_dir() {
            list_folder(dir, &path, found)?;
        } else if kind.is_file() {
            let meta = entry.metadata().map_err(StoreError::io(attempted, &full))?;
            found.push(FoundFile { path, bytes: meta.len() });
        }
    }
    Ok(())
}

fn put_files(copy: &mut Connection, dir: &Path, files: &[FoundFile]) -> Result<(), StoreError> {
    let attempted = "writing files into the backup";
    let tx = copy.transaction().map_err(StoreError::sql(attempted))?;
    for file in files {
        let full = dir.join(&file.path);
        let body = match fs::read(&full) {
            Ok(body) => body,
            // A loose object that was packed meanwhile, say; the pack is listed by then or the
            // object is not one that a reference in this copy needs.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io("reading", &full)(error)),
        };
        let mode = fs::metadata(&full).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
        tx.prepare_cached("INSERT OR REPLACE INTO file (path, mode, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.execute(params![file.path.to_string_lossy(), mode, body]))
            .map_err(StoreError::sql(attempted))?;
    }
    tx.commit().map_err(StoreError::sql(attempted))
}

fn extract(source: &Connection, from: &Path, to: &Path) -> Result<usize, StoreError> {
    let attempted = "reading the backup's files";
    let mut statement =
        source.prepare("SELECT path, mode, body FROM file").map_err(StoreError::sql(attempted))?;
    let mut rows = statement.query([]).map_err(StoreError::sql(attempted))?;
    let mut written = 0;
    while let Some(row) = rows.next().map_err(StoreError::sql(attempted))? {
        let read = || -> rusqlite::Result<(String, u32, Vec<u8>)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        };
        let (path, mode, body) = read().map_err(StoreError::sql(attempted))?;
        if !is_ours(Path::new(&path)) {
            return Err(StoreError::NotABackup {
                path: from.to_owned(),
                why: format!("it holds a file `{path}` that no backup has"),
            });
        }
        write_file(&to.join(path), mode, &body)?;
        written += 1;
    }
    Ok(written)
}

/// A backup comes from outside: it must not write anywhere else.
fn is_ours(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let in_folder = |folder: &&str| path.starts_with(folder) && path != Path::new(folder);
    let of_agent = AGENT_FILES.iter().any(|file| path == Path::new(file));
    plain && (of_agent || FOLDERS.iter().any(in_folder))
}

fn write_file(path: &Path, mode: u32, body: &[u8]) -> Result<(), StoreError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("making", path))?;
    file.write_all(body).map_err(StoreError::io("writing", path))?;
    file.set_permissions(Permissions::from_mode(mode & 0o777))
        .map_err(StoreError::io("restricting", path))?;
    file.sync_all().map_err(StoreError::io("writing", path))
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("making the folder", path))
}

pub(super) fn check_room(at: &Path, needed_bytes: u64) -> Result<(), StoreError> {
    let folder = match at.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let found = rustix::fs::statvfs(folder)
        .map_err(|error| StoreError::io("measuring the free space of", folder)(error.into()))?;
    let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
    if free_bytes < needed_bytes {
        return Err(StoreError::NoSpace { at: folder.to_owned(), needed_bytes, free_bytes });
    }
    Ok(())
}

fn partial_path(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A rename is durable once its folder is.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("writing the folder", folder))
}

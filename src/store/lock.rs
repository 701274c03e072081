//! One master to a data directory: an exclusive lock that the kernel drops with the process,
//! however that ends.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::store::error::StoreError;

const FILE: &str = "master.lock";

/// Held for as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Makes the directory, for its owner alone, if it isn't there; takes its lock.
pub(super) fn lock(dir: &Path) -> Result<Lock, StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(StoreError::io("making the data directory", dir))?;
    // It may have been there before, more open than it should be.
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(StoreError::io("restricting the data directory", dir))?;
    let path = dir.join(FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(StoreError::io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked(dir, &mut file)),
        Err(TryLockError::Error(source)) => {
            return Err(StoreError::Io { attempted: "locking", path, source });
        }
    }
    write_pid(&mut file).map_err(StoreError::io("writing", &path))?;
    Ok(Lock { _file: file })
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn locked(dir: &Path, file: &mut File) -> StoreError {
    let mut pid = String::new();
    // The pid is for the message alone; without it the message still helps.
    let _ = file.read_to_string(&mut pid);
    let pid = match pid.trim() {
        "" => "unknown".to_owned(),
        pid => pid.to_owned(),
    };
    StoreError::Locked { dir: dir.to_owned(), pid }
}

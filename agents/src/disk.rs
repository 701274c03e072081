//! The few operations on files that durability rests on, each a step of its own: a simulation can
//! lose whatever was not made durable, at any of them. What is written where is not decided here.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it keeps files")]

use std::fmt::Debug;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// One directory's files.
pub trait Disk: Debug + Send + Sync {
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Writes a new file and gives its name; neither need outlive the machine's power.
    fn write_beside(&self, bytes: &[u8], mode: u32) -> io::Result<String>;
    /// Makes the content of a file durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of what had it before.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names of files durable.
    fn sync_names(&self) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Writes a file whole: beside itself, synced, renamed. A reader finds the old or the new one, and
/// so does who comes after a power cut.
pub fn replace(disk: &dyn Disk, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = disk.write_beside(bytes, mode)?;
    let named = disk.sync(&beside).and_then(|()| disk.rename(&beside, name));
    if let Err(error) = named {
        // It is in nobody's way, and the first error is the one to tell.
        let _ = disk.remove(&beside);
        return Err(error);
    }
    disk.sync_names()
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }
}

impl Disk for Folder {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn write_beside(&self, bytes: &[u8], mode: u32) -> io::Result<String> {
        let mut builder = tempfile::Builder::new();
        let mut file = builder.permissions(Permissions::from_mode(mode)).tempfile_in(&self.0)?;
        file.write_all(bytes)?;
        let (_, path) = file.keep().map_err(|error| error.error)?;
        let name = path.file_name().and_then(|name| name.to_str());
        name.map(str::to_owned).ok_or_else(|| io::Error::other("a file without a name"))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.0.join(name))?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Folder::new(dir.path());
        replace(&disk, "facts", b"old", 0o600).unwrap();
        replace(&disk, "facts", b"new", 0o640).unwrap();
        assert_eq!(disk.read("facts").unwrap(), b"new");
        let mode = fs::metadata(dir.path().join("facts")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // A name that can't be had.
        fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(replace(&disk, "taken", b"new", 0o600).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

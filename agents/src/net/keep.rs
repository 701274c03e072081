//! What `net` was fed last, on disk: it begins with that after a crash, before any agent comes.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it keeps files")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kgit_protocol::directory::Directory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journal::replace_file;
use crate::net::wire::Here;

const DIRECTORY: &str = "net-directory.json";
const HERE: &str = "net-here.json";
const LOCK: &str = "net.lock";
const SOCKET: &str = "net.sock";
const LOG: &str = "net.log";
/// Beyond this the log begins anew.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// Raised when a file's meaning changes; another one is not read, and the agent feeds anew.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    content: T,
}

/// The files of `net` in the agent's data directory.
#[derive(Clone, Debug)]
pub struct Keep {
    dir: PathBuf,
}

impl Keep {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Open for adding to it.
    pub fn log(&self) -> io::Result<File> {
        let path = self.dir.join(LOG);
        if fs::metadata(&path).is_ok_and(|found| found.len() > MAX_LOG_BYTES) {
            fs::remove_file(&path)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)
    }

    /// The lock that one `net` has at a time; not locked yet.
    pub fn lock(&self) -> io::Result<File> {
        let path = self.dir.join(LOCK);
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
    }

    /// `None` where nothing was kept, or nothing that can be read.
    pub fn directory(&self) -> Option<Directory> {
        self.read(DIRECTORY)
    }

    pub fn here(&self) -> Option<Here> {
        self.read(HERE)
    }

    pub fn keep_directory(&self, directory: &Directory) -> io::Result<()> {
        self.write(DIRECTORY, directory)
    }

    pub fn keep_here(&self, here: &Here) -> io::Result<()> {
        self.write(HERE, here)
    }

    /// After everything was taken away, nothing is to come back.
    pub fn forget(&self) {
        for name in [DIRECTORY, HERE, SOCKET] {
            // What is not there needs no removal.
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = fs::read(self.dir.join(name)).ok()?;
        let kept: Versioned<serde_json::Value> = serde_json::from_slice(&bytes).ok()?;
        (kept.format == FORMAT).then(|| serde_json::from_value(kept.content).ok())?
    }

    fn write<T: Serialize>(&self, name: &str, content: &T) -> io::Result<()> {
        let bytes =
            serde_json::to_vec(&Versioned { format: FORMAT, content }).map_err(io::Error::other)?;
        replace_file(&self.dir.join(name), &bytes, 0o600)
    }
}

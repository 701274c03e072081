//! The agent's durable state: files in its data directory, each written beside itself, synced
//! and renamed, so that a reader finds the old or the new one whole. 0600 in directories of 0700.
//!
//! Bounded: the set is what the master ordered, facts are bounded by the set, the rest is fixed.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it keeps files")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kgit_protocol::assignment::{AssignmentSet, PodAssignment, PodNetwork};
use kgit_protocol::directory::{Directory, ListedService, ServiceName};
use kgit_protocol::ids::{ClusterId, NodeName, PodUid};
use kgit_protocol::messages::AuditHead;
use kgit_protocol::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::decide::facts::PodFacts;
use crate::disk::{Disk, Folder, replace};
use crate::spec::SpecKey;

const SET: &str = "assignments.json";
const DIRECTORY: &str = "directory.json";
const FACTS: &str = "facts.json";
const IDENTITY: &str = "identity.json";
const NETWORK: &str = "network.json";
const IMAGES: &str = "images.json";
const WITNESS: &str = "audit-head.json";
const CONTACT: &str = "contact.json";
const ENDS: &str = "ends.json";
const KEY: &str = "key.pem";
const SPEC_KEY: &str = "spec.key";
const LOCK: &str = "lock";

/// Raised when a file's meaning changes; a newer one is refused rather than misread.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the agent's file {0}")]
    File(PathBuf, #[source] io::Error),
    #[error("the agent's file {0} is damaged")]
    Damaged(PathBuf, #[source] serde_json::Error),
    #[error("the agent's file {0} was written by a newer kgit")]
    Newer(PathBuf),
    #[error("an agent that runs uses {0}; stop it first")]
    InUse(PathBuf),
}

/// The data directory, held by one process at a time.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    disk: Box<dyn Disk>,
    /// `None` where the disk is nobody else's.
    _lock: Option<File>,
}

/// What the agent is between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub master_url: String,
    /// The path of the engine's socket.
    pub docker_socket: String,
}

/// Who this node is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: ClusterId,
    pub node: NodeName,
    /// PEM.
    pub certificate: String,
    /// PEM, the cluster's CA.
    pub authority: String,
}

/// What is remembered of pods, and when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Remembered {
    pub pods: BTreeMap<PodUid, PodFacts>,
    /// Pods that the master has lost and wants left alone.
    #[serde(default)]
    pub kept: BTreeMap<PodUid, PodAssignment>,
    /// When the engine was last seen to answer.
    pub seen_at: Timestamp,
    /// The host's boot in which it was.
    pub host_boot: String,
}

/// The directory, and what a restored master has lost of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDirectory {
    #[serde(default)]
    pub directory: Option<Directory>,
    /// Services that the master no longer knows and wants left alone.
    #[serde(default)]
    pub kept: BTreeMap<ServiceName, ListedService>,
}

#[derive(Serialize, Deserialize)]
struct LastContact {
    host_boot: String,
    millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    content: T,
}

impl Journal {
    /// Opens the directory, making it if needed.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let fail = |error| JournalError::File(dir.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(fail)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join(LOCK))
            .map_err(fail)?;
        lock.try_lock().map_err(|_| JournalError::InUse(dir.to_owned()))?;
        Ok(Self { dir: dir.to_owned(), disk: Box::new(Folder::new(dir)), _lock: Some(lock) })
    }

    /// On a disk that is nobody else's: of a simulation.
    pub fn on(disk: Box<dyn Disk>) -> Self {
        Self { dir: PathBuf::new(), disk, _lock: None }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn set(&self) -> Result<Option<AssignmentSet>, JournalError> {
        self.read(SET)
    }

    pub fn keep_set(&self, set: &AssignmentSet) -> Result<(), JournalError> {
        self.write(SET, set)
    }

    /// The services as the master told of them last.
    pub fn directory(&self) -> Result<KnownDirectory, JournalError> {
        Ok(self.read(DIRECTORY)?.unwrap_or_default())
    }

    pub fn keep_directory(&self, known: &KnownDirectory) -> Result<(), JournalError> {
        self.write(DIRECTORY, known)
    }

    pub fn remembered(&self) -> Result<Remembered, JournalError> {
        Ok(self.read(FACTS)?.unwrap_or_default())
    }

    pub fn remember(&self, remembered: &Remembered) -> Result<(), JournalError> {
        self.write(FACTS, remembered)
    }

    /// The images that were fetched for pods.
    pub fn images(&self) -> Result<BTreeSet<String>, JournalError> {
        Ok(self.read(IMAGES)?.unwrap_or_default())
    }

    pub fn keep_images(&self, images: &BTreeSet<String>) -> Result<(), JournalError> {
        self.write(IMAGES, images)
    }

    /// Those of the last run.
    pub fn ends(&self) -> Result<Option<Ends>, JournalError> {
        self.read(ENDS)
    }

    pub fn keep_ends(&self, ends: &Ends) -> Result<(), JournalError> {
        self.write(ENDS, ends)
    }

    pub fn identity(&self) -> Result<Option<Identity>, JournalError> {
        self.read(IDENTITY)
    }

    pub fn keep_identity(&self, identity: &Identity) -> Result<(), JournalError> {
        self.write(IDENTITY, identity)
    }

    /// For a task that lives beside the holder of the journal; the file is replaced whole.
    pub fn keep_identity_in(dir: &Path, identity: &Identity) -> Result<(), JournalError> {
        let path = dir.join(IDENTITY);
        let versioned = Versioned { format: FORMAT, content: identity };
        let bytes = serde_json::to_vec(&versioned)
            .map_err(|error| JournalError::Damaged(path.clone(), error))?;
        replace_file(&path, &bytes, 0o600).map_err(|error| JournalError::File(path, error))
    }

    pub fn network(&self) -> Result<Option<PodNetwork>, JournalError> {
        self.read(NETWORK)
    }

    pub fn keep_network(&self, network: PodNetwork) -> Result<(), JournalError> {
        self.write(NETWORK, &network)
    }

    pub fn witness(&self) -> Result<Option<AuditHead>, JournalError> {
        self.read(WITNESS)
    }

    pub fn keep_witness(&self, head: &AuditHead) -> Result<(), JournalError> {
        self.write(WITNESS, head)
    }

    /// When the last request that the master answered had been sent, counted from the start of the
    /// host; `None` if that was in another boot of it.
    pub fn contact(&self, host_boot: &str) -> Result<Option<Duration>, JournalError> {
        let known: Option<LastContact> = self.read(CONTACT)?;
        let of_this_boot = known.filter(|known| known.host_boot == host_boot);
        Ok(of_this_boot.map(|known| Duration::from_millis(known.millis)))
    }

    pub fn keep_contact(&self, host_boot: &str, last: Duration) -> Result<(), JournalError> {
        let millis = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
        self.write(CONTACT, &LastContact { host_boot: host_boot.to_owned(), millis })
    }

    /// The node's private key in PEM, if it was made.
    pub fn key(&self) -> Result<Option<String>, JournalError> {
        let text = self.disk.read(KEY).and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        match text {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JournalError::File(self.dir.join(KEY), error)),
        }
    }

    pub fn keep_key(&self, pem: &str) -> Result<(), JournalError> {
        self.replace(KEY, pem.as_bytes())
    }

    /// The key of the spec hashes; `fresh` becomes it on the first start.
    pub fn spec_key(&self, fresh: [u8; 32]) -> Result<SpecKey, JournalError> {
        match self.disk.read(SPEC_KEY) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => Ok(SpecKey(key)),
                Err(_) => {
                    self.replace(SPEC_KEY, &fresh)?;
                    Ok(SpecKey(fresh))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.replace(SPEC_KEY, &fresh)?;
                Ok(SpecKey(fresh))
            }
            Err(error) => Err(JournalError::File(self.dir.join(SPEC_KEY), error)),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JournalError> {
        let path = self.dir.join(name);
        let bytes = match self.disk.read(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::File(path, error)),
        };
        let versioned: Versioned<serde_json::Value> = serde_json::from_slice(&bytes)
            .map_err(|error| JournalError::Damaged(path.clone(), error))?;
        if versioned.format > FORMAT {
            return Err(JournalError::Newer(path));
        }
        serde_json::from_value(versioned.content)
            .map(Some)
            .map_err(|error| JournalError::Damaged(path, error))
    }

    fn write<T: Serialize>(&self, name: &str, content: &T) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(&Versioned { format: FORMAT, content })
            .map_err(|error| JournalError::Damaged(self.dir.join(name), error))?;
        self.replace(name, &bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let failed = |error| JournalError::File(self.dir.join(name), error);
        replace(&*self.disk, name, bytes, 0o600).map_err(failed)
    }
}

/// Writes a file whole: beside itself, synced, renamed.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    replace(&Folder::new(dir), name, bytes, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_only_one_process_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.network().unwrap(), None);
        let network = PodNetwork { range: "10.40.1.0/24".parse().unwrap() };
        journal.keep_network(network).unwrap();
        assert_eq!(journal.network().unwrap(), Some(network));
        let images = BTreeSet::from(["busybox:1".to_owned()]);
        journal.keep_images(&images).unwrap();
        assert_eq!(journal.images().unwrap(), images);
        let key = journal.spec_key([7; 32]).unwrap();
        assert_eq!(journal.spec_key([8; 32]).unwrap().0, key.0);
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse(_))));
        let mode = fs::metadata(dir.path().join(NETWORK)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_newer_format_is_refused_and_a_damaged_file_named() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        fs::write(dir.path().join(NETWORK), r#"{"format":99,"content":{}}"#).unwrap();
        assert!(matches!(journal.network(), Err(JournalError::Newer(_))));
        fs::write(dir.path().join(NETWORK), "{").unwrap();
        assert!(matches!(journal.network(), Err(JournalError::Damaged(..))));
    }
}

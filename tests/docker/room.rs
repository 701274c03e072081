//! A folder for one cluster: its data, its source, its logs.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Not below `/tmp`: pods may mount that, and what holds kgit's own data is never mounted.
const ROOMS: &str = "/var/tmp";
const PREFIX: &str = "kgit-test-";

#[derive(Debug)]
pub struct Room(TempDir);

impl Room {
    pub fn new() -> Self {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(ROOMS);
        Self(made.expect("a folder can be made"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).expect("the folder can be made");
        path
    }
}

/// Takes down what tests that were killed have left.
fn sweep() {
    for entry in std::fs::read_dir(ROOMS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner else { continue };
        if Path::new("/proc").join(owner).exists() {
            continue;
        }
        let data = entry.path().join("data");
        let mut down = crate::process::kgit();
        down.args(["down", "--purge", "--yes", "--data"]).arg(data);
        // Another test may be sweeping the same; what is left after both is the next one's.
        let _ = down.output();
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

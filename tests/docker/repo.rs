//! A bare repository and a clone to push from, by the git command.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ran::Ran;

#[derive(Debug)]
pub struct Repo {
    pub bare: PathBuf,
    pub work: PathBuf,
}

impl Repo {
    /// An empty bare repository and its clone, in a folder.
    pub fn new(folder: &Path) -> Self {
        let repo = Self { bare: folder.join("team.git"), work: folder.join("work") };
        git(folder, &["init", "-q", "--bare", "-b", "main", "team.git"]);
        git(folder, &["init", "-q", "-b", "main", "work"]);
        git(&repo.work, &["remote", "add", "origin", "../team.git"]);
        repo
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.work.join(path);
        let parent = path.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(parent).expect("the folder can be made");
        std::fs::write(path, content).expect("the file can be written");
        self
    }

    pub fn remove(&self, path: &str) -> &Self {
        std::fs::remove_file(self.work.join(path)).expect("the file is there");
        self
    }

    /// Replaces text in a file. The text must occur.
    pub fn edit(&self, path: &str, old: &str, new: &str) -> &Self {
        let content = std::fs::read_to_string(self.work.join(path)).expect("the file is there");
        assert!(content.contains(old), "{path} holds {old:?}");
        self.write(path, content.replace(old, new))
    }

    /// Commits everything and returns the commit.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    pub fn push(&self) {
        self.git(&["push", "-q", "origin", "HEAD:main"]);
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.work, arguments)
    }
}

/// Runs git without anybody's own settings.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    let mut command = Command::new("git");
    command.current_dir(folder).args(identity).args(arguments);
    let ran = Ran::of(
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null"),
    );
    assert_eq!(ran.code, 0, "git {arguments:?}: {ran}");
    ran.out.trim().to_owned()
}

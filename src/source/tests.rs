//! Real repositories, folders, servers: nothing of Git is faked.

mod changes;
mod folders;
mod remotes;
mod repositories;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::domain::desired::{FileContent, TreeChange};
use crate::source::error::SourceError;
use crate::source::git::{LocalGit, LocalGitConfig};
use crate::source::{Snapshot, Source};

/// A repository with its work tree, driven by the `git` command.
struct Repo {
    dir: TempDir,
    path: PathBuf,
}

impl Repo {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo");
        fs::create_dir(&path).unwrap();
        let repo = Self { dir, path };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    fn write(&self, path: &str, text: &str) {
        write(&self.path, path, text);
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn config(&self) -> LocalGitConfig {
        fs::create_dir_all(self.data()).unwrap();
        LocalGitConfig {
            path: self.path.clone(),
            branch: None,
            folder: String::new(),
            data: self.data(),
            at: None,
        }
    }

    fn source(&self) -> LocalGit {
        LocalGit::new(self.config())
    }
}

fn git(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["-c", "safe.directory=*", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    text
}

fn write(root: &Path, path: &str, text: &str) {
    let full = root.join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    fs::write(full, text).unwrap();
}

/// A change as lines, sorted: `+ path: what is there`, `- path`.
fn told(change: &TreeChange) -> Vec<String> {
    let upserted = change.upserted.iter().map(|file| {
        let content = match &file.content {
            FileContent::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        format!("+ {}: {content}", file.path)
    });
    let removed = change.removed.iter().map(|path| format!("- {path}"));
    let mut lines: Vec<String> = upserted.chain(removed).collect();
    lines.sort();
    lines
}

/// What a look delivers, as lines.
fn look(source: &mut impl Source) -> Vec<String> {
    told(&snapshot(source).1)
}

fn snapshot(source: &mut impl Source) -> Snapshot {
    source.look().unwrap().expect("there is something new")
}

fn refusal(source: &mut impl Source) -> String {
    match source.look() {
        Err(error) => full(&error),
        Ok(found) => panic!("it was read: {found:?}"),
    }
}

fn full(error: &SourceError) -> String {
    error.to_string()
}

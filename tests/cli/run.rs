//! One run of the binary in a folder of its own.

use std::path::Path;
use std::process::Command;

pub struct Kgit {
    folder: tempfile::TempDir,
}

#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
    folder: String,
}

impl Kgit {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn file(self, path: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(path), content).unwrap();
        self
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        let folder: &Path = self.folder.path();
        let output = Command::new(env!("CARGO_BIN_EXE_kgit"))
            .args(arguments)
            .current_dir(folder)
            .env("KGIT_DATA", folder.join("data"))
            .env("HOME", folder)
            .env_remove("KUBECONFIG")
            .env_remove("KGIT_LOG")
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            folder: folder.display().to_string(),
        }
    }
}

impl Ran {
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Standard error, with the run's own folder written as `FOLDER`.
    pub fn err_without_folder(&self) -> String {
        self.err.replace(&self.folder, "FOLDER")
    }
}

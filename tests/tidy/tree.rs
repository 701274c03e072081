//! The repo as a list of text files. No rule lives here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repo, named by its path from the root.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    pub text: String,
    /// Brought in by `#[cfg(test)] mod …;`, so no part of the product.
    pub is_test_only: bool,
}

impl File {
    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), is_test_only: false }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Code of one of the three crates, as against tests and build scripts.
    pub fn is_product(&self) -> bool {
        let sources = ["src/", "agents/src/", "agents/protocol/src/"];
        self.is_rust() && sources.iter().any(|start| self.path.starts_with(start))
    }

    pub fn is_cargo_manifest(&self) -> bool {
        self.path.ends_with("Cargo.toml")
    }

    pub fn is_document(&self) -> bool {
        self.path.ends_with(".md")
    }
}

/// A rule broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl Offence {
    pub fn new(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Asked at run time: a build folder shared by several work trees must not bind the rules to one of them.
pub fn root() -> PathBuf {
    let set = std::env::var_os("CARGO_MANIFEST_DIR");
    set.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// Every text file that rules look at: code, manifests of crates, documents.
pub fn tree() -> Vec<File> {
    let mut files = Vec::new();
    for entry in root_entries() {
        collect(&root(), Path::new(&entry), &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_files(&mut files);
    files
}

fn mark_test_files(files: &mut [File]) {
    let starts: Vec<String> = files.iter().flat_map(test_modules).collect();
    for file in files {
        let own = |start: &String| {
            file.path.strip_prefix(start).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file.is_test_only = starts.iter().any(own);
    }
}

/// The modules in files of their own that a file brings in for tests, as paths without their ending.
fn test_modules(file: &File) -> Vec<String> {
    let Some((folder, name)) = file.path.rsplit_once('/') else { return Vec::new() };
    let stem = name.trim_end_matches(".rs");
    let inside = match stem {
        "mod" | "lib" | "main" => folder.to_owned(),
        _ => format!("{folder}/{stem}"),
    };
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("#[cfg(test)]"))
        .filter_map(|pair| pair[1].strip_suffix(';')?.split_once("mod "))
        .map(|(_, module)| format!("{inside}/{module}"))
        .collect()
}

/// What stands in the root, without Git's own folder and what builds leave there.
pub fn root_entries() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root())
        .expect("the repo's root can be read")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".git" && name != "target")
        .collect();
    names.sort();
    names
}

fn collect(root: &Path, path: &Path, files: &mut Vec<File>) {
    let full = root.join(path);
    if full.is_dir() {
        for entry in fs::read_dir(&full).expect("a folder can be read") {
            let name = entry.expect("an entry").file_name();
            if name != "target" {
                collect(root, &path.join(name), files);
            }
        }
        return;
    }
    let wanted = ["rs", "md", "toml"];
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    if wanted.contains(&extension.as_ref()) {
        let text = fs::read_to_string(&full).expect("a source is UTF-8");
        let path = path.to_string_lossy().into_owned();
        files.push(File { path, text, is_test_only: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_only_tests_bring_in_are_told_apart() {
        let parent = File::new("src/api/mod.rs", "#[cfg(test)]\nmod fixture;\nmod serve;\n");
        let mut files = vec![
            parent,
            File::new("src/api/fixture.rs", ""),
            File::new("src/api/fixture/pods.rs", ""),
            File::new("src/api/serve.rs", ""),
        ];
        mark_test_files(&mut files);
        let found: Vec<bool> = files.iter().map(|file| file.is_test_only).collect();
        assert_eq!(found, [false, true, true, false]);
    }
}

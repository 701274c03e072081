//! Rules of the house that concern one file at a time: imports, headers, sizes, allowed lints; and the root's entries.

use crate::layers::module;
use crate::source::{code, paths};
use crate::tree::{File, Offence};

/// Beyond this a file is hard to keep in mind at once.
const MOST_LINES: usize = 600;

/// Files that are longer for a reason: (path, why).
const LONG_FILES: &[(&str, &str)] = &[];

/// What a newcomer finds in the root: the product, and settings in dotfiles.
const ROOT: &[&str] = &[
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "agents",
    "cluster-repo-example",
    "docs",
    "src",
    "tests",
];

/// No globs outside tests, no re-exports of another layer.
pub fn check_imports(file: &File) -> Vec<Offence> {
    let own = module(&file.path);
    let mut offences = Vec::new();
    for path in paths(&file.text) {
        let glob = path.segments.last().is_some_and(|last| last == "*");
        if glob && !path.in_test && !file.is_test_only {
            let what = "a glob hides what is imported: name the items";
            offences.push(Offence::new(file, path.line, what));
        }
        let foreign = path.is(&["crate"]) && path.segments.get(1).map(String::as_str) != own;
        if own.is_some() && path.re_exported && foreign {
            let what = "a re-export across layers hides the edge: import it where it is used";
            offences.push(Offence::new(file, path.line, what));
        }
    }
    offences
}

/// Every file begins by saying what lives in it.
pub fn check_header(file: &File) -> Vec<Offence> {
    if file.text.starts_with("//!") {
        return Vec::new();
    }
    vec![Offence::new(file, 1, "no `//!` that says what lives here, and what does not")]
}

pub fn check_lengths(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        match (lines > MOST_LINES, listed) {
            (true, false) => {
                let what = format!(
                    "{lines} lines, and {MOST_LINES} are the most: split it, or list it with a reason"
                );
                offences.push(Offence::new(file, lines, what));
            }
            (false, true) => {
                let what = "is listed as a long file, and no longer is one: take it off the list";
                offences.push(Offence::new(file, lines, what));
            }
            _ => {}
        }
    }
    offences
}

/// `#[allow(…)]` and `#[expect(…)]` say why.
pub fn check_allows(file: &File) -> Vec<Offence> {
    let code = code(&file.text);
    let mut offences = Vec::new();
    for start in ["allow(", "expect("] {
        for (at, _) in code.match_indices(start) {
            let attribute =
                code[..at].trim_end().ends_with("#[") || code[..at].trim_end().ends_with("#![");
            let end = code[at..].find(']').map_or(code.len(), |end| at + end);
            if attribute && !code[at..end].contains("reason") {
                let line = code[..at].matches('\n').count() + 1;
                offences.push(Offence::new(
                    file,
                    line,
                    "a lint is allowed without `reason = \"…\"`",
                ));
            }
        }
    }
    offences
}

pub fn check_root(entries: &[String]) -> Vec<Offence> {
    entries
        .iter()
        .filter(|name| !name.starts_with('.') && !ROOT.contains(&name.as_str()))
        .map(|name| Offence {
            path: name.clone(),
            line: 0,
            what: "does not belong in the root: settings go into dotfiles, the rest below"
                .to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_is_an_offence_outside_tests() {
        let text =
            "use a::b;\nuse crate::plan::{x, y::*};\n#[cfg(test)]\nmod tests { use super::*; }";
        let found = check_imports(&File::new("src/plan/mod.rs", text));
        assert_eq!(found.iter().map(|offence| offence.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_re_export_of_another_layer_is_an_offence() {
        let text =
            "pub use crate::plan::tick;\npub use crate::domain::World;\nuse crate::domain::Plan;";
        let found = check_imports(&File::new("src/plan/mod.rs", text));
        assert_eq!(found.iter().map(|offence| offence.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_long_file_is_an_offence() {
        let long = File::new("src/plan/tick.rs", &"\n".repeat(MOST_LINES + 1));
        assert_eq!(check_lengths(&[long]).len(), 1);
        assert!(
            check_lengths(&[File::new("src/plan/tick.rs", &"\n".repeat(MOST_LINES))]).is_empty()
        );
    }

    #[test]
    fn a_lint_allowed_without_a_reason_is_an_offence() {
        let text = "//! x\n#[allow(dead_code)]\nfn f() {}\n#[allow(\n    dead_code,\n    reason = \"b]\"\n)]\nfn g() { h.expect(\"i\") }";
        let found = check_allows(&File::new("src/plan/tick.rs", text));
        assert_eq!(found.iter().map(|offence| offence.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_stray_file_in_the_root_is_an_offence() {
        let entries = ["src".to_owned(), ".typos.toml".to_owned(), "notes.txt".to_owned()];
        assert_eq!(check_root(&entries).len(), 1);
    }

    #[test]
    fn a_file_without_a_header_is_an_offence() {
        assert_eq!(check_header(&File::new("src/a.rs", "use b::c;")).len(), 1);
    }
}

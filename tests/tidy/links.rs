//! Links between documents, and from code to documents, lead to what is there: files, and headings in them.

use crate::tree::{File, Offence, root};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

pub fn check(files: &[File]) -> Vec<Offence> {
    let texts = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let exists = |path: &Path| root().join(path).exists();
    files.iter().flat_map(|file| check_file(file, &texts, &exists)).collect()
}

fn check_file(
    file: &File,
    texts: &BTreeMap<&str, &str>,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let mut report = |what: String| offences.push(Offence::new(file, at + 1, what));
        if file.is_document() {
            for target in targets(line) {
                if let Some(what) = broken(file, target, texts, exists) {
                    report(what);
                }
            }
        }
        for path in named_documents(line) {
            if !file.path.starts_with("tests/tidy/") && !exists(Path::new(path)) {
                report(format!("`{path}` does not exist"));
            }
        }
    }
    offences
}

/// What the Markdown links of a line lead to, other sites aside.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// `docs/….md` as code, settings and documents mention it.
fn named_documents(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("docs/").filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        let rest = &line[at..];
        let end =
            rest.find(|c: char| !(c.is_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches('.');
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || "/.".contains(c));
        (whole && path.ends_with(".md")).then_some(path)
    })
}

fn broken(
    file: &File,
    target: &str,
    texts: &BTreeMap<&str, &str>,
    exists: &dyn Fn(&Path) -> bool,
) -> Option<String> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let full = if path.is_empty() { PathBuf::from(&file.path) } else { normal(&folder.join(path)) };
    if !exists(&full) {
        return Some(format!("the link to `{target}` leads nowhere"));
    }
    let text = texts.get(full.to_str()?)?;
    let known = heading.is_empty() || headings(text).any(|known| known == heading);
    (!known).then(|| format!("`{}` has no heading `#{heading}`", full.display()))
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// Headings as the anchors that they get.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line.trim_start_matches('#').trim()))
}

fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_lines(path: &str, text: &str) -> Vec<usize> {
        let file = File::new(path, text);
        let texts = BTreeMap::from([("docs/glossary.md", "# Words\n## A plan, made\n")]);
        let exists = |path: &Path| path == Path::new("docs/glossary.md");
        check_file(&file, &texts, &exists).iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn a_link_to_a_missing_file_is_an_offence() {
        let text =
            "[a](glossary.md) [b](./gone.md)\n[c](https://example.org/x)\n[d](../docs/glossary.md)";
        assert_eq!(broken_lines("docs/a.md", text), [1]);
    }

    #[test]
    fn a_link_to_a_missing_heading_is_an_offence() {
        let text = "[a](docs/glossary.md#a-plan-made)\n[b](docs/glossary.md#gone)";
        assert_eq!(broken_lines("README.md", text), [2]);
    }

    #[test]
    fn code_that_names_a_missing_document_is_an_offence() {
        let text = "//! See docs/glossary.md.\n//! See docs/decisions/0099-gone.md.";
        assert_eq!(broken_lines("src/lib.rs", text), [2]);
    }
}

//! Manifests that other people published: what becomes of each file, and for which reasons.
//!
//! `KGIT_MANIFESTS=FOLDER` counts the files of a folder, one subfolder a repository, and prints the tables of
//! `docs/reference/manifests.md`; `KGIT_REASON=TEXT` lists the files of the reasons that contain a text. Without them the
//! same count is made of this repository's own manifests, all of which load.
//!
//! A file is judged by itself: what it refers to may be in another one, or be made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kgit::domain::desired::{FileContent, SourceFile, TreeChange};
use kgit::domain::diagnostic::{Diagnostic, Severity};
use kgit::manifest::check::{CheckReport, check};

/// Findings about other files: which of them are there is not this count's affair.
const CROSSING: [&str; 3] = ["dangling-reference", "selects-nothing", "defined-twice"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Loads,
    LoadsWithWarnings,
    LoadsInPart,
    Skipped,
    Refused,
    /// Refused by itself, and never read by itself: its folder is kustomize's.
    Patch,
    /// Text that another program makes manifests of.
    Template,
}

impl Fate {
    fn words(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::LoadsWithWarnings => "loads; fields without an effect are named",
            Self::LoadsInPart => "loads what runs here; other kinds are skipped and named",
            Self::Skipped => "skipped: nothing in it runs here",
            Self::Refused => "refused",
            Self::Patch => "a piece of a manifest for kustomize, whose folders are skipped",
            Self::Template => "a template of Helm and the like, not YAML",
        }
    }
}

#[derive(Debug, Default)]
struct Census {
    fates: BTreeMap<Fate, usize>,
    /// Files and their messages, by severity, code and message without names.
    reasons: BTreeMap<(Severity, String, String), BTreeSet<String>>,
    repositories: BTreeMap<String, usize>,
    kinds: BTreeMap<String, usize>,
}

impl Census {
    fn of(folders: &[PathBuf]) -> Self {
        let mut census = Self::default();
        for root in folders {
            for path in files(root) {
                let Ok(bytes) = std::fs::read(&path) else { continue };
                census.count(root, &path, &bytes);
            }
        }
        census
    }

    fn count(&mut self, root: &Path, path: &Path, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if !is_manifest(&text) {
            return;
        }
        let name = path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned();
        let repository = name.split('/').next().unwrap_or_default().to_owned();
        *self.repositories.entry(repository).or_default() += 1;
        if is_template(root, path, &text) {
            *self.fates.entry(Fate::Template).or_default() += 1;
            return;
        }
        for kind in text.lines().filter_map(kind_of) {
            *self.kinds.entry(kind).or_default() += 1;
        }
        let report = alone(path, bytes);
        let crossing = |it: &&Diagnostic| !CROSSING.contains(&&*it.code);
        let found: Vec<&Diagnostic> = report.diagnostics.iter().filter(crossing).collect();
        let fate = match fate(&report, &found) {
            Fate::Refused if is_below(root, path, &KUSTOMIZE) => Fate::Patch,
            fate => fate,
        };
        *self.fates.entry(fate).or_default() += 1;
        if fate == Fate::Patch {
            return;
        }
        for diagnostic in found {
            let message = reason(&diagnostic.message);
            let reason = (diagnostic.severity, diagnostic.code.to_string(), message);
            let files = self.reasons.entry(reason).or_default();
            files.insert(format!("{name}: {}", diagnostic.message));
        }
    }
}

/// Every file that may hold a manifest, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() && ["yaml", "yml", "json"].contains(&&*ending) => {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// A file that says of something which kind it is. All others are settings of other programs.
fn is_manifest(text: &str) -> bool {
    let says = |word: &str| {
        let mut lines = text.lines().map(|line| line.trim_start_matches([' ', '\t', '-', '{']));
        lines.any(|line| line.trim_start_matches('"').starts_with(word))
    };
    says("apiVersion") && says("kind")
}

/// Below a chart's `templates`, or with another program's placeholders in it.
fn is_template(root: &Path, path: &Path, text: &str) -> bool {
    let in_chart = || is_below(root, path, &["Chart.yaml"]);
    text.contains("{{") && (in_chart() || text.contains("{{-") || text.contains("{{ ."))
}

const KUSTOMIZE: [&str; 2] = ["kustomization.yaml", "kustomization.yml"];

/// Whether one of the folders that a file is in has a file of such a name.
fn is_below(root: &Path, path: &Path, names: &[&str]) -> bool {
    let mut folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    folders.any(|folder| names.iter().any(|name| folder.join(name).exists()))
}

fn kind_of(line: &str) -> Option<String> {
    let kind = line.strip_prefix("kind:")?.split('#').next()?.trim();
    Some(kind.trim_matches(['"', '\'']).to_owned())
}

fn alone(path: &Path, bytes: &[u8]) -> CheckReport {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Its name would have its folder skipped.
    let name = name.replace("kustomization", "file").replace("Chart", "file");
    let content = FileContent::Bytes(Arc::from(bytes));
    let file = SourceFile { path: Arc::from(&*name), content };
    check(&TreeChange { upserted: vec![file], removed: Vec::new() })
}

fn fate(report: &CheckReport, found: &[&Diagnostic]) -> Fate {
    let any = |severity| found.iter().any(|it| it.severity == severity);
    let skipped = found.iter().any(|it| ["skipped", "not-yet", "ignored"].contains(&&*it.code));
    match () {
        () if any(Severity::Error) => Fate::Refused,
        // What refers to other files is broken here alone.
        () if report.counts.objects == 0 && report.diagnostics.len() == found.len() => {
            Fate::Skipped
        }
        () if skipped => Fate::LoadsInPart,
        () if any(Severity::Warning) => Fate::LoadsWithWarnings,
        () => Fate::Loads,
    }
}

/// What is between backquotes is of one file, and so is a kind that does not run here; the rest is the reason.
fn reason(message: &str) -> String {
    let parts = message.split('`').enumerate();
    let parts = parts.map(|(index, part)| if index % 2 == 1 { "…" } else { part });
    let text = parts.collect::<Vec<_>>().join("`");
    for (before, after) in [("", " is skipped: "), ("expected ", ", found "), ("this ", " has no ")]
    {
        let Some((head, tail)) = text.split_once(after) else { continue };
        let tail = if after == ", found " { "…" } else { tail };
        if head.starts_with(before) {
            return format!("{before}…{after}{tail}");
        }
    }
    for head in ["this is not YAML", "this is not base64", "the key `…` is given twice"] {
        if text.starts_with(head) {
            return head.to_owned();
        }
    }
    for middle in ["unknown field `…` of ", "`…` is an old apiVersion of ", "is out of range: "]
    {
        if let Some(at) = text.find(middle) {
            let head = if at == 0 { "" } else { "… " };
            return format!("{head}{middle}…");
        }
    }
    text
}

impl Census {
    fn table(&self) -> String {
        let mut text = String::from("| files | |\n| ---: | --- |\n");
        for (fate, count) in &self.fates {
            let _ = writeln!(text, "| {count} | {} |", fate.words());
        }
        let _ = writeln!(text, "| {} | in all |\n", self.fates.values().sum::<usize>());
        for (repository, count) in &self.repositories {
            let _ = writeln!(text, "- {repository}: {count}");
        }
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let of = self.reasons.iter().filter(|((it, ..), _)| *it == severity);
            let mut of: Vec<_> = of.collect();
            of.sort_by_key(|(_, files)| std::cmp::Reverse(files.len()));
            let _ = writeln!(text, "\n{severity:?}\n");
            for ((_, code, message), files) in of {
                let first = files.first().map_or("", String::as_str);
                let count =
                    files.iter().map(|file| file.split(": ").next()).collect::<BTreeSet<_>>();
                let _ = writeln!(text, "| {} | {code} | {message} | {first} |", count.len());
            }
        }
        text
    }

    fn files_of(&self, reason: &str) -> Vec<&str> {
        let of = self
            .reasons
            .iter()
            .filter(|((_, code, message), _)| message.contains(reason) || code == reason);
        of.flat_map(|(_, files)| files.iter().map(String::as_str)).collect()
    }
}

#[test]
fn every_published_manifest_loads_or_is_refused_for_a_reason() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Ok(folder) = std::env::var("KGIT_MANIFESTS") {
        let census = Census::of(&[PathBuf::from(folder)]);
        println!("{}", census.table());
        if let Ok(reason) = std::env::var("KGIT_REASON") {
            println!("{}", census.files_of(&reason).join("\n"));
        }
        assert!(!census.fates.is_empty(), "there are no manifests in it");
        return;
    }
    let own = ["cluster-repo-example", "tests/fixtures"].map(|folder| repository.join(folder));
    let census = Census::of(&own);
    let loads = [Fate::Loads, Fate::LoadsInPart].map(|fate| census.fates.get(&fate));
    assert!(loads.iter().flatten().copied().sum::<usize>() >= 10, "{}", census.table());
    // One of the tutorials is older than Kubernetes 1.0.
    let old = census.files_of("is an old apiVersion of");
    assert_eq!(census.fates.get(&Fate::Refused), Some(&old.len()), "{}", census.table());
    assert!(!census.fates.contains_key(&Fate::Skipped), "{}", census.table());
}

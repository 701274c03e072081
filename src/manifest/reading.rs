//! One file: what is in it, and what is wrong with it, apart from all other files.

use std::sync::Arc;

use crate::domain::desired::{FileContent, Settings};
use crate::domain::diagnostic::{Diagnostic, Place, Severity};
use crate::domain::key::Kind;
use crate::manifest::findings::Findings;
use crate::manifest::kinds::{Verdict, classify};
use crate::manifest::object::{Defined, object};
use crate::manifest::quoted;
use crate::manifest::settings::settings;
use crate::manifest::tree::{self, Node, Problem, Span, Value};

/// The first line of what Git LFS leaves in a repo instead of a file.
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";

/// What one file holds.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Documents with something in them, understood or not.
    pub documents: u32,
    pub objects: Vec<Defined>,
    pub settings: Vec<(Place, Settings)>,
    pub diagnostics: Vec<Diagnostic>,
    /// Something in here could not be read, or it can't be told which object it is about.
    pub unreadable: bool,
}

/// Reads a file.
pub fn read(path: &Arc<str>, content: &FileContent) -> Reading {
    let bytes = match content {
        FileContent::Bytes(bytes) => bytes,
        FileContent::TooLarge { bytes, limit } => {
            let message = format!("this file has {bytes} bytes; at most {limit} are read");
            return refused(path, "too-large", message, "split it up, or exclude it");
        }
        FileContent::Link { target } => {
            let message = format!("this is a link to `{target}`, which is not in the source");
            return refused(path, "link", message, "put the file itself here");
        }
        FileContent::Submodule => {
            let message = "this is a submodule, which kgit does not follow".to_owned();
            return refused(path, "submodule", message, "put its files into this repo");
        }
        FileContent::Unreadable { reason } => {
            let message = format!("this file could not be read: {reason}");
            return refused(path, "unreadable", message, "see that kgit may read it");
        }
    };
    match text(bytes) {
        Ok(text) => documents(path, text),
        Err(problem) => {
            // What precedes the first wrong byte can still be shown.
            let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            let mut reading = File::new(path, valid);
            reading.problem(Severity::Error, problem);
            reading.out.unreadable = true;
            reading.finish()
        }
    }
}

fn refused(path: &Arc<str>, code: &'static str, message: String, hint: &str) -> Reading {
    let diagnostic = Diagnostic::new(Severity::Error, Place::file(path.clone()), code, message);
    let diagnostics = vec![diagnostic.with_hint(hint.to_owned())];
    Reading { diagnostics, unreadable: true, ..Reading::default() }
}

/// The bytes as text without its byte order mark, or why they are none.
fn text(bytes: &[u8]) -> Result<&str, Problem> {
    let wrong = |code, message: &str, hint, span| {
        Err(Problem { span, code, message: message.to_owned(), hint })
    };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let hint = Some("save it as UTF-8");
        return wrong("encoding", "this file is UTF-16", hint, Span::default());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let hint = Some("save it as UTF-8");
            let at = span_after(&bytes[..error.valid_up_to()]);
            return wrong("encoding", "this byte is not UTF-8", hint, at);
        }
    };
    if let Some(at) = text.find('\0') {
        let span = span_after(&bytes[..at]);
        return wrong("encoding", "there is a NUL byte here: this is not text", None, span);
    }
    if text.starts_with(LFS_POINTER) {
        let hint = Some("keep manifests out of Git LFS");
        let message = "this is a pointer of Git LFS, not the file itself";
        return wrong("lfs-pointer", message, hint, Span { line: 1, column: 1, width: 7 });
    }
    Ok(text)
}

/// The place right after some valid text.
fn span_after(before: &[u8]) -> Span {
    let text = std::str::from_utf8(before).unwrap_or_default();
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    Span { line: number(line), column: number(column), width: 1 }
}

fn documents(path: &Arc<str>, text: &str) -> Reading {
    let indented;
    let mut read = tree::read(text);
    if read.failures.iter().any(|failure| failure.code == tree::SHALLOW_QUOTE) {
        indented = quoted::indented(text);
        read = tree::read(&indented);
    }
    let mut file = File::new(path, text);
    for failure in read.failures {
        file.out.documents += 1;
        file.out.unreadable = true;
        file.problem(Severity::Error, failure);
    }
    for document in read.documents {
        file.out.documents += 1;
        let before = file.findings.errors();
        for problem in document.problems {
            let severity = match problem.code {
                "ambiguous-key" => Severity::Warning,
                _ => Severity::Error,
            };
            file.problem(severity, problem);
        }
        let problems = file.findings.errors() > before;
        file.document(&document.root, None, problems);
    }
    file.finish()
}

/// A file in the reading.
struct File<'t> {
    findings: Findings<'t>,
    out: Reading,
}

impl<'t> File<'t> {
    fn new(path: &'t Arc<str>, text: &'t str) -> Self {
        Self { findings: Findings::new(path, text), out: Reading::default() }
    }

    fn finish(self) -> Reading {
        Reading { diagnostics: self.findings.finish(), ..self.out }
    }

    fn problem(&mut self, severity: Severity, problem: Problem) {
        let Problem { span, code, message, hint } = problem;
        self.findings.push(severity, span, code, message, hint.map(str::to_owned));
    }

    /// `implied` is the kind of the list that this is an item of; `broken` says that something
    /// was wrong with its text already.
    fn document(&mut self, root: &Node<'t>, implied: Option<Kind>, broken: bool) {
        let Some((api_version, kind)) = self.identity(root, implied) else { return };
        let span = root.entry("kind").map_or(root.span, |entry| entry.value.span);
        let not_run = |why: &str| format!("{kind} is skipped: {why}");
        match classify(&api_version, &kind) {
            Verdict::Object(kind) => self.object(root, kind, broken),
            Verdict::List { item } => self.list(root, item, broken),
            Verdict::Settings => match settings(root, &mut self.findings) {
                Some(settings) if !broken => {
                    self.out.settings.push((self.findings.place(root.span), settings));
                }
                // Settings that can't be read may have held the brakes.
                _ => self.out.unreadable = true,
            },
            Verdict::NotYet => {
                let message = format!("kgit does not run {kind} objects yet: this one is skipped");
                self.findings.push(Severity::Warning, span, "not-yet", message, None);
            }
            Verdict::Skipped(why) => {
                self.findings.push(Severity::Note, span, "skipped", not_run(why), None);
            }
            Verdict::Refused { message, hint } => {
                let about_version = hint.as_deref().is_some_and(|hint| hint.starts_with("write"));
                let version = root.entry("apiVersion").filter(|_| about_version);
                let span = version.map_or(span, |entry| entry.value.span);
                self.unknown(span, "unknown-kind", message, hint);
            }
        }
    }

    /// An error about a document of which it can't be told what it defines.
    fn unknown(&mut self, span: Span, code: &'static str, message: String, hint: Option<String>) {
        self.out.unreadable = true;
        self.findings.push(Severity::Error, span, code, message, hint);
    }

    /// The document's apiVersion and kind; `None` if that was said already.
    fn identity(&mut self, root: &Node<'t>, implied: Option<Kind>) -> Option<(String, String)> {
        let words = (root.entry("apiVersion"), root.entry("kind"));
        let text = |key: &str| root.get(key).and_then(Node::as_text).map(str::to_owned);
        match (words, implied) {
            ((None, None), Some(kind)) => {
                Some((kind.api_version().to_owned(), kind.as_str().to_owned()))
            }
            ((None, None), None) => {
                let message = "ignored: it has neither `apiVersion` nor `kind`";
                self.findings.push(Severity::Note, root.span, "ignored", message, None);
                None
            }
            ((Some(_), Some(_)), _) => {
                let both = text("apiVersion").zip(text("kind"));
                if both.is_none() {
                    let span = words.0.map_or(root.span, |entry| entry.key_span);
                    let message = "`apiVersion` and `kind` must be text".to_owned();
                    self.unknown(span, "wrong-type", message, None);
                }
                both
            }
            // Other tools number their formats; no apiVersion of Kubernetes is a number.
            ((Some(entry), None), _) if !matches!(entry.value.value, Value::Text(_)) => {
                let message = "ignored: its `apiVersion` is not one of Kubernetes";
                self.findings.push(Severity::Note, entry.key_span, "ignored", message, None);
                None
            }
            ((Some(entry), None) | (None, Some(entry)), _) => {
                let missing = if entry.key == "kind" { "apiVersion" } else { "kind" };
                let message = format!("this has `{}` and no `{missing}`", entry.key);
                let hint = match text("kind").and_then(|kind| kind.parse::<Kind>().ok()) {
                    Some(kind) => format!("add `apiVersion: {}`", kind.api_version()),
                    None => format!("add `{missing}`, or exclude the file if it is no manifest"),
                };
                self.unknown(entry.key_span, "half-a-manifest", message, Some(hint));
                None
            }
        }
    }

    fn object(&mut self, root: &Node<'t>, kind: Kind, broken: bool) {
        match object(root, kind, &mut self.findings) {
            Some(mut defined) => {
                if broken {
                    defined.resource = None;
                }
                self.out.objects.push(defined);
            }
            None => self.out.unreadable = true,
        }
    }

    fn list(&mut self, root: &Node<'t>, item: Option<Kind>, broken: bool) {
        match root.entry("items").map(|entry| (&entry.value.value, entry.value.span)) {
            Some((Value::List(items), _)) => {
                for each in items {
                    match each.value {
                        Value::Map(_) => self.document(each, item, broken),
                        _ => {
                            let message = "an item must be an object".to_owned();
                            self.unknown(each.span, "wrong-type", message, None);
                        }
                    }
                }
            }
            Some((Value::Null, _)) => {}
            Some((_, span)) => {
                let message = "`items` must be a list".to_owned();
                self.unknown(span, "wrong-type", message, None);
            }
            None => {
                let message = "this list has no `items`".to_owned();
                self.unknown(root.span, "invalid-value", message, None);
            }
        }
    }
}

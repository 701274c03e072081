//! Collects what is wrong with one file, with the lines that it is about.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::domain::diagnostic::{Diagnostic, Place, Severity};
use crate::manifest::tree::Span;

/// Characters of a line that a diagnostic carries: a one-line JSON file with a thousand errors
/// would otherwise be carried a thousand times.
const LINE_LIMIT: usize = 160;
/// Characters shown before the place, where the line is cut.
const LINE_LEAD: usize = 60;
/// Diagnostics kept of one file: more are not read by anybody, and memory is bounded.
pub const MAX_PER_FILE: usize = 1000;

/// The diagnostics of one file, in the making.
#[derive(Debug)]
pub struct Findings<'t> {
    pub file: &'t Arc<str>,
    text: &'t str,
    line_starts: OnceCell<Vec<usize>>,
    found: Vec<Diagnostic>,
    left_off: usize,
    /// The worst among those left off.
    left_off_severity: Severity,
    errors: usize,
}

impl<'t> Findings<'t> {
    pub fn new(file: &'t Arc<str>, text: &'t str) -> Self {
        Self {
            file,
            text,
            line_starts: OnceCell::new(),
            found: Vec::new(),
            left_off: 0,
            left_off_severity: Severity::Note,
            errors: 0,
        }
    }

    /// How many errors were found so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn place(&self, span: Span) -> Place {
        Place::new(self.file.clone(), span.line, span.column)
    }

    pub fn push(
        &mut self,
        severity: Severity,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if severity == Severity::Error {
            self.errors += 1;
        }
        if self.found.len() >= MAX_PER_FILE {
            self.left_off += 1;
            self.left_off_severity = self.left_off_severity.min(severity);
            return;
        }
        let diagnostic = Diagnostic::new(severity, self.place(span), code, message).with_hint(hint);
        self.found.push(self.with_line(diagnostic, span));
    }

    /// Fills in the line that the span points at.
    pub fn with_line(&self, mut diagnostic: Diagnostic, span: Span) -> Diagnostic {
        if span.line > 0 {
            let (text, caret) = cut(self.line(span.line), span.column);
            diagnostic.line_text = Some(text);
            diagnostic.caret = caret;
            diagnostic.width = span.width;
        }
        diagnostic
    }

    fn line(&self, line: u32) -> &'t str {
        let starts = self.line_starts.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        });
        let at = line as usize - 1;
        let Some(&start) = starts.get(at) else { return "" };
        let end = starts.get(at + 1).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The diagnostics, in the order in which they were found.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        if self.left_off > 0 {
            let message = format!("{} more findings in this file are not listed", self.left_off);
            let place = Place::file(self.file.clone());
            self.found.push(Diagnostic::new(self.left_off_severity, place, "too-many", message));
        }
        self.found
    }
}

/// The part of a long line that surrounds the column, and where in it the column is.
fn cut(line: &str, column: u32) -> (String, u32) {
    if line.len() <= LINE_LIMIT {
        return (line.to_owned(), column);
    }
    let skip = (column as usize).saturating_sub(LINE_LEAD);
    let mut part: String = line.chars().skip(skip).take(LINE_LIMIT).collect();
    if line.chars().nth(skip + LINE_LIMIT).is_some() {
        part.push('…');
    }
    if skip == 0 {
        return (part, column);
    }
    part.insert(0, '…');
    (part, column - u32::try_from(skip).unwrap_or(0) + 1)
}

/// The known word nearest to what was written, if one is near enough to be what was meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = (written.chars().count() / 4).max(1);
    let folded = written.to_lowercase();
    known
        .into_iter()
        .filter(|word| word.len().abs_diff(written.len()) <= tolerated)
        .map(|word| (strsim::osa_distance(&folded, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, word)| word)
}

/// [`nearest`], as a hint.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, known).map(|word| format!("did you mean `{word}`?"))
}

//! What is wrong with an input, where, and what to do next.
//!
//! A layer that reads people's files never fails: it returns what it understood and a list of
//! these. Rendering with the source line and a caret is [`crate::manifest`]'s, which has the text.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in a source's files. Lines and columns count from 1, columns in characters; line 0
/// means the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Relative to the source's root, with `/` between the parts.
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Self { file: file.into(), line, column }
    }

    /// The file as a whole.
    pub fn file(file: impl Into<Arc<str>>) -> Self {
        Self::new(file, 0, 0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object it concerns keeps its last accepted form, and nothing of the source is pruned.
    Error,
    /// Accepted, but not all of it has an effect.
    Warning,
    /// Listed so that nothing is passed over in silence: skipped or ignored documents.
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub place: Place,
    /// Stable, kebab-case, for programs: `unknown-field`, `dangling-reference`, …
    pub code: std::borrow::Cow<'static, str>,
    /// A sentence without its full stop: ``Service `web` refers to …``.
    pub message: String,
    /// What to do next, without the word "hint".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line the place points at, cut at a sensible length; for the caret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_text: Option<String>,
    /// How many characters the caret underlines; 0 counts as 1.
    #[serde(default)]
    pub width: u32,
    /// The character of `line_text`, from 1, that the caret starts at: the place's column, unless
    /// the line was too long and is cut on both sides.
    #[serde(default)]
    pub caret: u32,
}

impl Diagnostic {
    /// Without a hint and without the line.
    pub fn new(
        severity: Severity,
        place: Place,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let caret = place.column;
        let (code, message) = (code.into(), message.into());
        Self { severity, place, code, message, hint: None, line_text: None, width: 0, caret }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

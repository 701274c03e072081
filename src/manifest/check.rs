//! `kgit check`: what a set of files says, without a master.

use std::fmt;

use serde::Serialize;

use crate::domain::desired::TreeChange;
use crate::domain::diagnostic::{Diagnostic, Severity};
use crate::domain::words::counted;
use crate::manifest::catalog::{Catalog, Counts};
use crate::manifest::render::Rendered;

/// The outcome of a check. Displays as text for people.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    pub counts: Counts,
    pub diagnostics: Vec<Diagnostic>,
}

/// Checks files on their own: the change is one from nothing.
pub fn check(files: &TreeChange) -> CheckReport {
    let mut catalog = Catalog::default();
    catalog.apply(files);
    CheckReport { counts: catalog.counts(), diagnostics: catalog.diagnostics() }
}

impl CheckReport {
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// `12 objects in 4 files: 1 error, 2 warnings, 3 notes`
    pub fn summary(&self) -> String {
        let Counts { files, objects, .. } = self.counts;
        let found = [
            (self.count(Severity::Error), "error"),
            (self.count(Severity::Warning), "warning"),
            (self.count(Severity::Note), "note"),
        ];
        let found: Vec<_> = found
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| counted(count, word))
            .collect();
        let found = match found.is_empty() {
            true => "no findings".to_owned(),
            false => found.join(", "),
        };
        format!("{} in {}: {found}", counted(objects, "object"), counted(files, "file"))
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{}", Rendered(diagnostic))?;
        }
        writeln!(f, "{}", self.summary())
    }
}

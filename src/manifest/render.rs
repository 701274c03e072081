//! Diagnostics as text for people:
//!
//! ```text
//! error: Service `web` refers to ConfigMap `web-env`, which no manifest defines
//!   --> apps/web/service.yaml:14:11
//!    |
//! 14 |     name: web-env
//!    |           ^^^^^^^
//! hint: did you mean `web-envs`?
//! ```

use std::fmt;

use unicode_width::UnicodeWidthStr as _;

use crate::domain::diagnostic::{Diagnostic, Severity};
use crate::domain::words::printable;

/// One diagnostic, ready to be written.
#[derive(Clone, Copy, Debug)]
pub struct Rendered<'a>(pub &'a Diagnostic);

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(diagnostic) = self;
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        writeln!(f, "{severity}: {}", printable(&diagnostic.message))?;
        writeln!(f, "  --> {}", printable(&diagnostic.place.to_string()))?;
        if let Some(line) = &diagnostic.line_text {
            write_line(f, diagnostic, line)?;
        }
        match &diagnostic.hint {
            Some(hint) => writeln!(f, "hint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic, line: &str) -> fmt::Result {
    let number = diagnostic.place.line.to_string();
    let gutter = " ".repeat(number.len());
    let before = (diagnostic.caret.max(1) - 1) as usize;
    let lead: String = line.chars().take(before).collect();
    let marked: String = line.chars().skip(before).take(diagnostic.width.max(1) as usize).collect();
    let indent = " ".repeat(printable(&lead).width());
    let carets = "^".repeat(printable(&marked).width().max(1));
    writeln!(f, "{gutter} |")?;
    writeln!(f, "{number} | {}", printable(line).trim_end())?;
    writeln!(f, "{gutter} | {indent}{carets}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnostic::Place;

    fn render(line: &str, column: u32, width: u32) -> String {
        let place = Place::new("a.yaml", 7, column);
        let mut diagnostic = Diagnostic::new(Severity::Error, place, "x", "no");
        diagnostic.line_text = Some(line.to_owned());
        diagnostic.width = width;
        Rendered(&diagnostic).to_string()
    }

    #[test]
    fn the_caret_stands_under_wide_characters_and_tabs() {
        insta::assert_snapshot!(render("\t名: wert", 5, 4), @r"
        error: no
          --> a.yaml:7:5
          |
        7 |     名: wert
          |         ^^^^
        ");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = render("a\u{1b}[31m: \u{202e}x", 1, 1);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
}

//! Words that people read in several places.

use unicode_width::UnicodeWidthChar as _;

/// Columns that a tab is shown as.
const TAB: &str = "    ";

/// `1 pod`, `2 pods`.
pub fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}

/// Text that a terminal shows as it is, in one line: tabs as blanks, control characters and those
/// that change how the text around them is shown spelled out.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str(TAB),
            c if c.is_control() || is_invisible(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || c.width().is_none()
}

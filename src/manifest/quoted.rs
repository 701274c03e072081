//! Quoted text whose further lines stand too far to the left.
//!
//! YAML 1.2 wants them further in than what they belong to, and the YAML library says so; Go's YAML, and so kubectl,
//! reads them all the same, and tools in Go write them: the published manifests of the Gateway API have some. Spaces at
//! the start of such a line are no part of the text, so there may as well be more of them.

use std::borrow::Cow;

use crate::manifest::tree::{self, MAX_DEPTH};

/// Each pass sees to one line of each document; text of more such lines is refused as the library has it.
const MAX_PASSES: usize = 32;
/// Further in than whatever the line belongs to.
const INDENT: usize = 2 * MAX_DEPTH;

/// The text, with those lines indented. Lines stay where they are, and all columns but those of such lines.
pub fn indented(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for _ in 0..MAX_PASSES {
        let read = tree::read(&out);
        let shallow = read.failures.iter().filter(|failure| failure.code == tree::SHALLOW_QUOTE);
        let lines: Vec<u32> = shallow.map(|failure| failure.span.line).collect();
        if lines.is_empty() {
            break;
        }
        out = Cow::Owned(with_indent(&out, &lines));
    }
    out
}

/// Lines count from 1.
fn with_indent(text: &str, lines: &[u32]) -> String {
    let mut out = String::with_capacity(text.len() + lines.len() * INDENT);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if lines.contains(&number) {
            out.push_str(&" ".repeat(INDENT));
        }
        out.push_str(line);
    }
    out
}

//! Quoted text whose further lines stand too far to the left.
//!
//! YAML 1.2 wants them further in than what they belong to, and the YAML library says so; Go's YAML, and so kubectl,
//! reads them all the same, and tools in Go write them: the published manifests of the Gateway API have some. Spaces at
//! the start of such a line are no part of the text, so there may as well be more of them.

use std::borrow::Cow;

use crate::manifest::tree::{self, MAX_DEPTH, Problem};

/// What is read again to find where each such text begins and ends: some seconds' work, and more than the largest of
/// those manifests needs. Beyond it the rest is refused as the library has it.
const MAX_BYTES_READ: usize = 192 << 20;
/// Further in than whatever the line belongs to.
const INDENT: usize = 2 * MAX_DEPTH;

/// The text, with those lines indented. Lines stay where they are, and all columns but those of such lines.
pub fn indented(text: &str) -> Cow<'_, str> {
    within(text, MAX_BYTES_READ)
}

fn within(text: &str, mut budget: usize) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    for document in documents(text) {
        match repaired(document, &mut budget) {
            Some(repaired) => out.push_str(&repaired),
            None => out.push_str(document),
        }
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// Three dashes at the start of a line begin a document, wherever they stand.
fn documents(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices("\n---").map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    starts.push(text.len());
    starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// `None` where nothing was to be repaired. Each turn sees to one quoted text.
fn repaired(document: &str, budget: &mut usize) -> Option<String> {
    let mut out: Option<String> = None;
    loop {
        let text = out.as_deref().unwrap_or(document);
        let mut found = failures(text, budget).into_iter();
        let shallow = found.find(|failure| failure.code == tree::SHALLOW_QUOTE);
        match shallow.and_then(|shallow| with_indent(text, shallow.span.line, budget)) {
            Some(next) => out = Some(next),
            None => return out,
        }
    }
}

/// None once the budget is spent.
fn failures(text: &str, budget: &mut usize) -> Vec<Problem> {
    match budget.checked_sub(text.len()) {
        Some(left) => {
            *budget = left;
            tree::read(text).failures
        }
        None => Vec::new(),
    }
}

/// Indents all further lines of the quoted text that this line is one of. Lines count from 1.
fn with_indent(text: &str, line: u32, budget: &mut usize) -> Option<String> {
    let before = offset(text, line, 1)?;
    // Cut off here, the text is an unclosed one: that is told of its beginning.
    let unclosed = failures(text[..before].trim_end(), budget).pop()?;
    let start = offset(text, unclosed.span.line, unclosed.span.column)?;
    let end = Some(start + length(&text[start..])?).filter(|end| *end > before)?;
    let mut out = String::with_capacity(text.len() + INDENT);
    out.push_str(&text[..start]);
    for (index, part) in text[start..end].split_inclusive('\n').enumerate() {
        if index > 0 {
            out.push_str(&" ".repeat(INDENT));
        }
        out.push_str(part);
    }
    out.push_str(&text[end..]);
    Some(out)
}

/// The byte at which a line's column is.
fn offset(text: &str, line: u32, column: u32) -> Option<usize> {
    let mut lines = text.split_inclusive('\n');
    let skipped: usize = lines.by_ref().take(line as usize - 1).map(str::len).sum();
    let rest = &text[skipped..];
    rest.char_indices().nth(column as usize - 1).map(|(at, _)| skipped + at)
}

/// Of the quoted text that this one begins with, in bytes, its quotes included.
fn length(text: &str) -> Option<usize> {
    let mut letters = text.char_indices();
    let (_, quote) = letters.next().filter(|(_, quote)| matches!(quote, '\'' | '"'))?;
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && quote == '"' {
            letters.next();
        } else if letter == quote {
            let doubled = quote == '\'' && text[at + 1..].starts_with(quote);
            if !doubled {
                return Some(at + 1);
            }
            letters.next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_texts_that_stand_too_far_to_the_left_are_moved() {
        let far = " ".repeat(INDENT);
        let check = |text: &str, expected: &str| assert_eq!(indented(text), expected, "{text}");
        check("a: 'b\n c'\n", "a: 'b\n c'\n");
        check(
            "a:\n  b: 'c\n   d\n e'\nf: g\n",
            &format!("a:\n  b: 'c\n{far}   d\n{far} e'\nf: g\n"),
        );
        check("a: 'it''s\nb' # c\nd: 'e'\n", &format!("a: 'it''s\n{far}b' # c\nd: 'e'\n"));
        check("a: \"ü\\\"\nb\"\n", &format!("a: \"ü\\\"\n{far}b\"\n"));
        check("a: 1\n---\nb: 'c\nd'\n", &format!("a: 1\n---\nb: 'c\n{far}d'\n"));
        // Without an end there is nothing to be told of it.
        check("a: 'b\nc\n", "a: 'b\nc\n");
    }

    #[test]
    fn a_text_of_nothing_but_such_lines_is_seen_to_at_once() {
        let text = format!("a:\n  b: '{}'\n", "c\n".repeat(10_000));
        assert!(tree::read(&indented(&text)).failures.is_empty());
    }

    #[test]
    fn what_would_take_too_long_is_left_as_it_is() {
        let text = "- 'a\nb'\n".repeat(100);
        assert!(!tree::read(&within(&text, 10 * text.len())).failures.is_empty());
        assert!(tree::read(&indented(&text)).failures.is_empty());
    }
}

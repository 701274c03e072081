//! Rust source as the rules need it: without comments and literals, and as the paths that it names.
//!
//! A scanner, not a parser: it knows where text is code, how `use` trees unfold and which lines are test code.

/// A path such as `crate::plan::tick`, as code names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    /// Counted from 1.
    pub line: usize,
    /// Inside a `#[cfg(test)]` module.
    pub in_test: bool,
    /// How many inline modules it stands in.
    pub depth: usize,
    /// Part of a `pub use`.
    pub re_exported: bool,
}

impl Path {
    pub fn is(&self, start: &[&str]) -> bool {
        self.segments.len() >= start.len() && self.segments.iter().zip(start).all(|(a, b)| a == b)
    }
}

/// The code alone: comments and the insides of literals become blanks, line by line as it was.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        for &found in &chars[at..end] {
            out.push(if found == '\n' { '\n' } else { ' ' });
        }
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts here ends; `at` itself if none does.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == '/' => find(chars, at, |c| c == '\n'),
        '/' if next == '*' => block_comment(chars, at),
        '"' => string(chars, at + 1),
        'r' if !in_word && (next == '"' || next == '#') => raw_string(chars, at + 1).unwrap_or(at),
        'b' if !in_word && next == 'r' => raw_string(chars, at + 2).unwrap_or(at),
        '\'' => character(chars, at),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| wanted(chars[at])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let quote = find(chars, from, |c| c != '#');
    let hashes = quote - from;
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let closes =
        |at: usize| chars[at] == '"' && (1..=hashes).all(|more| chars.get(at + more) == Some(&'#'));
    Some((quote + 1..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + 1 + hashes))
}

/// A character literal, or nothing where the quote begins a lifetime.
fn character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (find(chars, at + 3, |c| c == '\'') + 1).min(chars.len()),
        (_, Some('\'')) => at + 3,
        _ => at,
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    PathSep,
    Mark(char),
}

fn tokens(code: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let c = chars[at];
        if c.is_alphanumeric() || c == '_' {
            let end = find(&chars, at, |c| !(c.is_alphanumeric() || c == '_'));
            found.push((Token::Word(chars[at..end].iter().collect()), line));
            at = end;
            continue;
        }
        if c == ':' && chars.get(at + 1) == Some(&':') {
            found.push((Token::PathSep, line));
            at += 2;
            continue;
        }
        if c == '\n' {
            line += 1;
        } else if !c.is_whitespace() {
            found.push((Token::Mark(c), line));
        }
        at += 1;
    }
    found
}

/// Every path that the source names, `use` trees unfolded.
pub fn paths(text: &str) -> Vec<Path> {
    let code = code(text);
    let mut scan =
        Scan { tokens: tokens(&code), at: 0, modules: Vec::new(), braces: 0, paths: vec![] };
    scan.run();
    scan.paths
}

struct Scan {
    tokens: Vec<(Token, usize)>,
    at: usize,
    /// The inline modules we are in: the depth of braces outside each, and whether it is test code.
    modules: Vec<(usize, bool)>,
    braces: usize,
    paths: Vec<Path>,
}

impl Scan {
    fn run(&mut self) {
        let mut test_next = false;
        while self.at < self.tokens.len() {
            if self.attribute_is_test() {
                test_next = true;
            }
            match self.token(0).cloned() {
                Some(Token::Word(word)) if word == "use" && self.use_starts() => self.use_item(),
                Some(Token::Word(word)) if word == "mod" => self.module(&mut test_next),
                Some(Token::Word(_)) => self.inline_path(),
                Some(Token::Mark('{')) => self.brace(1),
                Some(Token::Mark('}')) => self.brace(-1),
                _ => self.at += 1,
            }
        }
    }

    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.token(ahead), Some(Token::Word(found)) if found == word)
    }

    /// `#[cfg(test)]` stands here; `cfg(not(test))` is something else.
    fn attribute_is_test(&self) -> bool {
        self.token(0) == Some(&Token::Mark('#'))
            && self.is_word(2, "cfg")
            && self.is_word(4, "test")
    }

    /// `use` as an item, not the `use<'a>` of a return type.
    fn use_starts(&self) -> bool {
        self.token(1) != Some(&Token::Mark('<'))
    }

    fn brace(&mut self, step: i8) {
        self.at += 1;
        if step > 0 {
            self.braces += 1;
            return;
        }
        self.braces = self.braces.saturating_sub(1);
        if self.modules.last().is_some_and(|(outside, _)| *outside == self.braces) {
            self.modules.pop();
        }
    }

    fn module(&mut self, test_next: &mut bool) {
        let inline = self.token(2) == Some(&Token::Mark('{'));
        self.at += if inline { 2 } else { 1 };
        if inline {
            self.modules.push((self.braces, *test_next));
        }
        *test_next = false;
    }

    fn push(&mut self, segments: Vec<String>, line: usize, re_exported: bool) {
        let in_test = self.modules.iter().any(|(_, test)| *test);
        let depth = self.modules.len();
        self.paths.push(Path { segments, line, in_test, depth, re_exported });
    }

    fn inline_path(&mut self) {
        let line = self.tokens[self.at].1;
        let mut segments = Vec::new();
        while let Some(Token::Word(word)) = self.token(0).cloned() {
            segments.push(word);
            self.at += 1;
            if self.token(0) != Some(&Token::PathSep) {
                break;
            }
            self.at += 1;
        }
        if segments.len() > 1 {
            self.push(segments, line, false);
        } else if let [word] = segments.as_slice()
            && ["async", "await"].contains(&word.as_str())
        {
            self.push(segments, line, false);
        }
    }

    fn use_item(&mut self) {
        let re_exported = self.is_public();
        self.at += 1;
        self.use_tree(&[], re_exported);
    }

    fn is_public(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map(|at| &self.tokens[at].0);
        before(1) == Some(&Token::Word("pub".to_owned())) || before(1) == Some(&Token::Mark(')'))
    }

    fn use_tree(&mut self, start: &[String], re_exported: bool) {
        let mut segments = start.to_vec();
        loop {
            let line = self.tokens.get(self.at).map_or(0, |(_, line)| *line);
            match self.token(0).cloned() {
                Some(Token::PathSep) => self.at += 1,
                Some(Token::Word(word)) if word == "as" => self.at += 2,
                Some(Token::Word(word)) => {
                    segments.push(word);
                    self.at += 1;
                    if self.token(0) != Some(&Token::PathSep) {
                        self.push(segments.clone(), line, re_exported);
                    }
                }
                Some(Token::Mark('*')) => {
                    segments.push("*".to_owned());
                    self.push(segments.clone(), line, re_exported);
                    self.at += 1;
                }
                Some(Token::Mark('{')) => {
                    self.use_group(&segments, re_exported);
                    return;
                }
                _ => return,
            }
        }
    }

    fn use_group(&mut self, start: &[String], re_exported: bool) {
        self.at += 1;
        loop {
            match self.token(0) {
                Some(Token::Mark('}')) | None => {
                    self.at += 1;
                    return;
                }
                Some(Token::Mark(',')) => self.at += 1,
                Some(Token::Mark(_)) if self.token(0) != Some(&Token::Mark('*')) => self.at += 1,
                _ => self.use_tree(start, re_exported),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        paths(text)
            .iter()
            .map(|path| format!("{}:{}", path.line, path.segments.join("::")))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "// crate::a::b\nlet x = \"crate::c\"; /* crate::d /* e */ f */ let y = r#\"crate::\"g\"#;\nlet z: &'a str = 'x'; crate::h::i";
        assert_eq!(named(text), ["3:crate::h::i"]);
    }

    #[test]
    fn use_trees_unfold() {
        let text = "use crate::{plan::{tick, safety as s}, store,\n    diff::*};\nuse std::fs;";
        let expected = [
            "1:crate::plan::tick",
            "1:crate::plan::safety",
            "1:crate::store",
            "2:crate::diff::*",
            "3:std::fs",
        ];
        assert_eq!(named(text), expected);
    }

    #[test]
    fn test_modules_are_told_apart() {
        let text =
            "#[cfg(test)]\nmod tests { use super::*; fn f() { if x { a::b() } } }\nuse c::d;";
        let found: Vec<(usize, bool)> = paths(text).iter().map(|p| (p.line, p.in_test)).collect();
        assert_eq!(found, [(2, true), (2, true), (3, false)]);
    }

    #[test]
    fn re_exports_are_told_apart() {
        let found: Vec<bool> = paths("pub use a::b; use c::d; pub(crate) use e::f;")
            .iter()
            .map(|p| p.re_exported)
            .collect();
        assert_eq!(found, [true, false, true]);
    }
}

//! YAML and JSON text as a tree in which every key and value knows its place.
//!
//! The parser's events come from the YAML library; here they become nodes, aliases and merge keys
//! are resolved, and budgets are kept: what a document may cost does not depend on what is in it.
//! What a node means is not decided here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag, options};

use crate::manifest::scalar::{self, Scalar};

/// Published manifests stay below 30; every walk over the tree recurses this deep at most.
pub const MAX_DEPTH: usize = 100;
/// Nodes of one file. 48 bytes each: a file of brackets can't ask for more than that.
const MAX_NODES: usize = 1_000_000;
/// What the aliases of one file may add, in nodes and 32-byte pieces of text: far beyond any
/// manifest written by hand, far below what a bomb needs.
const MAX_ALIAS_COST: usize = 100_000;
/// Below this many keys a duplicate is found faster by looking at all of them.
const FEW_KEYS: usize = 16;

/// Where something stands; lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub line: u32,
    pub column: u32,
    /// In characters; 0 where it ends on another line.
    pub width: u32,
}

#[derive(Clone, Debug)]
pub struct Node<'t> {
    pub span: Span,
    pub value: Value<'t>,
}

#[derive(Clone, Debug)]
pub enum Value<'t> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
}

#[derive(Clone, Debug)]
pub struct Entry<'t> {
    pub key: Cow<'t, str>,
    pub key_span: Span,
    pub value: Node<'t>,
}

/// One document that holds something.
#[derive(Debug)]
pub struct Document<'t> {
    pub root: Node<'t>,
    /// What is wrong with the text although a tree could be built.
    pub problems: Vec<Problem>,
}

/// Something about the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub span: Span,
    pub code: &'static str,
    pub message: String,
    pub hint: Option<&'static str>,
}

/// Everything that a file's text holds.
#[derive(Debug, Default)]
pub struct Text<'t> {
    pub documents: Vec<Document<'t>>,
    /// Documents that could not be built. The others of the file are still there.
    pub failures: Vec<Problem>,
}

impl<'t> Node<'t> {
    /// The entry of that name, if this is a map that has one.
    pub fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Null, or a list, a map or a text without content.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// How many values it is made of, itself included.
    pub fn values(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Node::values).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.values()).sum(),
            _ => 0,
        }
    }

    /// What it costs to copy: nodes, and 32-byte pieces of text.
    fn cost(&self) -> usize {
        1 + match &self.value {
            Value::Text(text) => text.len() / 32,
            Value::List(items) => items.iter().map(Node::cost).sum(),
            Value::Map(entries) => entries.iter().map(|e| e.key.len() / 32 + e.value.cost()).sum(),
            _ => 0,
        }
    }

    fn height(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Node::height).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|e| e.value.height()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Reads all documents of a text. Documents without content are left out.
pub fn read(text: &str) -> Text<'_> {
    let options = options! { emit_comments: false, flow_nesting_limit: MAX_DEPTH };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut out = Text::default();
    let mut nodes = 0;
    loop {
        match document(&mut parser, &mut nodes) {
            Ok(Some(document)) => out.documents.push(document),
            Ok(None) => return out,
            Err(problem) => {
                let spent = problem.code == TOO_COMPLEX;
                out.failures.push(problem);
                // A file that spent its budget gets no second one for the rest of it.
                if spent || !parser.proceed_next_document().unwrap_or(false) {
                    return out;
                }
            }
        }
    }
}

const TOO_COMPLEX: &str = "too-complex";
/// A quoted text's further line is not further in than what it belongs to.
pub const SHALLOW_QUOTE: &str = "shallow-quote";
const TOO_DEEP: &str = "this is nested more than 100 levels deep";

/// The next document with content; `None` at the end of the text.
fn document<'t>(
    parser: &mut Parser<'t, impl serde_yaml::granit_parser::BorrowedInput<'t>>,
    nodes: &mut usize,
) -> Result<Option<Document<'t>>, Problem> {
    let mut builder = Builder { nodes: *nodes, ..Builder::default() };
    while let Some(next) = parser.next_event() {
        let (event, at) = next.map_err(|error| syntax(&error))?;
        let (start, end) = (at.start, at.end);
        let span = Span {
            line: number(start.line()),
            column: number(start.col() + 1),
            width: if start.line() == end.line() {
                number(end.col().saturating_sub(start.col()))
            } else {
                0
            },
        };
        match event {
            Event::DocumentEnd => {
                *nodes = builder.nodes;
                if let Some(root) = builder.root.take().filter(|root| !root.is_empty()) {
                    return Ok(Some(Document { root, problems: builder.problems }));
                }
                builder = Builder { nodes: *nodes, ..Builder::default() };
            }
            event => builder.take(event, span)?,
        }
    }
    Ok(None)
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn syntax(error: &ScanError) -> Problem {
    let marker = error.marker();
    let span = Span { line: number(marker.line()), column: number(marker.col() + 1), width: 1 };
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return too_complex(span, TOO_DEEP);
    }
    let message = error.info();
    let hint = if message.contains("tab") {
        Some("YAML is indented with spaces, not with tabs")
    } else if message.contains("mapping values are not allowed") {
        Some("check the indentation, and quote a value that has `: ` in it")
    } else {
        None
    };
    let code = match error.kind() {
        ErrorKind::InvalidQuotedScalarIndent => SHALLOW_QUOTE,
        _ => "syntax",
    };
    Problem { span, code, message: format!("this is not YAML: {message}"), hint }
}

fn too_complex(span: Span, message: &str) -> Problem {
    let message = message.to_owned();
    Problem { span, code: TOO_COMPLEX, message, hint: Some("no manifest needs this; split it up") }
}

/// Builds the tree of one document from its events, without recursion.
#[derive(Default)]
struct Builder<'t> {
    root: Option<Node<'t>>,
    open: Vec<Open<'t>>,
    anchors: BTreeMap<usize, Node<'t>>,
    problems: Vec<Problem>,
    nodes: usize,
    alias_cost: usize,
}

/// A list or map whose end is still to come.
struct Open<'t> {
    node: Node<'t>,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<(Cow<'t, str>, Span)>,
    /// Maps named by `<<`, in order.
    merges: Vec<Node<'t>>,
    seen: BTreeSet<Cow<'t, str>>,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if plain && text == "<<" && self.expects_key() {
                    return self.key(text, span);
                }
                if self.expects_key() {
                    self.warn_of_lost_key(&text, plain, span);
                    if anchor != 0 {
                        let value = Value::Text(text.clone());
                        self.anchors.insert(anchor, Node { span, value });
                    }
                    return self.key(text, span);
                }
                let value = scalar_value(text, plain, tag.as_deref());
                self.place(Node { span, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Value::List(Vec::new()), span, anchor),
            Event::MappingStart(_, anchor, _) => self.open(Value::Map(Vec::new()), span, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, span),
            _ => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none())
    }

    /// kubectl reads the plain key `on` as `true`; here it stays what was written.
    fn warn_of_lost_key(&mut self, text: &str, plain: bool, span: Span) {
        if plain && matches!(scalar::resolve(text), Scalar::Bool(_)) && text.len() < 4 {
            self.problems.push(Problem {
                span,
                code: "ambiguous-key",
                message: format!("the key `{text}` is a boolean to kubectl; kgit takes it as text"),
                hint: Some("quote it"),
            });
        }
    }

    fn key(&mut self, text: Cow<'t, str>, span: Span) -> Result<(), Problem> {
        if let Some(open) = self.open.last_mut() {
            open.key = Some((text, span));
        }
        Ok(())
    }

    fn open(&mut self, value: Value<'t>, span: Span, anchor: usize) -> Result<(), Problem> {
        if self.expects_key() {
            return Err(self.not_a_key(span));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_complex(span, TOO_DEEP));
        }
        let node = Node { span: Span { width: 1, ..span }, value };
        let (merges, seen) = (Vec::new(), BTreeSet::new());
        self.open.push(Open { node, anchor, key: None, merges, seen });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut open.node.value {
            for merged in open.merges.drain(..) {
                merge(entries, merged);
            }
        }
        self.place(open.node, open.anchor)
    }

    fn not_a_key(&self, span: Span) -> Problem {
        let message = "a key must be text here, not a list or a map".to_owned();
        let outer = self.open.last().map(|open| open.node.span);
        let is_template =
            outer.is_some_and(|outer| outer.line == span.line && outer.column + 1 == span.column);
        let hint = match is_template {
            true => "`{{` looks like a template: render it first, or exclude it",
            false => "text that starts with `{` or `[` must be quoted",
        };
        Problem { span, code: "syntax", message, hint: Some(hint) }
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&id) else {
            let message = "this alias stands inside of what it names".to_owned();
            return Err(Problem { span, code: "syntax", message, hint: None });
        };
        if self.expects_key() {
            let Value::Text(text) = &node.value else { return Err(self.not_a_key(span)) };
            let text = text.clone();
            return self.key(text, span);
        }
        self.alias_cost += node.cost();
        if self.alias_cost > MAX_ALIAS_COST {
            return Err(too_complex(span, "the aliases of this file repeat too much of it"));
        }
        if self.open.len() + node.height() > MAX_DEPTH {
            return Err(too_complex(span, "aliases nest this more than 100 levels deep"));
        }
        let node = node.clone();
        self.place(node, 0)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node<'t>, anchor: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_complex(node.span, "this file has more than 1,000,000 values"));
        }
        if anchor != 0 {
            // The copy counts: anchors within anchors would otherwise be copied for free.
            self.alias_cost += node.cost();
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            _ => {
                if let Some((key, key_span)) = open.key.take() {
                    let twice = insert(open, Entry { key, key_span, value: node });
                    self.problems.extend(twice);
                }
            }
        }
        Ok(())
    }
}

/// Adds an entry; of two with one key the later counts, as in kubectl, and it is said.
fn insert<'t>(open: &mut Open<'t>, entry: Entry<'t>) -> Option<Problem> {
    if entry.key == "<<" {
        match entry.value.value {
            Value::List(items) => open.merges.extend(items),
            value => open.merges.push(Node { span: entry.value.span, value }),
        }
        return None;
    }
    let Value::Map(entries) = &mut open.node.value else { return None };
    if entries.len() == FEW_KEYS {
        open.seen = entries.iter().map(|entry| entry.key.clone()).collect();
    }
    let known = match entries.len() < FEW_KEYS {
        true => entries.iter().any(|other| other.key == entry.key),
        false => !open.seen.insert(entry.key.clone()),
    };
    if !known {
        entries.push(entry);
        return None;
    }
    let first = entries.iter_mut().find(|other| other.key == entry.key)?;
    let problem = Problem {
        span: entry.key_span,
        code: "duplicate-key",
        message: format!(
            "the key `{}` is given twice, first at line {}, column {}",
            entry.key, first.key_span.line, first.key_span.column
        ),
        hint: Some("remove one of the two"),
    };
    *first = entry;
    Some(problem)
}

/// Adds what a merge key brings in; a key that is there already stays.
fn merge<'t>(entries: &mut Vec<Entry<'t>>, merged: Node<'t>) {
    if let Value::Map(more) = merged.value {
        for entry in more {
            if !entries.iter().any(|other| other.key == entry.key) {
                entries.push(entry);
            }
        }
    }
}

fn scalar_value<'t>(text: Cow<'t, str>, plain: bool, tag: Option<&Tag>) -> Value<'t> {
    let resolve = match tag.and_then(Tag::core_suffix) {
        Some("str" | "binary") => false,
        Some(_) => true,
        None => plain,
    };
    if !resolve {
        return Value::Text(text);
    }
    match scalar::resolve(&text) {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Int(value) => Value::Int(value),
        Scalar::Unsigned(value) => Value::Unsigned(value),
        // Written out as JSON, as kubectl does, a whole float is an integer.
        Scalar::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
            Value::Int(value as i64)
        }
        Scalar::Float(value) => Value::Float(value),
        Scalar::Text => Value::Text(text),
    }
}

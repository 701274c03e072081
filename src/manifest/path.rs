//! Where in an object a check stands: a chain of keys and positions, spelled out only when there
//! is something to say about it.

use std::fmt;

use crate::manifest::tree::{Node, Span, Value};

#[derive(Clone, Copy, Debug)]
pub struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    part: Part<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Part<'p> {
    Root,
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub const ROOT: Path<'static> = Path { parent: None, part: Part::Root };

    pub fn key(&'p self, key: &'p str) -> Path<'p> {
        Path { parent: Some(self), part: Part::Key(key) }
    }

    /// What stands beside it.
    pub fn sibling(&self, key: &'p str) -> Path<'p>
    where
        Self: 'p,
    {
        Path { parent: self.parent, part: Part::Key(key) }
    }

    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path { parent: Some(self), part: Part::Index(index) }
    }

    /// As people write it: `spec.containers[0].name`.
    pub fn dotted(&self) -> String {
        let mut text = String::new();
        self.write_dotted(&mut text);
        text
    }

    fn write_dotted(&self, text: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_dotted(text);
        }
        match self.part {
            Part::Root => {}
            Part::Key(key) if text.is_empty() => text.push_str(key),
            Part::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Part::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }

    /// What of the path exists in the tree.
    pub fn find<'n, 't>(&self, root: &'n Node<'t>) -> Found<'n, 't> {
        let Some(parent) = self.parent else {
            return Found { node: root, place: root.span, value: root.span, complete: true };
        };
        let found = parent.find(root);
        if !found.complete {
            return found;
        }
        let next = match (self.part, &found.node.value) {
            (Part::Root, _) => None,
            (Part::Key(key), _) => {
                found.node.entry(key).map(|entry| (&entry.value, entry.key_span))
            }
            (Part::Index(index), Value::List(items)) => {
                items.get(index).map(|item| (item, item.span))
            }
            (Part::Index(_), _) => None,
        };
        match next {
            Some((node, place)) => Found { node, place, value: node.span, complete: true },
            None => Found { complete: false, ..found },
        }
    }

    /// Calls `visit` with each node on the way, outermost first.
    pub fn any_on_the_way(&self, root: &Node<'_>, visit: &impl Fn(&Node<'_>) -> bool) -> bool {
        self.parent.is_some_and(|parent| parent.any_on_the_way(root, visit))
            || visit(self.find(root).node)
    }
}

/// The deepest node of a path that the tree has.
#[derive(Clone, Copy, Debug)]
pub struct Found<'n, 't> {
    pub node: &'n Node<'t>,
    /// Of the key, or of the item in a list.
    pub place: Span,
    pub value: Span,
    /// False if the path goes on and the tree does not.
    pub complete: bool,
}

/// A JSON pointer.
impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.part {
            Part::Root => Ok(()),
            Part::Key(key) => write!(f, "/{}", escape(key)),
            Part::Index(index) => write!(f, "/{index}"),
        }
    }
}

/// One part of a JSON pointer.
pub fn escape(key: &str) -> std::borrow::Cow<'_, str> {
    match key.contains(['~', '/']) {
        true => key.replace('~', "~0").replace('/', "~1").into(),
        false => key.into(),
    }
}

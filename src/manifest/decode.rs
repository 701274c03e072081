//! From the tree into the published Kubernetes types.
//!
//! A `serde` deserialiser over [`Node`] that does not stop at the first error: a value of the
//! wrong type is reported at its place and read as absent, a field that the type does not have is
//! reported with the nearest one that it has, and a field that kgit does not act on is named. The
//! types' own field lists say what exists, so there is no second list to keep.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};

use crate::domain::diagnostic::Severity;
use crate::manifest::findings::{Findings, did_you_mean};
use crate::manifest::scalar::{self, Scalar};
use crate::manifest::tree::{Entry, Node, Span, Value};
use crate::manifest::unused;

/// Reads one object. Whatever could not be read has its default, and its place is in `poisoned`.
pub fn decode<T: for<'de> Deserialize<'de>>(
    root: &Node<'_>,
    findings: &mut Findings<'_>,
    poisoned: &mut Vec<Span>,
) -> Option<T> {
    let log = RefCell::new(Log::default());
    let read = T::deserialize(Reader { node: root, log: &log, encoding: Encoding::Plain });
    if let Err(error) = &read {
        log.borrow_mut().wrong(root, error);
    }
    let log = log.into_inner();
    for Said { severity, span, code, message, hint } in log.said {
        findings.push(severity, span, code, message, hint);
    }
    poisoned.extend(log.poisoned);
    read.ok()
}

#[derive(Default)]
struct Log {
    said: Vec<Said>,
    poisoned: Vec<Span>,
}

struct Said {
    severity: Severity,
    span: Span,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Log {
    fn say(
        &mut self,
        severity: Severity,
        span: Span,
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) {
        // A file's findings are bounded as well; this bounds what waits for them.
        if self.said.len() < MAX_SAID {
            self.said.push(Said { severity, span, code, message, hint });
        }
    }

    fn wrong(&mut self, node: &Node<'_>, error: &Wrong) {
        self.poisoned.push(node.span);
        let (message, hint) = (error.message.clone(), error.hint.clone());
        self.say(Severity::Error, node.span, "wrong-type", message, hint);
    }

    fn unknown(&mut self, entry: &Entry<'_>, type_name: &str, fields: &[&'static str]) {
        let message = match type_name {
            "" => format!("unknown field `{}`", entry.key),
            name => format!("unknown field `{}` of {name}", entry.key),
        };
        let hint = match unused::belongs(type_name, &entry.key) {
            Some(where_to) => Some(where_to.to_owned()),
            None => did_you_mean(&entry.key, fields.iter().copied()),
        };
        self.say(Severity::Error, entry.key_span, "unknown-field", message, hint);
    }

    fn without_effect(&mut self, type_name: &str, entry: &Entry<'_>) {
        if let Some(why) = unused::field(type_name, &entry.key).filter(|_| asks(&entry.value)) {
            let message = format!("`{}` has no effect: {why}", entry.key);
            self.say(Severity::Warning, entry.key_span, "no-effect", message, None);
        }
    }
}

/// False for values that say what is the case anyway: absent, empty, `false`.
fn asks(node: &Node<'_>) -> bool {
    !node.is_empty() && !matches!(node.value, Value::Bool(false))
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Wrong {
    message: String,
    hint: Option<String>,
}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), hint: None }
    }
}

#[derive(Clone, Copy)]
struct Reader<'n, 't, 'l> {
    node: &'n Node<'t>,
    log: &'l RefCell<Log>,
    encoding: Encoding,
}

/// How the texts of a map are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Base64,
}

impl Encoding {
    fn of(known: Option<(&'static str, &'static [&'static str])>, key: &str) -> Self {
        match (known.map(|known| known.0), key) {
            (Some("Secret"), "data") | (Some("ConfigMap"), "binaryData") => Self::Base64,
            _ => Self::Plain,
        }
    }
}

impl<'n, 't, 'l> Reader<'n, 't, 'l> {
    fn wrong<T>(&self, expected: &str) -> Result<T, Wrong> {
        let hint = match (&self.node.value, expected) {
            (Value::Bool(_) | Value::Int(_) | Value::Unsigned(_) | Value::Float(_), TEXT) => {
                Some("quote it".to_owned())
            }
            (Value::Text(text), _) => match (scalar::resolve(text), expected) {
                (Scalar::Int(_) | Scalar::Unsigned(_), NUMBER) | (Scalar::Bool(_), TRUTH) => {
                    Some("write it without quotes".to_owned())
                }
                _ => None,
            },
            _ => None,
        };
        let message = format!("expected {expected}, found {}", self.found());
        Err(Wrong { message, hint })
    }

    fn found(&self) -> String {
        match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Int(value) => format!("the number {value}"),
            Value::Unsigned(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) if text.chars().count() > 40 => "text".to_owned(),
            Value::Text(text) => format!("the text {text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "an object".to_owned(),
        }
    }

    fn read<V: Deserialize<'n>>(self) -> Result<V, Wrong> {
        match V::deserialize(self) {
            Ok(value) => Ok(value),
            Err(error) => {
                self.log.borrow_mut().wrong(self.node, &error);
                V::deserialize(Absent)
            }
        }
    }

    fn fields(
        self,
        entries: &'n [Entry<'t>],
        known: Option<(&'static str, &'static [&'static str])>,
    ) -> Fields<'n, 't, 'l> {
        let (log, encoding) = (self.log, self.encoding);
        Fields { entries: entries.iter(), value: None, known, log, encoding }
    }

    /// As Go's decoder, without minding line ends.
    fn base64<V: Visitor<'n>>(self, text: &str, visitor: V) -> Result<V::Value, Wrong> {
        let joined = text.replace(['\n', '\r'], "");
        visitor.visit_str(&joined).map_err(|error: Wrong| Wrong {
            message: format!("this is not base64: {}", error.message.trim_end_matches('.')),
            hint: Some("plain text goes under `stringData` in a Secret".to_owned()),
        })
    }

    fn map<V: Visitor<'n>>(
        self,
        visitor: V,
        known: Option<(&'static str, &'static [&'static str])>,
    ) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(self.fields(entries, known)),
            Value::Null => visitor.visit_map(self.fields(&[], known)),
            _ => self.wrong("an object"),
        }
    }
}

/// Of one object.
const MAX_SAID: usize = 1000;

const TEXT: &str = "text";
const NUMBER: &str = "a whole number";
const TRUTH: &str = "true or false";

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match self.node.value {
                Value::Int(value) => visitor.visit_i64(value),
                Value::Unsigned(value) => visitor.visit_u64(value),
                _ => self.wrong(NUMBER),
            }
        }
    )*};
}

macro_rules! as_any {
    ($($method:ident($($argument:ty),*))*) => {$(
        fn $method<V: Visitor<'n>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value, Wrong> {
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'n> Deserializer<'n> for Reader<'n, '_, '_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.map(visitor, None),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => self.wrong(TRUTH),
        }
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Text(text) if self.encoding == Encoding::Base64 => self.base64(text, visitor),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            _ => self.wrong(TEXT),
        }
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), log: self.log }),
            _ => self.wrong("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.map(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.map(visitor, Some((name, fields)))
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    as_any! {
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_bytes()
        deserialize_byte_buf() deserialize_unit() deserialize_unit_struct(&'static str)
        deserialize_tuple(usize) deserialize_tuple_struct(&'static str, usize)
        deserialize_enum(&'static str, &'static [&'static str]) deserialize_identifier()
    }
}

struct Items<'n, 't, 'l> {
    items: std::slice::Iter<'n, Node<'t>>,
    log: &'l RefCell<Log>,
}

impl<'n> SeqAccess<'n> for Items<'n, '_, '_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'n>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { node, log: self.log, encoding: Encoding::Plain }).map(Some)
    }

    /// An item that can't be read is reported and has its default, so that those after it keep
    /// their positions.
    fn next_element<T: Deserialize<'n>>(&mut self) -> Result<Option<T>, Wrong> {
        let Some(node) = self.items.next() else { return Ok(None) };
        Reader { node, log: self.log, encoding: Encoding::Plain }.read().map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'n, 't, 'l> {
    entries: std::slice::Iter<'n, Entry<'t>>,
    value: Option<&'n Entry<'t>>,
    /// The type's name and its fields; `None` where every key is fine.
    known: Option<(&'static str, &'static [&'static str])>,
    log: &'l RefCell<Log>,
    encoding: Encoding,
}

impl<'n, 't, 'l> Fields<'n, 't, 'l> {
    /// The next entry that the type wants to hear of.
    fn next(&mut self) -> Option<&'n Entry<'t>> {
        loop {
            let entry = self.entries.next()?;
            let Some((name, fields)) = self.known else { return Some(entry) };
            if !fields.contains(&entry.key.as_ref()) {
                self.log.borrow_mut().unknown(entry, name, fields);
            } else if !unused::is_server_side(name, &entry.key) {
                self.log.borrow_mut().without_effect(name, entry);
                return Some(entry);
            }
        }
    }

    fn waiting(&mut self) -> Result<Reader<'n, 't, 'l>, Wrong> {
        let entry = self.value.take();
        let entry = entry.ok_or_else(|| Wrong::custom("a value was asked for before its key"))?;
        // The entries of an encoded map are encoded, whatever their keys.
        let encoding = match self.encoding {
            Encoding::Base64 => Encoding::Base64,
            Encoding::Plain => Encoding::of(self.known, &entry.key),
        };
        Ok(Reader { node: &entry.value, log: self.log, encoding })
    }
}

impl<'n> MapAccess<'n> for Fields<'n, '_, '_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'n>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        let Some(entry) = self.next() else { return Ok(None) };
        self.value = Some(entry);
        seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(&entry.key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        seed.deserialize(self.waiting()?)
    }

    fn next_value<V: Deserialize<'n>>(&mut self) -> Result<V, Wrong> {
        self.waiting()?.read()
    }

    fn next_entry<K: Deserialize<'n>, V: Deserialize<'n>>(
        &mut self,
    ) -> Result<Option<(K, V)>, Wrong> {
        let Some(key) = self.next_key()? else { return Ok(None) };
        Ok(Some((key, self.next_value()?)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// Stands for a value that could not be read: whatever is asked for is empty.
struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str("")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_none()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_bool(false)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_i64(0)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_i64(0)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_f64(0.0)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(Nothing)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(Nothing)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_map(Nothing)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 u8 u16 u32 u64 f32 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

struct Nothing;

impl<'de> SeqAccess<'de> for Nothing {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        _seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        Ok(None)
    }
}

impl<'de> MapAccess<'de> for Nothing {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        _seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<S::Value, Wrong> {
        Err(Wrong::custom("nothing has no values"))
    }
}

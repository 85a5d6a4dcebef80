//! Values as slices of a JSON text, cut out in one pass and without building a tree.
//!
//! Every function here reads its whole text, and fails if that is not strict JSON, or is nested deeper than
//! [`scanner::MAX_DEPTH`]. A cut out slice is JSON, so only a function that gets a whole message can fail. No function
//! recurses, whatever the nesting.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::de::{Deserializer as _, Visitor};

pub(super) use self::scanner::NotJson;
use self::scanner::{Child, Scanner, Span};

mod scanner;

/// The kind of a JSON text, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    Object,
    Array,
    String,
    Null,
    /// A number, a boolean, or no JSON at all.
    Other,
}

impl JsonKind {
    pub(super) fn of(text: &str) -> Self {
        let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match text.bytes().find(|byte| !space(byte)) {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b'n') => Self::Null,
            _ => Self::Other,
        }
    }
}

/// Checks that `text` is JSON.
pub(super) fn check(text: &str) -> Result<(), NotJson> {
    whole(text).map(drop)
}

/// Cuts off the space around the value of `text`.
pub(super) fn whole(text: &str) -> Result<&str, NotJson> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value(0)?;
    scanner.end()?;
    Ok(cut(text, value))
}

/// Finds the member `name` of an object; the last, if there are several.
pub(super) fn member<'m>(text: &'m str, name: &str) -> Result<Option<&'m str>, NotJson> {
    let mut found = None;
    scan(text, |child| {
        if let Child::Member(key, value) = child
            // A name without escapes is as long as it is written.
            && (key.escaped || key.span.len() == name.len() + 2)
            && string(cut(text, key.span)) == name
        {
            found = Some(value);
        }
    })?;
    Ok(found.map(|value| cut(text, value)))
}

/// Finds the element of an array at `index`.
pub(super) fn element(text: &str, index: usize) -> Result<Option<&str>, NotJson> {
    let (mut found, mut next) = (None, 0);
    scan(text, |child| {
        if let Child::Element(value) = child {
            if next == index {
                found = Some(value);
            }
            next += 1;
        }
    })?;
    Ok(found.map(|value| cut(text, value)))
}

/// The children of an object or an array.
#[derive(Debug)]
pub(super) enum Children<'m> {
    /// Each name once, with its last value, in the order in which the names first came.
    Members(Vec<(Cow<'m, str>, &'m str)>),
    Elements(Vec<&'m str>),
    /// Neither an object nor an array.
    None,
}

/// Lists the children of the value of `text`.
pub(super) fn children(text: &str) -> Result<Children<'_>, NotJson> {
    let (mut members, mut elements) = (Vec::new(), Vec::new());
    let mut indices = HashMap::new();
    scan(text, |child| match child {
        Child::Element(value) => elements.push(cut(text, value)),
        Child::Member(key, value) => {
            let (name, value) = (string(cut(text, key.span)), cut(text, value));
            let index = *indices.entry(name.clone()).or_insert(members.len());
            match members.get_mut(index) {
                Some((_, earlier)) => *earlier = value,
                None => members.push((name, value)),
            }
        }
    })?;
    Ok(match JsonKind::of(text) {
        JsonKind::Object => Children::Members(members),
        JsonKind::Array => Children::Elements(elements),
        JsonKind::String | JsonKind::Null | JsonKind::Other => Children::None,
    })
}

/// Decodes a string that was cut out of a message with its quotes.
///
/// A lone surrogate, which UTF-8 cannot hold, becomes replacement characters.
pub(super) fn string(text: &str) -> Cow<'_, str> {
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match quoted {
        Some(characters) if !characters.contains('\\') => Cow::Borrowed(characters),
        _ => {
            let mut json = serde_json::Deserializer::from_str(text);
            // Cannot fail: the text has been read before.
            Cow::Owned(json.deserialize_bytes(UnescapedVisitor).unwrap_or_default())
        }
    }
}

/// Passes the children of the value of `text` to `each`, in order; a value that is neither an object nor an array has
/// none.
fn scan(text: &str, each: impl FnMut(Child)) -> Result<(), NotJson> {
    let mut scanner = Scanner::new(text);
    scanner.children(each)?;
    scanner.end()
}

/// A value begins and ends with ASCII characters, so that it can be cut out.
fn cut(text: &str, span: Span) -> &str {
    text.get(span).unwrap_or_default()
}

/// Takes the characters of a string, as bytes: serde_json does not check those for lone surrogates. As a `str` it would
/// refuse them, and JSON allows them.
struct UnescapedVisitor;

impl Visitor<'_> for UnescapedVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, characters: &[u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(characters).into_owned())
    }
}

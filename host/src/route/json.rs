//! Values as slices of a JSON text, cut out without building a tree.
//!
//! Every function here reads its whole text, and fails if that is not strict JSON. A cut out slice is JSON, so only a
//! function that gets a whole message can fail. No function recurses, whatever the nesting: serde_json skips a value in
//! a loop.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{de::StrRead, value::RawValue};

/// A text that is not JSON, or whose nesting makes it too costly to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotJson;

/// Limit of nested arrays and objects: as many as serde_json reads when it builds a tree.
const MAX_DEPTH: usize = 127;

/// Whether `body` is nested deeper than [`MAX_DEPTH`], which would endanger a function that recurses for each level.
pub(super) fn is_too_deep(body: &str) -> bool {
    // This settles it for all but the oddest messages, and for short ones at no cost.
    if body.len() <= MAX_DEPTH || count_openings(body) <= MAX_DEPTH {
        return false;
    }
    let mut depth: usize = 0;
    let mut in_string = false;
    let mut bytes = body.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Counts the opening brackets and braces in `body`, those in its strings included.
fn count_openings(body: &str) -> usize {
    // A chunk's count fits a byte. Without overflow checks the compiler can take many bytes at once, which is fifteen
    // times faster.
    let opening = |byte: &u8| u8::from(matches!(byte, b'[' | b'{'));
    let chunks = body.as_bytes().chunks(usize::from(u8::MAX));
    let counts = chunks.map(|chunk| {
        let count = |count: u8, byte| count.wrapping_add(opening(byte));
        usize::from(chunk.iter().fold(0, count))
    });
    counts.sum()
}

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
    match serde_json::from_str(text) {
        Ok(IgnoredAny) => Ok(()),
        Err(_) => Err(NotJson),
    }
}

/// Cuts off the space around the value of `text`.
pub(super) fn whole(text: &str) -> Result<&str, NotJson> {
    serde_json::from_str(text)
        .map(RawValue::get)
        .map_err(|_| NotJson)
}

/// Finds the member `name` of an object; the last, if there are several.
pub(super) fn member<'m>(text: &'m str, name: &str) -> Result<Option<&'m str>, NotJson> {
    match JsonKind::of(text) {
        JsonKind::Object => read(text, |json| json.deserialize_map(MemberVisitor(name))),
        JsonKind::Array | JsonKind::String | JsonKind::Null | JsonKind::Other => {
            check(text).map(|()| None)
        }
    }
}

/// Finds the element of an array at `index`.
pub(super) fn element(text: &str, index: usize) -> Result<Option<&str>, NotJson> {
    match JsonKind::of(text) {
        JsonKind::Array => read(text, |json| json.deserialize_seq(ElementVisitor(index))),
        JsonKind::Object | JsonKind::String | JsonKind::Null | JsonKind::Other => {
            check(text).map(|()| None)
        }
    }
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
    match JsonKind::of(text) {
        JsonKind::Object => {
            read(text, |json| json.deserialize_map(MembersVisitor)).map(Children::Members)
        }
        JsonKind::Array => {
            read(text, |json| json.deserialize_seq(ElementsVisitor)).map(Children::Elements)
        }
        JsonKind::String | JsonKind::Null | JsonKind::Other => check(text).map(|()| Children::None),
    }
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
        // Cannot fail: the text has been read before.
        _ => Cow::Owned(
            read(text, |json| json.deserialize_bytes(UnescapedVisitor)).unwrap_or_default(),
        ),
    }
}

/// Deserialises the whole of `text`.
fn read<'m, T>(
    text: &'m str,
    take: impl FnOnce(&mut serde_json::Deserializer<StrRead<'m>>) -> serde_json::Result<T>,
) -> Result<T, NotJson> {
    let mut json = serde_json::Deserializer::from_str(text);
    let taken = take(&mut json).map_err(|_| NotJson)?;
    json.end().map_err(|_| NotJson)?;
    Ok(taken)
}

/// Takes the last value under a name, and skips the others.
struct MemberVisitor<'n>(&'n str);

impl<'m> Visitor<'m> for MemberVisitor<'_> {
    type Value = Option<&'m str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key_seed(SliceSeed)? {
            if string(name) == self.0 {
                found = Some(members.next_value_seed(SliceSeed)?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Takes the element at an index, and skips the others.
struct ElementVisitor(usize);

impl<'m> Visitor<'m> for ElementVisitor {
    type Value = Option<&'m str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element_seed(SliceSeed)?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Takes every member.
struct MembersVisitor;

impl<'m> Visitor<'m> for MembersVisitor {
    type Value = Vec<(Cow<'m, str>, &'m str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all: Self::Value = Vec::new();
        let mut indices = HashMap::new();
        while let Some(name) = members.next_key_seed(SliceSeed)? {
            let name = string(name);
            let value = members.next_value_seed(SliceSeed)?;
            let index = *indices.entry(name.clone()).or_insert(all.len());
            match all.get_mut(index) {
                Some((_, earlier)) => *earlier = value,
                None => all.push((name, value)),
            }
        }
        Ok(all)
    }
}

/// Takes every element.
struct ElementsVisitor;

impl<'m> Visitor<'m> for ElementsVisitor {
    type Value = Vec<&'m str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element_seed(SliceSeed)? {
            all.push(element);
        }
        Ok(all)
    }
}

/// Cuts out a value, or a name with its quotes.
struct SliceSeed;

impl<'m> DeserializeSeed<'m> for SliceSeed {
    type Value = &'m str;

    fn deserialize<D: Deserializer<'m>>(self, json: D) -> Result<Self::Value, D::Error> {
        <&RawValue>::deserialize(json).map(RawValue::get)
    }
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

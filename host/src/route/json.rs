//! Values cut out of a JSON text by their ends, without a tree: each is a piece of the text.
//!
//! Every function here reads the text it is given whole and fails where that is not strict JSON. A
//! piece that was cut out is JSON, so only a function that is given a message can fail. Nothing here
//! calls itself, whatever the nesting: serde_json skips a value in a loop.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{de::StrRead, value::RawValue};

/// A text that is not JSON, or whose nesting makes it too costly to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotJson;

/// How many arrays and objects may stand inside one another: as many as serde_json reads where it
/// builds a tree.
const MAX_DEPTH: usize = 127;

/// Tells whether `body` is nested so deep that a function which calls itself for each level is in
/// danger.
pub(super) fn is_too_deep(body: &str) -> bool {
    // Settles it for all but the oddest messages, and for short ones at no cost.
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

/// How many brackets and braces open in `body`, those in its strings included.
fn count_openings(body: &str) -> usize {
    // A chunk's count fits a byte. Unlike a check for overflow, this leaves the compiler free to take
    // many bytes at once, which is worth a factor of fifteen.
    let opening = |byte: &u8| u8::from(matches!(byte, b'[' | b'{'));
    let chunks = body.as_bytes().chunks(usize::from(u8::MAX));
    let counts = chunks.map(|chunk| {
        let count = |count: u8, byte| count.wrapping_add(opening(byte));
        usize::from(chunk.iter().fold(0, count))
    });
    counts.sum()
}

/// What a JSON text is the text of, going by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Null,
    /// A number, a boolean, or no JSON at all.
    Other,
}

impl Kind {
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

/// Reads `text` and keeps nothing.
pub(super) fn check(text: &str) -> Result<(), NotJson> {
    match serde_json::from_str(text) {
        Ok(IgnoredAny) => Ok(()),
        Err(_) => Err(NotJson),
    }
}

/// The value of `text`, without the space around it.
pub(super) fn whole(text: &str) -> Result<&str, NotJson> {
    serde_json::from_str(text)
        .map(RawValue::get)
        .map_err(|_| NotJson)
}

/// The member `name` of an object; the last, if there are several.
pub(super) fn member<'m>(text: &'m str, name: &str) -> Result<Option<&'m str>, NotJson> {
    match Kind::of(text) {
        Kind::Object => read(text, |json| json.deserialize_map(Member(name))),
        Kind::Array | Kind::String | Kind::Null | Kind::Other => check(text).map(|()| None),
    }
}

/// The element of an array at `index`.
pub(super) fn element(text: &str, index: usize) -> Result<Option<&str>, NotJson> {
    match Kind::of(text) {
        Kind::Array => read(text, |json| json.deserialize_seq(Element(index))),
        Kind::Object | Kind::String | Kind::Null | Kind::Other => check(text).map(|()| None),
    }
}

/// What an object or an array holds.
#[derive(Debug)]
pub(super) enum Children<'m> {
    /// Each name once, with its last value, in the order in which the names first came.
    Members(Vec<(Cow<'m, str>, &'m str)>),
    Elements(Vec<&'m str>),
    /// Neither an object nor an array.
    None,
}

/// Everything right below the value of `text`.
pub(super) fn children(text: &str) -> Result<Children<'_>, NotJson> {
    match Kind::of(text) {
        Kind::Object => read(text, |json| json.deserialize_map(Members)).map(Children::Members),
        Kind::Array => read(text, |json| json.deserialize_seq(Elements)).map(Children::Elements),
        Kind::String | Kind::Null | Kind::Other => check(text).map(|()| Children::None),
    }
}

/// The characters of a string that was cut out of a message, quotes and all.
///
/// Half of a surrogate pair, which no other text can hold, becomes replacement characters.
pub(super) fn string(text: &str) -> Cow<'_, str> {
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match quoted {
        Some(characters) if !characters.contains('\\') => Cow::Borrowed(characters),
        // Cannot fail, as the text has been read before.
        _ => Cow::Owned(read(text, |json| json.deserialize_bytes(Unescaped)).unwrap_or_default()),
    }
}

/// Hands the whole of `text` to serde.
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
struct Member<'n>(&'n str);

impl<'m> Visitor<'m> for Member<'_> {
    type Value = Option<&'m str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key_seed(Cut)? {
            if string(name) == self.0 {
                found = Some(members.next_value_seed(Cut)?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Takes the element at a place, and skips the others.
struct Element(usize);

impl<'m> Visitor<'m> for Element {
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
        let found = elements.next_element_seed(Cut)?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Takes every member.
struct Members;

impl<'m> Visitor<'m> for Members {
    type Value = Vec<(Cow<'m, str>, &'m str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all: Self::Value = Vec::new();
        let mut places = HashMap::new();
        while let Some(name) = members.next_key_seed(Cut)? {
            let name = string(name);
            let value = members.next_value_seed(Cut)?;
            let place = *places.entry(name.clone()).or_insert(all.len());
            match all.get_mut(place) {
                Some((_, earlier)) => *earlier = value,
                None => all.push((name, value)),
            }
        }
        Ok(all)
    }
}

/// Takes every element.
struct Elements;

impl<'m> Visitor<'m> for Elements {
    type Value = Vec<&'m str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element_seed(Cut)? {
            all.push(element);
        }
        Ok(all)
    }
}

/// Cuts out a value, or a name with its quotes.
struct Cut;

impl<'m> DeserializeSeed<'m> for Cut {
    type Value = &'m str;

    fn deserialize<D: Deserializer<'m>>(self, json: D) -> Result<Self::Value, D::Error> {
        <&RawValue>::deserialize(json).map(RawValue::get)
    }
}

/// Takes the characters of a string. They come as bytes, since serde_json does not look for halves
/// of surrogate pairs there; as a `str` it would refuse them, which JSON does not.
struct Unescaped;

impl Visitor<'_> for Unescaped {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, characters: &[u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(characters).into_owned())
    }
}

//! Evaluates a JSONPath on a message.
//!
//! A search with `..` recurses once for each level of nesting, which the first reading of the message bounds.

use super::{Key, Reach, Segment, Selector};
use crate::route::json::{self, Children, NotJson};

/// Gives the value at the end of `keys`, if each of them is there. Fails if `body` is not JSON.
pub(in crate::route) fn follow<'m>(
    keys: &[Key],
    body: &'m str,
) -> Result<Option<&'m str>, NotJson> {
    let Some((first, rest)) = keys.split_first() else {
        return json::whole(body).map(Some);
    };
    let mut found = step(first, body)?;
    for key in rest {
        let Some(value) = found else { break };
        found = step(key, value)?;
    }
    Ok(found)
}

/// Gives the child of `text` at `key`.
fn step<'m>(key: &Key, text: &'m str) -> Result<Option<&'m str>, NotJson> {
    match key {
        Key::Name(name) => json::member(text, name),
        Key::Index(index) => match usize::try_from(*index) {
            Ok(index) => json::element(text, index),
            Err(_) => Ok(pick(key, &json::children(text)?)),
        },
    }
}

/// Limit of readings of a message. Each level of nesting that is searched with `..` reads everything inside it once,
/// and no sensible message has this many levels around most of it.
const MAX_READINGS: usize = 16;

/// Least budget of a reading in bytes, whatever the message's length: 8 KiB at the greatest depth.
const MIN_BUDGET: usize = 1024 * 1024;

/// Gives every value that `segments` lead to, in Goessner's order. Fails if `body` is not JSON, or takes more than
/// [`MAX_READINGS`]: a client must not be able to hold a thread for long.
pub(in crate::route) fn find<'m>(
    segments: &[Segment],
    body: &'m str,
) -> Result<Vec<&'m str>, NotJson> {
    let mut budget = body.len().saturating_mul(MAX_READINGS).max(MIN_BUDGET);
    let mut values = vec![json::whole(body)?];
    for segment in segments {
        let mut found = Vec::new();
        for value in values {
            collect(segment, value, &mut budget, &mut found)?;
        }
        values = found;
    }
    Ok(values)
}

/// Adds the values that `segment` selects from `value` to `found`. `budget` is the count of bytes that may still be
/// read.
fn collect<'m>(
    segment: &Segment,
    value: &'m str,
    budget: &mut usize,
    found: &mut Vec<&'m str>,
) -> Result<(), NotJson> {
    *budget = budget.checked_sub(value.len()).ok_or(NotJson)?;
    let children = json::children(value)?;
    for selector in &segment.selectors {
        match (selector, &children) {
            (Selector::Key(key), _) => found.extend(pick(key, &children)),
            (Selector::Wildcard, Children::Members(members)) => {
                found.extend(members.iter().map(|(_, value)| value));
            }
            (Selector::Wildcard, Children::Elements(elements)) => found.extend(elements),
            (Selector::Slice { start, end, step }, Children::Elements(elements)) => {
                let bound = |index| from_start(index, elements.len()).unwrap_or(0);
                let start = start.map_or(0, bound);
                let end = end.map_or(elements.len(), bound);
                found.extend(elements.iter().take(end).skip(start).step_by(*step));
            }
            (Selector::Slice { .. }, Children::Members(_)) | (_, Children::None) => {}
        }
    }
    if segment.reach == Reach::Below {
        match children {
            Children::Members(members) => {
                for (_, value) in members {
                    collect(segment, value, budget, found)?;
                }
            }
            Children::Elements(elements) => {
                for value in elements {
                    collect(segment, value, budget, found)?;
                }
            }
            Children::None => {}
        }
    }
    Ok(())
}

/// Gives the child at `key`.
fn pick<'m>(key: &Key, children: &Children<'m>) -> Option<&'m str> {
    match (key, children) {
        (Key::Name(name), Children::Members(members)) => members
            .iter()
            .find(|(other, _)| *other == **name)
            .map(|(_, value)| *value),
        (Key::Index(index), Children::Elements(elements)) => {
            elements.get(from_start(*index, elements.len())?).copied()
        }
        (Key::Name(_), Children::Elements(_) | Children::None)
        | (Key::Index(_), Children::Members(_) | Children::None) => None,
    }
}

/// Converts an index, which is negative if it counts from the end, in an array of `len` elements; `None` if it is
/// before the start.
fn from_start(index: i64, len: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

//! Evaluates a JSONPath on a message.
//!
//! A search with `..` calls itself once for each level of nesting: the caller bounds that by
//! [`json::is_too_deep`].

use super::{Key, Reach, Segment, Selector};
use crate::route::json::{self, Children, NotJson};

/// The value at the end of `keys`, if every one of them is there. Fails when `body` is not JSON.
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

/// The value right below `text` at `key`.
fn step<'m>(key: &Key, text: &'m str) -> Result<Option<&'m str>, NotJson> {
    match key {
        Key::Name(name) => json::member(text, name),
        Key::Index(index) => match usize::try_from(*index) {
            Ok(place) => json::element(text, place),
            Err(_) => Ok(pick(key, &json::children(text)?)),
        },
    }
}

/// How often a message may be read over. Each level of nesting that is searched with `..` costs one
/// reading of all that is inside it, and no sensible message has this many levels around most of it.
const MAX_READINGS: usize = 16;

/// How much may be read whatever the message's length, in bytes: 8 KiB at the greatest depth.
const MIN_BUDGET: usize = 1024 * 1024;

/// Every value that `segments` lead to, in Goessner's order. Fails when `body` is not JSON, or would
/// take more than [`MAX_READINGS`]: a client must not be able to hold a thread for long.
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

/// Adds what `segment` selects from `value` to `found`. `budget` is how many bytes may still be read.
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
                let bound = |index| place(index, elements.len()).unwrap_or(0);
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

/// The one of `children` at `key`.
fn pick<'m>(key: &Key, children: &Children<'m>) -> Option<&'m str> {
    match (key, children) {
        (Key::Name(name), Children::Members(members)) => members
            .iter()
            .find(|(other, _)| *other == **name)
            .map(|(_, value)| *value),
        (Key::Index(index), Children::Elements(elements)) => {
            elements.get(place(*index, elements.len())?).copied()
        }
        (Key::Name(_), Children::Elements(_) | Children::None)
        | (Key::Index(_), Children::Members(_) | Children::None) => None,
    }
}

/// The place of `index` in an array of `len` elements; `None` where that is before its start.
fn place(index: i64, len: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(place) => Some(place),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

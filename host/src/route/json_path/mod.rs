//! The JSONPath after `request.body`, as Goessner described it and the Jayway library reads it.
//!
//! | Written | Selects |
//! |---|---|
//! | `.name`, `['name']`, `["name"]` | a member of an object |
//! | `[2]`, `[-1]` | an element of an array, from its start or its end |
//! | `[1:3]`, `[-2:]`, `[::2]` | a slice: from, up to but without, by a step of 1 or more |
//! | `[*]`, `.*` | every member or element |
//! | `[0,2]`, `['a','b']` | the union: what each selects, in the order written |
//! | `..name`, `..[0]`, `..*` | the same here and at every depth below, from the outside inwards |
//!
//! Filters, scripts and functions are refused: a route that needs one is a handler's decision.

pub(super) mod evaluate;

use super::{
    cursor::Cursor,
    expression::{Form, InvalidExpression, Reason},
};

/// The path of a variable's value in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::route) enum Path {
    /// Leads to one value, which is the variable's, or to none. Empty for the whole message.
    Definite(Vec<Key>),
    /// May lead to several values; the variable's is their list.
    Indefinite(Vec<Segment>),
}

/// One step of a path, from each value reached so far to those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::route) struct Segment {
    pub(in crate::route) reach: Reach,
    /// At least one. Results come in this order.
    pub(in crate::route) selectors: Vec<Selector>,
}

/// The values that a segment's selectors apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::route) enum Reach {
    /// The values reached so far.
    Here,
    /// The values reached so far and everything inside them (`..`).
    Below,
}

/// A selector of children of an object or an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::route) enum Selector {
    Key(Key),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: usize,
    },
    Wildcard,
}

/// The key of a single value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::route) enum Key {
    /// The name of an object's member.
    Name(Box<str>),
    /// The index of an array's element; a negative one counts from the end.
    Index(i64),
}

impl Path {
    /// Reads the characters that belong to a path, which may be none.
    pub(in crate::route) fn parse(
        cursor: &mut Cursor<'_>,
        form: Form,
    ) -> Result<Self, InvalidExpression> {
        let mut segments = Vec::new();
        loop {
            let start = cursor.offset();
            let reach = if cursor.take("..") {
                Reach::Below
            } else {
                Reach::Here
            };
            let selectors = if cursor.take("[") {
                bracket(cursor, start)?
            } else if reach == Reach::Below || cursor.take(".") {
                vec![dotted(cursor, form, start)?]
            } else {
                break;
            };
            segments.push(Segment { reach, selectors });
        }
        let keys: Option<Vec<Key>> = segments.iter().map(Segment::key).collect();
        Ok(keys.map_or(Self::Indefinite(segments), Self::Definite))
    }
}

impl Segment {
    /// The key that this segment selects, if it can select only one.
    fn key(&self) -> Option<Key> {
        match (self.reach, self.selectors.as_slice()) {
            (Reach::Here, [Selector::Key(key)]) => Some(key.clone()),
            _ => None,
        }
    }
}

/// Reads the selector after one dot or two, which begin at `start`.
fn dotted(
    cursor: &mut Cursor<'_>,
    form: Form,
    start: usize,
) -> Result<Selector, InvalidExpression> {
    if cursor.take("*") {
        return Ok(Selector::Wildcard);
    }
    let name = cursor.take_while(|c| form.allows(c));
    if cursor.take("(") {
        return Err(cursor.error(start, Reason::Function));
    }
    if name.is_empty() {
        return Err(cursor.error(start, Reason::NoName));
    }
    Ok(Selector::Key(Key::Name(name.into())))
}

/// Reads the inside of a bracket and its end. The bracket begins at `start`.
fn bracket(cursor: &mut Cursor<'_>, start: usize) -> Result<Vec<Selector>, InvalidExpression> {
    let mut selectors = Vec::new();
    loop {
        skip_space(cursor);
        selectors.push(bracketed(cursor, start)?);
        skip_space(cursor);
        if cursor.take("]") {
            return Ok(selectors);
        }
        if !cursor.take(",") {
            return Err(unexpected(cursor, start));
        }
    }
}

/// Reads one selector of the bracket that begins at `start`.
fn bracketed(cursor: &mut Cursor<'_>, start: usize) -> Result<Selector, InvalidExpression> {
    match cursor.peek() {
        Some('*') => {
            cursor.next();
            Ok(Selector::Wildcard)
        }
        Some('\'' | '"') => quoted(cursor).map(|name| Selector::Key(Key::Name(name))),
        Some('-' | ':' | '0'..='9') => index_or_slice(cursor, start),
        Some('?' | '(') => {
            cursor.next();
            Err(cursor.error(start, Reason::Filter))
        }
        _ => Err(unexpected(cursor, start)),
    }
}

/// Reads a quoted name, from one quote to the other.
fn quoted(cursor: &mut Cursor<'_>) -> Result<Box<str>, InvalidExpression> {
    let start = cursor.offset();
    let quote = cursor.next();
    let mut name = String::new();
    loop {
        let offset = cursor.offset();
        match cursor.next() {
            None => return Err(cursor.error(start, Reason::OpenQuote)),
            next if next == quote => return Ok(name.into()),
            Some('\\') => match cursor.next() {
                Some(escaped @ ('\'' | '"' | '\\' | '$')) => name.push(escaped),
                _ => return Err(cursor.error(offset, Reason::Escape)),
            },
            Some(next) => name.push(next),
        }
    }
}

/// Reads an index or, if there are colons, a slice.
fn index_or_slice(cursor: &mut Cursor<'_>, start: usize) -> Result<Selector, InvalidExpression> {
    let first = integer(cursor, start)?;
    if !take_colon(cursor) {
        return match first {
            Some(index) => Ok(Selector::Key(Key::Index(index))),
            None => Err(unexpected(cursor, start)),
        };
    }
    let end = integer(cursor, start)?;
    let mut step = 1;
    if take_colon(cursor) {
        let offset = cursor.offset();
        step = match integer(cursor, start)? {
            None => 1,
            Some(written) => usize::try_from(written)
                .ok()
                .filter(|&step| step > 0)
                .ok_or_else(|| cursor.error(offset, Reason::Step))?,
        };
    }
    Ok(Selector::Slice {
        start: first,
        end,
        step,
    })
}

/// Reads an integer if there is one.
fn integer(cursor: &mut Cursor<'_>, start: usize) -> Result<Option<i64>, InvalidExpression> {
    let offset = cursor.offset();
    let sign = if cursor.take("-") { "-" } else { "" };
    let digits = cursor.take_while(|c| c.is_ascii_digit());
    match (sign, digits) {
        ("", "") => Ok(None),
        (_, "") => Err(unexpected(cursor, start)),
        _ => match format!("{sign}{digits}").parse() {
            Ok(integer) => Ok(Some(integer)),
            Err(_) => Err(cursor.error(offset, Reason::Index)),
        },
    }
}

/// Reads the colon of a slice, and the space around it, if there is one.
fn take_colon(cursor: &mut Cursor<'_>) -> bool {
    skip_space(cursor);
    let taken = cursor.take(":");
    skip_space(cursor);
    taken
}

fn skip_space(cursor: &mut Cursor<'_>) {
    cursor.take_while(char::is_whitespace);
}

/// Makes the error of a wrong character, or the end, in the bracket that begins at `start`.
fn unexpected(cursor: &mut Cursor<'_>, start: usize) -> InvalidExpression {
    match cursor.next() {
        Some(_) => cursor.error(start, Reason::Bracket),
        None => cursor.error(start, Reason::OpenBracket),
    }
}

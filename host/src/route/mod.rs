//! The selection of a message's route: the route selection expression of an API, parsed once when the configuration is
//! loaded and evaluated against the text of each message.
//!
//! This module knows no routes. It turns a message into a text, and the caller looks that text up:
//!
//! 1. the route whose key is exactly the text, case and all;
//! 2. else, and for a message that is not JSON ([`Selection::evaluate`] gives `None`), the route
//!    [`DEFAULT`];
//! 3. else the client is told `Forbidden`.
//!
//! No message selects [`CONNECT`] or [`DISCONNECT`], whatever its text: the two belong to the
//! connection's life, and a client that could ask for them could pretend to have come or gone. The
//! text of a custom route key never starts with `$`, so the caller looks for the text among the
//! custom routes only and has no case to treat apart.
//!
//! # Expressions
//!
//! | Written | Means |
//! |---|---|
//! | `$request.body.action` | a variable; letters, digits, `_` and `-` belong to its names |
//! | `${request.body.action}` | the same, with its end marked |
//! | `\$` | a dollar sign; before any other character a `\` is itself |
//! | anything else | itself |
//!
//! A JSONPath may follow `request.body`, see [`json_path`]; without one the variable is the whole message. An
//! expression without variables is a constant. Even then a message that is not JSON goes to the default route, as API
//! Gateway's guide says of every such message.
//!
//! # Texts
//!
//! | Value | Text |
//! |---|---|
//! | missing | nothing |
//! | string | its characters |
//! | number, boolean | as the message writes it |
//! | `null` | nothing, as if missing (inferred: the Java library gives `null` for both) |
//! | array, or what an indefinite path found | `[item1, item2]`, where an item is the text of a string and else as the message writes it |
//! | object | as the message writes it (inferred) |
//!
//! If a key occurs twice in an object, the last one counts. JSON is strict. A message nested deeper than 127 levels
//! does not count as JSON, and neither does a long one whose nesting makes a search with `..` too costly.

use std::borrow::Cow;

use self::{
    expression::Part,
    json_path::{Path, evaluate},
};

mod cursor;
mod expression;
mod json;
mod json_path;
mod text;

pub(crate) use self::expression::InvalidExpression;

/// The key of the route that decides whether a connection is opened.
pub(crate) const CONNECT: &str = "$connect";

/// The key of the route that is told of a connection's end.
pub(crate) const DISCONNECT: &str = "$disconnect";

/// The key of the route for messages that select no other.
pub(crate) const DEFAULT: &str = "$default";

/// A route selection expression, parsed once when the configuration is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    parts: Vec<Part>,
}

impl Selection {
    /// Parses the expression of an API's configuration.
    ///
    /// Fails for an empty expression, a variable other than `request.body`, and a path that is
    /// malformed or uses filters, scripts or functions.
    pub(crate) fn parse(expression: &str) -> Result<Self, InvalidExpression> {
        let parts = expression::parse(expression)?;
        Ok(Self { parts })
    }

    /// The one text that an expression without variables gives.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Literal(literal)] => Some(literal),
            _ => None,
        }
    }

    /// Gives the route key that `body` selects, empty if it names none; `None` if it is not JSON.
    ///
    /// The key is borrowed, and nothing allocated, if the expression is a single variable whose value stands in the
    /// message as it is.
    pub(crate) fn evaluate<'m>(&'m self, body: &'m str) -> Option<Cow<'m, str>> {
        match self.parts.as_slice() {
            [Part::Literal(literal)] => json::check(body).ok().map(|()| Cow::Borrowed(&**literal)),
            [Part::Variable(path)] => value(path, body).ok(),
            parts => {
                let mut key = String::new();
                for part in parts {
                    match part {
                        Part::Literal(literal) => key.push_str(literal),
                        Part::Variable(path) => key.push_str(&value(path, body).ok()?),
                    }
                }
                Some(Cow::Owned(key))
            }
        }
    }
}

/// Gives the text of the value at `path`. Fails if `body` is not JSON.
fn value<'m>(path: &Path, body: &'m str) -> Result<Cow<'m, str>, json::NotJson> {
    match path {
        Path::Definite(keys) => {
            Ok(evaluate::follow(keys, body)?.map_or(Cow::Borrowed(""), text::of))
        }
        Path::Indefinite(segments) => Ok(Cow::Owned(text::list(&evaluate::find(segments, body)?))),
    }
}

#[cfg(test)]
mod tests;

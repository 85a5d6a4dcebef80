//! A cursor over the text of an expression.

use super::expression::{InvalidExpression, Reason};

/// The part of an expression that has been read, and the rest.
#[derive(Debug)]
pub(super) struct Cursor<'e> {
    expression: &'e str,
    rest: &'e str,
}

impl<'e> Cursor<'e> {
    /// Starts at the first character.
    pub(super) fn new(expression: &'e str) -> Self {
        Self {
            expression,
            rest: expression,
        }
    }

    /// Gives the next character without reading it.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Reads one character.
    pub(super) fn next(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let next = rest.next();
        self.rest = rest.as_str();
        next
    }

    /// Reads `token` if it comes next. Gives whether it did.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Reads the characters that belong, up to the first that does not.
    pub(super) fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'e str {
        let rest = self.rest.trim_start_matches(belongs);
        let taken = self.rest.strip_suffix(rest).unwrap_or_default();
        self.rest = rest;
        taken
    }

    /// Bytes read so far, for the position of an error.
    pub(super) fn offset(&self) -> usize {
        self.expression.len() - self.rest.len()
    }

    /// Makes the error of the characters from `start` up to here.
    pub(super) fn error(&self, start: usize, reason: Reason) -> InvalidExpression {
        let read = |range| self.expression.get(range).unwrap_or_default();
        InvalidExpression {
            position: read(0..start).chars().count() + 1,
            part: read(start..self.offset()).to_owned(),
            reason,
        }
    }
}

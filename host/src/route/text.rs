//! The text of a value in a route key.

use std::borrow::Cow;

use super::json::{self, Children, JsonKind};

/// Gives the text of a variable's single value.
pub(super) fn of(value: &str) -> Cow<'_, str> {
    match JsonKind::of(value) {
        JsonKind::String => json::string(value),
        JsonKind::Null => Cow::Borrowed(""),
        JsonKind::Array => match json::children(value) {
            Ok(Children::Elements(elements)) => Cow::Owned(list(&elements)),
            Ok(Children::Members(_) | Children::None) | Err(_) => Cow::Borrowed(value),
        },
        JsonKind::Object | JsonKind::Other => Cow::Borrowed(value),
    }
}

/// Gives the text of several values. Only strings lose their quotes: an array among the values stays as the message
/// writes it, so that one pass is enough, however deep it goes.
pub(super) fn list(values: &[&str]) -> String {
    let mut list = String::from("[");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            list.push_str(", ");
        }
        match JsonKind::of(value) {
            JsonKind::String => list.push_str(&json::string(value)),
            JsonKind::Object | JsonKind::Array | JsonKind::Null | JsonKind::Other => {
                list.push_str(value)
            }
        }
    }
    list.push(']');
    list
}

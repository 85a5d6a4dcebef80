//! `${name}` in texts: a place that a message fills, and a value that an earlier message has filled.

use std::collections::BTreeMap;

use serde_json::Value;

/// The name that takes any value and keeps none.
pub(crate) const ANY: &str = "any";

/// The values that messages have had in the place of a name.
pub(crate) type Captures = BTreeMap<String, Value>;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Hole(String),
}

/// Splits a text at its `${name}`s. `$${` stands for `${`. An error is the fault and its remedy.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece>, (String, String)> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, hole) = rest.split_at(start);
        if let Some(escaped) = before.strip_suffix('$') {
            literal += escaped;
            literal += "${";
            rest = hole.get(2..).unwrap_or_default();
            continue;
        }
        literal += before;
        let unclosed = || {
            (
                "a \"${\" has no \"}\"".to_owned(),
                "close it, as in ${id}, or write $${ for the two characters".to_owned(),
            )
        };
        let inside = hole.get(2..).unwrap_or_default();
        let (name, behind) = inside.split_once('}').ok_or_else(unclosed)?;
        if !is_name(name) {
            return Err((
                format!("\"{name}\" is no name for a value"),
                "name it by letters, digits, - and _, as in ${id}, or write $${ for the two characters"
                    .into(),
            ));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Hole(name.to_owned()));
        rest = behind;
    }
    literal += rest;
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// Whether a word is a name of a client or of a value.
pub(crate) fn is_name(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    word.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic())
        && word.bytes().all(allowed)
}

/// The text of a value: a string's content, JSON of anything else.
pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// A text to send, with places for values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    /// The text is JSON: a value in quotes is escaped, one without is JSON itself.
    json: bool,
}

impl Template {
    pub(crate) fn plain(text: &str) -> Result<Self, (String, String)> {
        let pieces = pieces(text)?;
        Ok(Self {
            pieces,
            json: false,
        })
    }

    pub(crate) fn json(text: &str) -> Result<Self, (String, String)> {
        let pieces = pieces(text)?;
        Ok(Self { pieces, json: true })
    }

    /// A text without places.
    pub(crate) fn literal(text: String) -> Self {
        Self {
            pieces: vec![Piece::Literal(text)],
            json: false,
        }
    }

    /// The names of its places.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.pieces)
    }

    /// The text with the values in place. A name without a value is left out: the parser refuses it.
    pub(crate) fn fill(&self, captures: &Captures) -> String {
        let mut text = String::new();
        let mut quoted = false;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => {
                    quoted = quoted_after(literal, quoted);
                    text += literal;
                }
                Piece::Hole(name) => {
                    let Some(value) = captures.get(name) else {
                        continue;
                    };
                    text += &match (self.json, quoted) {
                        (false, _) => as_text(value),
                        (true, false) => value.to_string(),
                        (true, true) => {
                            let json = Value::String(as_text(value)).to_string();
                            let inside = json.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
                            inside.unwrap_or_default().to_owned()
                        }
                    };
                }
            }
        }
        text
    }
}

pub(crate) fn names(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Hole(name) => Some(name.as_str()),
        Piece::Literal(_) => None,
    })
}

/// Whether a string of JSON is open behind a piece of it.
fn quoted_after(piece: &str, mut quoted: bool) -> bool {
    let mut escaped = false;
    for byte in piece.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_filled_in_as_their_place_asks() {
        let captures = Captures::from([
            ("id".to_owned(), json!("a\"b")),
            ("at".to_owned(), json!(17)),
        ]);
        for (json, written, filled) in [
            (false, "hello ${id} at ${at}", "hello a\"b at 17"),
            (
                true,
                r#"{"id": "${id}", "at": ${at}}"#,
                r#"{"id": "a\"b", "at": 17}"#,
            ),
            (
                true,
                r#"{"id": ${id}, "at": "in ${at} s"}"#,
                r#"{"id": "a\"b", "at": "in 17 s"}"#,
            ),
            (
                true,
                r#"{"a": "\"", "id": ${id}}"#,
                r#"{"a": "\"", "id": "a\"b"}"#,
            ),
            (false, "$${id} $id $", "${id} $id $"),
        ] {
            let template = if json {
                Template::json(written)
            } else {
                Template::plain(written)
            };
            assert_eq!(template.unwrap().fill(&captures), filled);
        }
    }

    #[test]
    fn malformed_place_is_refused() {
        for text in ["${", "${}", "a ${b c}", "${1}", "${id"] {
            assert!(pieces(text).is_err(), "{text}");
        }
    }
}

//! The text of JSON → what a dialogue expects.

use serde_json::Value;

use super::{ANY_ORDER, Json};
use crate::dialogue::expected::Text;
use crate::dialogue::holes::{Piece, pieces};

/// Nested lists and objects.
const MAX_DEPTH: usize = 64;

/// A fault of what is written, at this byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// Reads the value at the start of a text, and gives its length. Strict JSON has neither places outside of strings nor
/// `...`.
pub(crate) fn read(text: &str) -> Result<(Json, usize), Fault> {
    let mut reader = Reader { text, at: 0 };
    let json = reader.value(0)?;
    Ok((json, reader.at))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Whether these characters come next; then they are read.
    fn takes(&mut self, word: &str) -> bool {
        let there = self.rest().starts_with(word);
        if there {
            self.at += word.len();
        }
        there
    }

    fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault {
            at: self.at,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.fault(
                format!("the JSON is nested more than {MAX_DEPTH} deep"),
                "expect less of it, and put ... or ${any} for the rest",
            ));
        }
        self.skip_space();
        if self.takes("{") {
            return self.object(depth);
        }
        if self.takes("[") {
            return self.list(depth);
        }
        if self.rest().starts_with('"') {
            let text = self.string()?;
            let pieces = self.pieces(&text)?;
            return Ok(Json::Text(Text(pieces)));
        }
        if self.rest().starts_with("${") {
            let end = self
                .rest()
                .find('}')
                .map_or_else(|| self.rest().len(), |end| end + 1);
            let written = self.rest().get(..end).unwrap_or_default();
            let found = self.pieces(written)?;
            self.at += end;
            return match found.as_slice() {
                [Piece::Hole(name)] => Ok(Json::Hole(name.clone())),
                _ => Err(self.fault("there is no value", "write ${name} for any value")),
            };
        }
        let rest = self.rest();
        let end = rest
            .find(|character: char| {
                character.is_whitespace() || matches!(character, ',' | ']' | '}' | ':')
            })
            .unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        let value = serde_json::from_str::<Value>(word).map_err(|_| {
            let there = if word.is_empty() { "nothing" } else { word };
            self.fault(
                format!("a JSON value is expected, and there is {there}"),
                "write JSON, or for a text that is no JSON: text \"…\"",
            )
        })?;
        self.at += end;
        Ok(Json::Scalar(value))
    }

    fn pieces(&self, text: &str) -> Result<Vec<Piece>, Fault> {
        pieces(text).map_err(|(message, remedy)| self.fault(message, remedy))
    }

    /// The content of the string that comes next.
    fn string(&mut self) -> Result<String, Fault> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let Some(end) = end else {
            return Err(self.fault("a string of JSON has no end", "close it with \""));
        };
        let written = rest.get(..end + 2).unwrap_or_default();
        let text = serde_json::from_str(written).map_err(|error| {
            self.fault(
                format!("{written} is no string of JSON: {error}"),
                "escape \" and \\ with \\, and write \\n for a new line",
            )
        })?;
        self.at += written.len();
        Ok(text)
    }

    /// Whether the list or object goes on behind an element.
    fn goes_on(&mut self, end: &str) -> Result<bool, Fault> {
        self.skip_space();
        if self.takes(",") {
            return Ok(true);
        }
        if self.takes(end) {
            return Ok(false);
        }
        let there = if self.rest().is_empty() {
            "the message ends"
        } else {
            "there is something else"
        };
        Err(self.fault(
            format!("a , or {end} is expected in JSON, and {there}"),
            format!("close it with {end}, or for a text that is no JSON write: text \"…\""),
        ))
    }

    fn object(&mut self, depth: usize) -> Result<Json, Fault> {
        let (mut fields, mut more) = (Vec::<(String, Json)>::new(), false);
        self.skip_space();
        if self.takes("}") {
            return Ok(Json::Object { fields, more });
        }
        loop {
            self.skip_space();
            if self.takes("...") {
                more = true;
            } else {
                if !self.rest().starts_with('"') {
                    return Err(self.fault(
                        "a key of a JSON object is expected in quotes",
                        "write \"key\": value, or ... for more keys, or for a text that is no JSON: text \"…\"",
                    ));
                }
                let key = self.string()?;
                if fields.iter().any(|(other, _)| *other == key) {
                    return Err(self.fault(format!("the key {key:?} is there twice"), "remove one"));
                }
                self.skip_space();
                if !self.takes(":") {
                    return Err(self.fault("a : is expected behind a key", "write \"key\": value"));
                }
                let value = self.value(depth + 1)?;
                fields.push((key, value));
            }
            if !self.goes_on("}")? {
                return Ok(Json::Object { fields, more });
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, Fault> {
        let (mut items, mut more) = (Vec::new(), false);
        self.skip_space();
        let any_order = self.takes(ANY_ORDER);
        self.skip_space();
        if self.takes("]") {
            return Ok(Json::List {
                items,
                any_order,
                more,
            });
        }
        loop {
            self.skip_space();
            if self.takes("...") {
                more = true;
            } else if more {
                return Err(self.fault(
                    "an element follows the ... of a list",
                    "put ... last, or write [in any order: …, ...]",
                ));
            } else {
                items.push(self.value(depth + 1)?);
            }
            if !self.goes_on("]")? {
                return Ok(Json::List {
                    items,
                    any_order,
                    more,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_json_is_refused_with_its_place() {
        for (written, at) in [
            ("{", 1),
            ("{\"a\" 1}", 5),
            ("{a: 1}", 1),
            ("[1 2]", 3),
            ("[..., 1]", 6),
            ("{\"a\": 1, \"a\": 2}", 12),
            ("{\"a\": nul}", 6),
            ("[\"a]", 1),
            ("[${x]", 1),
            ("", 0),
        ] {
            assert_eq!(read(written).unwrap_err().at, at, "{written}");
        }
        assert!(read(&"[".repeat(10_000)).is_err());
    }
}

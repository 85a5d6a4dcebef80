//! What a client is expected to get: a text, JSON in any order of its keys, bytes.

use std::fmt::Write as _;

use serde_json::Value;

use super::holes::{ANY, Captures, Piece, as_text, names};
use super::json::{Difference, Json};
use crate::connections::Message;
use crate::words::count_of;

/// Characters of a message that a report shows.
const SHOWN: usize = 600;

/// Attempts to fit a text: a text of many places could be tried in more ways than anyone waits for.
const MAX_ATTEMPTS: u32 = 100_000;

#[derive(Debug)]
pub(crate) enum Expected {
    Json(Json),
    Text(Text),
    Binary(Vec<u8>),
    /// The gateway's error frame with this message.
    Error(Text),
}

/// A text with places for any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<Piece>);

impl Expected {
    /// The names of its places.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Json(json) => json.names(),
            Self::Text(text) | Self::Error(text) => text.names(),
            Self::Binary(_) => Vec::new(),
        }
    }

    /// Whether the message is the expected one; then the values of its places are kept. An error is a list of the
    /// differences, empty where both messages in full say enough.
    pub(crate) fn fits(
        &self,
        message: &Message,
        captures: &mut Captures,
    ) -> Result<(), Vec<Difference>> {
        let mut filled = captures.clone();
        let fits = match (self, message) {
            (Self::Binary(expected), Message::Binary(bytes)) => {
                if expected != bytes {
                    return Err(vec![first_difference(expected, bytes, "byte")]);
                }
                Ok(())
            }
            (Self::Text(expected), Message::Text(text)) => expected
                .fits(text, &mut filled)
                .then_some(())
                .ok_or_else(|| expected.difference(text, captures)),
            (Self::Json(expected), Message::Text(text)) => match serde_json::from_str(text) {
                Ok(value) => expected.fits(&value, &mut filled),
                Err(error) => Err(vec![Difference::note(format!(
                    "the text is no JSON: {error}"
                ))]),
            },
            (Self::Error(expected), Message::Text(text)) => expected
                .is_error_frame(text, &mut filled)
                .then_some(())
                .ok_or_else(Vec::new),
            (Self::Binary(_), Message::Text(_)) => Err(vec![Difference::note(
                "a binary message is expected, and a text message came".into(),
            )]),
            (Self::Text(_) | Self::Json(_) | Self::Error(_), Message::Binary(_)) => {
                Err(vec![Difference::note(
                    "a text message is expected, and a binary message came".into(),
                )])
            }
        };
        if fits.is_ok() {
            *captures = filled;
        }
        fits
    }

    /// The expected message for a report, with the values that are known.
    pub(crate) fn show(&self, captures: &Captures) -> String {
        match self {
            Self::Json(json) => shortened(&json.show(captures)),
            Self::Text(text) => shown_text(&text.show(captures)),
            Self::Binary(bytes) => shown_bytes(bytes),
            Self::Error(text) => format!("the error frame {:?}", text.show(captures)),
        }
    }
}

/// A message for a report.
pub(crate) fn show(message: &Message) -> String {
    match message {
        Message::Text(text) => shown_text(text),
        Message::Binary(bytes) => shown_bytes(bytes),
    }
}

/// A text as a dialogue writes it: in quotes where it would not be seen whole without.
fn shown_text(text: &str) -> String {
    let plain = !text.is_empty()
        && text.trim() == text
        && !text.chars().any(char::is_control)
        && text.parse::<f64>().is_err();
    if plain {
        shortened(text)
    } else {
        shortened(&format!("text {}", Value::from(text)))
    }
}

fn shown_bytes(bytes: &[u8]) -> String {
    let mut shown = "binary".to_owned();
    for byte in bytes.iter().take(SHOWN / 4) {
        // Writing to a string cannot fail.
        let _ = write!(shown, " {byte:02x}");
    }
    if bytes.len() > SHOWN / 4 {
        let _ = write!(shown, " … ({} bytes)", bytes.len());
    }
    shown
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!(
            "{}… ({} bytes)",
            text.get(..end).unwrap_or_default(),
            text.len()
        ),
    }
}

/// Where two messages begin to differ.
fn first_difference(expected: &[u8], came: &[u8], unit: &str) -> Difference {
    let same = expected
        .iter()
        .zip(came)
        .take_while(|(expected, came)| expected == came)
        .count();
    Difference::note(format!(
        "{} expected, {} came; they differ from {unit} {} on",
        count_of(expected.len(), "byte"),
        count_of(came.len(), "byte"),
        same + 1
    ))
}

impl Text {
    pub(crate) fn literal(text: String) -> Self {
        Self(vec![Piece::Literal(text)])
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.0).map(str::to_owned).collect()
    }

    /// Whether a text fits. Each place takes one character or more: the value of its name, if it has one, or else the
    /// shortest that fits, which becomes the value.
    pub(crate) fn fits(&self, text: &str, captures: &mut Captures) -> bool {
        let mut attempts = MAX_ATTEMPTS;
        fits(&self.0, text, captures, &mut attempts)
    }

    /// Whether a text has a part that fits.
    pub(crate) fn is_within(&self, text: &str, captures: &mut Captures) -> bool {
        let starts = text.char_indices().map(|(start, _)| start);
        let mut pieces = self.0.clone();
        // The rest of the line may be anything, or nothing.
        pieces.push(Piece::Hole(ANY.to_owned()));
        starts.into_iter().any(|start| {
            let rest = text.get(start..).unwrap_or_default();
            let (mut attempts, mut filled) = (MAX_ATTEMPTS, captures.clone());
            let longer = format!("{rest}\n");
            let fits = fits(&pieces, &longer, &mut filled, &mut attempts);
            if fits {
                *captures = filled;
            }
            fits
        })
    }

    fn is_error_frame(&self, text: &str, captures: &mut Captures) -> bool {
        let Ok(Value::Object(frame)) = serde_json::from_str(text) else {
            return false;
        };
        let field = |name| frame.get(name).and_then(Value::as_str);
        let whole = frame.len() == 3 && field("connectionId").is_some();
        whole
            && field("requestId").is_some()
            && field("message").is_some_and(|message| self.fits(message, captures))
    }

    pub(crate) fn show(&self, captures: &Captures) -> String {
        let mut shown = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => shown += literal,
                Piece::Hole(name) => match captures.get(name) {
                    Some(value) => shown += &as_text(value),
                    // Writing to a string cannot fail.
                    None => drop(write!(shown, "${{{name}}}")),
                },
            }
        }
        shown
    }

    fn difference(&self, came: &str, captures: &Captures) -> Vec<Difference> {
        let expected = self.show(captures);
        if expected == format!("{came:?}") {
            return vec![Difference::note(
                "the quotes are part of the expected text; write it without them, or as text \"…\""
                    .into(),
            )];
        }
        // A short text is seen at a glance.
        if expected.len().max(came.len()) < 80 || names(&self.0).next().is_some() {
            return Vec::new();
        }
        vec![first_difference(
            expected.as_bytes(),
            came.as_bytes(),
            "byte",
        )]
    }
}

fn fits(pieces: &[Piece], text: &str, captures: &mut Captures, attempts: &mut u32) -> bool {
    let Some(left) = attempts.checked_sub(1) else {
        return false;
    };
    *attempts = left;
    let Some((piece, others)) = pieces.split_first() else {
        return text.is_empty();
    };
    let known = match piece {
        Piece::Literal(literal) => Some(literal.clone()),
        Piece::Hole(name) => captures.get(name).map(as_text),
    };
    if let Some(known) = known {
        return text
            .strip_prefix(&*known)
            .is_some_and(|rest| fits(others, rest, captures, attempts));
    }
    let Piece::Hole(name) = piece else {
        return false;
    };
    let ends: Vec<usize> = match others.first() {
        None => vec![text.len()],
        Some(Piece::Literal(literal)) => {
            let found = text.match_indices(literal.as_str());
            found.map(|(start, _)| start).collect()
        }
        Some(Piece::Hole(_)) => text.char_indices().map(|(start, _)| start).collect(),
    };
    ends.into_iter().filter(|end| *end > 0).any(|end| {
        let (value, rest) = text.split_at(end);
        if name == ANY {
            return fits(others, rest, captures, attempts);
        }
        let before = captures.clone();
        captures.insert(name.clone(), Value::from(value));
        let fit = fits(others, rest, captures, attempts);
        if !fit {
            *captures = before;
        }
        fit
    })
}

#[cfg(test)]
mod tests {
    use super::super::holes::pieces;
    use super::*;

    fn text(written: &str) -> Text {
        Text(pieces(written).unwrap())
    }

    #[test]
    fn place_takes_the_shortest_value_that_fits() {
        for (written, came, id) in [
            ("hello ${id}", "hello you", Some("you")),
            ("hello ${id}", "hello ", None),
            ("${id}!", "a!b!", Some("a!b")),
            ("${id}, ${any}", "a, b, c", Some("a")),
            ("${id} and ${id}", "x and y and x and y", Some("x and y")),
            ("${id} and ${id}", "x and y", None),
            ("${any}", "x", None),
            ("é${id}é", "ééé", Some("é")),
        ] {
            let mut captures = Captures::new();
            let fits = text(written).fits(came, &mut captures);
            let value = captures.get("id").and_then(Value::as_str);
            assert_eq!(value, id, "{written}");
            assert_eq!(fits, id.is_some() || written == "${any}", "{written}");
        }
    }

    #[test]
    fn known_value_is_expected() {
        let mut captures = Captures::from([("id".to_owned(), Value::from(7))]);
        assert!(text("no ${id}").fits("no 7", &mut captures));
        assert!(!text("no ${id}").fits("no 8", &mut captures));
    }

    #[test]
    fn hopeless_text_ends_in_time() {
        let written = "${a}x${b}x${c}x${d}x${e}x${f}x!".to_owned();
        let mut captures = Captures::new();
        assert!(!text(&written).fits(&"x".repeat(2_000), &mut captures));
        assert!(captures.is_empty());
    }

    #[test]
    fn part_of_a_line_fits() {
        let mut captures = Captures::new();
        assert!(text("said ${what}").is_within("x=1 said hello", &mut captures));
        assert!(text("x=1").is_within("x=1", &mut captures));
        assert!(!text("x=2").is_within("x=1", &mut captures));
    }

    #[test]
    fn error_frame_is_known_by_its_message() {
        let frame =
            r#"{"message": "Forbidden", "connectionId":"abc=", "requestId":"abc="}"#.to_owned();
        let message = Message::Text(frame);
        let mut captures = Captures::new();
        let fits = |written: &str, captures: &mut Captures| {
            Expected::Error(text(written)).fits(&message, captures)
        };
        assert_eq!(fits("Forbidden", &mut captures), Ok(()));
        assert_eq!(fits("Internal server error", &mut captures), Err(vec![]));
    }
}

//! The messages and times of a step.

use std::time::Duration;

use super::{Lines, Wrong};
use crate::dialogue::json::{self, Json};

/// Bytes of the longest message that a dialogue makes by its size.
const MAX_SIZE: usize = 16 << 20;

/// The longest time that passes at once: all timers of a month go off in a moment, those of years in minutes.
const MAX_TIME: Duration = Duration::from_secs(31 * 86_400);

/// A message as it is written.
pub(super) enum Written {
    /// JSON, and its text.
    Json(Json, String),
    /// A text, with `${}` for values.
    Text(String),
    /// A text of just these characters.
    Literal(String),
    Binary(Vec<u8>),
}

/// Reads the message that begins at `place`. `rest` is the rest of that line.
pub(super) fn read(rest: &str, place: usize, lines: &mut Lines<'_>) -> Result<Written, Wrong> {
    if rest.starts_with(['{', '[']) {
        return json(place, lines);
    }
    if rest.is_empty() {
        return Err((
            "there is no message".into(),
            "write it behind the verb; the empty message is text \"\"".into(),
        ));
    }
    if let Some(quoted) = rest
        .strip_prefix("text ")
        .filter(|quoted| quoted.starts_with('"'))
    {
        return serde_json::from_str(quoted)
            .map(Written::Text)
            .map_err(|error| {
                (
                    format!("{quoted} is no text in quotes: {error}"),
                    "escape \" and \\ with \\, and write \\n for a new line".into(),
                )
            });
    }
    if let Some(hex) = rest
        .strip_prefix("binary")
        .filter(|hex| hex.is_empty() || hex.starts_with(' '))
    {
        return bytes(hex).map(Written::Binary).ok_or_else(|| {
            (
                format!("the bytes of a binary message are hexadecimal, and there is{hex}"),
                format!(
                    "write two digits a byte, as in binary 00 ff, or for a text: text \"{rest}\""
                ),
            )
        });
    }
    match sized(rest) {
        Some(message) => message,
        None => Ok(Written::Text(rest.to_owned())),
    }
}

fn json(place: usize, lines: &mut Lines<'_>) -> Result<Written, Wrong> {
    let text = lines.text.get(place..).unwrap_or_default();
    match json::read(text) {
        Ok((json, length)) => {
            let behind = lines.go_to(place + length);
            if !behind.is_empty() {
                return Err((
                    format!("something follows the JSON: {behind}"),
                    "remove it, or for a text that is no JSON write: text \"…\"".into(),
                ));
            }
            let written = text.get(..length).unwrap_or_default().replace('\r', "");
            Ok(Written::Json(json, written))
        }
        Err(fault) => {
            lines.go_to(place + fault.at);
            Err((fault.message, fault.remedy))
        }
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16))
        .collect();
    let digits = digits?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low);
    bytes.map(|byte| u8::try_from(byte).ok()).collect()
}

/// A message of a size: `128 KiB of text`.
fn sized(rest: &str) -> Option<Result<Written, Wrong>> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [count, unit, "of", kind] = words.as_slice() else {
        return None;
    };
    let count: usize = count.parse().ok()?;
    let factor = match *unit {
        "byte" | "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    let size = count.checked_mul(factor).filter(|size| *size <= MAX_SIZE);
    let Some(size) = size else {
        return Some(Err((
            format!("{count} {unit} are more than a message of a dialogue has"),
            format!("write {} MiB or less", MAX_SIZE >> 20),
        )));
    };
    match *kind {
        "text" => Some(Ok(Written::Literal(
            ('a'..='z').cycle().take(size).collect(),
        ))),
        // 251 is prime: no part of such a message is like another.
        "binary" => Some(Ok(Written::Binary((0..251).cycle().take(size).collect()))),
        _ => None,
    }
}

/// Parses a time, such as `2 seconds`, `500 ms` or `1.5s`.
pub(super) fn time(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        (
            format!("{text:?} is no time"),
            "write a number and ms, seconds, minutes, hours or days, as in 2 seconds".to_owned(),
        )
    };
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "second" | "seconds" => 1.0,
        "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "day" | "days" => 86_400.0,
        _ => return Err(wrong()),
    };
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
    if time > MAX_TIME {
        return Err((
            format!("{text} is longer than a step lasts"),
            "write 31 days or less".into(),
        ));
    }
    Ok(time)
}

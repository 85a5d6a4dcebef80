//! Answers of a gateway as tables for people.

use serde_json::Value;

/// Characters of a cell that a stranger wrote.
const MAX_CELL: usize = 40;

/// The entries of a list; none for anything else.
pub(super) fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// The text of a value, as a terminal may show it; empty if it is missing.
pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => printable(text),
        Some(other) => other.to_string(),
    }
}

/// Escapes what would move a terminal's cursor or hide characters: strangers wrote some of the texts.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            printable.extend(character.escape_unicode());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Cuts what a stranger wrote to a width that leaves a table readable.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MAX_CELL - 1).chain(['…']).collect(),
    }
}

/// Aligns columns to their widest cell.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_of_a_stranger_is_cut_and_a_short_one_whole() {
        let longest = "é".repeat(MAX_CELL);
        assert_eq!(cut(&longest), longest);
        let short = cut(&format!("{longest}é"));
        assert_eq!(short, format!("{}…", "é".repeat(MAX_CELL - 1)));
    }
}

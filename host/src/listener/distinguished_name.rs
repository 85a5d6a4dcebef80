//! The text of a distinguished name (RFC 4514).

use std::fmt::Write as _;

use super::x509::{Der, OID, SEQUENCE};

const SET: u8 = 0x31;

/// Tags of the types of text (RFC 5280 §4.1.2.4).
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// The attributes that have a short name (RFC 4514 §3), by their object identifiers in DER.
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
];

/// Writes the content of a Name; none if it is not DER. The last of its parts comes first.
pub(super) fn text(name: Der<'_>) -> Option<String> {
    let mut rest = name;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let mut set = rest.take(SET)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            attributes.push(attribute(set.take(SEQUENCE)?)?);
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(mut attribute: Der<'_>) -> Option<String> {
    let id = attribute.take(OID)?;
    let whole = attribute.rest();
    let (tag, value) = attribute.next()?;
    let name = NAMES.iter().find(|(known, _)| *known == id.rest());
    let text = match tag {
        UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING => str::from_utf8(value).ok(),
        _ => None,
    };
    Some(match (name, text) {
        (Some((_, name)), Some(text)) => format!("{name}={}", escaped(text)),
        (name, _) => {
            let name = name.map_or_else(|| dotted(id.rest()), |(_, name)| (*name).to_owned());
            let mut text = format!("{name}=#");
            for byte in whole {
                write!(text, "{byte:02x}").expect("a string takes what is written");
            }
            text
        }
    })
}

/// Escapes a value (RFC 4514 §2.4); control characters too, so that it is one line wherever it is shown.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for (place, character) in text.char_indices() {
        let is_first = place == 0;
        let is_last = place + character.len_utf8() == text.len();
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                write!(escaped, "\\{byte:02X}").expect("a string takes what is written");
            }
            continue;
        }
        let is_special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || character == ' ' && (is_first || is_last)
            || character == '#' && is_first;
        if is_special {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// An object identifier with dots.
fn dotted(id: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in id {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let mut text = String::new();
    for (place, number) in numbers.into_iter().enumerate() {
        let written = match place {
            // The first number has two parts.
            0 => {
                let first = (number / 40).min(2);
                write!(text, "{first}.{}", number - first * 40)
            }
            _ => write!(text, ".{number}"),
        };
        written.expect("a string takes what is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        for (text, expected) in [
            ("ada", "ada"),
            ("Lovelace, Ada", "Lovelace\\, Ada"),
            (" a b ", "\\ a b\\ "),
            ("#1", "\\#1"),
            ("a#1", "a#1"),
            ("a\nb\0", "a\\0Ab\\00"),
            ("\u{85}", "\\C2\\85"),
            ("a=b", "a=b"),
            ("\"+;<>\\", "\\\"\\+\\;\\<\\>\\\\"),
            (" ", "\\ "),
            ("", ""),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }

    #[test]
    fn identifier_is_written_with_dots() {
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]),
            "1.2.840.113549.1.9.1"
        );
        assert_eq!(dotted(&[0x55, 4, 5]), "2.5.4.5");
        assert_eq!(dotted(&[0x88, 0x37]), "2.999");
    }

    #[test]
    fn garbage_is_no_name() {
        for bytes in [&[0x31, 1][..], &[0x30, 0], &[0x31, 2, 0x30, 0], &[0xff]] {
            assert_eq!(text(Der(bytes)), None, "{bytes:?}");
        }
        assert_eq!(text(Der(&[])).as_deref(), Some(""));
    }
}

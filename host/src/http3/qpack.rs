//! QPACK (RFC 9204) without its dynamic table, for which the gateway's settings give the client no room.

use octets::Octets;

use super::static_table::STATIC;

/// A name and a value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// The reason why a field section cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Malformed,
    /// Decoded, it is larger than it may be.
    TooLarge,
}

/// Decodes a field section of at most `max` bytes, as RFC 9114 §4.2.2 counts them: 32 more for each field.
pub(super) fn decode(mut section: &[u8], max: usize) -> Result<Vec<Field>, Unreadable> {
    let section = &mut section;
    // A required insert count: there is no dynamic table.
    if integer(section, 8)? != 0 {
        return Err(Unreadable::Malformed);
    }
    // The base, to which no reference is relative.
    integer(section, 7)?;
    let (mut fields, mut size) = (Vec::new(), 0);
    while let Some(first) = section.first() {
        let field: Field = match first {
            first if first & 0xc0 == 0xc0 => {
                let (name, value) = entry(integer(section, 6)?)?;
                (name.into(), value.into())
            }
            first if first & 0xd0 == 0x50 => {
                let (name, _) = entry(integer(section, 4)?)?;
                (name.into(), string(section, 7, max)?)
            }
            first if first & 0xe0 == 0x20 => (string(section, 3, max)?, string(section, 7, max)?),
            // A reference to the dynamic table.
            _ => return Err(Unreadable::Malformed),
        };
        size += field.0.len() + field.1.len() + 32;
        if size > max {
            return Err(Unreadable::TooLarge);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Encodes fields as literals: a client needs no table for them.
pub(super) fn encode<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        put_integer(&mut out, 3, 0x20, name.len());
        out.extend_from_slice(name);
        put_integer(&mut out, 7, 0, value.len());
        out.extend_from_slice(value);
    }
    out
}

fn entry(index: usize) -> Result<(&'static str, &'static str), Unreadable> {
    STATIC.get(index).copied().ok_or(Unreadable::Malformed)
}

/// Takes an integer of which the first byte has `bits` (RFC 7541 §5.1). Larger ones than 2³² are not needed.
fn integer(bytes: &mut &[u8], bits: u8) -> Result<usize, Unreadable> {
    let mut next = || {
        let (first, rest) = bytes.split_first().ok_or(Unreadable::Malformed)?;
        *bytes = rest;
        Ok(*first)
    };
    let mask = u8::MAX >> (8 - bits);
    let mut value = u64::from(next()? & mask);
    if value == u64::from(mask) {
        for shift in (0..=28).step_by(7) {
            let byte = next()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| Unreadable::Malformed);
            }
        }
        return Err(Unreadable::Malformed);
    }
    usize::try_from(value).map_err(|_| Unreadable::Malformed)
}

/// Takes a string of which the first byte has `bits` of the length, and before them whether Huffman's code is used.
fn string(bytes: &mut &[u8], bits: u8, max: usize) -> Result<Vec<u8>, Unreadable> {
    let first = bytes.first().ok_or(Unreadable::Malformed)?;
    let is_huffman = first >> bits & 1 == 1;
    let length = integer(bytes, bits)?;
    let (own, rest) = bytes
        .split_at_checked(length)
        .ok_or(Unreadable::Malformed)?;
    *bytes = rest;
    if !is_huffman {
        return Ok(own.to_vec());
    }
    let decoded = Octets::with_slice(own).get_huffman_decoded_with_max_length(max);
    decoded.map_err(|_| Unreadable::Malformed)
}

fn put_integer(out: &mut Vec<u8>, bits: u8, flags: u8, value: usize) {
    let mask = usize::from(u8::MAX >> (8 - bits));
    if value < mask {
        return out.push(flags | value as u8);
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
        let bytes = |text: &&str| text.as_bytes().to_vec();
        fields
            .iter()
            .map(|(name, value)| (bytes(name), bytes(value)))
            .collect()
    }

    #[test]
    fn field_sections_are_read_as_they_were_written() {
        let long = "y".repeat(300);
        let fields = fields(&[(":status", "200"), ("x-empty", ""), ("x-long", &long)]);
        let section = encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
        assert_eq!(decode(&section, 4_096).as_ref(), Ok(&fields));
        for cut in 0..section.len() {
            let _ = decode(&section[..cut], 4_096);
        }
    }

    /// RFC 9204, appendix B.1: a literal field line with a name of the static table. The others need the dynamic one.
    #[test]
    fn examples_of_the_specification_are_read() {
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(
            decode(section, 100),
            Ok(fields(&[(":path", "/index.html")]))
        );
        let dynamic = b"\x03\x81\x10\x11";
        assert_eq!(decode(dynamic, 100), Err(Unreadable::Malformed));
        // RFC 7541, appendix C.4.1, as a literal of QPACK: Huffman's code.
        let huffman = b"\x00\x00\x50\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(
            decode(huffman, 100),
            Ok(fields(&[(":authority", "www.example.com")]))
        );
        // An indexed field line: `:method: CONNECT`.
        assert_eq!(
            decode(b"\x00\x00\xcf", 100),
            Ok(fields(&[(":method", "CONNECT")]))
        );
    }

    #[test]
    fn decoded_size_is_bounded_and_references_to_nothing_are_refused() {
        let many = [&[0, 0][..], &[0xcf; 100]].concat();
        assert_eq!(decode(&many, 100 * 46), decode(&many, usize::MAX));
        assert_eq!(decode(&many, 100 * 46 - 1), Err(Unreadable::TooLarge));
        for section in [
            &b"\x00\x00\xff\x24"[..],                    // static index 99
            b"\x00\x00\x80",                             // dynamic, indexed
            b"\x00\x00\x10",                             // dynamic, behind the base
            b"\x00\x00\x40\x00",                         // dynamic, its name
            b"\x00\x00\x27\xff\xff\xff\xff\xff\xff\x0f", // a length without an end
            b"\x00",
            b"",
        ] {
            assert_eq!(
                decode(section, 100),
                Err(Unreadable::Malformed),
                "{section:x?}"
            );
        }
    }
}

//! Requests with one bit changed: none verifies.

use std::ops::Range;

use super::{SECRET, SigningKey, of_clients, verifies};

#[test]
fn request_with_a_changed_bit_does_not_verify() {
    let key = SigningKey::new(SECRET);
    let mut mutants = 0;
    for (index, (client, request)) in of_clients().into_iter().enumerate() {
        assert!(verifies(&request, &key), "{client}");
        for place in covered(&request).into_iter().flatten() {
            // Every bit of some requests, and one bit of each byte of the others.
            let bits = if index % 16 == 0 {
                0..8
            } else {
                place % 8..place % 8 + 1
            };
            for bit in bits {
                let mut mutant = request.clone();
                mutant[place] ^= 1 << bit;
                if is_same(&request, place, bit) {
                    continue;
                }
                mutants += 1;
                let text = String::from_utf8_lossy(&mutant);
                assert!(!verifies(&mutant, &key), "{client}, byte {place}:\n{text}");
            }
        }
    }
    assert!(mutants > 10_000, "{mutants}");
}

/// The parts of a request that its signature covers: the target, the lines of signed headers, the signature, the body.
fn covered(request: &[u8]) -> Vec<Range<usize>> {
    let end = request.windows(2).position(|two| two == b"\n\n").unwrap();
    let (mut parts, mut start) = (Vec::new(), 0);
    parts.push(end + 2..request.len());
    for line in request[..end].split(|byte| *byte == b'\n') {
        let range = start..start + line.len();
        start = range.end + 1;
        let line = String::from_utf8_lossy(line).to_lowercase();
        let is_covered = |name| line.starts_with(name);
        if ["host:", "x-amz-", "authorization:"]
            .into_iter()
            .any(is_covered)
        {
            parts.push(range);
        } else if let Some(target) = line.strip_suffix(" http/1.1") {
            parts.push(0..target.len());
        }
    }
    parts
}

/// Whether the change leaves the meaning: it is that of a letter's case in a header's name, or in an escape of the
/// query.
fn is_same(request: &[u8], place: usize, bit: usize) -> bool {
    let before = &request[..place];
    let line = before.iter().rposition(|byte| *byte == b'\n');
    let line = &before[line.map_or(0, |end| end + 1)..];
    let is_first = !before.contains(&b'\n');
    let in_name = !is_first && !line.contains(&b':');
    let in_query = is_first && line.contains(&b'?');
    let in_escape = in_query && line.iter().rev().take(2).any(|byte| *byte == b'%');
    bit == 5 && request[place].is_ascii_alphabetic() && (in_name || in_escape)
}

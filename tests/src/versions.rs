//! The guest `versions` as any number of versions, sound and broken.

use std::{fs, path::Path};

use crate::Guest;

const MARK: &[u8] = b"@lockgate-version:";
const LETTER: &[u8] = b"@lockgate-letter:";

/// The component of version `number`, which answers `number number text`. `fault` is its fault: `-` none, `b` traps
/// when an instance is made, `t` traps at every message, `m` spins at every message, `f` fails its self-test, `p` traps
/// in it, `s` spins in it.
#[must_use]
pub fn version(number: u32, fault: char) -> Vec<u8> {
    let mut bytes = fs::read(Guest::Versions.path()).unwrap();
    let mut put = |mark: &[u8], text: String| {
        let places: Vec<_> = (0..bytes.len() - mark.len())
            .filter(|place| bytes[*place..].starts_with(mark))
            .collect();
        assert_eq!(places.len(), 1, "the mark is there once");
        let start = places[0] + mark.len();
        bytes[start..start + text.len()].copy_from_slice(text.as_bytes());
    };
    put(MARK, format!("{number:04}"));
    put(LETTER, fault.to_string());
    bytes
}

/// Replaces a file by a rename, as a careful deployment does.
pub fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(beside, path).unwrap();
}

//! HTTP/3: what a client sends on its streams, in pieces.

use crate::http3::fuzz::{self, Stream};

/// Takes a kind of stream, the length of its pieces, and its bytes. Whatever the pieces are, the outcome is the same.
pub(crate) fn http3(input: &[u8]) {
    let Some((&[kind, piece], bytes)) = input.split_first_chunk() else {
        return;
    };
    let stream = match kind % 7 {
        0 => Stream::Uni,
        1 => Stream::Request,
        2 => Stream::Data,
        4 => Stream::Capsules,
        5 => Stream::Datagram,
        6 => Stream::Body,
        _ => return fuzz::check_fields(bytes),
    };
    let whole = fuzz::read(stream, bytes, usize::MAX);
    assert_eq!(fuzz::read(stream, bytes, usize::from(piece.max(1))), whole);
}

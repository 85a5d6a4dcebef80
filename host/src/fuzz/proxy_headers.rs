//! PROXY headers, read from a socket.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::listener::proxy::{ProxyHeader, read};

/// Longest headers in bytes: of version 1, and of version 2 with the bytes up to its length.
const MAX_HEADER_BYTES: [usize; 2] = [107, 16 + 1_024];

/// A header's reading depends on the header alone, and takes no byte behind it.
pub(crate) fn proxy_headers(input: &[u8]) {
    let Some((header_read, taken)) = given(input) else {
        return;
    };
    let longest = MAX_HEADER_BYTES[usize::from(input.starts_with(b"\r\n"))];
    assert!(taken <= longest, "{taken} bytes were taken");
    assert!(!header_read.tls || input.starts_with(b"\r\n"));
    let header = &input[..taken];
    for behind in [&b""[..], b"\r\n", b"\x16\x03\x01", b"PROXY UNKNOWN\r\n"] {
        let again = given(&[header, behind].concat());
        assert_eq!(again, Some((header_read, taken)), "{header:?}");
    }
    for end in 0..taken {
        assert_eq!(given(&input[..end]), None, "{header:?} up to {end}");
    }
}

fn given(bytes: &[u8]) -> Option<(ProxyHeader, usize)> {
    let mut rest = bytes;
    let read = pin!(read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(read) = read else {
        panic!("a slice is always ready")
    };
    let header_read = read.ok()?;
    Some((header_read, bytes.len() - rest.len()))
}

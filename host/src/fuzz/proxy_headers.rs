//! PROXY headers, as they come from a socket.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::listener::proxy::{Passed, read};

/// Bytes of the longest headers: of version 1, and of version 2 with what is before its length.
const LONGEST: [usize; 2] = [107, 16 + 1_024];

/// What is read of a header depends on it alone, and not a byte behind it is taken.
pub(crate) fn proxy_headers(input: &[u8]) {
    let Some((passed, taken)) = given(input) else {
        return;
    };
    let longest = LONGEST[usize::from(input.starts_with(b"\r\n"))];
    assert!(taken <= longest, "{taken} bytes were taken");
    assert!(!passed.tls || input.starts_with(b"\r\n"));
    let header = &input[..taken];
    for behind in [&b""[..], b"\r\n", b"\x16\x03\x01", b"PROXY UNKNOWN\r\n"] {
        let again = given(&[header, behind].concat());
        assert_eq!(again, Some((passed, taken)), "{header:?}");
    }
    for end in 0..taken {
        assert_eq!(given(&input[..end]), None, "{header:?} up to {end}");
    }
}

fn given(bytes: &[u8]) -> Option<(Passed, usize)> {
    let mut rest = bytes;
    let read = pin!(read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(read) = read else {
        panic!("a slice is always ready")
    };
    let passed = read.ok()?;
    Some((passed, bytes.len() - rest.len()))
}

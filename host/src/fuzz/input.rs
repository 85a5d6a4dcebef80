//! The input of a target, as choices and as a socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Acknowledged;

/// Choices, a byte each, from the front of the input.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    /// The next byte; none at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Chooses one of `count`.
    pub(crate) fn of(&mut self, count: usize) -> Option<usize> {
        Some(usize::from(self.next()?) % count)
    }
}

/// A socket whose peer sends these bytes in pieces, then ends. Written bytes are counted.
pub(crate) struct InputSocket {
    bytes: Vec<u8>,
    offset: usize,
    piece: usize,
    pub(crate) written: usize,
}

impl InputSocket {
    pub(crate) fn new(bytes: &[u8], piece: usize) -> Self {
        Self {
            bytes: bytes.to_vec(),
            offset: 0,
            piece: piece.max(1),
            written: 0,
        }
    }
}

impl Acknowledged for InputSocket {}

impl AsyncRead for InputSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.bytes[self.offset..];
        let length = rest.len().min(self.piece).min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.offset += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InputSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

//! Counts the TLS records from a server: each of its writes is one record, or several if it is long.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream below TLS, which counts the records that come in.
pub(crate) struct Records<S> {
    inner: S,
    count: Arc<AtomicUsize>,
    /// The part of a record's header that has come.
    head: Vec<u8>,
    /// Bytes of the record still to come.
    rest: usize,
}

/// The length of a record's header: type, two bytes of version, two of length (RFC 8446 §5.1).
const HEAD: usize = 5;

impl<S> Records<S> {
    pub(crate) fn new(inner: S, count: Arc<AtomicUsize>) -> Self {
        Self {
            inner,
            count,
            head: Vec::new(),
            rest: 0,
        }
    }

    fn count_records(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if self.head.len() == HEAD {
                self.rest = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
                self.head.clear();
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Records<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.count_records(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Records<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

//! A socket that watches the bytes of an HTTP/1.1 head while it is read.
//!
//! hyper parses heads, and is lenient where a gateway must not be: it takes a lone LF for a line's end, and keeps the
//! bytes that a client sends behind its request. The handshake refuses both by what this socket has seen. The end is
//! strict too: after the last byte is written, the client's bytes are read and dropped for a moment. Closing on unread
//! bytes would reset the connection, and the client could lose the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Time for which a client's bytes are read after the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// The faults seen in a request's head.
#[derive(Debug, Default)]
pub(crate) struct HeadFaults {
    lone_line_feed: AtomicBool,
    beyond_the_head: AtomicBool,
}

impl HeadFaults {
    /// Whether a line of the head ended without CR. RFC 9112 §2.2 lets a server accept that; request smuggling relies
    /// on it.
    pub(crate) fn lone_line_feed(&self) -> bool {
        self.lone_line_feed.load(Ordering::Relaxed)
    }

    /// Whether bytes came behind the head.
    pub(crate) fn beyond_the_head(&self) -> bool {
        self.beyond_the_head.load(Ordering::Relaxed)
    }
}

pub(crate) struct HeadWatch<S> {
    socket: S,
    faults: Arc<HeadFaults>,
    progress: HeadProgress,
    linger: Option<Pin<Box<Sleep>>>,
}

/// The progress towards the end of the head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadProgress {
    /// Only empty lines so far, which a server skips (RFC 9112 §2.2).
    Start,
    StartCarriageReturn,
    Line,
    CarriageReturn,
    EmptyLine,
    LastCarriageReturn,
    Done,
}

impl<S> HeadWatch<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self {
            socket,
            faults: Arc::default(),
            progress: HeadProgress::Start,
            linger: None,
        }
    }

    pub(crate) fn faults(&self) -> Arc<HeadFaults> {
        Arc::clone(&self.faults)
    }

    /// Gives the socket, once the head is read.
    pub(crate) fn into_inner(self) -> S {
        self.socket
    }

    fn inspect(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.progress = match (self.progress, byte) {
                (HeadProgress::Done, _) => {
                    self.faults.beyond_the_head.store(true, Ordering::Relaxed);
                    return;
                }
                (HeadProgress::Start, b'\r') => HeadProgress::StartCarriageReturn,
                (HeadProgress::StartCarriageReturn, b'\n') => HeadProgress::Start,
                (HeadProgress::LastCarriageReturn, b'\n') => HeadProgress::Done,
                (HeadProgress::CarriageReturn, b'\n') => HeadProgress::EmptyLine,
                (_, b'\n') => {
                    self.faults.lone_line_feed.store(true, Ordering::Relaxed);
                    HeadProgress::EmptyLine
                }
                (HeadProgress::EmptyLine, b'\r') => HeadProgress::LastCarriageReturn,
                (_, b'\r') => HeadProgress::CarriageReturn,
                _ => HeadProgress::Line,
            };
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadWatch<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let (_, new) = buffer.filled().split_at(before);
        self.inspect(new);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadWatch<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        }
        let mut linger = self
            .linger
            .take()
            .unwrap_or_else(|| Box::pin(tokio::time::sleep(LINGER)));
        loop {
            let mut scratch = [0; 1024];
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if linger.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.linger = Some(linger);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], lone_line_feed: bool, beyond_the_head: bool) {
        for step in [1, 3, bytes.len()] {
            let mut watch = HeadWatch::new(());
            bytes.chunks(step).for_each(|part| watch.inspect(part));
            assert_eq!(watch.faults.lone_line_feed(), lone_line_feed, "{bytes:?}");
            assert_eq!(watch.faults.beyond_the_head(), beyond_the_head, "{bytes:?}");
        }
    }

    #[test]
    fn end_of_the_head_is_found_however_the_bytes_are_split() {
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", false, false);
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nX", false, true);
        check(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false, false);
        check(
            b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
            false,
            true,
        );
        check(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false);
        check(b"GET / HTTP/1.1\nHost: a\r\n\r\n", true, false);
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\n", true, false);
        check(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", false, false);
    }
}

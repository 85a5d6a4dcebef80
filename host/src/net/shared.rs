//! A stream with two holders: what speaks a protocol on it, and what ends it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::last_bytes::{Acknowledged, LastBytes, poll_discard};
use super::{Link, Written};

pub(crate) struct Shared<S>(Arc<Mutex<Counted<S>>>);

struct Counted<S> {
    stream: S,
    /// Bytes that were written.
    written: usize,
}

impl<S> Shared<S> {
    pub(crate) fn new(stream: S) -> Self {
        let written = 0;
        Self(Arc::new(Mutex::new(Counted { stream, written })))
    }

    fn lock(&self) -> MutexGuard<'_, Counted<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Acknowledged> Shared<S> {
    /// Bytes that were written and have arrived.
    pub(crate) fn taken(&self) -> usize {
        let counted = self.lock();
        let left = counted.stream.unacknowledged();
        counted.written.wrapping_sub(left)
    }
}

impl<S: Acknowledged + Send + 'static> Shared<S> {
    pub(crate) fn link(&self) -> Weak<dyn Link> {
        let weak: Weak<Mutex<Counted<S>>> = Arc::downgrade(&self.0);
        weak
    }
}

impl<S: Acknowledged + Send> Link for Mutex<Counted<S>> {
    fn written(&self) -> Written {
        let counted = self.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counted.written as i64;
        Written {
            all,
            arrived: all - counted.stream.unacknowledged() as i64,
        }
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Acknowledged + AsyncRead + Unpin> LastBytes for Shared<S> {
    fn poll_discard(&mut self, context: &mut Context<'_>, heard: &mut bool) -> Poll<()> {
        poll_discard(&mut self.lock().stream, context, heard)
    }

    fn unacknowledged(&self) -> usize {
        self.lock().stream.unacknowledged()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shared<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shared<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut counted = self.lock();
        let written = ready!(Pin::new(&mut counted.stream).poll_write(context, bytes))?;
        counted.written = counted.written.wrapping_add(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut counted = self.lock();
        let written = ready!(Pin::new(&mut counted.stream).poll_write_vectored(context, parts))?;
        counted.written = counted.written.wrapping_add(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(context)
    }
}

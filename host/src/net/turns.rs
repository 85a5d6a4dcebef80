//! A stream that is read for a bounded time in a turn: then others run. Frames and TLS records of a few bytes cost far
//! more than their bytes, and their parsers take all that has come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Acknowledged;

/// Reads at which a turn begins to be timed: a client that is quiet in between costs no look at a clock.
const UNTIMED_READS: u32 = 4;

/// The time of a turn, from its first timed read.
const TURN: Duration = Duration::from_millis(1);

pub(crate) struct Turns<S> {
    stream: S,
    /// Reads since there was nothing to read.
    reads: u32,
    since: Option<Instant>,
}

impl<S> Turns<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            reads: 0,
            since: None,
        }
    }

    fn is_over(&mut self) -> bool {
        self.reads >= UNTIMED_READS && self.since.get_or_insert_with(Instant::now).elapsed() >= TURN
    }

    fn end(&mut self) {
        (self.reads, self.since) = (0, None);
    }
}

impl<S: Acknowledged> Acknowledged for Turns<S> {
    fn unacknowledged(&self) -> usize {
        self.stream.unacknowledged()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Turns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over() {
            self.end();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Ready(_) => self.reads += 1,
            Poll::Pending => self.end(),
        }
        Poll::Ready(ready!(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Turns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stream_with_much_to_read_gives_way_after_a_turn() {
        let (near, mut far) = duplex(1 << 10);
        far.write_all(&[7; 100]).await.unwrap();
        let mut turns = Turns::new(near);
        let mut read = async || {
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            poll_fn(|context| {
                let read = Pin::new(&mut turns).poll_read(context, &mut buffer);
                Poll::Ready(read.is_ready())
            })
            .await
        };
        for _ in 0..UNTIMED_READS + 2 {
            assert!(read().await);
        }
        advance(TURN).await;
        assert!(!read().await, "its turn is over");
        assert!(read().await, "it has another");
    }
}

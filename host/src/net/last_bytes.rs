//! The last bytes to a client. The kernel takes megabytes for a slow one, so what is written has not arrived; and if the
//! socket closes before, the next byte of the client resets the connection, and the kernel drops the rest.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, DuplexStream, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

/// The time that a client has for its last bytes when the connection ends, as long as it goes on taking them.
pub(crate) const LAST_WRITES: Duration = Duration::from_secs(25);

/// Interval of asking the kernel what has arrived: it does not tell by itself.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A stream that knows what of its bytes has arrived.
pub(crate) trait Acknowledged {
    /// Bytes that were written and that the client's system has not acknowledged. None where nothing tells: in memory, on
    /// this machine, and on a stream of a connection that others have too.
    fn unacknowledged(&self) -> usize {
        0
    }
}

impl<S: Acknowledged> Acknowledged for TlsStream<S> {
    fn unacknowledged(&self) -> usize {
        self.get_ref().0.unacknowledged()
    }
}

impl Acknowledged for DuplexStream {}

impl Acknowledged for TokioIo<Upgraded> {}

/// The end of a connection from our side: nothing more is written.
pub(crate) trait LastBytes {
    /// Reads and drops all further input. Ready at its end.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// As [`Acknowledged::unacknowledged`].
    fn unacknowledged(&self) -> usize;
}

/// Reads and drops all further input of a stream. Ready at its end.
pub(crate) fn poll_discard(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let mut scratch = [0; 1024];
        let mut buffer = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {}
            Ok(()) | Err(_) => return Poll::Ready(()),
        }
    }
}

/// Lets the last bytes arrive, behind our FIN: reads and drops what the client sends until it ends its half, and for a
/// `moment` more once it has everything. Gives up on a client that takes nothing for `limit`, and at `last`.
pub(crate) async fn let_arrive(
    stream: &mut impl LastBytes,
    moment: Duration,
    limit: Duration,
    last: Instant,
) {
    let mut left = stream.unacknowledged();
    let mut progress = Progress::begin(left);
    loop {
        let pause = if left == 0 { moment } else { ASK_AGAIN };
        let discarded = poll_fn(|context| stream.poll_discard(context));
        if timeout(pause, discarded).await.is_ok() || left == 0 {
            return;
        }
        left = stream.unacknowledged();
        if progress.paused_for(left) >= limit || Instant::now() >= last {
            return;
        }
    }
}

/// Whether a count changes, and since when it has not.
pub(crate) struct Progress {
    count: usize,
    since: Instant,
}

impl Progress {
    pub(crate) fn begin(count: usize) -> Self {
        let since = Instant::now();
        Self { count, since }
    }

    /// Takes the newest count. Gives the time since its last change.
    pub(crate) fn paused_for(&mut self, count: usize) -> Duration {
        if self.count != count {
            *self = Self::begin(count);
        }
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that takes a byte with each look, down to `stops_at`, and never ends its half.
    struct Client {
        left: std::cell::Cell<usize>,
        stops_at: usize,
    }

    impl LastBytes for Client {
        fn poll_discard(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn unacknowledged(&self) -> usize {
            let left = self.left.get();
            self.left.set(left.max(self.stops_at + 1) - 1);
            left
        }
    }

    async fn took(left: usize, stops_at: usize) -> Duration {
        let left = left.into();
        let mut client = Client { left, stops_at };
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let_arrive(&mut client, 2 * second, 10 * second, begun + LAST_WRITES).await;
        // The clock's steps are milliseconds.
        Duration::from_millis(begun.elapsed().as_millis() as u64 / 10 * 10)
    }

    #[tokio::test(start_paused = true)]
    async fn client_has_a_moment_more_once_it_has_everything() {
        assert_eq!(took(0, 0).await, Duration::from_secs(2));
        assert_eq!(took(4, 0).await, 4 * ASK_AGAIN + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_nothing_is_given_up_before_one_that_is_slow() {
        assert_eq!(took(5, 5).await, Duration::from_secs(10));
        assert_eq!(took(1_000, 0).await, LAST_WRITES);
    }
}

//! The last bytes to a client. The kernel takes megabytes for a slow one, so what is written has not arrived; and if the
//! socket closes before, the next byte of the client resets the connection, and the kernel drops the rest.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, DuplexStream, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::Written;

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

    /// What was written to the connection, if others have a part of it too, and what this stream holds back besides.
    fn link(&self) -> Option<Written> {
        None
    }
}

impl<S: Acknowledged> Acknowledged for TlsStream<S> {
    fn unacknowledged(&self) -> usize {
        self.get_ref().0.unacknowledged()
    }
}

impl Acknowledged for DuplexStream {}

/// The end of a connection from our side: nothing more is written.
pub(crate) trait LastBytes {
    /// Reads and drops all further input. Ready at its end. Notes in `heard` that something has come.
    fn poll_discard(&mut self, context: &mut Context<'_>, heard: &mut bool) -> Poll<()>;

    /// As [`Acknowledged::unacknowledged`].
    fn unacknowledged(&self) -> usize;

    /// As [`Acknowledged::link`].
    fn link(&self) -> Option<Written> {
        None
    }
}

/// As [`LastBytes::poll_discard`], of a stream.
pub(crate) fn poll_discard(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    heard: &mut bool,
) -> Poll<()> {
    loop {
        let mut scratch = [0; 1024];
        let mut buffer = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => *heard = true,
            Ok(()) | Err(_) => return Poll::Ready(()),
        }
    }
}

/// Lets the last bytes arrive, behind our FIN: reads and drops what the client sends until it ends its half, or has
/// everything and sends nothing for a `moment`. Gives up on a client that takes nothing for `limit`, and at `last`.
///
/// One that still sends has not read its end. A proxy before it may have: its kernel takes everything at once, and it drops
/// what it has not passed on as soon as it can pass on nothing more to us.
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
        let again = last.min(Instant::now() + pause);
        let mut heard = false;
        let discarded = poll_fn(|context| stream.poll_discard(context, &mut heard));
        if timeout_at(again, discarded).await.is_ok() || left == 0 && !heard {
            return;
        }
        left = stream.unacknowledged();
        let takes_nothing = progress.paused_for(left) >= limit && left > 0;
        if takes_nothing || Instant::now() >= last {
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
    use tokio::time::{Interval, interval_at};

    use super::*;

    /// A client that takes a byte with each look, down to `stops_at`, sends `pings`, one a second, and never ends its half.
    struct Client {
        left: std::cell::Cell<usize>,
        stops_at: usize,
        pings: usize,
        times: Interval,
    }

    impl LastBytes for Client {
        fn poll_discard(&mut self, context: &mut Context<'_>, heard: &mut bool) -> Poll<()> {
            while self.pings > 0 {
                ready!(self.times.poll_tick(context));
                self.pings -= 1;
                *heard = true;
            }
            Poll::Pending
        }

        fn unacknowledged(&self) -> usize {
            let left = self.left.get();
            self.left.set(left.max(self.stops_at + 1) - 1);
            left
        }
    }

    async fn took(left: usize, stops_at: usize) -> Duration {
        took_with_pings(left, stops_at, 0).await
    }

    async fn took_with_pings(left: usize, stops_at: usize, pings: usize) -> Duration {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut client = Client {
            left: left.into(),
            stops_at,
            pings,
            times: interval_at(begun + second, second),
        };
        let_arrive(&mut client, 2 * second, 10 * second, begun + LAST_WRITES).await;
        // The clock's steps are milliseconds.
        Duration::from_millis(begun.elapsed().as_millis() as u64 / 10 * 10)
    }

    #[tokio::test(start_paused = true)]
    async fn client_has_a_moment_more_once_it_has_everything() {
        assert_eq!(took(0, 0).await, Duration::from_secs(2));
        assert_eq!(took(4, 0).await, 4 * ASK_AGAIN + Duration::from_secs(2));
    }

    /// Behind a proxy, whose kernel has everything.
    #[tokio::test(start_paused = true)]
    async fn client_that_still_sends_has_not_read_its_end() {
        let took = took_with_pings(0, 0, 15).await;
        assert!((17..=19).contains(&took.as_secs()), "{took:?}");
        assert_eq!(took_with_pings(0, 0, 1_000).await, LAST_WRITES);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_sends_and_takes_nothing_is_given_up() {
        assert_eq!(took_with_pings(5, 5, 1_000).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_nothing_is_given_up_before_one_that_is_slow() {
        assert_eq!(took(5, 5).await, Duration::from_secs(10));
        assert_eq!(took(1_000, 0).await, LAST_WRITES);
    }
}

//! The link to a client, as the kernel knows it. A ping waits behind what the kernel has taken for a slow client, and a
//! client that has not seen it cannot answer.

use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};
use std::time::{self, Duration};

use tokio::time::Instant;

use super::Patience;

/// Bytes that were written to a client.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    /// All of them, and those that wait to be.
    pub(crate) all: i64,
    /// Those that its system has acknowledged. Over TLS a few more are counted as on their way.
    pub(crate) arrived: i64,
}

/// A connection that several have a part of.
pub(crate) trait Link: Send + Sync {
    fn written(&self) -> Written;
}

/// A ping, and what was written before it.
pub(crate) struct Ping {
    before: i64,
    /// Bytes that had arrived at the last look.
    arrived: i64,
    is_behind: bool,
}

impl Ping {
    pub(crate) fn behind(written: Written) -> Self {
        Self {
            before: written.all,
            arrived: written.arrived,
            is_behind: written.arrived < written.all,
        }
    }

    /// Whether the client may not have had the time to answer: it goes on taking, and had not all that is before the ping at
    /// the last look. Its system has what it takes before the client itself does.
    pub(crate) fn may_wait(&mut self, written: Written) -> bool {
        let goes_on = written.arrived > self.arrived;
        self.arrived = written.arrived;
        let is_behind = written.arrived < self.before;
        std::mem::replace(&mut self.is_behind, is_behind) && goes_on
    }
}

/// The timer for hyper on HTTP/2, which judges before it reads. The answer to a ping is due once the client may have
/// seen the ping.
pub(crate) struct PingTimer {
    /// Not kept: a session that is being told of its end would keep the socket open.
    pub(crate) link: Weak<dyn Link>,
    /// The time limit of an answer. hyper waits for longer between pings, by the same timer.
    pub(crate) answer: Duration,
}

impl hyper::rt::Timer for PingTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let is_answer = deadline <= self.now() + self.answer;
        let link = self.link.upgrade().filter(|_| is_answer);
        Box::pin(Answer {
            due: Patience::until(deadline.into()),
            ping: link.map(|link| Ping::behind(link.written())),
            link: self.link.clone(),
            again: self.answer,
        })
    }

    fn now(&self) -> time::Instant {
        Instant::now().into_std()
    }
}

struct Answer {
    due: Patience,
    ping: Option<Ping>,
    link: Weak<dyn Link>,
    again: Duration,
}

impl Future for Answer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Pin::new(&mut self.due).poll(context));
            let written = self.link.upgrade().map(|link| link.written());
            let ping = self.ping.as_mut().zip(written);
            if !ping.is_some_and(|(ping, written)| ping.may_wait(written)) {
                self.ping = None;
                return Poll::Ready(());
            }
            let again = Instant::now() + self.again;
            self.due.reset(again);
        }
    }
}

impl hyper::rt::Sleep for Answer {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use hyper::rt::Timer as _;
    use tokio::time::interval_at;

    use super::*;

    const ANSWER: Duration = Duration::from_secs(8);
    const SECOND: Duration = Duration::from_secs(1);

    /// What has arrived of 1,000 bytes.
    struct Slow(AtomicI64);

    impl Link for Slow {
        fn written(&self) -> Written {
            let (all, arrived) = (1_000, self.0.load(Ordering::Relaxed));
            Written { all, arrived }
        }
    }

    /// The seconds that a client has to answer a ping if it takes this many bytes in each, up to this many.
    async fn has(bytes: i64, most: i64) -> u64 {
        let begun = Instant::now();
        let link = Arc::new(Slow(AtomicI64::new(0)));
        let weak = Arc::downgrade(&link);
        let timer = PingTimer {
            link: weak,
            answer: ANSWER,
        };
        let takes = async {
            let mut seconds = interval_at(begun + SECOND / 2, SECOND);
            for second in 1.. {
                seconds.tick().await;
                link.0.store(most.min(second * bytes), Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = timer.sleep(ANSWER) => {}
            () = takes => {}
        }
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_due_once_the_ping_may_have_been_seen() {
        let once = ANSWER.as_secs();
        assert_eq!(has(0, 0).await, once);
        assert_eq!(has(1_000, 1_000).await, 2 * once);
        assert_eq!(has(70, 1_000).await, 3 * once);
        // It has taken the ping by the first look after it, and what comes later is nothing to it.
        assert_eq!(has(100, 1_000_000).await, 3 * once);
        // It takes nothing more.
        assert_eq!(has(70, 500).await, 2 * once);
    }
}

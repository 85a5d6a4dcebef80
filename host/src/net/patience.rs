//! A timer for what a client owes, which allows for a pause of the process: a stop, a snapshot or a move of the machine, a
//! freezer. After one, the timers of the time that has passed go off before the sockets are looked at, and a client that
//! sent in time would seem silent.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{self, Duration};

use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};

/// The time by which a timer is late after a pause, and not on a busy machine.
const LATE: Duration = Duration::from_millis(100);

/// The time from then on in which sockets are read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The number of times in a row: on a machine whose timers are always late, silent clients end too.
const MOST_PUT_OFF: u8 = 3;

pub(crate) struct Patience {
    sleep: Pin<Box<Sleep>>,
    /// The end of the time after a pause.
    not_before: Option<Instant>,
    put_off: u8,
    /// The sockets were looked at since the time was over. A pause may end just then.
    has_looked: bool,
    is_over: bool,
}

impl Patience {
    pub(crate) fn until(due: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(due)),
            not_before: None,
            put_off: 0,
            has_looked: false,
            is_over: false,
        }
    }

    /// Sets another time. The time after a pause stays.
    pub(crate) fn reset(&mut self, due: Instant) {
        let due = self.not_before.map_or(due, |earliest| earliest.max(due));
        self.sleep.as_mut().reset(due);
        (self.has_looked, self.is_over) = (false, false);
    }
}

impl Future for Patience {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while !self.is_over {
            ready!(self.sleep.as_mut().poll(context));
            let now = Instant::now();
            let late = now.saturating_duration_since(self.sleep.deadline());
            if late < LATE || self.put_off == MOST_PUT_OFF {
                if !std::mem::replace(&mut self.has_looked, true) {
                    // The runtime wakes the task once it has looked at the sockets.
                    return pin!(yield_now()).poll(context);
                }
                (self.not_before, self.put_off, self.is_over) = (None, 0, true);
            } else {
                self.put_off += 1;
                self.not_before = Some(now + READ_AGAIN);
                self.sleep.as_mut().reset(now + READ_AGAIN);
            }
        }
        Poll::Ready(())
    }
}

/// The timer for hyper, which judges before it reads.
pub(crate) struct PatientTimer;

impl hyper::rt::Sleep for Patience {}

impl hyper::rt::Timer for PatientTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Patience::until(deadline.into()))
    }

    fn now(&self) -> time::Instant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    /// Begins to wait.
    async fn begun() -> Patience {
        let mut limit = Patience::until(Instant::now() + LIMIT);
        assert!(timeout(Duration::ZERO, &mut limit).await.is_err());
        limit
    }

    #[tokio::test(start_paused = true)]
    async fn limit_that_nothing_disturbs_is_kept() {
        let start = Instant::now();
        begun().await.await;
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn limit_that_has_just_passed_leaves_one_look_at_the_sockets() {
        let mut limit = begun().await;
        advance(LIMIT).await;
        let passed = Instant::now();
        let over = poll_fn(|context| Poll::Ready(Pin::new(&mut limit).poll(context).is_ready()));
        assert!(!over.await);
        limit.await;
        assert_eq!(passed.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn limit_that_a_pause_has_used_up_leaves_a_second_to_read() {
        let mut limit = begun().await;
        advance(2 * LIMIT).await;
        let resumed = Instant::now();
        (&mut limit).await;
        assert_eq!(resumed.elapsed().as_secs(), READ_AGAIN.as_secs());
        // It stays over until it is set again.
        advance(LIMIT).await;
        assert!(timeout(Duration::ZERO, &mut limit).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn time_after_a_pause_is_no_shorter_for_a_new_limit() {
        let mut limit = begun().await;
        advance(2 * LIMIT).await;
        let resumed = Instant::now();
        assert!(timeout(Duration::ZERO, &mut limit).await.is_err());
        limit.reset(resumed - LIMIT);
        limit.await;
        assert_eq!(resumed.elapsed().as_secs(), READ_AGAIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_is_always_late_goes_off() {
        let mut limit = begun().await;
        let mut late = 0;
        advance(LIMIT).await;
        while poll_fn(|context| Poll::Ready(Pin::new(&mut limit).poll(context).is_pending())).await
        {
            advance(READ_AGAIN + LATE).await;
            late += 1;
        }
        assert!(late <= u32::from(MOST_PUT_OFF) + 1);
    }
}

//! First ticks: the time that guests take of the threads which serve sockets.
//!
//! A call begins in its session's task, and most are over there after a microsecond. Calls that each take a good part of
//! their first tick are another matter: a hundred sessions that begin one after the other keep a thread from all other
//! clients for as long as they all take. So the calls of a costly plugin are charged, and together they get half of a
//! thread's time. Beyond that they begin on the guest threads, where their plugin has its share.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::cpu_time::{thread_delay, thread_time};

/// A first poll that takes as long makes its plugin costly. A session handles 32 messages in a turn: cheaper calls make
/// the turns of a hundred sessions no longer than the 20 ms that a neighbour may wait.
const COSTLY: Duration = Duration::from_micros(10);

/// Calls that are charged after a costly one, however cheap they are.
const CHARGED_CALLS: u32 = 64;

/// Calls that are charged after a sample that seems costly. A busy machine makes any sample long, and so this call begins
/// here, whatever is left of the thread's time, and its processor time tells whether the plugin is costly.
const JUDGED_CALLS: u32 = 1;

/// A call of any plugin is timed once in so many of its thread: a clock that is read at each call would cost a short one
/// a twentieth. A prime number, so that plugins which take turns are all met.
const SAMPLE_EVERY: u32 = 17;

/// Costly calls get this part of a thread's time: of that for which it has a processor, or waits for something to do. While
/// others have its processor, the thread falls behind, and that part would be all that it gets.
const SHARE: f64 = 0.5;

/// That time is counted in steps as long, since a file tells it.
const STEP: Duration = Duration::from_micros(500);

/// The time that costly calls may take at once, after a pause: a tick, which a single call may last.
const BURST: Duration = Duration::from_millis(2);

thread_local! {
    /// Calls of this thread until one is timed.
    static UNTIMED: Cell<u32> = const { Cell::new(SAMPLE_EVERY) };
    static CREDIT: Cell<Option<Credit>> = const { Cell::new(None) };
}

/// What is left of a thread's time for costly calls.
#[derive(Clone, Copy)]
struct Credit {
    /// Seconds; below zero when the last call took more than was left.
    left_s: f64,
    /// When it was counted, and for how long others had had the thread's processor by then.
    at: Instant,
    delayed: Duration,
}

impl Credit {
    fn now() -> Self {
        let at = Instant::now();
        let before = CREDIT.get();
        if let Some(before) = before
            && at - before.at < STEP
        {
            return before;
        }
        let delayed = thread_delay();
        let most_s = BURST.as_secs_f64();
        let left_s = before.map_or(most_s, |before| {
            let own = (at - before.at).saturating_sub(delayed.saturating_sub(before.delayed));
            most_s.min(before.left_s + own.as_secs_f64() * SHARE)
        });
        let now = Self {
            left_s,
            at,
            delayed,
        };
        CREDIT.set(Some(now));
        now
    }
}

/// A first poll whose time is taken.
pub(crate) struct Timed {
    began: Began,
    /// The calls that it stands for: itself, and those before it that were not timed.
    pub(crate) stands_for: u32,
}

/// The start of a timed poll.
enum Began {
    /// Of a sample, by the cheap clock, which goes on while other threads have the processor.
    Sampled(Instant),
    /// Of a costly plugin's call, by the processor time of the thread: a busy machine makes no call dearer.
    Charged(Duration),
}

/// Whether the calls of one plugin are costly. Shared by all threads, and written only while they are.
#[derive(Debug, Default)]
pub(crate) struct FirstTicks {
    /// Calls that are still charged, whatever they take; none while the plugin is cheap.
    charged: AtomicU32,
}

impl FirstTicks {
    /// Whether the plugin's next call may begin on this thread.
    pub(crate) fn may_begin_here(&self) -> bool {
        self.charged.load(Ordering::Relaxed) <= JUDGED_CALLS || Credit::now().left_s > 0.0
    }

    /// Begins the first poll of a call on this thread: the time, if it is to be taken.
    pub(crate) fn begin(&self) -> Option<Timed> {
        let untimed = UNTIMED.get() - 1;
        let sampled = untimed == 0;
        UNTIMED.set(if sampled { SAMPLE_EVERY } else { untimed });
        match self.charged.load(Ordering::Relaxed) {
            0 if sampled => Some(Timed {
                began: Began::Sampled(Instant::now()),
                stands_for: SAMPLE_EVERY,
            }),
            0 => None,
            _ => Some(Timed {
                began: Began::Charged(thread_time()),
                stands_for: 1,
            }),
        }
    }

    /// Ends that poll. Gives its duration.
    pub(crate) fn end(&self, timed: &Timed) -> Duration {
        let took = match timed.began {
            Began::Sampled(began) => began.elapsed(),
            Began::Charged(began) => {
                let took = thread_time().saturating_sub(began);
                let mut credit = Credit::now();
                credit.left_s -= took.as_secs_f64();
                CREDIT.set(Some(credit));
                took
            }
        };
        let charged = self.charged.load(Ordering::Relaxed);
        let next = match timed.began {
            Began::Sampled(_) if took >= COSTLY => charged.max(JUDGED_CALLS),
            Began::Charged(_) if took >= COSTLY => CHARGED_CALLS,
            Began::Sampled(_) | Began::Charged(_) => charged.saturating_sub(1),
        };
        if next != charged {
            self.charged.store(next, Ordering::Relaxed);
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(began: Began) -> Timed {
        Timed {
            began,
            stands_for: 1,
        }
    }

    #[test]
    fn long_sample_has_the_next_call_judged_by_its_processor_time() {
        let ticks = FirstTicks::default();
        let sample = || timed(Began::Sampled(Instant::now() - 2 * COSTLY));
        ticks.end(&sample());
        // Others have used up the thread's time.
        let at = Instant::now() + Duration::from_secs(60);
        CREDIT.set(Some(Credit {
            left_s: -1.0,
            at,
            delayed: Duration::ZERO,
        }));
        assert!(ticks.may_begin_here(), "the plugin counts as costly");
        let next = ticks.begin().expect("it is judged");
        assert!(matches!(next.began, Began::Charged(_)));
        // It takes no processor time.
        ticks.end(&timed(Began::Charged(thread_time() + COSTLY)));
        assert_eq!(ticks.charged.load(Ordering::Relaxed), 0);
        ticks.end(&sample());
        let took = thread_time() + 2 * COSTLY;
        while thread_time() < took {}
        ticks.end(&timed(Began::Charged(took - 2 * COSTLY)));
        assert!(!ticks.may_begin_here(), "the plugin counts as cheap");
        // A sample that was begun before changes nothing of that.
        ticks.end(&sample());
        assert!(!ticks.may_begin_here());
    }
}

//! A session's deadlines: idle, age, ping and pong, stall. One timer, set to the nearest and moved only when
//! it has gone off, so that a message costs no timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use super::end::End;
use crate::config::StageLimits;
use crate::connections::Closing;

/// A timer without deadlines looks again after this time, in case the limits have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// How long a client may take for what waits for it when the connection ends, as long as it goes on taking.
pub(super) const LAST_WRITES: Duration = Duration::from_secs(25);

/// How far apart in time connections end, and are pinged, that opened together.
const JITTER: f64 = 0.05;

pub(super) struct Deadlines {
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off.
    due: Instant,
    /// The timer will wake the session: until it is due there is no reason to look at it, whose memory is far from
    /// what a message needs.
    armed: bool,
    opened: Instant,
    last_message: Instant,
    next_ping: Option<Instant>,
    /// Until when a sign of life must come.
    pong_due: Option<Instant>,
    stalled_since: Option<Instant>,
    /// When the message began that has not come to its end.
    message_since: Option<Instant>,
    /// Until when the connection has to have left, if it was told to: neither its age nor its silence tells it again.
    leaving: Option<Instant>,
    /// 1 ± [`JITTER`]: connections that opened together do not end together.
    jitter: f64,
}

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    Ping,
    /// The connection is to end in good order, with all that was queued for it: why, in words for the log.
    Leave(&'static str),
    /// It was to end in good order, and has had the time for it.
    Left,
    End(End),
}

impl Deadlines {
    pub(super) fn start(limits: &StageLimits) -> Self {
        let now = Instant::now();
        let jitter = jitter();
        let next_ping = ping_after(now, jitter, limits);
        let mut deadlines = Self {
            timer: Box::pin(tokio::time::sleep_until(now)),
            due: now,
            armed: false,
            opened: now,
            last_message: now,
            next_ping,
            pong_due: None,
            stalled_since: None,
            message_since: None,
            leaving: None,
            jitter,
        };
        deadlines.set(limits);
        deadlines
    }

    /// A message went either way. Only an idle timeout wants to know.
    pub(super) fn message(&mut self, limits: &StageLimits) {
        if limits.idle_timeout.is_some() {
            self.last_message = Instant::now();
        }
    }

    /// Something came from the client.
    pub(super) fn heard(&mut self) {
        self.pong_due = None;
    }

    /// A message has begun and not ended, or none has.
    pub(super) fn unfinished(&mut self, since: Option<Instant>, limits: &StageLimits) {
        if self.message_since != since {
            self.message_since = since;
            if since.is_some() {
                self.set(limits);
            }
        }
    }

    /// The client takes nothing of what is written.
    pub(super) fn stalled(&mut self, limits: &StageLimits) {
        if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
            self.set(limits);
        }
    }

    /// Since when the client has taken nothing of what is written.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// The client takes what is written.
    pub(super) fn flowing(&mut self) {
        self.stalled_since = None;
    }

    /// The connection is to end once all is written. For that it has [`LAST_WRITES`] from when this is called first.
    pub(super) fn leave(&mut self, limits: &StageLimits) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now() + LAST_WRITES);
            self.set(limits);
        }
    }

    /// Ready when something is due. While `deaf` nothing is read, and no pong can be missed.
    pub(super) fn poll_due(
        &mut self,
        context: &mut Context<'_>,
        limits: &StageLimits,
        deaf: bool,
    ) -> Poll<Due> {
        while self.is_due(context) {
            let now = Instant::now();
            let past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
            let end = if past(self.stall_deadline(limits)) {
                Some(End::Stalled)
            } else if past(self.pong_due) && !deaf {
                Some(End::Unanswered)
            } else if past(self.message_deadline(limits)) && !deaf {
                Some(End::Unfinished)
            } else {
                None
            };
            if let Some(end) = end {
                return Poll::Ready(Due::End(end));
            }
            if past(self.leaving) {
                return Poll::Ready(Due::Left);
            }
            let leaves = if past(self.idle_deadline(limits)) {
                Some("no message went either way for limits.idle_timeout_s")
            } else if past(self.age_deadline(limits)) {
                Some("it is as old as limits.max_age_s")
            } else {
                None
            };
            if let Some(why) = leaves {
                self.leave(limits);
                return Poll::Ready(Due::Leave(why));
            }
            if deaf {
                // Whether a pong has come meanwhile is not known.
                self.pong_due = self.pong_due.map(|due| due.max(now + limits.pong_timeout));
            }
            let ping = past(self.next_ping);
            if ping || self.next_ping.is_none() {
                self.next_ping = ping_after(now, self.jitter, limits);
            }
            if ping {
                self.pong_due.get_or_insert(now + limits.pong_timeout);
            }
            self.set(limits);
            if ping {
                return Poll::Ready(Due::Ping);
            }
        }
        Poll::Pending
    }

    fn is_due(&mut self, context: &mut Context<'_>) -> bool {
        if self.armed && Instant::now() < self.due {
            return false;
        }
        // Without budget left the timer only wakes the task, to be asked again.
        let asked = coop::has_budget_remaining();
        let due = self.timer.as_mut().poll(context).is_ready();
        self.armed = asked && !due;
        due
    }

    fn set(&mut self, limits: &StageLimits) {
        let nearest = [
            self.stall_deadline(limits),
            self.pong_due,
            // While nothing is read, what is overdue is no reason to look again at once.
            self.message_deadline(limits)
                .filter(|due| *due > Instant::now()),
            self.idle_deadline(limits),
            self.age_deadline(limits),
            self.leaving,
            self.next_ping,
        ];
        let nearest = nearest.into_iter().flatten().min();
        self.due = nearest.unwrap_or_else(|| Instant::now() + LOOK_AGAIN);
        self.armed = false;
        self.timer.as_mut().reset(self.due);
    }

    fn stall_deadline(&self, limits: &StageLimits) -> Option<Instant> {
        self.stalled_since.map(|since| since + limits.stall_timeout)
    }

    fn message_deadline(&self, limits: &StageLimits) -> Option<Instant> {
        self.message_since
            .map(|since| since + limits.message_timeout)
    }

    fn idle_deadline(&self, limits: &StageLimits) -> Option<Instant> {
        let timeout = limits.idle_timeout.filter(|_| self.leaving.is_none());
        timeout.map(|timeout| self.last_message + timeout)
    }

    fn age_deadline(&self, limits: &StageLimits) -> Option<Instant> {
        let age = limits.max_age.filter(|_| self.leaving.is_none());
        age.map(|age| self.opened + age.mul_f64(self.jitter))
    }
}

/// When to ping next: sooner than the interval by a tenth at most and never later, so that a silent client is found
/// within the interval and its time to answer.
fn ping_after(now: Instant, jitter: f64, limits: &StageLimits) -> Option<Instant> {
    let interval = limits.ping_interval?;
    Some(now + interval.mul_f64(jitter - JITTER))
}

/// What an idle or old connection is told, as by API Gateway (docs/api-gateway.md).
pub(super) fn going_away() -> Closing {
    Closing::new(1001, "Going away")
}

fn jitter() -> f64 {
    let mut byte = [0];
    // Without random numbers all is well, only less spread.
    let _ = getrandom::fill(&mut byte);
    1.0 - JITTER + 2.0 * JITTER * f64::from(byte[0]) / 255.0
}

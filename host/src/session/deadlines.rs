//! The deadlines of a session: idle, age, ping and pong, stall. They share one timer, set to the nearest and moved
//! only when it goes off, so that a message costs no timer. After a pause of the process nothing is judged before the
//! sockets are read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Instant;

use super::end::End;
use crate::clock::now_ms;
use crate::config::StageLimits;
use crate::connections::Closing;
use crate::net::{LAST_WRITES, Patience, Ping, Written};

/// The timer goes off after this time, however far the nearest deadline is: a reload may have changed the limits, and a
/// silent connection finds out in no other way.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

/// A time that is never waited for: later ones would be over what an [`Instant`] can hold.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The spread of the ends and the pings of connections that opened together, as a part of their time.
const JITTER: f64 = 0.05;

pub(super) struct Deadlines {
    timer: Patience,
    /// The time at which the timer goes off.
    due: Instant,
    /// Whether the timer will wake the session. Until it is due, the session does not look at it: its memory is far
    /// from that of a message.
    armed: bool,
    /// Whether the session was asked for its newest limits since the timer went off.
    asked: bool,
    opened: Instant,
    last_message: Instant,
    next_ping: Option<Instant>,
    /// The deadline for a sign of life.
    pong_due: Option<Instant>,
    /// The ping that waits for it.
    ping: Option<Ping>,
    stalled_since: Option<Instant>,
    /// The start of the message that has not come to its end.
    message_since: Option<Instant>,
    /// When what let the client in expires, if that ends the connection.
    expires: Option<Instant>,
    /// The deadline of a connection that was told to end. Neither its age nor its silence ends it again.
    leaving: Option<Instant>,
    /// 1 ± [`JITTER`]: connections that opened together do not end together.
    jitter: f64,
}

/// An action that is due.
#[derive(Debug)]
pub(super) enum Due {
    /// The timer went off. The session looks for newer limits first: a silent one has not seen a reload.
    Judgement,
    Ping,
    /// The connection is to end in good order, with its whole queue written. The limit, for the log.
    Leave(&'static str),
    /// What let the client in has expired, unless it has been renewed meanwhile. The connection is to end in good order.
    Expired,
    /// The time to end in good order is over.
    Left,
    End(End),
}

impl Deadlines {
    pub(super) fn start(limits: &StageLimits) -> Self {
        let now = Instant::now();
        let jitter = jitter();
        let next_ping = ping_after(now, jitter, limits);
        let mut deadlines = Self {
            timer: Patience::until(now),
            due: now,
            armed: false,
            asked: false,
            opened: now,
            last_message: now,
            next_ping,
            pong_due: None,
            ping: None,
            stalled_since: None,
            message_since: None,
            expires: None,
            leaving: None,
            jitter,
        };
        deadlines.reset_timer(limits);
        deadlines
    }

    /// Takes the limits of a new snapshot. An idle timeout or pings that were off begin now.
    pub(super) fn take_limits(&mut self, before: &StageLimits, limits: &StageLimits) {
        let now = Instant::now();
        if before.idle_timeout.is_none() {
            self.last_message = now;
        }
        if before.ping_interval != limits.ping_interval {
            self.next_ping = ping_after(now, self.jitter, limits);
        }
        // A deadline that has passed is judged first.
        if !self.asked {
            self.reset_timer(limits);
        }
    }

    /// Takes the time at which what let the client in expires, in milliseconds since the Unix epoch.
    pub(super) fn take_expiry(&mut self, expires_at: Option<u64>, limits: &StageLimits) {
        let expires = expires_at.map(|at| {
            let left = Duration::from_millis(at.saturating_sub(now_ms()));
            Instant::now() + left.min(FAR)
        });
        if expires.is_some() || self.expires.is_some() {
            self.expires = expires;
            if !self.asked {
                self.reset_timer(limits);
            }
        }
    }

    /// Notes a message in either direction. Only the idle timeout needs it.
    pub(super) fn note_message(&mut self, limits: &StageLimits) {
        if limits.idle_timeout.is_some() {
            self.last_message = Instant::now();
        }
    }

    /// Notes a sign of life from the client.
    pub(super) fn note_heard(&mut self) {
        self.pong_due = None;
    }

    /// Notes the start of an unfinished message, or that there is none.
    pub(super) fn note_unfinished(&mut self, since: Option<Instant>, limits: &StageLimits) {
        if self.message_since != since {
            self.message_since = since;
            if since.is_some() {
                self.reset_timer(limits);
            }
        }
    }

    /// Notes that the client takes nothing.
    pub(super) fn note_stalled(&mut self, limits: &StageLimits) {
        if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
            self.reset_timer(limits);
        }
    }

    /// The time since which the client has taken nothing.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Notes that the client takes something.
    pub(super) fn note_progress(&mut self) {
        self.stalled_since = None;
    }

    /// Ends the connection once all is written, at the latest [`LAST_WRITES`] after the first call.
    pub(super) fn start_leaving(&mut self, limits: &StageLimits) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now() + LAST_WRITES);
            self.reset_timer(limits);
        }
    }

    /// Ready when an action is due. While `paused` nothing is read, and a pong that is missing proves nothing. Asks for what
    /// is `written` only where a ping is due, or its pong.
    pub(super) fn poll_due(
        &mut self,
        context: &mut Context<'_>,
        limits: &StageLimits,
        paused: bool,
        written: impl Fn() -> Written,
    ) -> Poll<Due> {
        while self.is_due(context) {
            if !std::mem::replace(&mut self.asked, true) {
                return Poll::Ready(Due::Judgement);
            }
            let now = Instant::now();
            let past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
            if past(self.pong_due)
                && self
                    .ping
                    .as_mut()
                    .is_some_and(|ping| ping.may_wait(written()))
            {
                self.pong_due = Some(now + limits.pong_timeout);
            }
            let end = if past(self.stall_deadline(limits)) {
                Some(End::Stalled)
            } else if past(self.pong_due) && !paused {
                Some(End::Unanswered)
            } else if past(self.message_deadline(limits)) && !paused {
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
            if past(self.expires) && self.leaving.is_none() {
                self.expires = None;
                return Poll::Ready(Due::Expired);
            }
            let leaves = if past(self.idle_deadline(limits)) {
                Some("limits.idle_timeout_s")
            } else if past(self.age_deadline(limits)) {
                Some("limits.max_age_s")
            } else {
                None
            };
            if let Some(why) = leaves {
                self.start_leaving(limits);
                return Poll::Ready(Due::Leave(why));
            }
            if paused {
                // A pong may have come and not been read.
                self.pong_due = self.pong_due.map(|due| due.max(now + limits.pong_timeout));
            }
            let ping = past(self.next_ping);
            if ping || self.next_ping.is_none() {
                self.next_ping = ping_after(now, self.jitter, limits);
            }
            if ping && self.pong_due.is_none() {
                self.pong_due = Some(now + limits.pong_timeout);
                self.ping = Some(Ping::behind(written()));
            }
            self.reset_timer(limits);
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
        // Without budget left the timer only wakes the task, and has to be asked again.
        let has_budget = coop::has_budget_remaining();
        let due = Pin::new(&mut self.timer).poll(context).is_ready();
        self.armed = has_budget && !due;
        due
    }

    fn reset_timer(&mut self, limits: &StageLimits) {
        self.asked = false;
        let nearest = [
            self.stall_deadline(limits),
            self.pong_due,
            // An overdue message is no reason to wake at once while nothing is read.
            self.message_deadline(limits)
                .filter(|due| *due > Instant::now()),
            self.idle_deadline(limits),
            self.age_deadline(limits),
            self.expires.filter(|_| self.leaving.is_none()),
            self.leaving,
            self.next_ping,
        ];
        let recheck = Instant::now() + RECHECK_AFTER;
        let nearest = nearest.into_iter().flatten().min();
        self.due = nearest.map_or(recheck, |due| due.min(recheck));
        self.armed = false;
        self.timer.reset(self.due);
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
        age.map(|age| {
            self.opened
                + match limits.compat.spreads_ages() {
                    true => age.mul_f64(self.jitter),
                    false => age,
                }
        })
    }
}

/// The time of the next ping. Sooner than the interval by a tenth at most and never later, so that a silent client is
/// found within the interval and its time to answer.
fn ping_after(now: Instant, jitter: f64, limits: &StageLimits) -> Option<Instant> {
    let interval = limits.ping_interval?;
    Some(now + interval.mul_f64(jitter - JITTER))
}

/// The close for an idle or old connection, as by API Gateway (docs/api-gateway.md).
pub(super) fn going_away() -> Closing {
    Closing::new(1001, "Going away")
}

/// The close for a client of which what let it in has expired.
pub(super) fn expired() -> Closing {
    Closing::new(1008, "authorization expired")
}

fn jitter() -> f64 {
    let mut byte = [0];
    // Without random numbers connections are spread less, and nothing else is wrong.
    let _ = getrandom::fill(&mut byte);
    1.0 - JITTER + 2.0 * JITTER * f64::from(byte[0]) / 255.0
}

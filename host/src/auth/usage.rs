//! What a client has used of its usage plan: rate, burst and quota. Pure, given the time of day; the rate has a clock of
//! its own that never goes back.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use time::{Date, Month, OffsetDateTime};

use crate::config::{Period, UsagePlan};

/// The usage of one client under its plan.
pub(crate) struct Usage {
    limits: ArcSwap<Limits>,
    window: Mutex<Window>,
}

/// A plan with the state of its rate.
struct Limits {
    plan: UsagePlan,
    rate: Option<DefaultDirectRateLimiter>,
}

/// The right of a connection to use what its plan allows.
pub(crate) struct Allowance {
    usage: Arc<Usage>,
    /// Saves the use as long as a connection counts.
    _saver: Arc<dyn Any + Send + Sync>,
}

/// The use within one period of the quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    /// The days from the Unix epoch to the period's beginning.
    begins: i64,
    /// The days to its end.
    ends: i64,
    used: u64,
    /// The part of it that is in no file yet.
    unsaved: u64,
}

/// The use of a period that is to be added to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsaved {
    /// The first day of the period, counted from the Unix epoch.
    pub(crate) begins: i64,
    pub(crate) used: u64,
}

/// A limit of the plan is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("the rate of its usage plan is exceeded")]
    Rate,
    /// With the seconds until the next period.
    #[error("the quota of its usage plan is used up for {0} s")]
    Quota(u64),
}

impl Allowance {
    /// `saver` lives as long as the allowance.
    pub(crate) fn new(usage: Arc<Usage>, saver: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            usage,
            _saver: saver,
        }
    }

    /// Counts a message, if the plan counts messages and has room for it.
    pub(crate) fn take_message(&self, now_ms: u64) -> Result<(), Exceeded> {
        self.usage.take_message(now_ms)
    }
}

/// Shows nothing of the use.
impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Allowance")
    }
}

impl Exceeded {
    /// The seconds after which there may be room again.
    pub(crate) fn retry_after_s(self) -> u64 {
        match self {
            Self::Rate => 1,
            Self::Quota(seconds) => seconds,
        }
    }
}

impl Usage {
    pub(crate) fn new(plan: &UsagePlan) -> Self {
        Self {
            limits: ArcSwap::from_pointee(Limits::of(plan)),
            window: Mutex::default(),
        }
    }

    /// Puts another plan in the place of this one. The use within the period stays, unless the period is another.
    pub(crate) fn set_plan(&self, plan: &UsagePlan) {
        let before = self.limits.load();
        if before.plan == *plan {
            return;
        }
        let per = |plan: &UsagePlan| plan.quota.map(|quota| quota.per);
        if per(&before.plan) != per(plan) {
            *self.lock() = Window::default();
        }
        self.limits.store(Arc::new(Limits::of(plan)));
    }

    /// Counts a handshake at `now_ms` since the Unix epoch, if the plan has room for it.
    pub(crate) fn take_handshake(&self, now_ms: u64) -> Result<(), Exceeded> {
        self.take(&self.limits.load(), now_ms)
    }

    /// Counts a message, if the plan counts messages and has room for it.
    pub(crate) fn take_message(&self, now_ms: u64) -> Result<(), Exceeded> {
        let limits = self.limits.load();
        match limits.plan.messages {
            true => self.take(&limits, now_ms),
            false => Ok(()),
        }
    }

    fn take(&self, limits: &Limits, now_ms: u64) -> Result<(), Exceeded> {
        let rate = limits.rate.as_ref();
        if rate.is_some_and(|rate| rate.check().is_err()) {
            return Err(Exceeded::Rate);
        }
        let Some(quota) = limits.plan.quota else {
            return Ok(());
        };
        let mut window = self.lock();
        window.turn(quota.per, now_ms);
        if window.used >= quota.limit {
            let end = u64::try_from(window.ends).unwrap_or_default() * 86_400;
            return Err(Exceeded::Quota(end.saturating_sub(now_ms / 1_000).max(1)));
        }
        window.used += 1;
        window.unsaved += 1;
        Ok(())
    }

    /// Takes what has been used since the last call, and not more; none if nothing has.
    pub(crate) fn take_unsaved(&self) -> Option<Unsaved> {
        let mut window = self.lock();
        let used = std::mem::take(&mut window.unsaved);
        (used > 0).then_some(Unsaved {
            begins: window.begins,
            used,
        })
    }

    /// The use of the period under way but for what is still to be taken; none if there is none.
    pub(crate) fn taken(&self, now_ms: u64) -> Option<Unsaved> {
        let quota = self.limits.load().plan.quota?;
        let mut window = self.lock();
        window.turn(quota.per, now_ms);
        let used = window.used.saturating_sub(window.unsaved);
        (used > 0).then_some(Unsaved {
            begins: window.begins,
            used,
        })
    }

    /// Gives back what could not be saved.
    pub(crate) fn give_back(&self, unsaved: Unsaved) {
        let mut window = self.lock();
        if window.begins == unsaved.begins {
            window.unsaved += unsaved.used;
        }
    }

    /// Sets the use of a period to that of a file, which other processes write too.
    pub(crate) fn set_saved(&self, saved: Unsaved, now_ms: u64) {
        let Some(quota) = self.limits.load().plan.quota else {
            return;
        };
        let mut window = self.lock();
        window.turn(quota.per, now_ms);
        if window.begins == saved.begins {
            window.used = saved.used.saturating_add(window.unsaved);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limits {
    fn of(plan: &UsagePlan) -> Self {
        let rate = plan.rate.map(|rate| {
            let quota = Quota::per_second(rate.per_s).allow_burst(rate.burst);
            RateLimiter::direct(quota)
        });
        Self {
            plan: plan.clone(),
            rate,
        }
    }
}

impl Window {
    /// Begins a new period, if another is under way than the last time. A clock that was set back begins none again.
    fn turn(&mut self, per: Period, now_ms: u64) {
        let day = i64::try_from(now_ms / 86_400_000).unwrap_or(i64::MAX);
        if day < self.ends {
            return;
        }
        let (begins, ends) = period(per, day);
        *self = Self {
            begins,
            ends,
            ..Self::default()
        };
    }
}

/// The first day of the period that a day is in, and that of the next one, in UTC. Weeks begin on Monday.
fn period(per: Period, day: i64) -> (i64, i64) {
    match per {
        Period::Day => (day, day + 1),
        Period::Week => {
            // The epoch was a Thursday.
            let begins = day - (day + 3).rem_euclid(7);
            (begins, begins + 7)
        }
        Period::Month => {
            let date = OffsetDateTime::from_unix_timestamp(day.saturating_mul(86_400));
            let date = date.unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
            let (year, month) = (date.year(), date.month());
            let next_year = year + i32::from(month == Month::December);
            let next = first_day(next_year, month.next());
            (first_day(year, month), next)
        }
    }
}

/// The days from the Unix epoch to the first of a month.
fn first_day(year: i32, month: Month) -> i64 {
    let epoch = OffsetDateTime::UNIX_EPOCH.date().to_julian_day();
    let first = Date::from_calendar_date(year, month, 1);
    first.map_or(i64::MAX, |first| i64::from(first.to_julian_day() - epoch))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::{PlanQuota, PlanRate};

    /// 2026-11-26, a Thursday, at noon.
    const NOW: u64 = 1_795_694_400_000;
    const DAY: u64 = 86_400_000;

    fn plan(limit: u64, per: Period) -> UsagePlan {
        UsagePlan {
            name: "gold".to_owned(),
            rate: None,
            quota: Some(PlanQuota { limit, per }),
            messages: false,
        }
    }

    #[track_caller]
    fn check_period(per: Period, day: (i32, Month, u8), begins: &str, ends: &str) {
        let epoch = OffsetDateTime::UNIX_EPOCH.date();
        let date = Date::from_calendar_date(day.0, day.1, day.2).expect("a date");
        let (first, next) = period(per, i64::from(date.to_julian_day() - epoch.to_julian_day()));
        let text = |days: i64| (epoch + time::Duration::days(days)).to_string();
        assert_eq!((text(first).as_str(), text(next).as_str()), (begins, ends));
    }

    #[test]
    fn periods_are_days_weeks_and_months() {
        check_period(
            Period::Day,
            (2026, Month::December, 31),
            "2026-12-31",
            "2027-01-01",
        );
        check_period(
            Period::Week,
            (2026, Month::November, 26),
            "2026-11-23",
            "2026-11-30",
        );
        check_period(
            Period::Week,
            (2026, Month::November, 23),
            "2026-11-23",
            "2026-11-30",
        );
        check_period(
            Period::Week,
            (2026, Month::November, 29),
            "2026-11-23",
            "2026-11-30",
        );
        check_period(
            Period::Month,
            (2024, Month::February, 29),
            "2024-02-01",
            "2024-03-01",
        );
        check_period(
            Period::Month,
            (2026, Month::December, 31),
            "2026-12-01",
            "2027-01-01",
        );
    }

    #[test]
    fn quota_is_counted_within_its_period() {
        let usage = Usage::new(&plan(2, Period::Day));
        assert_eq!(usage.take_handshake(NOW), Ok(()));
        assert_eq!(usage.take_handshake(NOW), Ok(()));
        assert_eq!(usage.take_handshake(NOW), Err(Exceeded::Quota(43_200)));
        let end = NOW + DAY / 2;
        assert_eq!(usage.take_handshake(end - 1), Err(Exceeded::Quota(1)));
        assert_eq!(usage.take_handshake(end), Ok(()));
        // A clock that is set back gives nothing again.
        assert_eq!(usage.take_handshake(NOW), Ok(()));
        assert!(usage.take_handshake(NOW).is_err());
    }

    #[test]
    fn burst_is_what_may_come_at_once() {
        let rate = PlanRate {
            per_s: NonZeroU32::MIN,
            burst: NonZeroU32::new(3).expect("three"),
        };
        let usage = Usage::new(&UsagePlan {
            rate: Some(rate),
            quota: None,
            ..plan(0, Period::Day)
        });
        for _ in 0..3 {
            assert_eq!(usage.take_handshake(NOW), Ok(()));
        }
        assert_eq!(usage.take_handshake(NOW), Err(Exceeded::Rate));
        assert_eq!(usage.take_unsaved(), None);
    }

    #[test]
    fn use_is_saved_once_and_that_of_others_counts() {
        let usage = Usage::new(&plan(10, Period::Month));
        usage.take_handshake(NOW).expect("there is room");
        usage.take_handshake(NOW).expect("there is room");
        let unsaved = usage.take_unsaved().expect("two are used");
        assert_eq!(unsaved.used, 2);
        assert_eq!(usage.take_unsaved(), None);
        usage.give_back(unsaved);
        assert_eq!(usage.taken(NOW), None);
        assert_eq!(usage.take_unsaved(), Some(unsaved));
        assert_eq!(usage.taken(NOW), Some(unsaved));
        // Another process has used six beside these two; one more comes before the file is read.
        usage.take_handshake(NOW).expect("there is room");
        usage.set_saved(Unsaved { used: 8, ..unsaved }, NOW);
        usage.take_handshake(NOW).expect("there is room");
        assert!(usage.take_handshake(NOW).is_err());
        // What a file says of an earlier period is over.
        let fresh = Usage::new(&plan(1, Period::Month));
        fresh.set_saved(
            Unsaved {
                begins: unsaved.begins - 31,
                used: 9,
            },
            NOW,
        );
        assert_eq!(fresh.take_handshake(NOW), Ok(()));
    }

    #[test]
    fn message_counts_if_the_plan_says_so() {
        let silent = plan(1, Period::Day);
        let usage = Usage::new(&silent);
        for _ in 0..5 {
            assert_eq!(usage.take_message(NOW), Ok(()));
        }
        assert_eq!(usage.take_unsaved(), None);
        usage.set_plan(&UsagePlan {
            messages: true,
            ..silent
        });
        assert_eq!(usage.take_message(NOW), Ok(()));
        assert!(usage.take_message(NOW).is_err());
    }

    #[test]
    fn another_plan_keeps_the_use_of_the_same_period() {
        let usage = Usage::new(&plan(1, Period::Day));
        usage.take_handshake(NOW).expect("there is room");
        usage.set_plan(&plan(2, Period::Day));
        usage.take_handshake(NOW).expect("there is room");
        assert!(usage.take_handshake(NOW).is_err());
        usage.set_plan(&plan(1, Period::Week));
        usage.take_handshake(NOW).expect("another period begins");
    }
}

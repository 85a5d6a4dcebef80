//! The clocks that guests read: the gateway's own.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock, MonotonicClock, WallClock};

use crate::clock;

pub(super) struct GuestWallClock;

impl HostWallClock for GuestWallClock {
    fn resolution(&self) -> Duration {
        WallClock.resolution()
    }

    fn now(&self) -> Duration {
        clock::now()
    }
}

/// Tokio's clock, by which the gateway's timers go off. It starts with the instance.
pub(super) struct GuestMonotonicClock {
    started: Instant,
}

impl GuestMonotonicClock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl HostMonotonicClock for GuestMonotonicClock {
    fn resolution(&self) -> u64 {
        MonotonicClock::new().resolution()
    }

    fn now(&self) -> u64 {
        let elapsed = self.started.elapsed().as_nanos();
        // Not 0, which Go takes for a broken clock: a paused clock may not have moved since the start.
        u64::try_from(elapsed).map_or(u64::MAX, |elapsed| elapsed.saturating_add(1))
    }
}

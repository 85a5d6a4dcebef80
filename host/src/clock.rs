//! The time of day. The gateway and its guests read it here, so that a dialogue of `lockgate test` can set it.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

thread_local! {
    /// The time since the Unix epoch that was set on this thread, and the instant of that.
    static SET: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// The time since the Unix epoch.
pub(crate) fn now() -> Duration {
    match SET.get() {
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
        Some((instant, time)) => time + instant.elapsed(),
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

/// Sets the time of day on this thread. It goes on as tokio's clock does, which a test may pause.
pub(crate) fn set(since_epoch: Duration) {
    SET.set(Some((Instant::now(), since_epoch)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_that_was_set_goes_on_with_the_paused_clock() {
        set(Duration::from_secs(1_000));
        assert_eq!(now_ms(), 1_000_000);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(now_ms(), 1_001_500);
        SET.set(None);
        assert!(now() > Duration::from_secs(1_700_000_000));
    }
}

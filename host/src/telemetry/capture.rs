//! The log of one thread, kept instead of written: what a dialogue's plugins and gateway say.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{filter, one_line};
use crate::config::{Log, LogFormat};

/// Lines that are kept; older ones are dropped.
const MAX_LINES: usize = 10_000;

/// The levels that are kept: prints of plugins, and warnings.
const LEVELS: &str = "warn,guest=debug";

/// The kept lines, oldest first.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(Arc<Mutex<CapturedLines>>);

#[derive(Default)]
struct CapturedLines {
    lines: VecDeque<String>,
    dropped: usize,
}

/// Runs work, and keeps what its thread logs meanwhile. `LOCKGATE_LOG`, if set, chooses other levels.
pub(crate) fn capture<T>(work: impl FnOnce(&CapturedLog) -> T) -> Result<T> {
    let levels = Log {
        filter: LEVELS.into(),
        format: LogFormat::Text,
    };
    let log = CapturedLog::default();
    let lines = tracing_subscriber::fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(log.clone());
    let subscriber = tracing_subscriber::registry()
        .with(filter(&levels)?)
        .with(lines);
    let dispatch = Dispatch::new(subscriber);
    Ok(tracing::dispatcher::with_default(&dispatch, || work(&log)))
}

impl CapturedLog {
    /// The lines from this one on, and the number of all lines so far.
    pub(crate) fn since(&self, line: usize) -> (Vec<String>, usize) {
        let kept = self.lock();
        let skipped = line.saturating_sub(kept.dropped);
        let lines = kept.lines.iter().skip(skipped).cloned().collect();
        (lines, kept.dropped + kept.lines.len())
    }

    fn lock(&self) -> MutexGuard<'_, CapturedLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MakeWriter<'_> for CapturedLog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for CapturedLog {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut kept = self.lock();
        if kept.lines.len() >= MAX_LINES {
            kept.lines.pop_front();
            kept.dropped += 1;
        }
        let line = String::from_utf8_lossy(&one_line(event)).trim().to_owned();
        kept.lines.push_back(line);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

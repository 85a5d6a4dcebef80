//! Logs: one line an event on standard error, for a person or for a machine. Metrics: one page.

mod metrics;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat};

pub(crate) use metrics::Metrics;

type Filter = reload::Layer<EnvFilter, Registry>;
type Filtered = Layered<Filter, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// What changes the level and the format of what is logged; set once a process.
static LOGS: OnceLock<(
    reload::Handle<EnvFilter, Registry>,
    reload::Handle<Lines, Filtered>,
)> = OnceLock::new();

/// Panics so far: the hook that sees them is the process's too.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Sends everything that is logged from now on to standard error. `LOCKGATE_LOG`, if set, counts for the
/// level and not the configuration.
pub(crate) fn start(log: &Log) {
    note_panics();
    let (filter, filter_handle) = reload::Layer::new(filter(log));
    let (lines, lines_handle) = reload::Layer::new(lines(log));
    // A test that starts two gateways keeps the first.
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if started.is_ok() {
        let _ = LOGS.set((filter_handle, lines_handle));
    }
}

/// From now on a panic is a line of the log like any other, and counted.
fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        log_panic(panic);
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(tracing::field::display);
    let message = panic.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture(); // if RUST_BACKTRACE asks for it
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread,
        place,
        backtrace,
        "a bug of the gateway: panicked: {message}"
    );
}

/// How often the gateway has panicked.
fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Logs as another configuration has it.
pub(crate) fn change(log: &Log) {
    let Some((filter_handle, lines_handle)) = LOGS.get() else {
        return;
    };
    // Fails only when the subscriber is gone, and with it every log.
    let _ = filter_handle.reload(filter(log));
    let _ = lines_handle.reload(lines(log));
}

fn filter(log: &Log) -> EnvFilter {
    let filter = std::env::var("LOCKGATE_LOG").unwrap_or_else(|_| log.level.clone());
    EnvFilter::builder().parse_lossy(filter)
}

fn lines(log: &Log) -> Lines {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_target(false).with_ansi(colour).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted() {
        note_panics();
        let before = panics();
        let broken = std::thread::spawn(move || assert_eq!(before + 1, before, "a bug"));
        assert!(broken.join().is_err());
        assert!(panics() > before);
    }
}

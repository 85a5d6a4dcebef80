//! Logs and metrics. The log writes one line an event to standard error, for a person or for a machine, and to a
//! collector if there is one; the metrics are one page.
//!
//! Writing never waits for the log's reader (`output/writer`), and no client fills the log (`limiter`).

mod capture;
mod exported;
mod json;
mod limiter;
mod metrics;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env::VarError;
use std::io::{self, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::access_log;
use crate::config::{self, Fault, Faults, Log, LogFormat};
use crate::otlp;
use crate::output::{Report, Standard, Writer};
pub(crate) use capture::{CapturedLog, capture};
use exported::Exported;
use json::Json;
use limiter::Limiter;
pub(crate) use metrics::{Expiry, Metrics, MetricsFormat};

/// The environment variable that replaces the level of the configuration.
const LEVEL_VARIABLE: &str = "LOCKGATE_LOG";

/// Time limit for the last lines of a process that serves: a stalled reader must not keep it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit for the last lines where the process ends at once: a panic may be the cause.
const SHORT_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Interval of reports about left out lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

type Filter = reload::Layer<EnvFilter, Registry>;
type Filtered = Layered<Filter, Registry>;
type Limited = Layered<&'static Limiter, Filtered>;
type Lines = Box<dyn Layer<Limited> + Send + Sync>;

/// The handles that change the log's level and format; set once a process.
static LOGS: OnceLock<(
    reload::Handle<EnvFilter, Registry>,
    reload::Handle<Lines, Limited>,
)> = OnceLock::new();

static DROPPED: AtomicU64 = AtomicU64::new(0);
static WRITER: Writer = Writer::new(&DROPPED, Report::Own(report_dropped));
static LIMITER: Limiter = Limiter::new();

/// True if the log is JSON: nothing else may stand between its lines.
static JSON: AtomicBool = AtomicBool::new(false);

/// Count of panics. It is global, since the panic hook is.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Starts to log to standard error. `LOCKGATE_LOG`, if set, replaces the configuration's level; a value that is no
/// level is an error.
pub(crate) fn start(log: &Log) -> Result<()> {
    let (filter, filter_handle) = reload::Layer::new(filter(log)?);
    let (lines, lines_handle) = reload::Layer::new(lines(log));
    hook_panics();
    // In a test that starts two gateways, the first log stays.
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(&LIMITER)
        .with(lines)
        .with(Exported)
        .try_init();
    if started.is_ok() {
        let out = Standard::error().context("cannot write to standard error")?;
        let write = || WRITER.run(out, REPORT_INTERVAL, || LIMITER.report(false));
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(write).context("cannot start a thread")?;
        let _ = LOGS.set((filter_handle, lines_handle));
    }
    Ok(())
}

/// Waits until every line is written: for long if a person waits for the command, and briefly if the process served.
pub(crate) fn finish(served: bool) {
    if LOGS.get().is_some() {
        LIMITER.report(true);
        otlp::finish();
        access_log::flush(FLUSH_TIMEOUT);
        WRITER.flush(served.then_some(FLUSH_TIMEOUT));
    }
}

/// Writes the log's last lines before the process ends, if that takes only a moment.
pub(crate) fn flush_briefly() {
    if LOGS.get().is_some() {
        WRITER.flush(Some(SHORT_FLUSH_TIMEOUT));
    }
}

/// Whether logging has started.
pub(crate) fn is_started() -> bool {
    LOGS.get().is_some()
}

/// Whether errors go to the log, for a machine to read, and are not printed.
pub(crate) fn takes_errors_as_json() -> bool {
    is_started() && JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR)
}

/// Writes a text to standard error, after every line of the log.
pub(crate) fn print(text: &str) {
    if LOGS.get().is_some() {
        WRITER.add(format!("{text}\n").as_bytes());
    } else {
        // A write error has nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn report_dropped(lines: u64) {
    tracing::warn!(
        target: limiter::SELF,
        lines,
        "lines of the log were dropped: standard error took them too slowly, or not at all"
    );
}

/// Makes every panic a line of the log, and counts it.
fn hook_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        log_panic(panic);
        flush_briefly();
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic
        .location()
        .map(|place| format!("{}:{}", source_path(place.file()), place.line()));
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

/// Cuts the build machine's folders from the path of a source file.
fn source_path(file: &str) -> &str {
    for folder in ["/registry/src/", "/rustc/"] {
        if let Some((_, inside)) = file.split_once(folder) {
            return inside.split_once('/').map_or(inside, |(_, rest)| rest);
        }
    }
    file
}

/// Count of panics so far.
fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Changes the log to another configuration.
pub(crate) fn change(log: &Log) {
    let Some((filter_handle, lines_handle)) = LOGS.get() else {
        return;
    };
    // Reloading fails only if the subscriber is gone, and with it every log. The environment variable was checked at
    // start.
    if let Ok(filter) = filter(log) {
        let _ = filter_handle.reload(filter);
    }
    let _ = lines_handle.reload(lines(log));
}

fn filter(log: &Log) -> Result<EnvFilter> {
    let fault = |message, remedy| {
        Faults(vec![Fault {
            key: LEVEL_VARIABLE.into(),
            message,
            remedy,
            is_passing: false,
        }])
    };
    let chosen = match std::env::var(LEVEL_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => {
            config::log_filter(&text).map_err(|(message, remedy)| fault(message, remedy))?
        }
        Ok(_) | Err(VarError::NotPresent) => log.filter.clone(),
        Err(VarError::NotUnicode(_)) => {
            let remedy = "write a level, such as \"info\", or unset the variable";
            return Err(fault("it is not text".into(), remedy.into()).into());
        }
    };
    Ok(EnvFilter::builder().parse_lossy(chosen))
}

fn lines(log: &Log) -> Lines {
    JSON.store(log.format == LogFormat::Json, Ordering::Relaxed);
    let lines = tracing_subscriber::fmt::layer().with_writer(EventWriter(log.format));
    match log.format {
        LogFormat::Text => {
            let colour = io::IsTerminal::is_terminal(&io::stderr());
            lines.with_target(false).with_ansi(colour).boxed()
        }
        LogFormat::Json => lines.event_format(Json).boxed(),
    }
}

/// A writer that takes the text of one event at a time and makes it one line.
#[derive(Clone, Copy)]
struct EventWriter(LogFormat);

impl MakeWriter<'_> for EventWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl io::Write for EventWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match self.0 {
            LogFormat::Json => WRITER.add(event),
            LogFormat::Text => WRITER.add(&one_line(event)),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes an event's text one line: further lines, such as the remedy of a mistake, follow behind semicolons.
fn one_line(event: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(event.len() + 8);
    for part in event.split(|byte| *byte == b'\n') {
        let part = part.trim_ascii();
        if part.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.extend_from_slice(if line.ends_with(b":") { b" " } else { b"; " });
        }
        line.extend_from_slice(part);
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_is_counted() {
        hook_panics();
        let before = panics();
        let broken = std::thread::spawn(move || assert_eq!(before + 1, before, "a bug"));
        assert!(broken.join().is_err());
        assert!(panics() > before);
    }

    #[test]
    fn event_is_one_line() {
        for (event, line) in [
            ("INFO ready\n", "INFO ready\n"),
            (
                "WARN a.toml:3: x: wrong\n  remedy: mend it\n",
                "WARN a.toml:3: x: wrong; remedy: mend it\n",
            ),
            ("WARN it said:\n\n  one\n two\n", "WARN it said: one; two\n"),
        ] {
            assert_eq!(one_line(event.as_bytes()), line.as_bytes());
        }
    }

    #[test]
    fn source_file_is_named_without_the_folders_of_the_build_machine() {
        for (file, expected) in [
            ("host/src/session/mod.rs", "host/src/session/mod.rs"),
            (
                "/home/x/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/h2-0.4.16/src/lib.rs",
                "h2-0.4.16/src/lib.rs",
            ),
            (
                "/rustc/0a1b/library/core/src/str/mod.rs",
                "library/core/src/str/mod.rs",
            ),
        ] {
            assert_eq!(source_path(file), expected);
        }
    }
}

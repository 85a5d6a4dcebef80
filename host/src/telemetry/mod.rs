//! Logs: one line an event on standard error, for a person or for a machine. Metrics: one page.
//!
//! Nobody waits for who reads the log: see `writer`. No client fills it: see `limiter`.

mod json;
mod limiter;
mod metrics;
mod writer;

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

use crate::config::{self, Fault, Faults, Log, LogFormat};
use json::Json;
use limiter::Limiter;
pub(crate) use metrics::{Expiry, Metrics};
use writer::{Stderr, Writer};

/// The variable that counts for the level, if set, and not the configuration.
const VARIABLE: &str = "LOCKGATE_LOG";

/// How long the last lines of a process that serves may take: a reader that stalls must not keep it.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How long the last line may take where the process ends at once: a panic may be the cause.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How often it is looked whether there is something to say of lines that were left out.
const LOOK: Duration = Duration::from_secs(1);

type Filter = reload::Layer<EnvFilter, Registry>;
type Filtered = Layered<Filter, Registry>;
type Limited = Layered<&'static Limiter, Filtered>;
type Lines = Box<dyn Layer<Limited> + Send + Sync>;

/// What changes the level and the format of what is logged; set once a process.
static LOGS: OnceLock<(
    reload::Handle<EnvFilter, Registry>,
    reload::Handle<Lines, Limited>,
)> = OnceLock::new();

static WRITER: Writer = Writer::new();
static LIMITER: Limiter = Limiter::new();

/// What is logged is JSON, and nothing else is to be between.
static JSON: AtomicBool = AtomicBool::new(false);

/// Panics so far: the hook that sees them is the process's too.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Sends everything that is logged from now on to standard error. `LOCKGATE_LOG`, if set, counts for the
/// level and not the configuration; it fails when that is no level.
pub(crate) fn start(log: &Log) -> Result<()> {
    let (filter, filter_handle) = reload::Layer::new(filter(log)?);
    let (lines, lines_handle) = reload::Layer::new(lines(log));
    note_panics();
    // A test that starts two gateways keeps the first.
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(&LIMITER)
        .with(lines)
        .try_init();
    if started.is_ok() {
        let out = Stderr::new().context("cannot write to standard error")?;
        let write = || WRITER.run(out, LOOK, say_dropped, || LIMITER.say(false));
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(write).context("cannot start a thread")?;
        let _ = LOGS.set((filter_handle, lines_handle));
    }
    Ok(())
}

/// Waits until everything that was logged is written: for long if a person waits for it, and not if the process served.
pub(crate) fn finish(served: bool) {
    if LOGS.get().is_some() {
        LIMITER.say(true);
        WRITER.flush(served.then_some(LAST_LINES));
    }
}

/// The process may end next: what was logged is written, if that takes but a moment.
pub(crate) fn last_words() {
    if LOGS.get().is_some() {
        WRITER.flush(Some(LAST_WORDS));
    }
}

/// Whether it is known how to log.
pub(crate) fn is_started() -> bool {
    LOGS.get().is_some()
}

/// Whether an error is to be logged, so that a machine can read it, instead of printed.
pub(crate) fn takes_errors_as_json() -> bool {
    is_started() && JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR)
}

/// Writes a text to standard error as it is, after all that was logged.
pub(crate) fn print(text: &str) {
    if LOGS.get().is_some() {
        WRITER.add(format!("{text}\n").as_bytes());
    } else {
        // Without a reader there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn say_dropped(lines: u64) {
    tracing::warn!(
        target: limiter::SELF,
        lines,
        "lines of the log were dropped: standard error took them too slowly, or not at all"
    );
}

/// From now on a panic is a line of the log like any other, and counted.
fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        log_panic(panic);
        last_words();
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic
        .location()
        .map(|place| format!("{}:{}", in_source(place.file()), place.line()));
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

/// The path of a source file without the folders of the machine that built the gateway.
fn in_source(file: &str) -> &str {
    for folder in ["/registry/src/", "/rustc/"] {
        if let Some((_, inside)) = file.split_once(folder) {
            return inside.split_once('/').map_or(inside, |(_, rest)| rest);
        }
    }
    file
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
    // Fails only when the subscriber is gone, and with it every log. The variable was right at the start.
    if let Ok(filter) = filter(log) {
        let _ = filter_handle.reload(filter);
    }
    let _ = lines_handle.reload(lines(log));
}

fn filter(log: &Log) -> Result<EnvFilter> {
    let fault = |message, remedy| {
        Faults(vec![Fault {
            key: VARIABLE.into(),
            message,
            remedy,
        }])
    };
    let chosen = match std::env::var(VARIABLE) {
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
    let lines = tracing_subscriber::fmt::layer().with_writer(Line(log.format));
    match log.format {
        LogFormat::Text => {
            let colour = io::IsTerminal::is_terminal(&io::stderr());
            lines.with_target(false).with_ansi(colour).boxed()
        }
        LogFormat::Json => lines.event_format(Json).boxed(),
    }
}

/// Takes the text of one event at a time, and makes it one line.
#[derive(Clone, Copy)]
struct Line(LogFormat);

impl MakeWriter<'_> for Line {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl io::Write for Line {
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

/// An event's text as one line: what stands on lines of its own, such as the remedy of a mistake, goes on behind a
/// semicolon.
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
    fn a_panic_is_counted() {
        note_panics();
        let before = panics();
        let broken = std::thread::spawn(move || assert_eq!(before + 1, before, "a bug"));
        assert!(broken.join().is_err());
        assert!(panics() > before);
    }

    #[test]
    fn an_event_is_one_line() {
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
    fn a_source_file_is_named_without_the_folders_of_the_machine() {
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
            assert_eq!(in_source(file), expected);
        }
    }
}

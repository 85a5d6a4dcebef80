//! The access log: a line for each handshake and for each end of a connection, and for messages where that is switched
//! on.
//!
//! Its lines are lines of the log at the level `info`, or go to a place of their own. Nobody waits for either. It is one
//! for the process, as the log is.

mod entry;
mod template;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

pub(crate) use entry::{Entry, Event, StageName, Text, milliseconds, timestamp};

use crate::config::{AccessLog, AccessLogFormat, AccessLogTarget, Fault};
use crate::output::{self, Report, Writer};

/// The longest wait of a report about dropped lines that is due.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The lines dropped so far, of every file and socket that there was.
static DROPPED: AtomicU64 = AtomicU64::new(0);

static CURRENT: LazyLock<ArcSwap<Destination>> = LazyLock::new(|| {
    ArcSwap::from_pointee(Destination {
        config: None,
        place: Place::Log,
    })
});

/// The writers of the places before, as long as they have lines to write.
static CLOSING: Mutex<Vec<Weak<Writer>>> = Mutex::new(Vec::new());

struct Destination {
    /// None before the first configuration.
    config: Option<AccessLog>,
    place: Place,
}

enum Place {
    Log,
    Nowhere,
    Writer(Arc<Writer>, AccessLogFormat),
}

/// A place that is open, and takes no line yet.
pub(crate) struct Opened(Option<Destination>);

/// Opens the place of another configuration. Changes nothing yet.
pub(crate) fn open(config: &AccessLog) -> Result<Opened, Fault> {
    let now = CURRENT.load();
    let is_same = |now: &AccessLog| (&now.to, &now.format) == (&config.to, &config.format);
    if now.config.as_ref().is_some_and(is_same) {
        return Ok(Opened(None));
    }
    let fault = |error: anyhow::Error| Fault {
        key: "access_log.to".to_owned(),
        message: format!("{error:#}"),
        remedy: "name a file that the gateway may write, or a socket that takes lines".to_owned(),
        is_passing: true,
    };
    let place = match output::open(&config.to).map_err(fault)? {
        None if config.to == AccessLogTarget::Nowhere => Place::Nowhere,
        None => Place::Log,
        Some(out) => {
            let writer = Arc::new(Writer::new(&DROPPED, Report::Elsewhere(report_dropped)));
            let writing = Arc::clone(&writer);
            let thread = std::thread::Builder::new().name("access log".into());
            let write = move || writing.run(out, REPORT_INTERVAL, || {});
            thread.spawn(write).map_err(|error| fault(error.into()))?;
            Place::Writer(writer, config.format.clone())
        }
    };
    let config = Some(config.clone());
    Ok(Opened(Some(Destination { config, place })))
}

impl Opened {
    /// Sends every further line there. The place before gets the lines that are on their way to it.
    pub(crate) fn serve(mut self) {
        if let Some(destination) = self.0.take() {
            let before = CURRENT.swap(Arc::new(destination));
            close(&before);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(unused) = &self.0 {
            close(unused);
        }
    }
}

fn close(destination: &Destination) {
    if let Place::Writer(writer, _) = &destination.place {
        writer.close();
        let mut closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
        closing.retain(|writer| writer.strong_count() > 0);
        closing.push(Arc::downgrade(writer));
    }
}

/// Writes a line, and waits for nobody.
pub(crate) fn write(entry: &Entry<'_>) {
    match &CURRENT.load().place {
        Place::Log => entry.log(),
        Place::Nowhere => {}
        Place::Writer(writer, AccessLogFormat::Json) => writer.add(entry.json().as_bytes()),
        Place::Writer(writer, AccessLogFormat::Template(parts)) => {
            writer.add(template::line(parts, entry).as_bytes());
        }
    }
}

/// Count of lines dropped so far: their reader took them too slowly or was not there, or the disk was full.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until every line is written, or the time is over, and reports the lines that are lost then, with those that were
/// dropped last.
pub(crate) fn flush(timeout: Duration) {
    let end = Instant::now() + timeout;
    let mut closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut writers: Vec<_> = closing.drain(..).filter_map(|it| it.upgrade()).collect();
    drop(closing);
    if let Place::Writer(writer, _) = &CURRENT.load().place {
        writers.push(Arc::clone(writer));
    }
    for writer in writers {
        writer.flush(Some(end.saturating_duration_since(Instant::now())));
        writer.give_up();
    }
}

fn report_dropped(lines: u64) {
    tracing::warn!(
        target: "lockgate::log",
        lines,
        "lines of the access log were dropped: its reader took them too slowly or is not there, or its disk is full"
    );
}

//! Traces and logs for a collector, by the OpenTelemetry Protocol.
//!
//! Spans and lines of the log are encoded where they arise and wait in bounded queues; a thread of their own sends them.
//! It is one for the process, as the log is.
//!
//! The ids of an event's span are made from its request id: whoever knows that finds the span, and no message carries
//! anything for it. While nothing is traced, a message pays a load and a test.

mod collector;
mod exporter;
mod log_record;
mod protobuf;
mod queue;
mod span;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};

pub(crate) use log_record::LogRecord;
pub(crate) use span::{Origin, Span, SpanKind};

use collector::Collector;
use exporter::Exporter;
use protobuf::Message;

use crate::config::{ClientTraces, Fault, Otlp, OtlpProtocol};
use crate::connections::RequestId;
use crate::net::Authorities;
use crate::trace_context::{SpanContext, TraceParent};

/// Time for the last spans and lines of a process, so that a collector that does not answer keeps no process.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Begins the name of every attribute that no convention of OpenTelemetry names.
const PREFIX: &str = "lockgate.";

/// The most bytes of a text in a span that a stranger may have chosen.
const MAX_TEXT: usize = 512;

/// A trace is recorded if the random half of its id is below; 0 records none.
static THRESHOLD: AtomicU64 = AtomicU64::new(0);
/// Whether a client's trace goes on here.
static FOLLOWS_CLIENTS: AtomicBool = AtomicBool::new(false);
static TAKES_LOGS: AtomicBool = AtomicBool::new(false);
static CURRENT: ArcSwapOption<Exporter> = ArcSwapOption::const_empty();
static TOTALS: Totals = Totals::new();

/// What the ids of this process's spans are made with.
static KEYS: LazyLock<[u64; 3]> = LazyLock::new(|| {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    let (keys, _) = bytes.as_chunks::<8>();
    [0, 1, 2].map(|place| keys.get(place).map_or(0, |key| u64::from_ne_bytes(*key)))
});

thread_local! {
    /// True in the exporting thread: its own lines would make others, for ever.
    static IS_EXPORTER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// A kind of data, with a queue and requests of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
}

impl Signal {
    pub(crate) const ALL: [Self; 2] = [Self::Traces, Self::Logs];

    /// Its label on the metrics page.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }

    /// What it consists of.
    fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Logs => "log lines",
        }
    }

    fn path(self, protocol: OtlpProtocol) -> &'static str {
        match (protocol, self) {
            (OtlpProtocol::Http, Self::Traces) => "/v1/traces",
            (OtlpProtocol::Http, Self::Logs) => "/v1/logs",
            (OtlpProtocol::Grpc, Self::Traces) => {
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            }
            (OtlpProtocol::Grpc, Self::Logs) => {
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
            }
        }
    }
}

/// Why an item did not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The queue was full.
    NoRoom,
    /// The collector would not take it.
    Refused,
    /// The collector could not take it in time.
    Undelivered,
}

impl Loss {
    pub(crate) const ALL: [Self; 3] = [Self::NoRoom, Self::Refused, Self::Undelivered];

    /// Its label on the metrics page.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Refused => "refused",
            Self::Undelivered => "undelivered",
        }
    }
}

/// The items so far, of every collector that there was: for each signal those that were taken, and those lost by reason.
pub(crate) struct Totals {
    exported: [AtomicU64; Signal::ALL.len()],
    lost: [[AtomicU64; Loss::ALL.len()]; Signal::ALL.len()],
}

impl Totals {
    const fn new() -> Self {
        Self {
            exported: [const { AtomicU64::new(0) }; Signal::ALL.len()],
            lost: [const { [const { AtomicU64::new(0) }; Loss::ALL.len()] }; Signal::ALL.len()],
        }
    }

    fn export(&self, signal: Signal, items: u64) {
        if let Some(count) = self.exported.get(signal as usize) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    fn lose(&self, signal: Signal, why: Loss, items: u64) {
        let counts = self.lost.get(signal as usize);
        if let Some(count) = counts.and_then(|counts| counts.get(why as usize)) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }
}

/// Count of items that the collector took, by signal.
pub(crate) fn exported() -> impl Iterator<Item = (Signal, u64)> {
    let counts = TOTALS
        .exported
        .iter()
        .map(|count| count.load(Ordering::Relaxed));
    Signal::ALL.into_iter().zip(counts)
}

/// Count of items that were dropped, by signal and reason.
pub(crate) fn dropped() -> impl Iterator<Item = (Signal, Loss, u64)> {
    let signals = Signal::ALL.into_iter().zip(&TOTALS.lost);
    signals.flat_map(|(signal, counts)| {
        let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
        let counts = Loss::ALL.into_iter().zip(counts);
        counts.map(move |(why, count)| (signal, why, count))
    })
}

/// The span of an event that begins here, if it is recorded.
pub(crate) fn span_of(request: RequestId) -> Option<SpanContext> {
    match THRESHOLD.load(Ordering::Relaxed) {
        0 => None,
        threshold => sampled(request, threshold),
    }
}

fn sampled(request: RequestId, threshold: u64) -> Option<SpanContext> {
    let context = SpanContext::of_number(request.number(), *KEYS);
    // The highest is for all.
    (threshold == u64::MAX || context.trace.randomness() < threshold).then_some(context)
}

/// The span of a handshake, if it is recorded. One whose client has a trace goes on in it if that is configured, and is
/// recorded if the client's span is.
pub(crate) fn handshake_span(
    request: RequestId,
    client: Option<TraceParent>,
) -> Option<SpanContext> {
    if CURRENT.load().is_none() {
        return None;
    }
    let Some(client) = client.filter(|_| FOLLOWS_CLIENTS.load(Ordering::Relaxed)) else {
        return span_of(request);
    };
    let own = SpanContext::of_number(request.number(), *KEYS);
    let trace = client.context.trace;
    client.is_sampled.then_some(SpanContext { trace, ..own })
}

/// Whether the lines of this thread go to a collector.
pub(crate) fn takes_logs() -> bool {
    TAKES_LOGS.load(Ordering::Relaxed) && !IS_EXPORTER_THREAD.get()
}

/// The exporter of another configuration, which exports nothing yet.
pub(crate) struct Opened(Option<Change>);

/// What comes in place of what serves; none for no exporter.
type Change = Option<Arc<Exporter>>;

/// Makes the exporter of another configuration. Changes nothing yet.
pub(crate) fn open(config: Option<&Otlp>) -> Result<Opened, Fault> {
    let Some(config) = config else {
        return Ok(Opened(Some(None)));
    };
    if current().as_ref().is_some_and(|now| now.is_of(config)) {
        return Ok(Opened(None));
    }
    let exporter = Arc::new(exporter(config)?);
    let exporting = Arc::clone(&exporter);
    let run = move || {
        IS_EXPORTER_THREAD.set(true);
        exporting.run();
    };
    let thread = std::thread::Builder::new().name("otlp".into());
    thread.spawn(run).map_err(|error| Fault {
        key: "otlp".to_owned(),
        message: format!("a thread for it cannot be started: {error}"),
        remedy: "let the gateway's user start more threads (`ulimit -u`, or TasksMax= of systemd)"
            .to_owned(),
        is_passing: true,
    })?;
    Ok(Opened(Some(Some(exporter))))
}

/// Finds what a start with this configuration would fail on.
pub(crate) fn check(config: Option<&Otlp>) -> Option<Fault> {
    exporter(config?).err()
}

fn exporter(config: &Otlp) -> Result<Exporter, Fault> {
    let authorities = config.ca.as_deref().map(Authorities::read).transpose();
    let authorities = authorities.map_err(|unread| Fault {
        key: "otlp.ca".to_owned(),
        message: unread.message,
        remedy: unread.remedy.to_owned(),
        is_passing: unread.is_passing,
    })?;
    let collector = Collector::new(config, authorities.as_ref())?;
    let stamp = authorities.map(|authorities| authorities.stamp);
    Ok(Exporter::new(config, stamp, collector))
}

impl Opened {
    /// Exports every further span and line there. What waits for the collector before is still sent to it.
    pub(crate) fn serve(mut self) {
        let Some(exporter) = self.0.take() else {
            return;
        };
        let before = CURRENT.swap(exporter.clone());
        let config = exporter.as_ref().map(|exporter| &exporter.config);
        let one_in = config.map_or(0, |config| config.one_in);
        THRESHOLD.store(threshold(one_in), Ordering::Relaxed);
        let follows = config.is_some_and(|config| config.traceparent == ClientTraces::Follow);
        FOLLOWS_CLIENTS.store(follows, Ordering::Relaxed);
        let logs = config.is_some_and(|config| config.logs);
        TAKES_LOGS.store(logs, Ordering::Relaxed);
        if let Some(before) = before {
            before.close();
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(Some(unused)) = &self.0 {
            unused.close();
        }
    }
}

/// The threshold by which one trace in so many is recorded.
fn threshold(one_in: u32) -> u64 {
    match one_in {
        0 => 0,
        1 => u64::MAX,
        one_in => u64::MAX / u64::from(one_in),
    }
}

/// Sends what waits, and waits until that is done or its time is over. What is lost then is counted and told.
pub(crate) fn finish() {
    let Some(exporter) = CURRENT.swap(None) else {
        return;
    };
    THRESHOLD.store(0, Ordering::Relaxed);
    TAKES_LOGS.store(false, Ordering::Relaxed);
    exporter.close();
    if !exporter.wait(LAST_REQUESTS) {
        let [spans, lines] = exporter.waiting();
        tracing::warn!(
            spans,
            lines,
            "the collector did not take the last spans and log lines within {} s, and the process ends",
            LAST_REQUESTS.as_secs()
        );
    }
}

fn current() -> Guard<Option<Arc<Exporter>>> {
    CURRENT.load()
}

/// What tells this process from others.
fn own_resource(service: &str) -> [(&'static str, String); 3] {
    [
        ("service.name", service.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", INSTANCE.clone()),
    ]
}

/// The id of the process: a random UUID (RFC 9562, version 4).
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    let id = u128::from_ne_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 4 << 76 | 2 << 62;
    let digits = format!("{id:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts
        .map(|part| digits.get(part).unwrap_or_default().to_owned())
        .join("-")
});

/// The value of an attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attribute<'a> {
    Text(&'a str),
    Flag(bool),
    Integer(i64),
    Decimal(f64),
    /// It is left out.
    Absent,
}

impl Attribute<'_> {
    /// The same with a text of bounded length.
    fn cut(self) -> Self {
        if let Self::Text(long) = self {
            return Self::Text(text(long));
        }
        self
    }
}

impl<'a> From<&'a str> for Attribute<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Option<&'a str>> for Attribute<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::Text)
    }
}

/// Writes an attribute (`KeyValue`) as this field of a message.
fn attribute(
    message: &mut Message,
    field: u64,
    (prefix, name): (&str, &str),
    value: Attribute<'_>,
) {
    if matches!(value, Attribute::Absent) {
        return;
    }
    message.message(field, |pair| {
        pair.header(1, prefix.len() + name.len());
        pair.raw(prefix.as_bytes());
        pair.raw(name.as_bytes());
        pair.message(2, |any| match value {
            Attribute::Text(text) => any.bytes(1, text.as_bytes()),
            Attribute::Flag(flag) => any.integer(2, flag.into()),
            Attribute::Integer(number) => any.integer(3, number.cast_unsigned()),
            Attribute::Decimal(number) => any.fixed64(4, number.to_bits()),
            Attribute::Absent => {}
        });
    });
}

/// A text of bounded length.
fn text(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(MAX_TEXT)).0
}

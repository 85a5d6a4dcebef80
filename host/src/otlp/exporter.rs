//! The exporter: a thread of its own that takes batches from the queues and sends them. Nobody waits for it, and a
//! collector that is slow or gone costs spans and log lines, which are counted.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::collector::{Collector, Outcome};
use super::protobuf::Message;
use super::queue::{Batch, Queue};
use super::{Loss, Signal, TOTALS};
use crate::config::Otlp;
use crate::net::watch::Stamp;

/// The first pause before a batch is sent again. Each is twice the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause that a collector may ask for. It may ask for no shorter one than the first: one that is busy and asks
/// for none would be sent the same batch without end.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(60);

/// Time after which a batch that is not taken is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// Time for what waits when an exporter is closed: a collector that does not answer keeps no exporter that another has
/// replaced.
const LAST_SENDS: Duration = Duration::from_secs(10);

/// The least time between two lines of the log about one signal's losses.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Spans and log lines on their way to one collector.
pub(super) struct Exporter {
    pub(super) config: Otlp,
    /// The file with the authorities as it was read.
    authorities: Option<Stamp>,
    queues: [Queue; Signal::ALL.len()],
    collector: Collector,
    /// Who exports (`Resource`) and with what (`InstrumentationScope`), as requests have them.
    resource: Message,
    scope: Message,
    /// Cancelled once nothing more is added.
    closing: CancellationToken,
    has_ended: Mutex<bool>,
    ended: Condvar,
}

impl Exporter {
    pub(super) fn new(config: &Otlp, authorities: Option<Stamp>, collector: Collector) -> Self {
        let mut resource = Message::default();
        resource.message(1, |resource| {
            let own = super::own_resource(&config.service);
            let further = config.resource.iter();
            let further = further.map(|(name, value)| (name.as_str(), value.clone()));
            for (name, value) in own.into_iter().chain(further) {
                super::attribute(resource, 1, ("", name), value.as_str().into());
            }
        });
        let mut scope = Message::default();
        scope.message(1, |scope| {
            scope.bytes(1, b"lockgate");
            scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
        });
        Self {
            config: config.clone(),
            authorities,
            queues: Signal::ALL.map(|_| Queue::new(config.queue_bytes)),
            collector,
            resource,
            scope,
            closing: CancellationToken::new(),
            has_ended: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Whether it is what this configuration would make.
    pub(super) fn is_of(&self, config: &Otlp) -> bool {
        let authorities = self.config.ca.as_deref().and_then(Stamp::of);
        self.config == *config && self.authorities == authorities
    }

    /// Adds an encoded item, or counts it as dropped.
    pub(super) fn add(&self, signal: Signal, item: &[u8]) {
        if !self.queue(signal).add(item) {
            TOTALS.lose(signal, Loss::NoRoom, 1);
        }
    }

    /// Exports until it is closed: the thread's work.
    pub(super) fn run(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let [traces, logs] = Signal::ALL.map(|signal| self.export(signal));
                tokio::select! {
                    _ = async { tokio::join!(traces, logs) } => {}
                    () = self.is_late() => self.give_up(),
                }
            }),
            Err(error) => tracing::error!("spans and log lines cannot be exported: {error}"),
        }
        *self
            .has_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    /// Takes no further item. Those that wait are sent, and tried once.
    pub(super) fn close(&self) {
        self.queues.iter().for_each(Queue::close);
        self.closing.cancel();
    }

    /// Ready when the time after the close is over.
    async fn is_late(&self) {
        self.closing.cancelled().await;
        sleep(LAST_SENDS).await;
    }

    fn give_up(&self) {
        let [spans, lines] = self.waiting();
        TOTALS.lose(Signal::Traces, Loss::Undelivered, spans);
        TOTALS.lose(Signal::Logs, Loss::Undelivered, lines);
        tracing::warn!(
            collector = self.collector.place,
            spans,
            lines,
            "the collector that another has replaced did not take the last spans and log lines within {} s",
            LAST_SENDS.as_secs()
        );
    }

    /// Waits until it has ended, or the time is over.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let ended = self
            .has_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .ended
            .wait_timeout_while(ended, patience, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    async fn export(&self, signal: Signal) {
        let mut report = Report::new(signal);
        while let Some(batch) = self.queue(signal).next().await {
            self.deliver(signal, batch, &mut report).await;
        }
        report.rest(&self.collector.place);
    }

    /// Sends a batch until it is taken, refused, or given up.
    async fn deliver(&self, signal: Signal, batch: Batch, report: &mut Report) {
        let (items, request) = (batch.items, self.request(&batch));
        drop(batch);
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            // Judged before the attempt: one that begins after the close is the last.
            let is_last = self.closing.is_cancelled() || since.elapsed() >= GIVE_UP_AFTER;
            let sending = self.collector.send(signal, request.clone());
            let outcome = timeout(self.config.timeout, sending)
                .await
                .unwrap_or_else(|_| {
                    let limit = self.config.timeout.as_millis();
                    Outcome::Failed(
                        format!("it did not answer within {limit} ms, which is otlp.timeout_ms"),
                        None,
                    )
                });
            let (lost, why) = match outcome {
                Outcome::Taken => (0, String::new()),
                Outcome::TakenInPart(rejected, why) => {
                    let rejected = rejected.min(items);
                    TOTALS.lose(signal, Loss::Refused, rejected);
                    (rejected, format!("it took a part only: {why}"))
                }
                Outcome::Refused(why) => {
                    TOTALS.lose(signal, Loss::Refused, items);
                    (items, why)
                }
                Outcome::Failed(why, _) if is_last => {
                    TOTALS.lose(signal, Loss::Undelivered, items);
                    (items, why)
                }
                Outcome::Failed(why, asked) => {
                    report.note(&self.collector.place, why, 0);
                    let pausing = sleep(next_pause(asked, pause));
                    let _ = self.closing.run_until_cancelled(pausing).await;
                    pause = LONGEST_PAUSE.min(2 * pause);
                    continue;
                }
            };
            TOTALS.export(signal, items - lost);
            if !why.is_empty() {
                report.note(&self.collector.place, why, lost);
            }
            return;
        }
    }

    /// The request for a batch: its items with resource and scope around them.
    fn request(&self, batch: &Batch) -> Bytes {
        let (resource, scope) = (self.resource.as_bytes(), self.scope.as_bytes());
        let mut inner = Message::default();
        inner.header(2, scope.len() + batch.bytes.len());
        let length = resource.len() + inner.as_bytes().len() + scope.len() + batch.bytes.len();
        let mut outer = Message::default();
        outer.header(1, length);
        [
            outer.as_bytes(),
            resource,
            inner.as_bytes(),
            scope,
            &batch.bytes,
        ]
        .concat()
        .into()
    }

    fn queue(&self, signal: Signal) -> &Queue {
        let [traces, logs] = &self.queues;
        match signal {
            Signal::Traces => traces,
            Signal::Logs => logs,
        }
    }

    /// What waits of each signal, or is on its way.
    pub(super) fn waiting(&self) -> [u64; Signal::ALL.len()] {
        self.queues.each_ref().map(Queue::items)
    }
}

/// The pause before a batch is sent again: what the collector asks for, or else our own.
fn next_pause(asked: Option<Duration>, own: Duration) -> Duration {
    match asked {
        Some(asked) => asked.clamp(FIRST_PAUSE, LONGEST_ASKED_PAUSE),
        None => jittered(own),
    }
}

/// A pause of the same order, so that gateways that have lost one collector do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    // Without random numbers there is no jitter.
    let _ = getrandom::fill(&mut random);
    let [random] = random;
    pause.mul_f64(0.75 + f64::from(random) / 512.0)
}

/// The lines of the log about one signal's losses.
struct Report {
    signal: Signal,
    last: Option<Instant>,
    /// What the last one says.
    why: String,
    /// Lost items that no line has told of.
    lost: u64,
}

impl Report {
    fn new(signal: Signal) -> Self {
        Self {
            signal,
            last: None,
            why: String::new(),
            lost: 0,
        }
    }

    /// Notes a failure, and lost items. Warns of a new reason at once, and of the same one once in [`REPORT_EVERY`].
    fn note(&mut self, place: &str, why: String, lost: u64) {
        self.lost += lost;
        let is_recent = self.last.is_some_and(|last| last.elapsed() < REPORT_EVERY);
        if !is_recent || self.why != why {
            self.last = Some(Instant::now());
            self.why = why;
            self.warn(place);
        }
    }

    /// Tells of what is not told yet.
    fn rest(mut self, place: &str) {
        if self.lost > 0 {
            self.warn(place);
        }
    }

    fn warn(&mut self, place: &str) {
        let (what, lost, why) = (
            self.signal.items(),
            std::mem::take(&mut self.lost),
            &self.why,
        );
        tracing::warn!(
            collector = place,
            lost,
            "the collector does not take {what}: {why}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collector_that_asks_for_no_pause_or_a_long_one_gets_a_bounded_one() {
        let asked = |seconds| next_pause(Some(Duration::from_secs(seconds)), FIRST_PAUSE);
        assert_eq!(asked(0), FIRST_PAUSE);
        assert_eq!(asked(5), Duration::from_secs(5));
        assert_eq!(asked(86_400), LONGEST_ASKED_PAUSE);
    }
}

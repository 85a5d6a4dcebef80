//! The metrics page: counters that live elsewhere, read when someone asks.

mod encode;
mod plugins;
mod stages;
mod text;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::registry::Registry;
use time::OffsetDateTime;

use encode::{counter, counters, gauge, gauges};

use crate::access_log;
use crate::counters::Exemplar;
use crate::handshake::HandshakeContext;
use crate::otlp;
use crate::plugin::Plugins;

/// The sources of the numbers.
pub(crate) struct Metrics {
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) handshakes: Arc<HandshakeContext>,
    pub(crate) reloads: Reloads,
    /// The expiry of every served certificate that comes from a file.
    pub(crate) certificates: ArcSwap<Vec<Expiry>>,
}

/// The expiry of a certificate.
pub(crate) struct Expiry {
    /// The address that it is served on.
    pub(crate) listener: String,
    /// The first name that it is for.
    pub(crate) name: String,
    /// Seconds since the Unix epoch.
    pub(crate) not_after: i64,
}

/// Counts of reloads by result. A touched file that nobody asked to reload, and that changed nothing, counts as no
/// reload.
#[derive(Default)]
pub(crate) struct Reloads {
    pub(crate) changed: AtomicU64,
    pub(crate) unchanged: AtomicU64,
    pub(crate) refused: AtomicU64,
}

struct MetricsPage {
    metrics: Arc<Metrics>,
    format: MetricsFormat,
    /// The exemplars of the stages' histograms of latency, which the library's encoder does not take.
    exemplars: Arc<Mutex<Vec<Option<Exemplar>>>>,
}

/// The format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    OpenMetrics,
    /// That of Prometheus, for those who do not ask for the other.
    Plain,
}

impl MetricsFormat {
    /// The best one that a request accepts, by its header.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let is_asked = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if is_asked {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

impl Metrics {
    pub(crate) fn new(plugins: Arc<Plugins>, handshakes: Arc<HandshakeContext>) -> Self {
        Self {
            plugins,
            handshakes,
            reloads: Reloads::default(),
            certificates: ArcSwap::default(),
        }
    }

    /// Renders the page.
    pub(crate) fn render(self: &Arc<Self>, format: MetricsFormat) -> String {
        let mut registry = Registry::with_prefix("lockgate");
        let exemplars = Arc::<Mutex<_>>::default();
        registry.register_collector(Box::new(MetricsPage {
            metrics: Arc::clone(self),
            format,
            exemplars: Arc::clone(&exemplars),
        }));
        let mut page = String::new();
        encode_text(&mut page, &registry).expect("a string takes what is written");
        let exemplars = exemplars.lock().unwrap_or_else(PoisonError::into_inner);
        match format {
            MetricsFormat::Plain => text::plain(&page),
            MetricsFormat::OpenMetrics if exemplars.iter().all(Option::is_none) => page,
            MetricsFormat::OpenMetrics => {
                let bucket = format!("lockgate_{}_bucket{{", stages::LATENCY);
                text::with_exemplars(&page, &bucket, &exemplars)
            }
        }
    }
}

impl Collector for MetricsPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &*self.metrics;
        gateway(metrics, &mut encoder)?;
        let exemplars = stages::encode(&metrics.handshakes.counters, self.format, &mut encoder)?;
        *self
            .exemplars
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = exemplars;
        plugins::encode(&metrics.plugins, &mut encoder)
    }
}

/// Encodes the numbers of the gateway as a whole.
fn gateway(metrics: &Metrics, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    gauges(
        encoder,
        "build_info",
        "1; the version of the gateway",
        [([("version", env!("CARGO_PKG_VERSION"))], 1)],
    )?;
    let handshakes = metrics.handshakes.counters.handshakes.all();
    counters(
        encoder,
        "handshakes",
        "Handshakes by result and, where it is a refusal, reason",
        handshakes.map(|(outcome, count)| {
            let labels = [("result", outcome.result()), ("reason", outcome.reason())];
            (labels, count)
        }),
    )?;
    gauge(
        encoder,
        "handshakes_under_way",
        "Handshakes under way",
        metrics.handshakes.permits.taken() as i64,
    )?;
    counter(
        encoder,
        "panics",
        "Bugs of the gateway, each of which ended one connection at most",
        crate::telemetry::panics(),
    )?;
    counter(
        encoder,
        "log_dropped",
        "Lines of the log that were dropped: standard error took them too slowly, or not at all",
        crate::telemetry::DROPPED.load(Ordering::Relaxed),
    )?;
    counter(
        encoder,
        "log_suppressed",
        "Lines of the log that were left out, since there were many of one kind",
        crate::telemetry::LIMITER.suppressed(),
    )?;
    counter(
        encoder,
        "access_log_dropped",
        "Lines of the access log that were dropped: their reader took them too slowly or was not there, or the disk was full",
        access_log::dropped(),
    )?;
    counters(
        encoder,
        "otlp_exported",
        "Spans and log lines that the collector took",
        otlp::exported().map(|(signal, count)| ([("signal", signal.label())], count)),
    )?;
    let dropped = otlp::dropped()
        .map(|(signal, why, count)| ([("signal", signal.label()), ("reason", why.label())], count));
    counters(
        encoder,
        "otlp_dropped",
        "Spans and log lines that the collector did not get: the queue was full, it refused them, or did not take them in time",
        dropped,
    )?;
    let reloads = &metrics.reloads;
    let reloads = [
        ("changed", &reloads.changed),
        ("unchanged", &reloads.unchanged),
        ("refused", &reloads.refused),
    ];
    counters(
        encoder,
        "reloads",
        "Reloads that were asked for, or changed something, or were refused",
        reloads.map(|(result, count)| ([("result", result)], count.load(Ordering::Relaxed))),
    )?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let certificates = metrics.certificates.load();
    gauges(
        encoder,
        "certificate_expiry_seconds",
        "Seconds until a certificate expires; negative when it has",
        certificates.iter().map(|expiry| {
            let labels = [("listener", &*expiry.listener), ("name", &*expiry.name)];
            (labels, expiry.not_after.saturating_sub(now))
        }),
    )
}

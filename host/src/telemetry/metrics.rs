//! The metrics page: counters that live elsewhere, read when someone asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric as _};
use prometheus_client::registry::Registry;
use time::OffsetDateTime;

use crate::access_log;
use crate::handshake::HandshakeContext;
use crate::plugin::{Plugins, Tallies};

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

struct MetricsPage(Arc<Metrics>);

impl fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

#[derive(Debug, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
}

#[derive(Debug, EncodeLabelSet)]
struct CertificateLabels {
    listener: String,
    name: String,
}

#[derive(Debug, EncodeLabelSet)]
struct VersionLabels {
    plugin: String,
    version: u64,
    digest: String,
    role: &'static str,
}

/// A counter of each plugin: name, help, value.
type PluginCounter = (&'static str, &'static str, fn(&Tallies) -> u64);

const PLUGIN_COUNTERS: [PluginCounter; 6] = [
    ("invocations", "Calls of handlers that have ended", |t| {
        t.calls
    }),
    (
        "traps",
        "Calls that trapped, or computed for longer than limits.cpu_ms",
        |t| t.traps,
    ),
    ("swaps", "New versions that began to serve", |t| t.swaps),
    ("versions_refused", "Versions that failed a check", |t| {
        t.refused
    }),
    ("rollbacks", "Rollbacks by command", |t| t.rollbacks),
    (
        "self_rollbacks",
        "Versions that rolled themselves back",
        |t| t.withdrawn,
    ),
];

impl Metrics {
    pub(crate) fn new(plugins: Arc<Plugins>, handshakes: Arc<HandshakeContext>) -> Self {
        Self {
            plugins,
            handshakes,
            reloads: Reloads::default(),
            certificates: ArcSwap::default(),
        }
    }

    /// Renders the page in OpenMetrics text.
    pub(crate) fn render(self: &Arc<Self>) -> String {
        let mut registry = Registry::with_prefix("lockgate");
        registry.register_collector(Box::new(MetricsPage(Arc::clone(self))));
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a string takes what is written");
        page
    }
}

impl Collector for MetricsPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Metrics {
            plugins,
            handshakes,
            reloads,
            certificates,
        } = &*self.0;
        let open = i64::try_from(handshakes.sessions.len()).unwrap_or(i64::MAX);
        let open = ConstGauge::new(open);
        let metric = encoder.encode_descriptor(
            "connections",
            "Open connections",
            None,
            open.metric_type(),
        )?;
        open.encode(metric)?;
        let counts = [
            (
                "panics",
                "Bugs of the gateway, each of which ended one connection at most",
                super::panics(),
            ),
            (
                "log_dropped",
                "Lines of the log that were dropped: standard error took them too slowly, or not at all",
                super::DROPPED.load(Ordering::Relaxed),
            ),
            (
                "log_suppressed",
                "Lines of the log that were left out, since there were many of one kind",
                super::LIMITER.suppressed(),
            ),
            (
                "access_log_dropped",
                "Lines of the access log that were dropped: their reader took them too slowly, or the disk was full",
                access_log::dropped(),
            ),
        ];
        for (name, help, count) in counts {
            let count = ConstCounter::new(count);
            count.encode(encoder.encode_descriptor(name, help, None, count.metric_type())?)?;
        }
        let help = "Reloads that were asked for, or changed something, or were refused";
        let kind = ConstCounter::<u64>::TYPE;
        let mut metric = encoder.encode_descriptor("reloads", help, None, kind)?;
        for (result, count) in [
            ("changed", &reloads.changed),
            ("unchanged", &reloads.unchanged),
            ("refused", &reloads.refused),
        ] {
            let count = ConstCounter::new(count.load(Ordering::Relaxed));
            count.encode(metric.encode_family(&ResultLabels { result })?)?;
        }
        let kind = MetricType::Gauge;
        let help = "Seconds until a certificate expires; negative when it has";
        let mut metric =
            encoder.encode_descriptor("certificate_expiry_seconds", help, None, kind)?;
        let now = OffsetDateTime::now_utc().unix_timestamp();
        for expiry in certificates.load().iter() {
            let labels = CertificateLabels {
                listener: expiry.listener.clone(),
                name: expiry.name.clone(),
            };
            let left = ConstGauge::new(expiry.not_after.saturating_sub(now));
            left.encode(metric.encode_family(&labels)?)?;
        }
        let plugins = plugins.all();
        let tallies: Vec<_> = plugins
            .iter()
            .map(|(name, plugin)| (name, plugin.tallies()))
            .collect();
        for (name, help, value) in PLUGIN_COUNTERS {
            let kind = ConstCounter::<u64>::TYPE;
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (plugin, tallies) in &tallies {
                let labels = PluginLabels {
                    plugin: (*plugin).clone(),
                };
                ConstCounter::new(value(tallies)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "The versions that serve";
        let mut metric =
            encoder.encode_descriptor("plugin_version", help, None, MetricType::Gauge)?;
        for info in plugins.values().filter_map(|plugin| plugin.info()) {
            let candidate = info.candidate.map(|version| ("candidate", version));
            for (role, version) in [("stable", info.serving)].into_iter().chain(candidate) {
                let labels = VersionLabels {
                    plugin: info.name.clone(),
                    version: version.version,
                    digest: version.digest,
                    role,
                };
                ConstGauge::new(1).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;

    use super::*;

    #[test]
    fn hostile_name_in_a_label_writes_no_line_of_its_own() {
        let calls = Family::<PluginLabels, Counter>::default();
        for plugin in ["a\"} 1\nevil 5", "\\", "\n", "\"", "b\r\nevil 6", "{}"] {
            let plugin = plugin.to_owned();
            calls.get_or_create(&PluginLabels { plugin }).inc();
        }
        let mut registry = Registry::with_prefix("lockgate");
        registry.register("calls", "Calls", calls);
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a string takes what is written");
        let samples: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 6, "{page}");
        for sample in samples {
            let value = sample.strip_prefix("lockgate_calls_total{plugin=\"");
            assert!(
                value.is_some_and(|rest| rest.ends_with("\"} 1")),
                "{sample}"
            );
        }
    }
}

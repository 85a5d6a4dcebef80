//! Metrics in the encoder's terms. It escapes the values of labels.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::{CounterWithExemplar, Exemplar};

use crate::counters::{Histogram, LastError};

/// The labels of one sample.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// The labels of an exemplar that is not there.
type NoLabels = Labels<'static, 0>;

/// Encodes a counter without labels.
pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabels, _, u64>(&value, None)
}

/// Encodes a gauge without labels.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    metric.encode_gauge(&value)
}

/// Encodes a counter with a sample for each of these labels.
pub(super) fn counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        let mut sample = metric.encode_family(&labels)?;
        sample.encode_counter::<NoLabels, _, u64>(&value, None)?;
    }
    Ok(())
}

/// Encodes a gauge with a sample for each of these labels.
pub(super) fn gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, i64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// Encodes a counter of errors. Its exemplar has the request id of the last one, with which the log tells more.
pub(super) fn errors<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, (u64, Option<LastError>))>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, (value, last)) in samples {
        // The library makes exemplars in counters of its own alone.
        let carrier: CounterWithExemplar<ErrorLabels> = CounterWithExemplar::default();
        if let Some(last) = last {
            let labels = [("request_id", last.request_id.to_string())];
            carrier.inc_by(1_u64, Some(labels), Some(last.at));
        }
        let (_, exemplar) = carrier.get();
        encode_error(metric.encode_family(&labels)?, value, exemplar.as_ref())?;
    }
    Ok(())
}

type ErrorLabels = [(&'static str, String); 1];

fn encode_error(
    mut sample: MetricEncoder<'_>,
    value: u64,
    exemplar: Option<&Exemplar<ErrorLabels, u64>>,
) -> fmt::Result {
    sample.encode_counter(&value, exemplar)
}

/// Encodes a histogram with a sample for each of these labels.
pub(super) fn histograms<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, Histogram)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, read) in samples {
        let mut sample = metric.encode_family(&labels)?;
        sample.encode_histogram::<NoLabels>(read.sum, read.count, &read.buckets, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Hostile;

    impl Collector for Hostile {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let names = ["a\"} 1\nevil 5", "\\", "\n", "\"", "b\r\nevil 6", "{}"];
            let samples = names.map(|name| ([("plugin", name)], 1));
            counters(&mut encoder, "calls", "Calls", samples)
        }
    }

    #[test]
    fn hostile_name_in_a_label_writes_no_line_of_its_own() {
        let mut registry = Registry::with_prefix("lockgate");
        registry.register_collector(Box::new(Hostile));
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

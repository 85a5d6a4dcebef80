//! The numbers of stages and routes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;

use super::MetricsFormat;
use super::encode::{Labels, counters, errors, gauges, histograms};
use crate::connections::Carrier;
use crate::counters::{
    Counters, DatagramCounters, Exemplar, LastError, POSTED, RouteCounters, StageCounters, UNROUTED,
};
use crate::route;

/// A stage with its routes, all read at one time.
struct Stage {
    api: String,
    name: String,
    counters: Arc<StageCounters>,
    routes: Vec<(Box<str>, Arc<RouteCounters>)>,
}

impl Stage {
    fn labels(&self) -> Labels<'_, 2> {
        [("api", &self.api), ("stage", &self.name)]
    }

    fn route_labels<'a>(&'a self, route: &'a str) -> Labels<'a, 3> {
        let [api, stage] = self.labels();
        [api, stage, ("route", route)]
    }

    /// Messages and bytes by route and direction. Nothing for a route without messages: most of 10,000 routes have
    /// none.
    fn traffic(&self) -> Vec<(Labels<'_, 4>, [u64; 2])> {
        let of_stage = [
            (UNROUTED, [self.counters.unrouted.read(), [0; 2]]),
            (POSTED, [[0; 2], self.counters.posted()]),
        ];
        let of_routes = self.routes.iter();
        let of_routes = of_routes.map(|(key, route)| (&**key, route.traffic()));
        let mut traffic = Vec::new();
        for (route, both) in of_stage.into_iter().chain(of_routes) {
            for (direction, counts) in ["in", "out"].into_iter().zip(both) {
                if counts != [0; 2] {
                    let [api, stage, route] = self.route_labels(route);
                    traffic.push(([api, stage, route, ("direction", direction)], counts));
                }
            }
        }
        traffic
    }
}

/// The histogram whose buckets have exemplars.
pub(super) const LATENCY: &str = "integration_latency_seconds";

/// Encodes the numbers of each stage, and those of API Gateway by their names. Gives the exemplars of the buckets of
/// [`LATENCY`], in their order.
pub(super) fn encode(
    all: &Counters,
    format: MetricsFormat,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<Vec<Option<Exemplar>>, fmt::Error> {
    let stages: Vec<_> = all.stages().into_iter().map(stage).collect();
    let gauge = |read: fn(&StageCounters) -> i64| {
        let stages = stages.iter();
        stages.map(move |stage| (stage.labels(), read(&stage.counters)))
    };
    gauges(
        encoder,
        "connections",
        "Open connections",
        gauge(|stage| {
            let open = Carrier::ALL.iter().map(|carrier| stage.open(*carrier));
            open.map(|open| open.load(Ordering::Relaxed)).sum()
        }),
    )?;
    let carried = stages.iter().flat_map(|stage| {
        Carrier::ALL.into_iter().map(move |carrier| {
            let [api, name] = stage.labels();
            let (http, protocol) = (carrier.http(), carrier.protocol());
            let open = stage.counters.open(carrier).load(Ordering::Relaxed);
            ([api, name, ("http", http), ("protocol", protocol)], open)
        })
    });
    gauges(
        encoder,
        "connections_carried",
        "Open connections, by the version of HTTP and the protocol that carry their messages",
        carried,
    )?;
    let datagrams = |read: fn(&DatagramCounters) -> [&AtomicU64; 2]| {
        let stages = stages.iter();
        let samples = stages.flat_map(move |stage| {
            let counts = read(&stage.counters.datagrams).map(|count| count.load(Ordering::Relaxed));
            let directions = ["in", "out"].into_iter().zip(counts);
            directions.map(|(direction, count)| {
                let [api, name] = stage.labels();
                ([api, name, ("direction", direction)], count)
            })
        });
        samples.filter(|(_, count)| *count > 0)
    };
    counters(
        encoder,
        "datagrams",
        "Datagrams that handlers got from WebTransport clients, and that the network took for them",
        datagrams(|counters| [&counters.incoming, &counters.outgoing]),
    )?;
    counters(
        encoder,
        "datagrams_dropped",
        "Datagrams for which there was no room",
        datagrams(|counters| [&counters.incoming_dropped, &counters.outgoing_dropped]),
    )?;
    gauges(
        encoder,
        "connections_behind",
        "Open connections whose client has not taken all that was written",
        gauge(|stage| stage.behind.load(Ordering::Relaxed)),
    )?;
    let connects = stages.iter().filter_map(|stage| {
        let mut routes = stage.routes.iter();
        let (_, connect) = routes.find(|(key, _)| &**key == route::CONNECT)?;
        Some((stage.labels(), connect.calls.load(Ordering::Relaxed)))
    });
    counters(
        encoder,
        "connect_count",
        "Events that the integration of $connect was called for",
        connects,
    )?;
    let traffic: Vec<_> = stages.iter().flat_map(Stage::traffic).collect();
    let samples = traffic
        .iter()
        .map(|(labels, [messages, _])| (*labels, *messages));
    counters(
        encoder,
        "message_count",
        "Messages from clients and to them",
        samples,
    )?;
    let samples = traffic.iter().map(|(labels, [_, bytes])| (*labels, *bytes));
    counters(
        encoder,
        "message_bytes",
        "Payload bytes of messages from clients and to them",
        samples,
    )?;
    let client_errors = stages.iter().map(|stage| {
        let count = stage.counters.client_errors.load(Ordering::Relaxed);
        (stage.labels(), count)
    });
    counters(
        encoder,
        "client_error",
        "Handshakes refused with 400 to 499 before their integration, and messages that no route got",
        client_errors,
    )?;
    let failed = |read: fn(&RouteCounters) -> (u64, Option<LastError>)| {
        let stages = stages.iter();
        let samples = stages.flat_map(move |stage| {
            let routes = stage.routes.iter();
            routes.map(move |(key, route)| {
                let (count, last) = read(route);
                let last = last.filter(|_| format == MetricsFormat::OpenMetrics);
                (stage.route_labels(key), (count, last))
            })
        });
        samples.filter(|(_, (count, _))| *count > 0)
    };
    errors(
        encoder,
        "integration_error",
        "Calls that the integration answered with a failure, or with a status of 400 to 599",
        failed(|route| route.integration_errors.read()),
    )?;
    errors(
        encoder,
        "execution_error",
        "Calls without an answer of the integration: it trapped, took too long, or had no instance",
        failed(|route| route.execution_errors.read()),
    )?;
    let throttled = stages.iter().map(|stage| {
        let count = stage.counters.throttled.load(Ordering::Relaxed);
        (stage.labels(), count)
    });
    counters(
        encoder,
        "throttled",
        "Events turned away with Too Many Requests: every instance was busy, or over a usage plan",
        throttled,
    )?;
    let mut exemplars = Vec::new();
    let latency = stages.iter().map(|stage| {
        let histogram = &stage.counters.latency;
        let (read, traced) = (histogram.read(), histogram.exemplars());
        let places = 0..read.buckets.len();
        exemplars.extend(places.map(|place| traced.get(place).copied().flatten()));
        (stage.labels(), read)
    });
    histograms(
        encoder,
        LATENCY,
        "Time of calls of handlers, the time that they wait for an instance included",
        latency,
    )?;
    histograms(
        encoder,
        "handler_cpu_seconds",
        "Processor time of calls of handlers; of short ones, one in 17 stands for all",
        stages
            .iter()
            .map(|stage| (stage.labels(), stage.counters.cpu.read())),
    )?;
    histograms(
        encoder,
        "outbox_peak_bytes",
        "The most bytes that waited for a client at once, of each connection that has ended",
        stages
            .iter()
            .map(|stage| (stage.labels(), stage.counters.outbox_peak.read())),
    )?;
    let closes: Vec<_> = stages
        .iter()
        .map(|stage| (stage, labelled_closes(stage)))
        .collect();
    let closes = closes.iter().flat_map(|(stage, closes)| {
        closes.iter().map(move |(code, by, count)| {
            let [api, name] = stage.labels();
            ([api, name, ("code", &**code), ("by", *by)], *count)
        })
    });
    counters(
        encoder,
        "closes",
        "Connections that have ended, by close code and side",
        closes,
    )?;
    Ok(exemplars)
}

fn stage(((api, name), counters): ((String, String), Arc<StageCounters>)) -> Stage {
    Stage {
        api,
        name,
        routes: counters.routes(),
        counters,
    }
}

fn labelled_closes(stage: &Stage) -> Vec<(String, &'static str, u64)> {
    let closes = stage.counters.closes().into_iter();
    closes
        .map(|((code, by), count)| (code.label(), by.as_str(), count))
        .collect()
}

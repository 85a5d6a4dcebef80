//! What a stage and each of its routes count. They outlive the snapshots of the stage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use super::histogram::{ByteHistogram, TimeHistogram};
use crate::connections::{Carrier, Closer, RequestId};
use crate::sharded::Sharded;

/// The routes of all stages that have counts of their own. At 800 bytes of the page each, that is within 2 MB.
pub(super) const MAX_ROUTES: usize = 2_000;

/// The route that counts what further routes do. No route key of a configuration begins with `$` and is unknown.
const OTHER_ROUTES: &str = "$other";

/// The route of messages to a client that are no answers: what handlers, groups and `@connections` send.
pub(crate) const POSTED: &str = "@connections";

/// The route of messages without a route.
pub(crate) const UNROUTED: &str = "$none";

/// The counts of one stage.
#[derive(Debug, Default)]
pub(crate) struct StageCounters {
    /// Clients that are let in and have not ended, by what carries their messages.
    open: [AtomicI64; Carrier::ALL.len()],
    pub(crate) datagrams: Arc<DatagramCounters>,
    /// Those of which not everything is written that waits for them.
    pub(crate) behind: AtomicI64,
    /// Handshakes that were refused before the integration of `$connect`, with a status from 400 to 499, and messages
    /// that no route got.
    pub(crate) client_errors: AtomicU64,
    /// Events with the status 429: every instance was busy, or a message was over its usage plan.
    pub(crate) throttled: AtomicU64,
    /// Messages that no route got.
    pub(crate) unrouted: Traffic,
    posted: Sharded<Traffic>,
    /// The time of calls of handlers, the time that they wait for an instance included.
    pub(crate) latency: TimeHistogram,
    pub(crate) cpu: TimeHistogram,
    /// The most bytes that waited for a client at once, of each that has ended.
    pub(crate) outbox_peak: ByteHistogram,
    closes: Mutex<BTreeMap<(CloseCode, Closer), u64>>,
    routes: Mutex<BTreeMap<Box<str>, Arc<RouteCounters>>>,
}

/// A close code, in as many values as a page can have: clients and handlers choose those from 3000 to 4999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CloseCode(u16);

impl CloseCode {
    fn of(code: u16) -> Self {
        match code {
            1000..=1015 => Self(code),
            3000..=3999 => Self(3000),
            4000..=4999 => Self(4000),
            _ => Self(0),
        }
    }

    pub(crate) fn label(self) -> String {
        match self.0 {
            3000 => "3xxx".to_owned(),
            4000 => "4xxx".to_owned(),
            0 => "other".to_owned(),
            code => code.to_string(),
        }
    }
}

/// The datagrams of a stage, those of WebTransport clients and those to them. No packet is counted that the network has
/// lost.
#[derive(Debug, Default)]
pub(crate) struct DatagramCounters {
    /// Those that a session took, and those that the network was given.
    pub(crate) incoming: AtomicU64,
    pub(crate) outgoing: AtomicU64,
    /// Those for which there was no room.
    pub(crate) incoming_dropped: AtomicU64,
    pub(crate) outgoing_dropped: AtomicU64,
}

impl StageCounters {
    /// The clients of this carrier that are let in and have not ended.
    pub(crate) fn open(&self, carrier: Carrier) -> &AtomicI64 {
        let [http1, http2, http3, webtransport] = &self.open;
        match carrier {
            Carrier::Http1 => http1,
            Carrier::Http2 => http2,
            Carrier::Http3 => http3,
            Carrier::WebTransport => webtransport,
        }
    }

    /// Notes messages to clients that are no answers.
    pub(crate) fn note_posted(&self, messages: u64, bytes: u64) {
        self.posted.own().add(messages, bytes);
    }

    /// Messages to clients that are no answers, and their bytes.
    pub(crate) fn posted(&self) -> [u64; 2] {
        self.posted.all().fold([0; 2], |[messages, bytes], shard| {
            let [more, more_bytes] = shard.read();
            [messages + more, bytes + more_bytes]
        })
    }

    pub(crate) fn note_close(&self, code: u16, by: Closer) {
        let mut closes = lock(&self.closes);
        *closes.entry((CloseCode::of(code), by)).or_default() += 1;
    }

    pub(crate) fn closes(&self) -> Vec<((CloseCode, Closer), u64)> {
        let closes = lock(&self.closes);
        closes.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// The counts of each route, by key.
    pub(crate) fn routes(&self) -> Vec<(Box<str>, Arc<RouteCounters>)> {
        let routes = lock(&self.routes);
        let routes = routes.iter();
        routes
            .map(|(key, route)| (key.clone(), Arc::clone(route)))
            .collect()
    }

    /// Keeps the counts of these routes, and begins those of new ones while there is `room`; takes from it. Gives the
    /// counts of a route by its key.
    pub(super) fn serve<'a>(
        &self,
        keys: impl Iterator<Item = &'a str>,
        room: &mut usize,
    ) -> BTreeMap<Box<str>, Arc<RouteCounters>> {
        let mut routes = lock(&self.routes);
        let mut before = std::mem::take(&mut *routes);
        let mut by_key = BTreeMap::new();
        for key in keys {
            let kept = if *room > 0 { key } else { OTHER_ROUTES };
            let counters = match routes.get(kept) {
                Some(counters) => Arc::clone(counters),
                None => {
                    *room = room.saturating_sub(1);
                    let counters = before.remove(kept).unwrap_or_default();
                    routes.insert(kept.into(), Arc::clone(&counters));
                    counters
                }
            };
            by_key.insert(key.into(), counters);
        }
        by_key
    }
}

/// The counts of one route of a stage.
#[derive(Debug, Default)]
pub(crate) struct RouteCounters {
    /// None before its first message: a route that is not used takes no memory for threads.
    messages: OnceLock<Sharded<RouteMessages>>,
    /// Events that the integration was called for: of `$connect`, API Gateway's `ConnectCount`.
    pub(crate) calls: AtomicU64,
    /// Calls that the integration answered with a failure, or with a status from 400 to 599.
    pub(crate) integration_errors: ErrorCount,
    /// Calls without an answer of the integration: it trapped, took too long, had no instance.
    pub(crate) execution_errors: ErrorCount,
}

#[derive(Debug, Default)]
struct RouteMessages {
    incoming: Traffic,
    outgoing: Traffic,
}

/// Messages, and the bytes of their payloads.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> [u64; 2] {
        [&self.messages, &self.bytes].map(|count| count.load(Ordering::Relaxed))
    }
}

impl RouteCounters {
    pub(crate) fn note_message(&self, bytes: usize) {
        let messages = self.messages.get_or_init(Sharded::default);
        messages.own().incoming.add(1, bytes as u64);
    }

    /// Notes an answer that is sent to the client.
    pub(crate) fn note_answer(&self, bytes: usize) {
        let messages = self.messages.get_or_init(Sharded::default);
        messages.own().outgoing.add(1, bytes as u64);
    }

    /// Messages and bytes from clients, then those to them.
    pub(crate) fn traffic(&self) -> [[u64; 2]; 2] {
        let mut read = [[0; 2]; 2];
        for shard in self.messages.get().iter().flat_map(|all| all.all()) {
            let both = [shard.incoming.read(), shard.outgoing.read()];
            for (sum, part) in read.iter_mut().flatten().zip(both.iter().flatten()) {
                *sum += part;
            }
        }
        read
    }
}

/// A count of errors, with the last of them.
#[derive(Debug, Default)]
pub(crate) struct ErrorCount(Mutex<(u64, Option<LastError>)>);

/// The last error: its log lines have the request id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastError {
    pub(crate) request_id: RequestId,
    pub(crate) at: SystemTime,
}

impl ErrorCount {
    pub(crate) fn add(&self, request_id: RequestId) {
        let at = SystemTime::now();
        let mut count = lock(&self.0);
        *count = (count.0 + 1, Some(LastError { request_id, at }));
    }

    pub(crate) fn read(&self) -> (u64, Option<LastError>) {
        *lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_beyond_the_room_share_their_counts_and_counts_outlive_a_reload() {
        let stage = StageCounters::default();
        let mut room = 2;
        let routes = stage.serve(["a", "b", "c", "d"].into_iter(), &mut room);
        for (key, route) in &routes {
            route.note_message(key.len());
        }
        let counts = |stage: &StageCounters| -> Vec<_> {
            let routes = stage.routes().into_iter();
            routes
                .map(|(key, route)| (key.to_string(), route.traffic()[0]))
                .collect()
        };
        assert_eq!(
            counts(&stage),
            [
                ("$other".to_owned(), [2, 2]),
                ("a".to_owned(), [1, 1]),
                ("b".to_owned(), [1, 1])
            ]
        );
        room = 2;
        stage.serve(["b", "x"].into_iter(), &mut room);
        assert_eq!(
            counts(&stage),
            [("b".to_owned(), [1, 1]), ("x".to_owned(), [0, 0])]
        );
    }

    #[test]
    fn close_codes_have_few_labels() {
        let labels = [1000, 1009, 1016, 3001, 4999, 65_535].map(|code| CloseCode::of(code).label());
        assert_eq!(labels, ["1000", "1009", "other", "3xxx", "4xxx", "other"]);
    }
}

//! The rate limiter of log lines: limits warnings, errors and plugins' output by kind and client, so that no client
//! fills the log. A later line reports the number of lines left out.
//!
//! The kind is the place in the code, and the plugin. A line that a client has caused names it in the field `client`.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The target of plugins' output.
pub(super) const GUEST: &str = "guest";

/// The target of the access log's lines. They are limited as warnings are.
const ACCESS: &str = "access";

/// The target of lines about the log itself; they are few and not limited.
pub(super) const SELF: &str = "lockgate::log";

/// Quota of warnings of one kind for one client: enough to see the fault, and no more than a person reads.
const WARNINGS: Quota = Quota {
    at_once: 50.0,
    per_s: 1.0,
};

/// Quota of plugins' output for one client, in bytes: some hundred lines a second, 5 GB a day at most.
const OUTPUT: Quota = Quota {
    at_once: 512.0 * 1_024.0,
    per_s: 64.0 * 1_024.0,
};

/// Bytes added to the cost of a printed line: for the time, the plugin, the connection and the request id.
const LINE_OVERHEAD: usize = 128;

/// Limit of buckets, one for each kind and client. Clients beyond it share buckets.
const MAX_BUCKETS: usize = 4_096;

/// Time after which left out lines are reported.
const REPORT_AFTER: Duration = Duration::from_secs(10);

/// Longest example in a report, in characters.
const MAX_EXAMPLE_CHARS: usize = 160;

#[derive(Clone, Copy)]
struct Quota {
    at_once: f64,
    per_s: f64,
}

pub(super) struct Limiter {
    buckets: Mutex<Option<HashMap<BucketKey, Bucket>>>,
    suppressed: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BucketKey {
    kind: Identifier,
    client: String,
    plugin: String,
}

struct Bucket {
    quota: Quota,
    left: f64,
    filled: Instant,
    suppressed: Option<Suppressed>,
}

/// The lines left out since the last report.
#[derive(Debug, PartialEq)]
struct Suppressed {
    lines: u64,
    since: Instant,
    example: String,
}

impl Limiter {
    pub(super) const fn new() -> Self {
        Self {
            buckets: Mutex::new(None),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Count of lines left out so far.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// Logs how many lines of each kind and client were left out. Those that began just now wait for the next time,
    /// unless this is the last.
    pub(super) fn report(&self, last: bool) {
        let now = Instant::now();
        let wait = if last { Duration::ZERO } else { REPORT_AFTER };
        for (key, suppressed) in self.take(now, wait) {
            tracing::warn!(
                target: SELF,
                client = Some(key.client).filter(|client| !client.is_empty()),
                plugin = Some(key.plugin).filter(|name| !name.is_empty()),
                suppressed = suppressed.lines,
                within_s = (now - suppressed.since).as_secs(),
                example = suppressed.example,
                "lines of one kind were left out of the log, since there are many"
            );
        }
    }

    /// Takes the cost of a line from its bucket. Gives whether the line may be written.
    fn allows(
        &self,
        mut key: BucketKey,
        quota: Quota,
        cost: f64,
        text: &str,
        now: Instant,
    ) -> bool {
        let mut buckets = self.lock();
        let buckets = buckets.get_or_insert_default();
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_like_new(now));
            if buckets.len() >= MAX_BUCKETS {
                key.client = "others".to_owned();
            }
        }
        let bucket = buckets.entry(key).or_insert_with(|| Bucket {
            quota,
            left: quota.at_once,
            filled: now,
            suppressed: None,
        });
        let allowed = bucket.take(cost, now);
        if !allowed {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            let suppressed = bucket.suppressed.get_or_insert_with(|| Suppressed {
                lines: 0,
                since: now,
                example: text.chars().take(MAX_EXAMPLE_CHARS).collect(),
            });
            suppressed.lines += 1;
        }
        allowed
    }

    fn take(&self, now: Instant, wait: Duration) -> Vec<(BucketKey, Suppressed)> {
        let mut buckets = self.lock();
        let buckets = buckets.iter_mut().flatten();
        buckets
            .filter_map(|(key, bucket)| {
                let due = |suppressed: &mut Suppressed| now - suppressed.since >= wait;
                Some((key.clone(), bucket.suppressed.take_if(due)?))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<BucketKey, Bucket>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn take(&mut self, cost: f64, now: Instant) -> bool {
        self.fill(now);
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }

    fn fill(&mut self, now: Instant) {
        let new = (now - self.filled).as_secs_f64() * self.quota.per_s;
        self.left = (self.left + new).min(self.quota.at_once);
        self.filled = now;
    }

    /// Whether it is the same as a new bucket, and can be dropped.
    fn is_like_new(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.quota.at_once && self.suppressed.is_none()
    }
}

impl<S: Subscriber> Layer<S> for &'static Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let target = metadata.target();
        let is_output = target == GUEST;
        let is_limited = is_output || target == ACCESS || *metadata.level() <= Level::WARN;
        if target == SELF || !is_limited {
            return true;
        }
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let (quota, cost) = if is_output {
            (OUTPUT, (fields.message.len() + LINE_OVERHEAD) as f64)
        } else {
            (WARNINGS, 1.0)
        };
        let key = BucketKey {
            kind: metadata.callsite(),
            client: network(fields.client),
            plugin: fields.plugin,
        };
        self.allows(key, quota, cost, &fields.message, Instant::now())
    }
}

/// The addresses that count as one client: an IPv4 address, or the 2⁶⁴ IPv6 addresses that any host can pick from.
fn network(client: String) -> String {
    match client.parse() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
            let network = Ipv6Addr::from_bits(address.to_bits() >> 64 << 64);
            format!("{network}/64")
        }
        Ok(_) | Err(_) => client,
    }
}

/// The fields of an event that decide on its bucket and cost.
#[derive(Default)]
struct EventFields {
    client: String,
    plugin: String,
    message: String,
}

impl EventFields {
    fn slot(&mut self, field: &Field) -> Option<&mut String> {
        match field.name() {
            "client" => Some(&mut self.client),
            "plugin" | "log.target" => Some(&mut self.plugin),
            "message" => Some(&mut self.message),
            _ => None,
        }
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.slot(field) {
            value.clone_into(text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(text) = self.slot(field) {
            let _ = write!(text, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Metadata;
    use tracing::callsite::Callsite;
    use tracing::subscriber::Interest;

    use super::*;

    struct Nowhere;
    static NOWHERE: Nowhere = Nowhere;

    impl Callsite for Nowhere {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    fn key(client: &(impl ToString + ?Sized)) -> BucketKey {
        BucketKey {
            kind: Identifier(&NOWHERE),
            client: client.to_string(),
            plugin: String::new(),
        }
    }

    #[test]
    fn limited_lines_of_one_client_are_counted_and_other_clients_are_not_limited() {
        let (limiter, start) = (Limiter::new(), Instant::now());
        let warn = |client: &str, now| limiter.allows(key(client), WARNINGS, 1.0, "it failed", now);
        let allowed = (0..80).filter(|_| warn("192.0.2.1", start)).count();
        assert_eq!(allowed, 50);
        assert!(warn("192.0.2.2", start));
        let later = start + Duration::from_secs(2);
        assert_eq!((0..5).filter(|_| warn("192.0.2.1", later)).count(), 2);
        assert!(limiter.take(later, REPORT_AFTER).is_empty());
        let later = start + REPORT_AFTER;
        let [(reported, suppressed)] = &limiter.take(later, REPORT_AFTER)[..] else {
            panic!("one kind of one client was left out")
        };
        assert_eq!((reported, suppressed.lines), (&key("192.0.2.1"), 33));
        assert_eq!(suppressed.example, "it failed");
        assert!(limiter.take(later, REPORT_AFTER).is_empty());
        assert_eq!(limiter.suppressed(), 33);
    }

    #[test]
    fn clients_beyond_the_limit_of_buckets_share_one() {
        let (limiter, now) = (Limiter::new(), Instant::now());
        let warn = |client: usize| limiter.allows(key(&client), WARNINGS, 1.0, "", now);
        assert_eq!(
            (0..MAX_BUCKETS + 100)
                .filter(|client| warn(*client))
                .count(),
            MAX_BUCKETS + 50
        );
        assert_eq!(
            limiter.lock().as_ref().map(HashMap::len),
            Some(MAX_BUCKETS + 1)
        );
        // Quiet clients are forgotten.
        let later = now + Duration::from_secs(60);
        assert!(limiter.allows(key("new"), WARNINGS, 1.0, "", later));
        assert!(limiter.lock().as_ref().is_some_and(|all| all.len() < 5));
    }

    #[test]
    fn client_is_its_ipv4_address_or_its_ipv6_network() {
        assert_eq!(network("192.0.2.1".into()), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6".into()), "2001:db8:1:2::/64");
        assert_eq!(network("::ffff:192.0.2.1".into()), "::ffff:192.0.2.1");
        assert_eq!(network("any".into()), "any");
    }
}

//! Warnings, errors and what plugins print are limited in rate, by kind and client, so that no client fills the log;
//! how many lines were left out is said afterwards.
//!
//! The kind is the place in the code, and the plugin; a line that a client has caused names it in the field `client`.

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

/// Where what plugins print comes from.
pub(super) const GUEST: &str = "guest";

/// Where the lines about the log itself come from; they are few and not limited.
pub(super) const SELF: &str = "lockgate::log";

/// Warnings of one kind for one client: enough to see what is wrong, and no more than a person reads.
const WARNINGS: Quota = Quota {
    at_once: 50.0,
    per_s: 1.0,
};

/// Bytes of what plugins print for one client: some hundred lines a second, 5 GB a day at most.
const PRINTED: Quota = Quota {
    at_once: 512.0 * 1_024.0,
    per_s: 64.0 * 1_024.0,
};

/// Bytes that a printed line counts for, beside its own: the time, the plugin, the connection, the request id.
const LINE_OVERHEAD: usize = 128;

/// Kinds and clients that are told apart; further ones share what is allowed.
const KEYS: usize = 4_096;

/// How long lines are left out before it is said.
const SAY_AFTER: Duration = Duration::from_secs(10);

/// Characters of the example in what is said.
const EXAMPLE: usize = 160;

#[derive(Clone, Copy)]
struct Quota {
    at_once: f64,
    per_s: f64,
}

pub(super) struct Limiter {
    buckets: Mutex<Option<HashMap<Key, Bucket>>>,
    suppressed: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
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

/// What was left out since it was said last.
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

    /// Lines that were left out so far.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// Logs how many lines were left out, of each kind and client; those that began just now only when it is the last
    /// time.
    pub(super) fn say(&self, last: bool) {
        let now = Instant::now();
        let wait = if last { Duration::ZERO } else { SAY_AFTER };
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

    /// Whether a line may be written now, at this cost.
    fn allows(&self, mut key: Key, quota: Quota, cost: f64, text: &str, now: Instant) -> bool {
        let mut buckets = self.lock();
        let buckets = buckets.get_or_insert_default();
        if buckets.len() >= KEYS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_quiet(now));
            if buckets.len() >= KEYS {
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
                example: text.chars().take(EXAMPLE).collect(),
            });
            suppressed.lines += 1;
        }
        allowed
    }

    fn take(&self, now: Instant, wait: Duration) -> Vec<(Key, Suppressed)> {
        let mut buckets = self.lock();
        let buckets = buckets.iter_mut().flatten();
        buckets
            .filter_map(|(key, bucket)| {
                let due = |suppressed: &mut Suppressed| now - suppressed.since >= wait;
                Some((key.clone(), bucket.suppressed.take_if(due)?))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Key, Bucket>>> {
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

    /// Nothing would be other if it were forgotten.
    fn is_quiet(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.quota.at_once && self.suppressed.is_none()
    }
}

impl<S: Subscriber> Layer<S> for &'static Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let target = metadata.target();
        let printed = target == GUEST;
        if target == SELF || !printed && *metadata.level() > Level::WARN {
            return true;
        }
        let mut facts = Facts::default();
        event.record(&mut facts);
        let (quota, cost) = if printed {
            (PRINTED, (facts.message.len() + LINE_OVERHEAD) as f64)
        } else {
            (WARNINGS, 1.0)
        };
        let key = Key {
            kind: metadata.callsite(),
            client: network(facts.client),
            plugin: facts.plugin,
        };
        self.allows(key, quota, cost, &facts.message, Instant::now())
    }
}

/// The addresses of one client: an IPv4 address, or the 2⁶⁴ IPv6 addresses that any host can pick from.
fn network(client: String) -> String {
    match client.parse() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
            let network = Ipv6Addr::from_bits(address.to_bits() >> 64 << 64);
            format!("{network}/64")
        }
        Ok(_) | Err(_) => client,
    }
}

/// What an event is judged by.
#[derive(Default)]
struct Facts {
    client: String,
    plugin: String,
    message: String,
}

impl Facts {
    fn of(&mut self, field: &Field) -> Option<&mut String> {
        match field.name() {
            "client" => Some(&mut self.client),
            "plugin" | "log.target" => Some(&mut self.plugin),
            "message" => Some(&mut self.message),
            _ => None,
        }
    }
}

impl Visit for Facts {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(fact) = self.of(field) {
            value.clone_into(fact);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(fact) = self.of(field) {
            let _ = write!(fact, "{value:?}");
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

    fn key(client: &(impl ToString + ?Sized)) -> Key {
        Key {
            kind: Identifier(&NOWHERE),
            client: client.to_string(),
            plugin: String::new(),
        }
    }

    #[test]
    fn one_client_is_limited_and_the_rest_is_counted_and_others_are_not_limited_by_it() {
        let (limiter, start) = (Limiter::new(), Instant::now());
        let warn = |client: &str, now| limiter.allows(key(client), WARNINGS, 1.0, "it failed", now);
        let allowed = (0..80).filter(|_| warn("192.0.2.1", start)).count();
        assert_eq!(allowed, 50);
        assert!(warn("192.0.2.2", start));
        let later = start + Duration::from_secs(2);
        assert_eq!((0..5).filter(|_| warn("192.0.2.1", later)).count(), 2);
        assert!(limiter.take(later, SAY_AFTER).is_empty());
        let later = start + SAY_AFTER;
        let [(said, suppressed)] = &limiter.take(later, SAY_AFTER)[..] else {
            panic!("one kind of one client was left out")
        };
        assert_eq!((said, suppressed.lines), (&key("192.0.2.1"), 33));
        assert_eq!(suppressed.example, "it failed");
        assert!(limiter.take(later, SAY_AFTER).is_empty());
        assert_eq!(limiter.suppressed(), 33);
    }

    #[test]
    fn ever_new_clients_take_no_more_memory_and_are_limited_together() {
        let (limiter, now) = (Limiter::new(), Instant::now());
        let warn = |client: usize| limiter.allows(key(&client), WARNINGS, 1.0, "", now);
        assert_eq!(
            (0..KEYS + 100).filter(|client| warn(*client)).count(),
            KEYS + 50
        );
        assert_eq!(limiter.lock().as_ref().map(HashMap::len), Some(KEYS + 1));
        // Those that have been quiet are forgotten.
        let later = now + Duration::from_secs(60);
        assert!(limiter.allows(key("new"), WARNINGS, 1.0, "", later));
        assert!(limiter.lock().as_ref().is_some_and(|all| all.len() < 5));
    }

    #[test]
    fn a_client_is_its_ipv4_address_or_its_ipv6_network() {
        assert_eq!(network("192.0.2.1".into()), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6".into()), "2001:db8:1:2::/64");
        assert_eq!(network("::ffff:192.0.2.1".into()), "::ffff:192.0.2.1");
        assert_eq!(network("any".into()), "any");
    }
}

//! The admission of connections: limits on their number and rate, for all together and for each address. It is decided
//! before any work is done for a client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{Quota, RateLimiter};
use http::StatusCode;

use crate::config::GatewayLimits;
use crate::counters::Outcome;
use crate::permits::{Permit, Permits};

/// Count of new connections between two prunings of limiter entries that were idle for a second. The limiter holds at
/// most this many entries more than came within a second.
const PRUNE_EVERY: u32 = 4_096;

/// The limits that every connection passes: each TCP or QUIC connection, and each stream of one that is a WebSocket.
pub(crate) struct Admission {
    permits: Arc<Permits>,
    rate: Option<Rate<TotalLimiter>>,
    rate_per_ip: Option<Rate<AddressLimiter>>,
    per_ip: Option<NonZeroU32>,
    /// Counted without a limit too: a reload may set one.
    open: Arc<OpenCounts>,
}

type TotalLimiter = governor::DefaultDirectRateLimiter;

/// A rate for each address.
pub(super) struct AddressLimiter {
    limiter: RateLimiter<
        AddressBlock,
        governor::state::keyed::HashMapStateStore<AddressBlock>,
        governor::clock::DefaultClock,
    >,
    checks: AtomicU32,
}

/// A rate and its limiter. The limiter stays for as long as the rate does, whatever else a reload changes.
struct Rate<L> {
    per_s: NonZeroU32,
    limiter: Arc<L>,
}

/// Counts of open connections, by address.
type OpenCounts = Mutex<HashMap<AddressBlock, u32>>;

/// The addresses that count as one client: an IPv4 address, or the 2⁶⁴ IPv6 addresses that any host can pick from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AddressBlock {
    V4(u32),
    V6(u64),
}

/// A connection's permit, returned on drop.
pub(crate) struct ConnectionPermit {
    _total: TotalPermit,
    _address: Option<AddressPermit>,
}

enum TotalPermit {
    Own {
        _permit: Permit,
    },
    /// The permit of the socket, which a proxy has opened for the client.
    OfSocket {
        _permit: Arc<ConnectionPermit>,
    },
}

struct AddressPermit {
    block: AddressBlock,
    open: Arc<OpenCounts>,
}

/// The reason why a client is not admitted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("there are as many handshakes under way as limits.handshakes allows")]
    TooManyHandshakes,
    #[error("there are as many WebSockets on one HTTP/2 or HTTP/3 connection as there may be")]
    TooManyStreams,
    #[error("there are as many connections as limits.connections allows")]
    Full,
    #[error("more connections came than limits.connections_per_s allows")]
    TooFast,
    #[error("more connections came from one address than limits.connections_per_s_per_ip allows")]
    TooFastFromOne,
    #[error("one address has as many connections as limits.connections_per_ip allows")]
    TooManyOfOne,
    #[error("more connections came than connections_per_s of the API allows")]
    TooFastForApi,
}

impl NotAdmitted {
    /// How the metrics count it.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::TooManyHandshakes => Outcome::TooManyHandshakes,
            Self::TooManyStreams => Outcome::TooManyStreams,
            Self::Full => Outcome::TooManyConnections,
            Self::TooFast => Outcome::TooFast,
            Self::TooFastFromOne => Outcome::TooFastFromOneAddress,
            Self::TooManyOfOne => Outcome::TooManyFromOneAddress,
            Self::TooFastForApi => Outcome::TooFastForApi,
        }
    }

    /// Gives the status: 503 if everyone together has had their share, 429 if the client's own address or the API has, as
    /// by API Gateway.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooManyHandshakes | Self::Full | Self::TooFast => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooFastFromOne
            | Self::TooManyOfOne
            | Self::TooManyStreams
            | Self::TooFastForApi => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl Admission {
    /// Makes limits for `connections`, which the process must be able to open, and the configured rates.
    pub(crate) fn new(connections: usize, limits: &GatewayLimits) -> Self {
        Self {
            permits: Permits::new(connections),
            rate: Rate::new(limits.connections_per_s, RateLimiter::direct),
            rate_per_ip: Rate::new(limits.connections_per_s_per_ip, AddressLimiter::new),
            per_ip: limits.connections_per_ip,
            open: Arc::default(),
        }
    }

    /// Gives the same counts under other limits: open connections stay, and count.
    pub(crate) fn changed(&self, connections: usize, limits: &GatewayLimits) -> Self {
        self.permits.set_limit(connections);
        let mut changed = Self::new(connections, limits);
        changed.permits = Arc::clone(&self.permits);
        Rate::keep_limiter(&mut changed.rate, self.rate.as_ref());
        Rate::keep_limiter(&mut changed.rate_per_ip, self.rate_per_ip.as_ref());
        changed.open = Arc::clone(&self.open);
        changed
    }

    /// The limit of open connections.
    pub(crate) fn limit(&self) -> usize {
        self.permits.limit()
    }

    /// Whether a limit is one address's own: then nobody may come from an address that is not his.
    pub(crate) fn counts_addresses(&self) -> bool {
        self.rate_per_ip.is_some() || self.per_ip.is_some()
    }

    /// Admits a client.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<ConnectionPermit, NotAdmitted> {
        let address_permit = self.judge(address)?;
        let permit = self.permits.take().ok_or(NotAdmitted::Full)?;
        Ok(ConnectionPermit {
            _total: TotalPermit::Own { _permit: permit },
            _address: Some(address_permit),
        })
    }

    /// Admits a proxy's socket, whose client is not named yet. A proxy may have any number: its clients are judged.
    pub(crate) fn admit_proxy(&self) -> Result<ConnectionPermit, NotAdmitted> {
        let permit = self.permits.take().ok_or(NotAdmitted::Full)?;
        Ok(ConnectionPermit {
            _total: TotalPermit::Own { _permit: permit },
            _address: None,
        })
    }

    /// Judges the client that a proxy has named, and admits it with the socket's permit.
    pub(crate) fn admit_named(
        &self,
        socket: Arc<ConnectionPermit>,
        address: IpAddr,
    ) -> Result<ConnectionPermit, NotAdmitted> {
        let address_permit = self.judge(address)?;
        Ok(ConnectionPermit {
            _total: TotalPermit::OfSocket { _permit: socket },
            _address: Some(address_permit),
        })
    }

    /// The address is judged first: its vain attempts cost the others nothing.
    fn judge(&self, address: IpAddr) -> Result<AddressPermit, NotAdmitted> {
        let block = AddressBlock::of(address);
        let address_permit = self.take_for_address(block)?;
        if let Some(rate) = &self.rate_per_ip
            && !rate.limiter.allows(address)
        {
            return Err(NotAdmitted::TooFastFromOne);
        }
        if let Some(rate) = &self.rate {
            rate.limiter.check().map_err(|_| NotAdmitted::TooFast)?;
        }
        Ok(address_permit)
    }

    fn take_for_address(&self, block: AddressBlock) -> Result<AddressPermit, NotAdmitted> {
        let mut counts = lock(&self.open);
        let count = counts.entry(block).or_default();
        if self.per_ip.is_some_and(|limit| *count >= limit.get()) {
            return Err(NotAdmitted::TooManyOfOne);
        }
        *count += 1;
        let open = Arc::clone(&self.open);
        Ok(AddressPermit { block, open })
    }
}

impl<L> Rate<L> {
    fn new(per_s: Option<NonZeroU32>, limiter: impl FnOnce(Quota) -> L) -> Option<Self> {
        per_s.map(|per_s| Self {
            per_s,
            limiter: Arc::new(limiter(Quota::per_second(per_s))),
        })
    }

    fn keep_limiter(changed: &mut Option<Self>, before: Option<&Self>) {
        if let (Some(changed), Some(before)) = (changed, before)
            && changed.per_s == before.per_s
        {
            changed.limiter = Arc::clone(&before.limiter);
        }
    }
}

impl AddressLimiter {
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            limiter: RateLimiter::hashmap(quota),
            checks: AtomicU32::new(0),
        }
    }

    /// Takes one of the address's share. False when there is none left.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        if self.checks.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY == PRUNE_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&AddressBlock::of(address)).is_ok()
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = lock(&self.open);
        if let Some(count) = counts.get_mut(&self.block) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.block);
            }
        }
    }
}

fn lock(open: &OpenCounts) -> MutexGuard<'_, HashMap<AddressBlock, u32>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AddressBlock {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn limits(rates: [u32; 3]) -> GatewayLimits {
        let [per_s, per_s_per_ip, per_ip] = rates.map(NonZeroU32::new);
        GatewayLimits {
            connections_per_s: per_s,
            connections_per_s_per_ip: per_s_per_ip,
            connections_per_ip: per_ip,
            ..GatewayLimits::default()
        }
    }

    fn admission(connections: usize, rates: [u32; 3]) -> Admission {
        Admission::new(connections, &limits(rates))
    }

    #[track_caller]
    fn check(
        admission: &Admission,
        address: &str,
        expected: Result<(), NotAdmitted>,
    ) -> Option<ConnectionPermit> {
        let permit = admission.admit(address.parse().unwrap());
        assert_eq!(
            permit.as_ref().map(|_| ()).map_err(|error| *error),
            expected,
            "{address}"
        );
        permit.ok()
    }

    #[test]
    fn connections_are_counted() {
        let admission = admission(2, [0, 0, 0]);
        let held = [
            check(&admission, "127.0.0.1", Ok(())),
            check(&admission, "127.0.0.1", Ok(())),
        ];
        check(&admission, "127.0.0.2", Err(NotAdmitted::Full));
        drop(held);
        check(&admission, "127.0.0.2", Ok(()));
    }

    #[test]
    fn connections_of_one_address_are_counted() {
        let admission = admission(9, [0, 0, 2]);
        let held = [
            check(&admission, "127.0.0.1", Ok(())),
            // The same address as an IPv6 socket shows it.
            check(&admission, "::ffff:127.0.0.1", Ok(())),
        ];
        check(&admission, "127.0.0.1", Err(NotAdmitted::TooManyOfOne));
        check(&admission, "127.0.0.2", Ok(()));
        drop(held);
        check(&admission, "127.0.0.1", Ok(()));
        assert!(lock(&admission.open).is_empty());
    }

    #[test]
    fn limit_of_an_address_counts_those_that_came_before_it() {
        let without = admission(9, [0, 0, 0]);
        let _held = check(&without, "127.0.0.1", Ok(()));
        let limited = without.changed(9, &limits([0, 0, 1]));
        check(&limited, "127.0.0.1", Err(NotAdmitted::TooManyOfOne));
        let off_and_on = limited
            .changed(9, &limits([0, 0, 0]))
            .changed(9, &limits([0, 0, 2]));
        let _second = check(&off_and_on, "127.0.0.1", Ok(()));
        check(&off_and_on, "127.0.0.1", Err(NotAdmitted::TooManyOfOne));
    }

    #[test]
    fn clients_of_a_proxy_are_counted_and_not_the_proxy() {
        let admission = admission(3, [0, 0, 1]);
        let socket = || Arc::new(admission.admit_proxy().expect("there is room"));
        let client = |address: &str| admission.admit_named(socket(), address.parse().unwrap());
        let held = [client("192.0.2.1").unwrap(), client("192.0.2.2").unwrap()];
        assert_eq!(client("192.0.2.1").err(), Some(NotAdmitted::TooManyOfOne));
        check(&admission, "192.0.2.2", Err(NotAdmitted::TooManyOfOne));
        let third = check(&admission, "192.0.2.3", Ok(()));
        assert_eq!(admission.admit_proxy().err(), Some(NotAdmitted::Full));
        drop((held, third));
        let _all = [socket(), socket(), socket()];
    }

    #[test]
    fn ipv6_network_counts_as_one_address() {
        let admission = admission(9, [0, 0, 1]);
        let _held = check(&admission, "2001:db8::1", Ok(()));
        check(&admission, "2001:db8::2:1", Err(NotAdmitted::TooManyOfOne));
        check(&admission, "2001:db8:0:1::1", Ok(()));
    }

    #[test]
    fn rates_are_counted_for_each_address_and_for_all() {
        let admission = admission(9, [3, 2, 0]);
        for _ in 0..2 {
            check(&admission, "127.0.0.1", Ok(()));
        }
        // Refused attempts cost the others nothing.
        for _ in 0..9 {
            check(&admission, "127.0.0.1", Err(NotAdmitted::TooFastFromOne));
        }
        check(&admission, "127.0.0.2", Ok(()));
        check(&admission, "127.0.0.3", Err(NotAdmitted::TooFast));
    }

    #[test]
    fn limiter_state_outlives_a_reload() {
        let before = admission(9, [3, 1, 0]);
        check(&before, "127.0.0.1", Ok(()));
        check(&before, "127.0.0.2", Ok(()));
        let same = before.changed(9, &limits([3, 1, 9]));
        check(&same, "127.0.0.1", Err(NotAdmitted::TooFastFromOne));
        check(&same, "127.0.0.3", Ok(()));
        check(&same, "127.0.0.4", Err(NotAdmitted::TooFast));
        // A changed rate starts with a new limiter.
        let other = same.changed(9, &limits([3, 2, 9]));
        check(&other, "127.0.0.1", Err(NotAdmitted::TooFast));
        let other = other.changed(9, &limits([4, 2, 9]));
        check(&other, "127.0.0.1", Ok(()));
    }

    #[test]
    fn refused_client_takes_no_permit() {
        let admission = admission(1, [0, 0, 5]);
        let held = check(&admission, "127.0.0.1", Ok(()));
        for _ in 0..9 {
            check(&admission, "127.0.0.1", Err(NotAdmitted::Full));
        }
        drop(held);
        assert!(lock(&admission.open).is_empty());
    }

    #[test]
    fn quiet_addresses_are_forgotten() {
        // At such a rate an address is quiet after a microsecond.
        let admission = admission(9, [0, 1_000_000, 0]);
        for address in 0..40 * PRUNE_EVERY {
            admission
                .admit(Ipv4Addr::from_bits(address).into())
                .unwrap();
        }
        let known = admission.rate_per_ip.unwrap().limiter.limiter.len();
        assert!(known <= 2 * PRUNE_EVERY as usize, "{known}");
    }
}

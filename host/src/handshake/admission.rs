//! Who may come in at all: how many connections there may be, and how fast new ones may come, of everyone together
//! and of one address. Decided before any work is done for a client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{Quota, RateLimiter};
use http::StatusCode;

use super::permits::{Permit, Permits};
use crate::config::GatewayLimits;

/// New connections after which the addresses are forgotten that have been quiet for a second. So many more than came
/// within a second are remembered at most.
const FORGET_AFTER: u32 = 4_096;

/// The gate that every connection goes through: each TCP connection, and each stream that is a WebSocket of HTTP/2.
pub(crate) struct Admission {
    permits: Arc<Permits>,
    rate: Option<Rate<Everyone>>,
    rate_per_ip: Option<Rate<Each>>,
    per_ip: Option<(u32, Arc<Open>)>,
}

type Everyone = governor::DefaultDirectRateLimiter;

struct Each {
    limiter: RateLimiter<
        Block,
        governor::state::keyed::HashMapStateStore<Block>,
        governor::clock::DefaultClock,
    >,
    asked: AtomicU32,
}

/// A rate, and what has been used of it: kept for as long as the rate stays, whatever else a reload changes.
struct Rate<L> {
    per_s: NonZeroU32,
    used: Arc<L>,
}

/// Open connections of each address that has any.
type Open = Mutex<HashMap<Block, u32>>;

/// One customer's addresses: an IPv4 address, or the 2⁶⁴ IPv6 addresses that any host can pick from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Block {
    V4(u32),
    V6(u64),
}

/// A connection's place, for as long as it has one.
pub(crate) struct Admitted {
    _among_all: AmongAll,
    _of_ip: Option<AdmittedAddress>,
}

enum AmongAll {
    Own {
        _permit: Permit,
    },
    /// That of the socket, which a proxy has opened for the client.
    OfSocket {
        _permit: Arc<Admitted>,
    },
}

struct AdmittedAddress {
    block: Block,
    open: Arc<Open>,
}

/// Why a client is not let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("there are as many handshakes under way as limits.handshakes allows")]
    TooManyHandshakes,
    #[error("there are as many WebSockets on one HTTP/2 connection as there may be")]
    TooManyStreams,
    #[error("there are as many connections as limits.connections allows")]
    Full,
    #[error("more connections came than limits.connections_per_s allows")]
    TooFast,
    #[error("more connections came from one address than limits.connections_per_s_per_ip allows")]
    TooFastFromOne,
    #[error("one address has as many connections as limits.connections_per_ip allows")]
    TooManyOfOne,
}

impl NotAdmitted {
    /// Tells apart whose fault it is: the client's own address has had its share, or everyone together has.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooManyHandshakes | Self::Full | Self::TooFast => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooFastFromOne | Self::TooManyOfOne | Self::TooManyStreams => {
                StatusCode::TOO_MANY_REQUESTS
            }
        }
    }
}

impl Admission {
    /// For so many connections, which the process must be able to open, within the configured rates.
    pub(crate) fn new(connections: usize, limits: &GatewayLimits) -> Self {
        Self {
            permits: Permits::new(connections),
            rate: Rate::new(limits.connections_per_s, RateLimiter::direct),
            rate_per_ip: Rate::new(limits.connections_per_s_per_ip, |quota| Each {
                limiter: RateLimiter::hashmap(quota),
                asked: AtomicU32::new(0),
            }),
            per_ip: limits
                .connections_per_ip
                .map(|most| (most.get(), Arc::default())),
        }
    }

    /// The same under other limits: those who are in stay in, and are counted on.
    pub(crate) fn changed(&self, connections: usize, limits: &GatewayLimits) -> Self {
        self.permits.set_limit(connections);
        let mut changed = Self::new(connections, limits);
        changed.permits = Arc::clone(&self.permits);
        Rate::keep(&mut changed.rate, self.rate.as_ref());
        Rate::keep(&mut changed.rate_per_ip, self.rate_per_ip.as_ref());
        if let (Some((_, open)), Some((_, before))) = (&mut changed.per_ip, &self.per_ip) {
            *open = Arc::clone(before);
        }
        changed
    }

    /// Gives a place to a client.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Admitted, NotAdmitted> {
        let of_ip = self.judge(address)?;
        let permit = self.permits.take().ok_or(NotAdmitted::Full)?;
        Ok(Admitted {
            _among_all: AmongAll::Own { _permit: permit },
            _of_ip: of_ip,
        })
    }

    /// Gives a place to a socket of a proxy, which has not said yet for whom it is. A proxy has as many as it likes: its
    /// clients are judged.
    pub(crate) fn admit_proxy(&self) -> Result<Admitted, NotAdmitted> {
        let permit = self.permits.take().ok_or(NotAdmitted::Full)?;
        Ok(Admitted {
            _among_all: AmongAll::Own { _permit: permit },
            _of_ip: None,
        })
    }

    /// Judges the client that a proxy has named, and gives it the place of the socket.
    pub(crate) fn admit_named(
        &self,
        socket: Arc<Admitted>,
        address: IpAddr,
    ) -> Result<Admitted, NotAdmitted> {
        let of_ip = self.judge(address)?;
        Ok(Admitted {
            _among_all: AmongAll::OfSocket { _permit: socket },
            _of_ip: of_ip,
        })
    }

    /// One address is judged first: what it asks for in vain costs the others nothing.
    fn judge(&self, address: IpAddr) -> Result<Option<AdmittedAddress>, NotAdmitted> {
        let block = Block::of(address);
        let of_ip = self.place_of_ip(block)?;
        if let Some(rate) = &self.rate_per_ip {
            rate.used.check(block)?;
        }
        if let Some(rate) = &self.rate {
            rate.used.check().map_err(|_| NotAdmitted::TooFast)?;
        }
        Ok(of_ip)
    }

    fn place_of_ip(&self, block: Block) -> Result<Option<AdmittedAddress>, NotAdmitted> {
        let Some((most, open)) = &self.per_ip else {
            return Ok(None);
        };
        let mut counts = lock(open);
        let count = counts.entry(block).or_default();
        if *count >= *most {
            return Err(NotAdmitted::TooManyOfOne);
        }
        *count += 1;
        let open = Arc::clone(open);
        Ok(Some(AdmittedAddress { block, open }))
    }
}

impl<L> Rate<L> {
    fn new(per_s: Option<NonZeroU32>, limiter: impl FnOnce(Quota) -> L) -> Option<Self> {
        per_s.map(|per_s| Self {
            per_s,
            used: Arc::new(limiter(Quota::per_second(per_s))),
        })
    }

    fn keep(changed: &mut Option<Self>, before: Option<&Self>) {
        if let (Some(changed), Some(before)) = (changed, before)
            && changed.per_s == before.per_s
        {
            changed.used = Arc::clone(&before.used);
        }
    }
}

impl Each {
    fn check(&self, block: Block) -> Result<(), NotAdmitted> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_AFTER == FORGET_AFTER - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let checked = self.limiter.check_key(&block);
        checked.map_err(|_| NotAdmitted::TooFastFromOne)
    }
}

impl Drop for AdmittedAddress {
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

fn lock(open: &Open) -> MutexGuard<'_, HashMap<Block, u32>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Block {
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
    ) -> Option<Admitted> {
        let place = admission.admit(address.parse().unwrap());
        assert_eq!(
            place.as_ref().map(|_| ()).map_err(|error| *error),
            expected,
            "{address}"
        );
        place.ok()
    }

    #[test]
    fn places_are_counted() {
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
    fn the_places_of_one_address_are_counted() {
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
        assert!(lock(&admission.per_ip.unwrap().1).is_empty());
    }

    #[test]
    fn the_clients_of_a_proxy_are_counted_and_not_the_proxy() {
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
    fn one_ipv6_network_is_one_address() {
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
        // In vain, and at nobody else's cost.
        for _ in 0..9 {
            check(&admission, "127.0.0.1", Err(NotAdmitted::TooFastFromOne));
        }
        check(&admission, "127.0.0.2", Ok(()));
        check(&admission, "127.0.0.3", Err(NotAdmitted::TooFast));
    }

    #[test]
    fn what_was_used_of_a_rate_outlives_a_reload() {
        let before = admission(9, [3, 1, 0]);
        check(&before, "127.0.0.1", Ok(()));
        check(&before, "127.0.0.2", Ok(()));
        let same = before.changed(9, &limits([3, 1, 9]));
        check(&same, "127.0.0.1", Err(NotAdmitted::TooFastFromOne));
        check(&same, "127.0.0.3", Ok(()));
        check(&same, "127.0.0.4", Err(NotAdmitted::TooFast));
        // Another rate begins anew.
        let other = same.changed(9, &limits([3, 2, 9]));
        check(&other, "127.0.0.1", Err(NotAdmitted::TooFast));
        let other = other.changed(9, &limits([4, 2, 9]));
        check(&other, "127.0.0.1", Ok(()));
    }

    #[test]
    fn a_place_that_is_not_given_is_not_taken() {
        let admission = admission(1, [0, 0, 5]);
        let held = check(&admission, "127.0.0.1", Ok(()));
        for _ in 0..9 {
            check(&admission, "127.0.0.1", Err(NotAdmitted::Full));
        }
        drop(held);
        assert!(lock(&admission.per_ip.unwrap().1).is_empty());
    }

    #[test]
    fn quiet_addresses_are_forgotten() {
        // At such a rate an address is quiet after a microsecond.
        let admission = admission(9, [0, 1_000_000, 0]);
        for address in 0..40 * FORGET_AFTER {
            admission
                .admit(Ipv4Addr::from_bits(address).into())
                .unwrap();
        }
        let known = admission.rate_per_ip.unwrap().used.limiter.len();
        assert!(known <= 2 * FORGET_AFTER as usize, "{known}");
    }
}

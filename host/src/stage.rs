//! A stage of an API as an immutable snapshot: its routes, origins, limits. A reload replaces the snapshot, and the
//! next message of every connection uses the new one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::auth::AccessKeys;
use crate::authorizer::Authorizer;
use crate::config::{Origins, Renews, StageLimits};
use crate::connections::{Connection, Message};
use crate::counters::RouteCounters;
use crate::integration::Integration;
use crate::invocation::Scope;
use crate::route::Selection;

/// The snapshot by which messages and handshakes are judged.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) scope: Arc<Scope>,
    pub(crate) origins: Origins,
    /// Who may connect; none lets everyone on to `$connect`.
    pub(crate) authorizer: Option<Arc<Authorizer>>,
    /// The authorizer of the API key that a client needs as well.
    pub(crate) api_key: Option<Arc<Authorizer>>,
    /// Whether the client listeners serve its connections API.
    pub(crate) connections_api: bool,
    pub(crate) limits: StageLimits,
    /// One message without a route in so many has a line in the access log; 0 is none.
    pub(crate) logged_one_in: u32,
    pub(crate) routes: Routes,
    /// New connections a second that the stage's API takes; none is without limit.
    pub(crate) connect_rate: Option<Arc<ConnectRate>>,
}

/// The rate of an API's new connections, for all its stages together. As many may come at once after a quiet second.
#[derive(Debug)]
pub(crate) struct ConnectRate {
    pub(crate) per_s: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
}

impl ConnectRate {
    pub(crate) fn new(per_s: NonZeroU32) -> Self {
        Self {
            per_s,
            limiter: RateLimiter::direct(Quota::per_second(per_s)),
        }
    }

    /// Counts a client. False if it is one too many.
    pub(crate) fn takes_one(&self) -> bool {
        self.limiter.check().is_ok()
    }
}

impl Stage {
    /// When a connection ends because what let it in expires, in milliseconds since the Unix epoch; none if it does not.
    pub(crate) fn expiry_of(&self, connection: &Connection) -> Option<u64> {
        let authorizer = self.authorizer.as_ref()?;
        if !authorizer.closes_on_expiry() {
            return None;
        }
        connection.identity()?.expires_at
    }
}

/// A stage as its connections hold it: a pointer to the newest snapshot.
pub(crate) type CurrentStage = ArcSwap<Stage>;

/// The routes of an API. `$connect` and `$disconnect` are not among the `custom` keys: no message selects them.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) selection: Selection,
    pub(crate) connect: Option<Route>,
    pub(crate) disconnect: Option<Route>,
    pub(crate) default: Option<Route>,
    pub(crate) custom: HashMap<Box<str>, Route>,
    /// The scopes that routes ask for, ordered. Each has a bit, by its place here.
    pub(crate) scopes: Vec<Box<str>>,
}

/// Scopes of one API, a bit for each that its routes ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(u64);

impl Scopes {
    /// Whether all of `needed` are among these.
    pub(crate) fn contain(self, needed: Self) -> bool {
        needed.0 & !self.0 == 0
    }
}

/// The route of one route key.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) key: Arc<str>,
    pub(crate) counters: Arc<RouteCounters>,
    pub(crate) integration: Integration,
    /// Whether the answer is sent to the client.
    pub(crate) two_way: bool,
    /// One message in so many has a line in the access log; 0 is none.
    pub(crate) logged_one_in: u32,
    /// The scopes that a client needs for it.
    pub(crate) scopes: Scopes,
    /// Who renews what let the client of a message in.
    pub(crate) renews: Option<Renews>,
    /// Whether the log has the warning that this one-way route drops an answer.
    pub(crate) drop_logged: Arc<AtomicBool>,
}

impl Routes {
    /// The plugins that handle the events of a connection, each with the number of the version that serves it.
    pub(crate) fn versions_for(&self, id: crate::connections::ConnectionId) -> BTreeMap<&str, u64> {
        let reserved = [&self.connect, &self.disconnect, &self.default];
        let all = reserved.into_iter().flatten().chain(self.custom.values());
        let integrations = all.map(|route| &route.integration);
        integrations
            .filter_map(|integration| Some((integration.name(), integration.version_for(id)?)))
            .collect()
    }

    /// The bits of those scopes that routes ask for.
    pub(crate) fn scopes_of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Scopes {
        let places = names.into_iter().filter_map(|name| {
            let place = self.scopes.binary_search_by(|known| (**known).cmp(name));
            place.ok()
        });
        Scopes(places.fold(0, |bits, place| bits | 1 << place))
    }

    /// The scopes of a client that routes ask for; none of a client without an identity.
    pub(crate) fn granted_to(&self, connection: &Connection) -> Scopes {
        // Most APIs ask for none.
        if self.scopes.is_empty() {
            return Scopes::default();
        }
        let identity = connection.identity();
        let names = identity.iter().flat_map(|identity| &identity.scopes);
        self.scopes_of(names.map(|name| &**name))
    }

    /// The route for a message; none if nothing matches and there is no `$default`.
    pub(crate) fn select(&self, message: &Message) -> Option<&Route> {
        // No key can match: the expression need not be evaluated.
        if self.custom.is_empty() {
            return self.default.as_ref();
        }
        let text = message.json_text();
        text.and_then(|text| self.selection.evaluate(text))
            .and_then(|key| self.custom.get(&*key))
            .or(self.default.as_ref())
    }
}

/// The stages by host and path.
#[derive(Default)]
pub(crate) struct Stages {
    /// The configured domains, as [`crate::config::Host`] writes them.
    pub(crate) domains: HashSet<Box<str>>,
    /// Stages by `domain` or `domain/base-path`; they are served nowhere else.
    pub(crate) by_domain: HashMap<Box<str>, Arc<CurrentStage>>,
    /// Stages by name, on every host that is no configured domain.
    pub(crate) by_name: HashMap<Box<str>, Arc<CurrentStage>>,
    /// Every stage by `API/STAGE`, as operators name it.
    pub(crate) by_api: HashMap<Box<str>, Arc<CurrentStage>>,
    /// The keys for the connections APIs of all stages.
    pub(crate) access_keys: Arc<AccessKeys>,
}

impl Stages {
    /// All stages, by `API/STAGE`.
    pub(crate) fn all(&self) -> BTreeMap<String, Arc<CurrentStage>> {
        let all = self.by_name.values().chain(self.by_domain.values());
        all.map(|stage| (stage.load().scope.to_string(), Arc::clone(stage)))
            .collect()
    }

    /// The stage at a host (as [`crate::config::Host`] writes it, without port) and a path. A trailing slash is
    /// accepted, further segments are not.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<CurrentStage>> {
        let segment = path.strip_prefix('/')?;
        let segment = segment.strip_suffix('/').unwrap_or(segment);
        if !self.domains.contains(host) {
            return self.by_name.get(segment);
        }
        if segment.is_empty() {
            return self.by_domain.get(host);
        }
        self.by_domain.get(format!("{host}/{segment}").as_str())
    }
}

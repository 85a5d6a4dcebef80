//! Authorizers: they decide who may connect, before `$connect`, and may wait for that. A client that one lets in has an
//! [`Identity`], which every later event of its connection sees.

mod api_keys;
mod cache;
mod denial;
mod forward;
mod iam;
mod jwt;
mod mtls;
#[cfg(test)]
mod pages;
mod plugin;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::api_keys::ApiKeysAuthorizer;
pub(crate) use self::api_keys::{KeyFiles, read_api_keys, write_api_keys};
pub(crate) use self::denial::{Answer, Denial};
use self::forward::ForwardAuthorizer;
use self::iam::IamAuthorizer;
use self::jwt::JwtAuthorizer;
pub(crate) use self::jwt::KnownKeys;
use self::plugin::PluginAuthorizer;
use crate::auth::api_keys::Record;
use crate::auth::{AccessKeys, Identity};
use crate::clock::now_ms;
use crate::config::{self, AuthorizerKind, Fault, IdentitySource, OnExpiry};
use crate::invocation::{Handshake, Invocation};
use crate::permits::{Permits, Share};
use crate::plugin::ByName;

/// An authorizer of the configuration. The stages that name it share it, and reloads keep it as long as nothing that it
/// depends on changes.
pub(crate) struct Authorizer {
    config: config::Authorizer,
    kind: Kind,
    /// One permit for each of its handshakes that waits for an endpoint or an issuer.
    waiting: Arc<Permits>,
}

/// What decides.
enum Kind {
    Plugin(PluginAuthorizer),
    Jwt(Arc<JwtAuthorizer>),
    ApiKeys(Arc<ApiKeysAuthorizer>),
    Iam(Arc<IamAuthorizer>),
    Forward(Arc<ForwardAuthorizer>),
    Mtls,
}

/// The parts of authorizers that can fail to be made, by the authorizer's name.
#[derive(Default)]
pub(crate) struct Prepared {
    forwards: BTreeMap<String, Arc<ForwardAuthorizer>>,
}

/// A client's request, as an authorizer sees it.
pub(crate) struct Request<'a> {
    /// The invocation of `$connect`: the connection to be, the stage, the request id, the time.
    pub(crate) invocation: &'a Arc<Invocation>,
    pub(crate) handshake: &'a Handshake,
    /// The query as the client wrote it, without `?`.
    pub(crate) query: &'a str,
    /// The token that the client offers as a subprotocol, if the authorizer takes one there.
    pub(crate) offered_token: Option<&'a str>,
    /// Who the client is by the authorizer before: an API key may be asked for beside another authorizer.
    pub(crate) identity: Option<&'a Identity>,
    /// The room for those that wait for an endpoint or an issuer: each authorizer has a [`Share`] of it.
    pub(crate) waiting: &'a Arc<Permits>,
}

/// Makes everything of these authorizers that can fail. Changes nothing.
pub(crate) fn prepare(authorizers: &[config::Authorizer]) -> Result<Prepared, Vec<Fault>> {
    let (mut prepared, mut faults) = (Prepared::default(), Vec::new());
    for config in authorizers {
        if let AuthorizerKind::Forward(forward) = &config.kind {
            let key = format!("authorizers.{}.forward", config.name);
            match ForwardAuthorizer::new(forward, &key) {
                Ok(made) => drop(
                    prepared
                        .forwards
                        .insert(config.name.clone(), Arc::new(made)),
                ),
                Err(fault) => faults.push(fault),
            }
        }
    }
    if faults.is_empty() {
        Ok(prepared)
    } else {
        Err(faults)
    }
}

impl Authorizer {
    /// Makes the authorizer of a configuration; none if what it needs was not prepared. Needs a runtime, in which it
    /// gets what it needs: what the authorizers before it knew of issuers' keys, and have of files of API keys.
    pub(crate) fn new(
        (config, prepared): (&config::Authorizer, &Prepared),
        plugins: &ByName,
        access_keys: &Arc<AccessKeys>,
        (known_keys, key_files): (&KnownKeys, &mut KeyFiles),
    ) -> Option<Self> {
        let kind = match &config.kind {
            AuthorizerKind::Plugin(name) => {
                let plugin = plugins.get(name).expect("checked with the configuration");
                Kind::Plugin(PluginAuthorizer::new(plugin.handle(), config.cache))
            }
            AuthorizerKind::Jwt(issuers) => {
                Kind::Jwt(Arc::new(JwtAuthorizer::new(issuers, known_keys)))
            }
            AuthorizerKind::ApiKeys(keys) => Kind::ApiKeys(key_files.authorizer(keys)),
            AuthorizerKind::Iam => Kind::Iam(Arc::new(IamAuthorizer::new(access_keys))),
            AuthorizerKind::Forward(_) => {
                Kind::Forward(Arc::clone(prepared.forwards.get(&config.name)?))
            }
            AuthorizerKind::Mtls => Kind::Mtls,
        };
        Some(Self {
            config: config.clone(),
            kind,
            waiting: Permits::new(usize::MAX),
        })
    }

    /// Whether it is what a configuration and these plugins would make: then it is kept, with what it remembers.
    pub(crate) fn is_current(&self, config: &config::Authorizer, plugins: &ByName) -> bool {
        self.config == *config
            && match &self.kind {
                Kind::Plugin(plugin) => plugin.is_current(plugins),
                Kind::Jwt(_) | Kind::ApiKeys(_) | Kind::Mtls => true,
                // It remembers nothing, and every reload reads the access keys anew.
                Kind::Iam(_) => false,
                Kind::Forward(forward) => forward.is_current(),
            }
    }

    /// The same authorizer with the newest versions of its plugin: for a stage that has left the configuration.
    pub(crate) fn newest(&self) -> Self {
        Self {
            config: self.config.clone(),
            kind: match &self.kind {
                Kind::Plugin(plugin) => Kind::Plugin(plugin.newest()),
                Kind::Jwt(jwt) => Kind::Jwt(Arc::clone(jwt)),
                Kind::ApiKeys(keys) => Kind::ApiKeys(Arc::clone(keys)),
                Kind::Iam(iam) => Kind::Iam(Arc::clone(iam)),
                Kind::Forward(forward) => Kind::Forward(Arc::clone(forward)),
                Kind::Mtls => Kind::Mtls,
            },
            waiting: Arc::clone(&self.waiting),
        }
    }

    /// Saves what has been used of quotas.
    pub(crate) fn save(&self) {
        match &self.kind {
            Kind::ApiKeys(keys) => keys.save(),
            Kind::Plugin(_) | Kind::Jwt(_) | Kind::Iam(_) | Kind::Forward(_) | Kind::Mtls => {}
        }
    }

    /// Whether a connection ends when what let it in expires.
    pub(crate) fn closes_on_expiry(&self) -> bool {
        self.config.on_expiry == OnExpiry::Close
    }

    /// Its name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether it takes a token that a client offers as a subprotocol, and that nobody else is to see.
    pub(crate) fn takes_offered_token(&self) -> bool {
        let sources = &self.config.identity_source;
        matches!(self.kind, Kind::Jwt(_)) && sources.iter().any(IdentitySource::is_subprotocol)
    }

    /// Who the client is that shows an API key: the one that the authorizer before knows, or else the key's own name. Values
    /// with a key are for this authorizer alone.
    fn with_key(&self, before: Option<&Identity>, record: &Record) -> Result<Identity, Denial> {
        let identity = match before {
            Some(before) => self.without_keys(before),
            None => Identity {
                principal: Some(record.name.as_str().into()),
                ..Identity::default()
            },
        };
        api_keys::add_values(identity, record)
    }

    /// Who a client is that has shown an API key to this authorizer, and that another authorizer has renewed since.
    pub(crate) fn keep_key(
        &self,
        renewed: &Identity,
        before: &Identity,
    ) -> Result<Identity, Denial> {
        api_keys::keep_values(self.without_keys(renewed), before)
    }

    fn without_keys(&self, identity: &Identity) -> Identity {
        let sources = &self.config.identity_source;
        let mut identity = identity.clone();
        identity.values.retain(|(name, _)| {
            let is_key = |source: &IdentitySource| matches!(source, IdentitySource::Authorizer(key) if key.as_str() == &**name);
            !sources.iter().any(is_key)
        });
        identity
    }

    /// Decides on a client. [`Denial::Replaced`] asks for the authorizer of the newest snapshot of the stage.
    pub(crate) async fn authorize(&self, request: &Request<'_>) -> Result<Arc<Identity>, Denial> {
        let presented = || {
            let presented = source::all(&self.config.identity_source, request);
            let missing = Denial::Unauthorized("an identity source is missing or empty");
            presented.ok_or(missing)
        };
        let waiting = || Share::with(request.waiting, &self.waiting);
        let identity = match &self.kind {
            Kind::Plugin(plugin) => plugin.authorize(request, &presented()?).await?,
            Kind::Iam(iam) => {
                presented()?;
                iam.authorize(request)?
            }
            Kind::Jwt(jwt) => {
                let presented = source::first(&self.config.identity_source, request);
                jwt.authorize(presented, Some(&waiting())).await?
            }
            Kind::ApiKeys(keys) => {
                let presented = source::first(&self.config.identity_source, request);
                let record = keys.take(presented, &request.invocation.connection)?;
                Arc::new(self.with_key(request.identity, &record)?)
            }
            Kind::Forward(forward) => {
                presented()?;
                forward.authorize(request, &waiting()).await?
            }
            Kind::Mtls => {
                presented()?;
                Arc::new(mtls::authorize(request)?)
            }
        };
        if identity.has_expired(now_ms()) {
            return Err(Denial::Unauthorized("what lets the client in has expired"));
        }
        Ok(identity)
    }

    /// Judges a token that an open connection presents anew. One that waits for the issuer's keys holds up its own connection
    /// alone, which reads no further, so that nothing else bounds how many wait.
    pub(crate) async fn judge_token(&self, presented: &str) -> Result<Arc<Identity>, Denial> {
        match &self.kind {
            Kind::Jwt(jwt) => jwt.authorize(Some(presented), None).await,
            Kind::Plugin(_) | Kind::ApiKeys(_) | Kind::Iam(_) | Kind::Forward(_) | Kind::Mtls => {
                Err(Denial::Forbidden("the authorizer judges no tokens".into()))
            }
        }
    }
}

/// The keys of tokens' issuers that these authorizers know by now.
pub(crate) fn known_keys<'a>(authorizers: impl Iterator<Item = &'a Arc<Authorizer>>) -> KnownKeys {
    let jwt = authorizers.filter_map(|authorizer| match &authorizer.kind {
        Kind::Jwt(jwt) => Some(jwt),
        Kind::Plugin(_) | Kind::ApiKeys(_) | Kind::Iam(_) | Kind::Forward(_) | Kind::Mtls => None,
    });
    jwt.flat_map(|jwt| jwt.known_keys()).collect()
}

/// Warns of what a start with these authorizers would warn of.
pub(crate) fn warn(authorizers: &[config::Authorizer]) {
    for authorizer in authorizers {
        if let AuthorizerKind::ApiKeys(keys) = &authorizer.kind {
            api_keys::warn_of_usage(keys);
        }
    }
}

/// Finds what a start with these authorizers would fail on, or serve wrongly: keys that cannot be used.
pub(crate) fn check(authorizers: &[config::Authorizer]) -> Vec<Fault> {
    let faults = authorizers.iter().flat_map(|authorizer| {
        let key = format!("authorizers.{}", authorizer.name);
        match &authorizer.kind {
            AuthorizerKind::Plugin(_)
            | AuthorizerKind::Iam
            | AuthorizerKind::Forward(_)
            | AuthorizerKind::Mtls => Vec::new(),
            AuthorizerKind::Jwt(issuers) => jwt::check(&format!("{key}.jwt"), issuers),
            AuthorizerKind::ApiKeys(keys) => {
                let fault = api_keys::check(&format!("{key}.api_keys"), keys);
                fault.into_iter().collect()
            }
        }
    });
    faults.collect()
}

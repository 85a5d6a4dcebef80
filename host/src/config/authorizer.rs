//! The check of authorizers, and of the keys that name them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::file;
use super::is_loopback_authority;
use super::issuer::{JwtIssuer, JwtKeys};
use super::jwt;
use super::names::{self, nearest};
use super::report::{Report, join};
use super::units::seconds_unless_0;
use super::usage_plan::{self, ApiKeys, UsagePlan};
use crate::net::told;

/// The word that takes the API's authorizer from a stage. No authorizer has this name.
const NONE: &str = "none";

/// The header of API keys, in lower case, as API Gateway has it.
const API_KEY: &str = "x-api-key";

/// The names after `context.`, as API Gateway has them.
const CONTEXT: [(&str, ContextVariable); 6] = [
    ("apiId", ContextVariable::ApiId),
    ("stage", ContextVariable::Stage),
    ("domainName", ContextVariable::DomainName),
    ("routeKey", ContextVariable::RouteKey),
    ("identity.sourceIp", ContextVariable::SourceIp),
    ("identity.userAgent", ContextVariable::UserAgent),
];

/// An authorizer: it decides who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorizer {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    pub(crate) kind: AuthorizerKind,
    /// Where a request says who the client is.
    pub(crate) identity_source: Vec<IdentitySource>,
    /// The time for which an answer is kept; `None` keeps none.
    pub(crate) cache: Option<Duration>,
    pub(crate) on_expiry: OnExpiry,
}

/// What happens to a connection when what let it in expires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnExpiry {
    /// Nothing: it lets clients in, and no more.
    #[default]
    Keep,
    /// The connection is closed with 1008.
    Close,
}

/// How an authorizer decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthorizerKind {
    /// The plugin of this name decides.
    Plugin(String),
    /// A token of one of these issuers decides; there is at least one.
    Jwt(Vec<JwtIssuer>),
    /// A key of a file decides.
    ApiKeys(ApiKeys),
    /// The signature of the handshake by an access key decides.
    Iam,
    Forward(Forward),
    /// The client's certificate decides.
    Mtls,
}

/// An HTTP endpoint that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    /// `http` or `https`. Without user and password; its query may be secret.
    pub(crate) url: Secret,
    /// The file of the authority's certificates; `None` trusts the machine's own authorities.
    pub(crate) ca: Option<PathBuf>,
    /// The header with the client's name, in lower case.
    pub(crate) principal: Option<String>,
    /// Further values, each with its header in lower case.
    pub(crate) values: Vec<(String, String)>,
    pub(crate) timeout: Duration,
}

/// A place in a request, or beside it, that says who the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// A header, by its name in lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
    Cookie(String),
    StageVariable(String),
    Context(ContextVariable),
    /// A value that the authorizer before gives, by its name; for API keys alone.
    Authorizer(String),
}

impl Authorizer {
    /// Whether it decides by the request, the configuration and a plugin alone. The others need a network, a certificate of TLS, or
    /// a file in which they count.
    pub(crate) fn decides_in_memory(&self) -> bool {
        match &self.kind {
            AuthorizerKind::Plugin(_) | AuthorizerKind::Iam => true,
            AuthorizerKind::Jwt(issuers) => {
                let mut keys = issuers.iter().map(|issuer| &issuer.keys);
                keys.all(|keys| matches!(keys, JwtKeys::File(_) | JwtKeys::Pem(_)))
            }
            AuthorizerKind::ApiKeys(_) | AuthorizerKind::Forward(_) | AuthorizerKind::Mtls => false,
        }
    }
}

impl IdentitySource {
    /// The places of a token, unless the configuration names others: the header that programs set, and the one that
    /// browsers can.
    fn of_tokens() -> Vec<Self> {
        [AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL]
            .map(|name| Self::Header(name.as_str().to_owned()))
            .to_vec()
    }

    /// Whether it is a value that another authorizer gives.
    fn is_said(&self) -> bool {
        matches!(self, Self::Authorizer(_))
    }

    /// Whether it is the list of subprotocols.
    pub(crate) fn is_subprotocol(&self) -> bool {
        matches!(self, Self::Header(name) if name == SEC_WEBSOCKET_PROTOCOL.as_str())
    }
}

/// A fact about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextVariable {
    ApiId,
    Stage,
    DomainName,
    RouteKey,
    SourceIp,
    UserAgent,
}

/// Checks the authorizers of the file. One without a valid kind is left out.
pub(super) fn authorizers(
    written: BTreeMap<String, file::Authorizer>,
    plans: &[UsagePlan],
    report: &mut Report<'_>,
) -> Vec<Authorizer> {
    let written = written.into_iter();
    written
        .filter_map(|(name, written)| authorizer(name, written, plans, report))
        .collect()
}

fn authorizer(
    name: String,
    written: file::Authorizer,
    plans: &[UsagePlan],
    report: &mut Report<'_>,
) -> Option<Authorizer> {
    let key = join("authorizers", &name);
    report.check_name(&key, &name);
    if name == NONE {
        report.problem(
            &key,
            format!("{NONE:?} is the word for no authorizer"),
            "give it another name",
        );
    }
    let sources_key = join(&key, "identity_source");
    let sources = written.identity_source.iter().enumerate();
    let mut identity_source: Vec<_> = sources
        .filter_map(|(index, text)| source(&format!("{sources_key}[{index}]"), text, report))
        .collect();
    let cache = seconds_unless_0(written.cache_s);
    if written.jwt.is_some() || written.api_keys.is_some() {
        check_credential_sources(&key, &written, &identity_source, cache.is_some(), report);
        if identity_source.is_empty() {
            identity_source = match written.jwt {
                Some(_) => IdentitySource::of_tokens(),
                None => vec![IdentitySource::Header(API_KEY.to_owned())],
            };
        }
    } else if let Some(place) = identity_source.iter().position(IdentitySource::is_said) {
        report.problem(
            &format!("{sources_key}[{place}]"),
            "only an API key is looked for in what another authorizer gives",
            "name a place in the request, as in \"route.request.header.Authorization\"",
        );
    } else if cache.is_some() && written.identity_source.is_empty() && report.is_clean(&sources_key)
    {
        report.problem(
            &join(&key, "cache_s"),
            "answers are kept by identity source, and there is none",
            "add identity_source = [\"route.request.header.Authorization\"], or where clients say who they are",
        );
    }
    Some(Authorizer {
        on_expiry: written.on_expiry,
        kind: kind(&key, written, plans, report)?,
        identity_source,
        cache,
        name,
    })
}

/// Checks the places that may have a token or a key, and that no answer is to be kept: each is judged each time.
fn check_credential_sources(
    key: &str,
    written: &file::Authorizer,
    sources: &[IdentitySource],
    has_cache: bool,
    report: &mut Report<'_>,
) {
    let in_request = |source: &IdentitySource| match source {
        IdentitySource::Header(_) | IdentitySource::Query(_) | IdentitySource::Cookie(_) => true,
        IdentitySource::Authorizer(_) => written.api_keys.is_some(),
        IdentitySource::StageVariable(_) | IdentitySource::Context(_) => false,
    };
    if !sources.iter().all(in_request) {
        report.problem(
            &join(key, "identity_source"),
            "a client presents its token or key in a header, in the query or in a cookie",
            "write \"route.request.header.Authorization\", \"route.request.querystring.NAME\" or \"route.request.cookie.NAME\"",
        );
    }
    if has_cache {
        report.problem(
            &join(key, "cache_s"),
            "each token and key is judged anew, which takes less than a millisecond",
            "remove cache_s",
        );
    }
}

/// The one kind that is written.
fn kind(
    key: &str,
    written: file::Authorizer,
    plans: &[UsagePlan],
    report: &mut Report<'_>,
) -> Option<AuthorizerKind> {
    let kinds = [
        written.iam.map(|file::Iam {}| AuthorizerKind::Iam),
        written.plugin.map(|name| plugin(key, name, report)),
        written
            .jwt
            .map(|written| AuthorizerKind::Jwt(jwt::issuers(&join(key, "jwt"), written, report))),
        written.api_keys.map(|written| {
            let key = join(key, "api_keys");
            AuthorizerKind::ApiKeys(usage_plan::api_keys(&key, &written, plans, report))
        }),
        written.forward.map(|written| forward(key, written, report)),
        written.mtls.map(|_| AuthorizerKind::Mtls),
    ];
    let mut kinds: Vec<_> = kinds.into_iter().flatten().collect();
    if kinds.len() != 1 && report.is_clean(key) {
        report.problem(
            key,
            match kinds.len() {
                0 => "nothing says how it decides",
                _ => "it decides in more than one way",
            },
            "write exactly one of plugin, jwt, api_keys, iam, forward and mtls",
        );
    }
    kinds.pop()
}

fn plugin(key: &str, name: String, report: &mut Report<'_>) -> AuthorizerKind {
    if !report.is_written(&join("plugins", &name)) {
        let known = report.names_in("plugins");
        let header = join("plugins", &name);
        let remedy = match known.as_slice() {
            [] => format!("add [{header}] with its component"),
            known => format!(
                "name one of this file: {}; or add [{header}]",
                names::list(known)
            ),
        };
        report.problem(
            &join(key, "plugin"),
            format!("no plugin is called {name:?}"),
            remedy,
        );
    }
    AuthorizerKind::Plugin(name)
}

fn forward(key: &str, written: file::Forward, report: &mut Report<'_>) -> AuthorizerKind {
    let key = join(key, "forward");
    let uri = written.url.parse::<http::Uri>().ok();
    let uri = uri
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    // The client of the endpoint reads it in its own way.
    let url = written.url.parse::<reqwest::Url>().ok();
    match uri.zip(url) {
        None => report.problem(
            &join(&key, "url"),
            format!("{} is no address of HTTP", told(&written.url)),
            "write it as in \"http://127.0.0.1:4180/oauth2/auth\"",
        ),
        Some((_, url)) if !url.username().is_empty() || url.password().is_some() => report.problem(
            &join(&key, "url"),
            "it has a user or a password, which the endpoint would take for the client's own",
            "remove them; what the gateway itself shows belongs into the query, as in \
             \"https://auth.example/?key=${AUTH_KEY}\"",
        ),
        Some((uri, _)) => {
            let authority = uri.authority().map_or("", http::uri::Authority::as_str);
            if uri.scheme_str() == Some("http") && !is_loopback_authority(authority) {
                report.doubt(
                    &join(&key, "url"),
                    "what clients present goes there in the clear",
                    "write https://, unless nobody can listen on the way",
                );
            }
        }
    }
    let mut header = |key: String, text: &str| match text.parse::<http::HeaderName>() {
        Ok(name) => name.as_str().to_owned(),
        Err(_) => {
            report.problem(
                &key,
                format!("{text:?} is no name of a header"),
                "write one, as in \"X-Auth-Request-User\"",
            );
            String::new()
        }
    };
    let principal = written.principal.as_deref();
    let principal = principal.map(|text| header(join(&key, "principal"), text));
    let values_key = join(&key, "values");
    let values = written.values.into_iter();
    let values = values
        .map(|(name, text)| {
            let header = header(join(&values_key, &name), &text);
            (name, header)
        })
        .collect();
    let ca = written.ca.as_deref();
    AuthorizerKind::Forward(Forward {
        ca: ca.map(|written| report.existing_file(&join(&key, "ca"), written)),
        url: report.secret_url(&join(&key, "url"), written.url),
        principal,
        values,
        timeout: Duration::from_millis(written.timeout_ms.into()),
    })
}

fn source(key: &str, text: &str, report: &mut Report<'_>) -> Option<IdentitySource> {
    let source = parse_source(text);
    if source.is_none() {
        let remedy = match text.strip_prefix("context.") {
            Some(name) => {
                let known = CONTEXT.map(|(known, _)| known);
                match nearest(name, &known) {
                    Some(near) => format!("did you mean \"context.{near}\"?"),
                    None => format!("after \"context.\", write {}", names::list(&known)),
                }
            }
            None => "write it as in \"route.request.header.Authorization\", \"route.request.querystring.token\", \
                     \"route.request.cookie.session\", \"stageVariables.NAME\" or \"context.identity.sourceIp\""
                .to_owned(),
        };
        report.problem(key, format!("{text:?} is no identity source"), remedy);
    }
    source
}

fn parse_source(text: &str) -> Option<IdentitySource> {
    let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty());
    if let Some(name) = named("route.request.header.") {
        let name: http::HeaderName = name.parse().ok()?;
        return Some(IdentitySource::Header(name.as_str().to_owned()));
    }
    if let Some(name) = named("route.request.querystring.") {
        return Some(IdentitySource::Query(name.to_owned()));
    }
    if let Some(name) = named("route.request.cookie.") {
        return Some(IdentitySource::Cookie(name.to_owned()));
    }
    if let Some(name) = named("stageVariables.") {
        return Some(IdentitySource::StageVariable(name.to_owned()));
    }
    if let Some(name) = named("context.authorizer.") {
        return Some(IdentitySource::Authorizer(name.to_owned()));
    }
    let name = named("context.")?;
    let (_, variable) = CONTEXT.iter().find(|(known, _)| *known == name)?;
    Some(IdentitySource::Context(*variable))
}

/// The authorizer that the key of an API or a stage names: none where it says so. `inherited` is that of the API.
pub(super) fn named(
    key: &str,
    written: Option<&str>,
    inherited: Option<&str>,
    report: &mut Report<'_>,
) -> Option<String> {
    let Some(name) = written else {
        return inherited.map(str::to_owned);
    };
    if name == NONE {
        return None;
    }
    if !report.is_written(&join("authorizers", name)) {
        let known = report.names_in("authorizers");
        let header = join("authorizers", name);
        let remedy = match known.as_slice() {
            [] => format!("add [{header}]"),
            known => match nearest(name, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!(
                    "name one of this file: {}; or add [{header}]",
                    names::list(known)
                ),
            },
        };
        report.problem(key, format!("no authorizer is called {name:?}"), remedy);
    }
    Some(name.to_owned())
}

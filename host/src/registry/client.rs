//! Asks a registry, by HTTPS: what is read is bounded, and where it leads is judged before it is followed.
//!
//! `oci-client` would do for the requests, and not for this: it follows a redirect to anywhere, sends the credentials to
//! whatever address the registry names for its tokens, and reads manifests and tokens however long they are.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::net::lookup_host;

use super::address::is_public;
use super::{PullError, chain};
use crate::config::{Credentials, Image};

/// How long a registry may take to be reached, and to send anything more.
const SILENCE: Duration = Duration::from_secs(10);

/// Redirects that are followed one after the other.
const REDIRECTS: usize = 5;

/// Bytes of the longest answer with a token; real ones have a few thousand.
const LONGEST_TOKEN: u64 = 64 << 10;

/// The variables of the environment that name a proxy for HTTPS.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Where a registry led that is not followed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("it leads to {0}")]
struct Astray(String);

/// What a registry answered.
pub(super) enum Answer {
    Whole(Vec<u8>),
    /// It has more bytes than were to be read.
    TooLong,
}

/// Asks one registry about one image.
pub(super) struct Client<'a> {
    image: &'a Image,
    base: Url,
    bounds: Bounds,
    http: reqwest::Client,
    /// What the registry has asked for.
    authorization: Option<HeaderValue>,
}

/// Where requests may go.
#[derive(Clone)]
struct Bounds {
    /// The registry's own host.
    home: String,
    /// The registry is on this machine or in a network of its owner's, and so may be what it names.
    inside: bool,
    /// Requests go through a proxy of the environment, which looks names up and has rules of its own.
    proxied: bool,
}

impl<'a> Client<'a> {
    pub(super) async fn new(image: &'a Image) -> Result<Self, PullError> {
        let scheme = if image.plain_http { "http" } else { "https" };
        // Docker's has another name than its references.
        let host = match image.registry.as_str() {
            "docker.io" => "index.docker.io",
            host => host,
        };
        let base = format!("{scheme}://{host}/v2/{}/", image.repository);
        let base = Url::parse(&base)
            .map_err(|error| PullError::Failed(image.registry.clone(), error.to_string()))?;
        let bounds = Bounds::of(&base)
            .await
            .map_err(|error| PullError::Unreachable(image.registry.clone(), error.to_string()))?;
        Self::within(image, base, bounds)
    }

    fn within(image: &'a Image, base: Url, bounds: Bounds) -> Result<Self, PullError> {
        let judge = bounds.clone();
        let mut http = reqwest::Client::builder()
            .https_only(!image.plain_http)
            .connect_timeout(SILENCE)
            .read_timeout(SILENCE)
            .user_agent(concat!("lockgate/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::custom(move |attempt| judge.follow(attempt)));
        if !bounds.proxied {
            http = http.dns_resolver(bounds.clone());
        }
        Ok(Self {
            image,
            base,
            bounds,
            http: http
                .build()
                .map_err(|error| PullError::Failed(image.registry.clone(), chain(&error)))?,
            authorization: None,
        })
    }

    /// What lies at a path of the image's name, of at most so many bytes. Credentials are given when they are asked for.
    pub(super) async fn get(
        &mut self,
        path: &str,
        accept: &'static str,
        longest: u64,
    ) -> Result<Answer, PullError> {
        let registry = || self.image.registry.clone();
        let url = self.base.join(path);
        let url = url.map_err(|error| PullError::Failed(registry(), error.to_string()))?;
        let mut response = self.ask(url.clone(), accept).await?;
        // Who it has led to has no credentials to ask for.
        let its_own = response.url().origin() == self.base.origin();
        if response.status() == StatusCode::UNAUTHORIZED && its_own && self.authorization.is_none()
        {
            self.authorization = self.authorize(&response).await?;
            response = self.ask(url, accept).await?;
        }
        match response.status() {
            StatusCode::OK => self.read(response, longest).await,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(PullError::Unauthorized(registry()))
            }
            StatusCode::NOT_FOUND => Err(PullError::Unknown(registry(), self.image.to_string())),
            status => Err(PullError::Failed(
                registry(),
                format!("it answers {status}"),
            )),
        }
    }

    async fn ask(&self, url: Url, accept: &'static str) -> Result<Response, PullError> {
        let mut request = self.http.get(url).header(ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| self.why(&error))
    }

    async fn read(&self, mut response: Response, longest: u64) -> Result<Answer, PullError> {
        let mut content = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| self.why(&error))? {
            content.extend_from_slice(&bytes);
            if content.len() as u64 > longest {
                return Ok(Answer::TooLong);
            }
        }
        Ok(Answer::Whole(content))
    }

    /// What answers a registry that asks who is there: a token from where it says, or the credentials themselves.
    async fn authorize(&self, refusal: &Response) -> Result<Option<HeaderValue>, PullError> {
        let unauthorized = || PullError::Unauthorized(self.image.registry.clone());
        let credentials = self.image.credentials.as_ref();
        let challenges = refusal.headers().get_all(WWW_AUTHENTICATE).iter();
        for challenge in challenges.filter_map(|value| value.to_str().ok()) {
            let Ok(challenges) = http_auth::parse_challenges(challenge) else {
                continue;
            };
            for challenge in challenges {
                let parameter = |name: &str| {
                    let mut all = challenge.params.iter();
                    all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let realm = parameter("realm").ok_or_else(unauthorized)?;
                    let token = self.token(&realm, parameter("service")).await?;
                    return secret(format!("Bearer {token}"))
                        .map(Some)
                        .ok_or_else(unauthorized);
                }
                if challenge.scheme.eq_ignore_ascii_case("basic")
                    && let Some(credentials) = credentials
                {
                    return basic(credentials).map(Some).ok_or_else(unauthorized);
                }
            }
        }
        Err(unauthorized())
    }

    /// A token to pull with, from the address that the registry names.
    async fn token(&self, realm: &str, service: Option<String>) -> Result<String, PullError> {
        #[derive(Deserialize)]
        struct Granted {
            #[serde(alias = "access_token")]
            token: String,
        }
        let registry = || self.image.registry.clone();
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| self.gives_tokens(url))
            .ok_or_else(|| {
                let realm = format!("{realm:?} for a token");
                PullError::Astray(registry(), Astray(realm).to_string())
            })?;
        let scope = format!("repository:{}:pull", self.image.repository);
        url.query_pairs_mut()
            .append_pair("scope", &scope)
            .extend_pairs(service.map(|service| ("service", service)));
        let mut request = self.http.get(url);
        if let Some(credentials) = &self.image.credentials {
            let authorization = basic(credentials);
            let authorization = authorization.ok_or_else(|| PullError::Unauthorized(registry()))?;
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|error| self.why(&error))?;
        if response.status() != StatusCode::OK {
            return Err(PullError::Unauthorized(registry()));
        }
        let Answer::Whole(answer) = self.read(response, LONGEST_TOKEN).await? else {
            return Err(PullError::Failed(
                registry(),
                "its token is too long".into(),
            ));
        };
        serde_json::from_slice::<Granted>(&answer)
            .map(|granted| granted.token)
            .map_err(|error| PullError::Failed(registry(), format!("its token is none: {error}")))
    }

    /// Credentials go to who has a certificate; without TLS only to the registry itself.
    fn gives_tokens(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => !self.image.plain_http && self.bounds.judge(url).is_ok(),
            "http" => self.image.plain_http && url.origin() == self.base.origin(),
            _ => false,
        }
    }

    /// What an error means to an operator.
    fn why(&self, error: &reqwest::Error) -> PullError {
        let registry = self.image.registry.clone();
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(astray) = error.downcast_ref::<Astray>() {
                return PullError::Astray(registry, astray.to_string());
            }
            // An I/O error shows as its cause what is inside what it wraps.
            let wrapped = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            cause = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        if error.is_timeout() {
            PullError::Failed(registry, "it fell silent".into())
        } else if error.is_connect() {
            PullError::Unreachable(registry, chain(error))
        } else {
            PullError::Failed(registry, chain(error))
        }
    }
}

impl Bounds {
    /// Those of the registry that is asked at this address.
    async fn of(base: &Url) -> io::Result<Self> {
        let home = base.host_str().unwrap_or_default().to_owned();
        let proxied = PROXIES.iter().any(|name| std::env::var_os(name).is_some());
        let inside = match literal(base) {
            Some(address) => !is_public(address),
            None if proxied => false,
            None => lookup_host((home.as_str(), 0))
                .await?
                .any(|address| !is_public(address.ip())),
        };
        Ok(Self {
            home,
            inside,
            proxied,
        })
    }

    fn follow(&self, attempt: Attempt<'_>) -> reqwest::redirect::Action {
        let first = attempt.previous().first().map(Url::scheme);
        if attempt.previous().len() > REDIRECTS {
            return attempt.error(Astray("one address after the other".into()));
        }
        if first != Some(attempt.url().scheme()) {
            let astray = Astray(format!("{}, another scheme", attempt.url()));
            return attempt.error(astray);
        }
        match self.judge(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(astray) => attempt.error(astray),
        }
    }

    /// Whether a host may be asked. One that has a name is judged again when that is looked up.
    fn judge(&self, url: &Url) -> Result<(), Astray> {
        match literal(url) {
            Some(address) if !self.inside && !is_public(address) => {
                Err(Astray(format!("{address}, which is no public address")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Resolve for Bounds {
    fn resolve(&self, name: Name) -> Resolving {
        let any = self.inside || name.as_str() == self.home;
        Box::pin(async move {
            let found: Vec<_> = lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(private) = found.iter().find(|found| !any && !is_public(found.ip())) {
                let (name, address) = (name.as_str(), private.ip());
                let astray = Astray(format!("{name}, at {address}, which is no public address"));
                return Err(astray.into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// The address that a URL has for a host, if it is none with a name.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.username, credentials.password.reveal());
    secret(format!("Basic {}", STANDARD.encode(pair)))
}

/// A header's value that is in no log.
fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use lockgate_tests::{After, Registry, digest};

    use super::*;

    /// Asks a registry that is taken for one with a public address, and gives why that fails.
    async fn astray(registry: &Registry) -> String {
        let image = Image {
            registry: registry.host(),
            repository: "echo".into(),
            digest: digest(b"manifest"),
            credentials: None,
            plain_http: true,
            cache: None,
            patience: SILENCE,
        };
        let base = Url::parse(&format!("http://{}/v2/echo/", registry.host())).unwrap();
        let bounds = Bounds {
            home: "127.0.0.1".into(),
            inside: false,
            proxied: false,
        };
        let mut client = Client::within(&image, base, bounds).unwrap();
        match client.get("manifests/x", "*/*", 100).await {
            Ok(_) => panic!("it was followed"),
            Err(PullError::Astray(_, why)) => why,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn a_public_registry_does_not_lead_inside() {
        let (registry, inside) = (Registry::start().await, Registry::start().await);
        inside.put("/layer", b"secret");
        let port = inside.host().split_once(':').unwrap().1.to_owned();
        for (location, said) in [
            (format!("http://127.0.0.1:{port}/layer"), "127.0.0.1"),
            (
                format!("http://[::ffff:127.0.0.1]:{port}/layer"),
                "::ffff:127.0.0.1,",
            ),
            (format!("http://2130706433:{port}/layer"), "127.0.0.1"),
            (format!("http://localhost:{port}/layer"), "localhost, at"),
            ("http://169.254.169.254/latest".into(), "169.254.169.254"),
            ("https://169.254.169.254/latest".into(), "another scheme"),
        ] {
            let answer = format!(
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            registry.answer("/v2/echo/manifests/x", answer, After::Close);
            let why = astray(&registry).await;
            assert!(why.contains(said), "{location}: {why}");
        }
        assert!(inside.asked().is_empty(), "{:?}", inside.asked());
    }
}

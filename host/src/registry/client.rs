//! Asks a registry, by HTTPS: what is read is bounded, and where it leads is judged before it is followed.
//!
//! `oci-client` would do for the requests, and not for this: it follows a redirect to anywhere, sends the credentials to
//! whatever address the registry names for its tokens, and reads manifests and tokens however long they are.

use std::error::Error;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::bounds::{Astray, Bounds};
use super::challenge::{Challenge, challenges};
use super::refusal::{said, wait};
use super::{PullError, chain};
use crate::config::{Credentials, Image};

/// How long a registry may take to be reached, and to send anything more.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of the longest answer with a token; real ones have a few thousand.
const LONGEST_TOKEN: u64 = 64 << 10;

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
    /// When whoever waits for the image has waited for long enough.
    give_up: Instant,
    /// What the registry has asked for.
    authorization: Option<HeaderValue>,
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
            give_up: Instant::now() + image.patience,
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
        let mut response = self.ask(&url, accept).await?;
        // Who it has led to has no credentials to ask for.
        let its_own = response.url().origin() == self.base.origin();
        if response.status() == StatusCode::UNAUTHORIZED && its_own {
            response = self.authorized(&url, accept, response).await?;
        }
        match response.status() {
            StatusCode::OK => self.read(response, longest).await,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(PullError::Unauthorized(registry(), said(response).await))
            }
            StatusCode::NOT_FOUND => Err(PullError::Unknown(
                registry(),
                self.image.to_string(),
                said(response).await,
            )),
            StatusCode::TOO_MANY_REQUESTS => {
                let said = said(response).await;
                Err(PullError::Busy(
                    registry(),
                    format!("turns requests away{said}"),
                ))
            }
            status => {
                let said = said(response).await;
                Err(PullError::Failed(
                    registry(),
                    format!("it answers {status}{said}"),
                ))
            }
        }
    }

    async fn ask(&self, url: &Url, accept: &'static str) -> Result<Response, PullError> {
        let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request).await
    }

    /// Sends a request; again, when the registry says that it came too early.
    async fn send(&self, request: RequestBuilder) -> Result<Response, PullError> {
        loop {
            let again = request.try_clone();
            let request = again.expect("it has no body that could be used up");
            let response = request.send().await.map_err(|error| self.why(&error))?;
            let Some(wait) = wait(&response) else {
                return Ok(response);
            };
            if Instant::now() + wait >= self.give_up {
                let why = format!(
                    "wants to be asked again in {} s, which is longer than limits.pull_s waits",
                    wait.as_secs()
                );
                return Err(PullError::Busy(self.image.registry.clone(), why));
            }
            sleep(wait).await;
        }
    }

    /// Asks again, with an answer to each of the challenges in turn, until one is enough. Fails as the first did when none
    /// is.
    async fn authorized(
        &mut self,
        url: &Url,
        accept: &'static str,
        refusal: Response,
    ) -> Result<Response, PullError> {
        let mut failure = None;
        for challenge in challenges(refusal.headers()) {
            match self.answer(challenge).await {
                Ok(None) => continue,
                Ok(authorization) => self.authorization = authorization,
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            }
            let response = self.ask(url, accept).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let refused = self.refused(response).await;
            failure.get_or_insert(refused);
        }
        self.authorization = None;
        match failure {
            Some(failure) => Err(failure),
            None => Err(self.refused(refusal).await),
        }
    }

    async fn refused(&self, response: Response) -> PullError {
        PullError::Unauthorized(self.image.registry.clone(), said(response).await)
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

    /// What answers a challenge: a token from where it says, or the credentials themselves; none if there are none.
    async fn answer(&self, challenge: Challenge) -> Result<Option<HeaderValue>, PullError> {
        match challenge {
            Challenge::Basic => Ok(self.image.credentials.as_ref().and_then(basic)),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let token = self.token(&realm, service, scope.as_deref()).await?;
                let authorization = secret(format!("Bearer {token}"));
                authorization.map(Some).ok_or_else(|| {
                    let registry = self.image.registry.clone();
                    PullError::Failed(
                        registry,
                        "its token is invalid: it fits in no header".into(),
                    )
                })
            }
        }
    }

    /// A token to pull with, from the address that the registry names.
    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<&str>,
    ) -> Result<String, PullError> {
        /// Of the two at least one is there, and they mean the same; so the token specification. Harbor leaves the second
        /// empty. How long it is good for does not matter: who finds that it is not is given another.
        #[derive(Deserialize)]
        struct Granted {
            token: Option<String>,
            access_token: Option<String>,
        }
        let registry = || self.image.registry.clone();
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| self.gives_tokens(url))
            .ok_or_else(|| {
                let realm = format!("{realm:?} for a token");
                PullError::ForbiddenTarget(registry(), Astray(realm).to_string())
            })?;
        // What the registry names is asked for too, where it has other names for what it keeps; but nothing beyond
        // pulling.
        let own = format!("repository:{}:pull", self.image.repository);
        let named = scope.unwrap_or_default().split(' ').filter(|scope| {
            scope.starts_with("repository:") && scope.ends_with(":pull") && **scope != own
        });
        url.query_pairs_mut()
            .append_pair("scope", &own)
            .extend_pairs(named.map(|scope| ("scope", scope)))
            .extend_pairs(service.map(|service| ("service", service)));
        let mut request = self.http.get(url);
        if let Some(credentials) = &self.image.credentials {
            let unauthorized = || PullError::Unauthorized(registry(), String::new());
            let authorization = basic(credentials).ok_or_else(unauthorized)?;
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS => {
                let said = said(response).await;
                let why = format!("turns requests for a token away{said}");
                return Err(PullError::Busy(registry(), why));
            }
            _ => return Err(self.refused(response).await),
        }
        let Answer::Whole(answer) = self.read(response, LONGEST_TOKEN).await? else {
            return Err(PullError::Failed(
                registry(),
                "its token is too long".into(),
            ));
        };
        let none =
            |why: String| PullError::Failed(registry(), format!("its token is invalid: {why}"));
        let granted: Granted =
            serde_json::from_slice(&answer).map_err(|error| none(error.to_string()))?;
        let tokens = [granted.token, granted.access_token].into_iter().flatten();
        let mut tokens = tokens.filter(|token| !token.is_empty());
        tokens
            .next()
            .ok_or_else(|| none("neither `token` nor `access_token` is there".into()))
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
                return PullError::ForbiddenTarget(registry, astray.to_string());
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
            Err(PullError::ForbiddenTarget(_, why)) => why,
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

//! The client of a registry, over HTTPS: its reads are bounded, and each redirect is judged before it is followed.
//!
//! `oci-client` could send the requests, but follows redirects to any address, sends the credentials to any address
//! that the registry names for its tokens, and reads manifests and tokens of any length.

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

use super::bounds::{Bounds, ForbiddenTarget};
use super::challenge::{Challenge, challenges};
use super::refusal::{error_text, retry_after};
use super::{PullError, chain};
use crate::config::{Credentials, Image};

/// The time that a registry has to be reached, and to send any further bytes.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the longest answer with a token; real ones have a few thousand.
const LONGEST_TOKEN: u64 = 64 << 10;

/// The content of an answer.
pub(super) enum Content {
    Whole(Vec<u8>),
    /// It has more bytes than may be read.
    TooLong,
}

/// A client for one image of one registry.
pub(super) struct RegistryClient<'a> {
    image: &'a Image,
    base: Url,
    bounds: Bounds,
    http: reqwest::Client,
    /// The end of the time that the pull may take.
    give_up: Instant,
    /// The answer to the registry's challenge.
    authorization: Option<HeaderValue>,
}

impl<'a> RegistryClient<'a> {
    pub(super) async fn new(image: &'a Image) -> Result<Self, PullError> {
        let scheme = if image.plain_http { "http" } else { "https" };
        // Docker's registry has another host than its image names.
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
        Self::with_bounds(image, base, bounds)
    }

    fn with_bounds(image: &'a Image, base: Url, bounds: Bounds) -> Result<Self, PullError> {
        let judge = bounds.clone();
        let mut http = reqwest::Client::builder()
            .https_only(!image.plain_http)
            .http1_only()
            .connect_timeout(SILENCE_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
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

    /// Gets the content at a path of the image's repository, of at most `longest` bytes. Sends credentials only when
    /// the registry asks for them.
    pub(super) async fn get(
        &mut self,
        path: &str,
        accept: &'static str,
        longest: u64,
    ) -> Result<Content, PullError> {
        let registry = || self.image.registry.clone();
        let url = self.base.join(path);
        let url = url.map_err(|error| PullError::Failed(registry(), error.to_string()))?;
        let mut response = self.get_once(&url, accept).await?;
        // The target of a redirect gets no credentials.
        let same_origin = response.url().origin() == self.base.origin();
        if response.status() == StatusCode::UNAUTHORIZED && same_origin {
            response = self.retry_authorized(&url, accept, response).await?;
        }
        match response.status() {
            StatusCode::OK => self.read_body(response, longest).await,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PullError::Unauthorized(
                registry(),
                error_text(response).await,
            )),
            StatusCode::NOT_FOUND => Err(PullError::Unknown(
                registry(),
                self.image.to_string(),
                error_text(response).await,
            )),
            StatusCode::TOO_MANY_REQUESTS => {
                let text = error_text(response).await;
                Err(PullError::Busy(
                    registry(),
                    format!("turns requests away{text}"),
                ))
            }
            status => {
                let text = error_text(response).await;
                Err(PullError::Failed(
                    registry(),
                    format!("it answers {status}{text}"),
                ))
            }
        }
    }

    async fn get_once(&self, url: &Url, accept: &'static str) -> Result<Response, PullError> {
        let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request).await
    }

    /// Sends a request, and repeats it when the registry asks for a retry.
    async fn send(&self, request: RequestBuilder) -> Result<Response, PullError> {
        loop {
            let again = request.try_clone();
            let request = again.expect("it has no body that could be used up");
            let response = request
                .send()
                .await
                .map_err(|error| self.pull_error(&error))?;
            let Some(wait) = retry_after(&response) else {
                return Ok(response);
            };
            let left = self.give_up.saturating_duration_since(Instant::now());
            if wait >= left {
                let why = format!(
                    "wants to be asked again in {} s, which is longer than limits.pull_s waits",
                    wait.as_secs()
                );
                return Err(PullError::Busy(self.image.registry.clone(), why));
            }
            sleep(wait).await;
        }
    }

    /// Repeats a refused request with an answer to each of the challenges in turn, until one is accepted. Gives the
    /// first failure when none is.
    async fn retry_authorized(
        &mut self,
        url: &Url,
        accept: &'static str,
        refusal: Response,
    ) -> Result<Response, PullError> {
        let mut failure = None;
        for challenge in challenges(refusal.headers()) {
            match self.answer_challenge(challenge).await {
                Ok(None) => continue,
                Ok(authorization) => self.authorization = authorization,
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            }
            let response = self.get_once(url, accept).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let refused = self.unauthorized(response).await;
            failure.get_or_insert(refused);
        }
        self.authorization = None;
        match failure {
            Some(failure) => Err(failure),
            None => Err(self.unauthorized(refusal).await),
        }
    }

    async fn unauthorized(&self, response: Response) -> PullError {
        PullError::Unauthorized(self.image.registry.clone(), error_text(response).await)
    }

    async fn read_body(&self, mut response: Response, longest: u64) -> Result<Content, PullError> {
        let mut content = Vec::new();
        while let Some(bytes) = response
            .chunk()
            .await
            .map_err(|error| self.pull_error(&error))?
        {
            content.extend_from_slice(&bytes);
            if content.len() as u64 > longest {
                return Ok(Content::TooLong);
            }
        }
        Ok(Content::Whole(content))
    }

    /// The answer to a challenge: a token from the address that it names, or the credentials themselves. None without
    /// credentials.
    async fn answer_challenge(
        &self,
        challenge: Challenge,
    ) -> Result<Option<HeaderValue>, PullError> {
        match challenge {
            Challenge::Basic => Ok(self
                .image
                .credentials
                .as_ref()
                .and_then(basic_authorization)),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let token = self
                    .request_token(&realm, service, scope.as_deref())
                    .await?;
                let authorization = sensitive_value(format!("Bearer {token}"));
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

    /// Gets a token for the pull, from the address that the registry names.
    async fn request_token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<&str>,
    ) -> Result<String, PullError> {
        /// The token specification has both fields, with one meaning, and requires one of them. Harbor leaves the
        /// second empty. The lifetime does not matter: a client whose token has expired gets another.
        #[derive(Deserialize)]
        struct Granted {
            token: Option<String>,
            access_token: Option<String>,
        }
        let registry = || self.image.registry.clone();
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| self.may_get_credentials(url))
            .ok_or_else(|| {
                let realm = format!("{realm:?} for a token");
                PullError::ForbiddenTarget(registry(), ForbiddenTarget(realm).to_string())
            })?;
        // Scopes that the registry names are requested too, since its repositories may have other names; but only
        // scopes for pulling.
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
            let authorization = basic_authorization(credentials).ok_or_else(unauthorized)?;
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS => {
                let text = error_text(response).await;
                let why = format!("turns requests for a token away{text}");
                return Err(PullError::Busy(registry(), why));
            }
            _ => return Err(self.unauthorized(response).await),
        }
        let Content::Whole(answer) = self.read_body(response, LONGEST_TOKEN).await? else {
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

    /// Whether an address may get the credentials: any with a certificate; without TLS only the registry itself.
    fn may_get_credentials(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => !self.image.plain_http && self.bounds.judge(url).is_ok(),
            "http" => self.image.plain_http && url.origin() == self.base.origin(),
            _ => false,
        }
    }

    /// Turns an error of the HTTP client into a [`PullError`] for the operator.
    fn pull_error(&self, error: &reqwest::Error) -> PullError {
        let registry = self.image.registry.clone();
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(forbidden_target) = error.downcast_ref::<ForbiddenTarget>() {
                return PullError::ForbiddenTarget(registry, forbidden_target.to_string());
            }
            // An I/O error skips the error that it wraps, and gives that one's cause: the wrapped error is looked at
            // here.
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

fn basic_authorization(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.username, credentials.password.reveal());
    sensitive_value(format!("Basic {}", STANDARD.encode(pair)))
}

/// A header value that no log shows.
fn sensitive_value(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use lockgate_tests::{After, Registry, digest};

    use super::*;

    /// Asks a registry that counts as public, and gives the reason of the failure.
    async fn forbidden_target(registry: &Registry) -> String {
        let image = Image {
            registry: registry.host(),
            repository: "echo".into(),
            digest: digest(b"manifest"),
            credentials: None,
            plain_http: true,
            cache: None,
            patience: SILENCE_TIMEOUT,
        };
        let base = Url::parse(&format!("http://{}/v2/echo/", registry.host())).unwrap();
        let bounds = Bounds {
            inside: false,
            proxied: false,
        };
        let mut client = RegistryClient::with_bounds(&image, base, bounds).unwrap();
        match client.get("manifests/x", "*/*", 100).await {
            Ok(_) => panic!("it was followed"),
            Err(PullError::ForbiddenTarget(_, why)) => why,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn redirect_of_a_public_registry_into_a_private_network_is_refused() {
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
            let why = forbidden_target(&registry).await;
            assert!(why.contains(said), "{location}: {why}");
        }
        assert!(inside.asked().is_empty(), "{:?}", inside.asked());
    }
}

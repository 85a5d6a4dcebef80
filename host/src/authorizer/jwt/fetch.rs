//! The keys of an issuer, got from where the configuration says: by OpenID Connect Discovery 1.0, as a JWK set, or from
//! a file. No address comes from a token. Every read has a bound, and no redirect is followed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::auth::jwt::{BadKeys, Keys};
use crate::config::{JwtIssuer, JwtKeys, may_have_keys};
use crate::net::{shown, watch};

/// Time for all that it takes to get the keys.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Longest JWK set and OpenID Connect configuration in bytes. Those of large providers have 20 KiB.
pub(super) const LONGEST: usize = 64 << 10;

/// The reason why keys are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("{0} takes longer than {limit} s", limit = PATIENCE.as_secs())]
    Slow(String),
    #[error("{0} answers {1}, and redirects are not followed")]
    Redirects(String, StatusCode),
    #[error("{0} answers {1}")]
    Status(String, StatusCode),
    #[error("{0} answers with more than {limit} KiB", limit = LONGEST >> 10)]
    TooLong(String),
    #[error("{0} is no OpenID Connect configuration with an `issuer` and a `jwks_uri`")]
    NoConfiguration(String),
    #[error(
        "{0} is the configuration of the issuer {1:?}; write that as `issuer`, or give `jwks_url`"
    )]
    OtherIssuer(String, String),
    #[error("{0} names {1:?} for the keys, and they must come by HTTPS")]
    Insecure(String, String),
    #[error("{0} cannot be used: {1}")]
    Keys(String, BadKeys),
    #[error("{file} cannot be read: {1}", file = .0.display())]
    File(PathBuf, io::Error),
}

impl FetchError {
    /// Whether the issuer says that it signs with no key any more: it publishes keys, and all are for something else. An empty
    /// set says nothing, since one that has lost its keys for a moment answers so, too.
    pub(super) fn withdraws(&self) -> bool {
        matches!(self, Self::Keys(_, BadKeys::ForOthers(_)))
    }
}

/// Keys, as they were got.
pub(super) struct Fetched {
    pub(super) keys: Keys,
    /// The JWK set that they are from; none if that is on this machine.
    pub(super) set: Option<String>,
}

/// Gets the keys of an issuer.
pub(super) async fn fetch(issuer: &JwtIssuer) -> Result<Fetched, FetchError> {
    let local = |keys| Fetched { keys, set: None };
    let place = match &issuer.keys {
        JwtKeys::Discovery(url) | JwtKeys::Url(url) => url.clone(),
        JwtKeys::File(file) => {
            let (file, issuer) = (file.clone(), issuer.clone());
            let read = spawn_blocking(move || read_file(&file, &issuer)).await;
            let read = read.unwrap_or_else(|_| {
                let stopped = io::Error::other("the gateway stops");
                Err(FetchError::File(PathBuf::new(), stopped))
            });
            return read.map(local);
        }
        JwtKeys::Pem(texts) => return read_pem(texts, issuer).map(local),
    };
    match timeout(PATIENCE, download(issuer, &place)).await {
        Ok(keys) => keys,
        Err(_) => Err(FetchError::Slow(shown(&place))),
    }
}

/// Reads a JWK set from a file.
pub(super) fn read_file(file: &Path, issuer: &JwtIssuer) -> Result<Keys, FetchError> {
    let (set, _) = watch::read(file, LONGEST as u64)
        .map_err(|error| FetchError::File(file.to_owned(), error))?;
    Keys::from_set(&set, &issuer.algorithms)
        .map_err(|error| FetchError::Keys(file.display().to_string(), error))
}

/// Reads public keys in PEM.
pub(super) fn read_pem(texts: &[String], issuer: &JwtIssuer) -> Result<Keys, FetchError> {
    Keys::from_pem(texts, &issuer.algorithms)
        .map_err(|error| FetchError::Keys("what is written".to_owned(), error))
}

async fn download(issuer: &JwtIssuer, place: &str) -> Result<Fetched, FetchError> {
    let url = match &issuer.keys {
        JwtKeys::Discovery(_) => discover(issuer, place).await?,
        JwtKeys::Url(_) | JwtKeys::File(_) | JwtKeys::Pem(_) => place.to_owned(),
    };
    let set = get(&url).await?;
    let keys = Keys::from_set(&set, &issuer.algorithms);
    Ok(Fetched {
        keys: keys.map_err(|error| FetchError::Keys(shown(&url), error))?,
        // JSON is always UTF-8.
        set: String::from_utf8(set).ok(),
    })
}

/// Gives the address of the keys that the issuer's configuration names (OpenID Connect Discovery 1.0, section 4.3).
async fn discover(issuer: &JwtIssuer, place: &str) -> Result<String, FetchError> {
    #[derive(Deserialize)]
    struct Configuration {
        issuer: String,
        jwks_uri: String,
    }
    let answer = get(place).await?;
    let found: Configuration =
        serde_json::from_slice(&answer).map_err(|_| FetchError::NoConfiguration(shown(place)))?;
    if *found.issuer != *issuer.issuer {
        return Err(FetchError::OtherIssuer(shown(place), found.issuer));
    }
    let downgrades = is_https(place) && !is_https(&found.jwks_uri);
    if downgrades || !may_have_keys(&found.jwks_uri) {
        return Err(FetchError::Insecure(shown(place), shown(&found.jwks_uri)));
    }
    Ok(found.jwks_uri)
}

fn is_https(url: &str) -> bool {
    url.get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// Gets a document of at most [`LONGEST`] bytes.
async fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    let unreachable = |error: &reqwest::Error| FetchError::Unreachable(shown(url), causes(error));
    let mut client = Client::builder()
        .redirect(Policy::none())
        .http1_only()
        .https_only(is_https(url))
        .user_agent(concat!("lockgate/", env!("CARGO_PKG_VERSION")));
    if !is_https(url) {
        // It is on this machine.
        client = client.no_proxy();
    }
    let client = client.build().map_err(|error| unreachable(&error))?;
    let request = client.get(url).header(ACCEPT, "application/json");
    let mut response = request.send().await.map_err(|error| unreachable(&error))?;
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            return Err(FetchError::Redirects(shown(url), status));
        }
        status => return Err(FetchError::Status(shown(url), status)),
    }
    let mut content = Vec::new();
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error))?
    {
        content.extend_from_slice(&bytes);
        if content.len() > LONGEST {
            return Err(FetchError::TooLong(shown(url)));
        }
    }
    Ok(content)
}

/// The causes of an error, without the address, which stands beside them.
fn causes(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = Vec::new();
    while let Some(error) = cause {
        text.push(error.to_string());
        cause = error.source();
    }
    match text.is_empty() {
        true => "the connection failed".to_owned(),
        false => text.join(": "),
    }
}

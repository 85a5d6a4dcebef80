//! The bounds of a registry's redirects: the same scheme, and from the internet not into a private network.

use std::io;
use std::net::IpAddr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt};
use tokio::net::lookup_host;

use super::address::is_public;

/// Redirects that are followed in a row.
const MAX_REDIRECTS: usize = 5;

/// The environment variables that name a proxy for HTTPS.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A target that the registry named and that is not followed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("it leads to {0}")]
pub(super) struct ForbiddenTarget(pub(super) String);

/// The bounds for requests to one registry.
#[derive(Clone)]
pub(super) struct Bounds {
    /// Whether the registry is on this machine or in a private network: then its targets may be there too.
    pub(super) inside: bool,
    /// Whether requests go through a proxy from the environment, which resolves names and has rules of its own.
    pub(super) proxied: bool,
}

impl Bounds {
    /// The bounds for the registry at this address.
    pub(super) async fn of(base: &Url) -> io::Result<Self> {
        let proxied = PROXY_VARIABLES
            .iter()
            .any(|name| std::env::var_os(name).is_some());
        let inside = match ip_literal(base) {
            Some(address) => !is_public(address),
            None if proxied => false,
            None => lookup_host((base.host_str().unwrap_or_default(), 0))
                .await?
                .any(|address| !is_public(address.ip())),
        };
        Ok(Self { inside, proxied })
    }

    pub(super) fn follow(&self, attempt: Attempt<'_>) -> Action {
        let first = attempt.previous().first().map(Url::scheme);
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(ForbiddenTarget("one address after the other".into()));
        }
        if first != Some(attempt.url().scheme()) {
            let forbidden = ForbiddenTarget(format!("{}, another scheme", attempt.url()));
            return attempt.error(forbidden);
        }
        match self.judge(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(forbidden) => attempt.error(forbidden),
        }
    }

    /// Judges the host of a URL. A host name is judged again when it is resolved.
    pub(super) fn judge(&self, url: &Url) -> Result<(), ForbiddenTarget> {
        match ip_literal(url) {
            Some(address) if !self.inside && !is_public(address) => Err(ForbiddenTarget(format!(
                "{address}, which is no public address"
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

impl Resolve for Bounds {
    fn resolve(&self, name: Name) -> Resolving {
        let any = self.inside;
        Box::pin(async move {
            let found: Vec<_> = lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(private) = found.iter().find(|found| !any && !is_public(found.ip())) {
                let (name, address) = (name.as_str(), private.ip());
                let forbidden =
                    ForbiddenTarget(format!("{name}, at {address}, which is no public address"));
                return Err(forbidden.into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// The IP address of a URL whose host is no name.
fn ip_literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

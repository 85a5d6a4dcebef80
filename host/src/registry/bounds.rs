//! Where a registry may lead: by the same scheme, and from the internet not into a network of one's own.

use std::io;
use std::net::IpAddr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt};
use tokio::net::lookup_host;

use super::address::is_public;

/// Redirects that are followed one after the other.
const REDIRECTS: usize = 5;

/// The variables of the environment that name a proxy for HTTPS.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Where a registry led that is not followed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("it leads to {0}")]
pub(super) struct Astray(pub(super) String);

/// Where requests may go.
#[derive(Clone)]
pub(super) struct Bounds {
    /// The registry's own host.
    pub(super) home: String,
    /// The registry is on this machine or in a network of its owner's, and so may be what it names.
    pub(super) inside: bool,
    /// Requests go through a proxy of the environment, which looks names up and has rules of its own.
    pub(super) proxied: bool,
}

impl Bounds {
    /// Those of the registry that is asked at this address.
    pub(super) async fn of(base: &Url) -> io::Result<Self> {
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

    pub(super) fn follow(&self, attempt: Attempt<'_>) -> Action {
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
    pub(super) fn judge(&self, url: &Url) -> Result<(), Astray> {
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

//! The check of origins: which web pages may connect. Browsers name a page in `Origin`; other clients need not.

use super::head::Authority;
use crate::config::{Origin, Origins, Site, port_unless_implied};

/// The destination of a request, which `self` means.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) authority: Authority,
    /// The client speaks TLS, to this gateway or to a proxy in front of it.
    pub(crate) secure: bool,
    /// The client may be this machine's browser, which a page of any site can send here: the site's name resolves to a
    /// loopback address for a while (DNS rebinding).
    pub(crate) loopback: bool,
    /// The host is one of the configuration's domains, which nobody else has.
    pub(crate) configured: bool,
}

/// Whether a page of `origin` may connect. A value that is no origin (RFC 6454 §6.1) may not, unless all may.
pub(crate) fn allowed(origins: &Origins, origin: &[u8], destination: &Destination) -> bool {
    if origins.any {
        return true;
    }
    let Some(origin) = str::from_utf8(origin).ok().and_then(Origin::parse) else {
        return false;
    };
    let own = match &origin {
        Origin::Site(site) => origins.same_host && is_own(site, destination),
        Origin::Null | Origin::File => false,
    };
    own || origins.list.iter().any(|listed| listed.matches(&origin))
}

/// Whether a site is the destination's own. With TLS, a page loaded without it is another's: anyone on its way may have
/// written it. Without TLS, a page may have been loaded with it, by a proxy that ends TLS.
fn is_own(site: &Site, destination: &Destination) -> bool {
    let Authority { host, port, .. } = &destination.authority;
    let fits = match site.scheme.as_str() {
        "https" => true,
        "http" => !destination.secure,
        _ => false,
    };
    let known = !destination.loopback || destination.configured || host.is_loopback();
    fits && known && site.host == *host && site.port == port_unless_implied(*port, &site.scheme)
}

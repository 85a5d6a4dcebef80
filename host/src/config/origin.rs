//! Hosts and origins: one parser for those that a configuration lists and those that a request names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::uri::Authority;

/// Longest host name and longest label of one, in characters (RFC 1035).
const HOST_LENGTH: usize = 253;
const LABEL_LENGTH: usize = 63;

/// A host, independent of its spelling: names in lower case and without the root's dot, addresses as numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Parses a DNS name, an IPv4 address or a bracketed IPv6 address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let host = Self::of_authority(text)?;
        let is_label = |label: &str| {
            (1..=LABEL_LENGTH).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        match &host {
            Self::Name(name) => name.len() <= HOST_LENGTH && name.split('.').all(is_label),
            Self::Address(_) => true,
        }
        .then_some(host)
    }

    /// Reads the host of a URL's authority that is well-formed by RFC 3986, which allows more than DNS does. `None` for
    /// a name without a letter and for brackets without an IPv6 address.
    pub(crate) fn of_authority(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        match text.parse() {
            Ok(address) => Some(Self::Address(IpAddr::V4(address))),
            Err(_) => (!text.is_empty()).then(|| Self::Name(text.to_ascii_lowercase())),
        }
    }

    /// Whether it means the machine that asks. DNS is not asked: its answer could change a moment later.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"), // RFC 6761 §6.3
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

/// Whether a host, with a port or without, means the machine that asks.
pub(crate) fn is_loopback_authority(text: &str) -> bool {
    let authority = text.parse::<Authority>().ok();
    let host = authority.and_then(|authority| Host::of_authority(authority.host()));
    host.is_some_and(|host| host.is_loopback())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// The origin of a web page, as browsers write it in `Origin` (RFC 6454 §6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `null`: a page that has no origin of its own, such as one in a sandboxed frame.
    Null,
    /// `file://`: a page from a file, as some embedded browsers name it. Others say `null`.
    File,
    Site(Site),
}

/// `scheme://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// In lower case.
    pub(crate) scheme: String,
    pub(crate) host: Host,
    /// `None` is the scheme's default.
    pub(crate) port: Option<u16>,
}

impl Origin {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "null" => Some(Self::Null),
            "file://" => Some(Self::File),
            site => Site::parse(site).map(Self::Site),
        }
    }
}

impl Site {
    /// Parses text in lower case.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let is_number = port.starts_with(|first: char| matches!(first, '1'..='9'));
                (host, Some(port.parse::<u16>().ok().filter(|_| is_number)?))
            }
            _ => (authority, None),
        };
        let host = Host::parse(host)?;
        is_scheme.then(|| Self {
            port: port_unless_implied(port, scheme),
            scheme: scheme.to_owned(),
            host,
        })
    }
}

/// Gives the port, or `None` if the scheme implies it.
pub(crate) fn port_unless_implied(port: Option<u16>, scheme: &str) -> Option<u16> {
    let implied = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    port.filter(|port| Some(*port) != implied)
}

/// One entry of `origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OriginPattern {
    Exactly(Origin),
    /// `scheme://*.host[:port]`: every name below the host, at any depth, and not the host itself.
    Below(Site),
}

impl OriginPattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some((scheme, host)) = text.split_once("://*.") else {
            return Origin::parse(text).map(Self::Exactly);
        };
        let site = Site::parse(&format!("{scheme}://{host}").to_ascii_lowercase())?;
        // The last parts of an IPv4 address are no domain.
        let is_name = |name: &str| !name.split('.').all(|part| part.parse::<u32>().is_ok());
        match &site.host {
            Host::Name(name) if is_name(name) => Some(Self::Below(site)),
            Host::Name(_) | Host::Address(_) => None,
        }
    }

    pub(crate) fn matches(&self, origin: &Origin) -> bool {
        match (self, origin) {
            (Self::Exactly(listed), origin) => listed == origin,
            (Self::Below(listed), Origin::Site(site)) => {
                let (Host::Name(above), Host::Name(name)) = (&listed.host, &site.host) else {
                    return false;
                };
                let below = name
                    .strip_suffix(above.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                below && (&listed.scheme, listed.port) == (&site.scheme, site.port)
            }
            (Self::Below(_), Origin::Null | Origin::File) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(text: &str, expected: Option<&str>) {
        let given = Host::parse(text).map(|host| host.to_string());
        assert_eq!(given.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn spellings_of_one_host_are_equal() {
        check_host("Chat.Example.COM", Some("chat.example.com"));
        check_host("chat.example.com.", Some("chat.example.com"));
        check_host("a_b", Some("a_b"));
        check_host("127.0.0.1", Some("127.0.0.1"));
        check_host("[::0:1]", Some("[::1]"));
        check_host("[0:0:0:0:0:0:0:1]", Some("[::1]"));
        check_host("[2001:DB8::]", Some("[2001:db8::]"));
        for text in [
            "",
            ".",
            "a..",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a b",
            "ä",
            "*.a",
            "a:1",
            "a@b",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1%25lo]",
            "[127.0.0.1]",
            "[a]",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            check_host(text, None);
        }
        check_host(&"a".repeat(64), None);
        check_host(&"a.".repeat(200), None);
    }

    #[test]
    fn loopback_names_are_those_that_dns_cannot_change() {
        for (text, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("app.localhost", true),
            ("127.1.2.3", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("example.com", false),
            ("localhost.example.com", false),
            ("notlocalhost", false),
            ("127.0.0.1.example.com", false),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("[::2]", false),
        ] {
            let host = Host::parse(text).expect("it is a host");
            assert_eq!(host.is_loopback(), expected, "{text:?}");
        }
    }

    #[track_caller]
    fn check_origin(text: &str, expected: Option<&str>) {
        let written = Origin::parse(text).map(|origin| match origin {
            Origin::Null => "null".to_owned(),
            Origin::File => "file://".to_owned(),
            Origin::Site(Site { scheme, host, port }) => match port {
                Some(port) => format!("{scheme}://{host}:{port}"),
                None => format!("{scheme}://{host}"),
            },
        });
        assert_eq!(written.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        check_origin("https://app.example.com", Some("https://app.example.com"));
        check_origin(
            "HTTPS://App.Example.Com:443",
            Some("https://app.example.com"),
        );
        check_origin("http://localhost:80", Some("http://localhost"));
        check_origin("https://localhost:80", Some("https://localhost:80"));
        check_origin("http://[0::1]:3000", Some("http://[::1]:3000"));
        check_origin("http://[::1]", Some("http://[::1]"));
        check_origin("capacitor://localhost", Some("capacitor://localhost"));
        check_origin("null", Some("null"));
        check_origin("file://", Some("file://"));
        for text in [
            "",
            "app.example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a:",
            "https://a:65536",
            "https://a:b",
            "https://a:+1",
            "https://a:01",
            "https://a:0",
            "https://*.a",
            "://a",
            "//a",
            "1a://b",
            "https://u@a",
            "https://a#",
            "https://a\\b",
            "https:///a",
            "https://a ",
            "*",
            "file:///",
            "file",
            "null, null",
        ] {
            check_origin(text, None);
        }
    }

    #[track_caller]
    fn check_matches(pattern: &str, origin: &str, expected: bool) {
        let pattern = OriginPattern::parse(pattern).expect("it is a pattern");
        let origin = Origin::parse(origin).expect("it is an origin");
        assert_eq!(pattern.matches(&origin), expected, "{pattern:?} {origin:?}");
    }

    #[test]
    fn star_stands_for_names_below_a_host() {
        let below = "https://*.example.com";
        check_matches(below, "https://app.example.com", true);
        check_matches(below, "https://APP.Example.com:443", true);
        check_matches(below, "https://eu.app.example.com", true);
        check_matches(below, "https://example.com", false);
        check_matches(below, "http://app.example.com", false);
        check_matches(below, "https://app.example.com:8443", false);
        check_matches(below, "https://evilexample.com", false);
        check_matches(below, "https://app.example.com.evil.example", false);
        check_matches(below, "null", false);
        check_matches("http://*.localhost:3000", "http://a.localhost:3000", true);
        check_matches("http://*.localhost:3000", "http://a.localhost", false);
        check_matches("null", "null", true);
        check_matches("null", "file://", false);
        check_matches("file://", "file://", true);
        for text in [
            "*",
            "https://*",
            "https://*.",
            "https://*.*.a",
            "https://a.*.b",
            "https://*a.b",
            "*.example.com",
            "*://example.com",
            "https://*.0.0.1",
            "https://*.1.2.3.4",
            "https://*.[::1]",
            "https://*.a/b",
            "http*://a",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text:?}");
        }
    }
}

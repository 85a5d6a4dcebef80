//! The sender of a request that proxies have passed on: `X-Forwarded-For` or `Forwarded` (RFC 7239), read from the
//! right.
//!
//! Each proxy appends the address that it was asked from. So the last entry is the word of the nearest proxy, and an
//! entry counts only if all proxies behind it are trusted: anyone may have written the entries before.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::config::{ForwardedHeader, Proxies};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestSender {
    pub(crate) address: IpAddr,
    /// A proxy says that the client speaks TLS with it.
    pub(crate) secure: bool,
    /// A proxy has passed the request on. No web page can make its browser say so.
    pub(crate) via_proxy: bool,
}

/// One proxy's entry: the address that it was asked from, if it says so, and whether by TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    client: Option<IpAddr>,
    secure: bool,
}

/// Follows the proxies from the socket's peer to the first address that is not trusted: the client.
pub(crate) fn sender(proxies: &Proxies, peer: IpAddr, headers: &HeaderMap) -> RequestSender {
    let peer = peer.to_canonical();
    let unknown = RequestSender {
        address: peer,
        secure: false,
        via_proxy: false,
    };
    if !proxies.trust(peer) {
        return unknown;
    }
    match proxies.header {
        ForwardedHeader::None => unknown,
        ForwardedHeader::XForwardedFor => {
            let secure = forwarded_proto_is_secure(headers);
            let hops = from_right(headers, X_FORWARDED_FOR).map(|entry| Hop {
                client: entry.and_then(address),
                secure,
            });
            follow(proxies, unknown, hops)
        }
        ForwardedHeader::Forwarded => {
            let entries = from_right(headers, FORWARDED);
            let hops = entries.map(|entry| entry.and_then(hop).unwrap_or_default());
            follow(proxies, unknown, hops)
        }
    }
}

fn follow(
    proxies: &Proxies,
    mut sender: RequestSender,
    hops: impl Iterator<Item = Hop>,
) -> RequestSender {
    for hop in hops {
        sender.via_proxy = true;
        sender.secure = hop.secure;
        // Without an address, the proxy is the last known sender.
        let Some(client) = hop.client else { break };
        sender.address = client;
        if !proxies.trust(client) {
            break;
        }
    }
    sender
}

/// Splits a list over all headers of a name; the last entry comes first. None for a line that is not text.
fn from_right(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Option<&str>> {
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(|line| {
        let line = line.to_str().ok();
        let entries = line.into_iter().flat_map(|line| split(line, b','));
        let entries = entries.map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(Some).chain(line.is_none().then_some(None))
    })
}

/// Splits a text; the last part comes first. Separators within quotes do not count. Quotes are matched from the right
/// too: the last entries are well-formed, whatever a client wrote before them.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let mut quoted = false;
        for (offset, byte) in text.bytes().enumerate().rev() {
            if byte == b'"' {
                quoted = !quoted || is_escaped(text, offset);
            } else if byte == separator && !quoted {
                rest = text.get(..offset);
                return text.get(offset + 1..);
            }
        }
        Some(text)
    })
}

/// Whether an odd number of backslashes stands before an offset.
fn is_escaped(text: &str, offset: usize) -> bool {
    let before = text.bytes().take(offset).rev();
    before.take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Parses an entry of `Forwarded`; none if it is malformed.
fn hop(entry: &str) -> Option<Hop> {
    let (mut hop, mut has_client) = (Hop::default(), false);
    for pair in split(entry, b';') {
        let (name, value) = pair.trim().split_once('=')?;
        let unquoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        let value = unquoted.unwrap_or(value);
        if name.eq_ignore_ascii_case("for") {
            if has_client {
                return None;
            }
            has_client = true;
            hop.client = address(value);
        } else if name.eq_ignore_ascii_case("proto") {
            hop.secure = is_secure(value);
        }
    }
    Some(hop)
}

/// Reads `X-Forwarded-Proto`: the first value is of the proxy that the client asked.
fn forwarded_proto_is_secure(headers: &HeaderMap) -> bool {
    let said = headers.get(X_FORWARDED_PROTO);
    let said = said.and_then(|said| said.to_str().ok());
    said.and_then(|said| said.split(',').next())
        .is_some_and(|first| is_secure(first.trim()))
}

fn is_secure(scheme: &str) -> bool {
    ["https", "wss"]
        .iter()
        .any(|secure| scheme.eq_ignore_ascii_case(secure))
}

/// Parses an address, with a port or without; `unknown` and names that hide one (RFC 7239 §6) give none.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn proxies(header: ForwardedHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1/32"];
        Proxies {
            trusted: trusted
                .map(|network| network.parse().expect("a network"))
                .into(),
            protocol: false,
            header,
        }
    }

    fn from(header: ForwardedHeader, peer: &str, lines: &[(HeaderName, &str)]) -> RequestSender {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(name, value);
        }
        sender(
            &proxies(header),
            peer.parse().expect("an address"),
            &headers,
        )
    }

    #[track_caller]
    fn check(header: ForwardedHeader, peer: &str, lines: &[&str], expected: &str) {
        let name = match header {
            ForwardedHeader::Forwarded => FORWARDED,
            ForwardedHeader::XForwardedFor | ForwardedHeader::None => X_FORWARDED_FOR,
        };
        let lines: Vec<_> = lines.iter().map(|line| (name.clone(), *line)).collect();
        let given = from(header, peer, &lines).address;
        assert_eq!(given.to_string(), expected, "{peer} {lines:?}");
    }

    #[test]
    fn x_forwarded_for_is_followed_over_trusted_proxies() {
        let header = ForwardedHeader::XForwardedFor;
        check(header, "10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check(header, "::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check(header, "10.0.0.1", &["192.0.2.1, 10.0.0.2"], "192.0.2.1");
        check(
            header,
            "10.0.0.1",
            &["192.0.2.1", "10.0.0.2", "2001:db8::2"],
            "192.0.2.1",
        );
        // A client's own entries stand on the left.
        check(
            header,
            "10.0.0.1",
            &["198.51.100.9, 192.0.2.1"],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["10.9.9.9", "192.0.2.1, 10.0.0.2"],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["2001:db8:1::1,192.0.2.1:443 , [2001:db8::2]:80"],
            "192.0.2.1",
        );
        check(header, "10.0.0.1", &["2a00::1"], "2a00::1");
        check(header, "10.0.0.1", &["[2a00::1]:443,"], "2a00::1");
        check(header, "10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1");
        // A client within the network that the proxies are in.
        check(header, "10.0.0.1", &["10.0.0.7, 10.0.0.2"], "10.0.0.7");
        check(header, "10.0.0.1", &[], "10.0.0.1");
        check(header, "10.0.0.1", &["", " , ,"], "10.0.0.1");
        // Without an address, the last known one counts.
        check(header, "10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1");
        check(
            header,
            "10.0.0.1",
            &["192.0.2.1, nonsense, 10.0.0.2"],
            "10.0.0.2",
        );
        check(header, "10.0.0.1", &["192.0.2.1, \u{e4}"], "10.0.0.1");
        check(header, "10.0.0.1", &["192.0.2.1 10.0.0.2"], "10.0.0.1");
        check(header, "10.0.0.1", &["1.2.3.4.5"], "10.0.0.1");
    }

    #[test]
    fn untrusted_peer_is_its_own_sender() {
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            check(
                header,
                "192.0.2.9",
                &["127.0.0.1", "for=127.0.0.1"],
                "192.0.2.9",
            );
            check(header, "11.0.0.1", &["10.0.0.1"], "11.0.0.1");
        }
        check(
            ForwardedHeader::None,
            "10.0.0.1",
            &["192.0.2.1"],
            "10.0.0.1",
        );
        // The other header is the client's.
        let line = [(FORWARDED, "for=192.0.2.1")];
        let given = from(ForwardedHeader::XForwardedFor, "10.0.0.1", &line);
        assert_eq!(given.address.to_string(), "10.0.0.1");
        assert!(!given.via_proxy);
    }

    #[test]
    fn forwarded_is_followed_over_trusted_proxies() {
        let header = ForwardedHeader::Forwarded;
        check(header, "10.0.0.1", &["for=192.0.2.1"], "192.0.2.1");
        check(
            header,
            "10.0.0.1",
            &["For=\"[2a00::1]:4711\";proto=https;by=10.0.0.1"],
            "2a00::1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=192.0.2.1;by=10.0.0.2, for=10.0.0.2"],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=\"192.0.2.1:80\"", "by=x;for=10.0.0.2"],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=9.9.9.9, for=192.0.2.1"],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=192.0.2.1, for=unknown"],
            "10.0.0.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=192.0.2.1, for=_hidden;proto=https"],
            "10.0.0.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=9.9.9.9;for=192.0.2.1"],
            "10.0.0.1",
        );
        check(header, "10.0.0.1", &["nonsense"], "10.0.0.1");
        // Separators within quotes do not count, and a quote that a client leaves open hides nothing behind it.
        check(
            header,
            "10.0.0.1",
            &["for=192.0.2.1;host=\"a,b;for=9.9.9.9\""],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=192.0.2.1;host=\"a\\\",for=9.9.9.9\""],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=\"9.9.9.9, for=192.0.2.1"],
            "192.0.2.1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=\"9.9.9.9, for=\"[2a00::1]\""],
            "2a00::1",
        );
        check(
            header,
            "10.0.0.1",
            &["for=\"9.9.9.9\\, for=\"[2a00::1]\""],
            "2a00::1",
        );
    }

    #[test]
    fn proxy_says_whether_the_client_speaks_tls() {
        let said = |header, lines: &[(HeaderName, &str)]| from(header, "10.0.0.1", lines);
        let header = ForwardedHeader::XForwardedFor;
        let client = (X_FORWARDED_FOR, "192.0.2.1");
        for (proto, secure) in [
            ("https", true),
            ("WSS", true),
            ("https, http", true),
            ("http", false),
            ("", false),
        ] {
            let given = said(header, &[client.clone(), (X_FORWARDED_PROTO, proto)]);
            assert_eq!((given.secure, given.via_proxy), (secure, true), "{proto}");
        }
        // Without a client, no proxy has passed it on.
        let given = said(header, &[(X_FORWARDED_PROTO, "https")]);
        assert_eq!((given.secure, given.via_proxy), (false, false));
        let header = ForwardedHeader::Forwarded;
        let given = said(
            header,
            &[(
                FORWARDED,
                "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http",
            )],
        );
        assert!(given.secure);
        let given = said(
            header,
            &[(
                FORWARDED,
                "proto=https;for=9.9.9.9, for=192.0.2.1;proto=http",
            )],
        );
        assert!(!given.secure);
    }

    proptest! {
        /// The entry that the trusted proxy added counts, whatever stands before it.
        #[test]
        fn entry_of_the_proxy_counts(before in "[ -~]{0,60}", client: IpAddr, own_line: bool) {
            prop_assume!(!proxies(ForwardedHeader::None).trust(client.to_canonical()));
            for (header, name, entry) in [
                (ForwardedHeader::XForwardedFor, X_FORWARDED_FOR, client.to_string()),
                (ForwardedHeader::Forwarded, FORWARDED, match client {
                    IpAddr::V4(client) => format!("for={client};proto=https"),
                    IpAddr::V6(client) => format!("for=\"[{client}]\";proto=https"),
                }),
            ] {
                let joined = format!("{before}, {entry}");
                let lines = if own_line {
                    vec![(name.clone(), before.as_str()), (name, entry.as_str())]
                } else {
                    vec![(name, joined.as_str())]
                };
                let given = from(header, "10.0.0.1", &lines);
                prop_assert_eq!(given.address, client.to_canonical());
            }
        }

        #[test]
        fn arbitrary_header_causes_no_panic(value in "[ -~\u{e4}\t]{0,80}") {
            for (header, name) in [(ForwardedHeader::XForwardedFor, X_FORWARDED_FOR), (ForwardedHeader::Forwarded, FORWARDED)] {
                from(header, "10.0.0.1", &[(name, &value)]);
            }
        }
    }
}

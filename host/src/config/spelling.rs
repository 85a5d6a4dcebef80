//! How names, hosts, domains and origins are spelt, and which known word a misspelt one is near.

use std::net::Ipv6Addr;

use super::meant::Domain;

/// The most characters of a name, as in API Gateway.
const NAME_LENGTH: usize = 128;
/// The most characters of a host name and of each of its labels (RFC 1035).
const HOST_LENGTH: usize = 253;
const LABEL_LENGTH: usize = 63;

/// Whether `text` may name an API, a stage or a plugin.
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Reads `host` or `host/base_path`. `None` when it is neither: a port, a scheme, a wildcard or a
/// second path segment is part of no domain.
pub(super) fn domain(text: &str) -> Option<Domain> {
    let (host_text, base_path) = match text.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text, None),
    };
    if !base_path.is_none_or(is_segment) {
        return None;
    }
    Some(Domain {
        host: host(host_text)?,
        base_path: base_path.map(str::to_owned),
    })
}

/// Reads `scheme://host[:port]` and writes it as browsers do: in lower case, without the port
/// that the scheme implies.
pub(super) fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    if !is_scheme(scheme) {
        return None;
    }
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let name = host(name)?;
    let implied = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    Some(match port.filter(|port| Some(*port) != implied) {
        Some(port) => format!("{scheme}://{name}:{port}"),
        None => format!("{scheme}://{name}"),
    })
}

/// Gives a host name, an IPv4 address or a bracketed IPv6 address in lower case.
fn host(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    (text.len() <= HOST_LENGTH && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

/// Whether `text` can stand in a path as it is, unescaped.
fn is_segment(text: &str) -> bool {
    (1..=NAME_LENGTH).contains(&text.len())
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The known word that `written` is most likely a misspelling of; `None` when it is near to none.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    /// More likeness than unrelated keys have, less than a word with two wrong letters.
    const LIKENESS: f64 = 0.8;
    let written = written.to_lowercase();
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&written, known), *known))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// The words in quotes: `"a", "b" or "c"`.
pub(super) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_domain(text: &str, expected: Option<(&str, Option<&str>)>) {
        let expected = expected.map(|(host, base_path)| Domain {
            host: host.to_owned(),
            base_path: base_path.map(str::to_owned),
        });
        assert_eq!(domain(text), expected, "{text:?}");
    }

    #[test]
    fn domains_are_a_host_and_perhaps_a_base_path() {
        check_domain("chat.example.com", Some(("chat.example.com", None)));
        check_domain("Example.COM/V1", Some(("example.com", Some("V1"))));
        check_domain("localhost", Some(("localhost", None)));
        check_domain("127.0.0.1/v1.2", Some(("127.0.0.1", Some("v1.2"))));
        check_domain("[::0:1]", Some(("[::1]", None)));
        for text in [
            "",
            "/",
            "/v1",
            "a/",
            "a//b",
            "a/b/c",
            "a/..",
            "a/%20",
            "a:80",
            "https://a",
            "*.a",
            "a..b",
            "a.",
            "-a",
            "a b",
            "ä",
            "[::1",
            "::1",
            "a?b",
            "a#b",
            "a@b",
        ] {
            check_domain(text, None);
        }
        check_domain(&"a".repeat(64), None);
        check_domain(&"a.".repeat(200), None);
    }

    #[track_caller]
    fn check_origin(text: &str, expected: Option<&str>) {
        assert_eq!(origin(text).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        check_origin("https://app.example.com", Some("https://app.example.com"));
        check_origin(
            "HTTPS://App.Example.com:443",
            Some("https://app.example.com"),
        );
        check_origin("http://localhost:80", Some("http://localhost"));
        check_origin("https://localhost:80", Some("https://localhost:80"));
        check_origin("http://[::1]:3000", Some("http://[::1]:3000"));
        check_origin("http://[::1]", Some("http://[::1]"));
        check_origin("capacitor://localhost", Some("capacitor://localhost"));
        for text in [
            "",
            "null",
            "app.example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a:",
            "https://a:65536",
            "https://a:b",
            "https://*.a",
            "://a",
            "1a://b",
            "https://u@a",
            "*",
        ] {
            check_origin(text, None);
        }
    }

    #[track_caller]
    fn check_nearest(written: &str, expected: Option<&str>) {
        let known = ["connections", "groups", "message_kib", "tls"];
        assert_eq!(nearest(written, &known), expected, "{written:?}");
    }

    #[test]
    fn misspellings_are_near_and_other_words_are_not() {
        check_nearest("conections", Some("connections"));
        check_nearest("group", Some("groups"));
        check_nearest("mesage_kb", Some("message_kib"));
        check_nearest("TLS", Some("tls"));
        check_nearest("tsl", None);
        check_nearest("", None);
        check_nearest("timeout", None);
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(list(&[]), "");
        assert_eq!(list(&["a"]), "\"a\"");
        assert_eq!(list(&["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}

//! The spelling of names and domains, and the known word that is nearest to a misspelt one.

use super::model::Domain;
use super::origin::Host;

/// Longest name in characters, as in API Gateway.
const MAX_NAME_CHARS: usize = 128;

/// Whether `text` may name an API, a stage or a plugin.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Parses `host` or `host/base_path`. `None` if it is neither: a port, a scheme, a wildcard or a second path segment is
/// part of no domain.
pub(super) fn domain(text: &str) -> Option<Domain> {
    let (host_text, base_path) = match text.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text, None),
    };
    if !base_path.is_none_or(is_segment) {
        return None;
    }
    Some(Domain {
        host: Host::parse(host_text)?.to_string(),
        base_path: base_path.map(str::to_owned),
    })
}

/// Whether `text` can stand in a path unescaped.
fn is_segment(text: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&text.len())
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Gives the known word that `written` most likely misspells; `None` if it is near to none.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    /// More similarity than unrelated keys have, less than a word with two wrong letters.
    const MIN_SIMILARITY: f64 = 0.8;
    let written = written.to_lowercase();
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&written, known), *known))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// Lists the words in quotes: `"a", "b" or "c"`.
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
    fn domain_is_a_host_with_an_optional_base_path() {
        check_domain("chat.example.com", Some(("chat.example.com", None)));
        check_domain("Example.COM/V1", Some(("example.com", Some("V1"))));
        check_domain("localhost", Some(("localhost", None)));
        check_domain("127.0.0.1/v1.2", Some(("127.0.0.1", Some("v1.2"))));
        check_domain("[::0:1]", Some(("[::1]", None)));
        check_domain("example.com.", Some(("example.com", None)));
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
    }

    #[track_caller]
    fn check_nearest(written: &str, expected: Option<&str>) {
        let known = ["connections", "groups", "message_kib", "tls"];
        assert_eq!(nearest(written, &known), expected, "{written:?}");
    }

    #[test]
    fn misspelling_gets_a_suggestion_and_another_word_gets_none() {
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

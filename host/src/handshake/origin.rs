//! Which web pages may connect: browsers name theirs in `Origin`, and no one else has to.

use http::uri::Authority;

use crate::config::Origins;

/// Whether a page of `origin` may connect to a stage that was asked for as `authority`.
///
/// What does not look like an origin (RFC 6454 §6.1), `null` included, may not, unless all may.
pub(super) fn allowed(origins: &Origins, origin: &[u8], authority: &Authority) -> bool {
    if origins.any {
        return true;
    }
    let Some(origin) = str::from_utf8(origin).ok().and_then(normalise) else {
        return false;
    };
    let same_host = || {
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        normalise(&format!("{scheme}://{authority}"))
            .is_some_and(|own| own.ends_with(&format!("://{host}")))
    };
    origins.list.contains(&origin) || (origins.same_host && same_host())
}

/// `scheme://host[:port]` in lower case and without the scheme's own port; none if it is something else.
fn normalise(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let valid = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && !authority.contains(['@', '/', '?', '#', ' ', '\\']);
    let parsed: Authority = authority.parse().ok()?;
    if !valid || parsed.host().is_empty() || authority.ends_with(':') {
        return None;
    }
    let authority = if own_port.is_empty() {
        authority
    } else {
        authority.strip_suffix(own_port).unwrap_or(authority)
    };
    Some(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origin: &str, expected: bool) {
        let origins = Origins {
            any: false,
            same_host: true,
            list: vec![
                "https://app.example.com".into(),
                "http://localhost:3000".into(),
            ],
        };
        let authority = Authority::from_static("chat.example.com:8443");
        assert_eq!(
            allowed(&origins, origin.as_bytes(), &authority),
            expected,
            "{origin}"
        );
    }

    #[test]
    fn an_origin_is_compared_whole() {
        check("https://app.example.com", true);
        check("HTTPS://App.Example.Com", true);
        check("https://app.example.com:443", true);
        check("http://localhost:3000", true);
        check("https://chat.example.com:8443", true);
        check("http://chat.example.com:8443", true);
        check("https://chat.example.com", false);
        check("https://chat.example.com:8444", false);
        check("http://app.example.com", false);
        check("https://app.example.com:8443", false);
        check("https://app.example.com.evil.example", false);
        check("https://evil.example/app.example.com", false);
        check("https://app.example.com/", false);
        check("https://app.example.com@evil.example", false);
        check("https://user@app.example.com", false);
        check("https://sub.app.example.com", false);
        check("https://app.example.com:", false);
        check("https://app.example.com#", false);
        check("https://app.example.com ", false);
        check("https://app.example.com\\evil", false);
        check("https:///app.example.com", false);
        check("//app.example.com", false);
        check("app.example.com", false);
        check("null", false);
        check("", false);
        check("https://", false);
        check("file://", false);
        check("http://localhost", false);
        check("http://127.0.0.1:3000", false);
    }
}

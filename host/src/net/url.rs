//! What of a URL may be shown: user, password and query are often secrets.

use reqwest::Url;

/// The scheme, host, port and path of a URL: all of it that logs and errors may show. Text that is no URL is not shown.
pub(crate) fn shown(url: &str) -> String {
    let Some(url) = url.parse::<Url>().ok().filter(Url::has_host) else {
        return "an address that is no URL".to_owned();
    };
    let port = url.port().map(|port| format!(":{port}"));
    format!(
        "{}://{}{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        port.unwrap_or_default(),
        url.path()
    )
}

/// Whether a URL has a user, with or without a password.
pub(crate) fn has_user(url: &str) -> bool {
    let url = Url::parse(url);
    url.is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// Whether a URL has a password.
pub(crate) fn has_password(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.password().is_some())
}

/// A wrong address in an error: as it is written, unless that may have a secret in it.
pub(crate) fn told(address: &str) -> String {
    match address.contains(['@', '?', '#']) {
        false => format!("{address:?}"),
        true => "it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        assert_eq!(shown(url), expected, "{url}");
    }

    #[test]
    fn user_password_query_and_fragment_are_not_shown() {
        check("https://id.example/keys", "https://id.example/keys");
        check("http://[::1]:4180/a?s=canary#canary", "http://[::1]:4180/a");
        check("http://canary:canary@10.0.0.1/a/b", "http://10.0.0.1/a/b");
        check("http://u:can@ary@id.example:81", "http://id.example:81/");
        check("https://canary@id.example?canary", "https://id.example/");
        for none in [
            "",
            "canary@id.example/a",
            "http://u:can/ary@id.example/",
            "mailto:canary@a",
        ] {
            check(none, "an address that is no URL");
        }
    }
}

//! The challenges by which a registry asks for credentials (RFC 9110, §11.6.1), as registries spell them.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;

/// A challenge that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Wants a token from the address `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        /// Scopes, with spaces between them.
        scope: Option<String>,
    },
    /// Wants the credentials themselves.
    Basic,
}

/// The known challenges of an answer, tokens first: where a registry offers both, the credentials alone may be good
/// only for getting a token.
///
/// A list is read up to its first mistake.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let lists = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut challenges: Vec<_> = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| ChallengeParser::new(list).map_while(Result::ok))
        .filter_map(|challenge| Challenge::read(&challenge))
        .collect();
    challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
    challenges.dedup();
    challenges
}

impl Challenge {
    fn read(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let parameter = |name: &str| {
            let mut all = challenge.params.iter();
            all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer {
                realm: parameter("realm")?,
                service: parameter("service"),
                scope: parameter("scope"),
            });
        }
        challenge
            .scheme
            .eq_ignore_ascii_case("basic")
            .then_some(Self::Basic)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(lists: &[&'static str], expected: &[Challenge]) {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(list));
        }
        assert_eq!(challenges(&headers), expected, "{lists:?}");
    }

    #[test]
    fn challenges_are_read_however_they_are_spelt() {
        let bearer = || Challenge::Bearer {
            realm: "https://r/t".into(),
            service: Some("s".into()),
            scope: None,
        };
        let both = [bearer(), Challenge::Basic];
        check(&[r#"Bearer realm="https://r/t",service="s""#], &[bearer()]);
        check(&[r#"bearer Realm="https://r/t" , SERVICE=s"#], &[bearer()]);
        check(&[r#"BASIC realm="x y""#], &[Challenge::Basic]);
        check(&["Basic"], &[Challenge::Basic]);
        check(
            &[r#"Basic realm="x", Bearer realm="https://r/t",service="s""#],
            &both,
        );
        check(
            &[r#"Bearer realm="https://r/t",service="s", Basic realm="x""#],
            &both,
        );
        check(
            &[
                r#"Basic realm="x""#,
                r#"Bearer realm="https://r/t",service="s""#,
            ],
            &both,
        );
        // Unknown challenges are skipped, and so is the rest of a list after a mistake.
        check(
            &[r#"Digest realm="x",nonce="y", Basic realm="x", Other realm="x", ="#],
            &[Challenge::Basic],
        );
        check(&["Negotiate", r#"Bearer service="s""#, "\"", ""], &[]);
    }
}

//! Identity sources: where a request says who the client is.

use super::Request;
use crate::config::{ContextVariable, IdentitySource};
use crate::route;

/// The values at all sources, in their order; none if one of them is missing or empty.
pub(super) fn all<'a>(
    sources: &[IdentitySource],
    request: &'a Request<'_>,
) -> Option<Vec<&'a str>> {
    let values = sources.iter().map(|source| read(source, request));
    values.collect()
}

/// The value at the first source that has one.
pub(super) fn first<'a>(sources: &[IdentitySource], request: &'a Request<'_>) -> Option<&'a str> {
    sources
        .iter()
        .find_map(|source| match source.is_subprotocol() {
            true => request.offered_token,
            false => read(source, request),
        })
}

/// The value at a source: the first one that is not empty.
pub(super) fn read<'a>(source: &IdentitySource, request: &'a Request<'_>) -> Option<&'a str> {
    let (handshake, invocation) = (request.handshake, request.invocation);
    let value = match source {
        IdentitySource::Header(name) => find(&handshake.headers, name),
        IdentitySource::Query(name) => find(&handshake.query, name),
        IdentitySource::Cookie(name) => {
            find(&handshake.headers, "cookie").and_then(|cookies| cookie(cookies, name))
        }
        IdentitySource::StageVariable(name) => {
            invocation.scope.variables.get(name).map(String::as_str)
        }
        IdentitySource::Authorizer(name) => request.identity.and_then(|said| said.text(name)),
        IdentitySource::Context(variable) => Some(match variable {
            ContextVariable::ApiId => &*invocation.scope.api,
            ContextVariable::Stage => &invocation.scope.stage,
            ContextVariable::DomainName => &handshake.domain_name,
            ContextVariable::RouteKey => route::CONNECT,
            ContextVariable::SourceIp => &handshake.source_ip,
            ContextVariable::UserAgent => {
                find(&handshake.headers, "user-agent").unwrap_or_default()
            }
        }),
    };
    value.filter(|value| !value.is_empty())
}

/// The first value of a name that is not empty.
fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut named = fields.iter().filter(|(other, _)| other == name);
    let value = named.find(|(_, value)| !value.trim().is_empty());
    value.map(|(_, value)| value.as_str())
}

/// The value of a cookie (RFC 6265 §5.4), without the quotes that some servers write.
fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(other, _)| other.trim() == name);
    let value = named.next()?.1.trim();
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_cookie(cookies: &str, expected: Option<&str>) {
        assert_eq!(cookie(cookies, "token"), expected, "{cookies:?}");
    }

    #[test]
    fn cookie_is_found_by_its_whole_name() {
        check_cookie("token=a", Some("a"));
        check_cookie("x=1; token=a=b; y=2", Some("a=b"));
        check_cookie("token=\"a b\"", Some("a b"));
        check_cookie("xtoken=a; token2=b", None);
        check_cookie("Token=a", None);
        check_cookie("token", None);
        check_cookie("token=", Some(""));
        check_cookie("", None);
        check_cookie("token=first; token=second", Some("first"));
    }

    #[test]
    fn empty_value_is_passed_over() {
        let fields = [("a", ""), ("a", " "), ("a", "x"), ("b", "")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(find(&fields, "a"), Some("x"));
        assert_eq!(find(&fields, "b"), None);
        assert_eq!(find(&fields, "c"), None);
    }
}

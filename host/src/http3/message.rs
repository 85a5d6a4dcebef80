//! Requests and answers as field sections (RFC 9114 §4.2, §4.3).

use http::header::TE;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::ext::Protocol;

use super::qpack::{self, Field};

/// Headers that are about a connection of HTTP/1.1 (RFC 9114 §4.2).
const OF_CONNECTION: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// The fields that stand for the first line of a request.
#[derive(Default)]
struct PseudoFields {
    method: Option<Method>,
    scheme: Option<String>,
    authority: Option<Authority>,
    path: Option<String>,
    /// RFC 9220 §3.
    protocol: Option<String>,
}

/// Makes a request's head of its fields; none if it is malformed.
pub(super) fn request(fields: Vec<Field>) -> Option<Parts> {
    let (mut pseudo, mut headers) = (PseudoFields::default(), HeaderMap::new());
    for (name, value) in fields {
        if name.starts_with(b":") {
            // They stand before the others.
            if !headers.is_empty() {
                return None;
            }
            pseudo.set(&name, value)?;
            continue;
        }
        // Upper case is malformed.
        let name = HeaderName::from_lowercase(&name).ok()?;
        let value = HeaderValue::from_bytes(&value).ok()?;
        if OF_CONNECTION.contains(&name.as_str()) || name == TE && value != "trailers" {
            return None;
        }
        headers.append(name, value);
    }
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = headers;
    *request.uri_mut() = pseudo.uri()?;
    *request.method_mut() = pseudo.method?;
    if let Some(protocol) = pseudo.protocol {
        request.extensions_mut().insert(Protocol::from(&*protocol));
    }
    Some(request.into_parts().0)
}

impl PseudoFields {
    /// None for a second one of a kind, an unknown one, or one that is malformed.
    fn set(&mut self, name: &[u8], value: Vec<u8>) -> Option<()> {
        let before = match name {
            b":method" => {
                let method = Method::from_bytes(&value).ok()?;
                self.method.replace(method).is_some()
            }
            b":scheme" => self
                .scheme
                .replace(String::from_utf8(value).ok()?)
                .is_some(),
            b":authority" => {
                let authority = Authority::from_maybe_shared(value).ok()?;
                self.authority.replace(authority).is_some()
            }
            b":path" => self.path.replace(String::from_utf8(value).ok()?).is_some(),
            b":protocol" => self
                .protocol
                .replace(String::from_utf8(value).ok()?)
                .is_some(),
            _ => return None,
        };
        (!before).then_some(())
    }

    /// The target. A CONNECT without a protocol names a host alone (RFC 9114 §4.4).
    fn uri(&mut self) -> Option<Uri> {
        let is_connect = self.method.as_ref()? == Method::CONNECT;
        if self.protocol.is_some() && (!is_connect || self.authority.is_none()) {
            return None;
        }
        let mut target = Uri::builder();
        if is_connect && self.protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() {
                return None;
            }
            return target.authority(self.authority.take()?).build().ok();
        }
        let (scheme, path) = (self.scheme.take()?, self.path.take()?);
        if !path.starts_with('/') && path != "*" {
            return None;
        }
        if let Some(authority) = self.authority.take() {
            target = target.scheme(&*scheme).authority(authority);
        }
        target.path_and_query(path).build().ok()
    }
}

/// Makes the field section of an answer's head.
pub(super) fn answer<B>(response: &Response<B>) -> Vec<u8> {
    let status = response.status();
    let status = (&b":status"[..], status.as_str().as_bytes());
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    qpack::encode([status].into_iter().chain(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: [(&str, &str); 5] = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "localhost:8443"),
        (":path", "/prod?a=b"),
    ];

    fn read(fields: &[(&str, &str)]) -> Option<Parts> {
        let fields = fields.iter();
        request(
            fields
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                .collect(),
        )
    }

    /// The fields of a CONNECT, one of them replaced, or left out.
    fn with(name: &str, value: Option<&str>) -> Option<Parts> {
        let fields = CONNECT.iter().filter_map(|field| match field {
            (own, _) if *own == name => value.map(|value| (*own, value)),
            field => Some(*field),
        });
        read(&fields.collect::<Vec<_>>())
    }

    fn and(more: &[(&str, &str)]) -> Option<Parts> {
        read(&[&CONNECT[..], more].concat())
    }

    #[test]
    fn extended_connect_is_read() {
        let cookies = [
            ("cookie", "a=1"),
            ("origin", "https://a.b"),
            ("cookie", "b=2"),
        ];
        let parts = and(&cookies).unwrap();
        assert_eq!(
            (parts.method, parts.version),
            (Method::CONNECT, Version::HTTP_3)
        );
        assert_eq!(parts.uri, "https://localhost:8443/prod?a=b");
        let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
        assert_eq!(protocol, Some("websocket"));
        let cookies: Vec<_> = parts.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert!(and(&[("te", "trailers")]).is_some());
    }

    #[test]
    fn other_requests_are_read() {
        let get = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a.b"),
            (":path", "/"),
        ];
        assert_eq!(read(&get).unwrap().uri, "https://a.b/");
        let host = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/x"),
            ("host", "a.b"),
        ];
        assert_eq!(read(&host).unwrap().uri, "/x");
        let plain = [(":method", "CONNECT"), (":authority", "a.b:1")];
        assert_eq!(read(&plain).unwrap().uri, "a.b:1");
        assert!(read(&plain[..1]).is_none());
    }

    #[test]
    fn malformed_heads_are_refused() {
        for (name, _) in CONNECT {
            // Without a protocol, a CONNECT has neither scheme nor path.
            assert!(with(name, None).is_none(), "{name}");
        }
        for (name, value) in [
            (":method", "GET"),
            (":method", "CON NECT"),
            (":scheme", "ht tps"),
            (":authority", "a b"),
            (":path", ""),
            (":path", "prod"),
            (":path", "/a b"),
        ] {
            assert!(with(name, Some(value)).is_none(), "{name}: {value}");
        }
        for field in [
            (":path", "/again"),
            (":status", "200"),
            ("Origin", "https://a.b"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("x", "a\r\nb"),
            ("x y", "z"),
            ("", "z"),
        ] {
            assert!(and(&[field]).is_none(), "{field:?}");
        }
        assert!(and(&[("x", "y"), (":path", "/")]).is_none());
        assert!(read(&[&[("x", "y")], &CONNECT[..]].concat()).is_none());
    }
}

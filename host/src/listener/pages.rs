//! The web page that `lockgate dev` serves beside the socket: the files of one folder, for this machine's browser.
//! Nothing else serves files.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::tls::Tls;

/// The content security policy: a page may load from and connect to its own host.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'self'; connect-src 'self' ws: wss:");

/// The path of the options with which a page's client reaches its own host: those of `connect` in `@lockgate/client`.
const OPTIONS: &str = "/lockgate-dev.json";

#[derive(Clone)]
pub(crate) struct Pages {
    folder: PathBuf,
    /// The TLS of the listener's QUIC, where it serves any.
    pub(super) quic: Option<Arc<Tls>>,
}

impl Pages {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, quic: None }
    }

    pub(super) async fn answer(&self, request: &Parts) -> Response<Full<Bytes>> {
        if request.method != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let (path, content) = if request.uri.path() == OPTIONS {
            (PathBuf::from(OPTIONS), self.options())
        } else {
            let Some(path) = self.resolve(request.uri.path()) else {
                return plain(StatusCode::NOT_FOUND);
            };
            let Ok(content) = tokio::fs::read(&path).await else {
                return plain(StatusCode::NOT_FOUND);
            };
            (path, content)
        };
        let mut response = Response::new(Full::from(content));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type(&path));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        response
    }

    /// A browser takes a session's certificate by its digest, and not because its user took the page's.
    fn options(&self) -> Vec<u8> {
        let certificates = self.quic.as_ref().map(|tls| tls.certificates());
        let all = certificates
            .iter()
            .flat_map(|certificates| certificates.all());
        let digests = all.filter_map(|certificate| certificate.digest());
        let hashes: Vec<_> = digests
            .map(|value| json!({ "algorithm": "sha-256", "value": value }))
            .collect();
        let options =
            json!({ "webTransport": self.quic.is_some(), "serverCertificateHashes": hashes });
        options.to_string().into()
    }

    /// Resolves a request's path to a file, never outside the folder.
    fn resolve(&self, path: &str) -> Option<PathBuf> {
        let relative = Path::new(path.strip_prefix('/')?);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let file = if path.ends_with('/') {
            relative.join("index.html")
        } else {
            relative.to_owned()
        };
        inside.then(|| self.folder.join(file))
    }
}

/// Does not show keys.
impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pages of {}", self.folder.display())
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(status.canonical_reason().unwrap_or_default()));
    *response.status_mut() = status;
    response
}

fn content_type(path: &Path) -> HeaderValue {
    HeaderValue::from_static(
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js" | "mjs") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("ico") => "image/x-icon",
            Some("json" | "webmanifest") => "application/json",
            _ => "application/octet-stream",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let pages = Pages::new("web".into());
        assert_eq!(
            pages.resolve(path).as_deref(),
            expected.map(Path::new),
            "{path}"
        );
    }

    #[test]
    fn paths_stay_in_the_folder() {
        check("/", Some("web/index.html"));
        check("/chat.js", Some("web/chat.js"));
        check("/img/a.png", Some("web/img/a.png"));
        check("/../secret", None);
        check("/img/../../secret", None);
        check("//etc/passwd", None);
    }
}

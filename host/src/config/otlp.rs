//! The check of the collector of traces and logs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::file;
use super::is_loopback_authority;
use super::report::{Report, join};
use crate::net::told;

/// The attribute that has a key of its own.
const SERVICE: &str = "service.name";

/// The collector of traces and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Otlp {
    /// `http` or `https`. User and password may be secret.
    pub(crate) endpoint: Secret,
    pub(crate) protocol: OtlpProtocol,
    /// Headers of each request.
    pub(crate) headers: Vec<(String, Secret)>,
    /// The file of the authority's certificates; `None` trusts the machine's own authorities.
    pub(crate) ca: Option<PathBuf>,
    /// One event in so many is traced; 0 is none.
    pub(crate) one_in: u32,
    pub(crate) traceparent: ClientTraces,
    pub(crate) logs: bool,
    /// Bytes of each signal that wait.
    pub(crate) queue_bytes: usize,
    /// Time limit of a request.
    pub(crate) timeout: Duration,
    pub(crate) service: String,
    /// Further attributes of the process.
    pub(crate) resource: BTreeMap<String, String>,
}

/// How the collector is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OtlpProtocol {
    /// Protocol Buffers by HTTP/1.1.
    #[default]
    Http,
    /// gRPC, by HTTP/2.
    Grpc,
}

/// What a client's trace means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientTraces {
    /// The handshake goes on in it, and is traced if the client says that it traces: for clients that are your own.
    #[default]
    Follow,
    /// The handshake begins a trace of its own, with a link to the client's: nobody outside chooses what is traced.
    Link,
}

pub(super) fn otlp(written: file::Otlp, report: &mut Report<'_>) -> Otlp {
    check_endpoint(&written, report);
    for (name, value) in &written.headers {
        let key = join("otlp.headers", name);
        match name.parse::<HeaderName>() {
            Err(_) => report.problem(
                &key,
                format!("{name:?} is no name of a header"),
                "write one, as in \"Authorization\"",
            ),
            Ok(name) if is_reserved(&name) => {
                report.problem(&key, format!("the gateway sets {name} itself"), "remove it")
            }
            Ok(_) if HeaderValue::from_str(value).is_err() => report.problem(
                &key,
                "no header can have this value",
                "write printable characters, on one line",
            ),
            Ok(_) => {}
        }
    }
    if written.resource.contains_key(SERVICE) {
        report.problem(
            &join("otlp.resource", SERVICE),
            "otlp.service is that attribute",
            "write it there",
        );
    }
    let ca = written.ca.as_deref();
    let headers = written.headers.into_iter();
    Otlp {
        ca: ca.map(|written| report.existing_file("otlp.ca", written)),
        endpoint: report.secret_url("otlp.endpoint", written.endpoint),
        protocol: written.protocol,
        headers: headers
            .map(|(name, value)| {
                let value = report.secret(&join("otlp.headers", &name), value);
                (name, value)
            })
            .collect(),
        one_in: written.one_in,
        traceparent: written.traceparent,
        logs: written.logs,
        queue_bytes: (written.queue_kib as usize) << 10,
        timeout: Duration::from_millis(written.timeout_ms.into()),
        service: written.service,
        resource: written.resource,
    }
}

fn check_endpoint(written: &file::Otlp, report: &mut Report<'_>) {
    const KEY: &str = "otlp.endpoint";
    let endpoint = &written.endpoint;
    let example = match written.protocol {
        OtlpProtocol::Http => "write it as in \"http://127.0.0.1:4318\"",
        OtlpProtocol::Grpc => "write it as in \"http://127.0.0.1:4317\"",
    };
    let uri = endpoint.parse::<http::Uri>().ok();
    let uri = uri
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    // The client of the collector reads it in its own way.
    let uri = uri.filter(|_| endpoint.parse::<reqwest::Url>().is_ok());
    let Some(uri) = uri else {
        return report.problem(
            KEY,
            format!("{} is no address of HTTP", told(endpoint)),
            example,
        );
    };
    if uri.query().is_some() || endpoint.contains('#') {
        return report.problem(
            KEY,
            "the address has a query or a fragment",
            "remove it; secrets belong into headers",
        );
    }
    if written.protocol == OtlpProtocol::Grpc && uri.path() != "/" {
        return report.problem(
            KEY,
            "gRPC has paths of its own, and the address has one too",
            example,
        );
    }
    for path in ["/v1/traces", "/v1/logs"] {
        if uri.path().trim_end_matches('/').ends_with(path) {
            return report.problem(
                KEY,
                format!("the gateway adds {path} itself"),
                "write the address without it",
            );
        }
    }
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    if uri.scheme_str() == Some("http") && !is_loopback_authority(authority) {
        report.doubt(
            KEY,
            "log lines go there in the clear, and so do the headers",
            "write https://, unless nobody can listen on the way",
        );
    }
}

/// Whether a request has this header in any case.
fn is_reserved(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING].contains(name)
        || name.as_str().starts_with("grpc-")
}

//! The collector: a request for a batch, by HTTP or gRPC, and what its answer means (OpenTelemetry Protocol 1.x,
//! <https://opentelemetry.io/docs/specs/otlp/>).

use std::error::Error as _;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode_str;
use reqwest::Client;
use reqwest::redirect::Policy;

use super::Signal;
use super::protobuf::{Field, fields};
use crate::config::{Fault, Otlp, OtlpProtocol};
use crate::net::{Authorities, distrust_remedy, shown};

/// Bytes of the longest answer. It has a count and a sentence.
const LONGEST: usize = 64 << 10;

/// Characters of a collector's own words that are shown.
const MAX_WORDS: usize = 200;

/// Codes of gRPC by which the same request may succeed later: cancelled, deadline exceeded, aborted, out of range,
/// unavailable, data loss. Resource exhausted is one if the answer says when.
const PASSING_CODES: [u32; 6] = [1, 4, 10, 11, 14, 15];
const RESOURCE_EXHAUSTED: u32 = 8;

/// The details of a gRPC status, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) struct Collector {
    http: Client,
    protocol: OtlpProtocol,
    /// For each signal.
    urls: [String; Signal::ALL.len()],
    headers: HeaderMap,
    /// What of its address may be shown.
    pub(super) place: String,
}

/// The outcome of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// So many items were rejected, and the others taken.
    TakenInPart(u64, String),
    /// The same request would not be taken later either.
    Refused(String),
    /// It may be taken later, and not before this time if there is one.
    Failed(String, Option<Duration>),
}

impl Collector {
    pub(super) fn new(config: &Otlp, authorities: Option<&Authorities>) -> Result<Self, Fault> {
        let url = config.endpoint.reveal();
        let is_https = url
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let mut http = Client::builder()
            .redirect(Policy::none())
            .user_agent(concat!("lockgate/", env!("CARGO_PKG_VERSION")));
        http = match config.protocol {
            OtlpProtocol::Http => http.http1_only(),
            OtlpProtocol::Grpc => http.http2_prior_knowledge(),
        };
        if !is_https {
            // A proxy of the environment would read what goes there in the clear.
            http = http.no_proxy();
        }
        if let Some(authorities) = authorities {
            let protocol = match config.protocol {
                OtlpProtocol::Http => "http/1.1",
                OtlpProtocol::Grpc => "h2",
            };
            http = http.tls_backend_preconfigured(authorities.tls(&[protocol]));
        }
        let http = http.build().map_err(|error| Fault {
            key: "otlp".to_owned(),
            message: format!("no client can be made for it: {}", causes(&error)),
            remedy: "correct endpoint and ca".to_owned(),
            is_passing: false,
        })?;
        let base = url.trim_end_matches('/');
        let headers = config.headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.reveal()).ok()?;
            value.set_sensitive(true);
            Some((name.parse::<HeaderName>().ok()?, value))
        });
        Ok(Self {
            http,
            protocol: config.protocol,
            urls: Signal::ALL.map(|signal| format!("{base}{}", signal.path(config.protocol))),
            headers: headers.collect(),
            place: shown(url),
        })
    }

    /// Sends a request of this signal.
    pub(super) async fn send(&self, signal: Signal, message: Bytes) -> Outcome {
        let url = self.urls.get(signal as usize).map_or("", String::as_str);
        let request = self.http.post(url).headers(self.headers.clone());
        let request = match self.protocol {
            OtlpProtocol::Http => request
                .header(CONTENT_TYPE, "application/x-protobuf")
                .body(message),
            OtlpProtocol::Grpc => request
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers")
                .body(framed(&message)),
        };
        let response = match request.send().await {
            Ok(response) => http::Response::<reqwest::Body>::from(response),
            Err(error) => {
                let remedy = distrust_remedy(&error, "otlp.ca");
                let why = format!("it cannot be reached: {}{remedy}", causes(&error));
                return Outcome::Failed(why, None);
            }
        };
        let (head, body) = response.into_parts();
        let Ok(body) = Limited::new(body, LONGEST).collect().await else {
            let why = format!(
                "it answered {} and no whole body of at most {} KiB",
                head.status,
                LONGEST >> 10
            );
            return Outcome::Failed(why, None);
        };
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = body.to_bytes();
        match self.protocol {
            OtlpProtocol::Http => http_outcome(head.status, &head.headers, &body),
            OtlpProtocol::Grpc => grpc_outcome(head.status, &head.headers, &trailers, &body),
        }
    }
}

/// A message as gRPC sends it: not compressed, with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

fn http_outcome(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        return partial_success(body);
    }
    let why = match text(body, 2) {
        // A `google.rpc.Status`.
        Some(words) if is_protobuf(headers) => format!("it answered {status}, {}", said(words)),
        Some(_) | None if status.is_redirection() => {
            format!("it answered {status}, and redirects are not followed")
        }
        Some(_) | None => format!("it answered {status}"),
    };
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Failed(why, retry_after(headers)),
        _ => Outcome::Refused(why),
    }
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-protobuf"))
}

/// The seconds of `Retry-After`. Its other form, a date, is taken as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// Reads the answer to a request that was taken: `partial_success` has the number of rejected items, and a sentence.
fn partial_success(answer: &[u8]) -> Outcome {
    let Some(partial) = part(answer, 1) else {
        return Outcome::Taken;
    };
    let rejected = fields(partial).find_map(|(field, value)| match (field, value) {
        (1, Field::Integer(rejected)) => Some(rejected),
        _ => None,
    });
    let words = text(partial, 2).map(said).unwrap_or_default();
    match rejected.unwrap_or(0) {
        0 if words.is_empty() => Outcome::Taken,
        rejected => Outcome::TakenInPart(rejected, words),
    }
}

fn grpc_outcome(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: &HeaderMap,
    body: &[u8],
) -> Outcome {
    if status != StatusCode::OK {
        let why = format!("it answered {status}, which no gRPC server does");
        return match status.as_u16() {
            429 | 502 | 503 | 504 => Outcome::Failed(why, retry_after(headers)),
            _ => Outcome::Refused(why),
        };
    }
    // An answer without a message has them in its head.
    let find = |name: &str| {
        trailers
            .get(name)
            .or_else(|| headers.get(name))?
            .to_str()
            .ok()
    };
    let code: Option<u32> = find("grpc-status").and_then(|code| code.parse().ok());
    let Some(code) = code else {
        return Outcome::Failed("its answer has no gRPC status".to_owned(), None);
    };
    if code == 0 {
        return partial_success(body.get(5..).unwrap_or_default());
    }
    let words = find("grpc-message").map(|message| percent_decode_str(message).decode_utf8_lossy());
    let why = match words {
        Some(words) if !words.is_empty() => {
            format!("it answered with the gRPC status {code}, {}", said(&words))
        }
        Some(_) | None => format!("it answered with the gRPC status {code}"),
    };
    let details = find("grpc-status-details-bin").and_then(|details| BASE64.decode(details).ok());
    let after = details.as_deref().and_then(retry_info);
    match code {
        RESOURCE_EXHAUSTED if after.is_some() => Outcome::Failed(why, after),
        code if PASSING_CODES.contains(&code) => Outcome::Failed(why, after),
        _ => Outcome::Refused(why),
    }
}

/// The delay of the `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_info(status: &[u8]) -> Option<Duration> {
    let mut details = fields(status).filter_map(|(field, value)| match (field, value) {
        (3, Field::Bytes(detail)) => Some(detail),
        _ => None,
    });
    let info = details.find(|detail| {
        text(detail, 1).is_some_and(|kind| kind.ends_with("/google.rpc.RetryInfo"))
    })?;
    let delay = part(part(info, 2)?, 1)?;
    let number = |wanted: u64| {
        fields(delay).find_map(|(field, value)| match (field == wanted, value) {
            (true, Field::Integer(value)) => Some(value),
            _ => None,
        })
    };
    let nanoseconds = u32::try_from(number(2).unwrap_or(0)).ok()?;
    // Not `Duration::new`, which panics at the largest numbers.
    Duration::from_secs(number(1).unwrap_or(0))
        .checked_add(Duration::from_nanos(nanoseconds.into()))
}

/// A field of bytes.
fn part(message: &[u8], wanted: u64) -> Option<&[u8]> {
    fields(message).find_map(|(field, value)| match (field == wanted, value) {
        (true, Field::Bytes(bytes)) => Some(bytes),
        _ => None,
    })
}

fn text(message: &[u8], wanted: u64) -> Option<&str> {
    str::from_utf8(part(message, wanted)?).ok()
}

/// A stranger's words on one line, cut.
fn said(words: &str) -> String {
    let words: String = words.chars().take(MAX_WORDS).collect();
    format!("{words:?}")
}

/// The causes of an error, without the address, which stands beside them.
fn causes(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = Vec::new();
    while let Some(error) = cause {
        text.push(error.to_string());
        cause = error.source();
    }
    match text.is_empty() {
        true => "the connection failed".to_owned(),
        false => text.join(": "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::Message;
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let all = all.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        all.collect()
    }

    #[test]
    fn answers_by_http_are_taken_refused_or_tried_again() {
        let answer = |status: u16, head: &[(&'static str, &str)]| {
            let status = StatusCode::from_u16(status).unwrap();
            http_outcome(status, &headers(head), b"")
        };
        assert_eq!(answer(200, &[]), Outcome::Taken);
        for status in [301, 400, 401, 404, 413, 500] {
            assert!(
                matches!(answer(status, &[]), Outcome::Refused(_)),
                "{status}"
            );
        }
        for status in [429, 502, 503, 504] {
            assert!(
                matches!(answer(status, &[]), Outcome::Failed(_, None)),
                "{status}"
            );
        }
        let seconds = Some(Duration::from_secs(7));
        let later = answer(503, &[("retry-after", "7")]);
        assert!(matches!(later, Outcome::Failed(_, after) if after == seconds));
        let date = answer(503, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")]);
        assert!(matches!(date, Outcome::Failed(_, None)));
    }

    #[test]
    fn rejected_items_are_told_with_the_collectors_words() {
        let mut answer = Message::default();
        answer.message(1, |partial| {
            partial.integer(1, 3);
            partial.bytes(2, b"too\nold");
        });
        let expected = Outcome::TakenInPart(3, r#""too\nold""#.to_owned());
        assert_eq!(
            http_outcome(StatusCode::OK, &HeaderMap::new(), answer.as_bytes()),
            expected
        );
        let framed = framed(answer.as_bytes());
        let trailers = headers(&[("grpc-status", "0")]);
        assert_eq!(
            grpc_outcome(StatusCode::OK, &HeaderMap::new(), &trailers, &framed),
            expected
        );
    }

    #[test]
    fn answers_by_grpc_are_taken_refused_or_tried_again() {
        let answer = |trailers: &[(&'static str, &str)]| {
            grpc_outcome(StatusCode::OK, &HeaderMap::new(), &headers(trailers), b"")
        };
        assert_eq!(answer(&[("grpc-status", "0")]), Outcome::Taken);
        assert!(matches!(answer(&[]), Outcome::Failed(_, None)));
        for code in ["1", "4", "10", "11", "14", "15"] {
            assert!(
                matches!(answer(&[("grpc-status", code)]), Outcome::Failed(_, None)),
                "{code}"
            );
        }
        for code in ["2", "3", "5", "7", "8", "12", "13", "16", "99"] {
            assert!(
                matches!(answer(&[("grpc-status", code)]), Outcome::Refused(_)),
                "{code}"
            );
        }
        let told = answer(&[("grpc-status", "16"), ("grpc-message", "no%20token")]);
        assert!(matches!(told, Outcome::Refused(why) if why.contains("\"no token\"")));
        let mut status = Message::default();
        status.integer(1, 8);
        status.message(3, |detail| {
            detail.bytes(1, b"type.googleapis.com/google.rpc.RetryInfo");
            detail.message(2, |info| info.message(1, |delay| delay.integer(1, 9)));
        });
        let details = BASE64.encode(status.as_bytes());
        let busy = answer(&[
            ("grpc-status", "8"),
            ("grpc-status-details-bin", details.trim_end_matches('=')),
        ]);
        assert!(matches!(busy, Outcome::Failed(_, after) if after == Some(Duration::from_secs(9))));
    }
}

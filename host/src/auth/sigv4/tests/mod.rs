//! Signatures that others made: AWS's test suite and foreign clients (`tests/sigv4`), and changes of theirs.

mod faults;
mod mutants;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{SERVICE, Signature, SignatureFault, SignedRequest, SigningKey, read};

/// The secret of the clients' requests, and the id of their key.
const SECRET: &str = "a-secret-of-the-tests-and-nobody-else";
const KEY_ID: &str = "AKIDBACKEND";

/// A request as it stands in a file: the head, an empty line, the body.
struct Recorded {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Recorded {
    /// Parses a request. None if it is no HTTP.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.windows(2).position(|two| two == b"\n\n");
        let (head, body) = match end {
            Some(end) => (text.get(..end)?, text.get(end + 2..)?),
            None => (text, &b""[..]),
        };
        let mut lines = str::from_utf8(head).ok()?.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let target = target.strip_suffix(" HTTP/1.1")?;
        let is_target = |byte: u8| byte.is_ascii_graphic();
        if !target.starts_with('/') || !target.bytes().all(is_target) {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?);
        }
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.to_owned(),
        })
    }

    fn read(&self, service: &'static str) -> Result<Option<Signature<'_>>, SignatureFault> {
        let host = self.headers.get("host");
        let request = SignedRequest {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            host: host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
            headers: &self.headers,
        };
        read::read(request, service)
    }

    /// Verifies the request at the time of its signature, which must name this key.
    fn verify(
        &self,
        service: &'static str,
        (id, key): (&str, &SigningKey),
    ) -> Result<(), SignatureFault> {
        let signature = self.read(service)?;
        let signature = signature.ok_or(SignatureFault::Malformed("no signature"))?;
        if signature.key_id() != id {
            return Err(SignatureFault::Malformed("another key"));
        }
        signature.check_time(signature.time)?;
        signature.verify_head(key)?;
        signature.verify(key, &self.body)
    }
}

/// Whether the text of a request verifies as one of the clients'.
fn verifies(text: &[u8], key: &SigningKey) -> bool {
    let request = Recorded::parse(text);
    request.is_some_and(|request| request.verify(SERVICE, (KEY_ID, key)) == Ok(()))
}

#[derive(Deserialize)]
struct ClientRequest {
    client: String,
    request: String,
}

/// The requests of foreign clients. A byte of theirs is a character in the file.
fn of_clients() -> Vec<(String, Vec<u8>)> {
    let file = include_str!("../../../../../tests/sigv4/clients.json");
    let requests: Vec<ClientRequest> = serde_json::from_str(file).unwrap();
    let byte = |character: char| u8::try_from(u32::from(character)).unwrap();
    let requests = requests.into_iter();
    requests
        .map(|each| (each.client, each.request.chars().map(byte).collect()))
        .collect()
}

#[test]
fn requests_of_foreign_clients_verify() {
    let key = SigningKey::new(SECRET);
    for (client, request) in of_clients() {
        let text = String::from_utf8_lossy(&request);
        let parsed = Recorded::parse(&request).unwrap();
        let verified = parsed.verify(SERVICE, (KEY_ID, &key));
        assert_eq!(verified, Ok(()), "{client}:\n{text}");
        let other = SigningKey::new("another secret");
        let refused = parsed.verify(SERVICE, (KEY_ID, &other));
        assert_eq!(refused, Err(SignatureFault::Mismatch), "{client}:\n{text}");
    }
}

#[derive(Deserialize)]
struct SuiteCase {
    name: String,
    secret: String,
    request: String,
}

/// The cases of AWS's suite that do not verify, with the reason.
const NOT_VERIFIED: [(&str, &str); 12] = [
    (
        "get-header-value-multiline",
        "a folded line is no HTTP any more",
    ),
    (
        "get-relative-normalized",
        "the signer takes dots out of the path",
    ),
    (
        "get-relative-relative-normalized",
        "the signer takes dots out of the path",
    ),
    (
        "get-slash-dot-slash-normalized",
        "the signer takes dots out of the path",
    ),
    (
        "get-slash-normalized",
        "the signer takes a slash out of the path",
    ),
    (
        "get-slash-pointless-dot-normalized",
        "the signer takes dots out of the path",
    ),
    (
        "get-slashes-normalized",
        "the signer takes slashes out of the path",
    ),
    (
        "get-space-normalized",
        "a target with a raw space is no HTTP",
    ),
    (
        "get-space-unnormalized",
        "a target with a raw space is no HTTP",
    ),
    ("get-utf8", "a target with raw UTF-8 is no HTTP"),
    (
        "get-vanilla-utf8-query",
        "a target with raw UTF-8 is no HTTP",
    ),
    ("post-sts-header-after", "the session token is not signed"),
];

#[test]
fn requests_of_the_suite_of_aws_verify() {
    let file = include_str!("../../../../../tests/sigv4/aws-suite.json");
    let cases: Vec<SuiteCase> = serde_json::from_str(file).unwrap();
    for case in &cases {
        let key = SigningKey::new(&case.secret);
        let request = Recorded::parse(case.request.as_bytes());
        let result = request.map(|request| request.verify("service", ("AKIDEXAMPLE", &key)));
        let (name, _) = case.name.split_once(' ').unwrap();
        let not_verified = NOT_VERIFIED.iter().find(|(listed, _)| *listed == name);
        let is_verified = result == Some(Ok(()));
        assert_eq!(
            is_verified,
            not_verified.is_none(),
            "{}: {result:?}",
            case.name
        );
    }
    assert_eq!(cases.len() - 2 * NOT_VERIFIED.len(), 52);
}

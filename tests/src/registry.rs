//! A registry of OCI images inside the test's process, which misbehaves as the test demands.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{self, SHA256};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::Certificate;

/// A registry on a port of its own. It ends when this value is dropped.
pub struct Registry {
    address: SocketAddr,
    secure: bool,
    contents: Arc<Contents>,
    _serving: JoinSet<()>,
}

/// The answers of a registry, and a record of its requests.
#[derive(Default)]
struct Contents {
    /// By path: the bytes of the answer, and the end of the connection.
    answers: Mutex<HashMap<String, (Vec<u8>, After)>>,
    /// Answers that are given once and before any other: path and bytes.
    first: Mutex<Vec<(String, Vec<u8>)>>,
    /// The challenge, and the `Authorization` that it demands; with none, no request needs one.
    authorization: Mutex<Option<(String, String)>>,
    /// The path of the token service, which needs no `Authorization`.
    token: Mutex<Option<String>>,
    asked: Mutex<Vec<String>>,
    /// Every `Authorization` so far.
    given: Mutex<Vec<String>>,
}

/// The end of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Close,
    /// The connection stays open, without another byte.
    Silence,
}

impl Registry {
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// Starts a registry with TLS.
    pub async fn secure(certificate: &Certificate) -> Self {
        Self::listen(Some(TlsAcceptor::from(certificate.server()))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let secure = tls.is_some();
        let contents = Arc::new(Contents::default());
        let mut serving = JoinSet::new();
        let served = Arc::clone(&contents);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, contents) = (tls.clone(), Arc::clone(&served));
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, contents).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, contents).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            secure,
            contents,
            _serving: serving,
        }
    }

    /// Whether the registry speaks TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host and port, as references name them.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Stores a component, and returns its reference.
    #[must_use]
    pub fn push(&self, name: &str, component: &[u8]) -> String {
        let layer = digest(component);
        self.put(&format!("/v2/{name}/blobs/{layer}"), component);
        self.push_manifest(
            name,
            &json!([{"mediaType": "application/wasm", "digest": layer, "size": component.len()}]),
        )
    }

    /// Stores a manifest with these layers, and returns its reference.
    #[must_use]
    pub fn push_manifest(&self, name: &str, layers: &serde_json::Value) -> String {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(b"{}"), "size": 2},
            "layers": layers,
        })
        .to_string();
        let digest = digest(manifest.as_bytes());
        self.put(
            &format!("/v2/{name}/manifests/{digest}"),
            manifest.as_bytes(),
        );
        format!("oci://{}/{name}@{digest}", self.host())
    }

    /// Answers a path with this content.
    pub fn put(&self, path: &str, content: &[u8]) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        self.answer(path, [head.as_bytes(), content].concat(), After::Close);
    }

    /// Answers a path with these bytes.
    pub fn answer(&self, path: &str, bytes: impl Into<Vec<u8>>, after: After) {
        let mut answers = self.contents.answers.lock().unwrap();
        answers.insert(path.to_owned(), (bytes.into(), after));
    }

    /// Answers a path with these bytes once, before its other answers.
    pub fn answer_once(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let mut first = self.contents.first.lock().unwrap();
        first.push((path.to_owned(), bytes.into()));
    }

    /// Adds these lines to the head of a path's answer.
    pub fn add_headers(&self, path: &str, lines: &str) {
        let mut answers = self.contents.answers.lock().unwrap();
        let (bytes, _) = answers.get_mut(path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        bytes.splice(end..end, lines.bytes());
    }

    /// Demands this value of `Authorization`, with a challenge for credentials.
    pub fn require(&self, authorization: &str) {
        self.require_as("Basic realm=\"here\"", authorization);
    }

    /// Demands this value of `Authorization`, with this challenge, except at the token service.
    pub fn require_as(&self, challenge: &str, authorization: &str) {
        let required = (challenge.to_owned(), authorization.to_owned());
        *self.contents.authorization.lock().unwrap() = Some(required);
    }

    /// Makes this path the token service, with this answer.
    pub fn grant(&self, path: &str, answer: &[u8]) {
        *self.contents.token.lock().unwrap() = Some(path.to_owned());
        self.put(path, answer);
    }

    /// Every `Authorization` so far.
    #[must_use]
    pub fn credentials(&self) -> Vec<String> {
        self.contents.given.lock().unwrap().clone()
    }

    /// The paths of the requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.contents.asked.lock().unwrap().clone()
    }
}

/// `sha256:` and the digest in hexadecimal.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in digest::digest(&SHA256, content).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, contents: Arc<Contents>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let given = head
        .lines()
        .find_map(|line| line.strip_prefix("authorization: "));
    contents
        .given
        .lock()
        .unwrap()
        .extend(given.map(str::to_owned));
    let without_query = path.split('?').next().unwrap();
    let required = contents.authorization.lock().unwrap().clone();
    let is_token = contents.token.lock().unwrap().as_deref() == Some(without_query);
    let refused = required
        .filter(|(_, wanted)| !is_token && given != Some(&**wanted))
        .map(|(challenge, _)| challenge);
    let answer = if let Some(challenge) = refused {
        let refusal = format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nConnection: close\r\n\
             Content-Length: 0\r\n\r\n"
        );
        Some((refusal.into(), After::Close))
    } else {
        contents.asked.lock().unwrap().push(path.clone());
        let mut first = contents.first.lock().unwrap();
        match first.iter().position(|(path, _)| path == without_query) {
            Some(at) => Some((first.remove(at).1, After::Close)),
            None => contents.answers.lock().unwrap().get(without_query).cloned(),
        }
    };
    let (bytes, after) = answer.unwrap_or_else(|| {
        let unknown = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        (unknown.into(), After::Close)
    });
    let written = socket.write_all(&bytes).await;
    if written.is_ok() && after == After::Silence {
        std::future::pending::<()>().await;
    }
    let _ = socket.shutdown().await;
}

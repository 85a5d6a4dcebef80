//! A registry of OCI images within the test's process, as honest as a test wants it.

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

/// Ends with its value.
pub struct Registry {
    address: SocketAddr,
    secure: bool,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// By path: an answer's bytes, and what comes after them.
    answers: Mutex<HashMap<String, (Vec<u8>, After)>>,
    /// What is answered first, and once: by path, an answer's bytes.
    first: Mutex<Vec<(String, Vec<u8>)>>,
    /// What `Authorization` must say, and how that is asked for; anything, if none.
    authorization: Mutex<Option<(String, String)>>,
    /// The path of the service for tokens, which asks for nothing.
    token: Mutex<Option<String>>,
    asked: Mutex<Vec<String>>,
    /// Every `Authorization` that came.
    given: Mutex<Vec<String>>,
}

/// What the registry does when it has written what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Close,
    /// It says nothing more, and holds the connection.
    Silence,
}

impl Registry {
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// With TLS.
    pub async fn secure(certificate: &Certificate) -> Self {
        Self::listen(Some(TlsAcceptor::from(certificate.server()))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let secure = tls.is_some();
        let shared = Arc::new(Shared::default());
        let mut serving = JoinSet::new();
        let known = Arc::clone(&shared);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, known) = (tls.clone(), Arc::clone(&known));
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, known).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, known).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            secure,
            shared,
            _serving: serving,
        }
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Its host and port, as a reference names it.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Takes a component in; gives the reference by which it is pulled.
    #[must_use]
    pub fn push(&self, name: &str, component: &[u8]) -> String {
        let layer = digest(component);
        self.put(&format!("/v2/{name}/blobs/{layer}"), component);
        self.push_manifest(
            name,
            &json!([{"mediaType": "application/wasm", "digest": layer, "size": component.len()}]),
        )
    }

    /// Takes a manifest in that has these layers; gives the reference.
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
        let mut answers = self.shared.answers.lock().unwrap();
        answers.insert(path.to_owned(), (bytes.into(), after));
    }

    /// Answers a path with these bytes once, before all that it is answered with else.
    pub fn answer_once(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let mut first = self.shared.first.lock().unwrap();
        first.push((path.to_owned(), bytes.into()));
    }

    /// Adds these lines to the head of what a path is answered with.
    pub fn add_headers(&self, path: &str, lines: &str) {
        let mut answers = self.shared.answers.lock().unwrap();
        let (bytes, _) = answers.get_mut(path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        bytes.splice(end..end, lines.bytes());
    }

    /// Asks for credentials: the header `Authorization` must be this.
    pub fn require(&self, authorization: &str) {
        self.require_as("Basic realm=\"here\"", authorization);
    }

    /// Asks for it in these words, everywhere but where tokens are given.
    pub fn require_as(&self, challenge: &str, authorization: &str) {
        let required = (challenge.to_owned(), authorization.to_owned());
        *self.shared.authorization.lock().unwrap() = Some(required);
    }

    /// Gives tokens at this path: answers so.
    pub fn grant(&self, path: &str, answer: &[u8]) {
        *self.shared.token.lock().unwrap() = Some(path.to_owned());
        self.put(path, answer);
    }

    /// Every header `Authorization` that was sent here.
    #[must_use]
    pub fn credentials(&self) -> Vec<String> {
        self.shared.given.lock().unwrap().clone()
    }

    /// The paths that were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
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

async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
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
    shared
        .given
        .lock()
        .unwrap()
        .extend(given.map(str::to_owned));
    let without_query = path.split('?').next().unwrap();
    let required = shared.authorization.lock().unwrap().clone();
    let is_token = shared.token.lock().unwrap().as_deref() == Some(without_query);
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
        shared.asked.lock().unwrap().push(path.clone());
        let mut first = shared.first.lock().unwrap();
        match first.iter().position(|(path, _)| path == without_query) {
            Some(at) => Some((first.remove(at).1, After::Close)),
            None => shared.answers.lock().unwrap().get(without_query).cloned(),
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

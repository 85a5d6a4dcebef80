//! A collector of traces and logs by OTLP inside the test's process, which answers as the test demands. It reads
//! Protocol Buffers by itself, so that it is another's eyes on the gateway's.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{Certificate, within};

/// A collector on a port of its own. It ends when this value is dropped.
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct State {
    exports: Mutex<Vec<Export>>,
    /// The answers to the next requests; the further ones are taken.
    answers: Mutex<VecDeque<CollectorAnswer>>,
    /// The answer to requests beyond.
    default: Mutex<CollectorAnswer>,
}

/// A request that a collector got.
#[derive(Clone, Debug)]
pub struct Export {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The message, without gRPC's frame.
    pub body: Vec<u8>,
    /// Whether it was answered as taken.
    pub is_taken: bool,
}

/// The answer to a request.
#[derive(Clone, Debug, Default)]
pub enum CollectorAnswer {
    #[default]
    Take,
    /// Takes it, but for so many items.
    TakeInPart(u64, &'static str),
    /// A status of HTTP, with these lines in the head.
    Status(u16, &'static str),
    /// A status of gRPC, with further trailers.
    Grpc(&'static [(&'static str, &'static str)]),
    /// As many bytes.
    Long(usize),
    /// None at all.
    Silence,
}

/// A span that was exported.
#[derive(Clone, Debug)]
pub struct ExportedSpan {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub begin: u64,
    pub end: u64,
    /// The spans that it has links to, each by trace and id.
    pub links: Vec<(String, String)>,
    pub attributes: BTreeMap<String, String>,
    /// 2 for an error.
    pub status: u64,
    pub status_message: String,
    pub resource: BTreeMap<String, String>,
}

/// A log line that was exported.
#[derive(Clone, Debug)]
pub struct ExportedLine {
    pub time: u64,
    pub severity: String,
    pub body: String,
    pub trace: String,
    pub span: String,
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// A collector by HTTP.
    pub async fn http() -> Self {
        Self::listen(false, None).await
    }

    /// A collector by HTTP and TLS.
    pub async fn https(certificate: &Certificate) -> Self {
        Self::listen(false, Some(TlsAcceptor::from(certificate.server()))).await
    }

    /// A collector by gRPC.
    pub async fn grpc() -> Self {
        Self::listen(true, None).await
    }

    async fn listen(is_grpc: bool, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let served = Arc::clone(&state);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, state) = (tls.clone(), Arc::clone(&served));
                connections.spawn(async move {
                    match (is_grpc, tls) {
                        (true, _) => serve_grpc(socket, state).await,
                        (false, None) => serve_http(socket, state).await,
                        (false, Some(tls)) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve_http(socket, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    /// The host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives these answers to the next requests.
    pub fn answer(&self, answers: impl IntoIterator<Item = CollectorAnswer>) {
        self.state.answers.lock().unwrap().extend(answers);
    }

    /// Gives this answer to every request that has no other.
    pub fn answer_all(&self, answer: CollectorAnswer) {
        *self.state.default.lock().unwrap() = answer;
    }

    /// The requests so far.
    #[must_use]
    pub fn exports(&self) -> Vec<Export> {
        self.state.exports.lock().unwrap().clone()
    }

    /// Waits for as many requests.
    pub async fn asked(&self, times: usize) -> Vec<Export> {
        within("the requests to the collector", async {
            loop {
                let exports = self.exports();
                if exports.len() >= times {
                    return exports;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// The spans that it took so far.
    #[must_use]
    pub fn spans(&self) -> Vec<ExportedSpan> {
        self.items("race", |resource, item| span(item, resource))
    }

    /// The log lines that it took so far.
    #[must_use]
    pub fn lines(&self) -> Vec<ExportedLine> {
        self.items("ogs", |_, item| line(item))
    }

    /// Waits for a span.
    pub async fn span(&self, what: &str, is_it: impl Fn(&ExportedSpan) -> bool) -> ExportedSpan {
        within(&format!("the span {what}"), async {
            loop {
                if let Some(span) = self.spans().into_iter().find(&is_it) {
                    return span;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Waits for a log line with this text.
    pub async fn line(&self, text: &str) -> ExportedLine {
        within(&format!("the line {text}"), async {
            loop {
                let mut lines = self.lines().into_iter();
                if let Some(line) = lines.find(|line| line.body.contains(text)) {
                    return line;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    fn items<T>(
        &self,
        signal: &str,
        read: impl Fn(&BTreeMap<String, String>, &[u8]) -> T,
    ) -> Vec<T> {
        let exports = self.exports().into_iter();
        let exports = exports.filter(|export| export.is_taken && export.path.contains(signal));
        let mut items = Vec::new();
        for export in exports {
            for of_resource in all(&export.body, 1) {
                let resource = attributes(all(of_resource, 1)[0], 1);
                for of_scope in all(of_resource, 2) {
                    assert_eq!(text(all(of_scope, 1)[0], 1), "lockgate");
                    items.extend(
                        all(of_scope, 2)
                            .into_iter()
                            .map(|item| read(&resource, item)),
                    );
                }
            }
        }
        items
    }
}

impl State {
    /// Notes a request, and gives its answer.
    fn take(&self, path: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> CollectorAnswer {
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| self.default.lock().unwrap().clone());
        self.exports.lock().unwrap().push(Export {
            path: path.to_owned(),
            headers,
            body,
            is_taken: matches!(
                answer,
                CollectorAnswer::Take | CollectorAnswer::TakeInPart(..)
            ),
        });
        answer
    }
}

/// The message that answers a request that was taken.
fn partial_success(answer: &CollectorAnswer) -> Vec<u8> {
    let CollectorAnswer::TakeInPart(rejected, why) = answer else {
        return Vec::new();
    };
    let mut partial = vec![0x08, u8::try_from(*rejected).unwrap(), 0x12];
    partial.push(u8::try_from(why.len()).unwrap());
    partial.extend_from_slice(why.as_bytes());
    [&[0x0a, u8::try_from(partial.len()).unwrap()], &*partial].concat()
}

async fn serve_http(mut socket: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let (request, head) = head.split_once("\r\n").unwrap();
        let path = request
            .strip_prefix("POST ")
            .unwrap()
            .strip_suffix(" HTTP/1.1")
            .unwrap();
        let headers: Vec<_> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.unwrap().1.parse().unwrap()];
        if socket.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer = state.take(path, headers, body);
        let (status, lines) = match answer {
            CollectorAnswer::Status(status, lines) => (status, lines),
            CollectorAnswer::Silence => std::future::pending().await,
            _ => (200, ""),
        };
        let body = match answer {
            CollectorAnswer::Long(bytes) => vec![0; bytes],
            _ => partial_success(&answer),
        };
        let head = format!(
            "HTTP/1.1 {status} As told\r\nContent-Type: application/x-protobuf\r\n{lines}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let written = socket.write_all(&[head.as_bytes(), &body].concat()).await;
        if written.is_err() {
            return;
        }
    }
}

async fn serve_grpc(socket: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let mut answering = JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let state = Arc::clone(&state);
        answering.spawn(async move {
            let (head, mut stream) = request.into_parts();
            let mut framed = Vec::new();
            while let Some(Ok(bytes)) = stream.data().await {
                let _ = stream.flow_control().release_capacity(bytes.len());
                framed.extend_from_slice(&bytes);
            }
            let (frame, body) = framed.split_at(5);
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            assert_eq!(frame, [&[0], &length[..]].concat());
            let headers = head.headers.iter();
            let headers =
                headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            let answer = state.take(head.uri.path(), headers.collect(), body.to_vec());
            let trailers = match answer {
                CollectorAnswer::Silence => std::future::pending().await,
                CollectorAnswer::Grpc(trailers) => trailers,
                _ => &[("grpc-status", "0")],
            };
            let trailers: HeaderMap = trailers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            let response = Response::builder().header("content-type", "application/grpc");
            let mut body = respond
                .send_response(response.body(()).unwrap(), false)
                .unwrap();
            let message = partial_success(&answer);
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let framed = [&[0], &length[..], &message].concat();
            body.send_data(Bytes::from(framed), false).unwrap();
            body.send_trailers(trailers).unwrap();
        });
    }
}

fn span(item: &[u8], resource: &BTreeMap<String, String>) -> ExportedSpan {
    let status = all(item, 15);
    let status = status.first().copied().unwrap_or_default();
    let links = all(item, 13).into_iter();
    ExportedSpan {
        trace: hexadecimal(item, 1),
        id: hexadecimal(item, 2),
        parent: hexadecimal(item, 4),
        name: text(item, 5),
        kind: number(item, 6),
        begin: number(item, 7),
        end: number(item, 8),
        links: links
            .map(|link| (hexadecimal(link, 1), hexadecimal(link, 2)))
            .collect(),
        attributes: attributes(item, 9),
        status: number(status, 3),
        status_message: text(status, 2),
        resource: resource.clone(),
    }
}

fn line(item: &[u8]) -> ExportedLine {
    ExportedLine {
        time: number(item, 1),
        severity: text(item, 3),
        body: all(item, 5)
            .first()
            .map(|value| any(value))
            .unwrap_or_default(),
        trace: hexadecimal(item, 9),
        span: hexadecimal(item, 10),
        attributes: attributes(item, 6),
    }
}

fn attributes(item: &[u8], field: u64) -> BTreeMap<String, String> {
    let pairs = all(item, field).into_iter();
    pairs
        .map(|pair| (text(pair, 1), any(all(pair, 2)[0])))
        .collect()
}

/// An `AnyValue`, as a text.
fn any(value: &[u8]) -> String {
    match fields(value).first() {
        Some((1, Value::Bytes(text))) => String::from_utf8(text.to_vec()).unwrap(),
        Some((2 | 3, Value::Number(number))) => number.cast_signed().to_string(),
        Some((4, Value::Number(bits))) => f64::from_bits(*bits).to_string(),
        other => panic!("no value: {other:?}"),
    }
}

fn hexadecimal(message: &[u8], field: u64) -> String {
    let bytes = all(message, field);
    let bytes = bytes.first().copied().unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(message: &[u8], field: u64) -> String {
    let bytes = all(message, field);
    String::from_utf8(bytes.first().copied().unwrap_or_default().to_vec()).unwrap()
}

fn number(message: &[u8], field: u64) -> u64 {
    let mut numbers = fields(message)
        .into_iter()
        .filter_map(|(name, value)| match value {
            Value::Number(number) if name == field => Some(number),
            _ => None,
        });
    numbers.next().unwrap_or_default()
}

fn all(message: &[u8], field: u64) -> Vec<&[u8]> {
    let fields = fields(message)
        .into_iter()
        .filter_map(|(name, value)| match value {
            Value::Bytes(bytes) if name == field => Some(bytes),
            _ => None,
        });
    fields.collect()
}

#[derive(Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// All fields of a message, which is whole.
fn fields(mut message: &[u8]) -> Vec<(u64, Value<'_>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let length = message.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let (digits, rest) = message.split_at(length);
        *message = rest;
        let digits = digits.iter().rev();
        digits.fold(0, |number, digit| number << 7 | u64::from(digit & 0x7f))
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)),
            1 => {
                let (number, rest) = message.split_first_chunk::<8>().unwrap();
                message = rest;
                Value::Number(u64::from_le_bytes(*number))
            }
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                let (bytes, rest) = message.split_at(length);
                message = rest;
                Value::Bytes(bytes)
            }
            5 => {
                let (number, rest) = message.split_first_chunk::<4>().unwrap();
                message = rest;
                Value::Number(u32::from_le_bytes(*number).into())
            }
            other => panic!("a field of the type {other}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

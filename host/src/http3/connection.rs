//! A connection, its control streams and its requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::{BodyExt as _, Full};
use quinn::{ConnectionError, RecvStream, VarInt};
use tokio::task::{JoinSet, coop};
use tokio::time::timeout;

use super::body::Body;
use super::code::Code;
use super::qpack::Unreadable;
use super::request::{RequestStart, Start};
use super::session::{Deciding, MessageStream, Session, Sessions};
use super::stream::Stream;
use super::uni::{Critical, UniStream};
use super::window::{Line, Sending};
use super::{MAX_HEAD, frame, message, qpack, settings, varint};

/// The type of a control stream.
const CONTROL: u8 = 0x00;

/// Most bytes of a unidirectional stream that are read at once.
const READ: usize = 1 << 10;

/// Time for a client that takes nothing of an answer, and to take its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// A connection of which the gateway's settings are sent.
pub(crate) struct Connection {
    quic: quinn::Connection,
    /// The streams that wait for the send window, and the gateway's control stream.
    line: Arc<Line>,
    critical: Arc<Mutex<Critical>>,
    sessions: Arc<Sessions>,
    /// A task for each unidirectional stream of the client.
    unis: JoinSet<Result<(), Code>>,
    /// The first request's stream that has not come.
    next: u64,
}

/// A request's stream, before its answer.
pub(crate) struct RequestStream {
    quic: quinn::Connection,
    sessions: Arc<Sessions>,
    send: Sending,
    receive: RecvStream,
}

/// The reason why a stream has no head.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The head is larger than it may be.
    TooLarge,
    /// The stream belongs to the WebTransport session with this number.
    OfSession(u64),
    /// The stream, or its connection, has ended.
    Ended,
}

impl Connection {
    /// Opens the gateway's control stream. Waits until the client allows one.
    pub(crate) async fn open(quic: quinn::Connection) -> Result<Self, ConnectionError> {
        let mut control = quic.open_uni().await?;
        let mut start = vec![CONTROL];
        start.extend(settings::own());
        // The client may have gone: its next stream tells.
        let _ = control.write_all(&start).await;
        Ok(Self {
            quic,
            line: Line::new(control),
            critical: Arc::default(),
            sessions: Arc::default(),
            unis: JoinSet::new(),
            next: 0,
        })
    }

    /// Gives the next request's stream, and serves the client's control streams meanwhile. May be dropped and called
    /// again.
    pub(crate) async fn accept(&mut self) -> Result<RequestStream, ConnectionError> {
        loop {
            tokio::select! {
                streams = self.quic.accept_bi() => {
                    let (send, receive) = streams?;
                    let id = VarInt::from(send.id()).into_inner();
                    self.next = self.next.max(id + 4);
                    let (quic, sessions) = (self.quic.clone(), Arc::clone(&self.sessions));
                    let send = self.line.stream(send);
                    return Ok(RequestStream { quic, sessions, send, receive });
                }
                receive = self.quic.accept_uni() => {
                    let critical = Arc::clone(&self.critical);
                    let sessions = Arc::clone(&self.sessions);
                    self.unis.spawn(read_uni(receive?, critical, sessions));
                }
                datagram = self.quic.read_datagram() => {
                    if let Err(code) = self.sessions.give_datagram(datagram?) {
                        self.quic.close(code.into(), b"");
                    }
                    // A client that sends many leaves the thread to others, too.
                    coop::consume_budget().await;
                }
                never = self.line.tend() => match never {},
                Some(read) = self.unis.join_next() => {
                    if let Ok(Err(code)) = read {
                        self.quic.close(code.into(), b"");
                    }
                }
            }
        }
    }

    /// Tells the client to make further requests elsewhere (RFC 9114 §5.2), those on streams that are accepted from now on.
    pub(crate) async fn go_away(&mut self) {
        let (mut id, mut goaway) = (Vec::new(), Vec::new());
        varint::put(&mut id, self.next);
        frame::put(&mut goaway, frame::GOAWAY, &id);
        // A client that takes nothing need not be told.
        let _ = timeout(LAST_BYTES, self.line.write_control(&goaway)).await;
    }

    /// Raises the limit of bidirectional streams that the client has open.
    pub(crate) fn raise_limit(&self, streams: u32) {
        self.quic.set_max_concurrent_bi_streams(streams.into());
    }

    /// Ends the connection and all that is open on it.
    pub(crate) fn close(&self) {
        self.quic.close(Code::None.into(), b"");
    }
}

/// Reads a unidirectional stream to its end. An error ends the connection.
async fn read_uni(
    mut receive: RecvStream,
    critical: Arc<Mutex<Critical>>,
    sessions: Arc<Sessions>,
) -> Result<(), Code> {
    let mut stream = UniStream::new();
    let taken = |kind| {
        let mut critical = critical.lock().unwrap_or_else(PoisonError::into_inner);
        critical.take(kind)
    };
    loop {
        let Ok(Some(chunk)) = receive.read_chunk(READ, true).await else {
            return stream.end();
        };
        stream.read(&chunk.bytes, taken)?;
        // A client that sends much leaves the thread to others.
        coop::consume_budget().await;
        if stream.takes_datagrams() {
            sessions.allow_datagrams();
        }
        if let UniStream::Unknown = stream {
            let _ = receive.stop(Code::StreamCreation.into());
            return Ok(());
        }
    }
}

impl RequestStream {
    /// Reads the head of the request. On an error nothing is left to do, but for one that can be answered.
    pub(crate) async fn head(&mut self) -> Result<Parts, NoHead> {
        let mut start = RequestStart::new();
        let section = loop {
            let Ok(Some(chunk)) = self.receive.read_chunk(start.wants(), true).await else {
                self.reset(Code::RequestIncomplete);
                return Err(NoHead::Ended);
            };
            match start.read(&chunk.bytes) {
                Ok(None) => {}
                Ok(Some(Start::Fields(section))) => break section,
                Ok(Some(Start::TooLarge)) => return Err(NoHead::TooLarge),
                Ok(Some(Start::OfSession(id))) => return Err(NoHead::OfSession(id)),
                Err(code) => return Err(self.end_connection(code)),
            }
        };
        match qpack::decode(&section, MAX_HEAD) {
            Ok(fields) => message::request(fields).ok_or_else(|| {
                self.reset(Code::Message);
                NoHead::Ended
            }),
            Err(Unreadable::TooLarge) => Err(NoHead::TooLarge),
            Err(Unreadable::Malformed) => Err(self.end_connection(Code::QpackDecompression)),
        }
    }

    /// The body of the request with this head.
    pub(crate) fn body(&mut self, head: &Parts) -> Body<'_> {
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Body::new(&self.quic, &mut self.receive, length)
    }

    fn end_connection(&self, code: Code) -> NoHead {
        self.quic.close(code.into(), b"");
        NoHead::Ended
    }

    /// Waits until the client resets the stream, or its connection ends.
    pub(crate) async fn reset_by_client(&mut self) {
        let stopped = self.send.stopped();
        tokio::select! {
            () = stopped => {}
            () = async {
                if !matches!(self.receive.received_reset().await, Ok(Some(_)) | Err(_)) {
                    // The client has said all.
                    std::future::pending::<()>().await;
                }
            } => {}
        }
    }

    /// Ends the stream without an answer.
    pub(crate) fn reset(&mut self, code: Code) {
        self.send.reset(code);
        let _ = self.receive.stop(code.into());
    }

    /// Gives a stream to the WebTransport session that it belongs to. Waits for the session's request, at most for the
    /// limit, and then as long as that is being decided.
    pub(crate) async fn give_to_session(self, id: u64, limit: Duration) {
        let stream = MessageStream::new(self.send, self.receive);
        self.sessions.give(id, stream, limit).await;
    }

    /// Has a stream of this request's session wait for the answer, until that is dropped.
    pub(crate) fn decide_session(&self) -> Deciding {
        let id = VarInt::from(self.send.id()).into_inner();
        Deciding::begin(id, Arc::clone(&self.sessions))
    }

    /// Answers an extended CONNECT with this 200. Waits until the client allows its bytes, which it may never do. False
    /// if it has gone.
    pub(crate) async fn admit(&mut self, response: &Response<Full<Bytes>>) -> bool {
        let mut out = Vec::new();
        frame::put(&mut out, frame::HEADERS, &message::answer(response));
        self.send.write_all(&out).await.is_ok()
    }

    /// The WebTransport session that the answer has opened.
    pub(crate) fn into_session(self) -> Session {
        let id = VarInt::from(self.send.id()).into_inner();
        let sessions = Arc::clone(&self.sessions);
        Session::open(id, self.into_bytes(), sessions)
    }

    /// The stream of bytes that the answer has opened.
    pub(crate) fn into_bytes(self) -> Stream {
        Stream::new(self.quic, self.send, self.receive)
    }

    /// Answers with the whole of a response, and waits until the client has it.
    pub(crate) async fn answer(mut self, response: Response<Full<Bytes>>) {
        let mut out = Vec::new();
        frame::put(&mut out, frame::HEADERS, &message::answer(&response));
        let Ok(body) = response.into_body().collect().await;
        let body = body.to_bytes();
        if !body.is_empty() {
            frame::put(&mut out, frame::DATA, &body);
        }
        // quinn ends a dropped stream in order: one that was cut within a frame would end the client's whole connection
        // (RFC 9114 §7.1).
        if self.send.write_while_taken(&out, LAST_BYTES).await.is_err() {
            return self.reset(Code::RequestCancelled);
        }
        let arriving = self.send.finish();
        // The client need not send the rest of its request.
        let _ = self.receive.stop(Code::None.into());
        let _ = timeout(LAST_BYTES, arriving).await;
    }
}

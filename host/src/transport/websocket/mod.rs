//! The WebSocket protocol over one socket. The fast path reads simple messages, tungstenite reads and judges all
//! other input, and all output gathers in one buffer that leaves in one write.

pub(crate) mod fast_path;
pub(crate) mod flood_guard;
mod frame;

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use tokio_util::io::poll_read_buf;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

use self::fast_path::Parsed;
use self::flood_guard::{Flood, FloodGuard, Offence};
use crate::clock::now_ms;
use crate::config::StageLimits;
use crate::connections::{Closer, Closing, Message, Outbox, Taken};
use crate::net::{Acknowledged, LastBytes, Written, poll_discard};
use crate::transport::{ReadError, Received, Transport};

/// Bytes that are read at a time while no message is unfinished: on the stack, where they cost nothing.
const READ_BUFFER: usize = 64 << 10;

/// Bytes that tungstenite reads at a time, after filling them with zeros.
const MIN_READ: usize = 16 << 10;

/// Bytes in the write buffer at which reading stops: so the pongs to a client that does not read are bounded too.
pub(super) const FULL_BUFFER: usize = 64 << 10;

/// The largest write: HTTP/2 keeps a copy of each write until it has left. A little more than a full buffer, so that
/// a few messages that just fill it leave in one write with their headers.
pub(super) const MAX_WRITE: usize = FULL_BUFFER + (4 << 10);

/// Bytes that an empty write buffer keeps.
const KEPT_BUFFER: usize = 4 << 10;

pub(crate) struct WebSocket<S> {
    socket: S,
    /// Input that is not parsed yet: none, while a client is quiet.
    unread: BytesMut,
    /// The start of the unread input, if it is a message that has not come whole.
    unread_since: Option<Instant>,
    config: WebSocketConfig,
    /// None while the fast path reads all input.
    tungstenite: Option<Box<WebSocketContext>>,
    flood_guard: FloodGuard,
    /// A flood behind the input that tungstenite has: the client is told once that is taken.
    flood: Option<Flood>,
    /// Messages and control frames that were taken, of those that the flood guard has seen whole.
    taken: u64,
    out: WriteBuffer,
    /// Bytes of the longest frame that is sent.
    max_frame_out: usize,
    /// Whether bytes have come since the last call of [`Transport::heard`].
    heard: bool,
    /// The time of the last bytes, in milliseconds since the Unix epoch.
    heard_at: u64,
}

/// The write buffer: whole frames, of which the first `written` bytes have gone.
#[derive(Default)]
pub(super) struct WriteBuffer {
    pub(super) bytes: Vec<u8>,
    written: usize,
}

impl WriteBuffer {
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Notes that `bytes` have gone. Drops the written bytes once they are many beside those that wait: moving these
    /// costs at most two copies of each byte, and a client that never takes all of it does not make the buffer
    /// longer.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        let waiting = self.bytes.len() - self.written;
        if waiting == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BUFFER);
        } else if self.written >= FULL_BUFFER.max(waiting / 2) {
            self.bytes.drain(..self.written);
            if self.bytes.capacity() > 2 * (waiting + FULL_BUFFER) {
                self.bytes.shrink_to(waiting + FULL_BUFFER);
            }
        } else {
            return;
        }
        self.written = 0;
    }
}

impl<S: Acknowledged + AsyncRead + AsyncWrite + Send + Unpin> WebSocket<S> {
    /// `early` are bytes that came with the end of the handshake. They are copied: the buffer that the head was read
    /// into would be kept with them.
    pub(crate) fn new(socket: S, early: &[u8], limits: &StageLimits) -> Self {
        let mut websocket = Self {
            socket,
            unread: BytesMut::from(early),
            unread_since: None,
            config: WebSocketConfig::default().write_buffer_size(0),
            tungstenite: None,
            flood_guard: FloodGuard::new(limits),
            flood: None,
            taken: 0,
            out: WriteBuffer::default(),
            max_frame_out: usize::MAX,
            heard: false,
            heard_at: now_ms(),
        };
        websocket.set_limits(limits);
        websocket
    }

    /// Bytes of the longest message in one frame.
    fn max_simple_message(&self) -> usize {
        let (frame, message) = (self.config.max_frame_size, self.config.max_message_size);
        frame
            .zip(message)
            .map_or(0, |(frame, message)| frame.min(message))
    }

    /// Reads input: gives a simple message that has come at once, and leaves all other input unread.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Message>, ReadError>> {
        let socket = Pin::new(&mut self.socket);
        if !self.unread.is_empty() {
            self.unread_since.get_or_insert_with(Instant::now);
            self.unread.reserve(MIN_READ);
            let read = ready!(poll_read_buf(socket, context, &mut self.unread));
            return Poll::Ready(self.note_received(read.unwrap_or(0)).map(|()| None));
        }
        let mut scratch = [const { MaybeUninit::uninit() }; READ_BUFFER];
        let mut buffer = ReadBuf::uninit(&mut scratch);
        // An error counts as the end.
        let _ = ready!(socket.poll_read(context, &mut buffer));
        let bytes = buffer.filled();
        self.note_received(bytes.len())?;
        let (message, rest) = match fast_path::parse(bytes, self.max_simple_message()) {
            Parsed::Message(message, length) => (Some(message), bytes.split_at(length).1),
            // More is to come: room for it saves copies. Unwritten room takes no memory.
            Parsed::Unfinished => {
                self.unread.reserve(READ_BUFFER);
                (None, bytes)
            }
            Parsed::Other => (None, bytes),
        };
        self.unread.extend_from_slice(rest);
        Poll::Ready(Ok(message))
    }

    /// Notes that `bytes` have come; none means the end.
    fn note_received(&mut self, bytes: usize) -> Result<(), ReadError> {
        (self.heard, self.heard_at) = (true, now_ms());
        if bytes == 0 {
            Err(ReadError::Gone)
        } else {
            Ok(())
        }
    }

    fn take_unread(&mut self, length: usize) {
        self.unread_since = None;
        if length == self.unread.len() {
            self.unread = BytesMut::new();
        } else {
            self.unread.advance(length);
            if length > READ_BUFFER {
                // The buffer of a large message would be kept for the few bytes behind it.
                self.unread = BytesMut::from(&*self.unread);
            }
        }
    }

    /// Hands the unread and all further input to tungstenite.
    fn start_tungstenite(&mut self) -> Result<(), ReadError> {
        let mut bytes = std::mem::take(&mut self.unread);
        self.unread_since = None;
        if let Err(Offence { flood, before }) = self.flood_guard.pass(&bytes) {
            if before == 0 {
                return Err(ReadError::Flood(flood));
            }
            bytes.truncate(before);
            self.flood = Some(flood);
        }
        // Input that ends with a message needs no room for more.
        let size = if self.flood_guard.between_messages() {
            bytes.len()
        } else {
            MIN_READ
        };
        let config = self.config.read_buffer_size(size);
        let context =
            WebSocketContext::from_partially_read(bytes.into(), Role::Server, Some(config));
        self.tungstenite = Some(Box::new(context));
        Ok(())
    }

    fn with_tungstenite<T>(
        &mut self,
        context: &mut Context<'_>,
        told: &mut Option<Flood>,
        act: impl FnOnce(&mut WebSocketContext, &mut SyncIo<'_, '_, S>) -> tungstenite::Result<T>,
    ) -> tungstenite::Result<T> {
        let Some(tungstenite) = &mut self.tungstenite else {
            return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
        };
        let mut io = SyncIo {
            socket: &mut self.socket,
            flood_guard: &mut self.flood_guard,
            out: &mut self.out.bytes,
            heard: (&mut self.heard, &mut self.heard_at),
            context,
            flood: &mut self.flood,
            told,
        };
        act(tungstenite, &mut io)
    }
}

impl<S: Acknowledged + AsyncRead + Unpin> LastBytes for WebSocket<S> {
    fn poll_discard(&mut self, context: &mut Context<'_>, heard: &mut bool) -> Poll<()> {
        poll_discard(&mut self.socket, context, heard)
    }

    fn unacknowledged(&self) -> usize {
        self.socket.unacknowledged()
    }

    fn link(&self) -> Option<Written> {
        self.socket.link()
    }
}

impl<S: Acknowledged + AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    fn set_limits(&mut self, limits: &StageLimits) {
        self.flood_guard.set_limits(limits);
        self.config.max_message_size = Some(limits.message_bytes);
        self.config.max_frame_size = Some(limits.frame_bytes);
        self.max_frame_out = limits.compat.max_frame_out();
        let config = self.config;
        if let Some(tungstenite) = &mut self.tungstenite {
            tungstenite.set_config(|current| *current = config);
        }
    }

    fn message_since(&self) -> Option<Instant> {
        self.unread_since
            .or_else(|| self.flood_guard.message_since())
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, ReadError>> {
        while self.tungstenite.is_none() {
            if let Some(flood) = self.flood.take() {
                return Poll::Ready(Err(ReadError::Flood(flood)));
            }
            match fast_path::parse(&self.unread, self.max_simple_message()) {
                Parsed::Message(message, length) => {
                    self.take_unread(length);
                    return Poll::Ready(Ok(Received::Message(message)));
                }
                Parsed::Unfinished => {
                    if let Some(message) = ready!(self.poll_fill(context))? {
                        return Poll::Ready(Ok(Received::Message(message)));
                    }
                }
                Parsed::Other => self.start_tungstenite()?,
            }
        }
        let mut told = None;
        let read =
            self.with_tungstenite(context, &mut told, |tungstenite, io| tungstenite.read(io));
        if let Some(flood) = told {
            return Poll::Ready(Err(ReadError::Flood(flood)));
        }
        if read.is_ok() {
            self.taken += 1;
        }
        let received = match read {
            Ok(tungstenite::Message::Text(text)) => {
                Ok(Received::Message(Message::Text(text.as_str().to_owned())))
            }
            Ok(tungstenite::Message::Binary(bytes)) => {
                Ok(Received::Message(Message::Binary(bytes.into())))
            }
            Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_)) => {
                // tungstenite would send a pong at its next read: this sends it now.
                let _ = self
                    .with_tungstenite(context, &mut None, |tungstenite, io| tungstenite.flush(io));
                Ok(Received::Control)
            }
            // tungstenite's own close is never flushed: `End` alone decides the close for the client, which goes
            // behind the answers to its earlier messages.
            Ok(tungstenite::Message::Close(None)) => Err(ReadError::Closed(None)),
            Ok(tungstenite::Message::Close(Some(frame))) => Err(close_error(&frame)),
            Ok(tungstenite::Message::Frame(_)) => Err(ReadError::Protocol("a raw frame".into())),
            Err(error) => match read_error(error) {
                Some(error) => Err(error),
                None => return Poll::Pending,
            },
        };
        if self.flood_guard.between_messages() && self.taken == self.flood_guard.whole() {
            self.tungstenite = None;
        }
        Poll::Ready(received)
    }

    fn take(&mut self, outbox: &Outbox) -> Taken {
        let waiting = self.waiting();
        let (out, longest) = (&mut self.out.bytes, self.max_frame_out);
        outbox.take(waiting, FULL_BUFFER, |payload| {
            frame::write_message(out, payload.kind, &payload.bytes, longest)
        })
    }

    fn is_full(&self) -> bool {
        self.waiting() >= FULL_BUFFER
    }

    fn waiting(&self) -> usize {
        self.out.waiting().len()
    }

    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = self.out.waiting() {
            let next = rest.get(..MAX_WRITE).unwrap_or(rest);
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, next))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.out.advance(written);
        }
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn send(&mut self, message: &Message) {
        let (out, longest) = (&mut self.out.bytes, self.max_frame_out);
        frame::write_message(out, message.kind(), message.bytes(), longest);
    }

    fn ping(&mut self) {
        frame::write(&mut self.out.bytes, frame::PING, &[]);
    }

    fn close(&mut self, closing: Option<&Closing>) {
        let payload = closing.map_or_else(Vec::new, |closing| {
            [&closing.code.to_be_bytes(), closing.reason.as_bytes()].concat()
        });
        frame::write(&mut self.out.bytes, frame::CLOSE, &payload);
    }

    fn drop_input(&mut self) {
        self.unread = BytesMut::new();
        self.tungstenite = None;
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    fn heard_at(&self) -> u64 {
        self.heard_at
    }
}

/// The socket for tungstenite: a read that would block says so, a write goes to the buffer.
struct SyncIo<'a, 'c, S> {
    socket: &'a mut S,
    flood_guard: &'a mut FloodGuard,
    out: &'a mut Vec<u8>,
    heard: (&'a mut bool, &'a mut u64),
    context: &'a mut Context<'c>,
    /// A flood behind the input that was read.
    flood: &'a mut Option<Flood>,
    /// The flood for which a read failed.
    told: &'a mut Option<Flood>,
}

impl<S: AsyncRead + Unpin> Read for SyncIo<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Some(flood) = self.flood.take() {
            *self.told = Some(flood);
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut buffer = ReadBuf::new(bytes);
        if Pin::new(&mut *self.socket)
            .poll_read(self.context, &mut buffer)?
            .is_pending()
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        (*self.heard.0, *self.heard.1) = (true, now_ms());
        if let Err(Offence { flood, before }) = self.flood_guard.pass(buffer.filled()) {
            if before > 0 {
                *self.flood = Some(flood);
                return Ok(before);
            }
            *self.told = Some(flood);
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(buffer.filled().len())
    }
}

impl<S> Write for SyncIo<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns a client's close frame into a [`ReadError`]. tungstenite gives 1002 and its own reason for a code that no
/// endpoint may send.
fn close_error(frame: &CloseFrame) -> ReadError {
    let (code, reason) = (frame.code.into(), frame.reason.as_str());
    if (code, reason) == (1002, "Protocol violation") {
        return ReadError::Protocol("the close code is not allowed".into());
    }
    ReadError::Closed(Some(Closing::new(code, reason).by(Closer::Client)))
}

/// Turns an error of tungstenite into a [`ReadError`]; none when there is nothing to read now.
fn read_error(error: tungstenite::Error) -> Option<ReadError> {
    use tungstenite::Error;
    Some(match error {
        Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ReadError::TooLarge,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ReadError::Gone,
        Error::Protocol(error) => ReadError::Protocol(error.to_string()),
        Error::Utf8(_) => ReadError::Utf8,
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Capacity(CapacityError::TooManyHeaders)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Tls(_)
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => ReadError::Gone,
    })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use lockgate_tests::{Frame as RawFrame, Opcode};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::task::coop::unconstrained;

    use super::*;
    use crate::connections::{OutboxLimits, Payload};

    /// The buffer of a large message goes with the message, even when a ping comes in between.
    #[tokio::test]
    async fn quiet_connection_keeps_no_buffer_of_a_message_in_fragments() {
        let limits = StageLimits::default();
        let (near, mut far) = duplex(1 << 20);
        let mut websocket = WebSocket::new(near, &[], &limits);
        let part = vec![7; limits.message_bytes / 2];
        let first = RawFrame::new(Opcode::BINARY, part.clone()).unfinished();
        let ping = RawFrame::new(Opcode::PING, "p");
        let last = RawFrame::new(Opcode::CONTINUATION, part);
        for frame in [first, ping, last] {
            far.write_all(&frame.bytes()).await.unwrap();
        }
        let read = loop {
            match poll_fn(|context| websocket.poll_read(context))
                .await
                .unwrap()
            {
                Received::Message(message) => break message,
                Received::Datagram(_) | Received::Control => {}
            }
        };
        assert_eq!(read.len(), limits.message_bytes);
        let quiet = poll_fn(|context| Poll::Ready(websocket.poll_read(context).is_pending()));
        assert!(quiet.await, "there is nothing more");
        assert!(websocket.tungstenite.is_none(), "its buffers are kept");
        assert_eq!(websocket.unread.capacity(), 0);
    }

    /// A client with a constant backlog, of which it takes only a part at a time.
    #[tokio::test]
    async fn buffer_of_client_that_reads_slowly_is_bounded() {
        const LIMITS: OutboxLimits = OutboxLimits {
            bytes: 1 << 20,
            messages: 1_024,
        };
        let (near, mut far) = duplex(16 << 10);
        let mut websocket = WebSocket::new(near, &[], &StageLimits::default());
        let (outbox, mut longest) = (Outbox::new(), 0);
        for letters in [1_000, 100_000] {
            let message = Payload::from(Message::Binary(vec![7; letters]));
            for _ in 0..5_000 {
                while outbox.push(message.clone(), LIMITS).is_ok() {}
                websocket.take(&outbox);
                let full = unconstrained(poll_fn(|context| {
                    Poll::Ready(websocket.poll_flush(context, &mut false).is_pending())
                }));
                assert!(full.await, "more waits than the socket takes");
                longest = longest.max(websocket.out.bytes.capacity());
                far.read_exact(&mut [0; 10 << 10]).await.unwrap();
            }
        }
        assert!(longest <= 4 * FULL_BUFFER + 100_000, "{longest} bytes");
    }
}

//! WebTransport sessions over HTTP/3: messages on the client's first bidirectional stream, closes on the stream of the
//! session itself.
//!
//! A message is framed as Engine.IO frames it: a byte with the kind (binary: the highest bit) and the length, which goes on
//! in two bytes (126) or eight (127) as a WebSocket's does, and then the payload. A client ends its stream and then closes the
//! session, which goes on until then. Without a close, an end of either stream is one like a cut socket's. QUIC finds dead
//! clients, so a session sends no pings.
//!
//! A datagram is a binary message that may be lost. Those of the client wait in a short queue of the session; those to it
//! pass this module by ([`crate::connections::DatagramSink`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use super::websocket::{FULL_BUFFER, MAX_WRITE, WriteBuffer};
use crate::clock::now_ms;
use crate::config::StageLimits;
use crate::connections::{Closing, Message, MessageKind, Outbox, Taken};
use crate::counters::DatagramCounters;
use crate::http3::{MessageStream, Session, SessionClose};
use crate::net::LastBytes;
use crate::transport::{ReadError, Received, Transport};

/// Bytes that are read at a time.
const READ: usize = 16 << 10;

/// Time for a client to open its stream.
const STREAM_TIME: Duration = Duration::from_secs(10);

/// Time for a client that has ended its stream to close the session: over a bad network the close may be lost several
/// times, and each time takes twice as long as the one before.
const CLOSE_TIME: Duration = Duration::from_secs(25);

/// The bit of a frame's first byte that tells binary from text.
const BINARY: u8 = 0x80;

/// The lengths in the first byte that stand for two bytes of length, and for eight.
const TWO: u8 = 126;
const EIGHT: u8 = 127;

pub(crate) struct WebTransport {
    session: Session,
    /// None until the client has opened it.
    stream: Option<MessageStream>,
    /// The time limit for that.
    stream_due: Option<Pin<Box<Sleep>>>,
    /// The client's half of the stream has ended.
    has_ended: bool,
    /// The time limit for the close behind an end in order.
    close_due: Option<Pin<Box<Sleep>>>,
    /// The client has closed the session: it is told nothing more.
    is_closed: bool,
    /// The last message came as a datagram: the next is one of the stream, if there is any.
    was_datagram: bool,
    datagrams: Arc<DatagramCounters>,
    unread: BytesMut,
    unread_since: Option<Instant>,
    /// Bytes of the longest message.
    longest: usize,
    out: WriteBuffer,
    /// The close that is told once the messages have arrived.
    closing: Option<SessionClose>,
    arriving: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    heard: bool,
    heard_at: u64,
}

/// The beginning of the unread bytes.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// A message, and the bytes of its frame.
    Message(Message, usize),
    Unfinished,
}

impl WebTransport {
    pub(crate) fn new(
        session: Session,
        limits: &StageLimits,
        datagrams: Arc<DatagramCounters>,
    ) -> Self {
        Self {
            session,
            stream: None,
            stream_due: Some(Box::pin(sleep(STREAM_TIME))),
            has_ended: false,
            close_due: None,
            is_closed: false,
            was_datagram: false,
            datagrams,
            unread: BytesMut::new(),
            unread_since: None,
            longest: limits.message_bytes,
            out: WriteBuffer::default(),
            closing: None,
            arriving: None,
            heard: false,
            heard_at: now_ms(),
        }
    }

    fn take_parsed(&mut self) -> Result<Option<Message>, ReadError> {
        let Parsed::Message(message, length) = parse(&self.unread, self.longest)? else {
            return Ok(None);
        };
        self.unread_since = None;
        if length == self.unread.len() {
            // A quiet client keeps no buffer.
            self.unread = BytesMut::new();
        } else {
            self.unread.advance(length);
        }
        Ok(Some(message))
    }

    fn poll_datagram(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, ReadError>> {
        let datagram = ready!(self.session.poll_datagram(context));
        (self.heard, self.heard_at) = (true, now_ms());
        if datagram.len() > self.longest {
            return Poll::Ready(Err(ReadError::TooLarge));
        }
        self.was_datagram = true;
        self.datagrams.incoming.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(Received::Datagram(datagram)))
    }

    /// Reads more. False if nothing is there now.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Result<bool, ReadError> {
        let Some(stream) = &mut self.stream else {
            return match self.session.poll_stream(context) {
                Poll::Ready(stream) => {
                    self.stream_due = None;
                    self.stream = Some(stream.ok_or(ReadError::Gone)?);
                    Ok(true)
                }
                Poll::Pending => {
                    let due = self.stream_due.as_mut();
                    match due.is_some_and(|due| due.as_mut().poll(context).is_ready()) {
                        true => Err(ReadError::Protocol(
                            "the client has opened no stream for messages".into(),
                        )),
                        false => Ok(false),
                    }
                }
            };
        };
        if self.has_ended {
            return Ok(false);
        }
        self.unread.reserve(READ);
        match poll_read_buf(Pin::new(stream), context, &mut self.unread) {
            Poll::Ready(Ok(1..)) => {
                (self.heard, self.heard_at) = (true, now_ms());
                self.unread_since.get_or_insert_with(Instant::now);
                Ok(true)
            }
            // The close of the session follows.
            Poll::Ready(Ok(0)) if self.unread.is_empty() => {
                self.unread = BytesMut::new();
                self.has_ended = true;
                self.close_due = Some(Box::pin(sleep(CLOSE_TIME)));
                Ok(false)
            }
            // It may follow: it is asked for at the next read.
            Poll::Ready(Ok(0) | Err(_)) => {
                self.has_ended = true;
                Err(ReadError::Gone)
            }
            Poll::Pending => {
                if self.unread.is_empty() {
                    self.unread = BytesMut::new();
                }
                Ok(false)
            }
        }
    }
}

impl LastBytes for WebTransport {
    /// The client itself has acknowledged the end by now: QUIC has no proxy that does so for it.
    fn poll_discard(&mut self, context: &mut Context<'_>, _: &mut bool) -> Poll<()> {
        self.session.poll_closed(context).map(drop)
    }

    /// The end of the session waits for the client by itself.
    fn unacknowledged(&self) -> usize {
        0
    }
}

impl Transport for WebTransport {
    fn set_limits(&mut self, limits: &StageLimits) {
        self.longest = limits.message_bytes;
        self.session
            .take_datagrams(limits.datagrams, &self.datagrams);
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, ReadError>> {
        // Neither the datagrams of a client nor its stream keep the other waiting.
        let in_turn = !std::mem::take(&mut self.was_datagram);
        if in_turn && let Poll::Ready(datagram) = self.poll_datagram(context) {
            return Poll::Ready(datagram);
        }
        loop {
            if let Some(message) = self.take_parsed()? {
                return Poll::Ready(Ok(Received::Message(message)));
            }
            if !self.poll_fill(context)? {
                break;
            }
        }
        if !in_turn && let Poll::Ready(datagram) = self.poll_datagram(context) {
            return Poll::Ready(datagram);
        }
        // Messages that have come before the close count.
        Poll::Ready(Err(match self.session.poll_closed(context) {
            Poll::Ready(Ok(close)) => {
                self.is_closed = true;
                closed(&close)
            }
            Poll::Ready(Err(_)) => ReadError::Gone,
            Poll::Pending => {
                let due = self.close_due.as_mut();
                ready!(due.map_or(Poll::Pending, |due| due.as_mut().poll(context)));
                self.close_due = None;
                ReadError::Gone
            }
        }))
    }

    fn heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    fn heard_at(&self) -> u64 {
        self.heard_at
    }

    fn message_since(&self) -> Option<Instant> {
        self.unread_since
    }

    fn drop_input(&mut self) {
        self.unread = BytesMut::new();
        self.has_ended = true;
    }

    fn take(&mut self, outbox: &Outbox) -> Taken {
        let waiting = self.waiting();
        let out = &mut self.out.bytes;
        outbox.take(waiting, FULL_BUFFER, |payload| {
            write(out, payload.kind, &payload.bytes)
        })
    }

    fn send(&mut self, message: &Message) {
        write(&mut self.out.bytes, message.kind(), message.bytes());
    }

    /// QUIC has pings of its own, and ends the connection of a client that does not answer.
    fn ping(&mut self) {
        self.heard = true;
    }

    fn close(&mut self, closing: Option<&Closing>) {
        if self.is_closed {
            return;
        }
        self.closing = Some(SessionClose {
            code: closing.map_or(0, |closing| closing.code.into()),
            reason: closing.map_or_else(String::new, |closing| closing.reason.to_string()),
        });
    }

    fn waiting(&self) -> usize {
        self.out.waiting().len()
    }

    fn is_full(&self) -> bool {
        self.waiting() >= FULL_BUFFER
    }

    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = self.out.waiting() {
            let Some(stream) = &mut self.stream else {
                // The next read asks for it. A session that closes has nowhere to send to.
                return match self.closing {
                    Some(_) => Poll::Ready(Ok(())),
                    None => Poll::Pending,
                };
            };
            let next = rest.get(..MAX_WRITE).unwrap_or(rest);
            let written = ready!(Pin::new(stream).poll_write(context, next))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn give_up_messages(&mut self) -> bool {
        self.out = WriteBuffer::default();
        // It is reset, and no longer waited for.
        (self.stream, self.arriving) = (None, None);
        true
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(closing) = &self.closing {
            if let Some(stream) = &mut self.stream {
                let arriving = &mut self.arriving;
                let arriving = arriving.get_or_insert_with(|| stream.finish());
                ready!(arriving.as_mut().poll(context));
            }
            self.session.close(closing);
            self.closing = None;
        }
        self.session.poll_close(context)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.poll_shutdown(context)
    }
}

/// Turns a client's close into a [`ReadError`]: 0 is the code of a session that is closed without one. 1005, 1006 and 1015
/// are no endpoint's to send (RFC 6455 §7.4.1): a handler is told 1006 of a connection that broke.
fn closed(close: &SessionClose) -> ReadError {
    match u16::try_from(close.code) {
        Ok(0) => ReadError::Closed(Some(Closing::new(1000, close.reason.as_str()))),
        Ok(1005 | 1006 | 1015) => ReadError::Protocol("the close code is not allowed".into()),
        Ok(code @ 1000..=4999) => {
            ReadError::Closed(Some(Closing::new(code, close.reason.as_str())))
        }
        _ => ReadError::Protocol("the close code is not allowed".into()),
    }
}

/// Reads a message of at most `longest` bytes from the beginning of `bytes`.
fn parse(bytes: &[u8], longest: usize) -> Result<Parsed, ReadError> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(Parsed::Unfinished);
    };
    let short = first & !BINARY;
    let (length, rest) = match short {
        TWO => match rest.split_first_chunk() {
            Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
            None => return Ok(Parsed::Unfinished),
        },
        EIGHT => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(Parsed::Unfinished),
        },
        short => (short.into(), rest),
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= longest);
    let length = length.ok_or(ReadError::TooLarge)?;
    let Some(payload) = rest.get(..length) else {
        return Ok(Parsed::Unfinished);
    };
    let frame = bytes.len() - rest.len() + length;
    let message = if first & BINARY == 0 {
        let text = std::str::from_utf8(payload).map_err(|_| ReadError::Utf8)?;
        Message::Text(text.to_owned())
    } else {
        Message::Binary(payload.to_vec())
    };
    Ok(Parsed::Message(message, frame))
}

/// Appends a frame, and gives its number of bytes.
fn write(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) -> usize {
    let before = out.len();
    let flag = match kind {
        MessageKind::Text => 0,
        MessageKind::Binary => BINARY,
    };
    out.reserve(payload.len() + 9);
    match payload.len() {
        length @ ..126 => out.push(flag | length as u8),
        length @ ..=0xffff => {
            out.push(flag | TWO);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(flag | EIGHT);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for message in [
                Message::Text("x".repeat(length)),
                Message::Binary(vec![7; length]),
            ] {
                let mut bytes = Vec::new();
                let frame = write(&mut bytes, message.kind(), message.bytes());
                assert_eq!(frame, bytes.len());
                for cut in [0, 1, 2, frame / 2, frame - 1]
                    .iter()
                    .filter(|cut| **cut < frame)
                {
                    assert_eq!(parse(&bytes[..*cut], length), Ok(Parsed::Unfinished));
                }
                bytes.push(9);
                assert_eq!(parse(&bytes, length), Ok(Parsed::Message(message, frame)));
            }
        }
    }

    #[test]
    fn messages_that_are_too_large_or_no_text_are_refused_at_once() {
        assert_eq!(parse(&[0xfe, 1, 0], 255), Err(ReadError::TooLarge));
        assert_eq!(
            parse(&[0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0], 255),
            Err(ReadError::TooLarge)
        );
        assert_eq!(parse(&[5], 4), Err(ReadError::TooLarge));
        assert_eq!(parse(&[2, 0xc3, 0x28], 9), Err(ReadError::Utf8));
        assert_eq!(
            parse(&[0x82, 0xc3, 0x28], 9),
            Ok(Parsed::Message(Message::Binary(vec![0xc3, 0x28]), 3))
        );
    }
}

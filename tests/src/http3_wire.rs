//! The bytes of HTTP/3: frames, integers, fields, and a WebSocket's two halves of a stream. The bench takes this file by
//! itself, so it needs nothing else of the harness.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) const DATA: u64 = 0x00;
pub(crate) const HEADERS: u64 = 0x01;
pub(crate) const SETTINGS: u64 = 0x04;
pub(crate) const GOAWAY: u64 = 0x07;

/// The beginning of a stream of a WebTransport session.
const SESSION_STREAM: u64 = 0x41;

/// Bytes of the longest head of a frame: two integers.
const MAX_HEAD: usize = 16;

/// Appends a frame.
pub fn put_frame(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    put_integer(out, kind);
    put_integer(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends an integer (RFC 9000 §16).
pub fn put_integer(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Takes an integer from the front of bytes; none if they end before it does.
pub fn take_integer(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1_usize << (bytes.first()? >> 6);
    let (own, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let first = u64::from(own[0] & 0x3f);
    Some(
        own[1..]
            .iter()
            .fold(first, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// The next integer of a stream; none at its end.
pub(crate) async fn read_integer(receive: &mut RecvStream) -> Option<u64> {
    let mut bytes = [0; 8];
    receive.read_exact(&mut bytes[..1]).await.ok()?;
    let length = 1_usize << (bytes[0] >> 6);
    receive.read_exact(&mut bytes[1..length]).await.ok()?;
    take_integer(&mut &bytes[..length])
}

/// The next frame; none at the end of the stream.
pub(crate) async fn read_frame(receive: &mut RecvStream) -> Option<(u64, Vec<u8>)> {
    let kind = read_integer(receive).await?;
    let length = read_integer(receive).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    receive.read_exact(&mut payload).await.ok()?;
    Some((kind, payload))
}

/// A field section of literals (RFC 9204 §4.5.6).
#[must_use]
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    fn put(out: &mut Vec<u8>, flags: u8, mask: u8, text: &str) {
        if text.len() < usize::from(mask) {
            out.push(flags | text.len() as u8);
        } else {
            out.push(flags | mask);
            let mut rest = text.len() - usize::from(mask);
            while rest >= 0x80 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text.as_bytes());
    }
    let mut out = vec![0, 0];
    for (name, value) in fields {
        put(&mut out, 0x20, 0x07, name);
        put(&mut out, 0, 0x7f, value);
    }
    out
}

/// The fields of a section of literals, as this server writes them.
pub(crate) fn decode(section: &[u8]) -> Vec<(String, String)> {
    fn take(bytes: &mut &[u8], mask: u8) -> String {
        let mut length = usize::from(bytes[0] & mask);
        *bytes = &bytes[1..];
        if length == usize::from(mask) {
            let mut shift = 0;
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                length += usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        let (text, rest) = bytes.split_at(length);
        *bytes = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
    let (start, mut rest) = section.split_at(2);
    assert_eq!(start, [0, 0], "the dynamic table is used");
    let mut fields = Vec::new();
    while let Some(first) = rest.first() {
        assert_eq!(first & 0xe8, 0x20, "not a plain literal");
        fields.push((take(&mut rest, 0x07), take(&mut rest, 0x7f)));
    }
    fields
}

/// The beginning of a stream of a WebTransport session.
#[must_use]
pub fn stream_head(session: u64) -> Vec<u8> {
    let mut head = Vec::new();
    put_integer(&mut head, SESSION_STREAM);
    put_integer(&mut head, session);
    head
}

/// The two halves of a request's stream as one stream of bytes: those of its DATA frames.
pub(crate) struct ByteStream {
    send: SendStream,
    receive: RecvStream,
    /// The head of the next frame, as far as it has come.
    head: Vec<u8>,
    /// Data of the current frame to come.
    left: usize,
    /// The rest of a frame that was begun.
    unsent: Vec<u8>,
    sent: usize,
}

impl ByteStream {
    pub(crate) fn new(send: SendStream, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            head: Vec::with_capacity(MAX_HEAD),
            left: 0,
            unsent: Vec::new(),
            sent: 0,
        }
    }

    /// Reads the heads of frames up to one with data. False at the end of the stream.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.left == 0 {
            let mut rest = &self.head[..];
            if let (Some(kind), Some(length)) = (take_integer(&mut rest), take_integer(&mut rest)) {
                if kind != DATA {
                    let other = format!("a frame of type {kind} instead of data");
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, other)));
                }
                self.left = usize::try_from(length).map_err(io::Error::other)?;
                self.head.clear();
                continue;
            }
            // The shortest head has two bytes, and the data behind it are the caller's.
            let mut bytes = [0; 2];
            let wanted = if self.head.is_empty() { 2 } else { 1 };
            let mut more = ReadBuf::new(&mut bytes[..wanted]);
            ready!(AsyncRead::poll_read(
                Pin::new(&mut self.receive),
                context,
                &mut more
            ))?;
            if more.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.head.extend_from_slice(more.filled());
        }
        Poll::Ready(Ok(true))
    }

    /// Writes the frame that was begun.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let rest = &self.unsent[self.sent..];
            self.sent += ready!(Pin::new(&mut self.send).poll_write(context, rest))?;
        }
        self.unsent.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !ready!(stream.poll_head(context))? {
            return Poll::Ready(Ok(()));
        }
        let mut data =
            ReadBuf::new(buffer.initialize_unfilled_to(buffer.remaining().min(stream.left)));
        ready!(AsyncRead::poll_read(
            Pin::new(&mut stream.receive),
            context,
            &mut data
        ))?;
        let length = data.filled().len();
        stream.left -= length;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        ready!(stream.poll_unsent(context))?;
        put_frame(&mut stream.unsent, DATA, bytes);
        let _ = stream.poll_unsent(context)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_unsent(context))?;
        let _ = stream.send.finish();
        Poll::Ready(Ok(()))
    }
}

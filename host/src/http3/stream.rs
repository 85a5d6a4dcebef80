//! The stream of an extended CONNECT as a stream of bytes: DATA frames come off and go on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use quinn::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::code::Code;
use super::data::DataFrames;
use super::frame::{self, MAX_HEAD};
use super::window::{Arriving, Sending};
use crate::net::Acknowledged;

/// Longest data in bytes that leave together with the head of their frame: more than a packet holds, so that a small
/// message is one write.
const TOGETHER: usize = 1_200;

/// Reads without data after which others run: a client may send frames without a meaning for ever.
const IDLE_READS: u32 = 16;

pub(crate) struct Stream {
    quic: quinn::Connection,
    send: Sending,
    receive: RecvStream,
    frames: DataFrames,
    /// The rest of a frame's head, which is written before its data.
    head: Vec<u8>,
    /// Bytes that the frame being written still takes.
    left: usize,
    /// None until the end was sent in order; ready once the client has all.
    arriving: Option<Arriving>,
}

impl Stream {
    pub(super) fn new(quic: quinn::Connection, send: Sending, receive: RecvStream) -> Self {
        Self {
            quic,
            send,
            receive,
            frames: DataFrames::of_tunnel(),
            head: Vec::new(),
            left: 0,
            arriving: None,
        }
    }

    pub(super) fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    fn poll_write_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.head.is_empty() {
            let written = ready!(self.send.poll_write(context, &self.head))?;
            self.head.drain(..written.min(self.head.len()));
        }
        Poll::Ready(Ok(()))
    }

    /// Begins a frame, and writes its head and its data in one piece if they are short. Gives the data written.
    fn poll_begin(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.head.clear();
        frame::put_head(&mut self.head, frame::DATA, data.len());
        self.left = data.len();
        if data.len() > TOGETHER {
            return Poll::Ready(Ok(0));
        }
        let mut together = [0; TOGETHER + MAX_HEAD];
        let length = self.head.len() + data.len();
        let bytes = self.head.iter().chain(data);
        together
            .iter_mut()
            .zip(bytes)
            .for_each(|(place, byte)| *place = *byte);
        let whole = together.get(..length).unwrap_or_default();
        let written = ready!(self.send.poll_write(context, whole))?;
        let of_head = written.min(self.head.len());
        self.head.drain(..of_head);
        self.left -= written - of_head;
        Poll::Ready(Ok(written - of_head))
    }
}

/// Its end waits for the client by itself.
impl Acknowledged for Stream {}

impl AsyncRead for Stream {
    /// Fails for a reset stream, and for one that ends within a frame.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        for _ in 0..IDLE_READS {
            ready!(AsyncRead::poll_read(
                Pin::new(&mut this.receive),
                context,
                buffer
            ))?;
            let read = buffer.filled_mut().get_mut(before..).unwrap_or_default();
            if read.is_empty() {
                return Poll::Ready(match this.frames.is_whole() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            let data = this.frames.take_apart(read).map_err(|code| {
                this.quic.close(code.into(), b"");
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
            buffer.set_filled(before + data);
            if data > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.left == 0 {
            let written = ready!(self.poll_begin(context, bytes))?;
            if written > 0 {
                return Poll::Ready(Ok(written));
            }
        }
        ready!(self.poll_write_head(context))?;
        let next = bytes.get(..self.left).unwrap_or(bytes);
        let written = ready!(self.send.poll_write(context, next))?;
        self.left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // quinn sends what was written.
        Poll::Ready(Ok(()))
    }

    /// Ends our half, and waits until the client has all of it: quinn drops what has not arrived when the connection ends.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let arriving = this.arriving.get_or_insert_with(|| this.send.finish());
        arriving.as_mut().poll(context).map(Ok)
    }
}

impl Drop for Stream {
    /// quinn ends a dropped stream in order, as if all had been said. One that was cut is reset, so that the client can
    /// tell.
    fn drop(&mut self) {
        if self.arriving.is_none() {
            self.send.reset(Code::RequestCancelled);
        }
        let _ = self.receive.stop(Code::None.into());
    }
}

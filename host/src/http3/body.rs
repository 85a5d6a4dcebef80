//! The body of a request that opens nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use quinn::RecvStream;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::data::DataFrames;

/// Most bytes that are read at once.
const READ: usize = 4 << 10;

/// Reads without data after which others run: a client may send frames without a meaning for ever.
const IDLE_READS: u32 = 16;

/// The data of a request's stream, up to its end. Whoever reads it bounds their number and their time.
pub(crate) struct Body<'s> {
    quic: &'s quinn::Connection,
    receive: &'s mut RecvStream,
    frames: DataFrames,
    /// Bytes that are still to come, where a `content-length` tells.
    left: Option<u64>,
}

impl<'s> Body<'s> {
    pub(super) fn new(
        quic: &'s quinn::Connection,
        receive: &'s mut RecvStream,
        length: Option<u64>,
    ) -> Self {
        Self {
            quic,
            receive,
            frames: DataFrames::of_request(),
            left: length,
        }
    }

    /// Judges the end of the stream.
    fn end(&self) -> io::Result<()> {
        match self.frames.is_whole() && self.left.is_none_or(|left| left == 0) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl hyper::body::Body for Body<'_> {
    type Data = Bytes;
    type Error = io::Error;

    /// Fails for a reset stream, for one that ends within a frame, and for one that has not the length that it tells
    /// (RFC 9114 §4.1.2).
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        for _ in 0..IDLE_READS {
            let mut bytes = [0; READ];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut *this.receive).poll_read(context, &mut buffer))?;
            let read = buffer.filled_mut();
            if read.is_empty() {
                return Poll::Ready(this.end().err().map(Err));
            }
            let data = this.frames.take_apart(read).map_err(|code| {
                this.quic.close(code.into(), b"");
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
            if let Some(left) = &mut this.left {
                let rest = left.checked_sub(data as u64);
                *left = rest.ok_or(io::ErrorKind::InvalidData)?;
            }
            if let Some(data @ [_, ..]) = buffer.filled().get(..data) {
                let data = Frame::data(Bytes::copy_from_slice(data));
                return Poll::Ready(Some(Ok(data)));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

//! A stream of HTTP/2 on which a client is served.

use std::io;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Acknowledged, Link, Written};

/// The bytes of a stream that hyper may hold back: some writes of a session, and what is beyond its client's window.
const HELD_BACK: i64 = 512 << 10;

pub(crate) struct Http2Stream {
    stream: TokioIo<Upgraded>,
    /// Not kept: the socket ends with its connection.
    link: Option<Weak<dyn Link>>,
}

impl Http2Stream {
    pub(crate) fn new(upgraded: Upgraded, link: Option<Weak<dyn Link>>) -> Self {
        let stream = TokioIo::new(upgraded);
        Self { stream, link }
    }
}

impl Acknowledged for Http2Stream {
    fn link(&self) -> Option<Written> {
        let link = self.link.as_ref()?.upgrade()?;
        let Written { all, arrived } = link.written();
        let all = all + HELD_BACK;
        Some(Written { all, arrived })
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

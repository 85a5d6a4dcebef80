//! The gateway's end of a client in memory: a stream of bytes, and datagrams beside it if the client has some.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// Datagrams that wait for either end; those beyond are dropped.
const WAITING: usize = 1_024;

pub(crate) struct MemoryStream {
    stream: DuplexStream,
    datagrams: Option<MemoryDatagrams>,
}

/// One end of a client's datagrams.
#[derive(Debug)]
pub(crate) struct MemoryDatagrams {
    pub(crate) sender: mpsc::Sender<Vec<u8>>,
    pub(crate) receiver: mpsc::Receiver<Vec<u8>>,
}

impl MemoryStream {
    pub(crate) fn new(stream: DuplexStream, datagrams: Option<MemoryDatagrams>) -> Self {
        Self { stream, datagrams }
    }

    pub(crate) fn into_parts(self) -> (DuplexStream, Option<MemoryDatagrams>) {
        (self.stream, self.datagrams)
    }
}

impl MemoryDatagrams {
    /// Both ends.
    pub(crate) fn pair() -> (Self, Self) {
        let (sender, other_receiver) = mpsc::channel(WAITING);
        let (other_sender, receiver) = mpsc::channel(WAITING);
        let other = Self {
            sender: other_sender,
            receiver: other_receiver,
        };
        (Self { sender, receiver }, other)
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for MemoryStream {
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

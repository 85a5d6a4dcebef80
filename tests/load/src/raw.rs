//! A client that writes any frames, over plain TCP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The deadline of an answer that is sure to come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const TEXT: u8 = 1;
pub(crate) const PING: u8 = 9;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// The bit of the last frame of a message.
pub(crate) const FIN: u8 = 0x80;

pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    input: BytesMut,
}

/// The way in which a server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Close(u16),
    Silently,
    StillOpen,
}

impl Raw {
    /// Connects and upgrades.
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Result<Self> {
        Self::open_with_buffer(address, path, None).await
    }

    /// As [`Self::open`], with a limit on the bytes that the client's kernel buffers.
    pub(crate) async fn open_with_buffer(
        address: SocketAddr,
        path: &str,
        buffer: Option<u32>,
    ) -> Result<Self> {
        let opened = async {
            let socket = TcpSocket::new_v4()?;
            if let Some(bytes) = buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            let mut socket = socket.connect(address).await?;
            socket.set_nodelay(true)?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let read = socket.read_buf(&mut head).await?;
                ensure!(read > 0, "the server ended the connection in its handshake");
            }
            ensure!(
                head.starts_with(b"HTTP/1.1 101 "),
                "not let in: {}",
                String::from_utf8_lossy(&head)
            );
            Ok(Self {
                socket,
                input: BytesMut::new(),
            })
        };
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        opened.context("a handshake took too long")?
    }

    /// Sends a text, and returns its answer, which comes after the messages that the handler posted.
    pub(crate) async fn ask(&mut self, text: &str) -> Result<String> {
        self.socket
            .write_all(&frame(FIN | TEXT, text.as_bytes()))
            .await?;
        self.answer(text).await
    }

    /// The next text message.
    pub(crate) async fn text(&mut self) -> Result<String> {
        self.answer("a post").await
    }

    async fn answer(&mut self, text: &str) -> Result<String> {
        loop {
            let (opcode, payload) = self.frame().await?;
            // A flooding guest posts an "x" at a time.
            if opcode == TEXT && payload != b"x" {
                return Ok(String::from_utf8_lossy(&payload).into_owned());
            }
            ensure!(opcode != CLOSE, "closed in place of an answer to {text:?}");
        }
    }

    /// Sends a ping, and waits for its pong.
    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.socket.write_all(&frame(FIN | PING, b"there?")).await?;
        while self.frame().await?.0 != PONG {}
        Ok(())
    }

    /// The server's next frame.
    async fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take(&mut self.input) {
                return Ok(frame);
            }
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.input)).await;
            if read.context("no answer")?? == 0 {
                bail!("the server ended the connection");
            }
        }
    }

    /// Waits for the end of the connection, for `within` at most, and drops all frames before it.
    pub(crate) async fn ended(mut self, within: Duration) -> Ended {
        let read = async {
            loop {
                match self.frame().await {
                    Ok((CLOSE, payload)) => {
                        let code = payload.first_chunk().copied().map(u16::from_be_bytes);
                        return code.map_or(Ended::Silently, Ended::Close);
                    }
                    Ok(_) => {}
                    Err(_) => return Ended::Silently,
                }
            }
        };
        tokio::time::timeout(within, read)
            .await
            .unwrap_or(Ended::StillOpen)
    }
}

/// A client's frame with this first byte. Its mask is zeros, which change nothing.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = declared(first, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// The header of a frame that declares `length` bytes.
pub(crate) fn declared(first: u8, length: u64) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut bytes = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => bytes.push(MASKED | short),
        (_, Ok(short)) => {
            bytes.push(MASKED | 126);
            bytes.extend_from_slice(&short.to_be_bytes());
        }
        (_, Err(_)) => {
            bytes.push(MASKED | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// Removes the first frame from a server's bytes, and returns its opcode and payload.
fn take(input: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let (length, header) = match second & 0x7f {
        126 => (
            u64::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)),
            4,
        ),
        127 => (u64::from_be_bytes(*input.get(2..)?.first_chunk()?), 10),
        length => (u64::from(length), 2),
    };
    let end = header + usize::try_from(length).ok()?;
    let payload = input.get(header..end)?.to_vec();
    input.advance(end);
    Some((first & 0x0f, payload))
}

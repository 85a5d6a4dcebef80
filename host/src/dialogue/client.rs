//! The clients of a dialogue: HTTP and WebSocket over streams in memory.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use crate::connections::Message;
use crate::net::MemoryDatagrams;

/// Messages that a client keeps unread; with more it reads no further, as a slow client.
const MAX_UNREAD: usize = 10_000;

/// Bytes of the longest body of a refusal.
const MAX_BODY: usize = 1 << 20;

/// The answer to a handshake.
pub(super) enum Answer {
    Open(Client),
    Refused { status: StatusCode, body: Bytes },
}

/// A connected client.
pub(super) struct Client {
    /// The headers of the answer that let it in.
    pub(super) headers: HeaderMap,
    acts: mpsc::Sender<Act>,
    events: mpsc::Receiver<Event>,
    /// Events that were read while something else was waited for.
    unread: VecDeque<Event>,
    /// None of a client without datagrams.
    datagrams: Option<MemoryDatagrams>,
    /// The connection. It ends with the client.
    tasks: JoinSet<()>,
}

/// An act of a client.
enum Act {
    Send(Message),
    Close(Option<(u16, String)>),
}

/// An event that a client meets.
#[derive(Debug)]
pub(super) enum Event {
    Message(Message),
    /// The gateway closed, with a code and reason or without.
    Closed(Option<(u16, String)>),
    /// The connection ended without a close frame.
    Gone,
}

/// Asks to connect over a stream.
pub(super) async fn connect(
    stream: DuplexStream,
    datagrams: Option<MemoryDatagrams>,
    request: Request<Empty<Bytes>>,
) -> Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    // Its error is that of the request, or else nobody's.
    tasks.spawn(async { drop(connection.with_upgrades().await) });
    let mut response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect();
        let body = body.await.map_err(anyhow::Error::from_boxed);
        let body = body.context("the body of a refusal")?.to_bytes();
        return Ok(Answer::Refused { status, body });
    }
    let headers = response.headers().clone();
    let upgraded = hyper::upgrade::on(&mut response).await?;
    // What the gateway sends is bounded by the gateway.
    let unlimited = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(unlimited));
    let (acts, next_acts) = mpsc::channel(1);
    let (met, events) = mpsc::channel(MAX_UNREAD);
    tasks.spawn(live(socket.await, next_acts, met));
    Ok(Answer::Open(Client {
        headers,
        acts,
        events,
        unread: VecDeque::new(),
        datagrams,
        tasks,
    }))
}

/// Moves a client's frames until it ends.
async fn live(
    mut socket: WebSocketStream<TokioIo<Upgraded>>,
    mut acts: mpsc::Receiver<Act>,
    met: mpsc::Sender<Event>,
) {
    let mut end = Event::Gone;
    loop {
        let came = tokio::select! {
            Some(act) = acts.recv() => {
                // A write to a connection that has ended fails; the reading side has the reason.
                let _ = match act {
                    Act::Send(message) => socket.send(frame(message)).await,
                    Act::Close(close) => socket.close(close.map(close_frame)).await,
                };
                continue;
            }
            came = socket.next() => came,
        };
        let event = match came {
            Some(Ok(tungstenite::Message::Text(text))) => {
                Event::Message(Message::Text(text.as_str().to_owned()))
            }
            Some(Ok(tungstenite::Message::Binary(bytes))) => {
                Event::Message(Message::Binary(bytes.to_vec()))
            }
            Some(Ok(tungstenite::Message::Close(frame))) => {
                end = Event::Closed(frame.map(|frame| {
                    let reason = frame.reason.as_str().to_owned();
                    (frame.code.into(), reason)
                }));
                continue;
            }
            Some(Ok(
                tungstenite::Message::Ping(_)
                | tungstenite::Message::Pong(_)
                | tungstenite::Message::Frame(_),
            )) => continue,
            Some(Err(_)) | None => {
                let _ = met.send(end).await;
                return;
            }
        };
        if met.send(event).await.is_err() {
            return;
        }
    }
}

fn frame(message: Message) -> tungstenite::Message {
    match message {
        Message::Text(text) => tungstenite::Message::text(text),
        Message::Binary(bytes) => tungstenite::Message::binary(bytes),
    }
}

fn close_frame((code, reason): (u16, String)) -> CloseFrame {
    CloseFrame {
        code: code.into(),
        reason: Utf8Bytes::from(reason),
    }
}

impl Client {
    /// Sends a message. Does nothing once the connection has ended: the next event tells.
    pub(super) async fn send(&self, message: Message) {
        let _ = self.acts.send(Act::Send(message)).await;
    }

    /// Sends a datagram. False if the gateway takes none of this client.
    pub(super) fn send_datagram(&self, payload: Vec<u8>) -> bool {
        // One without room is lost.
        self.datagrams.as_ref().is_some_and(|datagrams| {
            !matches!(
                datagrams.sender.try_send(payload),
                Err(TrySendError::Closed(_))
            )
        })
    }

    /// The next datagram. Waits for ever when there will be none.
    pub(super) async fn datagram(&mut self) -> Vec<u8> {
        let next = async { self.datagrams.as_mut()?.receiver.recv().await };
        match next.await {
            Some(datagram) => datagram,
            None => std::future::pending().await,
        }
    }

    /// The next datagram that is there.
    pub(super) fn datagram_now(&mut self) -> Option<Vec<u8>> {
        self.datagrams.as_mut()?.receiver.try_recv().ok()
    }

    /// Closes the connection, and keeps the messages that come before the gateway's answer.
    pub(super) async fn close(&mut self, close: Option<(u16, String)>) {
        let _ = self.acts.send(Act::Close(close)).await;
        while let Some(event) = self.events.recv().await {
            match event {
                Event::Message(_) => self.unread.push_back(event),
                Event::Closed(_) | Event::Gone => return,
            }
        }
    }

    /// Ends the connection without a close frame.
    pub(super) fn vanish(&mut self) {
        self.keep_read();
        self.tasks.abort_all();
    }

    /// The next event. Waits for ever when there will be none.
    pub(super) async fn event(&mut self) -> Event {
        if let Some(event) = self.unread.pop_front() {
            return event;
        }
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// The next event that is there.
    pub(super) fn event_now(&mut self) -> Option<Event> {
        self.keep_read();
        self.unread.pop_front()
    }

    /// Keeps the events that are there for later.
    fn keep_read(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.unread.push_back(event);
        }
    }
}

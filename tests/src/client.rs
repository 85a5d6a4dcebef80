//! A well-behaved WebSocket client.

use std::{borrow::Cow, collections::VecDeque};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{Answer, Duplex, within};

/// One connection, open.
pub struct Client {
    socket: WebSocketStream<Box<dyn Duplex>>,
    answer: Answer,
    /// Reports of the probe about ended connections that came while this client waited for another message.
    pub(crate) reports: VecDeque<Value>,
}

impl Client {
    /// The WebSocket on a stream after its handshake; `rest` are the bytes that came right behind it.
    pub(crate) async fn new(stream: Box<dyn Duplex>, rest: Vec<u8>, answer: Answer) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let socket =
            WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
        Self {
            socket,
            answer,
            reports: VecDeque::new(),
        }
    }

    /// The response that let the client in.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    pub async fn send_binary(&mut self, bytes: impl Into<Bytes>) {
        self.send_message(Message::binary(bytes)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        within("a message to go out", self.socket.send(message))
            .await
            .unwrap();
    }

    /// Sends a ping, which the server need not take any more.
    pub async fn ping_in_vain(&mut self) {
        let _ = within(
            "a ping to go out",
            self.socket.send(Message::Ping(Bytes::new())),
        )
        .await;
    }

    /// Queues a message behind others, to go out with the next send.
    pub async fn feed(&mut self, text: impl Into<String>) {
        within(
            "a message to be queued",
            self.socket.feed(Message::text(text.into())),
        )
        .await
        .unwrap();
    }

    /// Sends text messages until the server ends the connection.
    pub async fn send_until_broken(&mut self, text: &str) {
        let sending = async { while self.socket.send(Message::text(text)).await.is_ok() {} };
        within("the server to end the connection", sending).await;
    }

    /// The next message, pings and pongs aside.
    ///
    /// # Panics
    ///
    /// When the connection ends instead.
    pub async fn next(&mut self) -> Message {
        match self.read("a message").await {
            Ok(Message::Close(frame)) => panic!("closed in place of a message: {frame:?}"),
            Ok(message) => message,
            Err(error) => panic!("ended in place of a message: {error}"),
        }
    }

    /// The next message, which is text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.as_str().to_owned(),
            message => panic!("in place of a text message: {message:?}"),
        }
    }

    /// Sends a text that comes back. The error is the code of the server's close in its place.
    pub async fn echo(&mut self, text: &str) -> Result<(), u16> {
        // The server may have closed.
        let _ = self.socket.send(Message::text(text)).await;
        match self.read("an echo").await {
            Ok(Message::Text(came)) => {
                assert_eq!(came.as_str(), text);
                Ok(())
            }
            Ok(Message::Close(frame)) => Err(frame.map_or(1005, |frame| frame.code.into())),
            other => panic!("in place of an echo: {other:?}"),
        }
    }

    /// The next message, which is binary.
    pub async fn binary(&mut self) -> Bytes {
        match self.next().await {
            Message::Binary(bytes) => bytes,
            message => panic!("in place of a binary message: {message:?}"),
        }
    }

    /// The next message, which is JSON text.
    pub async fn json(&mut self) -> Value {
        let text = self.text().await;
        match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {text}"),
        }
    }

    /// Checks that the next message is this text.
    pub async fn expect(&mut self, text: &str) {
        assert_eq!(self.text().await, text);
    }

    /// Checks that the next message is an error frame with this message, to the byte, and returns its ids: the
    /// connection's and the request's.
    pub async fn expect_error(&mut self, message: &str) -> (String, String) {
        let text = self.text().await;
        let ids = text
            .strip_prefix(&format!(
                "{{\"message\": \"{message}\", \"connectionId\":\""
            ))
            .and_then(|rest| rest.strip_suffix("\"}"))
            .and_then(|rest| rest.split_once("\", \"requestId\":\""));
        let Some((connection, request)) = ids else {
            panic!("not the error frame {message:?}: {text}")
        };
        for id in [connection, request] {
            assert!(
                !id.is_empty() && !id.contains(['"', '\\', ' ', '{']),
                "no id: {text}"
            );
        }
        (connection.to_owned(), request.to_owned())
    }

    /// Checks that the server closes next, with this code and reason.
    pub async fn expect_close(&mut self, code: u16, reason: &str) {
        let (given_code, given_reason) = self.closed().await;
        assert_eq!((given_code, given_reason.as_str()), (code, reason));
    }

    /// Answers the server's pings until a future is done: a client that reads nothing is closed.
    ///
    /// # Panics
    ///
    /// When a message comes, or the connection ends.
    pub async fn idle_until<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                result = &mut done => return result,
                came = self.socket.next() => match came {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    came => panic!("nothing was sent, and {came:?} came"),
                },
            }
        }
    }

    /// Drops all messages up to the server's close frame, and returns its code and reason; 1005 without a code.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.read("the close frame").await {
                Ok(Message::Close(Some(frame))) => {
                    return (frame.code.into(), frame.reason.as_str().to_owned());
                }
                Ok(Message::Close(None)) => return (1005, String::new()),
                Ok(_) => {}
                Err(error) => panic!("ended in place of a close frame: {error}"),
            }
        }
    }

    /// Closes with a code and a reason, and waits for the server's close frame and the end. Returns the server's code.
    pub async fn close(mut self, code: u16, reason: &'static str) -> u16 {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: Cow::from(reason).as_ref().into(),
        };
        self.send_message(Message::Close(Some(frame))).await;
        let (code, _) = self.closed().await;
        self.expect_end().await;
        code
    }

    /// Closes without a code, and waits for the end.
    pub async fn close_without_code(mut self) {
        self.send_message(Message::Close(None)).await;
        self.closed().await;
        self.expect_end().await;
    }

    /// Checks that the server ends the TCP connection, after a close frame of either side.
    pub async fn expect_end(&mut self) {
        let ended = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        };
        within("the end of the connection", ended).await;
    }

    /// Drops the TCP connection without a word.
    pub fn vanish(self) {
        drop(self.socket.into_inner());
    }

    async fn read(&mut self, what: &str) -> Result<Message, Error> {
        loop {
            match within(what, self.socket.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(result) => return result,
                None => return Err(Error::ConnectionClosed),
            }
        }
    }
}

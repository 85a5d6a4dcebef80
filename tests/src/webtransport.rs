//! A WebTransport session of a client, with messages on its first bidirectional stream.

use quinn::{RecvStream, SendStream, VarInt};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Answer, Http3, Http3Request,
    http3_wire::{put_frame, put_integer, read_frame, stream_head, take_integer},
    within,
};

const CLOSE_SESSION: u64 = 0x2843;

/// An open session.
pub struct WebTransport {
    pub answer: Answer,
    id: u64,
    connect: Http3Request,
    send: SendStream,
    receive: RecvStream,
}

impl Http3 {
    /// Requests a session, and does not wait for the answer.
    pub async fn ask_session(&self, path: &str, headers: &[(&str, &str)]) -> Http3Request {
        let authority = format!("localhost:{}", self.port());
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "webtransport"),
            (":scheme", "https"),
            (":authority", &authority),
            (":path", path),
            ("sec-webtransport-http3-draft02", "1"),
        ];
        self.request(&[&fields[..], headers].concat()).await
    }

    /// Sends a datagram for a session.
    pub fn send_datagram(&self, session: u64, payload: &[u8]) {
        let mut datagram = Vec::new();
        put_integer(&mut datagram, session / 4);
        datagram.extend_from_slice(payload);
        self.quic.send_datagram(datagram.into()).unwrap();
    }

    /// The next datagram: the session that it is for, and its payload.
    pub async fn datagram(&self) -> (u64, Vec<u8>) {
        let datagram = within("a datagram", self.quic.read_datagram()).await;
        let datagram = datagram.unwrap();
        let mut rest = &datagram[..];
        let quarter = take_integer(&mut rest).expect("a session");
        (quarter * 4, rest.to_vec())
    }

    /// Opens a session and its stream.
    pub async fn session(&self, path: &str, headers: &[(&str, &str)]) -> WebTransport {
        let mut connect = self.ask_session(path, headers).await;
        let id = VarInt::from(connect.send.id()).into_inner();
        // The stream may come before the answer.
        let (send, receive) = self.stream_of_session(id).await;
        let answer = connect.head().await;
        assert_eq!(answer.status, 200, "not let in: {answer:?}");
        WebTransport {
            answer,
            id,
            connect,
            send,
            receive,
        }
    }

    /// Opens the stream of a session that was let in with this answer.
    pub async fn begin_session(&self, connect: Http3Request, answer: Answer) -> WebTransport {
        assert_eq!(answer.status, 200, "not let in: {answer:?}");
        let id = VarInt::from(connect.send.id()).into_inner();
        let (send, receive) = self.stream_of_session(id).await;
        WebTransport {
            answer,
            id,
            connect,
            send,
            receive,
        }
    }

    async fn stream_of_session(&self, id: u64) -> (SendStream, RecvStream) {
        let opened = within("room for a stream", self.quic.open_bi()).await;
        let (mut send, receive) = opened.unwrap();
        send.write_all(&stream_head(id)).await.unwrap();
        (send, receive)
    }
}

impl WebTransport {
    /// The number of the session.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends bytes on the stream for messages.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    pub async fn send(&mut self, message: &Message) {
        let (flag, payload) = match message {
            Message::Text(text) => (0, text.as_bytes()),
            Message::Binary(bytes) => (0x80, &bytes[..]),
            other => panic!("no message: {other:?}"),
        };
        let mut bytes = match payload.len() {
            length @ ..126 => vec![flag | length as u8],
            length @ ..=0xffff => [&[flag | 126], &(length as u16).to_be_bytes()[..]].concat(),
            length => [&[flag | 127], &(length as u64).to_be_bytes()[..]].concat(),
        };
        bytes.extend_from_slice(payload);
        self.send_bytes(&bytes).await;
    }

    /// The next message; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        within("a message", async {
            let mut first = [0];
            self.receive.read_exact(&mut first).await.ok()?;
            let length = match first[0] & 0x7f {
                126 => {
                    let mut length = [0; 2];
                    self.receive.read_exact(&mut length).await.ok()?;
                    u64::from(u16::from_be_bytes(length))
                }
                127 => {
                    let mut length = [0; 8];
                    self.receive.read_exact(&mut length).await.ok()?;
                    u64::from_be_bytes(length)
                }
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.receive.read_exact(&mut payload).await.ok()?;
            Some(match first[0] & 0x80 {
                0 => Message::text(String::from_utf8(payload).unwrap()),
                _ => Message::binary(payload),
            })
        })
        .await
    }

    /// Ends the client's half of the stream for messages.
    pub fn end_messages(&mut self) {
        self.send.finish().unwrap();
    }

    /// Sends JSON steps to the guest `probe`, and returns its answer.
    pub async fn json(&mut self, text: &str) -> serde_json::Value {
        self.send(&Message::text(text)).await;
        let answer = self.next().await.expect("an answer");
        serde_json::from_str(answer.to_text().unwrap()).unwrap()
    }

    /// Waits until the server closes the session, and returns its code and reason.
    pub async fn closed(&mut self) -> (u32, String) {
        let bytes = within("the close of the session", self.connect.data()).await;
        let mut close = Vec::new();
        put_integer(&mut close, CLOSE_SESSION);
        let payload = bytes.strip_prefix(&close[..]).expect("a close");
        // The length takes one byte, or two.
        let payload = &payload[if payload[0] < 0x40 { 1 } else { 2 }..];
        let (code, reason) = payload.split_first_chunk().unwrap();
        (
            u32::from_be_bytes(*code),
            String::from_utf8(reason.to_vec()).unwrap(),
        )
    }

    /// The next data on the session's own stream.
    pub async fn beside(&mut self) -> Vec<u8> {
        let frame = read_frame(&mut self.connect.receive);
        let (_, data) = within("data beside", frame).await.expect("data");
        data
    }

    /// Waits for the end of the session's own stream. False if it was cut.
    pub async fn ends_in_order(&mut self) -> bool {
        let mut more = [0];
        let end = self.connect.receive.read(&mut more);
        matches!(within("the end of the stream", end).await, Ok(None))
    }

    /// Closes the session.
    pub async fn close(&mut self, code: u32, reason: &str) {
        let mut capsule = Vec::new();
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        put_frame(&mut capsule, CLOSE_SESSION, &payload);
        let mut data = Vec::new();
        put_frame(&mut data, 0, &capsule);
        self.connect.send.write_all(&data).await.unwrap();
        self.connect.send.finish().unwrap();
    }

    /// Sends bytes on the session's own stream.
    pub async fn send_beside(&mut self, bytes: &[u8]) {
        self.connect.send.write_all(bytes).await.unwrap();
    }

    /// Resets the session's own stream.
    pub fn reset(&mut self) {
        self.connect.send.reset(0x10c_u32.into()).unwrap();
    }

    /// Ends the session's own stream in order, as for a close without a code.
    pub fn finish(&mut self) {
        self.connect.send.finish().unwrap();
    }
}

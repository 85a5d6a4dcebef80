//! Frames, as a session reads them: by the fast path or by tungstenite behind the flood guard, from a socket that gives
//! a few bytes at a time.

use std::io::Cursor;
use std::task::{Context, Poll, Waker};

use tokio_tungstenite::tungstenite;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::input::InputSocket;
use crate::config::StageLimits;
use crate::connections::Message;
use crate::transport::websocket::WebSocket;
use crate::transport::{ReadError, Received, Transport as _};

/// Small limits, so that short inputs cross them.
fn limits() -> StageLimits {
    StageLimits {
        message_bytes: 512,
        frame_bytes: 300,
        fragments: 8,
        control_frames_per_s: 10_000,
        ..StageLimits::default()
    }
}

/// The result of reading a client's bytes, up to the end that always comes.
#[derive(Debug, PartialEq)]
struct ReadResult {
    messages: Vec<Message>,
    controls: usize,
    end: ReadError,
}

/// Every way to cut the bytes gives the same result, which is tungstenite's own, and no message exceeds its limit.
pub(crate) fn frames(input: &[u8]) {
    let Some((piece, bytes)) = input.split_first() else {
        return;
    };
    let early = usize::from(*piece).min(bytes.len());
    let whole = read(&[], bytes, usize::MAX);
    let judged = tungstenite_alone(bytes);
    if matches!(whole.end, ReadError::Flood(_)) {
        assert_eq!(whole.messages[..], judged[..whole.messages.len()]);
    } else {
        assert_eq!(whole.messages, judged);
    }
    for other in [
        read(&[], bytes, 1),
        read(&[], bytes, usize::from(*piece)),
        read(&bytes[..early], &bytes[early..], 7),
    ] {
        // A flood is found as soon as its bytes come: whole messages beside it need not be handled, and errors before
        // it need not be found.
        let flooded = [&whole, &other].map(|read| matches!(read.end, ReadError::Flood(_)));
        if flooded == [false, false] {
            assert_eq!(whole, other);
        } else {
            let both = whole.messages.len().min(other.messages.len());
            assert_eq!(whole.messages[..both], other.messages[..both]);
        }
    }
}

fn tungstenite_alone(bytes: &[u8]) -> Vec<Message> {
    let limits = limits();
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.frame_bytes));
    let mut context =
        WebSocketContext::from_partially_read(bytes.to_vec(), Role::Server, Some(config));
    let mut nothing = Cursor::new(Vec::new());
    let mut messages = Vec::new();
    loop {
        match context.read(&mut nothing) {
            Ok(tungstenite::Message::Text(text)) => messages.push(Message::Text(text.to_string())),
            Ok(tungstenite::Message::Binary(bytes)) => messages.push(Message::Binary(bytes.into())),
            Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_)) => {}
            Ok(tungstenite::Message::Close(_) | tungstenite::Message::Frame(_)) | Err(_) => {
                return messages;
            }
        }
    }
}

fn read(early: &[u8], bytes: &[u8], piece: usize) -> ReadResult {
    let limits = limits();
    let socket = InputSocket::new(bytes, piece);
    let mut websocket = WebSocket::new(socket, early, &limits);
    let mut context = Context::from_waker(Waker::noop());
    let (mut messages, mut controls) = (Vec::new(), 0);
    loop {
        let received = match websocket.poll_read(&mut context) {
            Poll::Ready(received) => received,
            Poll::Pending => panic!("the socket always has something, its end at least"),
        };
        match received {
            Ok(Received::Message(message)) => {
                assert!(message.len() <= limits.message_bytes);
                websocket.send(&message);
                messages.push(message);
            }
            Ok(Received::Datagram(_)) => panic!("a WebSocket has no datagrams"),
            Ok(Received::Control) => controls += 1,
            Err(end) => {
                return ReadResult {
                    messages,
                    controls,
                    end,
                };
            }
        }
        let flushed = websocket.poll_flush(&mut context, &mut false);
        assert!(matches!(flushed, Poll::Ready(Ok(()))));
        assert_eq!(websocket.waiting(), 0);
    }
}

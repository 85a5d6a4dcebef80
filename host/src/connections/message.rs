//! A message, and the payload that it becomes on its way to clients.

use bytes::Bytes;

/// One whole message, as a client sent it or as it is sent to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl Message {
    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text that routes are selected by: a binary message may be one, too.
    pub(crate) fn json_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(bytes) => str::from_utf8(bytes).ok(),
        }
    }

    pub(crate) fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Text,
    Binary,
}

/// A message that waits for clients. Clones share its bytes: a message to many is held once.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) kind: MessageKind,
    pub(crate) bytes: Bytes,
}

impl From<Message> for Payload {
    /// Takes the message's own bytes: nothing is copied.
    fn from(message: Message) -> Self {
        Self {
            kind: message.kind(),
            bytes: match message {
                Message::Text(text) => text.into(),
                Message::Binary(bytes) => bytes.into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_and_its_clones_are_the_bytes_of_the_message() {
        for (message, kind) in [
            (Message::Text("hello".into()), MessageKind::Text),
            (Message::Binary(vec![7; 100]), MessageKind::Binary),
        ] {
            let before = message.bytes().as_ptr();
            let payload = Payload::from(message);
            let shared = payload.clone();
            assert_eq!((payload.kind, shared.kind), (kind, kind));
            assert_eq!(payload.bytes.as_ptr(), before);
            assert_eq!(shared.bytes.as_ptr(), before);
        }
    }
}

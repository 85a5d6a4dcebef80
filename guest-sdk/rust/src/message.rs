//! Conversions to and from a [`Message`].

use crate::Message;

impl Message {
    /// The text of a text message; `None` for a binary one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes of the message, of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }
}

/// Copies the message, so that one can be sent several times.
impl From<&Self> for Message {
    fn from(message: &Self) -> Self {
        message.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_text_message_and_bytes_a_binary_one() {
        assert_eq!(Message::from("hi").as_text(), Some("hi"));
        assert_eq!(Message::from(String::from("hi")), Message::from("hi"));
        assert_eq!(Message::from(vec![0xff]).as_text(), None);
        assert_eq!(Message::from([0xff].as_slice()).as_bytes(), [0xff]);
        assert_eq!(Message::from("hi").as_bytes(), b"hi");
    }
}

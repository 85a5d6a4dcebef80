//! Sends each message back as it came.

use lockgate_plugin::{Event, Handler, Message, Result};

// Keep nothing here: another instance may handle the next message. What belongs to a connection goes into its
// attributes: `lockgate_plugin::connections::set_attribute`.
struct Plugin;

impl Handler for Plugin {
    // There are `connect` and `disconnect` too. What is left out lets each client in, and does nothing at its end.

    /// Handles a message of a client. The message in the result is the answer; `None` is no answer.
    fn message(_event: Event, message: Message) -> Result<Option<Message>> {
        Ok(Some(message))
    }
}

lockgate_plugin::export!(Plugin);

#[cfg(test)]
mod tests {
    use lockgate_plugin::testing::Gateway;

    use super::*;

    #[test]
    fn message_comes_back() {
        let mut gateway = Gateway::<Plugin>::new();
        let client = gateway.connect().unwrap();
        let answer = gateway.message(&client, "hello");
        assert_eq!(answer, Ok(Some(Message::from("hello"))));
    }
}

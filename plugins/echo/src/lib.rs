//! Sends each message back as it came, text or binary.

use lockgate_plugin::{Event, Handler, Message, Result};

struct Echo;

impl Handler for Echo {
    fn message(_: Event, message: Message) -> Result<Option<Message>> {
        Ok(Some(message))
    }
}

lockgate_plugin::export!(Echo);

#[cfg(test)]
mod tests {
    use lockgate_plugin::testing::Gateway;

    use super::*;

    #[test]
    fn message_comes_back() {
        let mut gateway = Gateway::<Echo>::new();
        let client = gateway.connect().unwrap();
        for message in [Message::from("hello"), Message::from(vec![0, 255])] {
            let answer = gateway.message(&client, &message);
            assert_eq!(answer, Ok(Some(message)));
        }
    }
}

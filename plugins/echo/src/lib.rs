//! Sends each message back as it came, text or binary.

use lockgate_plugin::{Event, Handler, Message, Result};

struct Echo;

impl Handler for Echo {
    fn message(_: Event, message: Message) -> Result<Option<Message>> {
        Ok(Some(message))
    }
}

lockgate_plugin::export!(Echo);

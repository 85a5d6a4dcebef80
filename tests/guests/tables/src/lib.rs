//! Has a table of more than 20,000 elements, of which a handler needs a few hundred.

use lockgate_plugin::{Event, Handler, Message, Result};

struct Tables;

impl Handler for Tables {
    fn message(_: Event, message: Message) -> Result<Option<Message>> {
        Ok(Some(message))
    }
}

lockgate_plugin::export!(Tables);

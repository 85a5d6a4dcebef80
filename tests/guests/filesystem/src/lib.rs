//! Imports the file system, which no plugin gets.

use lockgate_plugin::{Event, Handler, Message, Result};

struct Filesystem;

impl Handler for Filesystem {
    fn message(_: Event, _: Message) -> Result<Option<Message>> {
        Ok(Some(std::fs::read("/etc/hostname")?.into()))
    }
}

lockgate_plugin::export!(Filesystem);

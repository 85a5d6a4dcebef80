//! Imports the network, which no plugin gets.

use std::{io::Read, net::TcpStream};

use lockgate_plugin::{Event, Handler, Message, Result};

struct Sockets;

impl Handler for Sockets {
    fn message(_: Event, _: Message) -> Result<Option<Message>> {
        let mut answer = Vec::new();
        TcpStream::connect("127.0.0.1:9")?.read_to_end(&mut answer)?;
        Ok(Some(answer.into()))
    }
}

lockgate_plugin::export!(Sockets);

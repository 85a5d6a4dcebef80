//! Uses the standard library's files, network and process, and answers with the result of each attempt. It imports all
//! of them, as a program in Go or Python does that uses none.

mod wasi;

use std::{
    env, fs,
    mem::forget,
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
};

use lockgate_plugin::{Event, Handler, Message, Result};

use wasi::Fields;

struct Ambient;

impl Handler for Ambient {
    /// Takes a word and its argument: `read /etc/hostname`, `connect 127.0.0.1:80`.
    fn message(_: Event, message: Message) -> Result<Option<Message>> {
        let line = message.as_text().ok_or("no text")?;
        let (word, what) = line.rsplit_once(' ').unwrap_or((line, ""));
        let outcome = match word {
            "read" => text(fs::read(what)),
            "write" => text(fs::write(what, "x")),
            "list" => text(fs::read_dir(what)),
            "connect" => text(TcpStream::connect(what)),
            "listen" => text(TcpListener::bind(what)),
            "datagram" => text(UdpSocket::bind(what)),
            "resolve" => text(what.to_socket_addrs()),
            "variable" => format!("{:?}", env::var(what)),
            "environment" => format!("{:?} {:?}", env::vars().count(), env::args().count()),
            "hold fields" => {
                for _ in 0..what.parse::<u32>()? {
                    forget(Fields::new());
                }
                what.to_owned()
            }
            "take fields" => {
                for _ in 0..what.parse::<u32>()? {
                    drop(Fields::new().clone());
                }
                what.to_owned()
            }
            _ => return Err("no such word".into()),
        };
        Ok(Some(outcome.into()))
    }
}

/// The result of an attempt, in the words of the standard library.
fn text<T>(outcome: std::io::Result<T>) -> String {
    match outcome {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}

lockgate_plugin::export!(Ambient);

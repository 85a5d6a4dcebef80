//! The bench's handler, which echoes, and has a route key for each other action: `join` a group, `publish` to it, tell
//! `who` the client is, `post` to another connection.

use lockgate_plugin::{Event, Handler, Message, Result, connections, groups};

/// The one group, of all clients that join.
const GROUP: &str = "everyone";

struct Load;

impl Handler for Load {
    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        match event.route_key.as_str() {
            "join" => {
                groups::join(GROUP, &event.connection_id)?;
                Ok(Some(message))
            }
            "publish" => {
                groups::publish(GROUP, message)?;
                Ok(None)
            }
            "who" => Ok(Some(event.connection_id.into())),
            "post" => {
                let to = receiver(&message)
                    .ok_or("a post names its receiver")?
                    .to_owned();
                connections::send(&to, message)?;
                Ok(None)
            }
            _ => Ok(Some(message)),
        }
    }
}

fn receiver(message: &Message) -> Option<&str> {
    let (_, rest) = message.as_text()?.split_once(r#""to":""#)?;
    Some(rest.split_once('"')?.0)
}

lockgate_plugin::export!(Load);

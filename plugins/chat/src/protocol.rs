//! The actions of a client and the events that it gets, as JSON. This module calls nothing of the gateway.

use lockgate_plugin::Message;
use serde::Serialize;
use serde_json::Value;

use crate::member::Member;

const NAME_CHARS: usize = 32;
/// At most 128 bytes in UTF-8, the limit of a group's name.
const ROOM_CHARS: usize = 32;
const TEXT_CHARS: usize = 4096;

/// A valid action of a client. As JSON: `{"action": "join", "room": "lobby"}`.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Takes another name.
    Name { name: String },
    /// Enters a room.
    Join { room: String },
    /// Leaves a room.
    Leave { room: String },
    /// Says something to a room.
    Say { room: String, text: String },
    /// Says something to one member, by connection id.
    Whisper { to: String, text: String },
    /// Asks for the members of a room.
    Who { room: String },
}

impl Action {
    /// Parses the body of a message. Fails with a text for the client.
    pub fn parse(body: &str) -> Result<Self, String> {
        let body: Value = serde_json::from_str(body).map_err(|_| "That is not JSON.")?;
        let field = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| format!("`{name}` is missing, or is not a text."))
        };
        let room = || room(field("room")?);
        let text = || text(field("text")?);

        match field("action")? {
            "name" => Ok(Self::Name {
                name: name(field("name")?)?.to_owned(),
            }),
            "join" => Ok(Self::Join { room: room()? }),
            "leave" => Ok(Self::Leave { room: room()? }),
            "say" => Ok(Self::Say {
                room: room()?,
                text: text()?,
            }),
            "whisper" => Ok(Self::Whisper {
                to: field("to")?.to_owned(),
                text: text()?,
            }),
            "who" => Ok(Self::Who { room: room()? }),
            _ => Err("An action is name, join, leave, say, whisper or who.".to_owned()),
        }
    }
}

/// Checks the name of a member, and trims it.
pub fn name(name: &str) -> Result<&str, String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS || name.chars().any(is_invisible) {
        return Err(format!(
            "A name has 1 to {NAME_CHARS} characters, all of them visible."
        ));
    }
    Ok(name)
}

fn room(room: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    if room.is_empty() || room.chars().count() > ROOM_CHARS || !room.chars().all(fits) {
        return Err(format!(
            "The name of a room has 1 to {ROOM_CHARS} letters, digits, `-` or `_`."
        ));
    }
    Ok(room.to_owned())
}

fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > TEXT_CHARS {
        return Err(format!(
            "A text has 1 to {TEXT_CHARS} characters, not all of them blank."
        ));
    }
    Ok(text.to_owned())
}

/// Whether a character is a control character, or could make a name look like another or reverse the line.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// An event for a client. As JSON: `{"event": "joined", "room": "lobby", "id": "…", "name": "ada"}`.
///
/// `id` and `name` are those of the member who acted.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Reply<'a> {
    /// The client is connected, with this id and name.
    Welcome { id: &'a str, name: &'a str },
    /// A member has a new name.
    Renamed { id: &'a str, name: &'a str },
    /// A member entered a room.
    Joined {
        room: &'a str,
        id: &'a str,
        name: &'a str,
    },
    /// A member left a room, or its connection ended.
    Left {
        room: &'a str,
        id: &'a str,
        name: &'a str,
    },
    /// The members of a room: `count` in all, with the first ones listed.
    Members {
        room: &'a str,
        members: &'a [Member],
        count: u32,
    },
    /// A member said something to a room.
    Said {
        room: &'a str,
        id: &'a str,
        name: &'a str,
        text: &'a str,
        /// When, in milliseconds since 1970-01-01 UTC.
        at: u64,
    },
    /// A member said something to the connection `to` alone.
    Whispered {
        id: &'a str,
        name: &'a str,
        to: &'a str,
        text: &'a str,
        /// When, in milliseconds since 1970-01-01 UTC.
        at: u64,
    },
    /// The action failed, for this reason.
    Error { text: &'a str },
}

impl Reply<'_> {
    pub fn to_message(&self) -> serde_json::Result<Message> {
        serde_json::to_string(self).map(Message::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_read() {
        let actions = [
            (
                r#"{"action":"name","name":" ada "}"#,
                Action::Name { name: "ada".into() },
            ),
            (
                r#"{"action":"join","room":"lobby"}"#,
                Action::Join {
                    room: "lobby".into(),
                },
            ),
            (
                r#"{"action":"leave","room":"café-2_b"}"#,
                Action::Leave {
                    room: "café-2_b".into(),
                },
            ),
            (
                r#"{"action":"say","room":"lobby","text":"hi\nall","more":[1]}"#,
                Action::Say {
                    room: "lobby".into(),
                    text: "hi\nall".into(),
                },
            ),
            (
                r#"{"action":"whisper","to":"abc","text":"psst"}"#,
                Action::Whisper {
                    to: "abc".into(),
                    text: "psst".into(),
                },
            ),
            (
                r#"{"action":"who","room":"lobby"}"#,
                Action::Who {
                    room: "lobby".into(),
                },
            ),
        ];
        for (body, action) in actions {
            assert_eq!(Action::parse(body), Ok(action), "{body}");
        }
    }

    #[test]
    fn invalid_request_is_refused_with_the_reason() {
        let deep = "[".repeat(100_000);
        let wrong = [
            ("", "That is not JSON."),
            ("hello", "That is not JSON."),
            (&deep, "That is not JSON."),
            ("[]", "`action` is missing, or is not a text."),
            (r#"{"action":7}"#, "`action` is missing, or is not a text."),
            (
                r#"{"action":"fly"}"#,
                "An action is name, join, leave, say, whisper or who.",
            ),
            (
                r#"{"action":"join"}"#,
                "`room` is missing, or is not a text.",
            ),
            (
                r#"{"action":"whisper","text":"psst"}"#,
                "`to` is missing, or is not a text.",
            ),
        ];
        for (body, complaint) in wrong {
            assert_eq!(Action::parse(body), Err(complaint.to_owned()), "{body:.40}");
        }
    }

    #[test]
    fn names_rooms_and_texts_have_bounds() {
        assert_eq!(name(&"é".repeat(32)), Ok("é".repeat(32).as_str()));
        for bad in ["", "  ", "a\nb", "ad\u{200b}a", "\u{202e}ada"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert!(name(&"a".repeat(33)).is_err());

        assert!(room(&"𠀀".repeat(32)).is_ok_and(|room| room.len() == 128));
        for bad in ["", "a b", "a/b", "#lobby"] {
            assert!(room(bad).is_err(), "{bad:?}");
        }
        assert!(room(&"a".repeat(33)).is_err());

        assert!(text(&"a".repeat(4096)).is_ok());
        assert!(text(&"a".repeat(4097)).is_err());
        assert!(text(" \n ").is_err());
    }

    #[test]
    fn reply_is_an_object_with_its_event() {
        let member = Member::new("1".to_owned());
        let reply = Reply::Members {
            room: "lobby",
            members: &[member],
            count: 1,
        };
        let message = reply.to_message().unwrap();
        let body: Value = serde_json::from_str(message.as_text().unwrap()).unwrap();
        assert_eq!(body["event"], "members");
        assert_eq!(body["members"][0]["id"], "1");
        assert_eq!(body["members"][0].get("rooms"), None);
    }
}

//! A chat: names, rooms with presence, and private messages.
//!
//! A client sends JSON texts with an `action`, and gets JSON texts with an `event`; `protocol` lists both. A room is a
//! group, a name is an attribute of the connection, and nothing is kept in memory, so any instance can handle any
//! message.

mod member;
mod protocol;

use lockgate_plugin::{
    Acceptance, Closing, ConnectionId, Error, Event, Handler, Handshake, Message, Refusal, Result,
    connections, context, groups,
};

use member::Member;
use protocol::{Action, Reply};

struct Chat;

lockgate_plugin::export!(Chat);

/// The number of members that a client gets by name. They must fit in one message.
const LISTED_MEMBERS: u32 = 200;

impl Handler for Chat {
    /// Lets every client in, under the name in the query string (`?name=ada`) if it is valid.
    fn connect(event: Event, handshake: Handshake) -> Result<Acceptance, Refusal> {
        let mut member = Member::new(event.connection_id);
        if let Some(Ok(name)) = handshake.query_parameter("name").map(protocol::name) {
            member.rename(name)?;
        }
        let welcome = Reply::Welcome {
            id: &member.id,
            name: &member.name,
        };
        connections::send(&member.id, welcome.to_message()?)?;
        Ok(Acceptance::new())
    }

    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        let Some(body) = message.as_text() else {
            return complain("Send JSON as a text message.");
        };
        let action = match Action::parse(body) {
            Ok(action) => action,
            Err(complaint) => return complain(&complaint),
        };
        let member = Member::load(event.connection_id)?;
        match action {
            Action::Name { name } => rename(member, &name),
            Action::Join { room } => join(member, &room),
            Action::Leave { room } => leave(member, &room),
            Action::Say { room, text } => say(&member, &room, &text),
            Action::Whisper { to, text } => whisper(&member, &to, &text),
            Action::Who { room } => who(&room),
        }
    }

    /// Tells each room that the member left. The connection has left its groups by now.
    fn disconnect(event: Event, _: Closing) {
        if let Err(failure) = tell_rooms(event.connection_id) {
            eprintln!("a room was not told: {}", failure.as_str());
        }
    }
}

fn tell_rooms(id: ConnectionId) -> Result<()> {
    let member = Member::load(id)?;
    for room in &member.rooms {
        groups::publish(room, left(&member, room).to_message()?)?;
    }
    Ok(())
}

/// Renames the member, and tells its rooms.
fn rename(mut member: Member, name: &str) -> Result<Option<Message>> {
    member.rename(name)?;
    let renamed = Reply::Renamed {
        id: &member.id,
        name: &member.name,
    }
    .to_message()?;
    for room in &member.rooms {
        groups::publish_except(room, &renamed, &member.id)?;
    }
    Ok(Some(renamed))
}

/// Tells the room, and answers with its members. A second join only answers.
fn join(mut member: Member, room: &str) -> Result<Option<Message>> {
    if !member.is_in(room) {
        if member.rooms.len() >= member::MAX_ROOMS {
            return complain("You are in too many rooms. Leave one first.");
        }
        member.enter(room)?;
        let joined = Reply::Joined {
            room,
            id: &member.id,
            name: &member.name,
        };
        groups::publish(room, joined.to_message()?)?;
    }
    who(room)
}

fn leave(mut member: Member, room: &str) -> Result<Option<Message>> {
    if !member.is_in(room) {
        return complain("You are not in that room.");
    }
    member.exit(room)?;
    let left = left(&member, room).to_message()?;
    groups::publish(room, &left)?;
    Ok(Some(left))
}

fn say(member: &Member, room: &str, text: &str) -> Result<Option<Message>> {
    if !member.is_in(room) {
        return complain("Join the room before you speak in it.");
    }
    let said = Reply::Said {
        room,
        id: &member.id,
        name: &member.name,
        text,
        at: context::current().requested_at,
    }
    .to_message()?;
    match groups::publish_except(room, &said, &member.id) {
        Ok(_) => Ok(Some(said)),
        Err(error) => not_sent(error),
    }
}

fn whisper(member: &Member, to: &str, text: &str) -> Result<Option<Message>> {
    if to == member.id {
        return complain("That is you.");
    }
    let whispered = Reply::Whispered {
        id: &member.id,
        name: &member.name,
        to,
        text,
        at: context::current().requested_at,
    }
    .to_message()?;
    match connections::send(to, &whispered) {
        Ok(()) => Ok(Some(whispered)),
        Err(error) => not_sent(error),
    }
}

fn who(room: &str) -> Result<Option<Message>> {
    let mut members = Vec::new();
    for id in groups::members(room, None, LISTED_MEMBERS)? {
        match Member::load(id) {
            Ok(member) => members.push(member),
            Err(Error::Gone) => {} // the member has left meanwhile
            Err(error) => return Err(error.into()),
        }
    }
    let count = groups::count(room)?;
    let members = Reply::Members {
        room,
        members: &members,
        count,
    };
    Ok(Some(members.to_message()?))
}

fn left<'a>(member: &'a Member, room: &'a str) -> Reply<'a> {
    Reply::Left {
        room,
        id: &member.id,
        name: &member.name,
    }
}

/// The answer to a sender whose message was not sent.
fn not_sent(error: Error) -> Result<Option<Message>> {
    match error {
        Error::Gone => complain("That person is not here any more."),
        Error::Busy => complain("That person reads too slowly just now. Try again."),
        Error::TooLarge => complain("That is too long."),
        Error::Unreachable => complain("That person cannot be reached just now. Try again."),
        Error::Denied | Error::Invalid(_) => Err(error.into()),
    }
}

fn complain(text: &str) -> Result<Option<Message>> {
    Ok(Some(Reply::Error { text }.to_message()?))
}

#[cfg(test)]
mod tests {
    use lockgate_plugin::testing::{Gateway, handshake};
    use serde_json::{Value, json};

    use super::*;

    /// The chat with ada and bob, after their welcomes.
    fn two() -> (Gateway<Chat>, ConnectionId, ConnectionId) {
        let mut gateway = Gateway::new();
        let mut enter = |name: &str| {
            let request = Handshake {
                query: vec![("name".to_owned(), name.to_owned())],
                ..handshake()
            };
            let id = gateway.connect_with(request).unwrap();
            let welcome = json!({"event": "welcome", "id": id, "name": name});
            assert_eq!(heard(&mut gateway, &id), [welcome]);
            id
        };
        let (ada, bob) = (enter("ada"), enter("bob"));
        (gateway, ada, bob)
    }

    /// The events of a client since the last call.
    fn heard(gateway: &mut Gateway<Chat>, id: &str) -> Vec<Value> {
        gateway.received(id).iter().map(read).collect()
    }

    fn read(message: &Message) -> Value {
        serde_json::from_slice(message.as_bytes()).unwrap()
    }

    /// The answer to an action of a client.
    fn ask(gateway: &mut Gateway<Chat>, id: &str, action: Value) -> Value {
        let answer = gateway.message(id, action.to_string()).unwrap();
        read(&answer.unwrap())
    }

    fn join(gateway: &mut Gateway<Chat>, id: &str) -> Value {
        ask(gateway, id, json!({"action": "join", "room": "lobby"}))
    }

    #[test]
    fn invalid_name_makes_a_guest() {
        let mut gateway = Gateway::<Chat>::new();
        let request = Handshake {
            query: vec![("name".to_owned(), "\n".to_owned())],
            ..handshake()
        };
        let id = gateway.connect_with(request).unwrap();
        let [welcome] = &*heard(&mut gateway, &id) else {
            panic!("one welcome");
        };
        assert!(welcome["name"].as_str().unwrap().starts_with("guest-"));
    }

    #[test]
    fn text_said_in_a_room_reaches_its_members() {
        let (mut gateway, ada, bob) = two();
        assert_eq!(join(&mut gateway, &ada)["count"], 1);
        let say = json!({"action": "say", "room": "lobby", "text": "hi"});
        let answer = ask(&mut gateway, &bob, say.clone());
        assert_eq!(answer["event"], "error", "{answer}");
        let there = join(&mut gateway, &bob);
        assert_eq!(there["count"], 2);
        assert_eq!(there["members"][1], json!({"id": bob, "name": "bob"}));
        heard(&mut gateway, &ada);

        let said = ask(&mut gateway, &bob, say);
        assert_eq!(
            (&said["event"], &said["name"]),
            (&json!("said"), &json!("bob"))
        );
        assert_eq!(heard(&mut gateway, &ada), [said]);
    }

    // A page shows this one.
    #[test]
    fn whisper_reaches_one_member() {
        let mut gateway = Gateway::<Chat>::new();
        let (ada, bob) = (gateway.connect().unwrap(), gateway.connect().unwrap());
        gateway.received(&bob); // the welcome
        let whisper = json!({"action": "whisper", "to": bob, "text": "psst"}).to_string();
        let answer = gateway.message(&ada, whisper.clone()).unwrap();
        assert_eq!(gateway.received(&bob), [answer.unwrap()]);

        gateway.fail(&bob, Error::Busy); // or Gone, TooLarge, Denied
        gateway.message(&ada, whisper).unwrap();
        assert!(gateway.received(&bob).is_empty());
    }

    #[test]
    fn whisper_reaches_one_member_or_its_sender_gets_the_error() {
        let (mut gateway, ada, bob) = two();
        let whisper = json!({"action": "whisper", "to": bob, "text": "psst"});
        let whispered = ask(&mut gateway, &ada, whisper.clone());
        assert_eq!(whispered["event"], "whispered");
        assert_eq!(heard(&mut gateway, &bob), [whispered]);
        for (error, told) in [
            (Error::Gone, "That person is not here any more."),
            (
                Error::Busy,
                "That person reads too slowly just now. Try again.",
            ),
            (Error::TooLarge, "That is too long."),
        ] {
            gateway.fail(&bob, error);
            let answer = ask(&mut gateway, &ada, whisper.clone());
            assert_eq!(answer, json!({"event": "error", "text": told}));
        }
    }

    #[test]
    fn room_is_told_who_left() {
        let (mut gateway, ada, bob) = two();
        join(&mut gateway, &ada);
        join(&mut gateway, &bob);
        heard(&mut gateway, &ada);
        gateway.disconnect(&bob);
        let left = json!({"event": "left", "room": "lobby", "id": bob, "name": "bob"});
        assert_eq!(heard(&mut gateway, &ada), [left]);
        assert_eq!(gateway.members("lobby"), [ada]);
    }
}

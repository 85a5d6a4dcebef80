//! A member of the chat. Its state lives in the attributes of its connection.

use std::hash::{DefaultHasher, Hash, Hasher};

use lockgate_plugin::{ConnectionId, Error, Fields, connections, groups};
use serde::Serialize;

/// Far fewer than the limit of groups of a connection, and their names fit in its attributes.
pub const MAX_ROOMS: usize = 16;

const NAME: &str = "name";
/// The names of the rooms, separated by spaces. They can be read after the connection's end.
const ROOMS: &str = "rooms";

#[derive(Serialize)]
pub struct Member {
    pub id: ConnectionId,
    pub name: String,
    #[serde(skip)]
    pub rooms: Vec<String>,
}

impl Member {
    /// A new member, named guest and in no room.
    pub fn new(id: ConnectionId) -> Self {
        Self {
            name: guest_name(&id),
            id,
            rooms: Vec::new(),
        }
    }

    pub fn load(id: ConnectionId) -> Result<Self, Error> {
        let attributes = connections::attributes(&id)?;
        Ok(Self::from_attributes(id, attributes))
    }

    fn from_attributes(id: ConnectionId, attributes: Fields) -> Self {
        let mut member = Self::new(id);
        for (name, value) in attributes {
            match name.as_str() {
                NAME => member.name = value,
                ROOMS => member.rooms = value.split_whitespace().map(str::to_owned).collect(),
                _ => {} // another plugin's
            }
        }
        member
    }

    pub fn is_in(&self, room: &str) -> bool {
        self.rooms.iter().any(|other| other == room)
    }

    pub fn rename(&mut self, name: &str) -> Result<(), Error> {
        name.clone_into(&mut self.name);
        connections::set_attribute(&self.id, NAME, name)
    }

    pub fn enter(&mut self, room: &str) -> Result<(), Error> {
        groups::join(room, &self.id)?;
        self.rooms.push(room.to_owned());
        self.store_rooms()
    }

    pub fn exit(&mut self, room: &str) -> Result<(), Error> {
        groups::leave(room, &self.id)?;
        self.rooms.retain(|other| other != room);
        self.store_rooms()
    }

    fn store_rooms(&self) -> Result<(), Error> {
        connections::set_attribute(&self.id, ROOMS, &self.rooms.join(" "))
    }
}

/// A name that follows from the connection's id alone.
fn guest_name(id: &str) -> String {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    format!("guest-{:04}", hasher.finish() % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(attributes: &[(&str, &str)]) -> Member {
        let attributes = attributes
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Member::from_attributes("id".to_owned(), attributes)
    }

    #[test]
    fn attributes_give_the_name_and_the_rooms() {
        let ada = member(&[("name", "ada"), ("rooms", "lobby attic"), ("other", "x")]);
        assert_eq!(ada.name, "ada");
        assert!(ada.is_in("lobby") && ada.is_in("attic"));
        assert!(!ada.is_in("lob"));
    }

    #[test]
    fn member_without_attributes_is_a_guest_in_no_room() {
        assert_eq!(member(&[]).name, guest_name("id"));
        assert!(member(&[("rooms", "")]).rooms.is_empty());
    }
}

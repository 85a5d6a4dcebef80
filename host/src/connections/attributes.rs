//! The attributes of a connection, in one piece of memory that is no larger than they count.

/// Names and values, ordered by name: of each attribute both lengths (8 bytes), then both texts. One allocation without slack, since
/// a map takes a hundred bytes for an empty one, and every connection may have many.
#[derive(Debug, Default)]
pub(super) struct Attributes(Box<[u8]>);

impl Attributes {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut entries = self.iter();
        entries.find_map(|(other, value)| (other == name).then_some(value))
    }

    /// All names and values, ordered by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (name_len, after) = rest.split_first_chunk()?;
            let (value_len, after) = after.split_first_chunk()?;
            let (name, after) = split_text(after, *name_len)?;
            let (value, after) = split_text(after, *value_len)?;
            rest = after;
            Some((name, value))
        })
    }

    /// Sets an attribute, or removes it. False, and nothing changes, if all would count more than `max` bytes then.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>, max: usize) -> bool {
        let before = self.iter().filter(|(other, _)| *other < name);
        let after = self.iter().filter(|(other, _)| *other > name);
        let entries = || before.chain(value.map(|value| (name, value))).chain(after);
        let mut bytes = Vec::new();
        for (name, value) in entries() {
            bytes.extend((name.len() as u32).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(value.as_bytes());
        }
        if value.is_some() && bytes.len() > max {
            return false;
        }
        self.0 = bytes.into();
        true
    }
}

fn split_text(bytes: &[u8], len: [u8; 4]) -> Option<(&str, &[u8])> {
    let (text, rest) = bytes.split_at_checked(u32::from_le_bytes(len) as usize)?;
    Some((str::from_utf8(text).ok()?, rest))
}

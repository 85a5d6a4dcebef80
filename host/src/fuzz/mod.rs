//! Fuzz targets: a function for each parser of untrusted input, which panics if a property does not hold.
//! `tests/fuzz/targets` calls them from libFuzzer, `tests/fuzz/replay.rs` replays earlier finds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is what a target is for"
)]

mod certificates;
mod dialogues;
mod frames;
mod heads;
mod http3;
mod input;
mod proxy_headers;
mod signed_requests;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tempfile::TempDir;

use crate::config::Config;
use crate::connections::{
    Carrier, Client, Connection, ConnectionId, ConnectionLimits, Directory, Message, OutboxLimits,
    Payload, Taken,
};
use crate::route::Selection;
use input::Choices;

/// A function that takes an input and panics if a property does not hold.
pub type Target = fn(&[u8]);

/// Every target, with the name of its folder in `corpus/`.
pub const TARGETS: [(&str, Target); 16] = [
    ("certificates", certificates::certificates),
    ("configuration", configuration),
    ("dialogues", dialogues::dialogues),
    ("expectations", dialogues::expectations),
    ("expressions", expressions),
    ("forwarded", heads::forwarded),
    ("frames", frames::frames),
    ("groups", groups),
    ("heads", heads::head),
    ("http3", http3::http3),
    ("messages", messages),
    ("origins", heads::origins),
    ("proxy-headers", proxy_headers::proxy_headers),
    ("signed-requests", signed_requests::signed_requests),
    ("tokens", tokens::tokens),
    ("words", words),
];

thread_local! {
    static FOLDER: TempDir = TempDir::new().unwrap();
}

/// Takes a configuration file. Every problem names its place in the file.
fn configuration(input: &[u8]) {
    FOLDER.with(|folder| {
        let file = folder.path().join("gateway.toml");
        fs::write(&file, input).unwrap();
        if let Err(problems) = Config::load(&file) {
            let said = problems.to_string();
            assert!(said.contains("gateway.toml"), "{said}");
        }
    });
}

/// Takes a route selection expression and, behind the first line, a message.
fn expressions(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (expression, body) = text.split_once('\n').unwrap_or((&text, "{}"));
    match Selection::parse(expression) {
        Ok(selection) => check_key(&selection, body),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Takes a message, and evaluates expressions of every kind on it.
fn messages(input: &[u8]) {
    const EXPRESSIONS: [&str; 8] = [
        "$request.body.action",
        "$request.body",
        "${request.body.a}/${request.body.b[0].c}",
        "$request.body..action",
        "$request.body.*",
        "$request.body.list[*].name",
        "$request.body..list[0:2]..*",
        "constant",
    ];
    let text = String::from_utf8_lossy(input);
    for expression in EXPRESSIONS {
        if let Ok(selection) = Selection::parse(expression) {
            check_key(&selection, &text);
        }
    }
}

/// Only JSON gives a key, and it is the same each time.
fn check_key(selection: &Selection, body: &str) {
    let key = selection.evaluate(body);
    assert_eq!(key, selection.evaluate(body));
    let json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    assert!(key.is_none() || json, "{key:?} of what is no JSON");
}

/// Takes the text of a handler or a client: an id, a message.
fn words(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(id) = ConnectionId::parse(&text) {
        assert_eq!(id.as_str(), text);
        assert_eq!(ConnectionId::parse(id.as_str()), Some(id));
    }
    for message in [
        Message::Text(text.clone().into_owned()),
        Message::Binary(input.to_vec()),
    ] {
        let payload = Payload::from(message.clone());
        assert_eq!(payload.kind, message.kind());
        assert_eq!(payload.bytes, message.bytes());
    }
}

/// Takes acts of connections that come, join, leave, publish and go in any order, and compares the directory with a
/// plain list of members.
fn groups(input: &[u8]) {
    const NAMES: [&str; 3] = ["a", "b", ""];
    let limits = ConnectionLimits {
        outbox: OutboxLimits {
            bytes: 64,
            messages: 4,
        },
        datagrams: false,
        message_bytes: 32,
        attributes_bytes: 16,
        groups: 2,
        early_posts: true,
        principal: None,
    };
    let directory = Arc::new(Directory::default());
    let view = directory.view(&limits, None);
    let mut open = BTreeMap::new();
    let mut expected: BTreeMap<&str, BTreeSet<ConnectionId>> = BTreeMap::new();
    let mut choices = Choices(input);
    while let Some(act) = choices.of(6) {
        let (Some(slot), Some(name)) = (choices.of(5), choices.of(NAMES.len())) else {
            return;
        };
        let name = NAMES[name];
        let Some((connection, _)) = open.get(&slot) else {
            let connection = Arc::new(Connection::new(Client {
                source_ip: Ipv4Addr::LOCALHOST.into(),
                domain_name: "localhost".into(),
                user_agent: None,
                over_quic: false,
                carrier: Carrier::Http1,
            }));
            let registration = directory
                .admit(Arc::clone(&connection), None)
                .expect("there is no limit");
            open.insert(slot, (connection, registration));
            continue;
        };
        let connection = Arc::clone(connection);
        match act {
            0 | 1 => {
                let own = expected.values().filter(|m| m.contains(&connection.id));
                let (joined, members) = (own.count(), expected.entry(name).or_default());
                let room = joined < limits.groups || members.contains(&connection.id);
                let result = view.join(name, connection.id);
                assert_eq!(result.is_ok(), room);
                if room {
                    members.insert(connection.id);
                }
            }
            2 => {
                assert_eq!(view.leave(name, connection.id), Ok(()));
                expected.entry(name).or_default().remove(&connection.id);
            }
            3 => {
                let length = choices.of(40).unwrap_or_default();
                let message = Message::Binary(vec![7; length]);
                let except = Some(connection.id);
                let reached = view.publish(name, message, except);
                let members = expected.get(name).map_or(0, BTreeSet::len);
                assert!(reached.map_or(0, |reached| reached as usize) <= members);
            }
            4 => {
                let mut out = 0;
                let mut write = |payload: &Payload| {
                    out += payload.bytes.len();
                    payload.bytes.len()
                };
                while let Taken::Messages(..) = connection.outbox.take(0, 16, &mut write) {}
                assert!(out <= limits.outbox.bytes + limits.message_bytes + 16);
            }
            _ => {
                open.remove(&slot);
                for members in expected.values_mut() {
                    members.remove(&connection.id);
                }
            }
        }
        for name in NAMES {
            let members = expected.get(name).cloned().unwrap_or_default();
            assert_eq!(view.count(name), members.len());
            assert_eq!(
                view.members(name, None, 10),
                members.into_iter().collect::<Vec<_>>()
            );
        }
        let mut listed = directory.list();
        listed.sort_unstable();
        let mut ids: Vec<_> = open.values().map(|(connection, _)| connection.id).collect();
        ids.sort_unstable();
        assert_eq!(listed, ids);
    }
}

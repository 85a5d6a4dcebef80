//! The registry and its groups, from the outside.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    outbox: OutboxLimits {
        bytes: 30,
        messages: 2,
    },
    message_bytes: 10,
    attributes_bytes: 10,
    groups: 2,
};

fn connection() -> Arc<Connection> {
    Arc::new(Connection::new(Client {
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        domain_name: "localhost".into(),
        user_agent: None,
    }))
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

#[test]
fn a_connection_is_found_while_it_is_registered() {
    let connections = Arc::new(Connections::default());
    let connection = connection();
    assert!(connections.find(connection.id).is_none());
    let registration = connections.register(Arc::clone(&connection));
    assert!(connections.find(connection.id).is_some());
    drop(registration);
    assert!(connections.find(connection.id).is_none());
    assert_eq!(connection.post(text("late"), &LIMITS), Err(PostError::Gone));
}

#[test]
fn gone_busy_and_too_large_are_told_apart() {
    let connection = connection();
    assert_eq!(connection.post(text("0123456789"), &LIMITS), Ok(()));
    assert_eq!(
        connection.post(text("0123456789A"), &LIMITS),
        Err(PostError::TooLarge)
    );
    assert_eq!(connection.post(text(""), &LIMITS), Ok(()));
    assert_eq!(connection.post(text(""), &LIMITS), Err(PostError::Busy));
    assert!(connection.close(Closing::new(1000, "")));
    assert_eq!(connection.post(text(""), &LIMITS), Err(PostError::Gone));
}

#[test]
fn what_joins_before_it_is_let_in_is_a_member_afterwards() {
    let connections = Arc::new(Connections::default());
    let connection = connection();
    let groups = &connections.groups;
    assert_eq!(groups.join("lobby", &connection, &LIMITS), Ok(()));
    assert_eq!(groups.count("lobby"), 0);
    let registration = connections.register(Arc::clone(&connection));
    assert_eq!(groups.members("lobby", None, 10), [connection.id]);
    drop(registration);
    assert_eq!(groups.count("lobby"), 0);
    assert_eq!(
        groups.join("lobby", &connection, &LIMITS),
        Err(JoinError::Gone)
    );
}

#[test]
fn a_connection_joins_as_many_groups_as_it_may() {
    let connections = Arc::new(Connections::default());
    let connection = connection();
    let _registration = connections.register(Arc::clone(&connection));
    let groups = &connections.groups;
    for name in ["a", "b", "a"] {
        assert_eq!(groups.join(name, &connection, &LIMITS), Ok(()));
    }
    assert_eq!(
        groups.join("c", &connection, &LIMITS),
        Err(JoinError::TooMany)
    );
    groups.leave("a", &connection);
    groups.leave("never joined", &connection);
    assert_eq!(groups.join("c", &connection, &LIMITS), Ok(()));
}

#[test]
fn members_come_in_pages_ordered_by_id() {
    let connections = Arc::new(Connections::default());
    let groups = &connections.groups;
    let mut registrations = Vec::new();
    for _ in 0..5 {
        let connection = connection();
        registrations.push(connections.register(Arc::clone(&connection)));
        groups
            .join("room", &connection, &LIMITS)
            .expect("it is open");
    }
    let all = groups.members("room", None, 10);
    assert!(all.is_sorted() && all.len() == 5);
    let first = groups.members("room", None, 2);
    assert_eq!(first, all[..2]);
    assert_eq!(groups.members("room", first.last().copied(), 10), all[2..]);
    assert_eq!(groups.members("nobody is here", None, 10), []);
}

#[test]
fn a_publish_reaches_all_but_one_and_closes_who_has_no_room() {
    let connections = Arc::new(Connections::default());
    let groups = &connections.groups;
    let members: Vec<_> = (0..3).map(|_| connection()).collect();
    let registrations: Vec<_> = members
        .iter()
        .map(|member| connections.register(Arc::clone(member)))
        .collect();
    for member in &members {
        groups.join("room", member, &LIMITS).expect("it is open");
    }
    let publish = |except| groups.publish("room", text("four"), except, &LIMITS);
    assert_eq!(publish(Some(members[0].id)), Ok(2));
    assert_eq!(publish(Some(members[0].id)), Ok(2));
    assert_eq!(publish(None), Ok(1), "two have no room left");
    let take = || {
        members[1]
            .outbox
            .take(0, 100, |payload| payload.bytes.len())
    };
    assert_eq!(take(), Taken::Messages);
    let closing = Closing::new(1013, "slow consumer");
    assert_eq!(take(), Taken::Close(closing));
    assert_eq!(groups.publish("nobody", text("hi"), None, &LIMITS), Ok(0));
    assert_eq!(
        groups.publish("room", text("0123456789A"), None, &LIMITS),
        Err(PostError::TooLarge)
    );
    drop(registrations);
}

#[test]
fn attributes_are_bounded_together() {
    let connection = connection();
    let set = |name, value| connection.set_attribute(name, value, &LIMITS);
    assert_eq!(set("", Some("x")), Err(AttributeError::EmptyName));
    assert_eq!(set("name", Some("123456")), Ok(()));
    assert_eq!(set("n", Some("")), Err(AttributeError::TooLarge));
    assert_eq!(set("name", Some("1234")), Ok(()));
    assert_eq!(set("n", Some("1")), Ok(()));
    assert_eq!(connection.attribute("name").as_deref(), Some("1234"));
    assert_eq!(set("name", None), Ok(()));
    assert_eq!(connection.attributes(), [("n".to_owned(), "1".to_owned())]);
}

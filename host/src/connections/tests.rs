//! The directory and its groups, from the outside.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::auth::Identity;

const LIMITS: ConnectionLimits = ConnectionLimits {
    outbox: OutboxLimits {
        bytes: 30,
        messages: 2,
    },
    datagrams: true,
    message_bytes: 10,
    attributes_bytes: 27,
    groups: 2,
    early_posts: true,
    principal: None,
};

fn connection() -> Arc<Connection> {
    Arc::new(Connection::new(Client {
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        domain_name: "localhost".into(),
        user_agent: None,
        over_quic: false,
        carrier: Carrier::Http1,
    }))
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

#[test]
fn connection_is_found_while_it_is_registered() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let connection = connection();
    let id = connection.id;
    assert!(!view.has(id));
    assert_eq!(directory.list(), []);
    let registration = directory.register(connection);
    assert!(view.has(id));
    assert_eq!(directory.list(), [id]);
    assert_eq!(view.send(id, text("hi")), Ok(()));
    drop(registration);
    assert!(!view.has(id));
    assert_eq!(directory.list(), []);
}

#[test]
fn every_request_about_a_connection_that_has_gone_says_so() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let connection = connection();
    let id = connection.id;
    drop(directory.register(connection));
    let closing = || Closing::new(1000, "");
    assert_eq!(view.send(id, text("late")), Err(PostError::Gone));
    assert_eq!(view.close(id, closing()), Err(Gone));
    assert_eq!(directory.close(id, closing()), Err(Gone));
    assert_eq!(directory.cut(id, closing()), Err(Gone));
    assert!(view.info(id).is_err());
    assert_eq!(view.attribute(id, "a"), Err(Gone));
    assert_eq!(view.attributes(id), Err(Gone));
    let set = view.set_attribute(id, "a", None);
    assert_eq!(set, Err(AttributeError::Gone));
    assert_eq!(view.join("lobby", id), Err(JoinError::Gone));
    assert_eq!(view.leave("lobby", id), Err(Gone));
}

#[test]
fn own_connection_is_found_before_it_is_let_in_and_after_its_end() {
    let directory = Arc::new(Directory::default());
    let connection = connection();
    let id = connection.id;
    let own = directory.view(&LIMITS, Some(&connection));
    let others = directory.view(&LIMITS, None);
    assert_eq!(own.set_attribute(id, "name", Some("x")), Ok(()));
    assert_eq!(own.send(id, text("early")), Ok(()));
    assert_eq!(others.send(id, text("early")), Err(PostError::Gone));
    drop(directory.register(Arc::clone(&connection)));
    assert_eq!(own.attribute(id, "name"), Ok(Some("x".to_owned())));
    assert!(own.info(id).is_ok());
    assert_eq!(own.send(id, text("late")), Err(PostError::Gone));
    assert_eq!(others.attribute(id, "name"), Err(Gone));
}

#[test]
fn message_before_a_connection_is_let_in_is_gone_where_none_is_taken() {
    let limits = ConnectionLimits {
        early_posts: false,
        ..LIMITS
    };
    let directory = Arc::new(Directory::default());
    let connection = connection();
    let view = directory.view(&limits, Some(&connection));
    assert_eq!(
        view.send(connection.id, text("early")),
        Err(PostError::Gone)
    );
    let registration = directory.register(Arc::clone(&connection));
    assert_eq!(view.send(connection.id, text("hi")), Ok(()));
    drop(registration);
    assert_eq!(view.send(connection.id, text("late")), Err(PostError::Gone));
}

#[test]
fn gone_busy_and_too_large_are_told_apart() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let connection = connection();
    let id = connection.id;
    let _registration = directory.register(connection);
    assert_eq!(view.send(id, text("0123456789")), Ok(()));
    let too_large = view.send(id, text("0123456789A"));
    assert_eq!(too_large, Err(PostError::TooLarge));
    assert_eq!(view.send(id, text("")), Ok(()));
    assert_eq!(view.send(id, text("")), Err(PostError::Busy));
    assert_eq!(view.close(id, Closing::new(1000, "")), Ok(()));
    assert_eq!(view.close(id, Closing::new(1000, "")), Err(Gone));
    assert_eq!(view.send(id, text("")), Err(PostError::Gone));
}

#[test]
fn connection_that_joins_before_it_is_let_in_is_a_member_afterwards() {
    let directory = Arc::new(Directory::default());
    let connection = connection();
    let view = directory.view(&LIMITS, Some(&connection));
    assert_eq!(view.join("lobby", connection.id), Ok(()));
    assert_eq!(view.count("lobby"), 0);
    let registration = directory.register(Arc::clone(&connection));
    assert_eq!(view.members("lobby", None, 10), [connection.id]);
    drop(registration);
    assert_eq!(view.count("lobby"), 0);
    assert_eq!(view.join("lobby", connection.id), Err(JoinError::Gone));
}

#[test]
fn connection_joins_no_more_groups_than_the_limit() {
    let directory = Arc::new(Directory::default());
    let connection = connection();
    let _registration = directory.register(Arc::clone(&connection));
    let view = directory.view(&LIMITS, None);
    for name in ["a", "b", "a"] {
        assert_eq!(view.join(name, connection.id), Ok(()));
    }
    assert_eq!(view.join("c", connection.id), Err(JoinError::TooMany));
    for name in ["a", "never joined"] {
        assert_eq!(view.leave(name, connection.id), Ok(()));
    }
    assert_eq!(view.join("c", connection.id), Ok(()));
}

#[test]
fn members_come_in_pages_ordered_by_id() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let mut registrations = Vec::new();
    for _ in 0..5 {
        let connection = connection();
        registrations.push(directory.register(Arc::clone(&connection)));
        view.join("room", connection.id).expect("it is open");
    }
    let all = view.members("room", None, 10);
    assert!(all.is_sorted() && all.len() == 5);
    let first = view.members("room", None, 2);
    assert_eq!(first, all[..2]);
    assert_eq!(view.members("room", first.last().copied(), 10), all[2..]);
    assert_eq!(view.members("nobody is here", None, 10), []);
}

#[test]
fn publish_reaches_all_but_one_and_closes_members_without_room() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let members: Vec<_> = (0..3).map(|_| connection()).collect();
    let registrations: Vec<_> = members
        .iter()
        .map(|member| directory.register(Arc::clone(member)))
        .collect();
    for member in &members {
        view.join("room", member.id).expect("it is open");
    }
    let publish = |except| view.publish("room", text("four"), except);
    assert_eq!(publish(Some(members[0].id)), Ok(2));
    assert_eq!(publish(Some(members[0].id)), Ok(2));
    assert_eq!(publish(None), Ok(1), "two have no room left");
    let take = || {
        members[1]
            .outbox
            .take(0, 100, |payload| payload.bytes.len())
    };
    assert_eq!(take(), Taken::Messages(2, 8));
    let closing = Closing::new(1013, "slow consumer");
    assert_eq!(take(), Taken::Close(closing));
    assert_eq!(view.publish("nobody", text("hi"), None), Ok(0));
    assert_eq!(
        view.publish("room", text("0123456789A"), None),
        Err(PostError::TooLarge)
    );
    drop(registrations);
}

/// Threads join, leave and end while others publish: each member that stays has each message of each sender once, in
/// the order in which it was sent.
#[test]
fn members_that_stay_get_every_publish_in_order_while_others_come_and_go() {
    const PUBLISHES: usize = 200;
    const SENDERS: usize = 2;
    let limits = ConnectionLimits {
        outbox: OutboxLimits {
            bytes: 1 << 20,
            messages: SENDERS * PUBLISHES,
        },
        ..LIMITS
    };
    let directory = Arc::new(Directory::default());
    let enter = || {
        let connection = connection();
        let registration = directory.register(Arc::clone(&connection));
        let joined = directory.view(&limits, None).join("room", connection.id);
        joined.expect("it is open");
        registration
    };
    let staying: Vec<_> = (0..300).map(|_| enter()).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let view = directory.view(&limits, None);
                while !over.load(Ordering::Relaxed) {
                    let mut leaving: Vec<_> = (0..200).map(|_| enter()).collect();
                    let ending = leaving.split_off(100);
                    for registration in &leaving {
                        let left = view.leave("room", registration.connection.id);
                        left.expect("it is open");
                    }
                    drop(ending);
                }
            });
        }
        let senders = (0..SENDERS).map(|sender| {
            let (directory, limits) = (&directory, &limits);
            scope.spawn(move || {
                let view = directory.view(limits, None);
                for number in 0..PUBLISHES {
                    let message = text(&format!("{sender} {number}"));
                    let reached = view.publish("room", message, None);
                    assert!(reached.expect("it is small") >= 300);
                }
            })
        });
        let senders: Vec<_> = senders.collect();
        for sender in senders {
            sender.join().expect("it does not panic");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(directory.view(&limits, None).count("room"), staying.len());
    for registration in staying {
        let mut next = [0; SENDERS];
        let taken = registration
            .connection
            .outbox
            .take(0, usize::MAX, |payload| {
                let words = str::from_utf8(&payload.bytes).expect("it is text");
                let (sender, number) = words.split_once(' ').expect("it has two words");
                let sender: usize = sender.parse().expect("it is a number");
                assert_eq!(number.parse(), Ok(next[sender]));
                next[sender] += 1;
                0
            });
        assert!(matches!(taken, Taken::Messages(..)));
        assert_eq!(next, [PUBLISHES; SENDERS]);
    }
}

#[test]
fn attributes_are_bounded_together() {
    let directory = Arc::new(Directory::default());
    let connection = connection();
    let id = connection.id;
    let view = directory.view(&LIMITS, Some(&connection));
    let set = |name, value| view.set_attribute(id, name, value);
    assert_eq!(set("", Some("x")), Err(AttributeError::EmptyName));
    assert_eq!(set("name", Some("123456")), Ok(()));
    assert_eq!(
        set("n", Some("")),
        Ok(()),
        "each counts 8 bytes beside its texts"
    );
    assert_eq!(set("n", Some("1")), Err(AttributeError::TooLarge));
    assert_eq!(set("", None), Err(AttributeError::EmptyName));
    assert_eq!(set("name", Some("1234")), Ok(()));
    assert_eq!(set("n", Some("1")), Ok(()));
    assert_eq!(view.attribute(id, "name"), Ok(Some("1234".to_owned())));
    assert_eq!(set("name", None), Ok(()));
    let left = vec![("n".to_owned(), "1".to_owned())];
    assert_eq!(view.attributes(id), Ok(left));
}

/// Threads connect, list and go at the same time: a connection that stays open is always listed and found.
#[test]
fn open_connection_is_listed_and_found_while_others_come_and_go() {
    const EACH: usize = 2_000;
    let directory = Arc::new(Directory::default());
    let open = |count| -> Vec<_> {
        let opened = (0..count).map(|_| directory.register(connection()));
        opened.collect()
    };
    let staying = open(100);
    let stay = directory.list();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| drop(open(EACH)));
        }
        for _ in 0..20 {
            let listed: HashSet<_> = directory.list().into_iter().collect();
            let view = directory.view(&LIMITS, None);
            assert!(stay.iter().all(|id| listed.contains(id) && view.has(*id)));
        }
    });
    assert_eq!(directory.list().len(), staying.len());
}

#[test]
fn walk_finds_each_connection_once_and_continues_after_one_that_has_gone() {
    let directory = Arc::new(Directory::default());
    let mut open: Vec<_> = (0..2_000)
        .map(|_| directory.register(connection()))
        .collect();
    let mut ids: HashSet<_> = directory.list().into_iter().collect();
    let mut walk = directory.walk(Filter::default(), None);
    let mut chunks = 0;
    while let Some(chunk) = walk.next_chunk() {
        let last = chunk.describe().last().expect("no chunk is empty");
        for description in chunk.describe() {
            assert!(ids.remove(&description.id), "found twice");
        }
        chunks += 1;
        if chunks % 10 == 0 {
            open.retain(|registration| registration.connection.id != last.id);
            walk = directory.walk(Filter::default(), walk.after());
        }
    }
    assert_eq!(ids, HashSet::new());
}

#[test]
fn walk_with_conditions_finds_those_that_meet_them_all() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let open: Vec<_> = (0..300).map(|_| directory.register(connection())).collect();
    let mut expected = HashSet::new();
    for (place, registration) in open.iter().enumerate() {
        let id = registration.connection.id;
        if place % 2 == 0 {
            view.join("even", id).unwrap();
        }
        if place % 3 == 0 {
            view.set_attribute(id, "third", Some("yes")).unwrap();
        }
        if place % 6 == 0 {
            expected.insert(id);
        }
    }
    let filter = Filter {
        group: Some("even".into()),
        attribute: Some(("third".into(), "yes".into())),
        ..Filter::default()
    };
    let mut walk = directory.walk(filter, None);
    let mut found = HashSet::new();
    while let Some(chunk) = walk.next_chunk() {
        found.extend(chunk.describe().map(|description| description.id));
    }
    assert_eq!(found, expected);
    let nobody = Filter {
        group: Some("nobody".into()),
        ..Filter::default()
    };
    assert!(directory.walk(nobody, None).next_chunk().is_none());
}

#[test]
fn groups_are_listed_once_in_pages() {
    let directory = Arc::new(Directory::default());
    let view = directory.view(&LIMITS, None);
    let open: Vec<_> = (0..200).map(|_| directory.register(connection())).collect();
    for (place, registration) in open.iter().enumerate() {
        let id = registration.connection.id;
        view.join(&format!("g{}", place / 2), id).unwrap();
    }
    let mut found = HashSet::new();
    let mut after: Option<Box<str>> = None;
    loop {
        let page = directory.list_groups(after.as_deref(), 7);
        assert!(page.iter().all(|group| group.members == 2));
        after = page.last().map(|group| group.name.clone());
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|group| group.name));
    }
    assert_eq!(found.len(), 100);
}

#[tokio::test]
async fn slow_reader_of_a_trace_is_told_what_it_missed_and_then_the_end() {
    let limits = ConnectionLimits {
        outbox: OutboxLimits {
            bytes: 100_000,
            messages: 1_000,
        },
        ..LIMITS
    };
    let directory = Arc::new(Directory::default());
    let view = directory.view(&limits, None);
    let connection = connection();
    let id = connection.id;
    let registration = directory.register(Arc::clone(&connection));
    assert!(!connection.is_traced());
    let mut reader = directory.trace(id).expect("it is open");
    assert!(connection.is_traced());
    for _ in 0..300 {
        view.send(id, text("x")).expect("there is room");
    }
    drop(registration);
    let mut seen = 0;
    while let Some(traced) = reader.next().await {
        match traced {
            Traced::Missed(missed) => assert_eq!((seen, missed), (0, 300 - 256)),
            Traced::Event(_) => seen += 1,
        }
    }
    assert_eq!(seen, 256);
    assert!(directory.trace(id).is_err());
}

#[test]
fn connection_is_traced_until_its_last_reader_goes() {
    let directory = Arc::new(Directory::default());
    let registration = directory.register(connection());
    let connection = &registration.connection;
    let readers = [1, 2].map(|_| directory.trace(connection.id).expect("it is open"));
    let [one, other] = readers;
    drop(one);
    assert!(connection.is_traced());
    drop(other);
    assert!(!connection.is_traced());
    assert!(directory.trace(connection.id).is_ok());
}

/// A connection of this principal, which connects at `connected_at`.
fn of_principal(principal: &str, connected_at: u64) -> Arc<Connection> {
    let mut connection = Arc::into_inner(connection()).expect("it is not shared");
    connection.connected_at = connected_at;
    let identity = Identity::new(Some(principal.into()), vec![], vec![], None);
    connection.set_identity(Some(Arc::new(identity.expect("it is valid"))));
    Arc::new(connection)
}

#[test]
fn principal_has_as_many_connections_as_its_limit() {
    let directory = Arc::new(Directory::default());
    let refusing = Some(PrincipalLimit {
        connections: 2,
        closes_oldest: false,
    });
    let admit = |principal, limit| directory.admit(of_principal(principal, 1), limit);
    let one = admit("ada", refusing).expect("it is the first");
    let _two = admit("ada", refusing).expect("it is the second");
    assert_eq!(admit("ada", refusing).err(), Some(TooManyOfPrincipal));
    let _other = admit("bob", refusing).expect("it is another's");
    // One that is closing leaves room.
    assert!(one.connection.close(Closing::new(1000, "")));
    let _three = admit("ada", refusing).expect("there is room");
    drop(one);
    assert_eq!(admit("ada", refusing).err(), Some(TooManyOfPrincipal));
    let view = directory.view(&LIMITS, None);
    assert_eq!(view.count("$principal/ada"), 2);
    assert_eq!(directory.list_groups(None, 10), []);
}

#[test]
fn connections_of_a_principal_that_say_goodbye_are_bounded() {
    let directory = Arc::new(Directory::default());
    for closes_oldest in [false, true] {
        let limit = Some(PrincipalLimit {
            connections: 1,
            closes_oldest,
        });
        let admit = || directory.admit(of_principal("ada", 1), limit);
        let leave = |open: Registration| open.principal_place().expect("it has a principal");
        let mut leaving: Vec<_> = (0..8)
            .map(|_| leave(admit().expect("the others are leaving")))
            .collect();
        assert_eq!(admit().err(), Some(TooManyOfPrincipal));
        assert_eq!(directory.view(&LIMITS, None).count("$principal/ada"), 0);
        leaving.pop();
        leaving.push(leave(admit().expect("there is room again")));
    }
}

#[test]
fn oldest_connections_of_a_principal_make_room_until_too_many_are_closing() {
    let directory = Arc::new(Directory::default());
    let limit = |connections| {
        Some(PrincipalLimit {
            connections,
            closes_oldest: true,
        })
    };
    let admit = |connected_at, limit| directory.admit(of_principal("ada", connected_at), limit);
    let closing = |open: &[Registration]| -> Vec<_> {
        let closing = open.iter().map(|open| &open.connection);
        let closing = closing.filter(|connection| connection.outbox.closing().is_some());
        closing.map(|connection| connection.connected_at).collect()
    };
    let open = [2, 1, 3, 4].map(|connected_at| admit(connected_at, limit(3)));
    let mut open: Vec<_> = open
        .into_iter()
        .map(|it| it.expect("there is room"))
        .collect();
    assert_eq!(closing(&open), [1]);
    // The limit is lower now: all that are too many go.
    open.push(admit(5, limit(1)).expect("the others make room"));
    assert_eq!(closing(&open), [2, 1, 3, 4]);
    for connected_at in 6..10 {
        open.push(admit(connected_at, limit(1)).expect("there is room"));
    }
    // Nobody reads the closes: a client could pile them up.
    assert_eq!(closing(&open).len(), 8);
    assert_eq!(admit(10, limit(1)).err(), Some(TooManyOfPrincipal));
    open.remove(0);
    open.push(admit(10, limit(1)).expect("there is room again"));
    assert_eq!(closing(&open).len(), 8);
}

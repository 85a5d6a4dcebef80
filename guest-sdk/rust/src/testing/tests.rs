use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::context::Value;
use crate::{Acceptance, connections, context, groups};

/// The year 10,000.
const FAR: u64 = 253_402_300_800_000;

/// A handler that obeys its client: the first word of a message is the call, the rest its argument.
struct Word;

impl Handler for Word {
    fn connect(event: Event, handshake: Handshake) -> Result<Acceptance, Refusal> {
        connections::set_attribute(&event.connection_id, "name", "guest")?;
        groups::join("lobby", &event.connection_id)?;
        // Other connections do not see it there yet.
        assert_eq!(connections::send(&event.connection_id, "welcome"), Ok(()));
        groups::publish("lobby", "someone comes")?;
        match handshake.query_parameter("no") {
            Some(_) => Err(Refusal::new(403)),
            None => Ok(handshake
                .query_parameter("choose")
                .map_or_else(Acceptance::new, |word| Acceptance::new().subprotocol(word))),
        }
    }

    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        let own = &event.connection_id;
        let line = message.as_text().unwrap_or_default();
        let (word, rest) = match line {
            "long reply" | "renew twice" => (line, ""),
            _ => line.split_once(' ').unwrap_or((line, "")),
        };
        match word {
            "send" => connections::send(rest, "hello")?,
            "publish" => return Ok(Some(groups::publish("lobby", rest)?.to_string().into())),
            "devices" => {
                let devices = groups::of_principal(rest);
                assert!(matches!(
                    groups::join(&devices, own),
                    Err(Error::Invalid(_))
                ));
                assert!(matches!(
                    groups::leave(&devices, own),
                    Err(Error::Invalid(_))
                ));
                return Ok(Some(groups::publish(&devices, "hello")?.to_string().into()));
            }
            "others" => {
                groups::publish_except("lobby", rest, own)?;
            }
            "long" => {
                groups::publish("lobby", "x".repeat((128 << 10) + 1))?;
            }
            "long reply" => return Ok(Some("x".repeat((128 << 10) + 1).into())),
            "flood" => while connections::send(own, "more").is_ok() {},
            "close" => connections::close(own, rest.parse()?, "told to")?,
            "route" => return Ok(Some(event.route_key.into())),
            "count" => return Ok(Some(groups::count("lobby")?.to_string().into())),
            "who" => {
                let principal = context::principal().unwrap_or_default();
                return Ok(Some(
                    format!("{principal} {:?}", context::authorizer()).into(),
                ));
            }
            "renew" => context::renew(rest.parse()?)?,
            "rename" => context::renew_with(FAR, [(rest, 1.0)])?,
            "renew twice" => context::renew_with(FAR, [("a", true), ("a", true)])?,
            "room" => return Ok(context::variable("room").map(Message::from)),
            "trap" => panic!("as told"),
            _ => return Err("no such word".into()),
        }
        Ok(None)
    }

    fn disconnect(event: Event, closing: Closing) {
        let id = &event.connection_id;
        // The connection is gone, and its attributes can still be read.
        assert_eq!(connections::send(id, "too late"), Err(Error::Gone));
        let name = connections::attribute(id, "name").unwrap();
        let farewell = format!("{} left with {}", name.unwrap(), closing.code);
        groups::publish("lobby", farewell).unwrap();
    }
}

fn two() -> (Gateway<Word>, ConnectionId, ConnectionId) {
    let mut gateway = Gateway::new().variable("room", "attic");
    let (ada, bob) = (gateway.connect().unwrap(), gateway.connect().unwrap());
    gateway.received(&ada);
    gateway.received(&bob);
    gateway.calls();
    (gateway, ada, bob)
}

#[test]
fn call_without_a_gateway_panics_with_the_name_of_the_function() {
    let message = |call: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let calls: [(&str, &dyn Fn()); 13] = [
        ("connections::send", &|| drop(connections::send("id", "x"))),
        ("connections::close", &|| {
            drop(connections::close("id", 1000, ""))
        }),
        ("connections::info", &|| drop(connections::info("id"))),
        ("connections::attribute", &|| {
            drop(connections::attribute("id", "x"))
        }),
        ("connections::attributes", &|| {
            drop(connections::attributes("id"))
        }),
        ("connections::remove_attribute", &|| {
            drop(connections::remove_attribute("id", "x"));
        }),
        ("groups::join", &|| drop(groups::join("x", "id"))),
        ("groups::publish", &|| drop(groups::publish("x", "y"))),
        ("groups::members", &|| drop(groups::members("x", None, 1))),
        ("groups::count", &|| drop(groups::count("x"))),
        ("context::current", &|| drop(context::current())),
        ("context::time_left", &|| {
            context::time_left();
        }),
        ("context::variables", &|| drop(context::variables())),
    ];
    for (function, call) in calls {
        let said = message(call);
        assert!(
            said.contains(&format!("lockgate_plugin::{function} was called")),
            "{function}: {said}"
        );
        assert!(said.contains("testing::Gateway"), "{said}");
    }
}

#[test]
fn connecting_takes_effect_when_the_client_is_let_in() {
    let mut gateway = Gateway::<Word>::new();
    let ada = gateway.connect().unwrap();
    assert_eq!(gateway.received(&ada), ["welcome".into()]);
    assert_eq!(gateway.members("lobby"), [&*ada]);
    assert_eq!(gateway.attributes(&ada), [("name".into(), "guest".into())]);

    let request = Handshake {
        query: vec![("no".into(), String::new())],
        ..handshake()
    };
    assert_eq!(gateway.connect_with(request), Err(Refusal::new(403)));
    assert_eq!(gateway.members("lobby"), [&*ada]);
    assert_eq!(gateway.received(&ada), ["someone comes".into()]);
}

#[test]
fn handler_is_told_who_its_client_is() {
    let mut gateway = Gateway::<Word>::new();
    let anyone = gateway.connect().unwrap();
    gateway.identify("ada", [("seats", Value::Number(3.0))]);
    let ada = gateway.connect().unwrap();
    let told = gateway.message(&ada, "who");
    assert_eq!(told, Ok(Some("ada [(\"seats\", Number(3.0))]".into())));
    assert_eq!(gateway.message(&anyone, "who"), Ok(Some(" []".into())));
}

#[test]
fn handler_renews_what_let_its_client_in() {
    let mut gateway = Gateway::<Word>::new();
    let anyone = gateway.connect().unwrap();
    let far = format!("renew {FAR}");
    let denied = Err(Error::Denied.into());
    assert_eq!(gateway.message(&anyone, far.clone()), denied);
    gateway.identify("ada", [("seats", Value::Number(3.0))]);
    let ada = gateway.connect().unwrap();
    assert_eq!(gateway.expires_at(&ada), None);
    for (word, why) in [
        ("renew 1700000000", "in milliseconds"),
        ("renew 9007199254740992", "2^53"),
        ("rename ", "no name"),
        ("renew twice", "twice"),
    ] {
        let failure = gateway.message(&ada, word).unwrap_err();
        assert!(failure.as_str().contains(why), "{word}: {failure:?}");
    }
    let long = format!("rename {}", "x".repeat(8 << 10));
    assert_eq!(gateway.message(&ada, long), Err(Error::TooLarge.into()));
    assert_eq!(gateway.expires_at(&ada), None);
    assert_eq!(gateway.message(&ada, far.clone()), Ok(None));
    assert_eq!(gateway.expires_at(&ada), Some(FAR));
    let told = |values: &str| Ok(Some(format!("ada [{values}]").into()));
    let before = told("(\"seats\", Number(3.0))");
    assert_eq!(gateway.message(&ada, "who"), before);
    assert_eq!(gateway.message(&ada, "rename age"), Ok(None));
    assert_eq!(gateway.message(&ada, "who"), told("(\"age\", Number(1.0))"));
    assert_eq!(gateway.message(&ada, "close 4000"), Ok(None));
    assert_eq!(gateway.message(&ada, far), Err(Error::Gone.into()));
}

#[test]
fn group_of_a_principal_has_its_connections() {
    let mut gateway = Gateway::<Word>::new();
    gateway.identify("ada", [("seats", Value::Number(3.0))]);
    let (phone, laptop) = (gateway.connect().unwrap(), gateway.connect().unwrap());
    gateway.identify("bob", [("seats", Value::Number(1.0))]);
    let bob = gateway.connect().unwrap();
    for id in [&phone, &laptop, &bob] {
        gateway.received(id);
    }
    assert_eq!(gateway.message(&bob, "devices ada"), Ok(Some("2".into())));
    assert_eq!(gateway.received(&phone), ["hello".into()]);
    assert_eq!(gateway.received(&laptop), ["hello".into()]);
}

#[test]
fn sends_and_publishes_reach_their_clients_and_are_recorded() {
    let (mut gateway, ada, bob) = two();
    assert_eq!(gateway.message(&ada, format!("send {bob}")), Ok(None));
    assert_eq!(gateway.message(&ada, "publish hi"), Ok(Some("2".into())));
    assert_eq!(gateway.message(&ada, "others psst"), Ok(None));
    assert_eq!(gateway.received(&ada), ["hi".into()]);
    assert_eq!(
        gateway.received(&bob),
        ["hello".into(), "hi".into(), "psst".into()]
    );
    let publish = |message: &str, except| Call::Publish {
        group: "lobby".into(),
        message: message.into(),
        except,
    };
    assert_eq!(
        gateway.calls(),
        [
            Call::Send {
                to: bob.clone(),
                message: "hello".into()
            },
            publish("hi", None),
            publish("psst", Some(ada.clone())),
        ]
    );
    assert!(gateway.calls().is_empty() && gateway.received(&bob).is_empty());
    let route = gateway.message_on("join", &ada, "route");
    assert_eq!(route, Ok(Some("join".into())));
    assert_eq!(gateway.message(&ada, "room"), Ok(Some("attic".into())));
}

#[test]
fn call_on_a_failing_connection_returns_the_chosen_error() {
    let (mut gateway, ada, bob) = two();
    for error in [Error::Gone, Error::Busy, Error::TooLarge, Error::Denied] {
        gateway.fail(&bob, error.clone());
        let answer = gateway.message(&ada, format!("send {bob}"));
        assert_eq!(answer, Err(error.into()));
    }
    // A publish goes on to the others. A member without room is closed, since it would miss a message.
    gateway.fail(&bob, Error::Gone);
    assert_eq!(gateway.message(&ada, "publish 1"), Ok(Some("1".into())));
    assert_eq!(gateway.closing(&bob), None);
    gateway.fail(&bob, None);
    assert_eq!(gateway.message(&ada, "publish 2"), Ok(Some("2".into())));
    gateway.fail(&bob, Error::Busy);
    assert_eq!(gateway.message(&ada, "publish 3"), Ok(Some("1".into())));
    assert_eq!(gateway.closing(&bob).unwrap().code, 1013);
    assert_eq!(gateway.received(&bob), ["2".into()]);
}

#[test]
fn connection_ends_as_in_the_gateway() {
    let (mut gateway, ada, bob) = two();
    assert_eq!(gateway.message(&bob, "close 4001"), Ok(None));
    let answer = gateway.message(&ada, format!("send {bob}"));
    assert_eq!(answer, Err(Error::Gone.into()));
    gateway.disconnect(&bob);
    assert_eq!(gateway.received(&ada), ["guest left with 4001".into()]);
    assert_eq!(gateway.members("lobby"), [&*ada]);
    gateway.disconnect(&ada);
    assert!(gateway.members("lobby").is_empty());
    assert_eq!(gateway.attributes(&ada), [("name".into(), "guest".into())]);
    let late = catch_unwind(AssertUnwindSafe(|| gateway.message(&ada, "count")));
    let said = late.unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("has ended"), "{said}");
}

#[test]
fn calls_beyond_the_gateways_bounds_are_refused() {
    let (mut gateway, ada, _) = two();
    assert_eq!(gateway.message(&ada, "long"), Err(Error::TooLarge.into()));
    let reply = gateway.message(&ada, "long reply").unwrap_err();
    assert!(reply.as_str().contains("limits.message_kib"));
    assert_eq!(gateway.message(&ada, "flood"), Ok(None));
    assert_eq!(gateway.received(&ada).len(), 256);
    let closed = gateway.message(&ada, "close 1006").unwrap_err();
    assert!(closed.as_str().contains("1006"), "{}", closed.as_str());
}

#[test]
fn client_that_sends_too_much_is_closed() {
    let (mut gateway, ada, bob) = two();
    let long = "x".repeat((128 << 10) + 1);
    let refused = gateway.message(&ada, long).unwrap_err();
    assert!(refused.as_str().contains("1009"), "{}", refused.as_str());
    assert_eq!(gateway.received(&bob), ["guest left with 1009".into()]);
}

#[test]
fn answer_that_cannot_be_sent_refuses_with_502() {
    let mut gateway = Gateway::<Word>::new();
    let request = |offered: &[&str]| Handshake {
        query: vec![("choose".into(), "words".into())],
        subprotocols: offered.iter().map(|word| (*word).to_owned()).collect(),
        ..handshake()
    };
    assert!(gateway.connect_with(request(&["words"])).is_ok());
    let refused = gateway.connect_with(request(&["others"])).unwrap_err();
    assert_eq!(refused.status, 502);
    let cause = refused.cause.unwrap();
    assert!(cause.contains("the client does not offer"), "{cause}");
    assert_eq!(gateway.members("lobby").len(), 1);

    for (name, value, sent) in [
        ("Set-Cookie", "a=b", true),
        ("Upgrade", "h2c", false),
        ("Sec-WebSocket-Accept", "x", false),
        ("a b", "c", false),
        ("a", "b\r\nc: d", false),
        ("", "x", false),
    ] {
        let answer = answer::checked(Ok(Acceptance::new().header(name, value)), &[]);
        assert_eq!(answer.is_ok(), sent, "{name:?}: {value:?}");
    }
    for (status, given) in [(200, 502), (299, 502), (300, 300), (599, 599), (600, 502)] {
        let refused = answer::checked(Err(Refusal::new(status)), &[]).unwrap_err();
        assert_eq!(refused.status, given);
    }
}

/// A test that goes on after a panic finds the gateway usable.
#[test]
fn panicking_handler_leaves_the_gateway_usable() {
    let (mut gateway, ada, bob) = two();
    let ended = catch_unwind(AssertUnwindSafe(|| gateway.message(&ada, "trap")));
    assert!(ended.is_err());
    assert_eq!(gateway.message(&ada, "count"), Ok(Some("2".into())));
    assert_eq!(gateway.members("lobby"), [ada, bob]);
}

/// An authorizer that has one ticket, the stage's.
struct Door;

impl Authorizer for Door {
    fn authorize(id: ConnectionId, request: Handshake) -> Result<Identity, Refusal> {
        assert_eq!(
            (context::principal(), context::authorizer()),
            (None, vec![])
        );
        match request.query_parameter("ticket") {
            None => Err(Refusal::new(401)),
            Some(ticket) if Some(ticket) == context::variable("ticket").as_deref() => {
                Ok(Identity::new(id))
            }
            Some(ticket) => Err(Refusal::new(ticket.parse()?)),
        }
    }
}

#[test]
fn authorizer_decides_on_a_client_that_is_unknown() {
    let mut gateway = Gateway::<Door>::new().variable("ticket", "swordfish");
    gateway.identify("before", []);
    let mut ask = |ticket: &str| {
        let query = vec![("ticket".to_owned(), ticket.to_owned())];
        let asked = gateway.authorize(Handshake {
            query,
            ..handshake()
        });
        asked.map_err(|refusal| refusal.status)
    };
    assert!(ask("swordfish").unwrap().principal.is_some());
    assert_eq!(ask("403"), Err(403));
    for no_status in ["marlin", "200", "600"] {
        assert_eq!(ask(no_status), Err(500), "{no_status}");
    }
    let unknown = gateway.authorize(handshake()).unwrap_err();
    assert_eq!(unknown.status, 401);
}

#[test]
fn identity_has_the_bounds_of_the_gateway() {
    let long = "x".repeat(1_024);
    let room = "x".repeat((8 << 10) - 32 - 1);
    let none = Identity::anonymous;
    for (identity, taken) in [
        (none(), true),
        (Identity::new(&*long), true),
        (Identity::new(format!("{long}x")), false),
        (Identity::new(""), false),
        (Identity::new("a\nb"), false),
        (none().value("a", &*room), true),
        (none().value("a", format!("{room}x")), false),
        (none().value("", true), false),
        (none().value("a", true).value("a", true), false),
        (none().value("a", f64::NAN), false),
        (none().scope("s").scope("s"), true),
        (none().scope(""), false),
    ] {
        let shown = format!("{identity:.80?}");
        assert_eq!(answer::identity(Ok(identity)).is_ok(), taken, "{shown}");
    }
}

/// Sends each message back as a datagram, and answers whether it came as one.
struct Position;

impl Handler for Position {
    fn connect(event: Event, _: Handshake) -> Result<Acceptance, Refusal> {
        match connections::send_datagram(&event.connection_id, b"early") {
            Ok(()) | Err(Error::Denied) => Ok(Acceptance::new()),
            Err(error) => Err(Refusal::new(500).cause(error)),
        }
    }

    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        connections::send_datagram(&event.connection_id, message.as_bytes())?;
        Ok(Some(context::is_datagram().to_string().into()))
    }
}

#[test]
fn datagram_is_a_message_that_says_so_and_waits_nowhere() {
    let mut gateway = Gateway::<Position>::new();
    let ada = gateway.connect().unwrap();
    assert_eq!(gateway.message(&ada, "x"), Err(Error::Denied.into()));
    gateway.take_datagrams();
    // Her client does not take any.
    let refused = gateway.message(&ada, "x").unwrap_err();
    assert!(refused.as_str().contains("no datagrams"));
    let bob = gateway.connect().unwrap();
    assert_eq!(gateway.datagram(&bob, b"here"), Ok(Some("true".into())));
    assert_eq!(gateway.message(&bob, "there"), Ok(Some("false".into())));
    assert_eq!(gateway.received_datagrams(&bob), [&b"here"[..], b"there"]);
    assert_eq!(gateway.received(&bob), []);
    let long = "x".repeat(1_201);
    assert_eq!(gateway.message(&bob, long), Err(Error::TooLarge.into()));
    let payload = b"early".to_vec();
    assert_eq!(gateway.calls()[0], Call::SendDatagram { to: ada, payload });
    let unasked = catch_unwind(AssertUnwindSafe(|| {
        gateway.datagram("connection-0001", b"")
    }));
    assert!(unasked.is_err());
}

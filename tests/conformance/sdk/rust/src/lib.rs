//! Does what its client says: the plugin that README.md specifies, beside this folder.

#![allow(
    clippy::disallowed_methods,
    reason = "a plugin has one thread, and to hold it is what its client asks for"
)]

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher as _;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lockgate_plugin::{
    Acceptance, Closing, Error, Event, Handler, Handshake, Message, Refusal, Result, connections,
    context, groups,
};
use serde_json::{Map, Value, json};

struct Conformance;

lockgate_plugin::export!(Conformance);

impl Handler for Conformance {
    fn connect(event: Event, handshake: Handshake) -> Result<Acceptance, Refusal> {
        let id = &event.connection_id;
        if let Some(reason) = handshake.query_parameter("fail") {
            return Err(Refusal::from(std::io::Error::other(reason.to_owned())));
        }
        if let Some(status) = handshake.query_parameter("refuse") {
            let refusal = Refusal::new(status.parse()?);
            return Err(match handshake.query_parameter("message") {
                Some(message) => refusal.message(message),
                None => refusal,
            });
        }
        if let Some(group) = handshake.query_parameter("join") {
            groups::join(group, id)?;
        }
        if let Some(name) = handshake.query_parameter("name") {
            connections::set_attribute(id, "name", name)?;
        }
        if handshake.query_parameter("tell").is_some() {
            let seen = json!({
                "query": handshake.query,
                "headers": handshake.headers,
                "subprotocols": handshake.subprotocols,
                "sourceIp": handshake.source_ip,
                "domainName": handshake.domain_name,
                "path": handshake.path,
                "httpVersion": handshake.http_version,
                "secure": handshake.secure,
                "certificateSubject": handshake.certificate_subject,
                "route": event.route_key,
            });
            connections::send(id, seen.to_string())?;
        }
        let headers = handshake.query.iter().filter(|(name, _)| name == "header");
        Ok(Acceptance {
            subprotocol: handshake.query_parameter("subprotocol").map(str::to_owned),
            headers: headers
                .map(|(_, value)| ("x-conformance".to_owned(), value.clone()))
                .collect(),
        })
    }

    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        let Some(text) = message.as_text() else {
            return Ok(Some(message));
        };
        let step: Value = serde_json::from_str(text)?;
        match step["do"].as_str().unwrap_or_default() {
            "reply" => Ok(Some(text_of(&step, "text").into())),
            "silence" => Ok(None),
            "fail" => Err(text_of(&step, "reason").into()),
            _ => {
                let answer = match act(&event, &step) {
                    Ok(result) => json!({ "ok": result }),
                    Err(error) => json!({ "error": name(&error) }),
                };
                Ok(Some(answer.to_string().into()))
            }
        }
    }

    fn disconnect(event: Event, closing: Closing) {
        let name = connections::attribute(&event.connection_id, "name").unwrap();
        let closed = json!({
            "closed": event.connection_id,
            "code": closing.code,
            "reason": closing.reason,
            "route": event.route_key,
            "name": name,
        });
        groups::publish("observers", closed.to_string()).unwrap();
        assert_ne!(name.as_deref(), Some("crash"), "a mistake");
    }
}

fn act(event: &Event, step: &Value) -> Result<Value, Error> {
    let text = |field| text_of(step, field);
    let number = |field| u32::try_from(step[field].as_u64().unwrap_or_default()).unwrap();
    let id = step["id"].as_str().unwrap_or(&event.connection_id);
    match text("do") {
        "event" => Ok(json!({ "connection": event.connection_id, "route": event.route_key })),
        "send" => done(connections::send(id, text("text"))),
        "send bytes" => done(connections::send(id, bytes_of(step))),
        "send datagram" => done(connections::send_datagram(id, &bytes_of(step))),
        "is datagram" => Ok(context::is_datagram().into()),
        "send many" => {
            let sent = (1..=number("times"))
                .take_while(|number| connections::send(id, number.to_string()).is_ok());
            Ok(sent.count().into())
        }
        "close" => done(connections::close(
            id,
            number("code") as u16,
            text("reason"),
        )),
        "info" => {
            let info = connections::info(id)?;
            Ok(json!({
                "connectedAt": info.connected_at,
                "lastActiveAt": info.last_active_at,
                "sourceIp": info.source_ip,
                "userAgent": info.user_agent,
                "domainName": info.domain_name,
                "subprotocol": info.subprotocol,
            }))
        }
        "attribute" => Ok(connections::attribute(id, text("name"))?.into()),
        "attributes" => Ok(object(connections::attributes(id)?)),
        "set" => done(connections::set_attribute(id, text("name"), text("value"))),
        "remove" => done(connections::remove_attribute(id, text("name"))),
        "join" => done(groups::join(text("group"), id)),
        "leave" => done(groups::leave(text("group"), id)),
        "publish" => {
            let reached = match step["exclude"].as_str() {
                Some(exclude) => groups::publish_except(text("group"), text("text"), exclude),
                None => groups::publish(text("group"), text("text")),
            };
            Ok(reached?.into())
        }
        "members" => {
            let after = step["after"].as_str();
            Ok(groups::members(text("group"), after, number("limit"))?.into())
        }
        "count" => Ok(groups::count(text("group"))?.into()),
        "context" => {
            let current = context::current();
            Ok(json!({
                "requestId": current.request_id,
                "messageId": current.message_id,
                "api": current.api,
                "stage": current.stage,
                "requestedAt": current.requested_at,
                "principal": context::principal(),
                "authorizer": authorizer(),
            }))
        }
        "variables" => Ok(object(context::variables())),
        "environment" => Ok(env::var(text("name")).ok().into()),
        "clock" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Ok((now.as_millis() as u64).into())
        }
        "random" => random(id),
        "print" => {
            println!("{}", text("text"));
            Ok(Value::Null)
        }
        "wait" => {
            sleep(Duration::from_millis(number("ms").into()));
            Ok(Value::Null)
        }
        "spin" => loop {
            std::hint::spin_loop();
        },
        "crash" => panic!("a mistake"),
        other => panic!("{other:?} is no step"),
    }
}

/// Whether random numbers differ from those that the connection has had.
fn random(id: &str) -> Result<Value, Error> {
    // The standard library's only random numbers.
    let numbers = [0, 1].map(|number| format!("{:016x}", RandomState::new().hash_one(number)));
    let before = connections::attribute(id, "random")?;
    connections::set_attribute(id, "random", &numbers.concat())?;
    Ok((before != Some(numbers.concat())).into())
}

fn authorizer() -> Value {
    let values = context::authorizer().into_iter();
    let values = values.map(|(name, value)| match value {
        context::Value::Text(text) => (name, text.into()),
        context::Value::Number(number) => (name, number.into()),
        context::Value::Flag(flag) => (name, flag.into()),
    });
    Value::Object(values.collect())
}

fn object(fields: Vec<(String, String)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name, value.into()));
    Value::Object(Map::from_iter(fields))
}

fn bytes_of(step: &Value) -> Vec<u8> {
    let bytes = step["bytes"].as_array().unwrap().iter();
    bytes.map(|byte| byte.as_u64().unwrap() as u8).collect()
}

fn text_of<'a>(step: &'a Value, field: &str) -> &'a str {
    step[field].as_str().unwrap_or_default()
}

fn done(result: Result<(), Error>) -> Result<Value, Error> {
    result.map(|()| Value::Null)
}

/// The contract's name of an error.
fn name(error: &Error) -> &'static str {
    match error {
        Error::Gone => "gone",
        Error::Busy => "busy",
        Error::TooLarge => "too-large",
        Error::Denied => "denied",
        Error::Unreachable => "unreachable",
        Error::Invalid(_) => "invalid",
    }
}
